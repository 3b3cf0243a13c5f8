"""A database backend for Django that gets a fresh password for each new connection.

In the settings: `"ENGINE": "lakebase_token.django"`, and no `PASSWORD`. With a pool (`OPTIONS["pool"]`), set its
`connection_class` instead, and keep Django's own engine.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

import lakebase_token


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]
    """PostgreSQL with a password from lakebase-token."""

    def get_connection_params(self) -> dict[str, Any]:
        return {**super().get_connection_params(), "password": lakebase_token.password()}
