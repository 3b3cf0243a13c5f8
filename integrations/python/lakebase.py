"""Fresh Lakebase passwords for psycopg, SQLAlchemy and asyncpg: one for each new connection."""

import asyncio
import subprocess


def password() -> str:
    """A password that is good for ten minutes at least; cached, so ask as often as you connect."""
    asked = subprocess.run(["lakebase-token"], capture_output=True, text=True)
    if asked.returncode != 0:
        raise RuntimeError(asked.stderr.strip())
    return asked.stdout.strip()


async def password_async() -> str:
    """The same without holding the event loop up: asyncpg.create_pool(password=password_async)."""
    return await asyncio.to_thread(password)


def hook(engine) -> None:
    """Has a SQLAlchemy engine ask for each connection that it opens."""
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def ask(dialect, record, args, kwargs):
        kwargs["password"] = password()


def connection_class():
    """For psycopg_pool.ConnectionPool(connection_class=connection_class())."""
    import psycopg

    class Connection(psycopg.Connection):
        @classmethod
        def connect(cls, conninfo="", **kwargs):
            return super().connect(conninfo, **{**kwargs, "password": password()})

    return Connection
