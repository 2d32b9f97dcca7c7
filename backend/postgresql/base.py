"""Django's PostgreSQL engine, which leaves a server that has died, is silent, or takes no writes, by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from django.db import InternalError
from django.db.backends.postgresql import base

from accounts.sockets import has_something_to_read

READ_ONLY = "25006"
"""PostgreSQL's read_only_sql_transaction: a standby, or `default_transaction_read_only` is on."""

ANSWER_SECONDS = 10.0
"""How long a process that serves waits for the answer to a statement. The longest of its own take some milliseconds."""
_answer_seconds: float | None = None


def bound_waits(seconds: float = ANSWER_SECONDS) -> None:
    """Have this process give a silent server up; for one that serves, not for a command that makes an index.

    A server that is frozen, or cut off, ends no connection. Without a bound all threads would wait for it for good.
    """
    global _answer_seconds
    _answer_seconds = seconds


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

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        if _answer_seconds is not None:
            connection.wait = partial(_wait, connection)
        return connection

    def is_usable(self) -> bool:
        """Whether the connection works, as far as the server has said; after an error it is asked in any case."""
        if self.connection is None:
            return False
        if self.errors_occurred or self.connection.closed or has_something_to_read(self.connection.fileno()):
            return bool(super().is_usable())
        return True


def _wait(connection: psycopg.Connection[Any], statement: Any, *args: Any, **options: Any) -> Any:
    """What psycopg waits for an answer by, with a bound. The answer may still come, so the connection is done with."""
    try:
        return psycopg.Connection.wait(connection, statement, *args, **{"timeout": _answer_seconds, **options})
    except psycopg.errors._WaitTimeout:
        connection.pgconn.finish()
        raise


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
