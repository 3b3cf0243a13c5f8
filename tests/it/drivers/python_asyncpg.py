"""Selects the current user in four asyncpg pools, more than an expiry apart."""

import asyncio

import asyncpg
import lakebase_token as lakebase


async def main():
    for n in range(4):
        if n > 0:
            await asyncio.sleep(2.1)
        pool = await asyncpg.create_pool(
            password=lakebase.password_async, min_size=1, max_size=1
        )
        print(await pool.fetchval("select current_user"))
        await pool.close()


asyncio.run(main())
