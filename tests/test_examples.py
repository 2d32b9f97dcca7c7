"""GraphiQL's tabs hold operations that the schema knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from graphql import OperationDefinitionNode, parse, validate

from accounts.api.documents import prepare
from accounts.api.fields import handle_taking_fields, secret_checking_fields
from backend.schema import schema

SOURCE = (Path(__file__).parent.parent / "web" / "src" / "examples.js").read_text()
EXAMPLES = re.findall(r"^  example\(\s*`(.*?)`", SOURCE, re.MULTILINE | re.DOTALL)


def name_of(query: str) -> str:
    (operation,) = parse(query).definitions
    assert isinstance(operation, OperationDefinitionNode)
    assert operation.name is not None
    return operation.name.value


def test_every_example_is_found_in_the_source() -> None:
    assert len(EXAMPLES) == len(re.findall(r"^  example\(", SOURCE, re.MULTILINE)) >= 8


@pytest.mark.parametrize("query", EXAMPLES, ids=name_of)
def test_an_example_is_valid(query: str) -> None:
    assert validate(schema._schema, parse(query)) == []


@pytest.mark.parametrize("query", EXAMPLES, ids=name_of)
def test_an_example_has_one_field_that_takes_a_handle_and_one_that_checks_a_secret_at_the_most(query: str) -> None:
    prepared = prepare(schema, query)
    assert prepared.count(handle_taking_fields(schema)) <= 1
    assert prepared.count(secret_checking_fields(schema)) <= 1


def test_each_tab_has_a_title_of_its_own() -> None:
    titles = [name_of(query) for query in EXAMPLES]
    assert len(set(titles)) == len(titles)


def test_comments_fit_a_small_laptop() -> None:
    comments = [line for query in EXAMPLES for line in query.splitlines() if line.startswith("#")]
    assert max(map(len, comments)) <= 52
