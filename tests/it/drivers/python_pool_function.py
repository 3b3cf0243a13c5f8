"""Selects the current user four times, more than an expiry apart, in a psycopg pool whose `kwargs` is a function
(psycopg_pool 3.3), and in an asynchronous SQLAlchemy engine."""

import asyncio
import time

import lakebase_token
import psycopg_pool
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine


def pool():
    pool = psycopg_pool.ConnectionPool(
        kwargs=lambda: {"password": lakebase_token.password()},
        min_size=1,
        max_size=1,
        max_lifetime=0.1,
        open=False,
        reconnect_timeout=0,
    )
    try:
        pool.open(wait=True, timeout=3)
    except psycopg_pool.PoolTimeout:
        lakebase_token.password()
        raise
    for n in range(2):
        if n > 0:
            time.sleep(2.1)
        with pool.connection() as connection:
            print(connection.execute("select current_user").fetchone()[0])
    pool.close()


async def engine():
    engine = create_async_engine("postgresql+psycopg://", pool_size=1, pool_recycle=1)
    lakebase_token.hook(engine.sync_engine)
    for n in range(2):
        if n > 0:
            await asyncio.sleep(2.1)
        async with engine.connect() as connection:
            print((await connection.execute(text("select current_user"))).scalar())
    await engine.dispose()


pool()
time.sleep(2.1)
asyncio.run(engine())
