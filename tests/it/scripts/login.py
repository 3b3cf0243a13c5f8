# Logs in with asyncpg again and again until the file $STOP exists; prints the number of logins.
import asyncio
import os

import asyncpg


async def main():
    logins = 0
    while not os.path.exists(os.environ["STOP"]):
        connection = await asyncpg.connect()
        assert await connection.fetchval("select 1") == 1
        await connection.close()
        logins += 1
    print(logins)


asyncio.run(main())
