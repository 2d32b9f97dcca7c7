"""`manage.py check_mail`: whether mails can leave, in sentences for whoever looks after the server."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.mail import make_msgid
from django.core.mail.backends.smtp import EmailBackend
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import brands
from ...addresses import UnmailableAddress
from ...checks import MAIL_FOR_NOBODY
from ...conf import conf
from ...mailing.headers import BadSender, parse_sender
from ...mailing.mime import Letter
from ...mailing.smtp import classify, new_backend
from ...mailing.smtp_backend import Session

LONGEST_ANSWER = 500
"""Characters of what a server says that are repeated."""

_OWN_CA = "If its CA is a private one, set SSL_CERT_FILE to a file with the CA's certificate (see the README)."
_CLOCK = "Have it renewed, or set the clock of this machine."
_NAMES = "Set EMAIL_HOST to a name that the certificate is for."
_MENDS = {9: _CLOCK, 10: _CLOCK, 18: _OWN_CA, 19: _OWN_CA, 20: _OWN_CA, 21: _OWN_CA, 62: _NAMES, 64: _NAMES}
"""By OpenSSL's number of what is wrong with a certificate (X509_V_ERR_…)."""
_TLS_PORTS = "EMAIL_USE_SSL is for TLS from the start (port 465 most often), EMAIL_USE_TLS for STARTTLS (587 or 25)."


_HUNG_UP = (smtplib.SMTPServerDisconnected, ConnectionResetError, BrokenPipeError)


class Command(BaseCommand):
    help = "Connect to the mail server as the mailer does, and say what it offers; with --to, mail one test mail."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--to", metavar="ADDRESS", default="", help="mail a test mail to this address")

    def handle(self, *args: Any, to: str, **options: Any) -> None:
        letter, backend = _letter(to), _backend()
        try:
            if isinstance(backend, EmailBackend):
                self._ask(backend)
            else:
                self._describe(backend)
            if to:
                self._send(backend, letter)
        except CommandError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever a backend may raise is said in a sentence)
            with suppress(Exception):
                self._offers(backend._partial_connection)
            raise CommandError(_why(error, backend)) from None  # its text may hold the password
        finally:
            with suppress(Exception):
                backend.close()

    def _ask(self, backend: Any) -> None:
        """All that a server tells without being given a mail."""
        self.stdout.write(f"Mails go by SMTP to {backend.host}, port {backend.port}.")
        backend.open()
        session = backend.connection
        session.ehlo_or_helo_if_needed()
        self._tells_tls(session)
        self._offers(session)
        if backend.username and backend.password:
            self.stdout.write("The login works.")
        else:
            self.stdout.write("Nobody logs in: EMAIL_HOST_USER and EMAIL_HOST_PASSWORD are not both set.")
        for sender in dict.fromkeys(parse_sender(brand.sender).address for brand in brands.every()):
            code, said = session.mail(sender)
            if code != 250:
                raise smtplib.SMTPSenderRefused(code, said, sender)
            session.rset()
            told = f"The server takes mails from {sender}; some look at that only once they have a recipient."
            self.stdout.write(told)

    def _tells_tls(self, session: Any) -> None:
        if not isinstance(session.sock, ssl.SSLSocket):
            mend = " The server offers STARTTLS: set EMAIL_USE_TLS." if session.has_extn("starttls") else ""
            self.stdout.write(f"There is no TLS: whoever is on the way can read codes and links.{mend}")
            return
        verifies = "verifies" if session.sock.context.verify_mode is ssl.CERT_REQUIRED else "is not verified"
        until = (session.sock.getpeercert() or {}).get("notAfter", "an unknown time")
        self.stdout.write(f"{session.sock.version()} is spoken, and the certificate {verifies}; it ends {until}.")

    def _offers(self, session: Any) -> None:
        # Each word once: some servers offer AUTH in its older form, too.
        offered = [
            " ".join(dict.fromkeys([name.upper(), *words.split()])) for name, words in session.esmtp_features.items()
        ]
        self.stdout.write(f"The server offers: {_printable(', '.join(sorted(offered))) or 'no extension'}.")

    def _describe(self, backend: Any) -> None:
        name = _dotted(backend)
        self.stdout.write(f"Mails go by {name}, not by SMTP: only a mail can show whether that works (--to ADDRESS).")
        if name.startswith("django_mail_preview"):
            self.stdout.write(f"It delivers to nobody: mails are at {conf.PUBLIC_URL}/inbox/ until EMAIL_HOST is set.")
        elif name.split(".")[-2] in MAIL_FOR_NOBODY:
            self.stdout.write("It delivers to nobody: take Django's SMTP backend, or that of your mail provider.")

    def _send(self, backend: Any, letter: Letter) -> None:
        answers = _answers(backend.connection) if isinstance(backend, EmailBackend) else []
        if backend.send_messages([letter]) == 0:
            raise CommandError(f"{_dotted(backend)} has not sent the test mail, and does not say why.")
        said = f" It says: {_said(backend, *answers[-1])}." if answers else ""
        taken = "The server has taken" if isinstance(backend, EmailBackend) else f"{_dotted(backend)} has taken"
        self.stdout.write(f"{taken} the test mail to {letter.to[0]}.{said}")


def _letter(to: str) -> Letter:
    host = brands.default().host
    text = f"This is a test mail from {host}. Whoever looks after its mail asked for it; there is nothing to do.\n"
    try:
        sender = parse_sender(str(settings.DEFAULT_FROM_EMAIL))
        headers = {"Message-ID": make_msgid("check_mail", domain=sender.domain), "Auto-Submitted": "auto-generated"}
        return Letter(
            f"Test mail from {host}", text, str(settings.DEFAULT_FROM_EMAIL), [to or sender.address], headers=headers
        )
    except BadSender as error:
        raise CommandError(f"No mail can come from DEFAULT_FROM_EMAIL. {error}") from None
    except UnmailableAddress:
        raise CommandError("--to is no address that a mail can be sent to: write it as ada@example.com.") from None


def _backend() -> Any:
    try:
        return new_backend()
    except Exception as error:  # noqa: BLE001 (a host's backend may raise anything)
        raise CommandError(
            f"The mail backend cannot be made ({type(error).__name__}): mend the mail settings."
        ) from None


def _answers(session: Any) -> list[tuple[int, bytes]]:
    """What the server is going to answer to mails: smtplib keeps it to itself."""
    answers: list[tuple[int, bytes]] = []
    name = "send_text" if isinstance(session, Session) else "data"
    send = getattr(session, name)

    def heard(message: Any) -> tuple[int, bytes]:
        answers.append(send(message))
        return answers[-1]

    setattr(session, name, heard)
    return answers


def _why(error: Exception, backend: Any) -> str:
    """What has failed and what to do, without the error's own words, which may hold the password."""
    if not isinstance(backend, EmailBackend):
        return f"{_dotted(backend)} fails with {type(error).__name__}: its documentation says what that means."
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"The server refuses the recipient: {_said(backend, *next(iter(error.recipients.values())))}."
    if isinstance(error, smtplib.SMTPResponseException):
        return _refused(error, _said(backend, error.smtp_code, error.smtp_error))
    if isinstance(error, smtplib.SMTPNotSupportedError) and "STARTTLS" in str(error):
        return f"The server offers no STARTTLS. {_TLS_PORTS} Without either, mails go in the clear."
    cannot_say_it = isinstance(error, UnicodeEncodeError) and error.encoding == "ascii"
    if cannot_say_it or (isinstance(error, smtplib.SMTPException) and not isinstance(error, _HUNG_UP)):
        return (
            "The server offers no login that can be used. Many offer it over TLS alone (EMAIL_USE_TLS, EMAIL_USE_SSL); "
            "one that wants none wants no EMAIL_HOST_USER and EMAIL_HOST_PASSWORD."
        )
    return _unreached(error, backend, f"{backend.host}, port {backend.port}")


def _unreached(error: Exception, backend: Any, where: str) -> str:
    """The same of a server that did not get so far as to refuse something."""
    if isinstance(error, ssl.SSLCertVerificationError):
        mend = _MENDS.get(error.verify_code, "Ask whoever runs the server.")
        return f"The certificate of {where}, does not verify: {error.verify_message.rstrip('.')}. {mend}"
    if classify(error).reason == "timeout":
        return (
            f"{where}, is silent for {backend.timeout} seconds. A firewall may swallow what is sent there; and a "
            f"server that speaks TLS from the start waits for it. {_TLS_PORTS}"
        )
    if isinstance(error, ssl.SSLError):
        return f"{where}, does not speak TLS as it is asked to ({error.reason}). {_TLS_PORTS}"
    if isinstance(error, _HUNG_UP):
        return f"{where}, has hung up without a word. It may not want this machine, or want TLS. {_TLS_PORTS}"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return f"No host is known as {backend.host}: check EMAIL_HOST, and this machine's name servers."
    if isinstance(error, ConnectionRefusedError):
        return f"Nothing listens at {where}: check EMAIL_HOST and EMAIL_PORT, and whether a firewall refuses."
    if isinstance(error, OSError):
        return f"There is no way to {where} ({error.strerror or type(error).__name__}): check EMAIL_HOST and network."
    return f"The mail backend fails with {type(error).__name__}."


def _refused(error: smtplib.SMTPResponseException, said: str) -> str:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return (
            f"The server refuses the login: {said}. Check EMAIL_HOST_USER and EMAIL_HOST_PASSWORD; some providers want "
            "a password for programs, or a key, instead of one's own."
        )
    if isinstance(error, smtplib.SMTPConnectError):
        return f"The server turns this machine away: {said}. Try again later, or ask whoever runs it."
    if isinstance(error, smtplib.SMTPHeloError):
        return f"The server does not take the name that this machine gives itself: {said}. Set MAIL_HELO."
    if isinstance(error, smtplib.SMTPSenderRefused):
        return (
            f"The server refuses the sender {error.sender}: {said}. Set DEFAULT_FROM_EMAIL, or the sender in BRANDS, "
            "to an address that it lets this login use, or log in (EMAIL_HOST_USER, EMAIL_HOST_PASSWORD)."
        )
    if isinstance(error, smtplib.SMTPDataError):
        return f"The server refuses the test mail: {said}."
    return f"The server refuses: {said}."


def _said(backend: Any, code: int, text: bytes | str) -> str:
    """A server's answer as it may be shown: in one line, and without the password, should it repeat it."""
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    for secret in (backend.password or "", base64.b64encode((backend.password or "").encode()).decode()):
        said = said.replace(secret, "***") if secret else said
    return f"{code} {_printable(said)}".strip().rstrip(".")


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:LONGEST_ANSWER]


def _dotted(backend: Any) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"
