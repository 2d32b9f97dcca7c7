"""Django's PostgreSQL engine, which leaves a server that has died, or that takes no writes, without being told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import InternalError
from django.db.backends.postgresql import base

from accounts.sockets import has_something_to_read

READ_ONLY = "25006"
"""PostgreSQL's read_only_sql_transaction: a standby, or `default_transaction_read_only` is on."""


class DatabaseWrapper(base.DatabaseWrapper):
    """With CONN_HEALTH_CHECKS, Django asks `SELECT 1` before the first statement of each request.

    That is a third of what a request costs here. A server that ends a connection says so, and then there is something
    to read although nothing was asked; only then is it asked. One that has vanished without a word would not have
    answered the question either.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The first one: who wraps for a while takes the last one away again.
        self.execute_wrappers.insert(0, close_where_read_only)

    def is_usable(self) -> bool:
        """Whether the connection works, as far as the server has said; after an error it is asked in any case."""
        if self.connection is None:
            return False
        if self.errors_occurred or self.connection.closed or has_something_to_read(self.connection.fileno()):
            return bool(super().is_usable())
        return True


def close_where_read_only(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Close a connection whose server refuses to write; whoever needs it next gets a new one, perhaps to another.

    After a failover a kept connection may be to the wrong server. Otherwise it would be kept for a minute, however soon
    a server takes writes again.
    """
    try:
        return execute(sql, params, many, context)
    except InternalError as error:
        if getattr(error.__cause__, "sqlstate", None) == READ_ONLY:
            context["connection"].close()
        raise
