"""The public schema: exported as it is, nothing promised missing, nothing broken unnoticed, everything described."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    find_breaking_changes,
    is_introspection_type,
    is_specified_scalar_type,
)
from strawberry.printer import print_schema

from backend.schema import schema

ROOT = Path(__file__).resolve().parent.parent
EXPORT = ROOT / "schema.graphql"
PROMISE = Path(__file__).with_name("contract.graphql")


def exported() -> str:
    return print_schema(schema)


def broken(before: str, after: str) -> list[str]:
    """What a client of the former schema would miss in the latter, in graphql-core's words."""
    changes = find_breaking_changes(_built(before), _built(after))
    return [f"{change.type.name}: {change.description}" for change in changes]


def _built(text: str) -> GraphQLSchema:
    # The promise uses the scalar without spelling it out.
    return build_schema(text if "scalar DateTime" in text else f"{text}\nscalar DateTime")


def undescribed(built: GraphQLSchema) -> list[str]:
    """Every type, field, argument and enum value that says nothing about itself, as a path."""
    return [path for path, description in _descriptions(built) if not (description or "").strip()]


def _descriptions(built: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    for name, kind in built.type_map.items():
        if is_introspection_type(kind) or is_specified_scalar_type(kind):
            continue
        yield name, kind.description
        if isinstance(kind, GraphQLEnumType):
            yield from ((f"{name}.{value}", each.description) for value, each in kind.values.items())
        elif isinstance(kind, GraphQLInputObjectType):
            yield from ((f"{name}.{part}", each.description) for part, each in kind.fields.items())
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for part, field in kind.fields.items():
                yield f"{name}.{part}", field.description
                yield from ((f"{name}.{part}({arg})", each.description) for arg, each in field.args.items())


def committed() -> str:
    """The schema as it was last committed; empty where there is no such commit, or no history at all."""
    try:
        command = ["git", "show", "HEAD:schema.graphql"]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return shown.stdout if shown.returncode == 0 else ""


def test_the_export_at_the_top_of_the_project_is_the_code_s() -> None:
    found = EXPORT.read_text(encoding="utf-8") if EXPORT.exists() else ""
    assert found.strip() == exported().strip(), "schema.graphql is not what the code says: run `make schema`."


def test_nothing_that_was_promised_is_missing() -> None:
    assert broken(before=PROMISE.read_text(encoding="utf-8"), after=exported()) == []


def test_no_client_of_the_last_committed_schema_is_broken() -> None:
    before = committed() or exported()
    changes = broken(before, exported())
    assert changes == [], "BREAKING CHANGE against the committed schema.graphql: " + "; ".join(changes)


BEFORE = """
type Query { status(id: ID!): Answer! }
union Answer = Done | Failed
type Done { at: DateTime! state: State! }
type Failed { message: String! }
enum State { OPEN SHUT }
input Guess { code: String! hint: String }
"""


@pytest.mark.parametrize(
    ("kept", "put", "named"),
    [
        ("message: String!", "text: String!", "FIELD_REMOVED: Field Failed.message"),
        ("message: String!", "message: String", "FIELD_CHANGED_KIND: Field Failed.message"),
        ("Done | Failed", "Done", "TYPE_REMOVED_FROM_UNION: Failed"),
        ("OPEN SHUT", "OPEN", "VALUE_REMOVED_FROM_ENUM: Enum value State.SHUT"),
        ("(id: ID!)", "", "ARG_REMOVED: Argument Query.status(id:)"),
        ("(id: ID!)", "(id: ID!, code: Int!)", "REQUIRED_ARG_ADDED: A required argument Query.status(code:)"),
        ("hint: String", "hint: String!", "FIELD_CHANGED_KIND: Field Guess.hint"),
        ("hint: String", "hint: String more: Int!", "REQUIRED_INPUT_FIELD_ADDED"),
    ],
)
def test_what_would_break_a_client_is_named_as_such(kept: str, put: str, named: str) -> None:
    assert named in " ".join(broken(BEFORE, BEFORE.replace(kept, put)))


def test_what_is_only_added_breaks_nobody() -> None:
    after = BEFORE.replace("OPEN SHUT", "OPEN SHUT AJAR").replace("(id: ID!)", "(id: ID!, locale: String)")
    assert broken(BEFORE, f"{after} type More {{ of: Int }}") == []


def test_everything_in_the_schema_is_described() -> None:
    assert undescribed(build_schema(exported())) == []


def test_what_is_not_described_is_found() -> None:
    silent = "type Query { a(b: Int): C d: I } enum C { E } interface I { f: Int } input G { h: Int }"
    assert undescribed(build_schema(silent)) == [
        "Query",
        "Query.a",
        "Query.a(b)",
        "Query.d",
        "C",
        "C.E",
        "I",
        "I.f",
        "G",
        "G.h",
    ]
