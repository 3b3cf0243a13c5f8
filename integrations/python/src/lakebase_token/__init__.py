"""Fresh Databricks Lakebase passwords for psycopg, SQLAlchemy and asyncpg: one for each new connection.

All of this runs the program `lakebase-token`, which the wheel brings along and which caches.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

__all__ = ["Error", "connection_class", "credential", "hook", "password", "password_async"]


class Error(RuntimeError):
    """There is no credential; the message is what lakebase-token said, `code` its exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _run(*arguments: str) -> str:
    # The one that this environment has, else whatever is on PATH.
    own = Path(sysconfig.get_path("scripts")) / "lakebase-token"
    program = str(own) if own.exists() else "lakebase-token"
    asked = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if asked.returncode != 0:
        raise Error(asked.returncode, asked.stderr.strip())
    sys.stderr.write(asked.stderr)
    return asked.stdout


def password(*arguments: str) -> str:
    """A password that is good for ten minutes at least. `arguments` are flags of lakebase-token."""
    return _run("get", *arguments).strip()


def credential(*arguments: str) -> dict[str, str]:
    """The password as `token`, with `expires_at`, `user`, `host`, `port` and `database`."""
    return json.loads(_run("get", "--format", "json", *arguments))


async def password_async() -> str:
    """The same without holding the event loop up: asyncpg.create_pool(password=password_async)."""
    return await asyncio.to_thread(password)


def hook(engine: Any) -> None:
    """Has a SQLAlchemy engine ask for each connection that it opens."""
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def ask(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        keywords["password"] = password()


def connection_class() -> Any:
    """For psycopg_pool.ConnectionPool(connection_class=connection_class())."""
    import psycopg

    class Connection(psycopg.Connection):  # type: ignore[type-arg]
        @classmethod
        def connect(cls, conninfo: str = "", **keywords: Any) -> Any:
            return super().connect(conninfo, **{**keywords, "password": password()})

    return Connection
