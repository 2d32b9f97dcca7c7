"""`manage.py check_mail`: in sentences, whether mails can leave; never a traceback, and never the password."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import django
import pytest
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.management import CommandError, call_command

from accounts.mailing.smtp import Connection, Failure, classify
from harness.smtp_server import DROP, HOLD, SMTPServer, certified, closed_port, mail_server, point_mail_at, private_ca
from tests.test_environment import PRODUCTION, ROOT, manage
from tests.test_mail_headers import letter

PASSWORD = "hunter2-mail"  # noqa: S105 (of a login that lives for one test)
LOGIN = {"username": "recovery", "password": PASSWORD}


@pytest.fixture
def server(settings: Any) -> Iterator[SMTPServer]:
    with mail_server(settings) as server:
        yield server


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    private_ca().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, ca_file: str) -> None:
    """What the README says of a private CA."""
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)


def check(to: str = "") -> str:
    out = StringIO()
    call_command("check_mail", to=to, stdout=out)
    return out.getvalue()


def failure(to: str = "") -> str:
    """All that is said where something is wrong."""
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("check_mail", to=to, stdout=out)
    assert caught.value.returncode == 1
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    said = f"{out.getvalue()}{caught.value}"
    assert PASSWORD not in said
    assert re.fullmatch(r"(.+[.)]\n)*.+[.>]", said)
    return said


def speak_tls(server: SMTPServer, certificate: str = "server") -> None:
    server.tls = certified(certificate)


# --- All is well -----------------------------------------------------------------------------------------------------


def test_it_says_where_it_is_what_the_server_offers_and_that_the_sender_is_taken(server: SMTPServer) -> None:
    said = check()
    assert f"by SMTP to 127.0.0.1, port {server.port}." in said
    assert re.search(r"offers: 8BITMIME, AUTH LOGIN PLAIN, HELP, PIPELINING, SIZE 33554432, SMTPUTF8\.", said)
    assert "There is no TLS" in said
    assert "STARTTLS" not in said
    assert "Nobody logs in" in said
    assert "takes mails from no-reply@accounts.example.com" in said
    assert (server.stages["MAIL"], server.stages["RSET"], server.stages["RCPT"]) == (1, 1, 0)
    assert server.letters == []


def test_it_says_that_a_server_without_tls_could_speak_it(server: SMTPServer) -> None:
    speak_tls(server)
    assert "offers STARTTLS: set EMAIL_USE_TLS." in check()


def test_with_starttls_it_says_the_version_and_that_the_certificate_verifies(
    settings: Any, server: SMTPServer, trusted: None
) -> None:
    speak_tls(server)
    point_mail_at(settings, server.port, use_tls=True, **LOGIN)
    said = check()
    assert re.search(r"TLSv1\.[23] is spoken, and the certificate verifies; it ends \w+ +\d+ [\d:]+ 2\d{3} GMT\.", said)
    assert "AUTH" in said
    assert "The login works." in said
    assert server.stages["AUTH"] == 1


def test_with_tls_from_the_start_it_says_the_same(settings: Any, server: SMTPServer, trusted: None) -> None:
    server.go_down()
    speak_tls(server)
    server.tls_from_start = True
    server.come_back()
    point_mail_at(settings, server.port, use_ssl=True)
    assert "the certificate verifies" in check()


@pytest.mark.parametrize("tls", [False, True])
def test_it_mails_one_test_mail_and_says_what_the_server_answers(
    settings: Any, server: SMTPServer, trusted: None, tls: bool
) -> None:
    if tls:
        speak_tls(server)
        point_mail_at(settings, server.port, use_tls=True, **LOGIN)
    server.on("TAKEN", "250 2.0.0 Ok: queued as 4FfA1")
    said = check(to="support@example.org")
    assert said.endswith("taken the test mail to support@example.org. It says: 250 2.0.0 Ok: queued as 4FfA1.\n")
    (taken,) = server.letters
    assert taken.recipients == ("support@example.org",)
    assert taken.message["Subject"] == "Test mail from accounts.example.com"
    assert "This is a test mail from accounts.example.com." in taken.text
    assert server.stages["CONNECT"] == 1


# --- Something is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certificate", "told"),
    [
        ("server", "set SSL_CERT_FILE"),
        ("expired", "set SSL_CERT_FILE|Have it renewed"),
        ("elsewhere", "set SSL_CERT_FILE"),
    ],
)
def test_a_certificate_of_a_private_ca_is_told(settings: Any, server: SMTPServer, certificate: str, told: str) -> None:
    speak_tls(server, certificate)
    point_mail_at(settings, server.port, use_tls=True)
    assert re.search(f"does not verify: .*{told}", failure())


@pytest.mark.parametrize(
    ("certificate", "told"), [("expired", "expired. Have it renewed"), ("elsewhere", "Set EMAIL_HOST to a name")]
)
def test_a_bad_certificate_is_told_why(
    settings: Any, server: SMTPServer, trusted: None, certificate: str, told: str
) -> None:
    speak_tls(server, certificate)
    point_mail_at(settings, server.port, use_tls=True)
    assert re.search(f"does not verify: .*{told}", failure())


def test_a_server_without_starttls_is_told(settings: Any, server: SMTPServer) -> None:
    point_mail_at(settings, server.port, use_tls=True)
    assert "offers no STARTTLS" in failure()


def test_a_server_that_speaks_no_tls_from_the_start_is_told(settings: Any, server: SMTPServer) -> None:
    point_mail_at(settings, server.port, use_ssl=True)
    assert "does not speak TLS as it is asked to" in failure()


def test_a_server_without_a_login_is_told(settings: Any, server: SMTPServer) -> None:
    server.on("EHLO", "250-localhost\r\n250 SIZE 1000")
    point_mail_at(settings, server.port, **LOGIN)
    said = failure()
    assert "The server offers: SIZE 1000." in said
    assert "offers no login that can be used" in said


def test_a_server_with_none_but_strange_logins_is_told(settings: Any, server: SMTPServer) -> None:
    server.on("EHLO", "250-localhost\r\n250 AUTH GSSAPI")
    point_mail_at(settings, server.port, **LOGIN)
    said = failure()
    assert "The server offers: AUTH GSSAPI." in said
    assert "offers no login that can be used" in said


def test_a_wrong_password_is_told_and_not_repeated_even_if_the_server_does(settings: Any, server: SMTPServer) -> None:
    server.on("AUTH", f"535 5.7.8 No such password: {PASSWORD}\a")
    point_mail_at(settings, server.port, **LOGIN)
    said = failure()
    assert "refuses the login: 535 5.7.8 No such password: ***." in said
    assert "Check EMAIL_HOST_USER and EMAIL_HOST_PASSWORD" in said


def test_half_a_login_is_told(settings: Any, server: SMTPServer) -> None:
    point_mail_at(settings, server.port, username="recovery")
    assert "Nobody logs in" in check()
    assert server.stages["AUTH"] == 0


@pytest.mark.parametrize(
    ("stage", "answer", "told"),
    [
        ("CONNECT", "554 5.7.1 Listed", "turns this machine away: 554 5.7.1 Listed"),
        ("CONNECT", DROP, "has hung up without a word"),
        ("EHLO", DROP, "has hung up without a word"),
        ("MAIL", "553 5.7.1 Not yours", "refuses the sender no-reply@accounts.example.com: 553 5.7.1 Not yours"),
        ("MAIL", "530 5.7.0 Authentication required", "or log in"),
        ("MAIL", DROP, "has hung up without a word"),
        ("RCPT", "550 5.1.1 Nobody here", "refuses the recipient: 550 5.1.1 Nobody here"),
        ("DATA", "451 4.3.0 Later", "refuses the test mail: 451 4.3.0 Later"),
        ("END", "554 5.6.0 Spam", "refuses the test mail: 554 5.6.0 Spam"),
    ],
)
def test_what_the_server_refuses_is_told_with_its_answer(
    server: SMTPServer, stage: str, answer: str, told: str
) -> None:
    server.on(stage, answer)
    assert told in failure(to="ada@example.com")
    assert server.letters == []


def test_a_name_that_the_server_does_not_take_is_told(server: SMTPServer) -> None:
    server.on("EHLO", "550 5.5.4 What name is that")
    server.on("HELO", "550 5.5.4 What name is that")
    point = failure()
    assert "550 5.5.4 What name is that" in point


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL"])
def test_a_silent_server_is_told(settings: Any, server: SMTPServer, stage: str) -> None:
    server.on(stage, HOLD)
    point_mail_at(settings, server.port, timeout=0.2)
    assert "is silent for 0.2 seconds" in failure()


def test_a_port_where_nothing_listens_is_told(settings: Any) -> None:
    with closed_port() as port:
        point_mail_at(settings, port)
        assert f"Nothing listens at 127.0.0.1, port {port}: check EMAIL_HOST and EMAIL_PORT" in failure()


@pytest.mark.parametrize("host", ["mail.invalid", "mail..invalid"])
def test_a_host_that_nobody_knows_is_told(settings: Any, host: str) -> None:
    point_mail_at(settings, 25)
    if django.VERSION >= (6, 1):
        settings.MAILERS["default"]["OPTIONS"]["host"] = host
    else:
        settings.EMAIL_HOST = host
    assert f"No host is known as {host}" in failure()


@pytest.mark.parametrize("to", ["ada", "josé@example.com", "ada@example.com\r\nBcc: eve@evil.example"])
def test_an_address_that_no_mail_can_go_to_is_told_before_anybody_is_asked(server: SMTPServer, to: str) -> None:
    assert "--to is no address" in failure(to=to)
    assert server.stages["CONNECT"] == 0


def test_a_sender_that_no_mail_can_come_from_is_told(settings: Any, server: SMTPServer) -> None:
    settings.DEFAULT_FROM_EMAIL = "Foo: bar <a@example.com>"
    assert 'quote the name, as in "Foo: bar" <a@example.com>' in failure()


# --- By another way than SMTP ----------------------------------------------------------------------------------------


class Failing(BaseEmailBackend):
    """A provider's that does not work."""

    def send_messages(self, email_messages: Any) -> int:
        raise RuntimeError(f"key {PASSWORD} is unknown")


class Lazy(BaseEmailBackend):
    def send_messages(self, email_messages: Any) -> int:
        return 0


def mail_by(settings: Any, backend: str) -> None:
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": backend}}
    else:
        settings.EMAIL_BACKEND = backend


def test_a_backend_that_is_not_smtp_is_named_and_can_send(settings: Any) -> None:
    name = "django.core.mail.backends.locmem.EmailBackend"
    mail_by(settings, name)
    said = check(to="ada@example.com")
    assert f"Mails go by {name}, not by SMTP" in said
    assert "It delivers to nobody" in said
    assert said.endswith(f"{name} has taken the test mail to ada@example.com.\n")
    (taken,) = mail.outbox
    assert taken.to == ["ada@example.com"]


def test_the_inbox_of_development_is_named_with_where_to_look(settings: Any, tmp_path: Any) -> None:
    settings.MAIL_PREVIEW_ROOT = tmp_path
    mail_by(settings, "django_mail_preview.backends.EmailBackend")
    said = check(to="ada@example.com")
    assert "mails are at https://accounts.example.com/inbox/ until EMAIL_HOST is set" in said
    assert list(tmp_path.rglob("*.eml"))


def test_a_backend_that_fails_is_named_without_its_words(settings: Any) -> None:
    mail_by(settings, "tests.test_check_mail.Failing")
    assert "tests.test_check_mail.Failing fails with RuntimeError" in failure(to="ada@example.com")
    assert "Mails go by tests.test_check_mail.Failing" in check()


def test_a_backend_that_sends_nothing_or_is_none_is_told(settings: Any) -> None:
    mail_by(settings, "tests.test_check_mail.Lazy")
    assert "has not sent the test mail" in failure(to="ada@example.com")
    mail_by(settings, "tests.test_check_mail.Missing")
    assert "cannot be made" in failure()


# --- In a process of its own -----------------------------------------------------------------------------------------


@pytest.mark.processes
def test_it_ends_with_1_and_a_sentence_and_no_traceback() -> None:
    with closed_port() as port:
        where = {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(port), "EMAIL_HOST_PASSWORD": PASSWORD}
        result = manage("check_mail", **{**PRODUCTION, **where})
    assert result.returncode == 1
    assert result.stderr.startswith(f"CommandError: Nothing listens at 127.0.0.1, port {port}")
    assert len(result.stderr.splitlines()) == 1
    assert PASSWORD not in result.stdout + result.stderr


@pytest.mark.processes
def test_with_the_variable_of_the_readme_a_private_ca_is_trusted_and_without_it_not(
    settings: Any, ca_file: str
) -> None:
    with mail_server(settings) as server:
        speak_tls(server)
        where = {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(server.port), "EMAIL_USE_TLS": "1"}
        told = manage("check_mail", **{**PRODUCTION, **where})
        assert told.returncode == 1
        assert "set SSL_CERT_FILE" in told.stderr
        trusting = {"SSL_CERT_FILE": ca_file}
        result = manage("check_mail", "--to", "ada@example.com", **{**PRODUCTION, **where, **trusting})
        assert (result.returncode, result.stderr) == (0, "")
        assert len(server.letters) == 1


def test_the_mailer_trusts_a_private_ca_by_the_same_variable(
    settings: Any, server: SMTPServer, monkeypatch: pytest.MonkeyPatch, ca_file: str
) -> None:
    speak_tls(server)
    point_mail_at(settings, server.port, use_tls=True)
    connection = Connection()
    with pytest.raises((OSError, smtplib.SMTPException)) as refused:
        connection.send(letter())
    assert classify(refused.value) == Failure("tls")
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    connection.send(letter())
    connection.close()
    assert len(server.letters) == 1


def test_the_page_for_support_quotes_what_is_said() -> None:
    page = (ROOT / "docs" / "check-mail.md").read_text()
    source = (ROOT / "accounts" / "management" / "commands" / "check_mail.py").read_text()
    quoted = [phrase for row in re.findall(r"^\| (.+?) \|", page, re.MULTILINE)[1:] for phrase in row.split("; ")]
    assert len(quoted) == 13
    assert [phrase for phrase in quoted if phrase not in source] == []
