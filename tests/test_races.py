"""Many at once, on real threads and real connections: what may succeed once succeeds once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.db import connection, connections
from django.db.models import F
from django.test import Client

from accounts import transitions
from accounts.choices import EventKind, Mail, State
from accounts.conf import conf
from accounts.mailing import mailer, smtp
from accounts.models import ForgetPassword, GuessBudget, PasswordResetEvent
from accounts.passwords import hashing, policy
from tests.conftest import API, NEW_PASSWORD, PASSWORD, Letter, PostOffice, record_of

pytestmark = pytest.mark.django_db(transaction=True)

CROWD = 50


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd waits for its turn however busy the machine is: nobody is sent away for that."""
    monkeypatch.setattr(policy._turn, "patience", 60.0)
    monkeypatch.setattr(hashing.slots(conf.HASH_CONCURRENCY), "patience", 60.0)


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


def test_a_code_token_and_a_link_set_one_password(mailed: tuple[str, Any], api: API) -> None:
    handle, letter = mailed
    tokens = (api.verify(handle, letter.code)["resetToken"], letter.token)
    answers = at_once(*[lambda api, token=token: api.reset(token) for token in tokens * (CROWD // 2)])
    assert kinds(answers) == {"ResetPasswordSuccess": 1, "InvalidResetTokenError": CROWD - 1}
    assert PasswordResetEvent.objects.filter(kind=EventKind.COMPLETED).count() == 1


# --- Guesses ---------------------------------------------------------------------------------------------------------


def wrong_for(letters: list[Letter]) -> str:
    right = {letter.code for letter in letters}
    return next(code for code in ("000000", "111111", "222222", "333333", "444444", "555555") if code not in right)


def compared() -> int:
    """How many guesses got as far as a comparison."""
    return PasswordResetEvent.objects.filter(kind=EventKind.WRONG_CODE).count()


def test_of_guesses_side_by_side_five_are_compared_and_counted(mailed: tuple[str, Any]) -> None:
    handle, letter = mailed
    answers = at_once(*[lambda api: api.verify(handle, wrong_for([letter]))] * CROWD)
    assert kinds(answers) == {"InvalidCodeError": CROWD}
    assert (compared(), record_of(handle).attempts, GuessBudget.objects.get().used_today) == (5, 5, 5)


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_exactly_ten_guesses_a_day_pass_over_many_resets(
    api: API, post: PostOffice, user: Any, settings: Any, email: str
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    handles = [api.request(email)["requestId"] for _ in range(5)]
    wrong = wrong_for(post.deliver())
    at_once(*[lambda api, handle=handle: api.verify(handle, wrong) for handle in handles * (CROWD // 5)])
    assert (compared(), GuessBudget.objects.get().used_today) == (10, 10)


def test_of_guesses_side_by_side_none_is_the_hundred_and_first_in_a_row(
    api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    handles = [api.request()["requestId"] for _ in range(5)]
    wrong = wrong_for(post.deliver())
    api.verify(handles[0], wrong)
    GuessBudget.objects.update(in_a_row=97, used_today=0)
    at_once(*[lambda api, handle=handle: api.verify(handle, wrong) for handle in handles * (CROWD // 5)])
    assert (compared(), GuessBudget.objects.get().in_a_row) == (1 + 3, 100)


def test_a_link_works_while_its_codes_are_guessed(mailed: tuple[str, Any]) -> None:
    handle, letter = mailed
    *_, answer = at_once(
        *[lambda api: api.verify(handle, wrong_for([letter]))] * (CROWD - 1), lambda api: api.reset(letter.token)
    )
    assert answer["__typename"] == "ResetPasswordSuccess"


# --- Two verbs at one time -------------------------------------------------------------------------------------------


def test_resets_of_one_account_side_by_side_change_it_once_and_wait_for_each_other_in_no_circle(
    api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    for _ in range(4):
        api.request()
    tokens = [letter.token for letter in post.deliver()]
    answers = at_once(*[lambda api, token=token: api.reset(token) for token in tokens * (CROWD // 4)])
    assert kinds(answers) == {"ResetPasswordSuccess": 1, "InvalidResetTokenError": len(answers) - 1}
    assert ForgetPassword.objects.filter(is_user_password_updated=True).count() == 1
    assert ForgetPassword.objects.exclude(superseded_at=None).count() == 3


def test_two_resets_of_one_account_lock_its_rows_in_one_order(
    api: API, post: PostOffice, user: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both come to the locks at once; were either's own row locked by then, they would wait for each other."""
    settings.PASSWORD_RESET_COOLDOWN = 0
    for _ in range(2):
        api.request()
    tokens = [letter.token for letter in post.deliver()]
    both, hold = threading.Barrier(2), transitions.hold

    def hold_when_both_are_here(*arguments: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=1)
        return hold(*arguments)

    monkeypatch.setattr(transitions, "hold", hold_when_both_are_here)
    answers = at_once(*[lambda api, token=token: api.reset(token) for token in tokens])
    assert kinds(answers) == {"ResetPasswordSuccess": 1, "InvalidResetTokenError": 1}


def test_resets_of_many_accounts_side_by_side_all_succeed(
    api: API, post: PostOffice, make_user: Callable[..., Any], settings: Any
) -> None:
    for number in range(10):
        make_user(f"user{number}@example.com")
        api.request(f"user{number}@example.com")
    answers = at_once(*[lambda api, token=letter.token: api.reset(token) for letter in post.deliver()])
    assert kinds(answers) == {"ResetPasswordSuccess": 10}


def test_a_cancel_beside_a_verification_leaves_one_winner(mailed: tuple[str, Any], api: API) -> None:
    handle, letter = mailed
    answers = at_once(
        *[lambda api: api.verify(handle, letter.code)] * 4,
        *[lambda api: api.mutate("cancelPasswordReset", requestId=handle)] * (CROWD - 4),
    )
    assert kinds(answers)["VerifyPasswordResetCodeSuccess"] <= 1
    assert api.status(handle)["status"] == "CANCELLED"  # type: ignore[index]
    for token in [answer["resetToken"] for answer in answers if "resetToken" in answer]:
        assert api.reset(token)["__typename"] == "InvalidResetTokenError"


def test_a_resend_beside_a_verification_leaves_a_token_or_a_mail_that_works(
    mailed: tuple[str, Any], api: API, post: PostOffice, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    handle, letter = mailed
    answers = at_once(
        *[lambda api: api.verify(handle, letter.code)] * 4,
        *[lambda api: api.mutate("resendPasswordResetCode", requestId=handle)] * 4,
    )
    tokens = [answer["resetToken"] for answer in answers if "resetToken" in answer]
    assert len(tokens) <= 1
    if record_of(handle).state == State.SENT:
        tokens = [api.verify(handle, post.deliver()[-1].code)["resetToken"]]
    assert api.reset(tokens[0])["__typename"] == "ResetPasswordSuccess"


def test_one_idempotency_key_makes_one_row(db: None) -> None:
    """With the cooldown as it is: the second of two must find the first, and not what the first has used up."""
    answers = at_once(*[lambda api: api.request("ada@example.com", idempotencyKey="k" * 22)] * CROWD)
    assert len({answer["requestId"] for answer in answers}) == 1
    assert ForgetPassword.objects.count() == 1


def test_one_idempotency_key_that_is_used_anew_after_its_hour_makes_one_row_more(api: API, settings: Any) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    old = api.request("ada@example.com", idempotencyKey="k" * 22)["requestId"]
    ForgetPassword.objects.update(created_at=F("created_at") - timedelta(hours=1, seconds=1))
    answers = at_once(*[lambda api: api.request("ada@example.com", idempotencyKey="k" * 22)] * CROWD)
    assert len({answer["requestId"] for answer in answers} - {old}) == 1
    assert ForgetPassword.objects.count() == 2


def just_before_its_lock(verb: Callable[[API], Any], meanwhile: Callable[[API], Any]) -> tuple[Any, Any]:
    """Call a verb and, between all that it reads and the first row that it locks, another; returns both answers."""
    answers: list[Any] = []

    def let_the_other_pass(execute: Any, sql: str, *rest: Any) -> Any:
        # On SQLite a transaction keeps all others out from its first word on.
        if (sql.startswith(("BEGIN", "UPDATE")) or "FOR UPDATE" in sql) and not answers:
            answers.extend(at_once(meanwhile))
        return execute(sql, *rest)

    with connection.execute_wrapper(let_the_other_pass):
        return verb(API(Client())), *answers


CALLS: dict[str, Callable[[API, str, Any], Any]] = {
    "cancel": lambda api, handle, _: api.mutate("cancelPasswordReset", requestId=handle),
    "resend": lambda api, handle, _: api.mutate("resendPasswordResetCode", requestId=handle),
    "verify": lambda api, handle, letter: api.verify(handle, letter.code),
    "link": lambda api, _, letter: api.reset(letter.token),
}


@pytest.mark.parametrize(
    ("verb", "meanwhile", "answer", "shown"),
    [
        ("cancel", "link", "CancelPasswordResetSuccess", "COMPLETED"),
        ("cancel", "verify", "CancelPasswordResetSuccess", "CANCELLED"),
        ("resend", "cancel", "UnknownRequestError", "CANCELLED"),
        ("resend", "link", "UnknownRequestError", "COMPLETED"),
        ("verify", "verify", "InvalidCodeError", "VERIFIED"),
        ("verify", "cancel", "InvalidCodeError", "CANCELLED"),
        ("verify", "link", "InvalidCodeError", "COMPLETED"),
        ("link", "link", "InvalidResetTokenError", "COMPLETED"),
        ("link", "cancel", "ResetPasswordSuccess", "COMPLETED"),
    ],
)
def test_a_verb_that_is_overtaken_undoes_nothing(
    mailed: tuple[str, Any], api: API, settings: Any, verb: str, meanwhile: str, answer: str, shown: str
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    slow, fast = just_before_its_lock(lambda api: CALLS[verb](api, *mailed), lambda api: CALLS[meanwhile](api, *mailed))
    assert "Success" in fast["__typename"]
    assert slow["__typename"] == answer
    assert api.status(mailed[0])["status"] == shown  # type: ignore[index]


# --- The mailer and a verb at one time -------------------------------------------------------------------------------


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
    assert ForgetPassword.objects.filter(fresh_link_for__isnull=False).count() == 1
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


def test_one_row_is_looked_at_by_one_of_many_mailers(api: API, user: Any) -> None:
    api.request()
    found = at_once(*[lambda _: mailer.look().looked] * 8)
    assert sum(found) == 1
    assert PasswordResetEvent.objects.count() == 1


def test_resends_beside_the_mailers_leave_a_mail_whose_code_works(
    mailed: tuple[str, Any], api: API, post: PostOffice, settings: Any
) -> None:
    """The code is old, so that the claims move the generation on; it only ever moves on."""
    settings.PASSWORD_RESET_COOLDOWN = 0
    handle, _ = mailed
    long_ago = {name: F(name) - timedelta(minutes=6) for name in ("code_issued_at", "sent_at", "looked_at")}
    ForgetPassword.objects.update(**long_ago)
    answers = at_once(
        *[lambda api: api.mutate("resendPasswordResetCode", requestId=handle)] * 10,
        *[lambda _: PostOffice().deliver()] * 10,
    )
    accepted = kinds(answers[:10])["ResendPasswordResetCodeSuccess"]
    post.deliver()
    record = record_of(handle)
    assert 1 <= accepted == record.resends <= 3
    assert record.mail_due == Mail.NONE
    generations = [int(str(each.extra_headers["Message-ID"]).split("@")[0].split(".")[2]) for each in mail.outbox]
    assert max(generations) == record.generation > min(generations)
    newest = Letter(mail.outbox[generations.index(record.generation)])
    assert api.verify(handle, newest.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


class Held(smtp.Connection):
    """A mail server that has taken a mail, and says so only when it is let to."""

    def __init__(self) -> None:
        super().__init__()
        self.has_mail, self.may_answer = threading.Event(), threading.Event()

    def send(self, message: EmailMessage, *, lease_ends: float = 0.0) -> str:
        super().send(message, lease_ends=lease_ends)
        self.has_mail.set()
        assert self.may_answer.wait(30)
        return ""


def test_a_resend_while_a_mail_is_being_taken_is_not_settled_with_it(
    api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    handle, server = api.request()["requestId"], Held()
    mailer.look()

    def ask_once_more(api: API) -> None:
        assert server.has_mail.wait(30)
        api.mutate("resendPasswordResetCode", requestId=handle)
        server.may_answer.set()

    at_once(lambda _: mailer.send_due(server, 1), ask_once_more)
    assert record_of(handle).mail_due == Mail.CODE
    first, again = post.deliver()
    assert first.code == again.code


def test_a_cancel_beside_the_mailers_leaves_a_link_that_works_and_no_code(
    api: API, post: PostOffice, user: Any
) -> None:
    handle = api.request()["requestId"]
    at_once(
        *[lambda api: api.mutate("cancelPasswordReset", requestId=handle)] * 4,
        *[lambda _: PostOffice().deliver()] * 4,
    )
    letters = [*map(Letter, mail.outbox), *post.deliver()]
    assert {api.verify(handle, letter.code or "000000")["__typename"] for letter in letters} == {"InvalidCodeError"}
    assert api.reset(letters[-1].token)["__typename"] == "ResetPasswordSuccess"
