"""Selects the current user four times, more than an expiry apart, with Airflow's PostgresHook, whose connection has no
password: psycopg2 reads the password file."""

import os
import time

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import Connection

for n in range(4):
    if n > 0:
        time.sleep(2.1)
    connection = Connection(
        conn_id="lakebase",
        conn_type="postgres",
        host=os.environ["PGHOST"],
        port=int(os.environ["PGPORT"]),
        login=os.environ["PGUSER"],
        schema=os.environ["PGDATABASE"],
        extra='{"sslmode": "require"}',
    )
    # Not `get_first`, which logs on stdout.
    session = PostgresHook(connection=connection).get_conn()
    cursor = session.cursor()
    cursor.execute("select current_user")
    print(cursor.fetchone()[0])
    session.close()
