"""Wrong codes of the whole site: with enough of them codes stop, and links let owners in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from django.test import Client

from accounts import transitions
from accounts.exceptions import RateLimited
from accounts.limits import rules
from accounts.mailing import mailer
from accounts.models import ForgetPassword, GuessBudget
from tests.conftest import API, PostOffice, record_of
from tests.test_mailer import taking

EVERYBODY = ["ada@example.com", "nobody@example.com"]
Later = Callable[..., None]


@pytest.fixture
def few(settings: Any) -> Any:
    """Three wrong codes an hour are enough, so that nobody has to type five hundred."""
    settings.THROTTLE_WRONG_CODES = "3/hour"
    return settings


def wrong(code: str) -> str:
    return f"{(int(code or 0) + 1) % 10**6:06}"


def stop(api: API) -> None:
    """Guess wrongly until codes stop, on rows of addresses that nobody has."""
    for number in range(4):
        handle = api.request(f"stranger{number}@example.com")["requestId"]
        if api.verify(handle, "000000")["__typename"] == "RateLimitedError":
            return
    raise AssertionError


# --- What is counted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", EVERYBODY)
def test_when_the_site_has_had_enough_wrong_codes_none_is_compared(
    api: API, post: PostOffice, user: Any, few: Any, counting: str, later: Later, email: str
) -> None:
    handle = api.request(email)["requestId"]
    code = next((letter.code for letter in post.deliver()), "")
    for number in range(3):
        clients = API(Client(REMOTE_ADDR=f"198.51.100.{number}"))
        assert clients.verify(handle, wrong(code))["__typename"] == "InvalidCodeError"
    refused = api.verify(handle, code or "000000")
    assert (refused["__typename"], refused["retryAfter"]) == ("RateLimitedError", 3600)
    assert refused["message"] == (
        "Codes are not accepted just now. The link in the email works instead, for 60 minutes."
    )


def test_guesses_at_known_and_unknown_addresses_fill_one_window(
    api: API, post: PostOffice, user: Any, few: Any
) -> None:
    handles = [api.request(email)["requestId"] for email in EVERYBODY]
    code = post.deliver_one().code
    answers = [api.verify(handles[number % 2], wrong(code))["__typename"] for number in range(4)]
    assert answers == ["InvalidCodeError"] * 3 + ["RateLimitedError"]


def test_a_right_code_is_given_back(
    api: API, post: PostOffice, user: Any, few: Any, counting: str, later: Later
) -> None:
    for _ in range(4):
        handle = api.request()["requestId"]
        assert api.verify(handle, post.deliver_one().code)["__typename"] == "VerifyPasswordResetCodeSuccess"
        later(seconds=61)
    assert rules.codes_are_served()
    stop(api)


def test_a_guess_that_is_not_compared_is_not_counted(api: API, post: PostOffice, user: Any, few: Any) -> None:
    handle = api.request()["requestId"]
    code = post.deliver_one().code
    for _ in range(4):
        assert api.verify(handle, "12345")["__typename"] == "InvalidCodeError"
    GuessBudget.objects.update_or_create(
        email_digest=record_of(handle).email_digest, defaults={"in_a_row": 100, "day": "2026-03-01"}
    )
    for _ in range(4):
        assert api.verify(handle, wrong(code))["__typename"] == "InvalidCodeError"
    GuessBudget.objects.all().delete()
    api.mutate("cancelPasswordReset", requestId=handle)
    for _ in range(4):
        assert api.verify(handle, wrong(code))["__typename"] == "InvalidCodeError"
    assert rules.codes_are_served()


@pytest.mark.parametrize("overtaken", ["count_attempt", "spend"])
def test_a_guess_whose_budget_somebody_else_has_just_spent_is_given_back(
    api: API, few: Any, monkeypatch: pytest.MonkeyPatch, overtaken: str
) -> None:
    handle = api.request()["requestId"]
    monkeypatch.setattr(transitions, overtaken, lambda *_: False)
    for _ in range(4):
        assert api.verify(handle, "000000")["__typename"] == "InvalidCodeError"
    assert rules.codes_are_served()


def test_a_refused_guess_costs_neither_the_reset_nor_its_address_anything(
    api: API, post: PostOffice, user: Any, few: Any
) -> None:
    handle = api.request()["requestId"]
    post.deliver()
    stop(api)
    before = api.status(handle)
    for _ in range(6):
        assert api.verify(handle, "000000")["__typename"] == "RateLimitedError"
    assert api.status(handle) == before
    assert not GuessBudget.objects.filter(email_digest=record_of(handle).email_digest).exists()


def test_of_guesses_side_by_side_exactly_as_many_are_compared_as_the_site_allows(counting: str, few: Any) -> None:
    def passes(_: int) -> bool:
        try:
            rules.count_guess()
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(passes, range(32))) == 3


# --- While codes are stopped -----------------------------------------------------------------------------------------


def test_mails_carry_the_link_alone_and_it_lets_the_owner_in(api: API, post: PostOffice, user: Any, few: Any) -> None:
    stop(api)
    handle = api.request()["requestId"]
    letter = post.deliver_one()
    assert letter.code == ""
    assert (api.status(handle) or {})["status"] == "SENT"
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


def test_the_link_of_a_mail_that_came_before_lets_the_owner_in(api: API, post: PostOffice, user: Any, few: Any) -> None:
    handle = api.request()["requestId"]
    letter = post.deliver_one()
    stop(api)
    assert api.verify(handle, letter.code)["__typename"] == "RateLimitedError"
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


def test_what_is_rehearsed_for_a_decoy_carries_the_link_alone_as_well(api: API, user: Any, few: Any) -> None:
    stop(api)
    ForgetPassword.objects.all().delete()
    for email in EVERYBODY:
        api.request(email)
    server = taking()
    mailer.look()
    mailer.send_due(server, 10)
    (real,), (rehearsed,) = server.sent, server.rehearsed
    assert (real.code, rehearsed.code) == ("", "")
    assert len(real.token) == len(rehearsed.token)
    assert real.message.subject == rehearsed.message.subject


@pytest.mark.parametrize("email", EVERYBODY)
def test_known_and_unknown_see_the_same_before_meanwhile_and_after(
    api: API, post: PostOffice, user: Any, few: Any, later: Later, email: str
) -> None:
    stop(api)
    later(minutes=50)
    handle = api.request(email)["requestId"]
    post.deliver()
    seen = []
    for _ in range(3):
        answer = api.verify(handle, "000000")
        seen.append((answer["__typename"], answer.get("retryAfter"), (api.status(handle) or {})["attemptsLeft"]))
        later(minutes=5)
    assert seen == [("RateLimitedError", 600, 5), ("RateLimitedError", 300, 5), ("InvalidCodeError", None, 4)]


def test_codes_are_mailed_and_accepted_again_when_it_is_over(
    api: API, post: PostOffice, user: Any, few: Any, later: Later
) -> None:
    stop(api)
    handle = api.request()["requestId"]
    assert post.deliver_one().code == ""
    later(hours=1)
    handle = api.request()["requestId"]
    code = next(letter.code for letter in post.deliver() if letter.code)
    assert api.verify(handle, code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_a_site_that_wants_no_codes_mails_links_alone(api: API, post: PostOffice, user: Any, settings: Any) -> None:
    settings.THROTTLE_WRONG_CODES = "0/hour"
    handle = api.request()["requestId"]
    letter = post.deliver_one()
    assert letter.code == ""
    assert api.verify(handle, "000000")["__typename"] == "RateLimitedError"
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


# --- What the operator is told ---------------------------------------------------------------------------------------


def test_the_log_says_once_that_codes_stop_and_once_that_it_is_over(
    api: API, settings: Any, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    settings.THROTTLE_WRONG_CODES = "10/hour"
    for _ in range(80):  # an attack that goes on at the brink: as guesses leave the window, others fill their place
        with suppress(RateLimited):
            for _ in range(4):
                rules.count_guess()
        rules.codes_are_served()
        later(minutes=1)
    later(hours=1)
    assert [rules.codes_are_served() for _ in range(3)] == [True] * 3
    told = [record for record in caplog.records if record.name == rules.__name__]
    assert [record.levelno for record in told] == [logging.WARNING] * 2
    assert "have reached THROTTLE_WRONG_CODES (10/hour)" in told[0].getMessage()
    assert "are below half of THROTTLE_WRONG_CODES again" in told[1].getMessage()


def test_the_health_page_says_that_codes_are_stopped(api: API, few: Any, later: Later) -> None:
    stop(api)
    PostOffice().deliver()
    answer = Client().get("/health/").json()
    assert (answer["status"], answer["codes"]) == ("degraded", "stopped")
    later(hours=1)
    answer = Client().get("/health/").json()
    assert (answer["status"], answer["codes"]) == ("ok", "ok")
