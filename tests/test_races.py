"""Many at once, on real threads and real connections: what may succeed once succeeds once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.test import Client

from accounts.models import ForgetPassword, GuessBudget
from tests.conftest import API, NEW_PASSWORD, PASSWORD, PostOffice, record_of

pytestmark = pytest.mark.django_db(transaction=True)

CROWD = 20


def at_once(*calls: Callable[[API], Any]) -> list[Any]:
    """Run calls side by side, each with a client and a database connection of its own, all let go together."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[API], Any]) -> Any:
        try:
            gate.wait(timeout=30)
            return call(API(Client()))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def kinds(answers: list[dict[str, Any]]) -> Counter[str]:
    return Counter(answer["__typename"] for answer in answers)


@pytest.fixture(autouse=True)
def _room(settings: Any) -> None:
    settings.THROTTLE_VERIFY_PER_IP = settings.THROTTLE_REQUEST_PER_IP = "10000/hour"


@pytest.fixture
def mailed(api: API, post: PostOffice, user: Any) -> tuple[str, Any]:
    handle = api.request()["requestId"]
    return handle, post.deliver_one()


def test_one_code_buys_one_token(mailed: tuple[str, Any]) -> None:
    handle, letter = mailed
    answers = at_once(*[lambda api: api.verify(handle, letter.code)] * CROWD)
    assert kinds(answers)["VerifyPasswordResetCodeSuccess"] == 1


def test_one_link_sets_one_password(mailed: tuple[str, Any]) -> None:
    _, letter = mailed
    answers = at_once(*[lambda api: api.reset(letter.token)] * CROWD)
    assert kinds(answers) == {"ResetPasswordSuccess": 1, "InvalidResetTokenError": CROWD - 1}


def test_one_code_token_sets_one_password(mailed: tuple[str, Any], api: API) -> None:
    handle, letter = mailed
    token = api.verify(handle, letter.code)["resetToken"]
    answers = at_once(*[lambda api: api.reset(token)] * CROWD)
    assert kinds(answers) == {"ResetPasswordSuccess": 1, "InvalidResetTokenError": CROWD - 1}


def test_guesses_side_by_side_are_all_counted(mailed: tuple[str, Any]) -> None:
    handle, letter = mailed
    wrong = "000000" if letter.code != "000000" else "000001"
    answers = at_once(*[lambda api: api.verify(handle, wrong)] * CROWD)
    assert kinds(answers) == {"InvalidCodeError": CROWD}
    assert record_of(handle).attempts == 5
    assert GuessBudget.objects.get().used_today == 5


def test_exactly_ten_guesses_a_day_pass_over_many_resets(api: API, post: PostOffice, user: Any, settings: Any) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    handles = [api.request()["requestId"] for _ in range(5)]
    letters = post.deliver()
    wrong = next(code for code in ("000000", "111111", "222222") if code not in {each.code for each in letters})
    at_once(*[lambda api, handle=handle: api.verify(handle, wrong) for handle in handles * 4])
    assert GuessBudget.objects.get().used_today == 10


def test_two_resets_of_one_account_side_by_side_change_it_once(
    api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    for _ in range(4):
        api.request()
    tokens = [letter.token for letter in post.deliver()]
    answers = at_once(*[lambda api, token=token: api.reset(token) for token in tokens * 4])
    assert kinds(answers)["ResetPasswordSuccess"] == 1
    assert ForgetPassword.objects.filter(is_user_password_updated=True).count() == 1
    assert ForgetPassword.objects.exclude(killed_at=None).count() == 3


def test_a_cancel_beside_a_verification_leaves_one_winner(mailed: tuple[str, Any], api: API) -> None:
    handle, letter = mailed
    answers = at_once(
        *[lambda api: api.verify(handle, letter.code)] * 4,
        *[lambda api: api.mutate("cancelPasswordReset", requestId=handle)] * 4,
    )
    assert kinds(answers)["VerifyPasswordResetCodeSuccess"] <= 1
    assert api.status(handle)["status"] == "CANCELLED"  # type: ignore[index]
    for token in [answer["resetToken"] for answer in answers if "resetToken" in answer]:
        assert api.reset(token)["__typename"] == "InvalidResetTokenError"


def test_one_idempotency_key_makes_one_row(db: None) -> None:
    """With the cooldown as it is: the second of two must find the first, and not what the first has used up."""
    answers = at_once(*[lambda api: api.request("ada@example.com", idempotencyKey="k" * 22)] * CROWD)
    assert len({answer["requestId"] for answer in answers}) == 1
    assert ForgetPassword.objects.count() == 1


def test_one_mail_is_sent_by_one_of_many_mailers(api: API, user: Any) -> None:
    api.request()
    at_once(*[lambda _: PostOffice().deliver()] * 8)
    assert len(mail.outbox) == 1


def test_one_report_is_heard_once(mailed: tuple[str, Any], api: API, post: PostOffice) -> None:
    _, letter = mailed
    api.reset(letter.token)
    post.deliver()
    answers = at_once(*[lambda api: api.report(letter.report)] * CROWD)
    assert kinds(answers) == {"ReportPasswordResetSuccess": 1, "InvalidResetTokenError": CROWD - 1}
    assert ForgetPassword.objects.filter(answers__isnull=False).count() == 1
    assert len(post.deliver()) == 1


def test_a_report_beside_the_reset_it_is_about_leaves_nobody_with_the_new_password(
    mailed: tuple[str, Any], post: PostOffice, user: Any
) -> None:
    """Whichever comes first: a reported reset cannot complete, and a completed one that is reported is locked."""
    _, letter = mailed
    answers = at_once(*[lambda api: api.reset(letter.token)] * 4, *[lambda api: api.report(letter.report)] * 4)
    assert kinds(answers)["ReportPasswordResetSuccess"] == 1
    (reported,) = [answer for answer in answers if answer["__typename"] == "ReportPasswordResetSuccess"]
    assert reported["freshLink"] == kinds(answers)["ResetPasswordSuccess"]
    user.refresh_from_db()
    assert not user.check_password(NEW_PASSWORD)
    assert user.check_password(PASSWORD) != reported["freshLink"]


@pytest.mark.parametrize("round_", range(4))
def test_resets_and_reports_of_accounts_that_share_an_address_never_wait_for_each_other(
    api: API, post: PostOffice, make_user: Callable[..., Any], settings: Any, round_: int
) -> None:
    """Each ends the others' rows; locked in any order but one they would end in a deadlock, which is a server error."""
    settings.PASSWORD_RESET_COOLDOWN = 0
    settings.THROTTLE_REQUEST_PER_EMAIL = "100/hour"
    users = [make_user("two@example.com", "first"), make_user("TWO@example.com", "second")]
    for _ in range(6):
        api.request("two@example.com")
    letters = post.deliver()
    answers = at_once(
        *[lambda api, token=token: api.reset(token) for letter in letters[:4] for token in letter.tokens],
        *[lambda api, letter=letter: api.report(letter.report) for letter in letters],
    )
    assert kinds(answers)["ReportPasswordResetSuccess"] == len(letters)
    for user in users:
        user.refresh_from_db()
        assert user.has_usable_password()
