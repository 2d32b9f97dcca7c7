"""Django's PostgreSQL engine, which sees without a query that a kept connection has died."""

from __future__ import annotations

from django.db.backends.postgresql import base

from accounts.sockets import has_something_to_read


class DatabaseWrapper(base.DatabaseWrapper):
    """With CONN_HEALTH_CHECKS, Django asks `SELECT 1` before the first statement of each request.

    That is a third of what a request costs here. A server that ends a connection says so, and then there is something
    to read although nothing was asked; only then is it asked. One that has vanished without a word would not have
    answered the question either.
    """

    def is_usable(self) -> bool:
        """Whether the connection works, as far as the server has said; after an error it is asked in any case."""
        if self.connection is None:
            return False
        if (
            not self.errors_occurred
            and not self.connection.closed
            and not has_something_to_read(self.connection.fileno())
        ):
            return True
        return bool(super().is_usable())
