"""What every operation goes through, and which fields may not be repeated."""

from __future__ import annotations

import logging
import secrets
from functools import cache
from typing import Any

import strawberry
from graphql import FieldNode, GraphQLError, GraphQLField, GraphQLInputObjectType, get_named_type
from strawberry.extensions import MaskErrors, SchemaExtension
from strawberry.types import ExecutionContext

from ..conf import conf
from ..exceptions import RateLimited
from ..tracebacks import describe
from .documents import MAX_ERRORS, PreparedDocuments

logger = logging.getLogger(__name__)

RATE_LIMITED = "RATE_LIMITED"
"""The `code` in the extensions of a refusal that only the `errors` list can tell."""


class Schema(strawberry.Schema):
    """Masks what nobody expected and logs it under the id that the client is given.

    A limit that a field's type has no member for is expected: `passwordResetStatus` is null or a reset, and no union.
    """

    def _get_custom_context_kwargs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # Where introspection is off, "did you mean" would tell the schema piece by piece.
        bounds = {"hide_suggestions": not conf.GRAPHQL_INTROSPECTION, "max_coercion_errors": MAX_ERRORS}
        return {**super()._get_custom_context_kwargs(*args, **kwargs), **bounds}

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        for error in errors:
            if isinstance(error.original_error, RateLimited):
                error.extensions = {"code": RATE_LIMITED, "retryAfter": error.original_error.retry_after}
            elif _is_unexpected(error):
                _log_under_an_id(error)


def _is_unexpected(error: GraphQLError) -> bool:
    return not isinstance(error.original_error, GraphQLError | RateLimited | None)


def _log_under_an_id(error: GraphQLError) -> None:
    error_id = secrets.token_hex(8)
    error.extensions = {"errorId": error_id}
    # Not its path: a client may call things there as it likes.
    field = error.nodes[0] if error.nodes else None
    name = field.name.value if isinstance(field, FieldNode) else None
    exception = describe(error.original_error or error)
    logger.error({"event": "unexpected error", "error_id": error_id, "field": name, "exception": exception})


class MaskUnexpectedErrors(MaskErrors):
    """Strawberry's masking, which here keeps the id."""

    def __init__(self) -> None:
        super().__init__(should_mask_error=_is_unexpected, error_message="Unexpected error.")

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        masked = super().anonymise_error(error)
        masked.extensions = error.extensions
        return masked


EXTENSIONS: list[type[SchemaExtension]] = [PreparedDocuments, MaskUnexpectedErrors]


def root_fields(schema: object) -> dict[str, GraphQLField]:
    """Every query, mutation and subscription, by its name."""
    core = schema._schema  # type: ignore[attr-defined]
    roots = (core.query_type, core.mutation_type, core.subscription_type)
    return {name: field for root in roots if root for name, field in root.fields.items()}


@cache
def fields_taking(schema: object, *names: str) -> frozenset[str]:
    """The root fields that take an argument of one of these names, by itself or in an input."""
    return frozenset(name for name, field in root_fields(schema).items() if not arguments(field).isdisjoint(names))


def arguments(field: GraphQLField) -> set[str]:
    """The names of what a field takes: its arguments, and the fields of those that are inputs."""
    inputs = [get_named_type(argument.type) for argument in field.args.values()]
    inner = [name for each in inputs if isinstance(each, GraphQLInputObjectType) for name in each.fields]
    return {*field.args, *inner}


SECRETS = frozenset({"code", "newPassword", "resetToken", "reportToken"})
HANDLES = frozenset({"requestId"})
"""Names of arguments. `tests/test_handles.py` asks of every other one whether it belongs here."""


def secret_checking_fields(schema: object) -> frozenset[str]:
    """Fields that say whether a secret was right; the HTTP view lets at most one of them into a document."""
    return fields_taking(schema, *SECRETS)


def handle_taking_fields(schema: object) -> frozenset[str]:
    """Fields that say what became of a reset: likewise, and none by GET.

    Its handle would stand in every access log, and many at a time would average a stranger's measurements for him.
    """
    return fields_taking(schema, *HANDLES)
