"""Trusted documents: with a manifest nobody has the server run a text of their own, and the page works all the same."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from graphql import parse, validate

from accounts.conf import parse_documents
from backend.schema import schema
from harness.documents import MANIFEST, manifest
from tests.conftest import API
from tests.test_environment import PRODUCTION, load, problems

POLICY = "query Mine { passwordPolicy { codeLength } }"
DOCUMENTS = {"policy": POLICY}
JSON = "application/json"


@pytest.fixture
def trusting(settings: Any, db: None) -> None:
    settings.TRUSTED_DOCUMENTS = DOCUMENTS


def told(api: API, body: dict[str, Any]) -> tuple[int, str]:
    answer = api.post(body)
    return answer.status_code, answer.json().get("errors", [{"message": ""}])[0]["message"]


def test_a_document_is_run_by_its_id_or_by_its_own_text(api: API, trusting: None) -> None:
    for body in ({"documentId": "policy"}, {"query": POLICY}, {"documentId": "policy", "operationName": "Mine"}):
        assert api.post(body).json() == {"data": {"passwordPolicy": {"codeLength": 6}}}
    assert api.http.get("/graphql/", {"documentId": "policy"}).json()["data"]


@pytest.mark.parametrize("stored", ["f00", "sha256:f00"])
def test_a_link_for_persisted_queries_is_answered_by_the_hash(api: API, settings: Any, db: None, stored: str) -> None:
    settings.TRUSTED_DOCUMENTS = {stored: POLICY}
    body = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "f00"}}}
    assert api.post(body).json() == {"data": {"passwordPolicy": {"codeLength": 6}}}
    unknown = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "bar"}}}
    assert api.post(unknown).json()["errors"][0]["message"] == "PersistedQueryNotSupported"


@pytest.mark.parametrize("query", [POLICY + " ", "{ __typename }", "mutation { x }", "nonsense"])
def test_any_other_text_is_refused(api: API, trusting: None, query: str) -> None:
    assert told(api, {"query": query}) == (
        400,
        "Only trusted documents are run here: send the documentId of one.",
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"documentId": "nothing"}, "There is no document of this documentId here."),
        ({"documentId": "policy", "query": POLICY}, "Send a query or a documentId, not both."),
        ({"documentId": 7}, "The parameter documentId must be a string."),
        ({}, "The parameter query must be a string that holds a GraphQL document."),
    ],
)
def test_an_odd_id_is_told_so(api: API, trusting: None, body: dict[str, Any], message: str) -> None:
    assert told(api, body) == (400, message)


def test_another_view_of_the_schema_runs_no_other_text_either(trusting: None) -> None:
    refused = schema.execute_sync("{ __typename }")
    assert refused.errors
    assert "Only trusted documents" in refused.errors[0].message
    allowed = schema.execute_sync(POLICY)
    assert "trusted" not in str(allowed.errors)


def test_without_a_manifest_no_id_is_known(api: API, db: None) -> None:
    assert told(api, {"documentId": "policy"})[0] == 400
    assert api.post({"query": POLICY}).status_code == 200


def test_the_operations_of_the_page_are_always_trusted(api: API, trusting: None) -> None:
    own = json.loads(MANIFEST.read_text())
    for document_id, text in own.items():
        for body in ({"documentId": document_id}, {"query": text}):
            assert "trusted" not in api.post(body).text


# --- The manifests ---------------------------------------------------------------------------------------------------


def test_the_manifest_of_the_page_is_up_to_date() -> None:
    assert MANIFEST.read_text() == manifest(), "make schema"


def test_every_operation_of_the_page_is_valid_and_has_its_hash() -> None:
    own = json.loads(MANIFEST.read_text())
    assert len(own) == Path("accounts/static/account_recovery/operations.js").read_text().count("export const") == 10
    for document_id, text in own.items():
        assert document_id == sha256(text.encode()).hexdigest()
        assert validate(schema._schema, parse(text)) == []


@pytest.mark.parametrize(
    "given",
    [
        DOCUMENTS,
        {"format": "apollo-persisted-query-manifest", "version": 1, "operations": [{"id": "policy", "body": POLICY}]},
    ],
)
def test_manifests_of_the_usual_kinds_are_read(given: Any, tmp_path: Path) -> None:
    assert parse_documents(given) == DOCUMENTS
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(given))
    assert load(**PRODUCTION, TRUSTED_DOCUMENTS=str(path))["TRUSTED_DOCUMENTS"] == DOCUMENTS


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"a": 1}', '{"operations": [1]}', '{"operations": [{}]}'])
def test_what_is_no_manifest_is_told_at_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    assert "  TRUSTED_DOCUMENTS: " in problems(**PRODUCTION, TRUSTED_DOCUMENTS=str(path))
