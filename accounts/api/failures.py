"""What nobody expected, and what only the `errors` list can tell: how a client hears of it, and nothing else of it."""

from __future__ import annotations

import logging
import secrets

from django.db import InterfaceError, InternalError, OperationalError, ProgrammingError
from graphql import GraphQLError

from ..exceptions import RateLimited, UnknownRequest
from ..tracebacks import describe

logger = logging.getLogger(__name__)

UNEXPECTED = "Unexpected error."
AWAY = "The service is not available just now. Please try again in a moment."
UNAVAILABLE = "UNAVAILABLE"
"""The `code` in the extensions where the database is away: the request was in order, and may be sent again."""
RATE_LIMITED = "RATE_LIMITED"
"""The `code` in the extensions of a refusal whose field has no member for it."""
UNKNOWN = "UNKNOWN_REQUEST"
"""The `code` in the extensions of a handle that was never issued."""
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError, ProgrammingError)
"""What Django raises where the server cannot be reached, is full, silent or read-only, or lacks a table."""


def unexpected(error: BaseException, field: str | None) -> GraphQLError:
    """Log an exception under an id, and return what the client is told: that id.

    The field goes by its name in the schema: a client may call things in its document as it likes.
    """
    error_id = secrets.token_hex(8)
    logger.error({"event": "unexpected error", "error_id": error_id, "field": field, "exception": describe(error)})
    if isinstance(error, DATABASE_AWAY):
        return GraphQLError(AWAY, extensions={"code": UNAVAILABLE, "errorId": error_id})
    return GraphQLError(UNEXPECTED, extensions={"errorId": error_id})


def unknown_request(refused: UnknownRequest) -> GraphQLError:
    """A handle that was never issued, for a field whose type can tell of none."""
    return GraphQLError(str(refused.message), extensions={"code": UNKNOWN})


def limited(refused: RateLimited) -> GraphQLError:
    """A limit, for a field whose type can tell of none: `passwordResetStatus` is null or a reset, and no union."""
    return GraphQLError(str(refused.message), extensions={"code": RATE_LIMITED, "retryAfter": refused.retry_after})
