"""Django's SMTP backend, with a session that pipelines, waits for the answer to a mail and logs in in UTF-8.

It stands in place of Django's as the default: MAIL_HELO, the wait and pipelining would have no place there.
"""

from __future__ import annotations

import os
import re
import smtplib
import ssl
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.core.mail.backends import smtp
from django.utils.functional import cached_property

from ..conf import conf

_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)

NO_PIPELINING_SECONDS = 600.0
"""How long a server that has promised PIPELINING and lost its place is taken at its word no more."""


class OutOfStep(smtplib.SMTPServerDisconnected):
    """The server's answers do not fit what it was sent: nobody can tell what became of a mail, so none was sent."""


class MailUnanswered(TimeoutError):
    """The server has been sent the whole mail and has not said what became of it: it may have kept it."""


class Session(smtplib.SMTP):
    """One connection to the mail server. `EmailBackend.connection` is one."""

    _no_pipelining_before = 0.0
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

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Sequence[str],
        msg: Any,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, tuple[int, bytes]]:
        """Send a mail: its envelope in one write where the server offers PIPELINING (RFC 2920), then its text.

        That is two round trips instead of four. Raises what smtplib raises, and OutOfStep.
        """
        recipients = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs)
        self.ehlo_or_helo_if_needed()
        if len(recipients) != 1 or mail_options or rcpt_options or not isinstance(msg, bytes) or not self.pipelines:
            return super().sendmail(from_addr, to_addrs, msg, mail_options, rcpt_options)
        (recipient,) = recipients
        size = f" size={len(msg)}" if self.has_extn("size") else ""
        sender, addressee = smtplib.quoteaddr(from_addr), smtplib.quoteaddr(recipient)
        of_sender, of_recipient, of_data = self._burst(
            f"MAIL FROM:{sender}{size}", f"RCPT TO:{addressee}", "DATA", expected=(250, 250, 354)
        )
        if of_sender[0] != 250 or of_recipient[0] not in {250, 251}:
            self._abandon(of_data)
            if of_sender[0] != 250:
                raise smtplib.SMTPSenderRefused(*of_sender, from_addr)
            raise smtplib.SMTPRecipientsRefused({recipient: of_recipient})
        if of_data[0] != 354:
            self._rset()  # type: ignore[attr-defined]
            raise smtplib.SMTPDataError(*of_data)
        code, reply = self.send_text(msg)
        if code != 250:
            self._rset()  # type: ignore[attr-defined]
            raise smtplib.SMTPDataError(code, reply)
        return {}

    def rehearse(self) -> None:
        """Do for a decoy what `sendmail` does for a mail: as many writes, as many commands, as many answers.

        RFC 2920 section 3.1 allows NOOP at the end of a burst alone.
        """
        for burst in (("RSET", "RSET", "NOOP"), ("NOOP",)):
            if self.pipelines:
                self._burst(*burst, expected=(250,) * len(burst))
            else:
                for _ in burst:
                    self.noop()

    @property
    def pipelines(self) -> bool:
        """Whether the server offers PIPELINING, and has kept to it of late."""
        return self.has_extn("pipelining") and time.monotonic() >= Session._no_pipelining_before

    def _burst(self, *commands: str, expected: Sequence[int]) -> list[tuple[int, bytes]]:
        """Send several commands in one write and read the answer to each.

        Raises ValueError where one holds a line end, as smtplib does: what follows that would be a command of its own.
        """
        if any(end in command for command in commands for end in "\r\n"):
            raise ValueError("A command to the mail server holds a line end.")
        self.send("".join(f"{command}\r\n" for command in commands))
        replies: list[tuple[int, bytes]] = []
        try:
            for _ in commands:
                replies.append(self.getreply())
                if replies[-1][0] == 421:
                    break
        except smtplib.SMTPServerDisconnected:
            if replies:  # it has read the first command and lost the others
                self._distrust()
            raise
        if len(replies) < len(commands):
            raise smtplib.SMTPResponseException(*replies[-1])
        # A refusal may stand anywhere, but what is no refusal must be the answer to its own command.
        if any(code < 400 and code // 100 != fits // 100 for (code, _), fits in zip(replies, expected, strict=True)):
            self._distrust()
            self.close()
            raise OutOfStep("The server's answers do not fit what it was sent.")
        return replies

    def _abandon(self, of_data: tuple[int, bytes]) -> None:
        """End a mail without a recipient; a server that waits for its text all the same is sent none."""
        if of_data[0] == 354:
            self.send(b".\r\n")
            self.getreply()
        self._rset()  # type: ignore[attr-defined]

    @staticmethod
    def _distrust() -> None:
        Session._no_pipelining_before = time.monotonic() + NO_PIPELINING_SECONDS

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Send a mail and wait for the answer to it. Raises MailUnanswered, and SMTPDataError if it is not wanted."""
        code, reply = self.docmd("data")
        if code != 354:
            raise smtplib.SMTPDataError(code, reply)
        return self.send_text(msg)

    def send_text(self, msg: bytes) -> tuple[int, bytes]:
        """Send the text of a mail and wait for the answer to it until `answer_by`.

        A server may take long to answer, and it has the mail by then: RFC 5321 section 4.5.3.2.6 asks for ten minutes.
        Giving up sooner means to mail it twice. Raises MailUnanswered.
        """
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

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        """Django's, once for all connections of this process: it reads every authority that the system trusts."""
        if self.ssl_certfile or self.ssl_keyfile:
            return super().ssl_context
        return _trusting(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(4)
def _trusting(file: str | None, folder: str | None) -> ssl.SSLContext:
    """A context that trusts whom the system trusts; OpenSSL reads both variables by itself."""
    return ssl.create_default_context()


class _UTF8(str):
    """Text that encodes itself in UTF-8, whatever it is asked for."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", errors)
