""" "This was not me": what a report ends, when it locks the account, and that the owner always gets back in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import codes, signals, transitions
from accounts.choices import Mail, State
from accounts.directory import Directory
from accounts.models import ForgetPassword, PasswordResetEvent
from tests.conftest import API, NEW_PASSWORD, PASSWORD, Letter, PostOffice, account_of, record_of

Later = Callable[..., None]
MakeUser = Callable[..., Any]

THEFT = "stolen kettle sonnet gravel 5"


@pytest.fixture
def ask(api: API, post: PostOffice, user: Any, settings: Any) -> Callable[..., tuple[str, Letter]]:
    """Ask for a reset and fetch its mail, as often as a test likes."""
    settings.PASSWORD_RESET_COOLDOWN = 0
    settings.THROTTLE_REQUEST_PER_EMAIL = settings.THROTTLE_REQUEST_PER_IP = "1000/hour"

    def asked(email: str = "ada@example.com") -> tuple[str, Letter]:
        return api.request(email)["requestId"], post.deliver_one()

    return asked


@pytest.fixture
def stolen(api: API, post: PostOffice, ask: Any) -> tuple[str, Letter, Letter]:
    """A reset that a thief has completed with a code read over the owner's shoulder; the mails of it."""
    handle, letter = ask()
    token = api.verify(handle, letter.code)["resetToken"]
    assert api.reset(token, THEFT)["__typename"] == "ResetPasswordSuccess"
    return handle, letter, post.deliver_one()


def reported(answer: dict[str, Any]) -> tuple[int, bool]:
    assert answer["__typename"] == "ReportPasswordResetSuccess", answer
    return answer["cancelled"], answer["freshLink"]


def refused(answer: dict[str, Any]) -> bool:
    return bool(answer["__typename"] == "InvalidResetTokenError")


def password_of(user: Any) -> str:
    user.refresh_from_db()
    return str(user.password)


def rows() -> list[dict[str, Any]]:
    return [dict(row) for row in ForgetPassword.objects.order_by("pk").values()]


def timeline(handle: str) -> list[tuple[str, str]]:
    return [(event.kind, event.reason) for event in record_of(handle).events.all()]


# --- The mails -------------------------------------------------------------------------------------------------------


def test_every_mail_carries_the_reports_link_in_text_and_html(
    api: API, post: PostOffice, stolen: tuple[str, Letter, Letter]
) -> None:
    _, code, changed = stolen
    api.report(changed.report)
    for letter in (code, changed, post.deliver_one()):
        url = f"https://accounts.example.com/reset/#report={letter.report}"
        assert letter.report
        assert url in letter.text.splitlines()
        assert f'href="{url}"' in letter.html


def test_the_mail_of_a_link_alone_carries_it_too(api: API, post: PostOffice, ask: Any) -> None:
    handle = api.request()["requestId"]
    api.mutate("cancelPasswordReset", requestId=handle)
    letter = post.deliver_one()
    assert (letter.code, bool(letter.token), bool(letter.report)) == ("", True, True)


def test_the_bound_code_is_still_the_very_last_line(ask: Any) -> None:
    _, letter = ask()
    assert letter.text.splitlines()[-1] == f"@accounts.example.com #{letter.code}"


def test_the_news_of_a_new_password_carries_nothing_that_sets_one(api: API, stolen: tuple[str, Letter, Letter]) -> None:
    changed = stolen[2]
    assert (changed.code, changed.tokens) == ("", [])
    assert refused(api.reset(changed.report))
    assert refused(api.mutate("checkResetToken", resetToken=changed.report))


def test_the_fresh_link_says_why_it_comes_and_names_no_words_that_no_page_shows(
    api: API, post: PostOffice, stolen: tuple[str, Letter, Letter]
) -> None:
    api.report(stolen[2].report)
    letter = post.deliver_one()
    phrase = ForgetPassword.objects.get(fresh_link_for__isnull=False).match_phrase
    for content in (letter.text, letter.html):
        assert "one that nobody knows" in content
        assert phrase not in content
        assert "Asked for at" not in content


# --- Before anything is completed ------------------------------------------------------------------------------------


def test_a_report_ends_every_reset_of_the_account_and_says_how_many(api: API, ask: Any, user: Any) -> None:
    asked = [ask() for _ in range(3)]
    assert reported(api.report(asked[1][1].report)) == (3, False)
    for handle, letter in asked:
        assert api.verify(handle, letter.code)["__typename"] == "InvalidCodeError"
        assert refused(api.reset(letter.token))
    assert password_of(user) == user.password
    assert user.check_password(PASSWORD)


def test_a_report_ends_a_reset_that_is_not_mailed_yet(api: API, post: PostOffice, ask: Any) -> None:
    _, letter = ask()
    api.request()
    assert reported(api.report(letter.report)) == (2, False)
    assert post.deliver() == []


def test_a_report_ends_resets_of_the_account_under_another_address(
    api: API, ask: Any, user: Any, make_user: MakeUser
) -> None:
    _, former = ask()
    user.email = "ada@new.example"
    user.save()
    _, letter = ask("ada@new.example")
    assert reported(api.report(letter.report)) == (2, False)
    assert refused(api.reset(former.token))


def test_a_report_leaves_other_accounts_alone(api: API, ask: Any, make_user: MakeUser) -> None:
    make_user("bob@example.com")
    _, letter = ask()
    handle, bobs = ask("bob@example.com")
    assert reported(api.report(letter.report)) == (1, False)
    assert api.verify(handle, bobs.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_a_report_on_a_shared_address_leaves_rows_without_an_account_elsewhere_alone(
    api: API, ask: Any, make_user: MakeUser
) -> None:
    """Such a row has no user, and neither has a decoy: null must not be taken for the same account."""
    make_user("two@example.com", "first")
    make_user("TWO@example.com", "second")
    decoy = api.request("nobody@example.com")["requestId"]
    _, letter = ask("two@example.com")
    assert reported(api.report(letter.report)) == (1, False)
    assert [refused(api.reset(token)) for token in letter.tokens] == [True, True]
    assert record_of(decoy).superseded_at is None


def test_what_was_over_long_ago_is_not_counted(api: API, ask: Any, later: Later) -> None:
    ask()
    later(hours=3)
    _, letter = ask()
    assert reported(api.report(letter.report)) == (1, False)


@pytest.mark.parametrize("state", ["VERIFIED", "CANCELLED", "EXPIRED", "LOCKED"])
def test_a_report_ends_a_reset_in_any_state(api: API, ask: Any, later: Later, user: Any, state: str) -> None:
    handle, letter = ask()
    token = ""
    if state == "VERIFIED":
        token = api.verify(handle, letter.code)["resetToken"]
    elif state == "CANCELLED":
        api.mutate("cancelPasswordReset", requestId=handle)
    elif state == "EXPIRED":
        later(minutes=15)
    else:
        for _ in range(5):
            api.verify(handle, "000000" if letter.code != "000000" else "000001")
    assert reported(api.report(letter.report)) == (1, False)
    assert refused(api.reset(token or letter.token))
    assert refused(api.reset(letter.token))
    assert user.check_password(PASSWORD)


def test_a_reported_reset_never_completes_so_its_token_is_spent(api: API, ask: Any) -> None:
    _, letter = ask()
    api.report(letter.report)
    before = rows()
    assert refused(api.report(letter.report))
    assert rows() == before


def test_the_mail_of_a_reset_that_another_report_has_ended_is_still_heard_once(api: API, ask: Any) -> None:
    """Whoever gets three of them may press the button in each, and what was asked for since is ended, too."""
    (_, first), (_, second) = ask(), ask()
    api.report(first.report)
    ask()
    assert reported(api.report(second.report)) == (1, False)
    assert refused(api.report(second.report))


# --- After a completed one -------------------------------------------------------------------------------------------


def test_a_report_of_a_completed_reset_locks_the_account_and_mails_a_link_that_works(
    api: API, post: PostOffice, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    assert reported(api.report(stolen[2].report)) == (0, True)
    password_of(user)
    assert not user.check_password(THEFT)
    assert not user.check_password(PASSWORD)
    letter = post.deliver_one()
    assert (letter.code, letter.message.to) == ("", ["ada@example.com"])
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"
    password_of(user)
    assert user.check_password(NEW_PASSWORD)


def test_the_reset_mail_reports_a_completed_one_as_well(api: API, stolen: tuple[str, Letter, Letter]) -> None:
    assert reported(api.report(stolen[1].report)) == (0, True)
    assert refused(api.report(stolen[2].report))


def test_the_locking_password_is_a_usable_one_so_that_recovery_goes_on(
    api: API, ask: Any, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    api.report(stolen[2].report)
    password_of(user)
    assert user.has_usable_password()
    ForgetPassword.objects.filter(fresh_link_for__isnull=False).delete()
    _, letter = ask()
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


def test_the_locking_password_is_another_one_each_time_and_long_enough(
    api: API, ask: Any, post: PostOffice, user: Any, stolen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = []

    def note(self: Directory, password: str) -> str:
        chosen.append(password)
        return make_password(password)

    monkeypatch.setattr(Directory, "hash", note)
    api.report(stolen[2].report)
    api.reset(post.deliver_one().token, THEFT)
    api.report(post.deliver_one().report)
    assert len(set(chosen)) == 3
    assert {len(password) for password in chosen if password != THEFT} == {43}  # 256 bits in base64


def test_a_report_signs_everybody_out(user: Any, api: API, post: PostOffice, stolen: Any, make_user: MakeUser) -> None:
    type(user).objects.update(is_staff=True, is_superuser=True)
    thief, other = Client(), Client()
    assert thief.login(username="ada", password=THEFT)
    other.force_login(make_user("staff@example.com", is_staff=True, is_superuser=True))
    assert thief.get("/admin/").status_code == 200
    api.report(stolen[2].report)
    assert thief.get("/admin/").status_code == 302
    assert other.get("/admin/").status_code == 200


def test_what_the_thief_had_under_way_ends_with_the_report(
    api: API, ask: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    handle, letter = ask()
    token = api.verify(handle, letter.code)["resetToken"]
    ask()
    assert reported(api.report(stolen[2].report)) == (2, True)
    assert refused(api.reset(token))
    assert refused(api.reset(letter.token))


def test_an_old_mail_cannot_undo_what_the_owner_has_chosen_since(
    api: API, ask: Any, post: PostOffice, user: Any, later: Later, stolen: tuple[str, Letter, Letter]
) -> None:
    later(seconds=1)
    _, letter = ask()
    api.reset(letter.token)
    post.deliver()
    assert refused(api.report(stolen[2].report))
    password_of(user)
    assert user.check_password(NEW_PASSWORD)


def test_a_password_that_was_changed_elsewhere_since_is_replaced_all_the_same(
    api: API, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    """A thief who is signed in can do that, and must not save himself by it."""
    user.set_password("second stolen kettle sonnet")
    user.save()
    assert reported(api.report(stolen[2].report)) == (0, True)
    password_of(user)
    assert not user.check_password("second stolen kettle sonnet")


def test_a_completed_reset_is_heard_of_for_seven_days(
    api: API, later: Later, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    later(days=6, hours=23, minutes=59, seconds=59)
    assert reported(api.report(stolen[2].report)) == (0, True)


def test_a_completed_reset_is_not_heard_of_after_seven_days(
    api: API, later: Later, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    before = password_of(user)
    later(days=7)
    assert refused(api.report(stolen[2].report))
    assert password_of(user) == before


def test_the_seven_days_begin_with_the_completion_not_with_the_request(
    api: API, post: PostOffice, later: Later, ask: Any, settings: Any
) -> None:
    """A mail may be late: a server that was down for days must not cost the owner the report."""
    settings.MAIL_MAX_AGE = 604_800
    api.request()
    later(days=6)
    letter = post.deliver_one()
    api.reset(letter.token, THEFT)
    later(days=6)
    assert reported(api.report(letter.report)) == (0, True)


@pytest.mark.parametrize(("days", "heard"), [(6, True), (7, False)])
def test_one_that_never_completed_is_heard_of_for_seven_days_from_its_last_mail(
    api: API, post: PostOffice, ask: Any, later: Later, days: int, heard: bool
) -> None:
    handle = api.request()["requestId"]
    later(hours=23)
    letter = post.deliver_one()
    later(days=days)
    assert refused(api.report(letter.report)) is not heard
    assert (record_of(handle).reported_at is not None) is heard


def test_an_account_that_has_no_password_any_more_is_given_none(
    api: API, post: PostOffice, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    user.set_unusable_password()
    user.save()
    before = password_of(user)
    assert reported(api.report(stolen[2].report)) == (0, False)
    assert password_of(user) == before
    assert post.deliver() == []


def test_a_closed_account_is_locked_and_mailed_nothing(
    api: API, post: PostOffice, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    type(user).objects.update(is_active=False)
    assert reported(api.report(stolen[2].report)) == (0, False)
    password_of(user)
    assert not user.check_password(THEFT)
    assert post.deliver() == []


def test_a_deleted_account_is_no_mistake(api: API, post: PostOffice, user: Any, stolen: Any, make_user: Any) -> None:
    user.delete()
    make_user(username="another ada")
    assert reported(api.report(stolen[2].report)) == (0, False)
    assert get_user_model().objects.get().check_password(PASSWORD)


def test_the_fresh_link_never_goes_to_an_address_that_the_account_was_given_since(
    api: API, post: PostOffice, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    type(user).objects.update(email="thief@example.com")
    assert reported(api.report(stolen[2].report)) == (0, False)
    password_of(user)
    assert not user.check_password(THEFT)
    assert post.deliver() == []


def test_a_report_for_one_of_several_accounts_locks_that_one_and_mails_its_link(
    api: API, post: PostOffice, ask: Any, make_user: MakeUser
) -> None:
    first, second = make_user("two@example.com", "first"), make_user("TWO@example.com", "second")
    _, letter = ask("two@example.com")
    api.reset(letter.tokens[1], THEFT)
    assert reported(api.report(post.deliver_one().report)) == (0, True)
    password_of(first), password_of(second)
    assert first.check_password(PASSWORD)
    assert not second.check_password(THEFT)
    assert api.reset(post.deliver_one().token)["__typename"] == "ResetPasswordSuccess"
    password_of(second)
    assert second.check_password(NEW_PASSWORD)


def test_the_row_of_the_fresh_link_names_the_reset_it_answers_and_owes_one_mail(
    api: API, post: PostOffice, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    api.report(stolen[2].report)
    fresh = ForgetPassword.objects.get(fresh_link_for=record_of(stolen[0]))
    assert (fresh.user, fresh.state, fresh.mail_due) == (user, State.SENT, Mail.LINK)
    assert len(post.deliver()) == 1
    assert [(event.kind, event.reason) for event in fresh.events.all()] == [("MAILED", "LINK")]


def test_the_fresh_link_counts_against_no_limit(
    api: API, settings: Any, later: Later, stolen: tuple[str, Letter, Letter]
) -> None:
    """Neither cooldown nor bucket tells a stranger that there was a report, nor keeps the owner waiting."""
    settings.THROTTLE_REQUEST_PER_EMAIL, settings.PASSWORD_RESET_COOLDOWN = "2/hour", 60
    later(seconds=61)
    api.report(stolen[2].report)
    api.request()


# --- Once the account is locked --------------------------------------------------------------------------------------


def test_a_report_of_another_reset_ends_the_fresh_link_and_brings_another(
    api: API, post: PostOffice, ask: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    """Whoever presses every button there is must not press himself out."""
    api.report(stolen[2].report)
    former = post.deliver_one()
    _, unasked = ask()
    assert reported(api.report(unasked.report)) == (2, True)
    assert refused(api.reset(former.token))
    assert api.reset(post.deliver_one().token)["__typename"] == "ResetPasswordSuccess"


def test_a_report_of_the_fresh_link_itself_brings_another(
    api: API, post: PostOffice, stolen: tuple[str, Letter, Letter]
) -> None:
    api.report(stolen[2].report)
    former = post.deliver_one()
    assert reported(api.report(former.report)) == (1, True)
    assert refused(api.reset(former.token))
    assert api.reset(post.deliver_one().token)["__typename"] == "ResetPasswordSuccess"


def test_once_the_owner_has_chosen_a_password_a_report_mails_no_more_links(
    api: API, post: PostOffice, ask: Any, later: Later, stolen: tuple[str, Letter, Letter]
) -> None:
    api.report(stolen[2].report)
    later(seconds=1)
    api.reset(post.deliver_one().token)
    post.deliver()
    _, unasked = ask()
    assert reported(api.report(unasked.report)) == (1, False)


def test_a_reset_of_a_shared_address_asks_for_a_fresh_link_while_one_of_its_accounts_is_locked(
    api: API, post: PostOffice, ask: Any, make_user: MakeUser
) -> None:
    make_user("two@example.com", "first")
    make_user("TWO@example.com", "second")
    _, letter = ask("two@example.com")
    api.reset(letter.tokens[0], THEFT)
    api.report(post.deliver_one().report)
    post.deliver()
    _, unasked = ask("two@example.com")
    assert reported(api.report(unasked.report)) == (2, True)
    assert len(post.deliver_one().tokens) == 2


# --- What is no good -------------------------------------------------------------------------------------------------


def test_a_strangers_token_is_refused(api: API, ask: Any) -> None:
    handle, letter = ask()
    other = record_of(ask()[0])
    record = record_of(handle)
    before = rows()
    for forged in (
        codes.report_token(record.pk, bytes(32)),
        codes.report_token(other.pk, record.seed),
        letter.token,
        handle,
        codes.code_token(record.pk, record.seed, account_of(record.user), record.generation),
    ):
        assert refused(api.report(forged))
    assert rows() == before


def test_a_decoys_token_is_refused_even_if_it_could_be_known(api: API, post: PostOffice) -> None:
    record = record_of(api.request("nobody@example.com")["requestId"])
    post.deliver()
    before = rows()
    assert refused(api.report(codes.report_token(record.pk, record.seed)))
    assert rows() == before


def test_a_token_that_no_mail_has_carried_yet_is_refused(api: API, user: Any) -> None:
    record = record_of(api.request()["requestId"])
    assert refused(api.report(codes.report_token(record.pk, record.seed)))


def test_a_report_that_is_refused_counts_and_a_good_one_is_heard_all_the_same(
    api: API, ask: Any, settings: Any
) -> None:
    _, letter = ask()
    settings.THROTTLE_VERIFY_PER_IP = "1/hour"
    assert refused(api.report("x"))
    assert api.report("x")["__typename"] == "RateLimitedError"
    assert api.report(letter.report)["__typename"] == "ReportPasswordResetSuccess"


def test_a_report_made_up_for_ones_own_handle_costs_the_same_whoever_has_the_address(
    api: API, post: PostOffice, make_user: MakeUser
) -> None:
    """The row id stands in the handle, so anybody can send a well-formed report token for a row of their own."""
    make_user("one@example.com")
    make_user("done@example.com")
    make_user("inactive@example.com", is_active=False)
    make_user("shared@example.com", username="first")
    make_user("SHARED@example.com", username="second")
    statements, answers = [], []
    for name in ("one", "nobody", "inactive", "shared", "done"):
        record = record_of(api.request(f"{name}@example.com")["requestId"])
        letters = post.deliver()
        if name == "done":
            api.reset(letters[0].token)
        forged = codes.report_token(record.pk, bytes(32))
        with CaptureQueriesContext(connection) as asked:
            answers.append(api.report(forged))
        statements.append([query["sql"].replace(record.pk.hex, "?").replace(str(record.pk), "?") for query in asked])
    assert answers == [answers[0]] * 5
    assert statements == [statements[0]] * 5


# --- What the holder of a handle sees --------------------------------------------------------------------------------

PRIVATE = ("requestId", "matchPhrase", "createdAt", "expiresAt", "resendAvailableAt", "message")


def public(answer: dict[str, Any] | None) -> dict[str, Any]:
    assert answer is not None
    flat = {**answer, **answer.pop("reset", {})}
    return {key: value for key, value in flat.items() if key not in (*PRIVATE, "reset")}


@pytest.mark.parametrize("completed", [False, True])
def test_a_holder_sees_of_a_reported_reset_what_a_decoys_holder_sees(
    api: API, post: PostOffice, ask: Any, later: Later, completed: bool
) -> None:
    known, letter = ask()
    decoy = api.request("nobody@example.com")["requestId"]
    post.deliver()
    if completed:
        api.reset(ask()[1].token)
        letter = post.deliver_one()
    api.report(letter.report)
    post.deliver()

    def both(see: Callable[[str], Any]) -> None:
        assert public(see(known)) == public(see(decoy))

    def resend(handle: str) -> dict[str, Any]:
        return api.mutate("resendPasswordResetCode", requestId=handle)

    both(api.status)
    both(lambda handle: api.verify(handle, "000000" if letter.code != "000000" else "000001"))
    both(resend)
    assert post.deliver() == []
    later(minutes=11)
    both(api.status)
    both(resend)
    both(lambda handle: api.mutate("cancelPasswordReset", requestId=handle))
    both(api.status)
    later(hours=2)
    both(resend)


def test_a_completed_reset_stays_completed_to_its_holder(api: API, stolen: tuple[str, Letter, Letter]) -> None:
    before = api.status(stolen[0])
    api.report(stolen[2].report)
    assert api.status(stolen[0]) == before
    assert before is not None
    assert before["status"] == "COMPLETED"


# --- All or none, and who is told ------------------------------------------------------------------------------------


def test_a_report_that_breaks_half_way_has_done_nothing(
    api: API, ask: Any, user: Any, stolen: tuple[str, Letter, Letter], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()
    before = rows(), password_of(user), PasswordResetEvent.objects.count()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(PasswordResetEvent, "write", fail)
        query = f'mutation {{ reportPasswordReset(input: {{reportToken: "{stolen[2].report}"}}) {{ __typename }} }}'
        response = api.post({"query": query})
        assert "errors" in response.json()
    assert (rows(), password_of(user), PasswordResetEvent.objects.count()) == before
    assert reported(api.report(stolen[2].report)) == (1, True)


def test_the_database_itself_refuses_a_reported_reset_that_goes_on_and_a_second_answer(
    api: API, stolen: tuple[str, Letter, Letter], user: Any
) -> None:
    api.report(stolen[2].report)
    under_way = ForgetPassword.objects.filter(fresh_link_for__isnull=False)
    with pytest.raises(IntegrityError), transaction.atomic():
        under_way.update(reported_at=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        ForgetPassword.objects.create(email_digest="0" * 64, fresh_link_for=record_of(stolen[0]))


def test_the_timelines_tell_support_what_happened(
    api: API, post: PostOffice, ask: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    open_one, _ = ask()
    api.report(stolen[2].report)
    post.deliver()
    assert timeline(stolen[0])[-1] == ("REPORTED", "locked")
    assert timeline(open_one)[-1] == ("SUPERSEDED", "report")
    other, letter = ask()
    api.report(letter.report)
    assert timeline(other)[-1] == ("REPORTED", "ended")


@pytest.fixture
def announced() -> Any:
    heard: list[tuple[Any, Any, bool]] = []

    def note(record: ForgetPassword, user: Any, **kwargs: Any) -> None:
        heard.append((record.pk, user, connection.in_atomic_block))

    signals.password_reset_reported.connect(note, dispatch_uid="tests.note")
    yield heard
    signals.password_reset_reported.disconnect(dispatch_uid="tests.note")


@pytest.mark.django_db(transaction=True)
def test_a_report_is_announced_once_it_is_committed_with_the_account_it_has_locked(
    announced: list[tuple[Any, Any, bool]], api: API, user: Any, stolen: tuple[str, Letter, Letter]
) -> None:
    api.report(stolen[2].report)
    assert announced == [(record_of(stolen[0]).pk, user, False)]
    assert announced[0][1].password == password_of(user)
    api.report(stolen[2].report)
    assert len(announced) == 1


@pytest.mark.django_db(transaction=True)
def test_a_report_that_locks_nobody_announces_no_account(
    announced: list[tuple[Any, Any, bool]], api: API, ask: Any
) -> None:
    handle, letter = ask()
    api.report(letter.report)
    assert announced == [(record_of(handle).pk, None, False)]


def test_a_receiver_that_fails_fails_alone(api: API, ask: Any) -> None:
    def fail(**kwargs: Any) -> None:
        raise ConnectionError

    signals.password_reset_reported.connect(fail, dispatch_uid="tests.fail")
    try:
        assert reported(api.report(ask()[1].report)) == (1, False)
    finally:
        signals.password_reset_reported.disconnect(dispatch_uid="tests.fail")


@pytest.mark.django_db(transaction=True)
def test_the_doorbell_rings_for_the_fresh_link_once_and_without_another_look(
    api: API, stolen: tuple[str, Letter, Letter], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[tuple[Any, bool]] = []
    monkeypatch.setattr("accounts.mailing.receivers.wake", lambda pk, *, new: rung.append((pk, new)))
    api.report(stolen[2].report)
    assert rung == [(ForgetPassword.objects.get(fresh_link_for__isnull=False).pk, False)]


# --- Rows without an address -----------------------------------------------------------------------------------------


def test_rows_that_were_made_without_a_digest_share_nothing(make_user: MakeUser, user: Any) -> None:
    """A host may make a row by hand and leave its digest out: two such rows are not of one address for that."""
    theirs = ForgetPassword.objects.create(user=user, email=user.email)
    others = ForgetPassword.objects.create(user=make_user("grace@example.com"), email="grace@example.com")
    nobodys = ForgetPassword.objects.create()
    now = timezone.now()
    with transaction.atomic():
        assert transitions.hold(theirs.pk, user.pk, "", now) == [theirs]
        assert transitions.hold(nobodys.pk, None, "", now) == [nobodys]
    done = {"state": State.COMPLETED, "is_user_password_updated": True, "completed_at": now, "reported_at": now}
    ForgetPassword.objects.filter(pk=others.pk).update(looked_at=now, sent_at=now, **done)
    assert transitions.are_locked(others.user_id, "")
    assert not transitions.are_locked(None, "")


def test_an_account_that_has_no_address_any_more_is_mailed_no_fresh_link(
    api: API, post: PostOffice, ask: Any, user: Any
) -> None:
    _, letter = ask()
    api.reset(letter.token)
    (news,) = post.deliver()
    type(user).objects.update(email=" ")
    ForgetPassword.objects.update(email=" ")
    answer = api.report(news.report)
    assert (answer["__typename"], answer["freshLink"]) == ("ReportPasswordResetSuccess", False)
