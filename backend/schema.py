"""The root schema: the apps' queries and mutations under one roof, and what every operation goes through."""

from __future__ import annotations

import secrets
from typing import Any

import strawberry
import structlog
from django.conf import settings
from graphql import FieldNode, GraphQLError
from strawberry.extensions import MaskErrors
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from accounts import schema as accounts
from accounts.types import EXCEPTION_HANDLERS
from backend.documents import MAX_ERRORS, PreparedDocuments
from backend.logs import describe

log = structlog.stdlib.get_logger(__name__)


class Schema(strawberry.Schema):
    """Masks what nobody expected and logs it under the id that the client is given."""

    def _get_custom_context_kwargs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # Where introspection is off, "did you mean" would tell the schema piece by piece.
        bounds = {"hide_suggestions": not settings.GRAPHQL_INTROSPECTION, "max_coercion_errors": MAX_ERRORS}
        return {**super()._get_custom_context_kwargs(*args, **kwargs), **bounds}

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        for error in errors:
            cause = error.original_error
            if cause is None or isinstance(cause, GraphQLError):
                continue
            error_id = secrets.token_hex(8)
            error.extensions = {"errorId": error_id}
            # Not its path: a client may call things there as it likes.
            field = error.nodes[0] if error.nodes else None
            name = field.name.value if isinstance(field, FieldNode) else None
            log.error("unexpected error", error_id=error_id, field=name, exception=describe(cause))


def _is_unexpected(error: GraphQLError) -> bool:
    return error.original_error is not None and not isinstance(error.original_error, GraphQLError)


class MaskUnexpectedErrors(MaskErrors):
    """Strawberry's masking, which here keeps the id."""

    def __init__(self) -> None:
        super().__init__(should_mask_error=_is_unexpected, error_message="Unexpected error.")

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        masked = super().anonymise_error(error)
        masked.extensions = error.extensions
        return masked


schema = Schema(
    query=accounts.Query,
    mutation=accounts.Mutation,
    exception_handlers=EXCEPTION_HANDLERS,
    extensions=[PreparedDocuments, MaskUnexpectedErrors],
    config=StrawberryConfig(auto_camel_case=True),
)
