"""Selects the current user four times, more than an expiry apart, with a SQLAlchemy engine."""

import time

import lakebase_token as lakebase
import sqlalchemy
from sqlalchemy.pool import NullPool

engine = sqlalchemy.create_engine("postgresql+psycopg://", poolclass=NullPool)
lakebase.hook(engine)
for n in range(4):
    if n > 0:
        time.sleep(2.1)
    with engine.connect() as connection:
        print(connection.execute(sqlalchemy.text("select current_user")).scalar())
