"""Selects the current user four times, more than an expiry apart, in one psycopg pool that replaces its connections."""

import time

import lakebase_token as lakebase
import psycopg_pool

pool = psycopg_pool.ConnectionPool(
    connection_class=lakebase.connection_class(),
    min_size=1,
    max_size=1,
    max_lifetime=0.1,
    open=False,
    reconnect_timeout=0,
)
try:
    pool.open(wait=True, timeout=3)
except psycopg_pool.PoolTimeout:
    lakebase.password()  # raises the error of lakebase-token, which the pool hides
    raise
for n in range(4):
    if n > 0:
        time.sleep(2.1)
    with pool.connection() as connection:
        print(connection.execute("select current_user").fetchone()[0])
pool.close()
