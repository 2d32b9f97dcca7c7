"""What every operation goes through, in this app's schema or in a project's own."""

from __future__ import annotations

from typing import Any

import strawberry
from graphql import FieldNode, GraphQLError
from strawberry.extensions import MaskErrors, SchemaExtension
from strawberry.types import ExecutionContext

from ..conf import conf
from .documents import MAX_ERRORS, PreparedDocuments
from .failures import UNEXPECTED, unexpected


class Schema(strawberry.Schema):
    """Logs what nobody expected under the id that the client is given, and not the exception itself."""

    def _get_custom_context_kwargs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # Where introspection is off, "did you mean" would tell the schema piece by piece.
        bounds = {"hide_suggestions": not conf.GRAPHQL_INTROSPECTION, "max_coercion_errors": MAX_ERRORS}
        return {**super()._get_custom_context_kwargs(*args, **kwargs), **bounds}

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        for error in errors:
            if _is_unexpected(error):
                field = error.nodes[0] if error.nodes else None
                name = field.name.value if isinstance(field, FieldNode) else None
                error.extensions = unexpected(error.original_error or error, name).extensions


def _is_unexpected(error: GraphQLError) -> bool:
    return not isinstance(error.original_error, GraphQLError | None)


class MaskUnexpectedErrors(MaskErrors):
    """Strawberry's masking, which here keeps the id."""

    def __init__(self) -> None:
        super().__init__(should_mask_error=_is_unexpected, error_message=UNEXPECTED)

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        masked = super().anonymise_error(error)
        masked.extensions = error.extensions
        return masked


EXTENSIONS: list[type[SchemaExtension]] = [PreparedDocuments, MaskUnexpectedErrors]
"""What a schema with this app's fields must be made with. Those fields mask their errors themselves; the last one is
for the others."""
