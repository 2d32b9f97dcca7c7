"""What a handle may ask, how often, and that what is read for it is the same for every row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.api.fields import (
    HANDLES,
    SECRETS,
    arguments,
    fields_taking,
    handle_taking_fields,
    root_fields,
    secret_checking_fields,
)
from accounts.limits import counter, rules
from accounts.models import ForgetPassword
from accounts.querysets import SHOWN
from backend.schema import schema
from tests.conftest import API, NEW_PASSWORD, PostOffice, record_of

KNOWN, UNKNOWN = "ada@example.com", "nobody@example.com"
STATUS = "query S($id: ID!) { passwordResetStatus(requestId: $id) { status attemptsLeft } }"
HIDDEN = {"user_id", "email", "user_agent", "locale", "mail_error", "mail_attempts", "mail_next_at", "superseded_at"}
"""Columns whose width or whose being there may tell an address that has an account."""


def test_the_fields_that_take_a_handle_or_check_a_secret_are_as_expected() -> None:
    assert {
        "passwordResetStatus",
        "passwordResetStatusChanged",
        "resendPasswordResetCode",
        "verifyPasswordResetCode",
        "cancelPasswordReset",
    } == handle_taking_fields(schema)
    assert {
        "verifyPasswordResetCode",
        "resetPassword",
        "checkResetToken",
        "checkPassword",
        "reportPasswordReset",
    } == secret_checking_fields(schema)


def test_every_argument_of_the_schema_is_a_secret_a_handle_or_known_to_be_neither() -> None:
    """A new one goes into SECRETS or HANDLES of the schema, so that the guards hold for it, or here."""
    neither = {"input", "email", "idempotencyKey", "locale", "app"}
    assert {name for field in root_fields(schema).values() for name in arguments(field)} == SECRETS | HANDLES | neither


def test_a_field_is_found_by_what_it_takes_wherever_it_stands() -> None:
    assert fields_taking(schema, "email") == {"requestPasswordReset"}
    assert fields_taking(schema, "input") >= {"requestPasswordReset", "resetPassword"}
    assert fields_taking(schema, "nothing at all") == frozenset()


# --- What is read ----------------------------------------------------------------------------------------------------


def ask(api: API, verb: str, handle: str) -> None:
    if verb == "passwordResetStatus":
        assert api.status(handle) is not None
    elif verb == "verifyPasswordResetCode":
        assert api.verify(handle, "000000")["__typename"] == "InvalidCodeError"
    else:
        assert "reset" in api.mutate(verb, requestId=handle)


@pytest.fixture
def statements(
    api: API, post: PostOffice, make_user: Callable[..., Any], later: Callable[..., None]
) -> Callable[[str, str], list[str]]:
    """The statements of one verb, for a reset that has been mailed, or rehearsed, a minute ago."""
    make_user(KNOWN)

    def of(verb: str, email: str) -> list[str]:
        handle = api.request(email)["requestId"]
        post.deliver()
        later(seconds=61)
        record = record_of(handle)
        with CaptureQueriesContext(connection) as asked:
            ask(api, verb, handle)
        known = f"{record.pk.hex}|{record.pk}|{record.email_digest}"
        return [re.sub(known, "?", query["sql"]) for query in asked]

    return of


@pytest.mark.parametrize(
    ("verb", "count"),
    [
        ("passwordResetStatus", 1),
        ("cancelPasswordReset", 5),
        ("resendPasswordResetCode", 5),
        ("verifyPasswordResetCode", 9),
    ],
)
def test_a_handle_is_answered_by_the_same_statements_for_every_row_and_no_more(
    statements: Callable[[str, str], list[str]], verb: str, count: int
) -> None:
    known, unknown = statements(verb, KNOWN), statements(verb, UNKNOWN)
    assert re.sub(r"\d\d:\d\d:\d\d", "", "\n".join(known)) == re.sub(r"\d\d:\d\d:\d\d", "", "\n".join(unknown))
    assert len([each for each in known if not each.startswith(("SAVEPOINT", "RELEASE"))]) == count


@pytest.mark.parametrize("verb", ["passwordResetStatus", "cancelPasswordReset", "resendPasswordResetCode"])
def test_a_handle_reads_no_column_that_an_account_makes_wider_and_joins_nothing(
    statements: Callable[[str, str], list[str]], verb: str
) -> None:
    selects = [each for each in statements(verb, KNOWN) if each.startswith("SELECT")]
    assert not [each for each in selects if "JOIN" in each]
    for select in selects:
        read = select.partition(" FROM ")[0]
        assert not [column for column in HIDDEN if f'"{column}"' in read], select


def test_what_is_shown_has_no_column_that_an_account_makes_wider() -> None:
    assert HIDDEN.isdisjoint(SHOWN)
    assert {"id", "forget_password_otp"} <= set(SHOWN)


@pytest.mark.parametrize("email", [KNOWN, UNKNOWN])
def test_a_wrong_code_reads_few_columns_of_row_and_account_and_makes_no_user(
    api: API, post: PostOffice, user: Any, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    handle = api.request(email)["requestId"]
    post.deliver()
    monkeypatch.setattr(type(user), "from_db", lambda *_: pytest.fail("a user was made"))
    with CaptureQueriesContext(connection) as asked:
        ask(api, "verifyPasswordResetCode", handle)
    (joined,) = [query["sql"] for query in asked if "JOIN" in query["sql"]]
    read = re.findall(r'"\w+"\."(\w+)"', joined.partition(" FROM ")[0])
    assert read == ["generation", "code_key", "email", "user_id", "password", "email"]


def test_an_idempotency_key_that_comes_again_reads_no_more_than_the_status(
    api: API, post: PostOffice, user: Any
) -> None:
    key = "q7Jx2mBz0LrT9wVs4NcY1kD"
    api.request(idempotencyKey=key)
    post.deliver()
    with CaptureQueriesContext(connection) as asked:
        api.request(idempotencyKey=key)
    first = next(query["sql"] for query in asked if query["sql"].startswith("SELECT"))
    assert not [column for column in HIDDEN if f'"{column}"' in first.partition(" FROM ")[0]]


# --- How often -------------------------------------------------------------------------------------------------------


def look(api: API, handle: str) -> Any:
    return api.post({"query": STATUS, "variables": {"id": handle}})


@pytest.mark.parametrize("email", [KNOWN, UNKNOWN])
def test_a_handle_may_be_asked_about_sixty_times_a_minute_from_wherever(
    api: API, user: Any, later: Callable[..., None], email: str
) -> None:
    handle = api.request(email)["requestId"]
    clients = [API(Client(REMOTE_ADDR=f"203.0.113.{number}")) for number in range(1, 62)]
    assert [look(client, handle).status_code for client in clients] == [200] * 60 + [429]
    later(seconds=60)
    assert look(clients[-1], handle).status_code == 200


def test_a_client_may_ask_three_hundred_times_a_minute(api: API, later: Callable[..., None], settings: Any) -> None:
    assert (settings.THROTTLE_STATUS_PER_HANDLE, settings.THROTTLE_STATUS_PER_IP) == ("60/minute", "300/minute")
    handles = [api.request(f"user{number}@example.com")["requestId"] for number in range(6)]
    answers = [look(api, handle).status_code for handle in handles for _ in range(52)]
    assert answers == [200] * 300 + [429] * 12
    assert look(API(Client(REMOTE_ADDR="203.0.113.7")), handles[0]).status_code == 200
    later(seconds=60)
    assert look(api, handles[0]).status_code == 200


@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json", "*/*"])
def test_a_status_that_is_refused_says_so_by_http_and_in_graphql_and_has_no_data(
    api: API, settings: Any, later: Callable[..., None], accept: str
) -> None:
    """Nor is it null, which would mean that the handle was never issued."""
    settings.THROTTLE_STATUS_PER_HANDLE = "1/minute"
    handle = api.request()["requestId"]
    look(api, handle)
    later(seconds=17.5)
    response = api.post({"query": STATUS, "variables": {"id": handle}}, accept=accept)
    assert response.status_code == 429
    assert response["Retry-After"] == "43"
    assert response["Cache-Control"] == "no-store"
    assert response.json() == {
        "errors": [
            {
                "message": "You are asking about this reset too often. Please wait a little.",
                "extensions": {"code": "RATE_LIMITED", "retryAfter": 43},
            }
        ]
    }


def test_a_status_that_is_refused_leaves_a_line_as_every_refusal_does_and_no_error(
    api: API, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.THROTTLE_STATUS_PER_HANDLE = "1/minute"
    handle = api.request()["requestId"]
    look(api, handle)
    caplog.clear()
    look(api, handle)
    (line,) = [record.msg for record in caplog.records if record.name == "accounts.api.journal"]
    assert {name: line[name] for name in ("verb", "outcome", "limit")} == {  # type: ignore[index]
        "verb": "passwordResetStatus",
        "outcome": "RateLimited",
        "limit": "handle",
    }
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert handle not in caplog.text


@pytest.mark.parametrize("verb", ["resendPasswordResetCode", "cancelPasswordReset"])
@pytest.mark.parametrize("setting", ["THROTTLE_STATUS_PER_HANDLE", "THROTTLE_STATUS_PER_IP"])
def test_resend_and_cancel_share_the_limits_of_the_status(
    api: API, post: PostOffice, settings: Any, later: Callable[..., None], verb: str, setting: str
) -> None:
    handle = api.request()["requestId"]
    post.deliver()
    later(seconds=61)
    setattr(settings, setting, "1/minute")
    look(api, handle)
    refused = api.mutate(verb, requestId=handle)
    assert (refused["__typename"], refused["retryAfter"]) == ("RateLimitedError", 60)
    later(seconds=60)
    assert "reset" in api.mutate(verb, requestId=handle)


def test_a_resend_that_is_refused_by_its_handles_limit_is_no_request(
    api: API, post: PostOffice, settings: Any, later: Callable[..., None]
) -> None:
    settings.THROTTLE_STATUS_PER_HANDLE, settings.THROTTLE_REQUEST_PER_IP = "1/minute", "2/hour"
    handle = api.request()["requestId"]
    post.deliver()
    look(api, handle)
    for _ in range(3):
        assert api.mutate("resendPasswordResetCode", requestId=handle)["__typename"] == "RateLimitedError"
    later(seconds=61)
    assert "reset" in api.mutate("resendPasswordResetCode", requestId=handle)


def test_handles_that_are_made_up_count_for_their_client_alone_and_fill_no_memory(
    api: API, settings: Any, counting: str
) -> None:
    settings.THROTTLE_STATUS_PER_IP = "3/minute"
    made_up = API(Client())
    handle = api.request()["requestId"]
    asked = [f"{handle[:-4]}AAAA", "nonsense", f"{handle[:-4]}BAAA", f"{handle[:-4]}CAAA"]
    assert [look(made_up, each).status_code for each in asked] == [200, 200, 200, 429]
    assert not [key for key in counter._memory._times if key.startswith("handle:")]
    assert look(made_up, handle).status_code == 200, "a good handle is nobody's to shut out"


def test_what_one_handle_is_asked_does_not_count_for_another(settings: Any) -> None:
    settings.THROTTLE_STATUS_PER_HANDLE = "1/minute"
    one, other = ForgetPassword(), ForgetPassword()
    for record in (one, other):
        rules.check_client_may_use_handle("198.51.100.1", record.pk)


def test_a_reset_by_hand_with_a_page_that_asks_each_second_meets_no_limit(
    api: API, post: PostOffice, user: Any, later: Callable[..., None]
) -> None:
    handle = api.request()["requestId"]
    letter = post.deliver_one()
    for _ in range(120):
        assert look(api, handle).status_code == 200
        later(seconds=1)
    token = api.verify(handle, letter.code)["resetToken"]
    assert api.reset(token, NEW_PASSWORD)["__typename"] == "ResetPasswordSuccess"
