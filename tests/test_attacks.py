"""What GraphQL servers are attacked with: many guesses in one request, and all that graphql-cop checks, by name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any
from urllib.parse import urlencode

import pytest

from accounts.api.documents import MAX_ALIASES, MAX_ERRORS
from accounts.api.fields import handle_taking_fields, secret_checking_fields
from accounts.limits import counter, window
from accounts.models import GuessBudget, PasswordResetEvent
from backend.schema import schema
from tests.conftest import API, Letter, PostOffice, record_of

JSON = "application/json"


class Target:
    """A reset that was mailed, and whether anything about it was tried."""

    def __init__(self, handle: str, letter: Letter) -> None:
        self.handle = handle
        self.letter = letter
        self.limits_hit: list[window.Window] = []

    def guess(self, code: str = "") -> str:
        values = f'requestId: "{self.handle}", code: "{code or self.letter.code}"'
        return f"verifyPasswordResetCode(input: {{ {values} }}) {{ __typename }}"

    def assert_untouched(self) -> None:
        record = record_of(self.handle)
        assert (record.state, record.attempts) == ("SENT", 0)
        assert not GuessBudget.objects.exists()
        assert not PasswordResetEvent.objects.filter(record=record, kind__in=["WRONG_CODE", "VERIFIED"]).exists()
        assert self.limits_hit == []


@pytest.fixture
def target(api: API, post: PostOffice, user: Any, monkeypatch: pytest.MonkeyPatch) -> Target:
    target = Target(api.request()["requestId"], post.deliver_one())
    take = counter.take

    def noted(asked: Any, wanted: int = 1) -> Any:
        target.limits_hit.extend(asked)
        return take(asked, wanted)

    monkeypatch.setattr(counter, "take", noted)
    return target


def test_the_target_notices_a_guess(api: API, target: Target) -> None:
    assert api.execute(f"mutation {{ {target.guess('000000')} }}")
    assert record_of(target.handle).attempts == 1
    assert target.limits_hit
    with pytest.raises(AssertionError):
        target.assert_untouched()


# --- Many guesses in one document ------------------------------------------------------------------------------------


def by_aliases(guess: Callable[[str], str], count: int) -> str:
    return "mutation { " + " ".join(f"a{n}: {guess(f'{n:06}')}" for n in range(count)) + " }"


GUESSES: dict[str, Callable[[Callable[[str], str]], str]] = {
    "two aliases": lambda guess: by_aliases(guess, 2),
    "as many aliases as a document may have": lambda guess: by_aliases(guess, MAX_ALIASES),
    "two hundred aliases": lambda guess: by_aliases(guess, 200),
    "the very same field twice": lambda guess: f"mutation {{ {guess('1')} {guess('1')} }}",
    "a fragment on a fragment": lambda guess: (
        f"mutation {{ a: {guess('1')} ...F }} fragment F on Mutation {{ ...G }} "
        f"fragment G on Mutation {{ ...H }} fragment H on Mutation {{ b: {guess('2')} }}"
    ),
    "a fragment spread twice": lambda guess: f"mutation {{ ...F ...F }} fragment F on Mutation {{ a: {guess('1')} }}",
    "inline fragments in inline fragments": lambda guess: (
        "mutation { ... { ... on Mutation { ... { "
        f"a: {guess('1')} }} }} }} ... on Mutation {{ ... {{ b: {guess('2')} }} }} }}"
    ),
    "a fragment that is left out": lambda guess: (
        f"mutation M($no: Boolean = false) {{ a: {guess('1')} "
        f"...F @include(if: $no) }} fragment F on Mutation {{ b: {guess('2')} }}"
    ),
    "fields that are left out": lambda guess: (
        f"mutation {{ a: {guess('1')} "
        + " ".join(
            f"b{n}: {guess(str(n)).replace('{ __typename }', '@skip(if: true) { __typename }')}" for n in range(3)
        )
        + " }"
    ),
    "an operation that is not run": lambda guess: f"mutation A {{ {guess('1')} }} mutation B {{ {guess('2')} }}",
    "the same fragment in two operations": lambda guess: (
        f"mutation A {{ ...F }} mutation B {{ ...F }} fragment F on Mutation {{ {guess('1')} }}"
    ),
    "a fragment on an interface": lambda guess: f"mutation {{ a: {guess('1')} ... on Error {{ b: {guess('2')} }} }}",
    "a fragment on another type": lambda guess: f"mutation {{ a: {guess('1')} ... on Query {{ b: {guess('2')} }} }}",
    "a fragment that holds itself": lambda guess: (
        f"mutation {{ ...F }} fragment F on Mutation {{ a: {guess('1')} ...F }}"
    ),
    "operations of one name": lambda guess: f"mutation A {{ {guess('1')} }} mutation A {{ {guess('2')} }}",
    "a deferred fragment": lambda guess: f"mutation {{ a: {guess('1')} ... @defer {{ b: {guess('2')} }} }}",
    "a deferred fragment alone": lambda guess: f"mutation {{ ... @defer {{ a: {guess('1')} }} }}",
    "a streamed field": lambda guess: (
        f"mutation {{ {guess('1').replace('{ __typename }', '@stream { __typename }')} }}"
    ),
    "a subscription": lambda guess: f"subscription {{ {guess('1')} }}",
    "a query": lambda guess: f"{{ {guess('1')} }}",
}


@pytest.mark.parametrize("accept", [JSON, "application/graphql-response+json"])
@pytest.mark.parametrize("document", GUESSES.values(), ids=GUESSES.keys())
def test_of_several_guesses_none_is_made_and_none_is_counted(
    api: API, target: Target, document: Callable[[Callable[[str], str]], str], accept: str
) -> None:
    query = document(target.guess)
    for name in (None, "A", "B"):
        response = api.post({"query": query, "operationName": name}, accept=accept)
        assert response.status_code == 400 or accept == JSON
        assert list(response.json()) == ["errors"]
    target.assert_untouched()


@pytest.mark.parametrize(
    "fields", [*combinations_with_replacement(sorted(secret_checking_fields(schema)), 2)], ids=" and ".join
)
def test_no_two_fields_that_check_a_secret_go_together(api: API, target: Target, fields: tuple[str, str]) -> None:
    arguments = {
        "verifyPasswordResetCode": f'requestId: "{target.handle}", code: "{target.letter.code}"',
        "resetPassword": f'resetToken: "{target.letter.token}", newPassword: "thistle walnut comet raft 7"',
        "checkResetToken": f'resetToken: "{target.letter.token}"',
        "checkPassword": f'newPassword: "thistle walnut comet raft 7", resetToken: "{target.letter.token}"',
        "reportPasswordReset": 'reportToken: "x"',
    }
    asked = " ".join(f"f{n}: {name}(input: {{ {arguments[name]} }}) {{ __typename }}" for n, name in enumerate(fields))
    response = api.post({"query": f"mutation {{ {asked} }}"}, accept=JSON)
    assert response.status_code == 400
    assert "one field that checks a secret" in response.json()["errors"][0]["message"]
    target.assert_untouched()


# --- Many looks at one reset, or at many ------------------------------------------------------------------------------


KINDS = {"passwordResetStatus": "query", "passwordResetStatusChanged": "subscription"}
"""What is no mutation of the fields that take a handle."""


def by_handle(field: str, handle: str) -> str:
    """One field of the schema that takes a handle, with this one."""
    if field in KINDS:
        return f'{field}(requestId: "{handle}") {{ status }}'
    code = ', code: "1"' if field == "verifyPasswordResetCode" else ""
    return f'{field}(input: {{ requestId: "{handle}"{code} }}) {{ __typename }}'


@pytest.mark.parametrize(
    "fields", [*combinations_with_replacement(sorted(handle_taking_fields(schema)), 2)], ids=" and ".join
)
def test_no_two_fields_that_take_a_handle_go_together(api: API, target: Target, fields: tuple[str, str]) -> None:
    asked = [by_handle(field, target.handle) for field in fields]
    kinds = [KINDS.get(field, "mutation") for field in fields]
    if kinds[0] == kinds[1]:
        query = f"{kinds[0]} A {{ a: {asked[0]} b: {asked[1]} }}"
    else:
        query = f"{kinds[0]} A {{ {asked[0]} }} {kinds[1]} B {{ {asked[1]} }}"
    response = api.post({"query": query, "operationName": "A"})
    assert response.status_code == 400
    # GraphQL itself has a subscription select one field.
    refusal = "must select only one" if set(kinds) == {"subscription"} else "At most one field that"
    assert refusal in response.json()["errors"][0]["message"]
    target.assert_untouched()


LOOKS = {
    "sixteen aliases of one handle": lambda look: "{ " + " ".join(f"a{n}: {look}" for n in range(15)) + f" {look} }}",
    "the very same field twice": lambda look: f"{{ {look} {look} }}",
    "a fragment spread twice": lambda look: f"{{ ...F ...F }} fragment F on Query {{ {look} }}",
    "a fragment in a fragment": lambda look: (
        f"{{ ...F {look} }} fragment F on Query {{ ... on Query {{ b: {look} }} }}"
    ),
    "an operation that is not run": lambda look: f"query A {{ {look} }} query B {{ {look} }}",
    "a field that is left out": lambda look: f"{{ {look} ... @skip(if: true) {{ b: {look} }} }}",
}


@pytest.mark.parametrize("document", LOOKS.values(), ids=LOOKS.keys())
def test_of_several_looks_at_once_none_is_taken(api: API, target: Target, document: Callable[[str], str]) -> None:
    query = document(by_handle("passwordResetStatus", target.handle))
    response = api.post({"query": query, "operationName": "A" if "query A" in query else None}, accept=JSON)
    assert response.status_code == 400
    assert "one field that takes a requestId" in response.json()["errors"][0]["message"]
    target.assert_untouched()


def test_one_look_beside_what_takes_no_handle_is_taken(api: API, target: Target) -> None:
    query = f"{{ {by_handle('passwordResetStatus', target.handle)} passwordPolicy {{ codeLength }} }}"
    assert api.execute(query)["passwordResetStatus"] == {"status": "SENT"}


# --- Many guesses, or one, in another dress --------------------------------------------------------------------------


def dressed(query: str) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """One good guess as a body that must not be taken, with the headers that come with it."""
    body = json.dumps({"query": query}).encode()
    form = urlencode({"query": query}).encode()
    parts = f'--x\r\nContent-Disposition: form-data; name="query"\r\n\r\n{query}\r\n--x--\r\n'.encode()
    return {
        "a batch": (b"[" + body + b"," + body + b"]", {}),
        "a batch of one": (b"[" + body + b"]", {}),
        "query twice": (body[:-1] + b"," + body[1:], {}),
        "query twice, once escaped": (body[:-1] + b', "qu\\u0065ry": "{ __typename }"}', {}),
        "variables twice": (body[:-1] + b', "variables": {}, "variables": {}}', {}),
        "a form": (form, {"content_type": "application/x-www-form-urlencoded"}),
        "a multipart form": (parts, {"content_type": "multipart/form-data; boundary=x"}),
        "plain text": (body, {"content_type": "text/plain"}),
        "a document without JSON": (query.encode(), {"content_type": "application/graphql"}),
        "compressed": (gzip.compress(body), {"HTTP_CONTENT_ENCODING": "gzip"}),
        "said to be compressed": (body, {"HTTP_CONTENT_ENCODING": "gzip"}),
        "a byte order mark": (b"\xef\xbb\xbf" + body, {}),
        "UTF-16": (body.decode().encode("utf-16"), {}),
        "UTF-16, and said so": (body.decode().encode("utf-16"), {"content_type": f"{JSON}; charset=utf-16"}),
        "UTF-7": (body.replace(b"{", b"+AHs-"), {}),
        "infinity": (body[:-1] + b', "variables": {"a": 1e999}}', {}),
        "not a number": (body[:-1] + b', "variables": {"a": NaN}}', {}),
        "deep": (body[:-1] + b', "variables": {"a": ' + b"[" * 70 + b"1" + b"]" * 70 + b"}}", {}),
        "a persisted query": (
            b'{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "00"}}}',
            {"HTTP_ACCEPT": "application/graphql-response+json"},
        ),
    }


@pytest.mark.parametrize("dress", dressed("").keys())
def test_a_guess_in_another_dress_is_not_taken(api: API, target: Target, dress: str) -> None:
    body, headers = dressed(f"mutation {{ {target.guess()} }}")[dress]
    response = api.http.generic("POST", api.path, body, **{"content_type": JSON, **headers})
    assert response.status_code in {400, 415}
    assert list(response.json()) == ["errors"]
    target.assert_untouched()


def test_a_guess_in_the_url_is_not_taken(api: API, target: Target) -> None:
    query = f"mutation {{ {target.guess()} }}"
    assert api.http.get(api.path, {"query": query}).status_code == 405
    assert api.http.generic("HEAD", f"{api.path}?{urlencode({'query': query})}").status_code == 405
    assert api.http.post(f"{api.path}?{urlencode({'query': query})}").status_code == 415
    assert api.http.get(api.path, {"query": ["{ __typename }", query]}).status_code == 400
    assert api.http.get(api.path, {"query": [query, "{ __typename }"]}).status_code == 400
    target.assert_untouched()


def test_only_the_body_counts_where_the_url_has_a_query_too(api: API, target: Target) -> None:
    url = f"{api.path}?{urlencode({'query': f'mutation {{ {target.guess()} }}'})}"
    assert API(api.http, url).post({"query": "{ __typename }"}).json() == {"data": {"__typename": "Query"}}
    target.assert_untouched()


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**31, 1e308, -0.0, 1.5, True])
def test_a_number_of_any_size_is_no_code_and_no_server_error(api: API, target: Target, number: Any) -> None:
    query = (
        "mutation M($input: VerifyPasswordResetCodeInput!) { verifyPasswordResetCode(input: $input) { __typename } }"
    )
    response = api.post({"query": query, "variables": {"input": {"requestId": target.handle, "code": number}}})
    assert response.status_code == 400
    target.assert_untouched()


def test_an_extension_changes_nothing(api: API) -> None:
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": "00"}, "tracing": True, "debug": True}
    response = api.post({"query": "{ __typename }", "extensions": extensions, "debug": True, "id": "00"})
    assert response.json() == {"data": {"__typename": "Query"}}


# --- graphql-cop, by the names of its checks -------------------------------------------------------------------------


def errors_of(api: API, query: str) -> list[dict[str, Any]]:
    response = api.post({"query": query})
    assert response.status_code == 400
    assert list(response.json()) == ["errors"]
    return list(response.json()["errors"])


def test_alias_overloading(api: API) -> None:
    query = "{ " + " ".join(f"alias{number}: __typename" for number in range(101)) + " }"
    assert "aliases" in errors_of(api, query)[0]["message"]


def test_array_based_query_batching(api: API) -> None:
    assert api.post([{"query": "{ __typename }"}] * 10).status_code == 400


def test_directive_overloading(api: API) -> None:
    assert len(errors_of(api, "{ __typename " + "@aa" * 10 + " }")) == MAX_ERRORS + 1
    assert "directives" in errors_of(api, "{ __typename " + "@aa" * 50 + " }")[0]["message"]


def test_field_duplication(api: API) -> None:
    assert "in one place" in errors_of(api, "query { " + "__typename \n" * 500 + " }")[0]["message"]
    assert "tokens" in errors_of(api, "query { " + "__typename \n" * 1000 + " }")[0]["message"]


def test_circular_fragment(api: API) -> None:
    query = "{ __schema { ...A } } fragment A on __Schema { __typename ...B } fragment B on __Schema { ...A }"
    assert "within itself" in errors_of(api, query)[0]["message"]


def test_introspection_based_circular_query(api: API) -> None:
    inner = "{ fields { type " * 4 + "{ name }" + " }}" * 4
    assert "introspection depth" in errors_of(api, f"{{ __schema {{ types {inner} }} }}")[0]["message"]


def test_introspection(api: API, settings: Any) -> None:
    settings.GRAPHQL_INTROSPECTION = False
    for query in (
        "{ __schema { types { name } } }",
        '{ __type(name: "Query") { fields { name } } }',
        '{ ...F } fragment F on Query { ... { t: __type(name: "Query") { name } } }',
    ):
        assert "introspection has been disabled" in errors_of(api, query)[0]["message"]


def test_field_suggestions(api: API, settings: Any) -> None:
    settings.GRAPHQL_INTROSPECTION = False
    assert "Did you mean" not in str(errors_of(api, "{ __schem { directive } }"))
    assert "Did you mean" not in str(errors_of(api, "query { passwordPolicyy { codeLength } }"))


def test_graphql_ide(api: API, settings: Any) -> None:
    settings.GRAPHIQL = False
    for path in ("/graphql/", "/graphql", "/graphiql", "/playground", "/console"):
        page = api.http.get(path, headers={"accept": "text/html,*/*"})
        assert page.status_code in {400, 404}
        assert "graphiql" not in page.text.casefold()
        assert "playground" not in page.text.casefold()


def test_trace_mode_and_unhandled_errors(api: API) -> None:
    assert "extensions" not in api.post({"query": "{ __typename }"}, **{"x-apollo-tracing": "1"}).json()
    for query in ("qwerty cop { abc }", "{ nothing }", "mutation { requestPasswordReset { __typename } }"):
        for error in errors_of(api, query):
            assert set(error) <= {"message", "locations"}


def test_get_based_mutation(api: API) -> None:
    assert api.http.get(api.path, {"query": "mutation { __typename }"}).status_code == 405


def test_post_based_csrf(api: API) -> None:
    url = f"{api.path}?{urlencode({'query': '{ __typename }'})}"
    assert api.http.post(url, {"query": "{ __typename }"}).status_code == 415
    assert api.http.post(url, urlencode({"query": "{ __typename }"}), content_type="text/plain").status_code == 415


def test_get_method_query_support_is_meant_and_for_queries_without_a_handle_only(api: API) -> None:
    assert api.http.get(api.path, {"query": "{ __typename }"}).json() == {"data": {"__typename": "Query"}}
    handle = '{ passwordResetStatus(requestId: "x") { status } }'
    assert api.http.get(api.path, {"query": handle}).status_code == 405
