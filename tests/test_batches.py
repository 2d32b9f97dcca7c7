"""Mails in hand: marked in small groups, and never held up by one that a mail server is silent about."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from accounts import codes, transitions
from accounts.addresses import fold
from accounts.choices import EventKind, Mail
from accounts.directory import Directory
from accounts.mailing import batches, dispatch, mailer, pace, smtp, tasks, threads
from accounts.models import ForgetPassword, PasswordResetEvent
from harness.deployment import wait_until
from harness.smtp_server import HOLD, SMTPServer, mail_server

pytestmark = pytest.mark.django_db(transaction=True)

WAIT = 30
EMAILS = [f"user{number}@example.com" for number in range(6)]


@pytest.fixture
def server(settings: Any, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[SMTPServer]:
    """A mail server. Marks wait for the end of a batch, however slow the machine, until a test says otherwise."""
    monkeypatch.setattr(batches, "MARK_SECONDS", WAIT)
    with mail_server(settings) as server:
        yield server
        for stage in list(server.stages):
            server.release(stage)
        threads.stop()
        mailer.forget()


@pytest.fixture
def owed(make_user: Callable[..., Any]) -> list[ForgetPassword]:
    """Rows that have been looked up and owe a code, one for each address, the longest due first."""
    for waits, email in zip(range(len(EMAILS), 0, -1), EMAILS, strict=True):
        make_user(email)
        due = timezone.now() - timedelta(milliseconds=waits)  # or a clock that stands still would leave the order open
        ForgetPassword.objects.create(
            email=email, email_digest=codes.address_digest(fold(email)), mail_next_at=due, mail_turn_at=due
        )
    mailer.look()
    return list(ForgetPassword.objects.order_by("mail_next_at"))


@pytest.fixture
def wire(server: SMTPServer) -> Iterator[smtp.Connection]:
    connection = smtp.Connection()
    yield connection
    connection.close()


def still_due() -> list[str]:
    return sorted(ForgetPassword.objects.exclude(mail_due=Mail.NONE).values_list("email", flat=True))


def in_hand() -> list[str]:
    return sorted(ForgetPassword.objects.exclude(mail_claimed_at=None).values_list("email", flat=True))


def send_in_the_background(limit: int) -> threading.Thread:
    def send() -> None:
        connection = smtp.Connection()
        mailer.send_due(connection, limit)
        connection.close()
        connections.close_all()

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def hold_the_third(server: SMTPServer) -> threading.Thread:
    """Start a batch of all that is owed, whose third mail gets no answer."""
    held = threading.Event()
    send = smtp.Connection.send
    count = 0

    def counting(connection: smtp.Connection, message: Any, **options: Any) -> str:
        nonlocal count
        count += 1
        if count == 3:
            server.on("DATA", HOLD, times=1)
            held.set()
        return send(connection, message, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smtp.Connection, "send", counting)
        sender = send_in_the_background(20)
        assert held.wait(WAIT)
    server.wait_until(lambda: server.stages["DATA"] == 3)
    return sender


# --- Marks -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_marked_by_few_statements_with_a_line_for_each_mail(
    server: SMTPServer, wire: smtp.Connection, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[int] = []
    settle = transitions.settle

    def noting(pks: Any, *args: Any) -> int:
        settled.append(len(pks))
        return settle(pks, *args)

    monkeypatch.setattr(transitions, "settle", noting)
    monkeypatch.setattr(batches, "MARK_MAILS", 4)
    assert mailer.send_due(wire, 20) == len(EMAILS)
    assert settled == [4, 2]
    assert still_due() == []
    assert PasswordResetEvent.objects.filter(kind=EventKind.MAILED).count() == len(EMAILS)


def test_mails_of_two_kinds_are_each_marked_as_what_they_are(
    server: SMTPServer, wire: smtp.Connection, owed: list[ForgetPassword]
) -> None:
    ForgetPassword.objects.filter(pk__in=[owed[0].pk, owed[3].pk]).update(mail_due=Mail.LINK)
    mailer.send_due(wire, 20)
    assert still_due() == []
    lines = PasswordResetEvent.objects.filter(kind=EventKind.MAILED).values_list("reason", flat=True)
    assert sorted(lines) == [Mail.CODE] * 4 + [Mail.LINK] * 2


def test_a_mail_that_is_asked_for_again_before_the_mark_stays_due(
    server: SMTPServer, wire: smtp.Connection, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = batches.Batch.mark

    def after_a_resend(batch: batches.Batch) -> None:
        ForgetPassword.objects.filter(pk=owed[1].pk).update(mail_claimed_at=None)
        mark(batch)

    monkeypatch.setattr(batches.Batch, "mark", after_a_resend)
    mailer.send_due(wire, 20)
    assert still_due() == [owed[1].email]


def test_what_was_taken_is_marked_although_the_next_mail_hangs(
    server: SMTPServer, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = hold_the_third(server)
    monkeypatch.setattr(batches, "MARK_SECONDS", 0)
    mailer.relieve()
    assert still_due() == [record.email for record in owed[2:]]
    server.release("DATA")
    sender.join(WAIT)
    assert still_due() == []


def test_a_mark_that_the_database_does_not_take_is_made_later_and_the_mail_is_not_sent_again(
    server: SMTPServer, wire: smtp.Connection, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> int:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(transitions, "settle", fails)
        with pytest.raises(OperationalError):
            mailer.send_due(wire, 20)
    assert still_due() == EMAILS
    monkeypatch.setattr(batches, "MARK_SECONDS", 0)
    mailer.relieve()
    assert still_due() == []
    assert mailer.send_due(wire, 20) == 0
    assert len(server.letters) == len({letter.recipients for letter in server.letters}) == len(EMAILS)


def test_a_mark_that_fails_while_its_sender_ends_is_made_later(
    server: SMTPServer, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = hold_the_third(server)
    monkeypatch.setattr(batches, "MARK_SECONDS", 0)

    def fails_late(*args: Any) -> int:
        server.release("DATA")
        sender.join(WAIT)
        raise OperationalError

    with monkeypatch.context() as patch:
        marking = threading.current_thread()
        settle = transitions.settle
        patch.setattr(
            transitions,
            "settle",
            lambda *args: fails_late() if threading.current_thread() is marking else settle(*args),
        )
        with pytest.raises(OperationalError):
            mailer.relieve()
    assert still_due() == [record.email for record in owed[:2]]
    mailer.relieve()
    assert still_due() == []


def test_a_timeline_that_cannot_be_written_costs_no_mark(
    server: SMTPServer, wire: smtp.Connection, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that somebody deletes meanwhile takes its timeline along."""
    settle = transitions.settle

    def and_delete(*args: Any) -> int:
        done = settle(*args)
        ForgetPassword.objects.filter(pk=owed[0].pk).delete()
        return done

    monkeypatch.setattr(transitions, "settle", and_delete)
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        mailer.send_due(wire, 20)
    assert still_due() == []


# --- Relief ----------------------------------------------------------------------------------------------------------


def test_what_was_claimed_with_a_mail_that_hangs_is_given_back_and_the_mail_itself_is_not(
    server: SMTPServer, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = hold_the_third(server)
    monkeypatch.setattr(batches, "MARK_SECONDS", 0)
    mailer.relieve()
    assert in_hand() == [record.email for record in owed[2:]]
    monkeypatch.setattr(batches, "BATCH_SECONDS", 0)
    mailer.relieve()
    assert in_hand() == [owed[2].email]
    server.release("DATA")
    sender.join(WAIT)
    assert still_due() == [record.email for record in owed[3:]]
    assert not ForgetPassword.objects.filter(mail_attempts__gt=1).exists()


def test_a_slow_address_delays_no_other(
    settings: Any, server: SMTPServer, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = hold_the_third(server)
    monkeypatch.setattr(batches, "MARK_SECONDS", 0)
    monkeypatch.setattr(batches, "BATCH_SECONDS", 0.3)
    settings.MAIL_DISPATCH, settings.MAIL_SWEEP_SECONDS = "thread", 0.05
    dispatch.start()
    wait_until(lambda: still_due() == [owed[2].email])
    server.release("DATA")
    server.wait_until(lambda: len(server.letters) == len(EMAILS))
    sender.join(WAIT)


def test_a_row_that_always_fails_before_it_is_rendered_stops_no_other(
    server: SMTPServer, wire: smtp.Connection, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is due the longest: were it given back as it is, every claim would meet it first, for ever."""

    class Failing(Directory):
        def why_not(self, account: Any, address: str) -> str:
            if account.pk == owed[0].user_id:
                raise ValueError
            return super().why_not(account, address)

    monkeypatch.setattr(batches, "directory", Failing)
    assert [mailer.send_due(wire, 1) for _ in EMAILS] == [1] * len(EMAILS)
    assert still_due() == [owed[0].email]
    owed[0].refresh_from_db()
    assert (owed[0].mail_error, owed[0].mail_attempts) == ("error ValueError", 1)


def test_a_batch_that_cannot_be_relieved_leaves_the_others_their_turn(
    server: SMTPServer, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad:
        def is_over(self) -> bool:
            return False

        def relieve(self) -> None:
            raise OperationalError

    sender = hold_the_third(server)
    monkeypatch.setattr(batches, "MARK_SECONDS", 0)
    monkeypatch.setattr(batches, "BATCH_SECONDS", 0)
    good = list(mailer._in_hand)
    # Enough of them that hardly any order of a set has the good one first.
    monkeypatch.setattr(mailer, "_in_hand", {*good, *(Bad() for _ in range(99))})
    with pytest.raises(OperationalError):
        mailer.relieve()
    assert in_hand() == [owed[2].email]
    monkeypatch.setattr(mailer, "_in_hand", set(good))
    server.release("DATA")
    sender.join(WAIT)


def test_a_batch_whose_lease_is_over_is_not_relieved_any_more(
    settings: Any, server: SMTPServer, owed: list[ForgetPassword]
) -> None:
    sender = hold_the_third(server)
    settings.MAIL_LEASE_SECONDS = 0
    mailer.relieve()
    mailer.let_go()
    assert in_hand() == EMAILS
    server.release("DATA")
    sender.join(WAIT)


def test_a_forked_process_leaves_its_parents_batches_alone(server: SMTPServer, owed: list[ForgetPassword]) -> None:
    sender = hold_the_third(server)
    claimed = in_hand()
    threads._start_again_after_fork()
    mailer.let_go()
    assert in_hand() == claimed
    server.release("DATA")
    sender.join(WAIT)


# --- Naps ------------------------------------------------------------------------------------------------------------


def test_a_hand_too_many_leaves_the_rest_to_the_others(
    server: SMTPServer, wire: smtp.Connection, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "CROWDED", -1)
    crew = threads.SendingThreads(2)
    crew._sending = 2
    assert crew._send_all(wire) is True
    assert still_due() == EMAILS[1:]


def test_the_only_hand_and_one_that_is_told_to_stop_send_all(
    server: SMTPServer, wire: smtp.Connection, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "CROWDED", -1)
    crew = threads.SendingThreads(2)
    crew._sending = 1
    assert crew._send_all(wire) is False
    assert still_due() == []
    ForgetPassword.objects.update(mail_due=Mail.LINK, mail_next_at=timezone.now(), mail_turn_at=timezone.now())
    crew._sending = 2
    crew.stopping.set()
    assert crew._send_all(wire) is False
    assert still_due() == []


def test_a_hand_comes_back_from_its_nap_without_being_called(
    settings: Any, server: SMTPServer, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAIL_SWEEP_SECONDS = 3600

    def send_one(crew: threads.SendingThreads, connection: smtp.Connection) -> bool:
        return mailer.send_due(connection, 1) == 1

    monkeypatch.setattr(threads, "NAP_SECONDS", 0.01)
    monkeypatch.setattr(threads.SendingThreads, "_send_all", send_one)
    crew = threads.SendingThreads(1)
    crew.start()
    server.wait_until(lambda: len(server.letters) == len(EMAILS))
    crew.stop(WAIT)


# --- Pace ------------------------------------------------------------------------------------------------------------


def test_what_the_pace_holds_back_stays_due_and_goes_when_its_minute_has_come(
    settings: Any,
    server: SMTPServer,
    clock: Any,
    wire: smtp.Connection,
    owed: list[ForgetPassword],
    later: Callable[..., None],
) -> None:
    settings.MAIL_PER_MINUTE = 4
    crew = threads.SendingThreads(1)
    assert crew._send_all(wire) is True
    assert len(still_due()) == len(EMAILS) - 4
    assert in_hand() == []
    assert crew._send_all(wire) is True
    assert len(still_due()) == len(EMAILS) - 4
    later(minutes=1)
    assert crew._send_all(wire) is False
    assert still_due() == []


def test_what_was_allowed_and_not_due_is_left_to_others(
    settings: Any, server: SMTPServer, clock: Any, wire: smtp.Connection, owed: list[ForgetPassword]
) -> None:
    settings.MAIL_PER_MINUTE = len(EMAILS) + 1
    assert threads.SendingThreads(1)._send_all(wire) is False
    assert pace.take(10).count == 1


def test_whoever_mails_all_that_is_due_and_then_ends_waits_for_the_pace(
    settings: Any,
    server: SMTPServer,
    clock: Any,
    wire: smtp.Connection,
    owed: list[ForgetPassword],
    later: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.MAIL_PER_MINUTE = 2
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        later(seconds=30)

    monkeypatch.setattr("accounts.mailing.threads.time.sleep", sleep)
    crew = threads.SendingThreads(1)
    crew.stopping.set()
    assert crew._send_all(wire) is False
    assert still_due() == []
    assert len(slept) >= 4


def test_a_worker_of_the_queue_leaves_to_a_sweep_what_the_pace_holds_back(
    settings: Any, server: SMTPServer, clock: Any, owed: list[ForgetPassword]
) -> None:
    settings.MAIL_PER_MINUTE = 1
    for record in owed[:2]:
        tasks.send_mail(str(record.pk))
    tasks._local.connection.close()
    assert still_due() == [record.email for record in owed[1:]]
    assert in_hand() == []


def test_a_worker_of_the_queue_sends_the_mail_whose_turn_it_is_whatever_row_the_message_names(
    server: SMTPServer, clock: Any, owed: list[ForgetPassword]
) -> None:
    tasks.send_mail(str(owed[-1].pk))
    tasks._local.connection.close()
    assert still_due() == EMAILS[1:]


@pytest.mark.parametrize("known", [True, False])
def test_a_decoy_takes_as_much_of_the_pace_from_a_worker_of_the_queue_as_a_mail(
    settings: Any, server: SMTPServer, make_user: Callable[..., Any], known: bool
) -> None:
    settings.MAIL_PER_MINUTE = 5
    if known:
        make_user("ada@example.com")
    record = ForgetPassword.objects.create(
        email="ada@example.com", email_digest=codes.address_digest("ada@example.com")
    )
    mailer.look()
    tasks.send_mail(str(record.pk))
    tasks._local.connection.close()
    assert pace.take(5).count == 4


def test_a_bell_whose_mail_another_has_taken_takes_that_ones(
    server: SMTPServer, clock: Any, owed: list[ForgetPassword], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim passes over what was looked up after it began, and its bell would be spent for nothing."""
    tried: list[int] = []
    claim = transitions.claim

    def too_early_at_first(*args: Any, **options: Any) -> Any:
        tried.append(1)
        return claim(*args, **options) if len(tried) > 1 else []

    monkeypatch.setattr(transitions, "claim", too_early_at_first)
    tasks.send_mail(str(owed[0].pk))
    tasks._local.connection.close()
    assert still_due() == EMAILS[1:]
