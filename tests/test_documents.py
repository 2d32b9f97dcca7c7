"""What a document may amount to, measured before anything executes, and that it is measured only once."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from graphql import get_introspection_query, parse

from accounts.api import documents
from accounts.api.documents import (
    MAX_ALIAS,
    MAX_ALIASES,
    MAX_DEPTH,
    MAX_DIRECTIVES,
    MAX_ERRORS,
    MAX_FIELDS,
    MAX_MESSAGE,
    MAX_OPERATIONS,
    MAX_REPEATS,
    MAX_TOKENS,
    REMEMBERED,
)
from backend.schema import schema
from tests.conftest import API

QUESTION = "{ passwordPolicy { codeLength } }"


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    documents._prepare.cache_clear()
    yield
    documents._prepare.cache_clear()


def complaints(query: str) -> str:
    return " ".join(error.message for error in documents.prepare(schema, query).errors)


class Counted:
    """A function that counts how often it is called, and fails where that is too often to wait for."""

    def __init__(self, function: Any, most: int) -> None:
        self.function = function
        self.most = most
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        assert self.calls <= self.most
        return self.function(*args, **kwargs)


def counted(monkeypatch: pytest.MonkeyPatch, name: str, most: int = 10_000) -> Counted:
    counter = Counted(getattr(documents, name), most)
    monkeypatch.setattr(documents, name, counter)
    return counter


# --- Bounds ----------------------------------------------------------------------------------------------------------


def levels(count: int) -> str:
    inner = " ".join(["ofType {"] * (count - 3))
    return "{ __schema { types { " + inner + " name " + "}" * count


KIND_FIELDS = ("name", "kind", "description", "specifiedByURL", "isOneOf", "__typename")


def flat(count: int) -> str:
    return "{ " + "__typename " * count + "}"


def fields(count: int) -> str:
    """So many fields, of which none stands too often in one place."""
    below = [KIND_FIELDS[number // 4 % len(KIND_FIELDS)] for number in range(count - MAX_REPEATS - 5)]
    places = ("queryType", "mutationType", "subscriptionType", "types")
    kinds = " ".join(f"{place} {{ {' '.join(below[number::4])} }}" for number, place in enumerate(places))
    return f"{{ {'__typename ' * MAX_REPEATS} __schema {{ {kinds} }} }}"


def fields_in_fragments(count: int) -> str:
    return f"{{ ...F ...F {'__typename' * (count % 2)} }} fragment F on Query {fields(count // 2)}"


def aliases(count: int) -> str:
    return "{ " + " ".join(f"a{number}: __typename" for number in range(count)) + " }"


def aliases_in_fragments(count: int) -> str:
    rest = "query B { b: __typename }" if count % 2 else ""
    return f"query A {{ ...F ...G }} fragment F on Query {{ ...G }} fragment G on Query {aliases(count // 2)} {rest}"


def aliases_in_operations(count: int) -> str:
    return " ".join(f"query Q{number} {{ a: __typename }}" for number in range(count))


def operations(count: int) -> str:
    return " ".join(f"query Q{number} {{ __typename }}" for number in range(count))


def directives(count: int) -> str:
    return "{ " + "__typename @skip(if: true) " * count + "}"


def directives_on_fragments(count: int) -> str:
    inline = "... @skip(if: true) { __typename } " * (count - 1)
    return f"{{ {inline} ...F @skip(if: true) }} fragment F on Query {{ __typename }}"


def long_alias(length: int) -> str:
    """In a fragment that stands in several places, each of which would repeat it."""
    places = " ".join(f"a{number}: passwordPolicy {{ ...F }}" for number in range(7))
    return f"{{ {places} }} fragment F on PasswordPolicy {{ {'x' * length}: codeLength }}"


BOUNDS = [
    (operations, MAX_OPERATIONS, "operations"),
    (levels, MAX_DEPTH, "levels deep"),
    (fields, MAX_FIELDS, "fields"),
    (fields_in_fragments, MAX_FIELDS, "fields"),
    (aliases, MAX_ALIASES, "aliases"),
    (aliases_in_fragments, MAX_ALIASES, "aliases"),
    (aliases_in_operations, MAX_ALIASES, "aliases"),
    (directives, MAX_DIRECTIVES, "directives"),
    (directives_on_fragments, MAX_DIRECTIVES, "directives"),
    (long_alias, MAX_ALIAS, "characters in an alias"),
]


@pytest.mark.parametrize(("document", "most", "what"), BOUNDS)
def test_a_document_at_its_bound_is_good(document: Any, most: int, what: str) -> None:
    assert complaints(document(most)) == ""


@pytest.mark.parametrize(("document", "most", "what"), BOUNDS)
def test_a_document_one_over_its_bound_is_told_which(document: Any, most: int, what: str) -> None:
    assert complaints(document(most + 1)) == f"The document has {most + 1} {what}; {most} are allowed."


def test_a_document_with_too_many_tokens_is_not_even_parsed_to_its_end() -> None:
    assert "tokens" not in complaints(flat(MAX_TOKENS - 2))
    assert complaints(flat(MAX_TOKENS - 1)).startswith(f"Syntax Error: Document contains more than {MAX_TOKENS} tokens")


def test_a_document_over_its_bounds_is_never_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    validate = counted(monkeypatch, "validate")
    complaints(flat(MAX_FIELDS + 1))
    assert validate.calls == 0


def test_a_document_over_its_bounds_is_refused_over_http(api: API) -> None:
    response = api.post({"query": aliases(MAX_ALIASES + 1)})
    assert response.status_code == 400
    assert "aliases" in response.json()["errors"][0]["message"]


def test_the_introspection_that_tools_send_passes_with_all_its_options(api: API) -> None:
    query = get_introspection_query(
        descriptions=True,
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
        one_of=True,
    )
    assert api.execute(query)["__schema"]["queryType"]["name"] == "Query"


# --- What validation may cost ----------------------------------------------------------------------------------------

POLICY = "passwordPolicy { codeLength }"


def repeated(count: int) -> str:
    return "{ " + f"{POLICY} " * count + "}"


def repeated_below(count: int) -> str:
    """Ten to a parent, for as many parents as it takes; the last one has the rest."""
    tens, rest = divmod(count, 10)
    parents = "passwordPolicy { " + "codeLength " * 10 + "} "
    return f"{{ {parents * tens} passwordPolicy {{ {'codeLength ' * rest} __typename }} }}"


def repeated_in_fragments(count: int) -> str:
    spreads = " ".join(f"...F{number}" for number in range(count))
    return f"{{ {spreads} }} " + " ".join(f"fragment F{number} on Query {{ {POLICY} }}" for number in range(count))


def repeated_inline(count: int) -> str:
    return "{ " + f"... {{ {POLICY} }} " * count + "}"


def repeated_in_the_second_operation(count: int) -> str:
    return f"query A {{ __typename }} query B {repeated(count)}"


REPEATED = [
    repeated,
    repeated_below,
    repeated_in_fragments,
    repeated_inline,
    repeated_in_the_second_operation,
]


@pytest.mark.parametrize("document", REPEATED)
def test_a_field_may_be_repeated_in_one_place_up_to_the_bound(document: Any) -> None:
    assert complaints(document(MAX_REPEATS)) == ""


@pytest.mark.parametrize("document", REPEATED)
def test_a_field_repeated_more_often_is_refused_before_every_two_are_compared(
    document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = counted(monkeypatch, "validate")
    found = complaints(document(MAX_REPEATS + 1))
    assert re.fullmatch(
        rf"The document has {MAX_REPEATS + 1} times \w+ in one place; {MAX_REPEATS} are allowed.", found
    )
    assert validate.calls == 1


def test_the_same_field_in_different_places_is_not_repeated() -> None:
    assert complaints(fields(MAX_FIELDS)) == ""


def test_fields_that_cannot_be_merged_are_still_refused() -> None:
    differing = '{ passwordResetStatus(requestId: "a") { status } passwordResetStatus(requestId: "b") { status } }'
    assert "conflict" in complaints(differing)


def test_a_fragment_that_is_spread_without_end_is_counted_in_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    count = counted(monkeypatch, "_count_places", most=62)
    chain = " ".join(f"fragment F{number} on Query {{ ...F{number + 1} }}" for number in range(60))
    assert complaints(f"{{ {'...F0 ' * 200} }} {chain} fragment F60 on Query {{ __typename }}") == ""
    assert count.calls == 62


def test_a_document_that_is_wrong_in_many_places_is_told_a_few_of_them(api: API) -> None:
    response = api.post({"query": "{ " + " ".join(f"nothing{number}" for number in range(400)) + " }"})
    assert len(response.json()["errors"]) == MAX_ERRORS + 1
    assert "Too many validation errors" in response.json()["errors"][-1]["message"]


def test_an_error_repeats_little_of_a_long_document(api: API) -> None:
    literal = f'{{ email: "{"x" * 40_000}", ' + ", ".join(f"key{number}: 1" for number in range(300)) + " }"
    response = api.post({"query": f"mutation {{ requestPasswordReset(input: {literal}) {{ __typename }} }}"})
    assert response.status_code == 400
    assert max(len(error["message"]) for error in response.json()["errors"]) == MAX_MESSAGE + 1
    assert len(response.content) < 8_000


ASK = "mutation Ask($input: RequestPasswordResetInput!) { requestPasswordReset(input: $input) { __typename } }"
WRONG_VARIABLES = {
    "many names that are none": {"email": "x", **{f"secret{number}": 1 for number in range(3_500)}},
    "a few long ones": {"email": "x", **{f"{number}{'secret' * 240}": 1 for number in range(40)}},
    "a long value": {"email": ["secret" * 10_000]},
    "a long list": {"email": ["secret"] * 6_000},
    "values of all kinds": {"email": {"secret" * 9_000: "secret"}, "locale": 1, **{f"s{n}": n for n in range(99)}},
}


@pytest.mark.parametrize("given", WRONG_VARIABLES.values(), ids=WRONG_VARIABLES.keys())
def test_the_errors_of_wrong_variables_are_few_and_short_and_in_no_log(
    api: API, caplog: pytest.LogCaptureFixture, given: dict[str, Any]
) -> None:
    caplog.set_level(logging.DEBUG)
    response = api.post({"query": ASK, "variables": {"input": given}})
    assert response.status_code == 400
    assert 1 <= len(response.json()["errors"]) <= MAX_ERRORS + 1
    assert max(len(error["message"]) for error in response.json()["errors"]) <= MAX_MESSAGE + 1
    assert len(response.content) < 3_000
    assert "secret" not in caplog.text


@pytest.mark.parametrize("given", WRONG_VARIABLES.values(), ids=WRONG_VARIABLES.keys())
def test_they_are_where_the_schema_is_executed_without_the_view(given: dict[str, Any]) -> None:
    result = schema.execute_sync(ASK, variable_values={"input": given})
    assert result.data is None
    assert 1 <= len(result.errors or ()) <= MAX_ERRORS + 1
    assert max(len(error.message) for error in result.errors or ()) <= MAX_MESSAGE + 1


def test_more_errors_of_variables_than_are_told_are_said_to_be_there(api: API) -> None:
    response = api.post({"query": ASK, "variables": {"input": {f"k{number}": 1 for number in range(MAX_ERRORS + 1)}}})
    assert len(response.json()["errors"]) == MAX_ERRORS + 1
    assert "Too many errors" in response.json()["errors"][-1]["message"]


def test_an_error_still_says_where_it_stands(api: API) -> None:
    response = api.post({"query": "{\n  nothing\n}"})
    assert response.json()["errors"][0]["locations"] == [{"line": 2, "column": 3}]


# --- Fragments -------------------------------------------------------------------------------------------------------


def bomb(fragments: int) -> str:
    """Each fragment holds the next one twice: spelled out, two to the power of their number."""
    chain = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(fragments))
    return f"{{ ...F0 }} {chain} fragment F{fragments} on Query {{ __typename }}"


def test_a_bomb_of_fragments_is_refused_for_what_it_would_amount_to(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, "_measure")
    assert complaints(bomb(90)) == f"The document has {2**90} fields; {MAX_FIELDS} are allowed."


def test_a_bomb_of_fragments_is_measured_in_one_step_for_each_fragment(monkeypatch: pytest.MonkeyPatch) -> None:
    # The operation, the chain, the last fragment, and the empty selection of its only field.
    measure = counted(monkeypatch, "_measure", most=1 + 90 + 1 + 1)
    complaints(bomb(90))
    assert measure.calls == measure.most


@pytest.mark.parametrize(
    "query",
    [
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { passwordPolicy { codeLength } ...B } fragment B on Query { ...A }",
        "{ ...A } fragment A on Query { ...B ...B } fragment B on Query { ...C ...C } "
        "fragment C on Query { ...A ...B }",
        "{ __schema { types { ...A } } } fragment A on __Type { name ofType { ...A } }",
    ],
)
def test_fragments_that_hold_themselves_are_refused(query: str) -> None:
    assert "Cannot spread fragment" in complaints(query)


def test_a_fragment_that_does_not_exist_is_refused() -> None:
    assert "Unknown fragment" in complaints("{ ...A }")


def test_names_are_counted_at_the_top_alone_and_through_fragments() -> None:
    prepared = documents.prepare(
        schema,
        "{ ...A ...A passwordPolicy { codeLength } } fragment A on Query { ... { p: passwordPolicy { codeLength } } }",
    )
    assert prepared.count(frozenset({"passwordPolicy"})) == 3
    assert prepared.count(frozenset({"codeLength"})) == 0


# --- Memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "calls"), [("parse", 1), ("validate", 2)])
def test_a_document_that_comes_again_is_not_worked_through_again(
    api: API, monkeypatch: pytest.MonkeyPatch, function: str, calls: int
) -> None:
    counter = counted(monkeypatch, function)
    for _ in range(3):
        api.execute(QUESTION)
    assert counter.calls == calls


def test_a_document_is_executed_as_it_was_prepared_and_not_parsed_by_strawberry(
    api: API, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = parse("{ passwordPolicy { cooldownSeconds } }")
    monkeypatch.setattr(documents, "parse", Mock(return_value=other))
    assert api.execute(QUESTION) == {"passwordPolicy": {"cooldownSeconds": 60}}


def test_strawberry_does_not_validate_a_second_time(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strawberry.schema.schema.validate_document", Mock(side_effect=AssertionError))
    api.execute(QUESTION)


def test_a_document_that_was_refused_is_remembered_as_refused(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = counted(monkeypatch, "validate")
    answers = [api.post({"query": "{ nothing }"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()
    assert validate.calls == 1


def test_what_was_introspection_yesterday_is_refused_once_it_is_off(api: API, settings: Any) -> None:
    query = "{ __schema { queryType { name } } }"
    settings.GRAPHQL_INTROSPECTION = True
    api.execute(query)
    settings.GRAPHQL_INTROSPECTION = False
    assert api.post({"query": query}).status_code == 400


def test_a_remembered_document_keeps_nothing_of_the_values_it_ran_with(api: API) -> None:
    asked = "status @skip(if: $skip) matchPhrase"
    query = f"query S($id: ID!, $skip: Boolean!) {{ passwordResetStatus(requestId: $id) {{ {asked} }} }}"
    handle = api.request()["requestId"]
    assert api.execute(query, id="x", skip=True) == {"passwordResetStatus": None}
    assert set(api.execute(query, id=handle, skip=True)["passwordResetStatus"]) == {"matchPhrase"}
    assert set(api.execute(query, id=handle, skip=False)["passwordResetStatus"]) == {"status", "matchPhrase"}


def test_no_client_can_make_the_memory_grow(api: API) -> None:
    for number in range(REMEMBERED + 20):
        complaints(f"{{ a{number} }}")
    assert documents._prepare.cache_info().currsize == REMEMBERED
