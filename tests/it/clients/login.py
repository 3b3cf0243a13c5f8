# Logs in by asyncpg, over and over, until $STOP is there; says how often.
import asyncio
import os

import asyncpg


async def main():
    n = 0
    while not os.path.exists(os.environ["STOP"]):
        connection = await asyncpg.connect()
        assert await connection.fetchval("select 1") == 1
        await connection.close()
        n += 1
    print(n)


asyncio.run(main())
