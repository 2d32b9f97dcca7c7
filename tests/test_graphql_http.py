"""The endpoint to the letter of GraphQL over HTTP: what never ran is a 4xx without data, and nothing is ever a 500."""

from __future__ import annotations

import json
import logging
import re
import smtplib
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError, ProgrammingError
from django.test import Client, RequestFactory
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from accounts.conf import MAX_BODY
from accounts.mailing import smtp
from accounts.models import ForgetPassword, GuessBudget
from accounts.recovery import reporting, verbs
from backend.graphiql import graphql_view
from tests.conftest import API, NEW_PASSWORD, OPERATIONS, PASSWORD, Letter, PostOffice, record_of

GRAPHQL_JSON = "application/graphql-response+json"
JSON = "application/json"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

QUESTION = "{ passwordPolicy { codeLength } }"
ANSWER = {"data": {"passwordPolicy": {"codeLength": 6}}}
REQUEST = (
    "mutation R($input: RequestPasswordResetInput!) { requestPasswordReset(input: $input) { __typename "
    "... on RequestPasswordResetSuccess { reset { requestId } } ... on Error { message } } }"
)


def refused(response: Any, status: int) -> str:
    """Hold a refusal against what every refusal must be, and return what it says."""
    body = response.json()
    assert response.status_code == status, body
    assert response["Content-Type"] in {f"{JSON}; charset=utf-8", f"{GRAPHQL_JSON}; charset=utf-8"}
    assert response["Cache-Control"] == "no-store"
    assert list(body) == ["errors"], body
    assert all(error["message"] for error in body["errors"])
    return " ".join(error["message"] for error in body["errors"])


# --- Media types -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (JSON, JSON),
        (GRAPHQL_JSON, GRAPHQL_JSON),
        (f"{GRAPHQL_JSON}, {JSON};q=0.9", GRAPHQL_JSON),
        (f"{JSON};q=0.5, {GRAPHQL_JSON}", GRAPHQL_JSON),
        (f"{GRAPHQL_JSON};q=0, {JSON}", JSON),
        ("application/*", JSON),
        ("*/*", JSON),
        ("text/html, */*;q=0.1", JSON),
    ],
)
def test_the_answer_comes_in_the_media_type_that_is_preferred(api: API, accept: str, media_type: str) -> None:
    response = api.post({"query": QUESTION}, accept=accept)
    assert response.status_code == 200
    assert response["Content-Type"] == f"{media_type}; charset=utf-8"
    assert response.json() == ANSWER


def test_the_accept_header_that_the_specification_recommends_is_understood(api: API) -> None:
    response = api.post({"query": QUESTION}, accept=f"{GRAPHQL_JSON}; charset=utf-8, {JSON}; charset=utf-8")
    assert response.status_code == 200
    assert response["Content-Type"] == f"{GRAPHQL_JSON}; charset=utf-8"


def test_without_accept_the_answer_is_plain_json(api: API) -> None:
    response = api.http.generic("POST", api.path, json.dumps({"query": QUESTION}), content_type=JSON)
    assert response["Content-Type"] == f"{JSON}; charset=utf-8"


def test_a_refusal_comes_in_the_preferred_media_type_too(api: API) -> None:
    response = api.post({"query": "{"}, accept=GRAPHQL_JSON)
    refused(response, 400)
    assert response["Content-Type"] == f"{GRAPHQL_JSON}; charset=utf-8"


REFUSED_BY_GRAPHQL: dict[str, dict[str, Any]] = {
    "no document": {"query": "{"},
    "no field of the schema": {"query": "{ nothing }"},
    "too deep": {"query": "{ a" * 20 + "}" * 20},
    "variables that do not fit": {"query": REQUEST, "variables": {"input": {}}},
    "an operation that is not named": {"query": "query A { __typename } query B { __typename }"},
}


@pytest.mark.parametrize("body", REFUSED_BY_GRAPHQL.values(), ids=REFUSED_BY_GRAPHQL.keys())
def test_what_graphql_refuses_is_a_400_in_its_own_media_type(api: API, body: dict[str, Any]) -> None:
    refused(api.post(body, accept=GRAPHQL_JSON), 400)


@pytest.mark.parametrize("accept", [JSON, "*/*", f"{JSON}, {GRAPHQL_JSON};q=0.5"])
@pytest.mark.parametrize("body", REFUSED_BY_GRAPHQL.values(), ids=REFUSED_BY_GRAPHQL.keys())
def test_what_graphql_refuses_is_a_200_in_plain_json_as_the_specification_asks(
    api: API, body: dict[str, Any], accept: str
) -> None:
    refused(api.post(body, accept=accept), 200)


@pytest.mark.parametrize("body", [{}, {"query": 1}, {"query": QUESTION, "variables": []}, [], b"{"])
def test_what_is_no_request_of_graphql_is_a_400_in_plain_json_too(api: API, body: Any) -> None:
    refused(api.post(body, accept=JSON), 400)


def test_no_200_without_data_changes_anything(api: API) -> None:
    query = REQUEST + " query Q { __typename }"
    refused(api.post({"query": query, "variables": {"input": {"email": "ada@example.com"}}}, accept=JSON), 200)
    assert not ForgetPassword.objects.exists()


def test_a_very_long_accept_header_is_not_even_read(api: API) -> None:
    """Twenty kilobytes of it would take longer than a request."""
    accept = ", ".join([JSON, *(f"a/b;q=0.{number}" for number in range(2000))])
    refused(api.post({"query": QUESTION}, accept=accept), 406)
    assert api.http.get(api.path, headers={"accept": accept.replace(JSON, "text/html")}).status_code == 406


@pytest.mark.parametrize("accept", ["text/html", "image/*", f"{JSON};q=0"])
def test_a_client_that_accepts_nothing_we_have_gets_406_and_nothing_runs(api: API, accept: str) -> None:
    variables = {"input": {"email": "ada@example.com"}}
    assert GRAPHQL_JSON in refused(api.post({"query": REQUEST, "variables": variables}, accept=accept), 406)
    assert not ForgetPassword.objects.exists()


def test_caches_are_told_that_the_answer_varies_by_accept_and_to_keep_none(api: API) -> None:
    response = api.post({"query": QUESTION})
    assert "Accept" in response["Vary"].split(", ")
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/jsonx",
        "text/plain; application/json",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ],
)
def test_only_json_is_taken(api: API, content_type: str) -> None:
    body = json.dumps({"query": QUESTION})
    assert JSON in refused(api.http.generic("POST", api.path, body, content_type=content_type), 415)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8"])
def test_json_may_say_that_it_is_utf_8(api: API, charset: str) -> None:
    body = json.dumps({"query": QUESTION})
    response = api.http.generic("POST", api.path, body, content_type=f"Application/JSON; charset={charset}")
    assert response.json() == ANSWER


@pytest.mark.parametrize("charset", ["latin-1", "utf-16", "nonsense"])
def test_json_in_another_charset_is_refused(api: API, charset: str) -> None:
    body = json.dumps({"query": QUESTION})
    assert "UTF-8" in refused(api.http.generic("POST", api.path, body, content_type=f"{JSON}; charset={charset}"), 415)


# --- Bodies and parameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"1",
        b"null",
        b'"x"',
        b"true",
        b"NaN",
        b"\xff\xfe",
        b'{"query": "{ __typename }", "variables": {"a": NaN}}',
        b'{"query": "{ __typename }", "variables": {"a": -Infinity}}',
        b'{"query": "{ __typename }", "variables": {"a": ' + b"1" * 5000 + b"}}",
        b'\xef\xbb\xbf{"query": "{ __typename }"}',
        b'{"query": "{ __typename }"} {}',
    ],
)
def test_a_body_that_is_no_json_object_is_refused(api: API, body: bytes) -> None:
    assert "JSON" in refused(api.post(body), 400)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_batch_is_refused_whatever_its_size(api: API, size: int) -> None:
    assert "Batches" in refused(api.post([{"query": QUESTION}] * size), 400)


@pytest.mark.parametrize("depth", [2_000, 30_000])
def test_json_nested_beyond_reason_is_refused(api: API, depth: int) -> None:
    body = '{"query": "{ __typename }", "variables": {"a": ' + "[" * depth + "]" * depth + "}}"
    assert "JSON" in refused(api.post(body), 400)


def test_values_nested_as_deep_as_json_still_takes_are_refused_as_values(api: API) -> None:
    for depth in range(100, 1000, 60):
        variables = '{"input": {"email": ' + "[" * depth + "]" * depth + "}}"
        body = f'{{"query": {json.dumps(REQUEST)}, "variables": {variables}}}'
        refused(api.post(body), 400)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("query", None),
        ("query", 1),
        ("query", ["{ __typename }"]),
        ("query", ""),
        ("query", " \n"),
        ("operationName", 1),
        ("operationName", {}),
        ("variables", []),
        ("variables", "{}"),
        ("variables", False),
        ("extensions", []),
        ("extensions", "{}"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_named(api: API, name: str, value: Any) -> None:
    assert name in refused(api.post({"query": QUESTION, name: value}), 400)


def test_a_body_without_query_is_refused(api: API) -> None:
    assert "query" in refused(api.post({}), 400)


def test_null_parameters_count_as_left_out(api: API) -> None:
    body = {"query": QUESTION, "operationName": None, "variables": None, "extensions": None}
    assert api.post(body).json() == ANSWER


def test_a_body_of_the_greatest_length_is_taken_and_one_byte_more_is_not(api: API) -> None:
    body = json.dumps({"query": QUESTION}).encode()
    assert api.post(body.ljust(MAX_BODY)).json() == ANSWER
    assert str(MAX_BODY) in refused(api.post(body.ljust(MAX_BODY + 1)), 413)


def test_a_length_that_is_announced_too_great_is_refused_unread(api: API) -> None:
    body = json.dumps({"query": QUESTION})
    refused(api.http.generic("POST", api.path, body, content_type=JSON, CONTENT_LENGTH=str(10**12)), 413)


def test_a_body_of_no_announced_length_is_measured_while_it_is_read() -> None:
    request = RequestFactory().generic("POST", "/graphql/", b" " * (MAX_BODY + 1), content_type=JSON)
    del request.META["CONTENT_LENGTH"]
    response: Any = graphql_view(request)
    assert response.status_code == 413
    assert "errors" in json.loads(response.content)


def test_a_length_that_is_no_number_is_no_server_error(api: API) -> None:
    body = json.dumps({"query": QUESTION})
    refused(api.http.generic("POST", api.path, body, content_type=JSON, CONTENT_LENGTH="abc"), 400)
    refused(api.http.generic("POST", api.path, body, content_type=JSON, CONTENT_LENGTH="9" * 5000), 413)
    refused(api.http.generic("POST", api.path, body, content_type=JSON, CONTENT_LENGTH="-1"), 400)


@pytest.mark.parametrize(
    "query",
    [
        "{",
        "{ nothing }",
        "{ passwordPolicy }",
        "{ passwordPolicy { codeLength } } trailing",
        "query Q($a: Int) { passwordPolicy { codeLength } }",
        "type A { b: Int }",
        "fragment F on Query { passwordPolicy { codeLength } }",
        "subscription { passwordPolicy }",
        "\0",
        'mutation { requestPasswordReset(input: { email: "\\uD800" }) { __typename } }',
        "{a" * 400 + "}" * 400,
        "{ passwordResetStatus(requestId: " + "[" * 400 + "]" * 400 + ") { status } }",
    ],
)
def test_a_document_that_cannot_run_is_a_400(api: API, query: str) -> None:
    refused(api.post({"query": query}), 400)


@pytest.mark.parametrize("variables", [{}, {"input": None}, {"input": 5}, {"input": {}}, {"input": {"email": 5}}])
def test_variables_that_do_not_fit_are_a_400(api: API, variables: dict[str, Any]) -> None:
    assert "$input" in refused(api.post({"query": REQUEST, "variables": variables}), 400)


# --- Operations ------------------------------------------------------------------------------------------------------

TWO = "query A { passwordPolicy { codeLength } } query B { passwordPolicy { cooldownSeconds } }"


@pytest.mark.parametrize("name", [None, "", "C", "a"])
def test_of_several_operations_one_must_be_named(api: API, name: str | None) -> None:
    assert "operationName" in refused(api.post({"query": TWO, "operationName": name}), 400)


def test_the_operation_that_is_named_runs_and_no_other(api: API) -> None:
    response = api.post({"query": TWO, "operationName": "B"})
    assert response.json() == {"data": {"passwordPolicy": {"cooldownSeconds": 60}}}


def test_a_name_that_the_only_operation_does_not_have_is_refused(api: API) -> None:
    refused(api.post({"query": QUESTION, "operationName": "Other"}), 400)


def test_a_query_may_come_by_get(api: API) -> None:
    query = "query Q($skip: Boolean!) { passwordPolicy { codeLength cooldownSeconds @skip(if: $skip) } }"
    values = {"query": query, "operationName": "Q", "variables": '{"skip": true}', "extensions": "{}"}
    assert api.http.get(api.path, values).json() == ANSWER


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("query", ""),
        ("variables", "1"),
        ("variables", "{"),
        ("variables", "\ufffd"),
        ("variables", '{"a": "\\ud800"}'),
        ("extensions", "[]"),
    ],
)
def test_a_bad_parameter_by_get_is_a_400(api: API, name: str, value: str) -> None:
    refused(api.http.get(api.path, {"query": QUESTION, name: value}), 400)


@pytest.mark.parametrize("query", ["%ff", "%ed%a0%80", "%00"])
def test_bytes_that_are_no_text_in_a_url_are_a_400(api: API, query: str) -> None:
    refused(api.http.get(f"{api.path}?query={query}", headers={"accept": GRAPHQL_JSON}), 400)


def test_a_mutation_by_get_is_refused_and_names_post(api: API) -> None:
    values = {"query": REQUEST, "variables": json.dumps({"input": {"email": "ada@example.com"}})}
    response = api.http.get(api.path, values)
    refused(response, 405)
    assert response["Allow"] == "POST"
    assert not ForgetPassword.objects.exists()


@pytest.mark.parametrize(
    "query",
    [
        '{ passwordResetStatus(requestId: "x") { status } }',
        '{ harmless: passwordResetStatus(requestId: "x") { status } }',
        '{ ...F } fragment F on Query { passwordResetStatus(requestId: "x") { status } }',
        '{ ... on Query { passwordResetStatus(requestId: "x") { status } } }',
    ],
)
def test_a_handle_by_get_is_refused_for_urls_are_logged(api: API, query: str) -> None:
    response = api.http.get(api.path, {"query": query})
    assert "logged" in refused(response, 405)
    assert response["Allow"] == "POST"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused_and_those_served_are_named(api: API, method: str) -> None:
    response = api.http.generic(method, api.path)
    refused(response, 405)
    assert response["Allow"] == "GET, POST"


def test_the_endpoint_answers_without_the_slash_too(api: API) -> None:
    assert API(api.http, "/graphql").post({"query": QUESTION}).json() == ANSWER


def test_json_by_post_needs_no_csrf_token(db: None) -> None:
    strict = API(Client(enforce_csrf_checks=True))
    assert strict.post({"query": QUESTION}).json() == ANSWER


# --- Nothing is a 500 ------------------------------------------------------------------------------------------------

NOTHING_A_FORM_WOULD_SEND = {
    "NUL": "a\0b@example.com",
    "line ends": "a@example.com\r\nBcc: b@example.com",
    "line separators": "a\u2028\u2029\x85@example.com",
    "right to left": "\u202egro.elpmaxe@nimda",
    "astral": "\U0001f511" * 300,
    "combining": "e" + "\u0301" * 5000,
    "absurdly long": "x" * 60_000,
    "empty": "",
}


@pytest.mark.parametrize("text", NOTHING_A_FORM_WOULD_SEND.values(), ids=NOTHING_A_FORM_WOULD_SEND.keys())
def test_text_that_no_form_would_send_is_answered_as_data(api: API, post: PostOffice, user: Any, text: str) -> None:
    handle = api.request()["requestId"]
    token = post.deliver_one().token
    refusals = [
        api.mutate("requestPasswordReset", email=text),
        api.mutate("requestPasswordReset", email="bob@example.com", idempotencyKey=text),
        api.mutate("resendPasswordResetCode", requestId=text),
        api.mutate("verifyPasswordResetCode", requestId=text, code="123456"),
        api.mutate("verifyPasswordResetCode", requestId=handle, code=text),
        api.mutate("checkResetToken", resetToken=text),
        api.mutate("checkPassword", newPassword=NEW_PASSWORD, resetToken=text),
        api.mutate("resetPassword", resetToken=text, newPassword=NEW_PASSWORD),
        api.mutate("cancelPasswordReset", requestId=text),
        api.mutate("reportPasswordReset", reportToken=text),
    ]
    assert all(refusal["__typename"].endswith("Error") for refusal in refusals), refusals
    assert api.status(text) is None
    kind = api.mutate("requestPasswordReset", email="eve@example.com", locale=text)["__typename"]
    assert kind == ("InvalidInputError" if text else "RequestPasswordResetSuccess")
    # A password may hold whatever a keyboard can produce, so these may go either way.
    api.mutate("checkPassword", newPassword=text, resetToken=token)
    api.reset(token, text)


def test_a_good_password_with_a_nul_in_it_is_refused_by_name(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    answer = api.reset(post.deliver_one().token, f"{NEW_PASSWORD}\0")
    assert (answer["__typename"], answer["field"]) == ("InvalidInputError", "newPassword")


@pytest.mark.parametrize("field", OPERATIONS)
def test_half_a_surrogate_pair_is_refused_in_every_mutation(api: API, field: str) -> None:
    kind = field[0].upper() + field[1:] + "Input"
    query = f"mutation M($input: {kind}!) {{ {field}(input: $input) {{ __typename }} }}"
    names = ("email", "requestId", "code", "resetToken", "newPassword", "reportToken")
    variables = {"input": dict.fromkeys(names, "\ud800")}
    assert "UTF-8" in refused(api.post(json.dumps({"query": query, "variables": variables})), 400)


ODD_HEADERS = {
    "Accept": [";", ",", "/", "a/b/c", "application/json;q=x", "application/json;q=1e999", "*/json", ";;;q=", 'a;b="c'],
    "Accept-Language": ["*", "en;q=x", "x" * 600, "en-" * 200, "\udcff", "de;q=1e9", "en\0"],
    "Accept-Encoding": ["gzip;q=x", "identity;q=0", "*;q=0"],
    "Accept-Charset": ["utf-16", "x"],
    "Access-Control-Request-Method": ["\0"],
    "Authorization": ["Basic x", "Bearer", "\xff"],
    "Cookie": ["sessionid=x", "a=\x01; =; ;;", "csrftoken=\xff", "messages=x", "django_language=x", "x" * 5000],
    "Content-Encoding": ["identity", " Identity "],
    "Forwarded": ["for=x"],
    "If-Modified-Since": ["yesterday"],
    "If-None-Match": ["*", "W/"],
    "Origin": ["null", "x", "http://[", "https://app.example.com:x", "://", "\xff"],
    "Range": ["bytes=0-0"],
    "Referer": ["http://[", "\xff"],
    "Sec-Fetch-Site": ["x"],
    "Upgrade": ["websocket"],
    "User-Agent": ["", "\0", "\ud83d", "\xff" * 3000, "\r\nX: y"],
    "X-Forwarded-For": [
        "",
        ",",
        "x",
        "203.0.113.7, ",
        "999.1.1.1",
        "[::1]:5",
        "fe80::1%eth0",
        "::ffff:203.0.113.7",
        "1" * 5000,
    ],
    "X-Forwarded-Host": ["evil.example.org"],
    "X-Forwarded-Proto": ["ftp"],
    "X-HTTP-Method-Override": ["GET", "DELETE"],
    "X-Requested-With": ["XMLHttpRequest"],
}


@pytest.mark.parametrize("proxies", [0, 1])
@pytest.mark.parametrize("name", ODD_HEADERS)
def test_a_stale_or_odd_header_is_no_server_error(api: API, settings: Any, name: str, proxies: int) -> None:
    settings.TRUSTED_PROXIES = proxies
    for value in ODD_HEADERS[name]:
        response = api.post(
            {"query": REQUEST, "variables": {"input": {"email": "ada@example.com"}}}, **{name.lower(): value}
        )
        assert response.status_code in {200, 406}, value
        assert "Unexpected error" not in response.text, value


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    query=st.sampled_from([REQUEST, QUESTION, TWO]) | JSON_VALUES,
    variables=st.fixed_dictionaries({"input": JSON_VALUES | st.fixed_dictionaries({"email": JSON_VALUES})})
    | JSON_VALUES,
    name=st.sampled_from(["R", "A", None]) | JSON_VALUES,
)
@examples(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_json_is_posted_the_answer_is_no_server_error(api: API, query: Any, variables: Any, name: Any) -> None:
    response = api.post({"query": query, "variables": variables, "operationName": name})
    assert response.status_code in {200, 400}
    assert "Unexpected error" not in response.text


# --- Failures that nobody expected -----------------------------------------------------------------------------------


SECRET_TEXT = "hunter2 of ada@example.com"  # noqa: S105 (what must not be logged)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose request fails with text that must stay inside."""

    def fail(*args: Any, **kwargs: Any) -> None:
        try:
            raise KeyError(SECRET_TEXT)
        except KeyError as error:
            raise RuntimeError(SECRET_TEXT) from error

    monkeypatch.setattr(verbs, "request", fail)


@pytest.mark.usefixtures("broken")
def test_an_unexpected_failure_is_masked_and_has_an_id(api: API) -> None:
    response = api.post({"query": REQUEST, "variables": {"input": {"email": "ada@example.com"}}})
    body = response.json()
    assert response.status_code == 200
    assert body["data"] is None
    (error,) = body["errors"]
    assert error["message"] == "Unexpected error."
    assert error["path"] == ["requestPasswordReset"]
    assert re.fullmatch(r"[0-9a-f]{16}", error["extensions"]["errorId"])
    assert "hunter2" not in response.text


@pytest.mark.usefixtures("broken")
def test_the_log_of_a_failure_has_its_id_and_place_and_not_its_text(api: API, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    response = api.post({"query": REQUEST, "variables": {"input": {"email": "ada@example.com"}}})
    error_id = response.json()["errors"][0]["extensions"]["errorId"]
    (line,) = [line for line in map(logging.LogRecord.getMessage, caplog.records) if "unexpected error" in line]
    assert error_id in line
    assert "RuntimeError" in line
    assert "broken.<locals>.fail" in line
    assert "hunter2" not in caplog.text
    assert "ada@" not in caplog.text


BELOW = {
    "requestPasswordReset": ("request", {"email": "ada@example.com"}),
    "resendPasswordResetCode": ("resend", {"requestId": "x"}),
    "verifyPasswordResetCode": ("verify", {"requestId": "x", "code": "123456"}),
    "resetPassword": ("reset", {"resetToken": "x", "newPassword": NEW_PASSWORD}),
    "checkResetToken": ("check_token", {"resetToken": "x"}),
    "checkPassword": ("check_password", {"newPassword": NEW_PASSWORD}),
    "cancelPasswordReset": ("cancel", {"requestId": "x"}),
    "reportPasswordReset": ("report", {"reportToken": "x"}),
}


def failing_below(api: API, monkeypatch: pytest.MonkeyPatch, field: str, error: Exception) -> Any:
    """The answer to a mutation whose use case raises this."""
    verb, values = BELOW[field]
    monkeypatch.setattr(reporting if verb == "report" else verbs, verb, Mock(side_effect=error))
    input_type = field[0].upper() + field[1:] + "Input"
    query = f"mutation M($input: {input_type}!) {{ {field}(input: $input) {{ __typename }} }}"
    return api.post({"query": query, "variables": {"input": values}})


@pytest.mark.parametrize("field", OPERATIONS)
@pytest.mark.parametrize("kind", [RuntimeError, DatabaseError, ValueError, UnicodeEncodeError])
def test_whatever_fails_below_a_mutation_is_masked_and_its_id_is_in_the_log(
    api: API, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, field: str, kind: type[Exception]
) -> None:
    error = kind("utf-8", SECRET_TEXT, 0, 1, SECRET_TEXT) if kind is UnicodeEncodeError else kind(SECRET_TEXT)
    assert_masked(failing_below(api, monkeypatch, field, error), field, caplog)


def test_whatever_fails_below_a_query_is_masked_and_its_id_is_in_the_log(
    api: API, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(verbs, "status", Mock(side_effect=KeyError(SECRET_TEXT)))
    answer = api.post({"query": '{ passwordResetStatus(requestId: "x") { status } }'})
    assert_masked(answer, "passwordResetStatus", caplog)
    caplog.clear()
    monkeypatch.setattr("accounts.api.schema.policy.rules", Mock(side_effect=KeyError(SECRET_TEXT)))
    assert_masked(api.post({"query": "{ passwordPolicy { codeLength } }"}), "passwordPolicy", caplog)


def assert_masked(response: Any, field: str, caplog: pytest.LogCaptureFixture) -> None:
    assert response.status_code == 200
    (error,) = response.json()["errors"]
    assert (error["message"], error["path"]) == ("Unexpected error.", [field])
    assert "hunter2" not in response.text
    (line,) = [record.getMessage() for record in caplog.records if record.name == "accounts.api.failures"]
    assert error["extensions"]["errorId"] in line
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("field", OPERATIONS)
@pytest.mark.parametrize("kind", [OperationalError, InterfaceError, InternalError, ProgrammingError])
def test_while_the_database_is_away_the_answer_is_a_503_that_says_when_to_come_again(
    api: API, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, field: str, kind: type[Exception]
) -> None:
    assert_away(failing_below(api, monkeypatch, field, kind(SECRET_TEXT)), caplog)


def test_so_is_the_answer_to_a_query_and_whatever_type_the_client_takes(
    api: API, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In plain JSON as well: a 200 with a null would read as a handle that was never issued."""
    monkeypatch.setattr(verbs, "status", Mock(side_effect=OperationalError(SECRET_TEXT)))
    query = '{ passwordResetStatus(requestId: "x") { status } }'
    for accepted in ("application/graphql-response+json", "application/json", "*/*"):
        caplog.clear()
        assert_away(api.post({"query": query}, accept=accepted), caplog)


def assert_away(response: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    body = response.json()
    assert "data" not in body
    (error,) = body["errors"]
    assert error["message"] == "The service is not available just now. Please try again in a moment."
    assert error["extensions"]["code"] == "UNAVAILABLE"
    (line,) = [record.getMessage() for record in caplog.records if record.name == "accounts.api.failures"]
    assert error["extensions"]["errorId"] in line
    assert "hunter2" not in response.text + caplog.text


@pytest.mark.usefixtures("broken")
def test_every_failure_has_an_id_of_its_own(api: API) -> None:
    body = {"query": REQUEST, "variables": {"input": {"email": "ada@example.com"}}}
    ids = {api.post(body).json()["errors"][0]["extensions"]["errorId"] for _ in range(3)}
    assert len(ids) == 3


def test_no_secret_and_no_address_is_ever_logged(
    api: API, post: PostOffice, user: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    handle = api.request("Ada@Example.com", idempotencyKey="k3y-of-22-characters-or-more")["requestId"]
    with monkeypatch.context() as down:
        down.setattr(smtp.Connection, "send", _refuse)
        assert post.deliver() == []
    ForgetPassword.objects.update(mail_next_at=ForgetPassword.objects.get().created_at)
    letter = post.deliver_one()
    stranger = api.request("stranger@example.org")["requestId"]
    post.deliver()
    wrong = "000000" if letter.code != "000000" else "111111"
    api.verify(handle, wrong)
    token = api.verify(handle, letter.code)["resetToken"]
    api.mutate("checkResetToken", resetToken=token)
    api.mutate("checkPassword", resetToken=token, newPassword=NEW_PASSWORD)
    api.reset(token, "hunter2")
    api.http.get(api.path, {"query": f'{{ passwordResetStatus(requestId: "{handle}") {{ status }} }}'})
    api.post({"query": REQUEST, "variables": {"input": {"email": 5, "mail": "ada@example.com", "code": wrong}}})
    api.post({"query": f'mutation {{ resetPassword(input: {{ resetToken: "{token}", newPassword: "{PASSWORD}'})
    api.reset(token)
    post.deliver()
    api.status(stranger)

    secrets = [handle, stranger, letter.code, letter.token, token, wrong, PASSWORD, NEW_PASSWORD, "hunter2", "k3y-of"]
    logged = caplog.text.casefold()
    assert "not accepted: smtp_450" in logged
    assert "graphql refused: variables not valid" in logged
    assert [secret for secret in [*secrets, "ada@", "stranger@"] if secret.casefold() in logged] == []


def _refuse(connection: smtp.Connection, message: Any, **options: Any) -> None:
    raise smtplib.SMTPRecipientsRefused({address: (450, b"not now, " + address.encode()) for address in message.to})


# --- One secret at a time --------------------------------------------------------------------------------------------

GUESS = 'verifyPasswordResetCode(input: {{ requestId: "{handle}", code: "{code}" }}) {{ __typename }}'
SEVERAL_GUESSES = {
    "by alias": "mutation {{ a: {guess} b: {guess} }}",
    "by a fragment in an alias's shadow": "mutation {{ a: {guess} ...F }} fragment F on Mutation {{ b: {guess} }}",
    "by nested fragments": "mutation {{ ...F }} fragment F on Mutation {{ ...G a: {guess} }} "
    "fragment G on Mutation {{ b: {guess} }}",
    "by a fragment that is repeated": "mutation {{ ...F ...F }} fragment F on Mutation {{ {guess} }}",
    "by inline fragments": "mutation {{ ... {{ a: {guess} }} ... on Mutation {{ b: {guess} }} }}",
    "by a second operation": "mutation A {{ {guess} }} mutation B {{ {guess} }}",
    "by fields that differ": 'mutation {{ {guess} checkResetToken(input: {{ resetToken: "x" }}) {{ __typename }} }}',
    "behind a directive": "mutation {{ a: {guess} ... @skip(if: true) {{ b: {guess} }} }}",
}


@pytest.fixture
def sent(api: API, post: PostOffice, user: Any) -> tuple[str, Letter]:
    return api.request()["requestId"], post.deliver_one()


@pytest.mark.parametrize("document", SEVERAL_GUESSES.values(), ids=SEVERAL_GUESSES.keys())
def test_several_secrets_in_one_document_are_refused_and_nothing_is_tried(
    api: API, sent: tuple[str, Letter], document: str
) -> None:
    handle, letter = sent
    query = document.format(guess=GUESS.format(handle=handle, code=letter.code))
    body = {"query": query, "operationName": "A" if "mutation A" in query else None}
    assert "one field that checks a secret" in refused(api.post(body), 400)
    record = record_of(handle)
    assert (record.state, record.attempts) == ("SENT", 0)
    assert not GuessBudget.objects.exists()


def test_several_secrets_in_a_batch_are_refused_and_nothing_is_tried(api: API, sent: tuple[str, Letter]) -> None:
    handle, letter = sent
    query = "mutation { " + GUESS.format(handle=handle, code=letter.code) + " }"
    refused(api.post([{"query": query}, {"query": query}]), 400)
    assert record_of(handle).attempts == 0


def test_a_single_secret_beside_other_fields_is_tried(api: API, sent: tuple[str, Letter]) -> None:
    handle, letter = sent
    other = 'requestPasswordReset(input: { email: "grace@example.com" }) { __typename }'
    query = f"mutation {{ {GUESS.format(handle=handle, code=letter.code)} {other} }}"
    data = api.execute(query)
    assert data["verifyPasswordResetCode"]["__typename"] == "VerifyPasswordResetCodeSuccess"


# --- Introspection and GraphiQL --------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["{ __schema { queryType { name } } }", '{ a: __type(name: "Query") { name } }'])
def test_introspection_that_is_switched_off_is_refused(api: API, settings: Any, query: str) -> None:
    settings.GRAPHQL_INTROSPECTION = False
    assert "introspection has been disabled" in refused(api.post({"query": query}), 400)


def test_introspection_that_is_switched_on_is_answered(api: API, settings: Any) -> None:
    settings.GRAPHQL_INTROSPECTION = True
    assert api.execute("{ __schema { queryType { name } } }") == {"__schema": {"queryType": {"name": "Query"}}}


MISSPELT = {
    "a field": "{ passwordPolic { codeLength } }",
    "a field of a field": "{ passwordPolicy { codeLengt } }",
    "an argument": '{ passwordResetStatus(requestI: "x") { status } }',
    "a type": "query Q($a: RequestPasswordResetInpu) { __typename }",
    "a field of an input": 'mutation { requestPasswordReset(input: { email: "x", locales: "en" }) { __typename } }',
}


@pytest.mark.parametrize("query", MISSPELT.values(), ids=MISSPELT.keys())
def test_nothing_is_suggested_where_introspection_is_off(api: API, settings: Any, query: str) -> None:
    settings.GRAPHQL_INTROSPECTION = False
    assert "Did you mean" not in refused(api.post({"query": query}), 400)


@pytest.mark.parametrize("query", MISSPELT.values(), ids=MISSPELT.keys())
def test_where_introspection_is_on_the_right_word_is_suggested(api: API, settings: Any, query: str) -> None:
    settings.GRAPHQL_INTROSPECTION = True
    assert "Did you mean" in refused(api.post({"query": query}), 400)


@pytest.mark.parametrize("introspection", [False, True])
def test_for_variables_too_a_word_is_suggested_where_introspection_is_on_only(
    api: API, settings: Any, introspection: bool
) -> None:
    settings.GRAPHQL_INTROSPECTION = introspection
    variables = {"input": {"email": "ada@example.com", "locales": "en"}}
    answer = refused(api.post({"query": REQUEST, "variables": variables}), 400)
    assert ("Did you mean" in answer) == introspection


@pytest.mark.parametrize(
    "query", ["qery { passwordPolicy { codeLength } }", "{ passwordPolicy { codeLength }", "{ ...on }"]
)
def test_nothing_is_suggested_for_a_document_that_cannot_be_read(api: API, settings: Any, query: str) -> None:
    settings.GRAPHQL_INTROSPECTION = False
    answer = refused(api.post({"query": query}), 400)
    assert "Syntax Error" in answer
    assert "Did you mean" not in answer


def test_a_browser_is_shown_graphiql(api: API) -> None:
    response = api.http.get(api.path, headers={"accept": BROWSER})
    assert response.status_code == 200
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert 'id="graphiql"' in response.text


def test_the_policy_of_the_graphiql_page_lets_nothing_foreign_in(api: API) -> None:
    policy = dict(
        directive.split(" ", 1)
        for directive in api.http.get(api.path, headers={"accept": BROWSER})["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert "http" not in str(policy)


def test_caches_are_told_that_the_page_and_the_answers_share_an_address(api: API) -> None:
    assert "Accept" in api.http.get(api.path, headers={"accept": BROWSER})["Vary"].split(", ")


def test_where_graphiql_is_off_a_browser_gets_a_refusal_in_json(api: API, settings: Any) -> None:
    settings.GRAPHIQL = False
    refused(api.http.get(api.path, headers={"accept": BROWSER}), 400)


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/*", "application/json, */*"])
def test_who_names_no_page_gets_none(api: API, accept: str | None) -> None:
    response = api.http.get(api.path, headers={} if accept is None else {"accept": accept})
    assert response.status_code in {400, 406}
    assert response["Content-Type"] == f"{JSON}; charset=utf-8"


def test_a_browser_that_asks_a_question_is_answered_in_json(api: API) -> None:
    response = api.http.get(api.path, {"query": QUESTION}, headers={"accept": BROWSER})
    assert response["Content-Type"] == f"{JSON}; charset=utf-8"
    assert response.json() == ANSWER


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
def test_a_hash_without_a_text_is_answered_as_clients_expect_who_then_send_the_text(api: API, accept: str) -> None:
    """Apollo's and urql's links for persisted queries."""
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
    answer = api.post({"operationName": None, "variables": {}, "extensions": extensions}, accept=accept)
    assert answer.status_code == (200 if accept == "application/json" else 400)
    expected = {"message": "PersistedQueryNotSupported", "extensions": {"code": "PERSISTED_QUERY_NOT_SUPPORTED"}}
    assert answer.json() == {"errors": [expected]}
    assert api.post({"query": "{ __typename }", "extensions": extensions}).json() == {"data": {"__typename": "Query"}}


ODD_EXTENSIONS = [
    5,
    "persistedQuery",
    ["persistedQuery"],
    True,
    {"persistedQuery": 1},
    {"persistedQuery": None},
    {"persistedQuery": {"version": "1", "sha256Hash": 5}},
    {"persistedQuery": {"version": 2, "sha256Hash": ["x"]}},
    {"persistedQuery": {}, "nothing": {}},
]


@pytest.mark.parametrize("extensions", ODD_EXTENSIONS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_extensions_of_any_shape_are_refused_in_order_or_ignored(api: API, method: str, extensions: Any) -> None:
    told = json.dumps(extensions)
    headers = {"accept": GRAPHQL_JSON}

    def send(**more: Any) -> Any:
        if method == "GET":
            return api.http.get(api.path, {**more, "extensions": told}, headers=headers)
        return api.post({**more, "extensions": extensions}, accept=GRAPHQL_JSON)

    alone = refused(send(), 400)
    if not isinstance(extensions, dict):
        assert refused(send(query="{ __typename }"), 400) == "The parameter extensions must be an object."
    else:
        assert alone == "PersistedQueryNotSupported"
        assert send(query="{ __typename }").json() == {"data": {"__typename": "Query"}}
