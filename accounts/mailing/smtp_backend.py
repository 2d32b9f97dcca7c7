"""Django's SMTP backend, with a session that waits for the answer to a mail, logs in in UTF-8 and has a name.

It stands in place of Django's as the default: MAIL_HELO and the wait would have no place there.
"""

from __future__ import annotations

import re
import smtplib
import time
from typing import Any

from django.core.mail.backends import smtp

from ..conf import conf

_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)


class MailUnanswered(TimeoutError):
    """The server has been sent the whole mail and has not said what became of it: it may have kept it."""


class Session(smtplib.SMTP):
    """One connection to the mail server. `EmailBackend.connection` is one."""

    answer_by = 0.0
    """Until when, by time.monotonic(), to wait for the answer to a mail; the usual timeout counts if it is longer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if conf.MAIL_HELO:
            options["local_hostname"] = conf.MAIL_HELO
        super().__init__(*args, **options)

    def login(self, user: str, password: str, *, initial_response_ok: bool = True) -> tuple[int, bytes]:
        return super().login(_UTF8(user), _UTF8(password), initial_response_ok=initial_response_ok)

    def auth(self, mechanism: str, authobject: Any, *, initial_response_ok: bool = True) -> tuple[int, bytes]:
        """Log in by a mechanism, in UTF-8 (RFC 4616 section 2), where smtplib knows ASCII alone."""

        def in_utf8(challenge: Any = None) -> Any:
            answer = authobject(challenge)
            return None if answer is None else _UTF8(answer)

        return super().auth(mechanism, in_utf8, initial_response_ok=initial_response_ok)

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Send a mail and wait for the answer to it until `answer_by`.

        A server may take long to answer, and it has the mail by then: RFC 5321 section 4.5.3.2.6 asks for ten minutes.
        Giving up sooner means to mail it twice. Raises MailUnanswered, and SMTPDataError if it does not want the mail.
        """
        code, reply = self.docmd("data")
        if code != 354:
            raise smtplib.SMTPDataError(code, reply)
        self.send(_LEADING_DOT.sub(b"..", msg).removesuffix(b"\r\n") + b"\r\n.\r\n")
        # None where nothing has a timeout, neither this connection nor this process: then it waits as long as it takes.
        usual = self.sock.gettimeout() if self.sock else None
        if self.sock and usual is not None:
            self.sock.settimeout(max(usual, self.answer_by - time.monotonic()))
        try:
            return self.getreply()
        except smtplib.SMTPServerDisconnected as error:
            if isinstance(error.__context__, TimeoutError):
                raise MailUnanswered from error
            raise
        finally:
            if self.sock:
                self.sock.settimeout(usual)


class TLSSession(Session, smtplib.SMTP_SSL):
    """The same, encrypted from its first byte on."""


class EmailBackend(smtp.EmailBackend):
    """Django's own in all else: settings, TLS, and one connection for many mails."""

    @property
    def connection_class(self) -> type[Session]:
        return TLSSession if self.use_ssl else Session


class _UTF8(str):
    """Text that encodes itself in UTF-8, whatever it is asked for."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", errors)
