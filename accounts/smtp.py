"""One kept-open connection to the mail server, and what its failures mean."""

from __future__ import annotations

import smtplib
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import django
from django.core import mail
from django.core.mail import EmailMessage

from accounts.letters import UnmailableAddress

STALE_SECONDS = 20
"""An idle connection older than this is asked whether it still lives before a mail is entrusted to it."""

TURNS_OF_A_MAIL = 4
"""MAIL, RCPT, DATA, and the mail itself."""
MAX_PAUSE = 1.0
"""Seconds. Strangers may not hold up the mails of others for any longer."""
MAX_REHEARSALS = 20
"""In a row, on one connection. Postfix puts up with a hundred commands that do nothing (smtpd_junk_command_limit)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a mail was not accepted: a reason code for log and timeline, and whether trying again could help."""

    reason: str
    permanent: bool = False


class Connection:
    """A mail connection that stays open between messages. It belongs to one thread; make one for each."""

    seconds_of_a_mail = 0.0
    """How long the latest mail of this process took, on whatever connection."""

    def __init__(self) -> None:
        self._backend: Any = None
        self._used_at = 0.0
        self._rehearsals = 0

    def send(self, message: EmailMessage) -> None:
        """Hand one message over. A connection that died while it lay idle costs a reconnect, not a retry.

        Raises what smtplib and the socket raise; `classify` names it.
        """
        reused, begun = self._open(), time.monotonic()
        try:
            self._backend.send_messages([message])
            Connection.seconds_of_a_mail = time.monotonic() - begun
        except Exception as error:
            self.close()
            if not (reused and _was_closed_meanwhile(error)):
                raise
            self.send(message)
        self._used_at, self._rehearsals = time.monotonic(), 0

    def rehearse(self, message: EmailMessage) -> None:
        """Do for a decoy what `send` does for a mail, but for the mail: as many turns, as much to compute, as long.

        As long, so that what the sender does next does not come sooner, either.
        A failure is nobody's loss. Some servers hold it against a client if it asks for nothing too often, so a
        connection without any mail is given up after a while.
        """
        with suppress(OSError, smtplib.SMTPException):
            self._open()
            begun = time.monotonic()
            message.message().as_bytes()
            session = getattr(self._backend, "connection", None)
            for _ in range(TURNS_OF_A_MAIL):
                if session is not None:
                    session.noop()
            time.sleep(max(0.0, min(self.seconds_of_a_mail, MAX_PAUSE) - (time.monotonic() - begun)))
            self._used_at = time.monotonic()
        self._rehearsals += 1
        if self._rehearsals >= MAX_REHEARSALS:
            self.close()

    def close(self) -> None:
        """Say goodbye, if anybody is there to hear it."""
        if self._backend is not None:
            with suppress(OSError, smtplib.SMTPException):
                self._backend.close()
            self._backend = None
        self._rehearsals = 0

    def _open(self) -> bool:
        """Make sure of a connection; True where an earlier one goes on being used."""
        if self._backend is not None and time.monotonic() - self._used_at > STALE_SECONDS and not self._answers():
            self.close()
        if self._backend is not None:
            return True
        self._backend = new_backend()
        try:
            self._backend.open()
        except Exception:
            self.close()  # a greeting or a login that failed may have left half a connection
            raise
        return False

    def _answers(self) -> bool:
        connection = getattr(self._backend, "connection", None)
        try:
            return connection is None or connection.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False


def new_backend() -> Any:
    """Django's mail backend as configured, by the API of the Django at hand."""
    return mail.mailers["default"] if django.VERSION >= (6, 1) else mail.get_connection()


def server_answers() -> bool:
    """Whether the mail server takes a connection and greets; the probe that Look goes by."""
    backend = new_backend()
    try:
        backend.open()
    except (OSError, smtplib.SMTPException):
        return False
    finally:
        with suppress(OSError, smtplib.SMTPException):
            backend.close()
    return True


def classify(error: Exception) -> Failure:
    """Name a failure. A 5xx about recipient or message is final; one about sender or login, an operator can mend."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        return _by_code(max(codes, default=0), final=True)
    if isinstance(error, smtplib.SMTPResponseException):
        return _by_code(error.smtp_code, final=isinstance(error, smtplib.SMTPDataError))
    if isinstance(error, UnmailableAddress):
        return Failure("address", permanent=True)
    if _timed_out(error):
        return Failure("timeout")
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return Failure("disconnected")
    if isinstance(error, ConnectionRefusedError):
        return Failure("refused")
    if isinstance(error, ssl.SSLError):
        return Failure("tls")
    if isinstance(error, OSError):
        return Failure("network")
    return Failure("error")


def _was_closed_meanwhile(error: Exception) -> bool:
    """Whether the server has hung up, with a word (421) or without; a silent one has not, and is not tried twice."""
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code == 421
    return isinstance(error, smtplib.SMTPServerDisconnected) and not _timed_out(error)


def _timed_out(error: Exception) -> bool:
    """Whether it was silence; smtplib reports some of it as a disconnection."""
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _by_code(code: int, *, final: bool) -> Failure:
    return Failure(f"smtp_{code}", permanent=final and 500 <= code < 600)
