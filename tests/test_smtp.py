"""The kept-open connection, and what becomes of a mail when the server, or the way to it, fails."""

from __future__ import annotations

import hmac
import smtplib
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.core.mail.utils import DNS_NAME

from accounts.mailing import smtp
from accounts.mailing.smtp import Connection, Failure, classify
from harness.smtp_server import CHALLENGE, DROP, HOLD, SMTPServer, closed_port, mail_server, point_mail_at


@pytest.fixture
def server(settings: Any) -> Iterator[SMTPServer]:
    smtp.forget()
    with mail_server(settings) as server:
        yield server


@pytest.fixture
def connection(server: SMTPServer) -> Iterator[Connection]:
    connection = Connection()
    yield connection
    connection.close()


@pytest.fixture
def any_idleness_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "STALE_SECONDS", -1)


class ApiRefusal(OSError):
    """An answer of a provider's API, as Anymail raises it: an error of requests, which is an OSError."""

    def __init__(self, status_code: int) -> None:
        super().__init__()
        self.status_code = status_code


LONG_NAME = "AnErrorWhoseNameIsLongerThanItsColumnIsWide"


def mail(to: str = "ada@example.com") -> EmailMessage:
    return EmailMessage("Hello", "Hello.\n", "no-reply@example.com", [to])


def failure_of(connection: Connection) -> Failure:
    """Send a mail that must not go through, and tell how it failed."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (which error it is, is what the tests ask)
        connection.send(mail())
    assert isinstance(caught.value, Exception)
    return classify(caught.value)


# --- Kept open -------------------------------------------------------------------------------------------------------


def test_many_mails_take_one_connection(server: SMTPServer, connection: Connection) -> None:
    for number in range(5):
        connection.send(mail(f"user{number}@example.com"))
    assert [letter.recipients for letter in server.letters] == [(f"user{number}@example.com",) for number in range(5)]
    assert server.stages["CONNECT"] == server.stages["EHLO"] == 1


def test_a_connection_just_used_is_not_asked_whether_it_lives(server: SMTPServer, connection: Connection) -> None:
    connection.send(mail())
    connection.send(mail())
    assert server.stages["NOOP"] == 0


def test_a_stale_connection_is_asked_whether_it_lives_and_used_on(
    server: SMTPServer, connection: Connection, any_idleness_is_stale: None
) -> None:
    connection.send(mail())
    connection.send(mail())
    assert server.stages["NOOP"] == 1
    assert server.stages["CONNECT"] == 1


def test_a_rehearsal_takes_the_turns_of_a_mail_and_mails_nothing(server: SMTPServer, connection: Connection) -> None:
    connection.rehearse(mail())
    connection.send(mail())
    assert server.stages["NOOP"] == sum(server.stages[stage] for stage in ("MAIL", "RCPT", "DATA", "END")) == 4
    assert len(server.letters) == server.stages["CONNECT"] == 1


@pytest.mark.parametrize("took", [0.0, 0.5, 30.0])
def test_a_rehearsal_takes_as_long_as_a_mail_however_long_that_is(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, took: float
) -> None:
    pauses: list[float] = []
    connection.send(mail())
    smtp._latest[0].took = took
    monkeypatch.setattr("accounts.mailing.smtp.time.sleep", pauses.append)
    connection.rehearse(mail())
    assert max(0.0, took - 0.4) <= pauses[-1] <= took


def test_a_rehearsal_takes_one_of_the_latest_mails_for_its_model(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    for number in range(smtp.LATEST + 1):
        connection.send(mail())
        smtp._latest[-1].took = 1000.0 + number
    monkeypatch.setattr("accounts.mailing.smtp.time.sleep", pauses.append)
    for _ in range(200):
        connection.rehearse(mail())
    assert {round(pause) for pause in pauses} <= {1000 + number for number in range(1, smtp.LATEST + 1)}
    assert len({round(pause) for pause in pauses}) > smtp.LATEST / 2


def test_a_rehearsal_waits_for_the_end_of_a_mail_that_is_under_way(server: SMTPServer, connection: Connection) -> None:
    server.on("DATA", HOLD)
    other = Connection()
    sender = threading.Thread(target=lambda: other.send(mail()))
    sender.start()
    server.wait_until(lambda: server.stages["DATA"])
    rehearsed = threading.Thread(target=lambda: connection.rehearse(mail()))
    rehearsed.start()
    server.wait_until(lambda: server.stages["NOOP"] == 4)
    rehearsed.join(0.2)
    assert rehearsed.is_alive()
    server.release("DATA")
    rehearsed.join(30)
    sender.join(30)
    other.close()
    assert not rehearsed.is_alive()


@pytest.mark.parametrize("stage", ["RCPT", "DATA", "END"])
@pytest.mark.parametrize("answer", ["451 4.7.1 Later", "550 5.1.1 Nobody here", DROP])
def test_a_mail_that_is_refused_is_no_model(
    server: SMTPServer, connection: Connection, stage: str, answer: str
) -> None:
    server.on(stage, answer)
    failure_of(connection)
    assert list(smtp._latest) == []


def test_a_mail_that_an_address_makes_fail_is_no_model(server: SMTPServer, connection: Connection) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (each Django says it in words of its own)
        connection.send(mail("ada\n@example.com"))
    assert list(smtp._latest) == []


def test_a_mail_that_the_server_was_silent_about_is_a_model(
    settings: Any, server: SMTPServer, connection: Connection
) -> None:
    point_mail_at(settings, server.port, timeout=0.2)
    server.on("DATA", HOLD)
    failure_of(connection)
    assert len(smtp._latest) == 1


@pytest.mark.parametrize("answer", ["451 4.7.1 Later", "550 5.1.1 Nobody here"])
def test_a_mail_that_is_refused_takes_as_long_as_one_that_is_not(
    server: SMTPServer, connection: Connection, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    pauses: list[float] = []
    connection.send(mail())
    smtp._latest[0].took = 30.0
    monkeypatch.setattr("accounts.mailing.smtp.time.sleep", pauses.append)
    server.on("RCPT", answer)
    failure_of(connection)
    assert 29 < pauses[-1] <= 30


def test_mails_of_the_last_minute_are_the_models_if_there_are_any(connection: Connection) -> None:
    for took in (1.0, 2.0, 3.0):
        connection.send(mail())
        smtp._latest[-1].took = took
    for attempt in smtp._latest:
        attempt.begun -= smtp.RECENT_SECONDS
    assert smtp.seconds_of_a_mail() == 1.0
    connection.send(mail())
    smtp._latest[-1].took = 9.0
    assert smtp.seconds_of_a_mail() == 9.0


def test_a_rehearsal_whose_model_is_refused_after_all_takes_another(server: SMTPServer, connection: Connection) -> None:
    refused, other = smtp._Attempt(time.monotonic()), smtp._Attempt(time.monotonic())
    smtp._latest.append(refused)
    rehearsed = threading.Thread(target=lambda: connection.rehearse(mail()))
    rehearsed.start()
    server.wait_until(lambda: server.stages["NOOP"] == 4)
    smtp._latest.append(other)
    smtp._latest.remove(refused)
    refused.is_model = False
    refused.over.set()
    rehearsed.join(0.2)
    assert rehearsed.is_alive()
    other.over.set()
    rehearsed.join(30)
    assert not rehearsed.is_alive()


def test_where_no_mail_has_been_sent_a_rehearsal_waits_for_nothing(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("accounts.mailing.smtp.time.sleep")
    connection.rehearse(mail())


def test_a_quarter_of_the_latest_mails_were_quicker_than_a_mail_is_said_to_be_and_those_under_way_count(
    server: SMTPServer, connection: Connection
) -> None:
    assert smtp.seconds_of_a_mail() == 0
    for took in (1.0, 2.0, 60.0):
        connection.send(mail())
        smtp._latest[-1].took = took
    assert smtp.seconds_of_a_mail() == 1.0
    for begun in range(12):
        smtp._latest.append(smtp._Attempt(time.monotonic() - 50 - begun))
    assert 51 <= smtp.seconds_of_a_mail() < 53


def test_a_server_that_takes_no_further_connection_is_no_failure_of_the_mail(
    server: SMTPServer, connection: Connection
) -> None:
    connection.send(mail())
    server.on("CONNECT", "421 4.7.0 Too many connections from you")
    further = Connection()
    for act in (further.send, further.rehearse):
        with pytest.raises(smtp.TooManyConnections):
            act(mail())
    assert Connection.open_now == 1
    connection.close()
    assert Connection.open_now == 0
    server.on("CONNECT", "554 5.7.1 Not you")
    assert failure_of(further) == Failure("smtp_554 5.7.1")


@pytest.mark.parametrize(
    ("greeting", "serves_us", "is_up"),
    [
        ("421 Too busy", True, True),
        ("421 4.7.0 Too many connections from you", False, True),
        ("421 4.3.0 Service not available", False, False),
        ("554 5.7.1 Not you", True, False),
    ],
)
def test_the_probe_takes_no_server_for_down_that_has_only_enough_connections(
    server: SMTPServer, connection: Connection, greeting: str, serves_us: bool, is_up: bool
) -> None:
    if serves_us:
        connection.send(mail())
    server.on("CONNECT", greeting)
    assert (smtp.why_down() == "") is is_up


def test_a_connection_that_only_rehearses_is_given_up_before_the_server_minds(
    server: SMTPServer, connection: Connection
) -> None:
    for _ in range(smtp.MAX_REHEARSALS + 1):
        connection.rehearse(mail())
    assert server.stages["CONNECT"] == 2


@pytest.mark.parametrize("answer", ["421 4.7.0 Too many errors", DROP])
def test_a_rehearsal_that_fails_is_nobodys_loss(server: SMTPServer, connection: Connection, answer: str) -> None:
    server.on("NOOP", answer)
    connection.rehearse(mail())
    server.release("NOOP")
    connection.send(mail())
    assert len(server.letters) == 1


@pytest.mark.parametrize("answer", ["421 4.4.2 Idle for too long", DROP])
def test_a_stale_connection_that_does_not_live_is_replaced(
    server: SMTPServer, connection: Connection, any_idleness_is_stale: None, answer: str
) -> None:
    connection.send(mail())
    server.on("NOOP", answer)
    connection.send(mail())
    assert [letter.connection for letter in server.letters] == [1, 2]


def test_a_connection_cut_while_it_lay_idle_costs_a_reconnect_and_no_retry(
    server: SMTPServer, connection: Connection
) -> None:
    connection.send(mail())
    server.cut_connections()
    connection.send(mail())
    assert [letter.connection for letter in server.letters] == [1, 2]


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "END"])
def test_a_reused_connection_that_breaks_costs_a_reconnect_and_no_retry(
    server: SMTPServer, connection: Connection, stage: str
) -> None:
    connection.send(mail("ada@example.com"))
    server.on(stage, DROP, times=1)
    connection.send(mail("bob@example.com"))
    assert [letter.recipients[0] for letter in server.letters] == ["ada@example.com", "bob@example.com"]


def test_a_server_that_has_had_enough_of_a_connection_costs_a_reconnect_and_no_retry(
    server: SMTPServer, connection: Connection
) -> None:
    connection.send(mail())
    server.on("MAIL", "421 4.7.0 Too many mails on one connection", times=1)
    connection.send(mail())
    assert [letter.connection for letter in server.letters] == [1, 2]


def test_a_server_that_breaks_every_connection_is_tried_twice_and_no_more(
    server: SMTPServer, connection: Connection
) -> None:
    connection.send(mail())
    server.on("MAIL", DROP)
    assert failure_of(connection) == Failure("disconnected")
    assert server.stages["CONNECT"] == 2


def test_a_new_connection_that_breaks_is_not_tried_twice(server: SMTPServer, connection: Connection) -> None:
    server.on("MAIL", DROP)
    assert failure_of(connection) == Failure("disconnected")
    assert server.stages["CONNECT"] == 1


def test_closing_says_goodbye(server: SMTPServer, connection: Connection) -> None:
    connection.send(mail())
    connection.close()
    server.wait_until(lambda: server.open_connections == 0)
    assert server.stages["QUIT"] == 1


def test_closing_survives_a_server_that_is_gone(server: SMTPServer, connection: Connection) -> None:
    connection.send(mail())
    server.cut_connections()
    connection.close()
    connection.close()


def test_closing_survives_a_goodbye_beyond_all_bounds(server: SMTPServer, connection: Connection) -> None:
    connection.send(mail())
    server.on("QUIT", "221 " + "bye " * 3000)
    connection.close()
    connection.send(mail())
    assert [letter.connection for letter in server.letters] == [1, 2]


def test_a_closed_connection_opens_again(server: SMTPServer, connection: Connection) -> None:
    connection.send(mail())
    connection.close()
    connection.send(mail())
    assert [letter.connection for letter in server.letters] == [1, 2]


# --- Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "answer", "failure"),
    [
        ("RCPT", "550 5.1.1 Nobody here", Failure("smtp_550 5.1.1", permanent=True)),
        ("RCPT", "553 5.1.3 No such syntax", Failure("smtp_553 5.1.3", permanent=True)),
        ("RCPT", "550 5.2.1 Mailbox disabled", Failure("smtp_550 5.2.1", permanent=True)),
        ("END", "550 5.1.1 Nobody here after all", Failure("smtp_550 5.1.1", permanent=True)),
        ("RCPT", "550 Nobody here", Failure("smtp_550", permanent=True)),
        ("RCPT", "553 Nobody here", Failure("smtp_553", permanent=True)),
        # About us, as Postfix says it at RCPT, too (smtpd_delay_reject).
        ("RCPT", "530 5.7.0 Authentication required", Failure("smtp_530 5.7.0")),
        ("RCPT", "553 5.7.1 Sender address rejected: not owned by user", Failure("smtp_553 5.7.1")),
        ("RCPT", "550 5.1.8 Sender address rejected: Domain not found", Failure("smtp_550 5.1.8")),
        ("RCPT", "550 5.1.7 Bad sender's mailbox", Failure("smtp_550 5.1.7")),
        ("RCPT", "554 5.7.1 Service unavailable; Client host blocked using a list", Failure("smtp_554 5.7.1")),
        ("RCPT", "504 5.5.2 Helo command rejected", Failure("smtp_504 5.5.2")),
        ("RCPT", "554 Client host rejected", Failure("smtp_554")),
        ("RCPT", "550 5.1.11x odd", Failure("smtp_550", permanent=True)),
        ("RCPT", "451 4.7.1 Greylisted", Failure("smtp_451 4.7.1")),
        ("RCPT", "452 4.2.2 Mailbox full", Failure("smtp_452 4.2.2")),
        ("DATA", "451 4.3.0 Later", Failure("smtp_451 4.3.0")),
        ("DATA", "550 Not now", Failure("smtp_550")),
        ("END", "554 5.7.1 Looks like spam", Failure("smtp_554 5.7.1")),
        ("END", "552 5.3.4 Too big", Failure("smtp_552 5.3.4")),
        ("END", "452 4.3.1 Disk full", Failure("smtp_452 4.3.1")),
        ("MAIL", "421 4.3.2 Going down", Failure("smtp_421 4.3.2")),
        ("MAIL", "550 5.1.8 Not your domain", Failure("smtp_550 5.1.8")),
        ("CONNECT", DROP, Failure("disconnected")),
        ("MAIL", DROP, Failure("disconnected")),
        ("DATA", DROP, Failure("disconnected")),
        ("END", DROP, Failure("disconnected")),
    ],
)
def test_what_a_server_says_of_the_mailbox_is_final_and_everything_else_may_pass(
    server: SMTPServer, connection: Connection, stage: str, answer: str, failure: Failure
) -> None:
    server.on(stage, answer)
    assert failure_of(connection) == failure


def test_a_server_that_refuses_the_login_may_yet_be_mended(settings: Any, server: SMTPServer) -> None:
    point_mail_at(settings, server.port, username="mailer", password="wrong")
    server.on("AUTH", "535 5.7.8 Wrong")
    assert failure_of(Connection()) == Failure("smtp_535 5.7.8")


@pytest.mark.parametrize("stage", ["CONNECT", "MAIL"])
def test_a_server_that_refuses_us_rather_than_the_mail_may_yet_be_mended(
    settings: Any, server: SMTPServer, stage: str
) -> None:
    """A sender that is not ours to use, an address that is blocked: an operator's to mend, and no reason to give up."""
    point_mail_at(settings, server.port)
    server.on(stage, "550 5.7.1 Not from here")
    assert failure_of(Connection()) == Failure("smtp_550 5.7.1")


def test_a_port_that_refuses_may_open_again(settings: Any) -> None:
    with closed_port() as port:
        point_mail_at(settings, port)
        assert failure_of(Connection()) == Failure("refused")


@pytest.mark.parametrize(
    ("stage", "reason"),
    [(stage, "timeout") for stage in ("CONNECT", "EHLO", "MAIL", "DATA")] + [("END", smtp.UNANSWERED)],
)
def test_a_server_that_falls_silent_is_left_after_the_timeout(
    settings: Any, server: SMTPServer, stage: str, reason: str
) -> None:
    point_mail_at(settings, server.port, timeout=0.2)
    server.on(stage, HOLD)
    assert failure_of(Connection()) == Failure(reason)


@pytest.mark.parametrize("stage", ["MAIL", "DATA", "END"])
def test_only_the_answer_to_a_mail_is_waited_for_until_the_lease_ends(
    settings: Any, server: SMTPServer, stage: str
) -> None:
    point_mail_at(settings, server.port, timeout=0.2)
    connection, refused = Connection(), threading.Event()
    server.on(stage, HOLD)

    def send() -> None:
        try:
            connection.send(mail(), lease_ends=time.monotonic() + 60)
        except OSError:
            refused.set()

    sender = threading.Thread(target=send)
    sender.start()
    server.wait_until(lambda: server.stages[stage])
    if stage == "END":
        assert not refused.wait(0.6)
        server.release(stage)
    sender.join(30)
    connection.close()
    assert refused.is_set() is (stage != "END")
    assert len(server.letters) == (stage == "END")


def test_the_wait_for_an_answer_ends_before_the_lease(server: SMTPServer, connection: Connection) -> None:
    connection.send(mail(), lease_ends=1000.0)
    assert connection._session.answer_by == 1000.0 - smtp.ANSWER_MARGIN


def test_after_the_answer_to_a_mail_the_usual_timeout_counts_again(
    settings: Any, server: SMTPServer, connection: Connection
) -> None:
    point_mail_at(settings, server.port, timeout=7)
    connection.send(mail(), lease_ends=time.monotonic() + 60)
    assert connection._session.sock.gettimeout() == 7


def test_a_connection_without_a_timeout_sends_as_well(
    settings: Any, server: SMTPServer, connection: Connection
) -> None:
    point_mail_at(settings, server.port, timeout=None)
    connection.send(mail(), lease_ends=time.monotonic() + 60)
    assert connection._session.sock.gettimeout() is None
    assert len(server.letters) == 1


def test_lines_of_a_mail_that_begin_with_a_dot_arrive_as_they_are(server: SMTPServer, connection: Connection) -> None:
    text = ".\r\n..\r\nend .\r\n.\r\n"
    connection.send(EmailMessage("Dots", text, "no-reply@example.com", ["ada@example.com"]))
    assert server.letters[0].text == text


def test_a_server_without_tls_may_learn_it(settings: Any, server: SMTPServer) -> None:
    point_mail_at(settings, server.port, use_ssl=True)
    assert failure_of(Connection()) == Failure("tls")


def test_a_mail_is_not_sent_in_the_clear_where_tls_was_asked_for(settings: Any, server: SMTPServer) -> None:
    point_mail_at(settings, server.port, use_tls=True)
    connection = Connection()
    for _ in range(2):
        assert not failure_of(connection).permanent
    assert server.stages["MAIL"] == 0
    connection.close()


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (TimeoutError("connect"), Failure("timeout")),
        (ConnectionRefusedError(), Failure("refused")),
        (ConnectionResetError(), Failure("network")),
        (ssl.SSLCertVerificationError("self-signed"), Failure("tls")),
        (OSError("no route"), Failure("network")),
        (smtplib.SMTPNotSupportedError("SMTP AUTH extension not supported by server."), Failure("auth")),
        (smtplib.SMTPException("No suitable authentication method found."), Failure("auth")),
        (smtplib.SMTPNotSupportedError("STARTTLS extension not supported by server."), Failure("tls")),
        (ValueError("a header of two lines"), Failure("error ValueError")),
        (ApiRefusal(429), Failure("api_429")),
        (type(LONG_NAME, (Exception,), {})(), Failure(f"error {LONG_NAME[:34]}")),
    ],
)
def test_what_never_came_from_a_server_is_named_and_may_pass(error: Exception, failure: Failure) -> None:
    assert classify(error) == failure


@pytest.mark.parametrize(
    ("stage", "answer"),
    [("RCPT", "550 Nobody"), ("RCPT", "451 Later"), ("END", "554 Spam"), ("MAIL", DROP), ("END", DROP)],
)
def test_a_failure_leaves_no_connection_open(
    server: SMTPServer, connection: Connection, stage: str, answer: str
) -> None:
    server.on(stage, answer)
    failure_of(connection)
    server.wait_until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("stage", ["EHLO", "AUTH"])
def test_a_connection_that_never_came_to_be_is_not_left_open(settings: Any, server: SMTPServer, stage: str) -> None:
    point_mail_at(settings, server.port, username="mailer", password="wrong")
    server.on(stage, "535 5.7.8 Wrong")
    connection = Connection()
    failure_of(connection)
    server.wait_until(lambda: server.open_connections == 0, timeout=2)


def test_after_a_failure_the_next_mail_takes_a_new_connection(server: SMTPServer, connection: Connection) -> None:
    server.refused["bad@example.com"] = "550 5.1.1 Nobody here"
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        connection.send(mail("bad@example.com"))
    connection.send(mail("good@example.com"))
    assert [letter.recipients for letter in server.letters] == [("good@example.com",)]


# --- Logins and names ------------------------------------------------------------------------------------------------


ANY_LETTERS = "Grüße, 密码"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("password", [ANY_LETTERS, "plain"])
def test_a_password_of_any_letters_is_sent_in_utf8(
    settings: Any, server: SMTPServer, mechanism: str, password: str
) -> None:
    server.mechanisms = (mechanism,)
    point_mail_at(settings, server.port, username="größe", password=password)
    connection = Connection()
    connection.send(mail())
    connection.close()
    digest = hmac.new(password.encode(), CHALLENGE, "md5").hexdigest().encode()
    secret = digest if mechanism == "CRAM-MD5" else password.encode()
    assert server.logins == [(mechanism, "größe".encode(), secret)]


@pytest.mark.parametrize("mechanisms", [(), ("CRAM-SHA1",)])
def test_a_server_that_we_cannot_log_in_to_is_named_so(
    settings: Any, server: SMTPServer, mechanisms: tuple[str, ...]
) -> None:
    server.mechanisms = mechanisms
    point_mail_at(settings, server.port, username="mailer", password="right")
    assert failure_of(Connection()) == Failure("auth")
    assert smtp.why_down() == "auth"


@pytest.mark.parametrize("name", ["mail.example.com", "[192.0.2.1]"])
def test_servers_are_greeted_by_the_name_that_is_set(
    settings: Any, server: SMTPServer, connection: Connection, name: str
) -> None:
    settings.MAIL_HELO = name
    connection.send(mail())
    assert server.letters[0].helo == name


def test_servers_are_greeted_by_the_name_of_the_machine_where_none_is_set(
    server: SMTPServer, connection: Connection
) -> None:
    connection.send(mail())
    assert server.letters[0].helo == DNS_NAME.get_fqdn()


# --- The probe -------------------------------------------------------------------------------------------------------


def test_the_probe_finds_a_server_that_takes_mail_and_leaves_nothing_behind(settings: Any, server: SMTPServer) -> None:
    settings.DEFAULT_FROM_EMAIL = "Käse <no-reply@käse.example>"
    assert smtp.why_down() == ""
    server.wait_until(lambda: server.open_connections == 0)
    assert server.stages["RCPT"] == server.stages["QUIT"] == 1
    assert server.stages["DATA"] == 0
    assert server.letters == []


@pytest.mark.parametrize(
    ("stage", "answer", "reason"),
    [
        ("CONNECT", DROP, "disconnected"),
        ("CONNECT", "421 4.3.2 Too busy", "smtp_421 4.3.2"),
        ("CONNECT", "554 5.3.2 No service here", "smtp_554 5.3.2"),
        ("MAIL", DROP, "disconnected"),
        ("MAIL", "530 5.7.0 Authentication required", "smtp_530 5.7.0"),
        ("MAIL", "550 5.1.8 Not your domain", "smtp_550 5.1.8"),
        ("MAIL", "451 4.3.0 Later", "smtp_451 4.3.0"),
        ("MAIL", "421 4.3.2 Going down", "smtp_421 4.3.2"),
        ("RCPT", "530 5.7.0 Authentication required", "smtp_530 5.7.0"),
        ("RCPT", "553 5.7.1 Sender address rejected: not owned by user", "smtp_553 5.7.1"),
        ("RCPT", "554 5.7.1 Service unavailable; Client host blocked using a list", "smtp_554 5.7.1"),
        ("RCPT", "554 Client host rejected", "smtp_554"),
        ("RCPT", "452 4.3.1 Disk full", "smtp_452 4.3.1"),
        ("RCPT", "421 Going down", "smtp_421"),
    ],
)
def test_the_probe_takes_a_server_for_down_that_takes_no_mail_of_ours(
    server: SMTPServer, stage: str, answer: str, reason: str
) -> None:
    server.on(stage, answer)
    assert smtp.why_down() == reason
    server.wait_until(lambda: server.open_connections == 0)


@pytest.mark.parametrize(
    "answer",
    ["550 5.1.1 Nobody here", "550 Nobody here", "450 4.7.1 Greylisted", "451 Later", "552 5.2.2 Full", "251 Moved"],
)
def test_the_probe_does_not_mind_what_is_said_of_our_own_mailbox(server: SMTPServer, answer: str) -> None:
    server.on("RCPT", answer)
    assert smtp.why_down() == ""


def test_the_probe_takes_a_closed_port_for_a_server_that_is_down(settings: Any) -> None:
    with closed_port() as port:
        point_mail_at(settings, port)
        assert smtp.why_down() == "refused"


@pytest.mark.parametrize("stage", ["CONNECT", "MAIL", "RCPT"])
def test_the_probe_takes_a_silent_server_for_down(settings: Any, server: SMTPServer, stage: str) -> None:
    point_mail_at(settings, server.port, timeout=0.2)
    server.on(stage, HOLD)
    assert smtp.why_down() == "timeout"


def test_the_probe_leaves_nothing_behind_where_the_login_is_refused(settings: Any, server: SMTPServer) -> None:
    point_mail_at(settings, server.port, username="mailer", password="wrong")
    server.on("AUTH", "535 5.7.8 Wrong")
    assert smtp.why_down() == "smtp_535 5.7.8"
    server.wait_until(lambda: server.open_connections == 0)


def test_the_probe_names_a_sender_that_no_mail_can_come_from(settings: Any, server: SMTPServer) -> None:
    settings.DEFAULT_FROM_EMAIL = "Foo: bar <a@example.com>"
    assert smtp.why_down() == "sender"


def test_the_probe_asks_a_backend_that_does_not_speak_smtp_nothing_but_to_open() -> None:
    assert smtp.why_down() == ""
