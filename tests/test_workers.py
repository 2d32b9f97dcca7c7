"""The mailing threads, against a real SMTP server: nothing waits for them, and nothing accepted is lost by them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import serializers
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils import timezone

from accounts import codes, signals, transitions
from accounts.addresses import fold
from accounts.choices import State
from accounts.mailing import batches, dispatch, mailer, receivers, smtp
from accounts.mailing import threads as workers
from accounts.models import ForgetPassword
from accounts.transitions import turn_of
from harness.deployment import wait_until
from harness.smtp_server import DROP, HOLD, SMTPServer, environment, mail_server
from tests.conftest import API

MakeUser = Callable[..., Any]

pytestmark = pytest.mark.django_db(transaction=True)

MUTATION = (
    'mutation { requestPasswordReset(input: {email: "ada@example.com"}) '
    "{ ... on RequestPasswordResetSuccess { reset { status } } } }"
)
WAIT = 30
"""Seconds until a test gives up on something that takes milliseconds."""


@pytest.fixture
def server(settings: Any, transactional_db: None) -> Iterator[SMTPServer]:
    """A mail server with this process's threads mailing to it; they end before the server and the database do."""
    smtp.forget()
    settings.MAIL_DISPATCH = "thread"
    settings.MAIL_SWEEP_SECONDS = 0.05
    with mail_server(settings) as server:
        yield server
        for stage in list(server.stages):
            server.release(stage)
        workers.stop()


@pytest.fixture
def mails_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "seconds_of_a_mail", lambda: workers.LONG_SECONDS)


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, bool]]:
    """The rings that reach the dispatcher, each as row and whether it is new."""
    heard: list[tuple[Any, bool]] = []
    monkeypatch.setattr(receivers, "wake", lambda pk, *, new: heard.append((pk, new)))
    return heard


def asked(email: str = "ada@example.com", **fields: Any) -> ForgetPassword:
    return ForgetPassword.objects.create(email=email, email_digest=codes.address_digest(fold(email)), **fields)


def left_by_another_process(settings: Any, *emails: str) -> None:
    dispatch, settings.MAIL_DISPATCH = settings.MAIL_DISPATCH, "none"
    for email in emails:
        asked(email)
    settings.MAIL_DISPATCH = dispatch


def recipients(server: SMTPServer) -> list[str]:
    return sorted(letter.recipients[0] for letter in server.letters)


def the_sweeps(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that waits for so many further sweeps, each of which follows a look in the same round."""
    swept, sweep, count = threading.Condition(), workers.SendingThreads.sweep, 0

    def counted(crew: workers.SendingThreads) -> None:
        nonlocal count
        with swept:
            count += 1
            swept.notify_all()
        sweep(crew)

    def wait(further: int) -> None:
        with swept:
            last = count + further
            assert swept.wait_for(lambda: count >= last, WAIT)

    monkeypatch.setattr(workers.SendingThreads, "sweep", counted)
    return wait


def wait_for_settled(sent: int) -> Callable[[], None]:
    """Connect now, and later wait until so many mails have been marked as sent."""
    marked = threading.Semaphore(0)

    def receive(**arguments: Any) -> None:
        marked.release()

    signals.password_reset_sent.connect(receive, weak=False)

    def wait() -> None:
        for _ in range(sent):
            assert marked.acquire(timeout=WAIT)
        signals.password_reset_sent.disconnect(receive)

    return wait


# --- From request to mail --------------------------------------------------------------------------------------------


def test_a_request_over_http_is_mailed(server: SMTPServer, user: Any, live_server: Any) -> None:
    body = json.dumps({"query": MUTATION}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{live_server.url}/graphql/", body, headers)  # noqa: S310 (loopback)
    with urllib.request.urlopen(request, timeout=WAIT) as response:  # noqa: S310
        assert json.load(response)["data"]["requestPasswordReset"]["reset"]["status"] == "QUEUED"
    server.wait_until(lambda: server.letters)
    assert recipients(server) == ["ada@example.com"]
    assert "Your code:" in server.letters[0].text


def test_the_answer_is_there_before_the_mail_server_has_said_its_first_word(
    server: SMTPServer, user: Any, api: API
) -> None:
    server.on("CONNECT", HOLD)
    assert api.request()["status"] == "QUEUED"
    assert server.stages["EHLO"] == 0
    server.release("CONNECT")
    server.wait_until(lambda: server.letters)


def test_all_are_shown_sent_while_the_mail_server_holds_every_mail(
    server: SMTPServer, make_user: MakeUser, api: API
) -> None:
    server.on("MAIL", HOLD)
    looked = threading.Semaphore(0)
    signals.password_reset_requested.connect(lambda **_: looked.release(), weak=False, dispatch_uid="looked")
    make_user("ada@example.com")
    resets = [api.request("ada@example.com"), api.request("nobody@example.com")]
    for _ in resets:
        assert looked.acquire(timeout=WAIT)
    signals.password_reset_requested.disconnect(dispatch_uid="looked")
    shown = [api.status(reset["requestId"]) for reset in resets]
    assert [status and status["status"] for status in shown] == ["SENT", "SENT"]
    assert server.letters == []


def test_many_mails_share_few_connections(settings: Any, server: SMTPServer, make_user: MakeUser) -> None:
    settings.MAIL_SENDERS = 1
    for number in range(10):
        make_user(f"user{number}@example.com")
        asked(f"user{number}@example.com")
    server.wait_until(lambda: len(server.letters) == 10)
    assert len({letter.connection for letter in server.letters}) == 1


def test_an_idle_sender_gives_its_connections_back(
    server: SMTPServer, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.05)
    asked()
    server.wait_until(lambda: server.letters)
    server.wait_until(lambda: server.open_connections == 0)


def test_two_crews_on_one_database_send_every_mail_once(settings: Any, server: SMTPServer, make_user: MakeUser) -> None:
    emails = [f"user{number}@example.com" for number in range(20)]
    for email in emails:
        make_user(email)
    all_sent = wait_for_settled(len(emails))
    left_by_another_process(settings, *emails)
    crews = [workers.SendingThreads(2), workers.SendingThreads(2)]
    for crew in crews:
        crew.start()
    all_sent()
    for crew in crews:
        crew.stop(WAIT)
    assert recipients(server) == sorted(emails)


# --- The doorbell ----------------------------------------------------------------------------------------------------


def test_a_saved_row_rings_once(rung: list[Any]) -> None:
    record = asked()
    assert rung == [(record.pk, True)]


def test_a_row_rings_when_it_is_committed_and_not_before(rung: list[Any]) -> None:
    with transaction.atomic():
        asked()
        assert rung == []
    assert len(rung) == 1


def test_a_row_that_is_rolled_back_rings_nobody(rung: list[Any]) -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        asked()
        raise ZeroDivisionError
    assert rung == []


def test_a_row_saved_again_rings_nobody(rung: list[Any]) -> None:
    record = asked()
    rung.clear()
    record.save()
    assert rung == []


def test_a_row_out_of_a_fixture_rings_nobody(rung: list[Any]) -> None:
    fixture = serializers.serialize("json", [asked()])
    ForgetPassword.objects.all().delete()
    rung.clear()
    for item in serializers.deserialize("json", fixture):
        item.save()
    assert ForgetPassword.objects.count() == 1
    assert rung == []


def test_connecting_the_receivers_twice_rings_once(rung: list[Any]) -> None:
    receivers.connect()
    receivers.connect()
    record = asked()
    signals.mail_due.send(sender=ForgetPassword, pk=record.pk)
    assert rung == [(record.pk, True), (record.pk, False)]


def test_a_mail_left_due_in_a_transaction_rings_when_that_is_committed(rung: list[Any]) -> None:
    record = asked()
    rung.clear()
    with transaction.atomic():
        signals.mail_due.send(sender=ForgetPassword, pk=record.pk)
        assert rung == []
    assert rung == [(record.pk, False)]


def test_a_doorbell_that_is_broken_breaks_no_request(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(pk: Any, *, new: bool) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(receivers, "wake", broken)
    assert api.request()["status"] == "QUEUED"
    assert ForgetPassword.objects.count() == 1


def test_a_resend_is_mailed_without_waiting_for_a_sweep(
    settings: Any, server: SMTPServer, user: Any, api: API, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = the_sweeps(monkeypatch)
    dispatch.start()
    sweeps(1)
    settings.MAIL_SWEEP_SECONDS, settings.PASSWORD_RESET_COOLDOWN = 3600, 0
    first_is_sent = wait_for_settled(1)
    reset = api.request()
    first_is_sent()
    api.mutate("resendPasswordResetCode", requestId=reset["requestId"])
    server.wait_until(lambda: len(server.letters) == 2)


# --- Overflow, sweep, broken rounds ----------------------------------------------------------------------------------


def test_wake_ups_that_find_everybody_awake_are_dropped_and_no_mail_is(
    settings: Any, server: SMTPServer, make_user: MakeUser
) -> None:
    settings.MAIL_SENDERS, settings.MAIL_SWEEP_SECONDS = 1, 3600
    server.on("MAIL", HOLD)
    emails = [f"user{number}@example.com" for number in range(6)]
    all_sent = wait_for_settled(len(emails))
    for email in emails:
        make_user(email)
    asked(emails[0])
    server.wait_until(lambda: server.stages["MAIL"])
    for email in emails[1:]:
        asked(email)
    for _ in range(100):
        dispatch.start()
    server.release("MAIL")
    all_sent()
    assert recipients(server) == emails


def test_a_sender_claims_one_mail_at_a_time_from_a_slow_server_and_many_from_a_fast_one(
    settings: Any, server: SMTPServer, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAIL_SENDERS = 1
    emails = [f"user{number}@example.com" for number in range(30)]
    for email in emails:
        make_user(email)
    limits: list[int] = []
    send_due = mailer.send_due

    def noting(connection: smtp.Connection, limit: int, **options: Any) -> int:
        limits.append(limit)
        return send_due(connection, limit, **options)

    monkeypatch.setattr(mailer, "send_due", noting)
    monkeypatch.setattr(workers, "BATCH_WORTH", 1e-9)
    all_sent = wait_for_settled(10)
    left_by_another_process(settings, *emails[:10])
    dispatch.start()
    all_sent()
    assert set(limits) == {1}
    limits.clear()
    monkeypatch.setattr(workers, "BATCH_WORTH", 1e9)
    all_sent = wait_for_settled(20)
    left_by_another_process(settings, *emails[10:])
    dispatch.start()
    all_sent()
    assert max(limits) > 4


def test_what_is_claimed_and_not_begun_in_time_is_given_back_and_the_try_does_not_count(
    server: SMTPServer, make_user: MakeUser, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_SECONDS", 0)
    make_user("ada@example.com")
    left_by_another_process(settings, "ada@example.com")
    mailer.look()
    assert mailer.send_due(smtp.Connection(), 20) == 1
    record = ForgetPassword.objects.get()
    assert (record.mail_claimed_at, record.mail_attempts, record.mail_due) == (None, 0, "CODE")
    assert server.letters == []


def test_a_crew_finds_what_an_earlier_process_has_left(settings: Any, server: SMTPServer, make_user: MakeUser) -> None:
    make_user("ada@example.com")
    make_user("bob@example.com")
    left_by_another_process(settings, "ada@example.com")
    mailer.look()  # Ada's was looked up before that process died, Bob's not even that.
    left_by_another_process(settings, "bob@example.com")
    dispatch.start()
    server.wait_until(lambda: len(server.letters) == 2)
    assert recipients(server) == ["ada@example.com", "bob@example.com"]


def test_a_claim_whose_process_has_died_is_taken_over_when_its_lease_has_ended(
    settings: Any, server: SMTPServer, user: Any
) -> None:
    left_by_another_process(settings, "ada@example.com")
    mailer.look()
    assert transitions.claim(timezone.now(), 1)
    lease_over = timezone.now() - timedelta(seconds=settings.MAIL_LEASE_SECONDS)
    ForgetPassword.objects.update(mail_claimed_at=lease_over)
    dispatch.start()
    server.wait_until(lambda: server.letters)
    assert ForgetPassword.objects.get().mail_attempts == 2


def test_what_failed_is_tried_again_by_a_sweep(settings: Any, server: SMTPServer, user: Any) -> None:
    settings.MAIL_RETRY_SECONDS = 0.1
    server.on("RCPT", "451 4.7.1 Greylisted", times=2)
    asked()
    server.wait_until(lambda: server.letters)
    assert server.stages["RCPT"] == 3


def test_one_broken_round_ends_no_thread_and_says_nothing_secret(
    server: SMTPServer, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look, send, broken = mailer.look, mailer.send_due, {"look", "send"}

    def look_or_break() -> Any:
        if "look" in broken:
            broken.remove("look")
            raise ZeroDivisionError("ada@example.com")
        return look()

    def send_or_break(*args: Any, **options: Any) -> int:
        if "send" in broken:
            broken.remove("send")
            raise ZeroDivisionError("ada@example.com")
        return send(*args, **options)

    monkeypatch.setattr(mailer, "look", look_or_break)
    monkeypatch.setattr(mailer, "send_due", send_or_break)
    make_user("ada@example.com")
    asked()
    server.wait_until(lambda: server.letters)
    ours = "\n".join(line.getMessage() for line in caplog.records if line.name == workers.__name__)
    assert "could not look: ZeroDivisionError in look_or_break" in ours
    assert "could not send: ZeroDivisionError in send_or_break" in ours
    assert "ada@example.com" not in ours


# --- The probe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "answer", "reason"),
    [
        ("CONNECT", DROP, "disconnected"),
        ("MAIL", "530 5.7.0 Authentication required", "smtp_530 5.7.0"),
        ("RCPT", "553 5.7.1 Sender address rejected", "smtp_553 5.7.1"),
    ],
)
def test_while_the_server_takes_no_mail_known_and_unknown_alike_stay_queued_and_both_move_when_it_does(
    server: SMTPServer, user: Any, api: API, monkeypatch: pytest.MonkeyPatch, stage: str, answer: str, reason: str
) -> None:
    monkeypatch.setattr(workers, "PROBE_SECONDS", 0.05)
    server.on(stage, answer)
    sweeps, found_down, said = the_sweeps(monkeypatch), threading.Event(), list[str]()

    def hear(text: str, *arguments: object) -> None:
        said.append(text % arguments)
        found_down.set()

    monkeypatch.setattr(workers.logger, "warning", hear)
    api.request("early-bird@example.com")  # sets the first probe off
    assert found_down.wait(WAIT)
    assert said == [f"the mail server is down: {reason}"]
    sweeps(2)  # a round that began before is over

    resets = [api.request("ada@example.com"), api.request("nobody@example.com")]
    sweeps(2)
    shown = [api.status(reset["requestId"]) for reset in resets]
    assert [status and status["status"] for status in shown] == ["QUEUED", "QUEUED"]

    all_sent = wait_for_settled(1)
    server.release(stage)
    all_sent()
    assert recipients(server) == ["ada@example.com"]
    assert not ForgetPassword.objects.exclude(state=State.SENT).exists()


def test_a_row_whose_own_mail_fails_stops_no_look(server: SMTPServer, make_user: MakeUser, api: API) -> None:
    server.refused["bad@example.com"] = "550 5.1.1 Nobody here"
    make_user("bad@example.com")
    make_user("ada@example.com")
    api.request("bad@example.com")
    server.wait_until(lambda: server.stages["RCPT"])
    api.request("ada@example.com")
    server.wait_until(lambda: server.letters)
    assert not ForgetPassword.objects.exclude(state=State.SENT).exists()


# --- Stop, restart, fork ---------------------------------------------------------------------------------------------


def test_stopping_sends_what_is_queued(settings: Any, server: SMTPServer, make_user: MakeUser) -> None:
    settings.MAIL_SENDERS, settings.MAIL_SWEEP_SECONDS = 1, 3600
    server.on("MAIL", HOLD)
    emails = [f"user{number}@example.com" for number in range(4)]
    for email in emails:
        make_user(email)
    left_by_another_process(settings, *emails)
    dispatch.start()
    server.wait_until(lambda: server.stages["MAIL"])
    server.release("MAIL")
    workers.stop(WAIT)
    assert recipients(server) == emails


def test_stopping_does_not_wait_for_a_server_that_is_silent_and_gives_its_claim_back(
    settings: Any, server: SMTPServer, user: Any
) -> None:
    settings.MAIL_SENDERS = 1
    server.on("MAIL", HOLD)
    asked()
    server.wait_until(lambda: server.stages["MAIL"])
    (sender,) = [thread for thread in threading.enumerate() if thread.name == "mail-sender-1"]
    workers.stop(0.1)
    assert server.letters == []
    record = ForgetPassword.objects.get()
    assert (record.mail_claimed_at, record.mail_due) == (None, "CODE")
    server.release("MAIL")
    sender.join(WAIT)


def test_stopping_ends_every_thread(server: SMTPServer, user: Any) -> None:
    asked()
    server.wait_until(lambda: server.letters)
    assert any(thread.name.startswith("mail-") for thread in threading.enumerate())
    workers.stop(WAIT)
    assert not any(thread.name.startswith("mail-") for thread in threading.enumerate())


def test_stopping_where_nothing_runs_is_no_matter() -> None:
    workers.stop()
    workers.stop()


def test_a_ring_after_a_stop_starts_anew(server: SMTPServer, make_user: MakeUser) -> None:
    make_user("ada@example.com")
    make_user("bob@example.com")
    asked("ada@example.com")
    server.wait_until(lambda: len(server.letters) == 1)
    workers.stop(WAIT)
    asked("bob@example.com")
    server.wait_until(lambda: len(server.letters) == 2)


def test_the_threads_leave_no_database_connection_open(server: SMTPServer, user: Any) -> None:
    opened: list[Any] = []

    def note(connection: Any, **arguments: Any) -> None:
        opened.append(connection)

    connection_created.connect(note)
    asked()
    server.wait_until(lambda: server.letters)
    workers.stop(WAIT)
    connection_created.disconnect(note)
    by_threads = [connection for connection in opened if connection is not connections["default"]]
    assert len(by_threads) >= 2
    assert [connection.connection for connection in by_threads] == [None] * len(by_threads)


def test_a_sender_lets_go_of_a_database_connection_that_has_come_of_age(
    settings: Any, server: SMTPServer, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAIL_SENDERS = 1
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    closed, close = threading.Event(), BaseDatabaseWrapper.close

    def note(connection: BaseDatabaseWrapper) -> None:
        close(connection)
        if threading.current_thread().name == "mail-sender-1":
            closed.set()

    monkeypatch.setattr(BaseDatabaseWrapper, "close", note)
    asked()
    server.wait_until(lambda: server.letters)
    assert closed.wait(WAIT / 2), "not before it has been idle for long"


PREPARE = """
import os, sys, threading
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections
from accounts.mailing import dispatch, mailer
from accounts import signals
from accounts.models import ForgetPassword, Heartbeat

call_command("migrate", verbosity=0)
get_user_model().objects.create_user("ada", "ada@example.com", "umbrella-cactus-violin-91")
sent = threading.Event()

def mark(**arguments):
    sent.set()

def ask():
    ForgetPassword.objects.create(email="ada@example.com", email_digest="0" * 64)

signals.password_reset_sent.connect(mark)
"""


def run(script: str, server: SMTPServer, tmp_path: Path, **more: str) -> None:
    """Run a script in a process of its own, with an account, an empty database and this mail server."""
    variables = {
        "DJANGO_SETTINGS_MODULE": "backend.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "MAIL_DISPATCH": "thread",
        **environment(server.port),
        **more,
    }
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREPARE + script]
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_forked_process_starts_threads_of_its_own(server: SMTPServer, tmp_path: Path) -> None:
    # SQLite cannot be forked in the middle of a query, so the parent's threads run, but find nothing to do.
    script = """
look, send_due = mailer.look, mailer.send_due
beat = Heartbeat.beat
mailer.look, mailer.send_due = lambda: mailer.Found(0, []), lambda *args, **kwargs: 0
Heartbeat.beat = mailer.find_beginning = lambda *args, **kwargs: None
dispatch.start()
connections.close_all()
child = os.fork()
if child == 0:
    mailer.look, mailer.send_due, Heartbeat.beat = look, send_due, beat
    ask()
    os._exit(0 if sent.wait(30) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run(script, server, tmp_path)
    assert recipients(server) == ["ada@example.com"]


def test_a_forked_process_goes_on_mailing_without_a_ring(server: SMTPServer, tmp_path: Path) -> None:
    """A server that forks its workers after loading the application: what was left is due in them, request or none."""
    script = """
look, send_due = mailer.look, mailer.send_due
mailer.look, mailer.send_due = lambda: mailer.Found(0, []), lambda connection, limit: 0
dispatch.start()
from accounts.mailing import receivers
receivers.wake = lambda pk, *, new: None
ask()
connections.close_all()
child = os.fork()
if child == 0:
    mailer.look, mailer.send_due = look, send_due
    os._exit(0 if sent.wait(30) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run(script, server, tmp_path, MAIL_SWEEP_SECONDS="1")
    assert recipients(server) == ["ada@example.com"]


def test_a_process_that_ends_sends_what_it_has_begun(server: SMTPServer, tmp_path: Path) -> None:
    script = """
from accounts.mailing import smtp
busy, send = threading.Event(), smtp.Connection.send

def send_and_tell(*args, **options):
    busy.set()
    send(*args, **options)

smtp.Connection.send = send_and_tell
ask()
sys.exit(0 if busy.wait(30) else 1)
"""
    server.slow(0.05)
    run(script, server, tmp_path)
    assert recipients(server) == ["ada@example.com"]


def test_a_process_that_is_started_anew_mails_what_was_left_though_nobody_asks_it_anything(
    server: SMTPServer, tmp_path: Path
) -> None:
    left = """
from django.test import override_settings
with override_settings(MAIL_DISPATCH="none"):
    ask()
from backend.wsgi import application
sys.exit(0 if sent.wait(5) else "nothing was mailed")
"""
    run(left, server, tmp_path)
    assert recipients(server) == ["ada@example.com"]


def test_a_hand_that_is_called_to_a_backlog_claims_as_many_as_the_others_and_one_where_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew = workers.SendingThreads(2)
    limits: list[int] = []

    def full_three_times(connection: smtp.Connection, limit: int, **options: Any) -> int:
        limits.append(limit)
        claimed = limit if len(limits) < 4 else 0
        options["on_claim"](claimed)
        return claimed

    monkeypatch.setattr(mailer, "send_due", full_three_times)
    crew._send_all(smtp.Connection())
    crew._is_unsure = True
    crew._send_all(smtp.Connection())
    assert limits == [1, 2, 4, 8, 1]


def test_another_may_look_for_more_as_soon_as_a_claim_was_full(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = workers.SendingThreads(2)
    limits: list[int] = []

    def full_and_slow(connection: smtp.Connection, limit: int, **options: Any) -> int:
        limits.append(limit)
        options["on_claim"](limit if len(limits) == 1 else 0)
        if len(limits) == 1:
            crew._send_all(connection)
        return limit if len(limits) == 1 else 0

    monkeypatch.setattr(mailer, "send_due", full_and_slow)
    crew._batch = 3
    crew._send_all(smtp.Connection())
    assert limits == [3, 3]


# --- What is known to be due -----------------------------------------------------------------------------------------


def test_wake_ups_that_come_together_are_one_look(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MAIL_SWEEP_SECONDS = 3600
    looks: list[float] = []

    def look() -> mailer.Found:
        looks.append(time.monotonic())
        return mailer.Found(0, [])

    monkeypatch.setattr(workers, "TICK_SECONDS", 0.3)
    monkeypatch.setattr(mailer, "look", look)
    monkeypatch.setattr(smtp, "why_down", lambda: "")
    crew = workers.SendingThreads(1)
    crew.start()
    for _ in range(20):
        crew.wake(None)
        time.sleep(0.005)  # time enough to look
    crew.stop(WAIT)
    assert 2 <= len(looks) <= 4  # at the start, at the first, for the others, and at the end


def test_a_sender_claims_what_others_have_left_and_asks_for_nothing_where_nothing_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew, claims = workers.SendingThreads(2), []

    def all_of_them(connection: smtp.Connection, limit: int, **options: Any) -> int:
        claims.append(limit)
        return limit

    monkeypatch.setattr(mailer, "send_due", all_of_them)
    crew._is_unsure = False
    crew._send_all(smtp.Connection())
    assert claims == []
    crew.enqueue([uuid.uuid4() for _ in range(7)])
    crew._send_all(smtp.Connection())
    assert sum(claims) == 7
    crew._send_all(smtp.Connection())
    assert sum(claims) == 7


def test_a_claim_that_failed_leaves_what_was_due_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def canceled(*_: Any, **options: Any) -> int:
        raise OperationalError("canceling statement due to statement timeout")

    crew = workers.SendingThreads(2)
    crew._is_unsure = False
    crew.enqueue([uuid.uuid4()])
    monkeypatch.setattr(mailer, "send_due", canceled)
    with pytest.raises(OperationalError):
        crew._send_all(smtp.Connection())
    assert crew._reserve(5) == (5, True)


@pytest.mark.parametrize(
    ("due", "seconds", "busy", "senders", "batch"),
    [
        (1, 0.001, False, 1, 1),
        (20, 0.001, False, 1, 20),
        (20, 0.1, False, 10, 2),
        (20, 2.0, False, 20, 1),
        (100, 2.0, False, 32, 1),
        (20, 0.1, True, 1, 5),
    ],
)
def test_so_many_senders_are_called_as_begin_all_mails_soon_and_one_where_the_process_itself_is_busy(
    monkeypatch: pytest.MonkeyPatch, due: int, seconds: float, busy: bool, senders: int, batch: int
) -> None:
    monkeypatch.setattr(smtp, "seconds_of_a_mail", lambda: seconds)
    monkeypatch.setattr(workers.Load, "measure", lambda _: None)
    crew = workers.SendingThreads(32)
    crew._load.is_high = busy
    called: list[bool] = []
    monkeypatch.setattr(crew._idle_senders, "call", lambda *, wake: called.append(wake))
    crew.enqueue([uuid.uuid4() for _ in range(due)])
    assert crew._batch == batch
    assert called.count(True) in {senders, senders + 1}


# --- Who is at work --------------------------------------------------------------------------------------------------


def test_the_hand_that_sat_down_last_is_called_first() -> None:
    idle, called = workers.IdleSenders(), []

    def sit_down(name: str) -> threading.Thread:
        def wait() -> None:
            assert idle.wait(WAIT)
            called.append(name)

        sitting = len(idle._idle)
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: len(idle._idle) == sitting + 1)
        return thread

    threads = [sit_down("first"), sit_down("second"), sit_down("third")]
    for thread in reversed(threads):
        idle.call(wake=True)
        thread.join(WAIT)
    assert called == ["third", "second", "first"]


def test_a_hand_without_a_connection_is_called_after_those_that_have_one() -> None:
    idle, called = workers.IdleSenders(), []

    def sit_down(name: str, connected: bool) -> threading.Thread:
        def wait() -> None:
            assert idle.wait(WAIT, connected=connected)
            called.append(name)

        sitting = len(idle._idle)
        thread = threading.Thread(target=wait)
        thread.start()
        wait_until(lambda: len(idle._idle) == sitting + 1)
        return thread

    connected, other = sit_down("connected", True), sit_down("other", False)
    for thread in (connected, other):
        idle.call(wake=True)
        thread.join(WAIT)
    assert called == ["connected", "other"]


def test_a_call_that_finds_nobody_is_heard_by_whoever_comes_next() -> None:
    idle = workers.IdleSenders()
    idle.call(wake=True)
    assert idle.wait(0) is True
    idle.is_more_due = False
    assert idle.wait(0) is None
    assert idle._idle == []


def test_whoever_is_sent_home_goes_though_more_is_due() -> None:
    idle = workers.IdleSenders()
    idle.call(wake=True)
    idle.dismiss()
    assert idle.wait(0) is False


def test_a_slow_server_is_sent_as_many_mails_at_once_as_there_are_hands(
    settings: Any, server: SMTPServer, make_user: MakeUser, mails_take_long: None
) -> None:
    settings.MAIL_SENDERS = 6
    emails = [f"user{number}@example.com" for number in range(6)]
    for email in emails:
        make_user(email)
    left_by_another_process(settings, *emails)
    server.on("DATA", HOLD)
    dispatch.start()
    server.wait_until(lambda: server.stages["DATA"] == 6)


def test_a_server_that_turns_slow_is_sent_more_at_once_though_nobody_knew_it_for_slow(
    settings: Any, server: SMTPServer, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "RELIEF_SECONDS", 0.01)
    settings.MAIL_SENDERS, settings.MAIL_SWEEP_SECONDS = 4, 3600
    monkeypatch.setattr(smtp, "seconds_of_a_mail", lambda: 0.0)
    emails = [f"user{number}@example.com" for number in range(4)]
    for email in emails:
        make_user(email)
    left_by_another_process(settings, *emails)
    server.on("DATA", HOLD)
    dispatch.start()
    server.wait_until(lambda: server.stages["DATA"] == 4)


def test_a_fast_server_is_sent_all_by_few(
    settings: Any, server: SMTPServer, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAIL_SENDERS, settings.MAIL_SWEEP_SECONDS = 32, 3600
    monkeypatch.setattr(workers, "RELIEF_SECONDS", WAIT)
    monkeypatch.setattr(smtp, "seconds_of_a_mail", lambda: 0.0)  # however busy the machine
    for number in range(20):
        make_user(f"user{number}@example.com")
        all_sent = wait_for_settled(1)
        asked(f"user{number}@example.com")
        all_sent()
    assert server.stages["CONNECT"] <= 6  # the probe's is among them, and hands that were called a moment too soon


def test_half_of_the_hands_are_kept_for_mails_whose_turn_has_come(
    settings: Any, server: SMTPServer, make_user: MakeUser, mails_take_long: None
) -> None:
    settings.MAIL_SENDERS = 4
    before_their_turn = [f"user{number}@example.com" for number in range(4)]
    for email in (*before_their_turn, "ada@example.com"):
        make_user(email)
    settings.MAIL_DISPATCH = "none"
    for number, email in enumerate(before_their_turn):
        asked(email, mail_turn_at=turn_of(number + 2, timezone.now()))
    settings.MAIL_DISPATCH = "thread"
    server.on("DATA", HOLD)
    dispatch.start()
    server.wait_until(lambda: server.stages["DATA"] == 2)
    asked("ada@example.com")
    server.wait_until(lambda: server.stages["DATA"] == 3)
    assert ForgetPassword.objects.filter(email="ada@example.com", mail_claimed_at__isnull=False).exists()
    assert ForgetPassword.objects.filter(mail_claimed_at=None).count() == 2


def test_what_is_before_its_turn_may_use_half_of_the_pace_and_leaves_the_rest(
    settings: Any, server: SMTPServer, make_user: MakeUser
) -> None:
    settings.MAIL_DISPATCH, settings.MAIL_PER_MINUTE = "none", 8
    for number in range(10):
        asked(f"nobody{number}@example.com", mail_turn_at=turn_of(number + 1, timezone.now()))
    mailer.look()
    crew, connection = workers.SendingThreads(1), smtp.Connection()
    crew._send_all(connection)
    assert 3 <= ForgetPassword.objects.filter(mail_due="").count() <= 5
    make_user("ada@example.com")
    asked("ada@example.com")
    mailer.look()
    crew._is_unsure = True
    crew._send_all(connection)
    connection.close()
    assert recipients(server) == ["ada@example.com"]


def test_a_crew_makes_do_with_the_connections_that_the_server_allows_and_loses_no_mail_and_no_try(
    settings: Any,
    server: SMTPServer,
    make_user: MakeUser,
    mails_take_long: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.MAIL_SENDERS = 4
    emails = [f"user{number}@example.com" for number in range(5)]
    for email in emails:
        make_user(email)
    all_sent = wait_for_settled(len(emails))
    asked(emails[0])
    server.wait_until(lambda: server.letters)
    server.on("CONNECT", "421 4.7.0 Too many connections")
    for email in emails[1:]:
        asked(email)
    all_sent()
    assert recipients(server) == emails
    assert set(ForgetPassword.objects.values_list("mail_attempts", flat=True)) == {1}
    assert server.stages["CONNECT"] > 1
    assert not [line for line in caplog.records if line.levelname == "ERROR"]


def test_a_process_that_gets_no_connection_at_all_leaves_mails_to_others_and_costs_them_no_try(
    settings: Any, server: SMTPServer, user: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "NAP_SECONDS", 0.01)
    server.on("CONNECT", "421 4.7.0 Too many connections")
    asked()
    server.wait_until(lambda: server.stages["CONNECT"] > 5)
    record = ForgetPassword.objects.get()
    assert (record.mail_due, record.mail_error) == ("CODE", "")
    assert record.mail_attempts <= 1  # of a claim that is just being given back
    server.release("CONNECT")
    server.wait_until(lambda: server.letters)
    assert caplog.text.count("the mail server takes no more than 0 connections") == 1


def test_a_hand_that_is_not_welcome_sits_down_though_more_is_due() -> None:
    idle = workers.IdleSenders()
    idle.call(wake=False)
    assert idle.wait(0, eager=False) is None
    assert idle.wait(0) is True


def test_nobody_is_called_whom_the_server_would_not_take() -> None:
    crew = workers.SendingThreads(4)
    crew._most = 1
    with crew._counted():
        crew._idle_senders._idle.append(threading.Event())
        crew.sweep()
        crew._call()
        assert len(crew._idle_senders._idle) == 1
    crew._call()
    assert crew._idle_senders._idle == []


def test_what_was_left_because_it_was_not_its_turn_is_taken_up_when_there_is_room() -> None:
    crew = workers.SendingThreads(4)
    with crew._counted(), crew._counted():
        with crew._counted():
            crew._held_back = True
        assert not crew._idle_senders.is_more_due, "two of four hands are still at work"
    assert crew._idle_senders.is_more_due


def test_no_more_hands_are_at_work_than_the_server_takes_connections_until_a_while_later(
    server: SMTPServer, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew, connection = workers.SendingThreads(4), smtp.Connection()

    def full(*args: Any, **options: Any) -> int:
        raise smtp.TooManyConnections

    monkeypatch.setattr(mailer, "send_due", full)
    crew._send_all(connection)
    assert crew._held_back, "a hand that has a connection takes it up"
    with crew._counted() as first, crew._counted() as second:
        assert (first, second) == (True, False)
    monkeypatch.setattr(crew, "_most_until", 0)
    with crew._counted() as first, crew._counted() as second:
        assert (first, second) == (True, True)


def test_a_hand_holds_no_database_connection_while_a_mail_takes_long(
    settings: Any, server: SMTPServer, user: Any, mails_take_long: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAIL_SENDERS, settings.MAIL_SWEEP_SECONDS = 1, 3600
    held: list[bool] = []
    send = smtp.Connection.send

    def note(connection: smtp.Connection, message: Any, **options: Any) -> str:
        held.append(connections["default"].connection is not None)
        return send(connection, message, **options)

    monkeypatch.setattr(smtp.Connection, "send", note)
    sent = wait_for_settled(1)
    asked()
    sent()
    assert held == [False]
