"""Leaves a database server that takes no writes: after a failover a kept connection may be to the wrong one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import InternalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

READ_ONLY = "25006"
"""PostgreSQL's read_only_sql_transaction: a standby, or `default_transaction_read_only` is on."""


def connect() -> None:
    """Connect the receiver; safe to call twice, as Django may do with `AppConfig.ready`."""
    connection_created.connect(watch, dispatch_uid="account_recovery.watch_for_failover")


def watch(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Watch the statements of a connection that has just been made, or made anew."""
    if close_where_read_only not in connection.execute_wrappers:
        # Not the last one: who wraps for a while takes the last one away again.
        connection.execute_wrappers.insert(0, close_where_read_only)


def close_where_read_only(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Close a connection whose server refuses to write; whoever needs it next gets a new one, perhaps to another.

    Otherwise it would be kept for a minute, however soon a server takes writes again.
    """
    try:
        return execute(sql, params, many, context)
    except InternalError as error:
        if getattr(error.__cause__, "sqlstate", None) == READ_ONLY:
            context["connection"].close()
        raise
