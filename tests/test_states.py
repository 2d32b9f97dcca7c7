"""The verb and state table of docs/states.md, cell by cell.

Each state is reached as a user would reach it, for a known address and, where one can get there at all, for an unknown
one: the decoy must answer every verb as the known one does, but for the right code and the link, which it has not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import codes
from accounts.choices import Mail, State
from accounts.mailing import mailer
from accounts.models import ForgetPassword, GuessBudget
from accounts.recovery import verbs
from tests.conftest import API, Letter, PostOffice, record_of

KNOWN, DECOY = "ada@example.com", "nobody@example.com"


@dataclass
class Reset:
    """A reset that has been brought into a state, and what its holder and its mailbox have in hand."""

    id: str
    letters: list[Letter]
    token: str = ""

    @property
    def record(self) -> ForgetPassword:
        return record_of(self.id)

    @property
    def code(self) -> str:
        return self.letters[0].code

    @property
    def link(self) -> str:
        return self.letters[0].token

    @property
    def wrong_code(self) -> str:
        right = self.letters[0].code if self.letters else ""
        return "000000" if right != "000000" else "000001"


@pytest.fixture
def bring(
    api: API, post: PostOffice, user: Any, make_user: Callable[..., Any], later: Callable[..., None]
) -> Callable[[str, str], Reset]:
    """Make a reset and bring it into a state, by name."""

    def bring_it(state: str, email: str = KNOWN) -> Reset:
        reset = Reset(api.request(email)["requestId"], [])
        if state == "QUEUED":
            return reset
        if state == "CANCELLED BEFORE MAILED":
            api.mutate("cancelPasswordReset", requestId=reset.id)
            return reset
        reset.letters = post.deliver()
        if state in ("VERIFIED", "COMPLETED"):
            reset.token = api.verify(reset.id, reset.code)["resetToken"]
        if state == "COMPLETED":
            api.reset(reset.token)
            reset.letters += post.deliver()
        elif state == "CANCELLED":
            api.mutate("cancelPasswordReset", requestId=reset.id)
        elif state == "LOCKED":
            for _ in range(5):
                api.verify(reset.id, reset.wrong_code)
        elif state == "EXPIRED":
            later(minutes=10)
        elif state == "CLOSED":
            later(minutes=60)
        elif state == "KILLED":
            later(seconds=61)
            other = api.request(email)["requestId"]
            (letter,) = post.deliver()
            api.reset(letter.token)
            post.deliver()
            assert api.status(other)["status"] == "COMPLETED"  # type: ignore[index]
        return reset

    return bring_it


# --- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("QUEUED", "QUEUED"),
        ("SENT", "SENT"),
        ("VERIFIED", "VERIFIED"),
        ("COMPLETED", "COMPLETED"),
        ("CANCELLED", "CANCELLED"),
        ("CANCELLED BEFORE MAILED", "CANCELLED"),
        ("EXPIRED", "EXPIRED"),
        ("CLOSED", "EXPIRED"),
        ("LOCKED", "LOCKED"),
        ("KILLED", "SENT"),
    ],
)
def test_status_is_shown(bring: Any, api: API, state: str, shown: str) -> None:
    assert api.status(bring(state).id)["status"] == shown  # type: ignore[index]


@pytest.mark.parametrize("state", ["QUEUED", "SENT", "CANCELLED", "EXPIRED", "CLOSED", "LOCKED"])
def test_status_of_a_decoy_is_that_of_a_known_address(bring: Any, api: API, state: str) -> None:
    known, decoy = api.status(bring(state).id), api.status(bring(state, DECOY).id)
    assert known is not None
    assert decoy is not None
    for private in ("requestId", "matchPhrase", "createdAt", "expiresAt", "resendAvailableAt"):
        assert (known.pop(private) is None) == (decoy.pop(private) is None)
    assert known == decoy


def test_status_of_a_handle_never_issued_is_null(api: API) -> None:
    assert api.status("A" * 43) is None


def test_verified_becomes_expired_when_its_token_dies(bring: Any, api: API, later: Callable[..., None]) -> None:
    reset = bring("VERIFIED")
    later(minutes=9, seconds=59)
    assert api.status(reset.id)["status"] == "VERIFIED"  # type: ignore[index]
    later(seconds=1)
    assert api.status(reset.id)["status"] == "EXPIRED"  # type: ignore[index]


def test_a_killed_reset_runs_on_to_expired_as_a_decoys_would(bring: Any, api: API, later: Callable[..., None]) -> None:
    reset = bring("KILLED")
    later(minutes=10)
    assert api.status(reset.id)["status"] == "EXPIRED"  # type: ignore[index]


# --- resend ----------------------------------------------------------------------------------------------------------


def resend(api: API, reset_id: str) -> dict[str, Any]:
    return api.mutate("resendPasswordResetCode", requestId=reset_id)


@pytest.mark.parametrize("email", [KNOWN, DECOY])
@pytest.mark.parametrize(
    ("state", "answer", "shown"),
    [
        ("QUEUED", "ResendPasswordResetCodeSuccess", "QUEUED"),
        ("SENT", "ResendPasswordResetCodeSuccess", "SENT"),
        ("CANCELLED", "UnknownRequestError", None),
        ("EXPIRED", "ResendPasswordResetCodeSuccess", "SENT"),
        ("CLOSED", "UnknownRequestError", None),
        ("LOCKED", "ResendPasswordResetCodeSuccess", "LOCKED"),
    ],
)
def test_resend(
    bring: Any, api: API, later: Callable[..., None], email: str, state: str, answer: str, shown: str | None
) -> None:
    reset = bring(state, email)
    later(minutes=1)
    answered = resend(api, reset.id)
    assert answered["__typename"] == answer
    assert (answered.get("reset") or {}).get("status") == shown


@pytest.mark.parametrize(
    ("state", "due"), [("SENT", Mail.CODE), ("VERIFIED", Mail.CODE), ("EXPIRED", Mail.CODE), ("LOCKED", Mail.LINK)]
)
def test_resend_owes_the_mail_again(bring: Any, api: API, later: Callable[..., None], state: str, due: Mail) -> None:
    reset = bring(state)
    assert reset.record.mail_due == Mail.NONE
    later(minutes=1)
    resend(api, reset.id)
    assert reset.record.mail_due == due


@pytest.mark.parametrize("state", ["SENT", "EXPIRED", "LOCKED"])
def test_resend_mails_nobody_for_a_decoy(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None], state: str
) -> None:
    reset = bring(state, DECOY)
    later(minutes=1)
    resend(api, reset.id)
    assert post.deliver() == []
    assert reset.record.mail_due == Mail.NONE


@pytest.mark.parametrize("email", [KNOWN, DECOY])
def test_resend_of_a_locked_reset_that_nobody_has_looked_at_leaves_it_as_it_is(
    bring: Any, api: API, later: Callable[..., None], email: str
) -> None:
    reset = bring("QUEUED", email)
    for _ in range(5):
        api.verify(reset.id, reset.wrong_code)
    later(minutes=1)
    assert resend(api, reset.id)["reset"]["status"] == "LOCKED"
    assert (reset.record.resends, reset.record.mail_due) == (0, Mail.CODE)


@pytest.mark.parametrize("email", [KNOWN, DECOY])
def test_resend_of_a_locked_reset_ends_with_its_hour(
    bring: Any, api: API, later: Callable[..., None], email: str
) -> None:
    reset = bring("LOCKED", email)
    later(minutes=60)
    assert resend(api, reset.id)["__typename"] == "UnknownRequestError"


def test_resend_while_queued_owes_no_second_mail(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None]
) -> None:
    reset = bring("QUEUED")
    later(minutes=1)
    resend(api, reset.id)
    assert len(post.deliver()) == 1
    assert reset.record.resends == 0


def test_resend_after_verification_kills_the_token(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None]
) -> None:
    reset = bring("VERIFIED")
    later(minutes=1)
    resend(api, reset.id)
    assert api.reset(reset.token)["__typename"] == "InvalidResetTokenError"
    assert api.verify(reset.id, post.deliver_one().code)["__typename"] == "VerifyPasswordResetCodeSuccess"
    assert api.reset(reset.token)["__typename"] == "InvalidResetTokenError"


@pytest.mark.parametrize("email", [KNOWN, DECOY])
def test_resend_restores_no_attempt(bring: Any, api: API, later: Callable[..., None], email: str) -> None:
    """NIST SP 800-63B-4 section 3.1.3.2: asking for another code is no way to go on guessing."""
    reset = bring("SENT", email)
    for left in (4, 3):
        assert api.verify(reset.id, reset.wrong_code)["attemptsLeft"] == left
    later(minutes=6)
    assert resend(api, reset.id)["reset"]["attemptsLeft"] == 3
    assert api.verify(reset.id, reset.wrong_code)["attemptsLeft"] == 2


@pytest.mark.parametrize("email", [KNOWN, DECOY])
def test_resend_waits_for_the_cooldown(bring: Any, api: API, later: Callable[..., None], email: str) -> None:
    reset = bring("SENT", email)
    later(seconds=59)
    assert resend(api, reset.id) | {"message": ""} == {"__typename": "RateLimitedError", "message": "", "retryAfter": 1}
    later(seconds=1)
    assert resend(api, reset.id)["__typename"] == "ResendPasswordResetCodeSuccess"


@pytest.mark.parametrize("email", [KNOWN, DECOY])
def test_resend_is_refused_after_three(bring: Any, api: API, later: Callable[..., None], email: str) -> None:
    reset = bring("SENT", email)
    for _ in range(3):
        later(minutes=1)
        assert resend(api, reset.id)["__typename"] == "ResendPasswordResetCodeSuccess"
    later(minutes=1)
    assert resend(api, reset.id)["__typename"] == "RateLimitedError"


def test_resend_of_a_completed_reset_is_unknown(bring: Any, api: API, later: Callable[..., None]) -> None:
    reset = bring("COMPLETED")
    later(minutes=1)
    assert resend(api, reset.id)["__typename"] == "UnknownRequestError"


def test_resend_of_a_killed_reset_mails_nobody(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None]
) -> None:
    reset = bring("KILLED")
    later(minutes=1)
    assert resend(api, reset.id)["__typename"] == "ResendPasswordResetCodeSuccess"
    assert post.deliver() == []


def test_resend_mails_the_same_code_while_it_is_young(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None]
) -> None:
    reset = bring("SENT")
    later(minutes=4, seconds=59)
    resend(api, reset.id)
    again = post.deliver_one()
    assert (again.code, again.token) == (reset.code, reset.link)


def test_resend_mails_a_new_code_once_half_its_life_is_over(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None]
) -> None:
    reset = bring("SENT")
    later(minutes=5)
    shown = resend(api, reset.id)["reset"]
    later(minutes=9)
    fresh = post.deliver_one()
    assert fresh.code != reset.code
    assert shown["expiresAt"] > shown["resendAvailableAt"]


def test_the_shown_clock_never_outlives_a_code_that_was_claimed_late(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None]
) -> None:
    reset = bring("QUEUED")
    mailer.look()
    later(minutes=2)
    post.deliver()
    later(minutes=3, seconds=30)
    resend(api, reset.id)
    fresh = post.deliver_one()
    later(minutes=9, seconds=59)
    assert api.status(reset.id)["status"] == "SENT"  # type: ignore[index]
    assert api.verify(reset.id, fresh.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_the_shown_clock_never_outlives_a_code_that_was_mailed_again(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None]
) -> None:
    reset = bring("SENT")
    first = api.status(reset.id)["expiresAt"]  # type: ignore[index]
    later(minutes=4)
    assert resend(api, reset.id)["reset"]["expiresAt"] == first
    post.deliver()
    later(minutes=6)
    assert api.verify(reset.id, reset.code)["__typename"] == "InvalidCodeError"
    assert api.status(reset.id)["status"] == "EXPIRED"  # type: ignore[index]


# --- verify ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", [KNOWN, DECOY])
@pytest.mark.parametrize(
    ("state", "left", "counted"),
    [
        ("QUEUED", 4, True),
        ("SENT", 4, True),
        ("CANCELLED", 0, False),
        ("EXPIRED", 4, True),
        ("CLOSED", 0, False),
        ("LOCKED", 0, False),
    ],
)
def test_verify_a_wrong_code(bring: Any, api: API, email: str, state: str, left: int, counted: bool) -> None:
    reset = bring(state, email)
    before = reset.record.attempts
    answer = api.verify(reset.id, reset.wrong_code)
    assert (answer["__typename"], answer["attemptsLeft"]) == ("InvalidCodeError", left)
    assert reset.record.attempts - before == counted


@pytest.mark.parametrize(("state", "left", "counted"), [("VERIFIED", 3, True), ("COMPLETED", 0, False)])
def test_verify_once_more(bring: Any, api: API, state: str, left: int, counted: bool) -> None:
    reset = bring(state)
    answer = api.verify(reset.id, reset.code)
    assert (answer["__typename"], answer["attemptsLeft"]) == ("InvalidCodeError", left)
    assert reset.record.attempts == 1 + counted


@pytest.mark.parametrize("state", ["CANCELLED", "LOCKED", "KILLED"])
def test_verify_the_right_code_in_a_state_that_refuses_it(bring: Any, api: API, state: str) -> None:
    reset = bring(state)
    assert api.verify(reset.id, reset.code)["__typename"] == "InvalidCodeError"


def test_verify_a_code_that_was_mailed_late_although_expired_is_shown(
    bring: Any, api: API, post: PostOffice, later: Callable[..., None]
) -> None:
    """Grey-listing: the shown clock started with Look, the code's own with the claim that mailed it."""
    reset = bring("QUEUED")
    mailer.look()
    later(minutes=11)
    assert api.status(reset.id)["status"] == "EXPIRED"  # type: ignore[index]
    letter = post.deliver_one()
    assert api.verify(reset.id, letter.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_verify_lasts_ten_minutes_and_not_a_second_longer(bring: Any, api: API, later: Callable[..., None]) -> None:
    reset = bring("SENT")
    later(minutes=9, seconds=59)
    assert api.verify(reset.id, reset.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_verify_is_over_after_ten_minutes(bring: Any, api: API, later: Callable[..., None]) -> None:
    reset = bring("SENT")
    later(minutes=10, seconds=1)
    assert api.verify(reset.id, reset.code)["__typename"] == "InvalidCodeError"


def test_verify_tells_the_locked_out_to_use_the_link(bring: Any, api: API) -> None:
    reset = bring("LOCKED")
    assert "link" in api.verify(reset.id, reset.code)["message"]
    assert api.reset(reset.link)["__typename"] == "ResetPasswordSuccess"


@pytest.mark.parametrize("typed", ["12345", "1234567", "", "abcdef", "12345a", "1e5000", "²³¹⁴⁵⁶"])
def test_verify_does_not_count_what_is_no_code(bring: Any, api: API, typed: str) -> None:
    reset = bring("SENT")
    answer = api.verify(reset.id, typed)
    assert (answer["__typename"], answer["attemptsLeft"]) == ("InvalidCodeError", 5)
    assert reset.record.attempts == 0


@pytest.mark.parametrize("form", ["{0} {1}", " {0}-{1} ", "{0}\u2013{1}", "{0}\u00a0{1}"])
def test_verify_ignores_spaces_and_dashes(bring: Any, api: API, form: str) -> None:
    reset = bring("SENT")
    typed = form.format(reset.code[:3], reset.code[3:])
    assert api.verify(reset.id, typed)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_verify_drops_what_was_copied_along_and_cannot_be_seen(bring: Any, api: API) -> None:
    reset = bring("SENT")
    copied = f"\u200b{reset.code[:3]}\u00ad{reset.code[3:]}\ufeff\u200e"
    assert api.verify(reset.id, copied)["__typename"] == "VerifyPasswordResetCodeSuccess"


@pytest.mark.parametrize("zero", ["\u0660", "\u0966", "\uff10"])
def test_verify_reads_the_digits_of_any_script(bring: Any, api: API, zero: str) -> None:
    reset = bring("SENT")
    typed = "".join(chr(ord(zero) + int(digit)) for digit in reset.code)
    assert api.verify(reset.id, typed)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_verify_refuses_the_code_of_another_reset(bring: Any, api: API, later: Callable[..., None]) -> None:
    first = bring("SENT")
    later(seconds=61)
    second = bring("SENT")
    assert api.verify(first.id, second.code)["__typename"] == "InvalidCodeError"
    assert api.verify(first.id, first.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_both_of_two_resets_stay_good_until_one_completes(bring: Any, api: API, later: Callable[..., None]) -> None:
    first = bring("SENT")
    later(seconds=61)
    second = bring("SENT")
    token = api.verify(second.id, second.code)["resetToken"]
    assert api.verify(first.id, first.code)["__typename"] == "VerifyPasswordResetCodeSuccess"
    assert api.reset(token)["__typename"] == "ResetPasswordSuccess"
    assert api.reset(first.link)["__typename"] == "InvalidResetTokenError"


# --- reset -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ("SENT", "ResetPasswordSuccess"),
        ("VERIFIED", "ResetPasswordSuccess"),
        ("COMPLETED", "InvalidResetTokenError"),
        ("CANCELLED", "ResetPasswordSuccess"),
        ("EXPIRED", "ResetPasswordSuccess"),
        ("LOCKED", "ResetPasswordSuccess"),
        ("KILLED", "InvalidResetTokenError"),
        ("CLOSED", "InvalidResetTokenError"),
    ],
)
def test_reset_by_link(bring: Any, api: API, user: Any, state: str, answer: str) -> None:
    reset = bring(state)
    user.refresh_from_db()
    before = user.password
    assert api.reset(reset.link)["__typename"] == answer
    user.refresh_from_db()
    assert (user.password != before) == (answer == "ResetPasswordSuccess")


def test_reset_by_link_works_even_when_the_holder_cancelled_before_the_mail(
    bring: Any, api: API, post: PostOffice
) -> None:
    bring("CANCELLED BEFORE MAILED")
    letter = post.deliver_one()
    assert letter.code == ""
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


def test_reset_by_link_lasts_an_hour_and_not_a_second_longer(bring: Any, api: API, later: Callable[..., None]) -> None:
    reset = bring("SENT")
    later(minutes=59, seconds=59)
    assert api.mutate("checkResetToken", resetToken=reset.link)["__typename"] == "CheckResetTokenSuccess"
    later(seconds=1)
    assert api.reset(reset.link)["__typename"] == "InvalidResetTokenError"


def test_reset_by_code_token_completes(bring: Any, api: API) -> None:
    reset = bring("VERIFIED")
    assert api.reset(reset.token)["reset"]["status"] == "COMPLETED"
    assert api.reset(reset.token)["__typename"] == "InvalidResetTokenError"


def test_reset_by_code_token_lasts_ten_minutes(bring: Any, api: API, later: Callable[..., None]) -> None:
    reset = bring("VERIFIED")
    later(minutes=10)
    assert api.reset(reset.token)["__typename"] == "InvalidResetTokenError"


def test_reset_by_code_token_is_refused_after_a_cancel(bring: Any, api: API) -> None:
    reset = bring("VERIFIED")
    api.mutate("cancelPasswordReset", requestId=reset.id)
    assert api.reset(reset.token)["__typename"] == "InvalidResetTokenError"


def test_a_refused_password_burns_nothing(bring: Any, api: API) -> None:
    reset = bring("VERIFIED")
    refused = api.reset(reset.token, "password")
    assert refused["__typename"] == "PasswordRejectedError"
    assert {"code": "password_too_short"} in refused["violations"]
    assert api.reset(reset.token)["__typename"] == "ResetPasswordSuccess"


def test_completing_one_reset_kills_the_accounts_others(bring: Any, api: API) -> None:
    reset = bring("KILLED")
    assert reset.record.superseded_at is not None
    assert api.mutate("checkResetToken", resetToken=reset.link)["__typename"] == "InvalidResetTokenError"


def test_a_password_changed_elsewhere_kills_code_and_link(bring: Any, api: API, user: Any) -> None:
    reset = bring("SENT")
    user.set_password("changed somewhere else entirely")
    user.save()
    assert api.verify(reset.id, reset.code)["__typename"] == "InvalidCodeError"
    assert api.reset(reset.link)["__typename"] == "InvalidResetTokenError"


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!unusable"}])
def test_an_account_closed_meanwhile_is_not_recovered(bring: Any, api: API, user: Any, change: dict[str, Any]) -> None:
    reset = bring("VERIFIED")
    type(user).objects.filter(pk=user.pk).update(**change)
    assert api.reset(reset.token)["__typename"] == "InvalidResetTokenError"
    assert api.reset(reset.link)["__typename"] == "InvalidResetTokenError"


# --- cancel, report --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", [KNOWN, DECOY])
@pytest.mark.parametrize("state", ["QUEUED", "SENT", "CANCELLED", "EXPIRED", "LOCKED"])
def test_cancel(bring: Any, api: API, email: str, state: str) -> None:
    reset = bring(state, email)
    answer = api.mutate("cancelPasswordReset", requestId=reset.id)
    assert answer["reset"]["status"] == "CANCELLED"
    assert reset.record.state == State.CANCELLED


def test_cancel_leaves_a_completed_reset_completed(bring: Any, api: API) -> None:
    reset = bring("COMPLETED")
    assert api.mutate("cancelPasswordReset", requestId=reset.id)["reset"]["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("resendPasswordResetCode", {}),
        ("verifyPasswordResetCode", {"code": "123456"}),
        ("cancelPasswordReset", {}),
    ],
)
@pytest.mark.parametrize("handle", ["", "A" * 43, "not a handle", "\u00e9" * 43, "A" * 5000])
def test_a_handle_never_issued_is_unknown(api: API, verb: str, more: dict[str, str], handle: str) -> None:
    assert api.mutate(verb, requestId=handle, **more)["__typename"] == "UnknownRequestError"


def test_a_handle_with_one_letter_changed_is_unknown(bring: Any, api: API) -> None:
    reset = bring("SENT")
    forged = reset.id[:-1] + ("A" if reset.id[-1] != "A" else "B")
    assert api.verify(forged, reset.code)["__typename"] == "UnknownRequestError"


@pytest.mark.parametrize("token", ["", "A" * 66, "x", "\u00e9" * 66, "A" * 5000])
@pytest.mark.parametrize(
    ("verb", "name", "more"),
    [
        ("resetPassword", "resetToken", {"newPassword": "thistle walnut comet raft 7"}),
        ("checkResetToken", "resetToken", {}),
        ("checkPassword", "resetToken", {"newPassword": "thistle walnut comet raft 7"}),
        ("reportPasswordReset", "reportToken", {}),
    ],
)
def test_a_token_never_issued_is_invalid(api: API, verb: str, name: str, more: dict[str, str], token: str) -> None:
    assert api.mutate(verb, **{name: token}, **more)["__typename"] == "InvalidResetTokenError"


@pytest.mark.parametrize("verb", ["checkResetToken", "resetPassword", "checkPassword"])
def test_a_link_made_up_for_ones_own_handle_costs_the_same_whoever_has_the_address(
    api: API, post: PostOffice, make_user: Callable[..., Any], settings: Any, verb: str
) -> None:
    """The row id stands in the handle, so anybody can send a well-formed link token for a row of their own."""
    make_user("one@example.com")
    make_user("inactive@example.com", is_active=False)
    make_user("shared@example.com", username="first")
    make_user("SHARED@example.com", username="second")
    statements = []
    for name in ("one", "nobody", "inactive", "shared"):
        record = record_of(api.request(f"{name}@example.com")["requestId"])
        post.deliver()
        forged = codes.link_token(record.pk, bytes(32), codes.Account("1", "made up", ""))
        more = {} if verb == "checkResetToken" else {"newPassword": "thistle walnut comet raft 7"}
        with CaptureQueriesContext(connection) as asked:
            assert api.mutate(verb, resetToken=forged, **more)["__typename"] == "InvalidResetTokenError"
        statements.append(len(asked))
    assert len(set(statements)) == 1


# --- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", [KNOWN, DECOY])
def test_an_address_has_ten_guesses_a_day_over_all_its_resets(
    bring: Any, api: API, later: Callable[..., None], email: str
) -> None:
    for _ in range(2):
        bring("LOCKED", email)
        later(seconds=61)
    third = bring("SENT", email)
    assert api.status(third.id)["status"] == "LOCKED"  # type: ignore[index]
    assert third.record.attempts == 0
    assert api.verify(third.id, "123456")["attemptsLeft"] == 0


def test_without_budget_mails_carry_the_link_alone(bring: Any, api: API, later: Callable[..., None]) -> None:
    for _ in range(2):
        bring("LOCKED")
        later(seconds=61)
    third = bring("SENT")
    assert third.code == ""
    assert api.reset(third.link)["__typename"] == "ResetPasswordSuccess"


def test_the_days_budget_returns_with_the_next_day(bring: Any, api: API, later: Callable[..., None]) -> None:
    for _ in range(2):
        bring("LOCKED")
        later(seconds=61)
    later(hours=24)
    assert bring("SENT").code != ""


def test_a_hundred_failures_in_a_row_end_the_guessing(bring: Any, api: API, later: Callable[..., None]) -> None:
    reset = bring("SENT")
    api.verify(reset.id, reset.wrong_code)
    GuessBudget.objects.update(in_a_row=99, used_today=0)
    assert api.verify(reset.id, reset.wrong_code)["attemptsLeft"] == 0
    later(hours=24)
    assert bring("SENT").code == ""


@pytest.mark.parametrize("email", [KNOWN, DECOY])
def test_a_guess_is_counted_before_it_is_compared(
    bring: Any, api: API, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    """Whoever makes the comparison break off has spent the guess all the same."""
    reset = bring("SENT", email)
    seen = []

    def break_off(record: ForgetPassword, *_: Any) -> bool:
        seen.append((reset.record.attempts, GuessBudget.objects.get().used_today))
        raise ZeroDivisionError

    monkeypatch.setattr(verbs, "_proven", break_off)
    with pytest.raises(AssertionError, match="Unexpected error"):
        api.verify(reset.id, "123456")
    assert seen == [(1, 1)]
    assert (reset.record.attempts, GuessBudget.objects.get().used_today) == (1, 1)


@pytest.mark.parametrize("gone", [{"used_today": 10, "in_a_row": 10}, {"used_today": 1, "in_a_row": 100}])
def test_the_link_works_whichever_budget_is_gone(bring: Any, api: API, gone: dict[str, int]) -> None:
    reset = bring("SENT")
    api.verify(reset.id, reset.wrong_code)
    GuessBudget.objects.update(**gone)
    assert api.status(reset.id)["status"] == "LOCKED"  # type: ignore[index]
    assert api.verify(reset.id, reset.code)["__typename"] == "InvalidCodeError"
    assert api.reset(reset.link)["__typename"] == "ResetPasswordSuccess"


def test_a_completed_reset_ends_the_row_of_failures_and_not_the_day(bring: Any, api: API) -> None:
    reset = bring("LOCKED")
    api.reset(reset.link)
    budget = GuessBudget.objects.get()
    assert (budget.used_today, budget.in_a_row) == (5, 0)


def test_a_completed_reset_tells_no_holder_of_another_that_there_is_an_account(
    bring: Any, api: API, later: Callable[..., None]
) -> None:
    """LOCKED may not turn into SENT when the owner gets in: that of an address without an account never does."""
    for _ in range(2):
        reset = bring("LOCKED")
        later(seconds=61)
    waiting = bring("SENT")
    before = api.status(waiting.id)
    api.reset(reset.link)
    assert api.status(waiting.id) == before


def test_a_new_request_does_not_restore_the_budget(bring: Any, api: API, later: Callable[..., None]) -> None:
    bring("LOCKED")
    later(seconds=61)
    reset = bring("SENT")
    for expected in (4, 3, 2, 1, 0):
        assert api.verify(reset.id, reset.wrong_code)["attemptsLeft"] == expected
    assert GuessBudget.objects.get().used_today == 10
