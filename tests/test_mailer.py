"""Look and Send, step by step: what a row goes through, and what it survives."""

from __future__ import annotations

import logging
import random
import re
import smtplib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.db import connection as database
from django.db.models import Q
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import codes, signals, transitions
from accounts.addresses import fold
from accounts.choices import EventKind, State
from accounts.choices import Mail as Due
from accounts.lookup import Mailbox, find_mailboxes
from accounts.mailing import batches, mailer, mails, smtp
from accounts.mailing.smtp import Connection
from accounts.mailing.smtp_backend import MailUnanswered
from accounts.models import ForgetPassword
from accounts.transitions import NOTHING_DUE, turn_of
from tests.conftest import API, Letter, PostOffice

MakeUser = Callable[..., Any]
Later = Callable[..., None]

pytestmark = pytest.mark.django_db

GREYLISTED = smtplib.SMTPRecipientsRefused({"ada@example.com": (451, b"4.7.1 Greylisted")})
NOBODY_HERE = smtplib.SMTPRecipientsRefused({"ada@example.com": (550, b"5.1.1 Nobody here")})


class Scripted(Connection):
    """A connection on which something happens in the middle of each send; the mail goes out unless that raises."""

    def __init__(self, meanwhile: Callable[[EmailMessage], object]) -> None:
        super().__init__()
        self.meanwhile = meanwhile
        self.sent: list[Letter] = []
        self.lease_ends = 0.0
        self.rehearsed: list[Letter] = []

    def send(self, message: EmailMessage, *, lease_ends: float = 0.0) -> str:
        self.lease_ends = lease_ends
        self.meanwhile(message)
        self.sent.append(Letter(message))
        return ""

    def rehearse(self, message: EmailMessage) -> None:
        self.rehearsed.append(Letter(message))


def failing(error: Exception) -> Scripted:
    def fail(message: EmailMessage) -> None:
        raise error

    return Scripted(fail)


def taking() -> Scripted:
    return Scripted(lambda _: None)


def asked(email: str = "ada@example.com", **fields: Any) -> ForgetPassword:
    return ForgetPassword.objects.create(email=email, email_digest=codes.address_digest(fold(email)), **fields)


def looked(email: str = "ada@example.com", **fields: Any) -> ForgetPassword:
    record = asked(email, **fields)
    mailer.look()
    record.refresh_from_db()
    return record


def claimed(**fields: Any) -> ForgetPassword:
    record = looked(**fields)
    assert claim(record)
    record.refresh_from_db()
    return record


def claim(record: ForgetPassword) -> bool:
    return transitions.claim(timezone.now(), 1, pk=record.pk) == [record.pk]


def due_now(limit: int) -> list[Any]:
    return list(ForgetPassword.objects.due(timezone.now()).values_list("pk", flat=True)[:limit])


def minutes_behind(record: ForgetPassword) -> float:
    assert record.mail_turn_at
    assert record.mail_next_at
    return round((record.mail_turn_at - record.mail_next_at) / timedelta(minutes=1), 3)


def timeline(record: ForgetPassword) -> list[tuple[str, str]]:
    return list(record.events.values_list("kind", "reason"))


def owes_nothing(record: ForgetPassword) -> bool:
    record.refresh_from_db()
    return {name: getattr(record, name) for name in NOTHING_DUE} == NOTHING_DUE


@contextmanager
def hearing(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []

    def receive(**arguments: Any) -> None:
        heard.append(arguments)

    signal.connect(receive)
    try:
        yield heard
    finally:
        signal.disconnect(receive)


@contextmanager
def a_broken_receiver(signal: Signal) -> Iterator[None]:
    def receive(**arguments: Any) -> None:
        raise ZeroDivisionError

    signal.connect(receive)
    try:
        yield
    finally:
        signal.disconnect(receive)


# --- Look ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(make_user: MakeUser, monkeypatch: pytest.MonkeyPatch) -> dict[str, ForgetPassword]:
    """A row for everything that Look can find, by the reason that it notes."""
    make_user("ada@example.com")
    make_user("gone@example.com", is_active=False)
    make_user("sso@example.com").set_unusable_password()
    sso = make_user("ldap@example.com")
    sso.set_unusable_password()
    sso.save()

    def find(typed: set[str]) -> dict[str, Mailbox]:
        return {**find_mailboxes(typed), "both@example.com": Mailbox(reason="ambiguous")}

    monkeypatch.setattr(mailer, "find_mailboxes", find)
    return {
        "found": asked("ada@example.com"),
        "unknown": asked("nobody@example.com"),
        "inactive": asked("gone@example.com"),
        "unusable_password": asked("ldap@example.com"),
        "ambiguous": asked("both@example.com"),
    }


def test_a_batch_of_everything_is_shown_sent_alike(mixed: dict[str, ForgetPassword]) -> None:
    assert mailer.look().looked == len(mixed)
    shown = ForgetPassword.objects.values_list("state", "sent_at", "looked_at", "updated_at").distinct()
    ((state, sent_at, looked_at, updated_at),) = shown
    assert state == State.SENT
    assert sent_at == looked_at == updated_at
    assert sent_at is not None


def test_the_reason_stands_on_the_timeline_of_every_row(mixed: dict[str, ForgetPassword]) -> None:
    mailer.look()
    for reason, record in mixed.items():
        assert timeline(record) == [(EventKind.LOOKED_UP, reason)]


def test_every_row_is_to_be_sent_and_only_that_of_a_mailable_account_is(mixed: dict[str, ForgetPassword]) -> None:
    assert set(mailer.look().owed) == set(due_now(10)) == {record.pk for record in mixed.values()}
    server = taking()
    mailer.send_due(server, 10)
    assert [letter.message.to for letter in server.sent] == [["ada@example.com"]]
    assert all(owes_nothing(record) for record in mixed.values())


def test_a_decoy_is_rehearsed_with_a_mail_like_any_other(user: Any) -> None:
    server = taking()
    for email in ("ada@example.com", "nobody@example.com"):
        looked(email)
        mailer.send_due(server, 10)
    (real,), (rehearsed,) = server.sent, server.rehearsed
    assert len(rehearsed.code) == len(real.code) == 6
    assert len(rehearsed.token) == len(real.token)
    assert rehearsed.code != real.code


@pytest.mark.parametrize("verb", ["request", "resend"])
def test_a_decoy_costs_the_mailer_the_same_statements(user: Any, later: Later, verb: str) -> None:
    asked_of_the_database = []
    for email in ("ada@example.com", "nobody@example.com"):
        record = asked(email)
        if verb == "resend":
            mailer.look()
            mailer.send_due(taking(), 10)
            later(minutes=1)
            transitions.resend(record.pk, Due.CODE, timezone.now(), 1)
        statements: list[str] = []

        def note(execute: Any, sql: str, *rest: Any, statements: list[str] = statements) -> Any:
            statements.append(
                re.sub(r"s\d+_x\d+", "a savepoint", sql).replace("= NULL", "= %s").replace("THEN NULL", "THEN %s")
            )
            return execute(sql, *rest)

        with database.execute_wrapper(note):
            mailer.look()
            mailer.send_due(taking(), 10)
        asked_of_the_database.append(statements)
    assert asked_of_the_database[0] == asked_of_the_database[1]


def test_only_the_unknown_address_is_wiped(mixed: dict[str, ForgetPassword]) -> None:
    mailer.look()
    for reason, record in mixed.items():
        record.refresh_from_db()
        assert bool(record.email) is (reason != "unknown")


def test_a_look_that_breaks_half_way_moves_no_row_at_all(
    mixed: dict[str, ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(lines: Any) -> None:
        assert ForgetPassword.objects.filter(looked_at=None).count() == 0
        raise ZeroDivisionError

    monkeypatch.setattr(mailer, "insert_events", breaks)
    with pytest.raises(ZeroDivisionError):
        mailer.look()
    assert ForgetPassword.objects.filter(state=State.QUEUED, looked_at=None).count() == len(mixed)


def test_a_known_and_an_unknown_address_cost_the_same_statements(user: Any) -> None:
    asked("ada@example.com")
    with CaptureQueriesContext(database) as for_known:
        mailer.look()
    asked("nobody@example.com")
    with CaptureQueriesContext(database) as for_unknown:
        mailer.look()
    kinds = [[query["sql"].split()[0] for query in queries] for queries in (for_known, for_unknown)]
    assert kinds[0] == kinds[1]


def test_look_takes_the_oldest_rows_first_and_no_more_than_a_batch(
    monkeypatch: pytest.MonkeyPatch, user: Any, later: Later
) -> None:
    monkeypatch.setattr(mailer, "LOOK_BATCH", 2)
    records = []
    for _ in range(3):
        records.append(asked())
        later(seconds=1)
    assert mailer.look() == (2, [records[0].pk, records[1].pk])
    assert mailer.look() == (1, [records[2].pk])
    assert mailer.look() == (0, [])


def test_the_account_found_is_noted_on_the_row(user: Any) -> None:
    assert looked().user == user


def test_a_row_of_several_accounts_is_nobodys_yet_and_owes_its_mail(make_user: MakeUser) -> None:
    make_user("ada@example.com", "ada")
    make_user("Ada@example.com", "root")
    record = looked()
    assert record.user is None
    assert record.mail_due == Due.CODE


def test_a_reset_cancelled_before_the_look_stays_cancelled_and_is_mailed_its_link(
    api: API, post: PostOffice, user: Any
) -> None:
    reset = api.request()
    api.mutate("cancelPasswordReset", requestId=reset["requestId"])
    letter = post.deliver_one()
    assert (letter.code, len(letter.tokens)) == ("", 1)
    assert ForgetPassword.objects.get().state == State.CANCELLED


# --- Claim -----------------------------------------------------------------------------------------------------------


def test_a_mail_is_claimed_once(user: Any) -> None:
    record = looked()
    assert claim(record)
    assert not claim(record)
    assert due_now(10) == []


def test_a_claim_holds_for_its_lease_and_no_longer(settings: Any, user: Any, later: Later) -> None:
    settings.MAIL_LEASE_SECONDS = 120
    record = claimed()
    later(seconds=119)
    assert due_now(10) == []
    assert not claim(record)
    later(seconds=1)
    assert due_now(10) == [record.pk]
    assert claim(record)


def test_a_claim_that_was_taken_over_can_neither_settle_nor_postpone(settings: Any, user: Any, later: Later) -> None:
    record = claimed()
    assert record.mail_claimed_at
    later(seconds=settings.MAIL_LEASE_SECONDS)
    assert claim(record)
    stale = (Due.CODE, record.mail_claimed_at)
    assert not transitions.settle([record.pk], *stale, timezone.now())
    assert not transitions.postpone(record.pk, *stale, retry_at=None, error="late", now=timezone.now())
    record.refresh_from_db()
    assert (record.mail_due, record.mail_claimed_at) == (Due.CODE, timezone.now())


def test_a_claim_on_one_kind_of_mail_does_not_settle_another(user: Any, clock: Any) -> None:
    record = claimed()
    assert record.mail_claimed_at
    assert not transitions.settle([record.pk], Due.LINK, record.mail_claimed_at, timezone.now())
    assert not transitions.postpone(
        record.pk, Due.LINK, record.mail_claimed_at, retry_at=None, error="other", now=timezone.now()
    )


def test_a_claim_that_was_begun_before_the_look_takes_nothing_so_that_a_second_try_mails_the_same_code(
    user: Any, later: Later
) -> None:
    record = asked()
    before_the_look = timezone.now()
    later(seconds=0.01)
    mailer.look()
    assert transitions.claim(before_the_look, 1) == []
    assert claim(record)
    later(minutes=3)
    assert claim(record)
    record.refresh_from_db()
    assert record.generation == 1


def test_a_claim_starts_the_life_of_code_and_link(user: Any, clock: Any) -> None:
    record = claimed()
    assert record.generation == 1
    assert record.code_issued_at == record.link_issued_at == record.mail_claimed_at == timezone.now()
    assert record.mail_attempts == 1


@pytest.mark.parametrize(("age", "generation"), [({"minutes": 4, "seconds": 59}, 1), ({"minutes": 5}, 2)])
def test_a_code_is_kept_while_under_five_minutes_old_and_then_replaced(
    user: Any, later: Later, age: dict[str, float], generation: int
) -> None:
    first = claimed()
    later(**age)
    assert claim(first)
    record = ForgetPassword.objects.get()
    assert record.generation == generation
    assert record.code_issued_at == (first.code_issued_at if generation == 1 else timezone.now())
    assert record.link_issued_at == timezone.now()


def test_a_claim_notes_the_key_of_the_code_and_under_another_key_makes_a_new_one(
    user: Any, later: Later, settings: Any
) -> None:
    first = claimed()
    assert first.code_key == codes.code_key()
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new key " * 8
    later(minutes=3)
    assert claim(first)
    record = ForgetPassword.objects.get()
    assert (record.generation, record.code_issued_at) == (2, timezone.now())
    assert record.code_key == codes.code_key() != first.code_key


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_known_and_unknown_rows_note_the_key_alike(user: Any, email: str) -> None:
    looked(email)
    mailer.send_due(taking(), 10)
    assert ForgetPassword.objects.get().code_key == codes.code_key()


def test_a_code_mailed_under_a_former_key_works_until_a_mail_brings_a_new_one(
    api: API, post: PostOffice, user: Any, later: Later, settings: Any
) -> None:
    handle = api.request()["requestId"]
    first = post.deliver_one().code
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new key " * 8
    later(seconds=61)
    assert api.mutate("resendPasswordResetCode", requestId=handle)["__typename"] == "ResendPasswordResetCodeSuccess"
    assert api.status(handle)
    second = post.deliver_one().code
    assert second != first
    assert api.verify(handle, first)["__typename"] == "InvalidCodeError"
    assert api.verify(handle, second)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_a_code_mailed_under_a_former_key_is_accepted(api: API, post: PostOffice, user: Any, settings: Any) -> None:
    handle = api.request()["requestId"]
    code = post.deliver_one().code
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new key " * 8
    assert api.verify(handle, code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_the_claim_of_a_link_mail_starts_the_link_alone(user: Any, clock: Any) -> None:
    record = claimed(mail_due=Due.LINK)
    assert record.link_issued_at == timezone.now()
    assert (record.generation, record.code_issued_at) == (0, None)


def test_the_claim_of_the_news_of_a_change_starts_nothing(user: Any) -> None:
    record = claimed(mail_due=Due.CHANGED)
    assert (record.generation, record.code_issued_at, record.link_issued_at) == (0, None, None)


def test_nothing_is_claimed_before_it_was_looked_up(user: Any) -> None:
    record = asked()
    assert due_now(10) == []
    assert not claim(record)


def test_nothing_is_claimed_before_its_time(user: Any, later: Later) -> None:
    record = looked()
    ForgetPassword.objects.update(mail_next_at=timezone.now() + timedelta(seconds=10))
    later(seconds=9)
    assert not claim(record)
    later(seconds=1)
    assert claim(record)


def test_mails_go_by_their_turns(user: Any, later: Later) -> None:
    first, second = looked(), looked()
    ForgetPassword.objects.filter(pk=first.pk).update(mail_turn_at=timezone.now() + timedelta(seconds=1))
    assert due_now(10) == [second.pk, first.pk]
    assert due_now(1) == [second.pk]


def test_a_mail_before_its_turn_goes_only_where_that_is_allowed(user: Any, later: Later) -> None:
    record = looked(mail_turn_at=turn_of(3, timezone.now()))
    assert transitions.claim(timezone.now(), 1, in_turn=True) == []
    later(seconds=119)
    assert transitions.claim(timezone.now(), 1, in_turn=True) == []
    later(seconds=1)
    assert transitions.claim(timezone.now(), 1, in_turn=True) == [record.pk]


def test_claims_look_no_further_back_than_the_latest_sweep_found_anything(user: Any, later: Later) -> None:
    """With an old transaction open they would pass over all that was settled since: an hour of it took 0.2 s each."""
    record = looked()
    mailer.find_beginning()
    ForgetPassword.objects.update(mail_turn_at=timezone.now() - timedelta(seconds=61))  # by a clock that is behind
    assert mailer.send_due(smtp.Connection(), 1) == 0
    mailer.find_beginning()
    assert mailer.send_due(smtp.Connection(), 1) == 1
    record.refresh_from_db()
    assert record.mail_due == Due.NONE


@pytest.mark.parametrize("waits", [timedelta(seconds=1), timedelta(minutes=19), timedelta(days=1)])
def test_no_sweep_hides_a_mail(user: Any, later: Later, waits: timedelta) -> None:
    """Neither one that has waited for long, nor one whose claim lapses, nor what comes after one of a late turn."""
    first = looked()
    ForgetPassword.objects.update(mail_turn_at=timezone.now() + waits, mail_next_at=timezone.now() - timedelta(hours=2))
    mailer.find_beginning()
    second = looked()
    assert claim(second)
    mailer.find_beginning()
    later(seconds=120)
    mailer.find_beginning()
    sent = mailer.send_due(smtp.Connection(), 9)
    assert sent == 2
    assert set(ForgetPassword.objects.filter(mail_due=Due.NONE)) == {first, second}


def test_a_client_waits_a_minute_for_each_mail_it_has_asked_for_before_and_for_no_more_than_nineteen() -> None:
    now = timezone.now()
    assert [(turn_of(rank, now) - now) / timedelta(minutes=1) for rank in (1, 2, 20, 21, 5000)] == [0, 1, 19, 19, 19]


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_a_request_and_a_resend_take_their_place_by_what_their_client_has_asked_for(
    api: API, user: Any, clock: Any, later: Later, settings: Any, email: str
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    for number in range(3):
        api.request(f"somebody{number}@example.com")
    api.request(email)
    record = ForgetPassword.objects.get(email=email)
    assert minutes_behind(record) == 3
    mailer.look()
    mailer.send_due(taking(), 10)
    api.mutate("resendPasswordResetCode", requestId=record.handle)
    record.refresh_from_db()
    assert minutes_behind(record) == 4


def test_a_mail_that_is_tried_again_stands_as_far_behind_as_before(user: Any, clock: Any) -> None:
    record = looked(mail_turn_at=turn_of(5, timezone.now()))
    mailer.send(record.pk, failing(GREYLISTED))
    record.refresh_from_db()
    assert minutes_behind(record) == 4


def test_the_news_of_a_change_and_a_mail_that_is_revived_stand_behind_nothing(user: Any, clock: Any) -> None:
    record = looked(mail_turn_at=turn_of(5, timezone.now()))
    mailer.send(record.pk, failing(NOBODY_HERE))
    record.refresh_from_db()
    assert (record.mail_next_at, record.mail_turn_at) == (None, None)
    transitions.revive(ForgetPassword.objects.all(), timezone.now())
    record.refresh_from_db()
    assert record.mail_turn_at == record.mail_next_at == timezone.now()


def test_no_steady_flood_of_one_client_holds_up_the_first_mail_of_another(
    api: API, user: Any, clock: Any, later: Later
) -> None:
    for number in range(15):
        api.request(f"nobody{number}@example.com")
    later(seconds=30)
    ForgetPassword.objects.create(email="ada@example.com", email_digest=codes.address_digest("ada@example.com"))
    mailer.look()
    first_two = ForgetPassword.objects.in_bulk(due_now(2))
    assert "ada@example.com" in {record.email for record in first_two.values()}
    later(minutes=15)
    assert len(transitions.claim(timezone.now(), 20, in_turn=True)) == 16  # and none waits for ever


# --- Send ------------------------------------------------------------------------------------------------------------


def test_a_mail_that_was_taken_is_owed_no_more(user: Any) -> None:
    record = looked()
    assert mailer.send(record.pk, taking())
    assert owes_nothing(record)
    assert timeline(record)[1:] == [(EventKind.MAILED, Due.CODE)]


def test_a_mail_is_sent_once_however_often_it_is_rung_for(user: Any) -> None:
    record, connection = looked(), taking()
    assert [mailer.send(record.pk, connection) for _ in range(3)] == [True, False, False]
    assert len(connection.sent) == 1


def test_a_strangers_row_is_never_sent() -> None:
    connection = taking()
    assert not mailer.send(looked("nobody@example.com").pk, connection)
    assert connection.sent == []


def test_sending_never_moves_what_the_holder_is_shown(user: Any, later: Later) -> None:
    record = looked()
    before = (record.state, record.sent_at)
    for connection in (failing(GREYLISTED), taking()):
        later(minutes=1)
        mailer.send(record.pk, connection)
        record.refresh_from_db()
        assert (record.state, record.sent_at) == before


def test_a_mail_goes_to_the_stored_address(make_user: MakeUser) -> None:
    make_user("Ada@example.com")
    connection = taking()
    mailer.send(looked("ADA@EXAMPLE.COM").pk, connection)
    assert connection.sent[0].message.to == ["Ada@example.com"]


# --- Failure ---------------------------------------------------------------------------------------------------------


def test_a_mail_that_failed_is_put_off_with_the_reason(settings: Any, user: Any, clock: Any) -> None:
    record = looked()
    assert not mailer.send(record.pk, failing(GREYLISTED))
    record.refresh_from_db()
    assert (record.mail_due, record.mail_error, record.mail_claimed_at) == (Due.CODE, "smtp_451 4.7.1", None)
    assert timeline(record)[1:] == [(EventKind.MAIL_FAILED, "smtp_451 4.7.1")]
    assert record.mail_next_at
    first = timedelta(seconds=settings.MAIL_RETRY_SECONDS)
    assert first / 2 <= record.mail_next_at - timezone.now() <= first


@pytest.mark.parametrize(
    ("tries", "longest"), [(1, 10), (2, 20), (3, 40), (8, 1280), (9, 2560), (10, 3600), (99, 3600)]
)
def test_the_pause_doubles_with_every_try_up_to_an_hour(
    monkeypatch: pytest.MonkeyPatch, tries: int, longest: int
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, most: most)
    assert batches._backoff(tries) == timedelta(seconds=longest)


def test_the_pauses_of_a_crowd_differ_by_up_to_a_half() -> None:
    pauses = {batches._backoff(1).total_seconds() for _ in range(50)}
    assert len(pauses) > 40
    assert 5 <= min(pauses) < 7 < 8 < max(pauses) <= 10


def test_a_mail_put_off_is_tried_again_when_its_time_has_come(post: PostOffice, user: Any, later: Later) -> None:
    mailer.send(looked().pk, failing(GREYLISTED))
    assert post.deliver() == []
    later(seconds=10)
    assert post.deliver_one().code


def test_another_try_carries_the_same_code_phrase_and_message_id(post: PostOffice, user: Any, later: Later) -> None:
    tried: list[Letter] = []

    def break_after_the_server_has_it(message: EmailMessage) -> None:
        tried.append(Letter(message))
        raise smtplib.SMTPServerDisconnected

    record = looked()
    mailer.send(record.pk, Scripted(break_after_the_server_has_it))
    later(seconds=10)
    letters = [*tried, post.deliver_one()]
    assert all(record.match_phrase in letter.text for letter in letters)
    assert len({letter.code for letter in letters}) == 1
    assert len({letter.token for letter in letters}) == 1
    assert len({letter.message.extra_headers["Message-ID"] for letter in letters}) == 1


def test_a_try_so_late_that_the_code_is_a_new_one_is_a_new_message(post: PostOffice, user: Any, later: Later) -> None:
    tried: list[Letter] = []

    def fail(message: EmailMessage) -> None:
        tried.append(Letter(message))
        raise ConnectionRefusedError

    mailer.send(looked().pk, Scripted(fail))
    later(minutes=5)
    first, second = tried[0], post.deliver_one()
    assert first.code != second.code
    assert first.message.extra_headers["Message-ID"] != second.message.extra_headers["Message-ID"]


def test_the_code_of_a_late_mail_lives_its_ten_minutes_from_that_mail(
    api: API, post: PostOffice, user: Any, later: Later
) -> None:
    reset = api.request()
    mailer.look()
    mailer.send(ForgetPassword.objects.get().pk, failing(GREYLISTED))
    later(minutes=20)
    letter = post.deliver_one()
    later(minutes=9, seconds=59)
    assert api.verify(reset["requestId"], letter.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_a_permanent_refusal_kills_a_mail_at_once(user: Any, later: Later) -> None:
    record = looked()
    mailer.send(record.pk, failing(NOBODY_HERE))
    record.refresh_from_db()
    assert (record.mail_due, record.mail_next_at, record.mail_error) == (Due.CODE, None, "smtp_550 5.1.1")
    assert timeline(record)[1:] == [(EventKind.MAIL_DEAD, "smtp_550 5.1.1")]
    later(days=30)
    assert due_now(10) == []
    assert not mailer.send(record.pk, taking())


def test_too_many_tries_kill_a_mail(settings: Any, user: Any, later: Later) -> None:
    settings.MAIL_MAX_ATTEMPTS = 3
    record = looked()
    for _ in range(3):
        later(hours=1)
        assert due_now(10) == [record.pk]
        mailer.send(record.pk, failing(TimeoutError()))
    later(days=30)
    assert due_now(10) == []
    assert [kind for kind, _ in timeline(record)[1:]] == ["MAIL_FAILED", "MAIL_FAILED", "MAIL_DEAD"]


def test_a_mail_that_is_left_unanswered_once_sent_whole_is_tried_once_more_and_not_again(
    settings: Any, user: Any, later: Later
) -> None:
    record = looked()
    mailer.send(record.pk, failing(MailUnanswered()))
    later(minutes=1)
    mailer.send(record.pk, failing(GREYLISTED))
    later(minutes=1)
    mailer.send(record.pk, failing(MailUnanswered()))
    later(days=30)
    assert due_now(10) == []
    assert timeline(record)[1:] == [
        (EventKind.MAIL_FAILED, smtp.UNANSWERED),
        (EventKind.MAIL_FAILED, "smtp_451 4.7.1"),
        (EventKind.MAIL_DEAD, smtp.UNANSWERED),
    ]


def test_a_mail_that_is_asked_for_again_may_be_left_unanswered_anew(
    api: API, post: PostOffice, user: Any, later: Later
) -> None:
    handle = api.request()["requestId"]
    mailer.look()
    record = ForgetPassword.objects.get()
    mailer.send(record.pk, failing(MailUnanswered()))
    later(minutes=2)
    api.mutate("resendPasswordResetCode", requestId=handle)
    mailer.send(record.pk, failing(MailUnanswered()))
    later(minutes=1)
    assert post.deliver_one().code


def test_a_mail_that_is_revived_may_be_left_unanswered_anew(post: PostOffice, user: Any, later: Later) -> None:
    record = looked()
    for _ in range(2):
        mailer.send(record.pk, failing(MailUnanswered()))
        later(minutes=1)
    assert transitions.revive(ForgetPassword.objects.all(), timezone.now()) == 1
    mailer.send(record.pk, failing(MailUnanswered()))
    later(minutes=1)
    assert post.deliver_one().code


def test_the_answer_to_a_mail_may_take_until_its_lease_ends(
    settings: Any, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAIL_LEASE_SECONDS = 300
    monkeypatch.setattr("accounts.mailing.batches.time.monotonic", lambda: 1000.0)
    connection = taking()
    mailer.send(looked().pk, connection)
    assert connection.lease_ends == 1300.0


def test_a_dead_mail_can_be_revived_and_has_all_its_tries_again(
    settings: Any, post: PostOffice, user: Any, later: Later
) -> None:
    settings.MAIL_MAX_ATTEMPTS = 2
    record = looked()
    mailer.send(record.pk, failing(NOBODY_HERE))
    later(minutes=1)
    assert transitions.revive(ForgetPassword.objects.all(), timezone.now()) == 1
    mailer.send(record.pk, failing(GREYLISTED))
    later(minutes=1)
    assert post.deliver_one().code


def test_reviving_touches_nothing_that_is_alive_or_settled(user: Any, clock: Any) -> None:
    settled, waiting = looked(), looked()
    mailer.send(settled.pk, taking())
    mailer.send(waiting.pk, failing(GREYLISTED))
    before = list(ForgetPassword.objects.order_by("pk").values())
    assert transitions.revive(ForgetPassword.objects.all(), timezone.now()) == 0
    assert list(ForgetPassword.objects.order_by("pk").values()) == before


def test_one_bad_address_never_delays_another(make_user: MakeUser) -> None:
    for name in ("ada", "bad", "bob"):
        make_user(f"{name}@example.com")
        asked(f"{name}@example.com")

    def refuse_bad(message: EmailMessage) -> None:
        if message.to == ["bad@example.com"]:
            raise NOBODY_HERE

    connection = Scripted(refuse_bad)
    taken = [mailer.send(pk, connection) for pk in mailer.look().owed]
    assert sorted(taken) == [False, True, True]
    assert sorted(letter.message.to[0] for letter in connection.sent) == ["ada@example.com", "bob@example.com"]


def test_a_mail_that_cannot_even_be_written_fails_alone(make_user: MakeUser, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad", "bob"):
        make_user(f"{name}@example.com")
        asked(f"{name}@example.com")
    write = mails.reset_mail

    def cannot_write_to_bad(record: ForgetPassword, address: str, *args: Any, **more: Any) -> Any:
        if address == "bad@example.com":
            raise ZeroDivisionError
        return write(record, address, *args, **more)

    monkeypatch.setattr(mails, "reset_mail", cannot_write_to_bad)
    connection = taking()
    for pk in mailer.look().owed:
        mailer.send(pk, connection)
    assert [letter.message.to for letter in connection.sent] == [["bob@example.com"]]
    assert ForgetPassword.objects.get(email="bad@example.com").mail_error == "error ZeroDivisionError"


# --- Meanwhile -------------------------------------------------------------------------------------------------------


def cancel(record: ForgetPassword) -> None:
    assert transitions.cancel(record.pk, timezone.now())


def complete(record: ForgetPassword) -> None:
    assert transitions.complete(record.pk, Q(), record.user_id, record.email, timezone.now())


def verify(record: ForgetPassword) -> None:
    record.refresh_from_db()
    assert transitions.verify(record.pk, record.generation, timezone.now())


def supersede(record: ForgetPassword) -> None:
    transitions.supersede([record.pk], timezone.now())


MEANWHILE = [(cancel, Due.LINK), (complete, Due.CHANGED), (verify, Due.NONE), (supersede, Due.NONE)]


@pytest.mark.parametrize(("happens", "due"), MEANWHILE)
@pytest.mark.parametrize("error", [None, GREYLISTED, NOBODY_HERE])
def test_what_happens_while_a_mail_is_sent_decides_what_is_owed_then(
    user: Any, happens: Callable[[ForgetPassword], None], due: Due, error: Exception | None
) -> None:
    record = looked()

    def meanwhile(message: EmailMessage) -> None:
        happens(record)
        if error:
            raise error

    mailer.send(record.pk, Scripted(meanwhile))
    record.refresh_from_db()
    assert record.mail_due == due
    assert record.mail_error == ""
    assert due_now(10) == ([record.pk] if due else [])


@pytest.mark.parametrize(("happens", "due"), MEANWHILE)
def test_what_happens_between_the_claim_and_the_mail_is_neither_sent_twice_nor_lost(
    user: Any, monkeypatch: pytest.MonkeyPatch, happens: Callable[[ForgetPassword], None], due: Due
) -> None:
    record, take, connection = looked(), transitions.claim, taking()

    def claim_and_be_overtaken(*args: Any, **options: Any) -> list[uuid.UUID]:
        took = take(*args, **options)
        happens(record)
        return took

    with monkeypatch.context() as overtaken:
        overtaken.setattr(transitions, "claim", claim_and_be_overtaken)
        mailer.send(record.pk, connection)
    mailer.send(record.pk, connection)
    assert len(connection.sent) == (1 if due else 0)
    assert owes_nothing(record)


def test_a_row_deleted_between_the_claim_and_the_mail_stops_nobody(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    record, take, connection = looked(), transitions.claim, taking()

    def claim_and_delete(*args: Any, **options: Any) -> list[uuid.UUID]:
        took = take(*args, **options)
        ForgetPassword.objects.all().delete()
        return took

    monkeypatch.setattr(transitions, "claim", claim_and_delete)
    assert not mailer.send(record.pk, connection)
    assert connection.sent == []


def test_an_account_deleted_before_its_mail_is_not_mailed(user: Any) -> None:
    record, connection = looked(), taking()
    user.delete()
    assert not mailer.send(record.pk, connection)
    assert connection.sent == []
    assert owes_nothing(record)
    assert timeline(record)[1:] == [(EventKind.NOT_MAILED, "unknown")]


def test_an_account_closed_before_its_mail_is_not_mailed(user: Any) -> None:
    record, connection = looked(), taking()
    user.is_active = False
    user.save()
    assert not mailer.send(record.pk, connection)
    assert connection.sent == []
    assert owes_nothing(record)
    assert timeline(record)[1:] == [(EventKind.NOT_MAILED, "inactive")]


def test_an_account_that_lost_its_password_before_its_mail_is_not_mailed(user: Any) -> None:
    record, connection = looked(), taking()
    user.set_unusable_password()
    user.save()
    assert not mailer.send(record.pk, connection)
    assert timeline(record)[1:] == [(EventKind.NOT_MAILED, "unusable_password")]


def test_an_account_that_lost_its_address_before_its_mail_is_not_mailed(user: Any) -> None:
    record, connection = looked(), taking()
    user.email = ""
    user.save()
    assert not mailer.send(record.pk, connection)
    assert connection.sent == []
    assert [kind for kind, _ in timeline(record)[1:]] == [EventKind.NOT_MAILED]


def test_an_account_that_moved_before_its_mail_is_not_mailed_and_one_that_moved_back_is(
    user: Any, later: Later
) -> None:
    record, connection = looked(), taking()
    type(user).objects.update(email="ada@new.example.com")
    assert not mailer.send(record.pk, connection)
    assert timeline(record)[1:] == [(EventKind.NOT_MAILED, "moved")]
    type(user).objects.update(email="ada@example.com")
    later(minutes=1)
    assert transitions.resend(record.pk, Due.CODE, timezone.now(), 1)
    assert mailer.send(record.pk, connection)


def test_a_password_changed_before_the_mail_gives_it_a_link_that_works(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    mailer.look()
    user.set_password("quarry-lantern-okra-55")
    user.save()
    assert api.reset(post.deliver_one().token)["__typename"] == "ResetPasswordSuccess"


def test_no_code_is_mailed_that_cannot_be_right(api: API, post: PostOffice, make_user: MakeUser) -> None:
    make_user("ada@example.com", "ada")
    root = make_user("Ada@example.com", "root")
    reset = api.request()
    mailer.look()
    root.is_active = False
    root.save()
    letter = post.deliver_one()
    if letter.code:
        assert api.verify(reset["requestId"], letter.code)["__typename"] == "VerifyPasswordResetCodeSuccess"
    assert len(letter.tokens) == 1


def test_a_known_but_closed_account_that_opens_again_can_use_the_resent_code(
    api: API, post: PostOffice, make_user: MakeUser, later: Later
) -> None:
    ada = make_user("ada@example.com", is_active=False)
    reset = api.request()
    assert post.deliver() == []
    ada.is_active = True
    ada.save()
    later(minutes=1)
    api.mutate("resendPasswordResetCode", requestId=reset["requestId"])
    letter = post.deliver_one()
    if letter.code:
        assert api.verify(reset["requestId"], letter.code)["__typename"] == "VerifyPasswordResetCodeSuccess"
    assert len(letter.tokens) == 1


# --- Signals ---------------------------------------------------------------------------------------------------------


def test_every_request_is_signalled_by_the_look_known_or_not(user: Any) -> None:
    records = [asked("ada@example.com"), asked("nobody@example.com")]
    with hearing(signals.password_reset_requested) as heard:
        mailer.look()
    assert {(said["sender"], said["record"].pk, said["record"].user) for said in heard} == {
        (ForgetPassword, records[0].pk, user),
        (ForgetPassword, records[1].pk, None),
    }


def test_a_request_is_signalled_once_the_look_is_committed(user: Any) -> None:
    seen = []

    def receive(record: ForgetPassword, **arguments: Any) -> None:
        seen.append(ForgetPassword.objects.filter(pk=record.pk, state=State.SENT).exists())

    asked()
    signals.password_reset_requested.connect(receive)
    mailer.look()
    signals.password_reset_requested.disconnect(receive)
    assert seen == [True]


def test_a_mail_that_was_taken_is_signalled(user: Any) -> None:
    record = looked()
    with hearing(signals.password_reset_sent) as heard:
        mailer.send(record.pk, taking())
    assert [(said["sender"], said["record"].pk, said["mail"]) for said in heard] == [
        (ForgetPassword, record.pk, Due.CODE)
    ]


def test_a_mail_that_was_not_taken_is_not_signalled(user: Any) -> None:
    record = looked()
    with hearing(signals.password_reset_sent) as heard:
        mailer.send(record.pk, failing(GREYLISTED))
    assert heard == []


def test_a_broken_receiver_of_the_request_breaks_no_look(user: Any) -> None:
    asked()
    asked("nobody@example.com")
    with a_broken_receiver(signals.password_reset_requested), hearing(signals.password_reset_requested) as heard:
        assert mailer.look().looked == 2
    assert len(heard) == 2
    assert not ForgetPassword.objects.filter(looked_at=None).exists()


def test_a_broken_receiver_of_the_mail_breaks_no_send(user: Any) -> None:
    record = looked()
    with a_broken_receiver(signals.password_reset_sent):
        assert mailer.send(record.pk, taking())
    assert owes_nothing(record)


# --- Logs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, GREYLISTED, NOBODY_HERE, ValueError("ada@example.com")])
def test_no_secret_and_no_address_is_logged(
    user: Any, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    letters: list[Letter] = []

    def meanwhile(message: EmailMessage) -> None:
        letters.append(Letter(message))
        if error:
            raise error

    with caplog.at_level(logging.DEBUG):
        # The database's own log, which is off in production, is not ours to keep clean.
        logging.getLogger("django.db.backends").setLevel(logging.WARNING)
        record = looked()
        mailer.send(record.pk, Scripted(meanwhile))
    said = "\n".join(f"{line.getMessage()} {line.exc_text or ''}" for line in caplog.records)
    assert bool(said) is bool(error)
    for secret in (letters[0].code, letters[0].token, record.handle, record.seed.hex(), "ada@example.com"):
        assert secret not in said


def test_a_failure_is_logged_by_row_reason_and_number_of_the_try(user: Any, caplog: pytest.LogCaptureFixture) -> None:
    record = looked()
    mailer.send(record.pk, failing(GREYLISTED))
    assert f"{record.pk}" in caplog.text
    assert "smtp_451 4.7.1 (SMTPRecipientsRefused), try 1" in caplog.text


def test_mail_reaches_djangos_backend_as_it_was_written(post: PostOffice, user: Any) -> None:
    looked()
    letter = post.deliver_one()
    assert mail.outbox == [letter.message]
