"""A fresh Databricks Lakebase password for each new connection of psycopg, SQLAlchemy or asyncpg.

Each function runs the program `lakebase-token`, which the wheel contains. The program caches credentials.
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
    """lakebase-token failed. The message is its error message, and `code` is its exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _run(*arguments: str) -> str:
    # The program of this Python environment takes precedence over PATH.
    name = "lakebase-token.exe" if sys.platform == "win32" else "lakebase-token"
    installed = Path(sysconfig.get_path("scripts")) / name
    program = str(installed) if installed.exists() else "lakebase-token"
    result = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)

    if result.returncode != 0:
        raise Error(result.returncode, result.stderr.strip())
    sys.stderr.write(result.stderr)
    return result.stdout


def password(*arguments: str) -> str:
    """Returns a password that is valid for at least ten minutes (one while the workspace is unreachable).

    `arguments` are flags of lakebase-token.
    """
    return _run("get", *arguments).strip()


def credential(*arguments: str) -> dict[str, str]:
    """Returns the password as `token`, with `expires_at`, `user`, `host`, `port` and `database`."""
    return json.loads(_run("get", "--format", "json", *arguments))


async def password_async() -> str:
    """Returns a password without blocking the event loop: asyncpg.create_pool(password=password_async)."""
    return await asyncio.to_thread(password)


def hook(engine: Any) -> None:
    """Makes a SQLAlchemy engine set a fresh password for each connection that it opens."""
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def set_password(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        keywords["password"] = password()


def connection_class() -> Any:
    """Returns a class for psycopg_pool.ConnectionPool(connection_class=connection_class())."""
    import psycopg

    class Connection(psycopg.Connection):  # type: ignore[type-arg]
        @classmethod
        def connect(cls, conninfo: str = "", **keywords: Any) -> Any:
            return super().connect(conninfo, **{**keywords, "password": password()})

    return Connection
