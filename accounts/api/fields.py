"""Which fields of a schema check secrets or take handles: read off the schema, so that a new one is among them."""

from __future__ import annotations

from functools import cache

from graphql import GraphQLField, GraphQLInputObjectType, get_named_type


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
