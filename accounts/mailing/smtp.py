"""One kept-open connection to the mail server, and what its failures mean."""

from __future__ import annotations

import random
import re
import smtplib
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import django
from django.conf import settings
from django.core import mail
from django.core.mail import EmailMessage

from ..addresses import UnmailableAddress
from ..conf import conf
from .headers import BadSender, parse_sender
from .smtp_backend import MailUnanswered, Session

STALE_SECONDS = 20
"""An idle connection older than this is asked whether it still lives before a mail is entrusted to it."""

LATEST = 16
"""Mails of this process that a rehearsal takes one of, to last as long as it."""
RECENT_SECONDS = 60.0
"""Of the latest mails those begun within this time count, if there are any: a server may have become slow since."""
MAX_REHEARSALS = 20
"""In a row, on one connection. Postfix puts up with a hundred commands that do nothing (smtpd_junk_command_limit)."""
ANSWER_MARGIN = 5.0
"""Seconds before the end of a lease at which the wait for an answer ends, so that its failure can still be noted."""
UNANSWERED = "timeout_after_data"
"""The reason of a mail that the server was sent whole and said nothing to."""
MAX_REASON = 40
"""Characters of a reason: the width of its columns."""
MAX_ID = 100
"""Characters of a provider's id: the width of its column."""
API_TIMEOUT = 10.0
"""Seconds until a provider's API that is asked whether it is there counts as down."""

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.\d{1,3}(?!\S)")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a mail was not accepted: a reason code for log and timeline, and whether trying again could help."""

    reason: str
    permanent: bool = False


class TooManyConnections(Exception):
    """The server greets with a 4xx: it has enough connections for now, and no mail is to blame for that."""


@dataclass(slots=True, eq=False)
class _Attempt:
    """A mail that has been handed over, or is just being: how many seconds that took, once it is over."""

    begun: float
    took: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)
    is_model: bool = True
    """Whether it tells how long mails take. One that is refused does not: whoever owns dead mailboxes can have as many
    refused as they like, in no time."""


_latest: deque[_Attempt] = deque(maxlen=LATEST)
"""The mails that this process began last, on whatever connection, but for those that were refused."""


def seconds_of_a_mail() -> float:
    """How long a mail takes at present; 0 where there has been none yet.

    A quarter of the latest were quicker. The median would rise where this process itself has much to do, and more
    senders would only give it more.
    """
    now = time.monotonic()
    took = sorted(attempt.took if attempt.over.is_set() else now - attempt.begun for attempt in _recent())
    return took[len(took) // 4] if took else 0.0


def forget() -> None:
    """Drop what is known of other mails, in a process that has been forked: those under way are the parent's."""
    _latest.clear()
    # A lock that another thread held when the process forked would never be let go in the child.
    Connection.open_now, Connection._counting = 0, threading.Lock()


class Connection:
    """A mail connection that stays open between messages. It belongs to one thread; make one for each."""

    open_now = 0
    """How many connections of this process are open."""
    _counting = threading.Lock()

    def __init__(self) -> None:
        self._backend: Any = None
        self._used_at = 0.0
        self._rehearsals = 0
        self._is_counted = False

    def send(self, message: EmailMessage, *, lease_ends: float = 0.0) -> str:
        """Hand one message over. A connection that died while it lay idle costs a reconnect, not a retry.

        Returns the id that the provider's API has given the mail, or nothing where it has given none.

        The server has until shortly before `lease_ends`, by time.monotonic(), to answer once it has the whole mail.
        Raises what smtplib and the socket raise; `classify` names it. Raises TooManyConnections where the mail was not
        even tried.
        """
        reused, begun = self._open(), time.monotonic()
        if session := self._session:
            session.answer_by = lease_ends - ANSWER_MARGIN
        try:
            with _timed():
                self._backend.send_messages([message])
        except Exception as error:
            self.close()
            if not (reused and _was_closed_meanwhile(error)):
                _last_as_long_as_a_mail(begun)  # or a dead mailbox, which only an account has, would be the quicker one
                raise
            return self.send(message, lease_ends=lease_ends)
        self._used_at, self._rehearsals = time.monotonic(), 0
        return str(getattr(getattr(message, "anymail_status", None), "message_id", None) or "")[:MAX_ID]

    def rehearse(self, message: EmailMessage) -> None:
        """Do for a decoy what `send` does for a mail, but for the mail: as many turns, as much to compute, as long.

        As long as one of the latest mails, be it still under way: whatever waits behind a decoy waits as it would
        behind a mail. A failure is nobody's loss. Some servers hold it against a client if it asks for nothing too
        often, so a connection without any mail is given up after a while. Raises TooManyConnections as `send` does.
        """
        with suppress(OSError, smtplib.SMTPException):
            self._open()
            begun = time.monotonic()
            message.message().as_bytes()
            if session := self._session:
                _rehearse(session)
            _last_as_long_as_a_mail(begun)
            self._used_at = time.monotonic()
        self._rehearsals += 1
        if self._rehearsals >= MAX_REHEARSALS:
            self.close()

    @property
    def is_open(self) -> bool:
        return self._is_counted

    def close(self) -> None:
        """Say goodbye, if anybody is there to hear it."""
        if self._backend is not None:
            with suppress(OSError, smtplib.SMTPException):
                self._backend.close()
            self._backend = None
            self._count(False)
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
        except Exception as error:
            self.close()  # a greeting or a login that failed may have left half a connection
            if _is_put_off(error):
                raise TooManyConnections from error
            raise
        self._count(True)
        return False

    def _count(self, is_open: bool) -> None:
        with Connection._counting:
            Connection.open_now += is_open - self._is_counted
            self._is_counted = is_open

    @property
    def _session(self) -> Any:
        """The smtplib session; None where mails go another way than by SMTP."""
        return getattr(self._backend, "connection", None)

    def _answers(self) -> bool:
        try:
            return self._session is None or self._session.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False


def _rehearse(session: Any) -> None:
    """Send as many commands as a mail takes; by another's session, one after the other."""
    if isinstance(session, Session):
        session.rehearse()
    else:
        for _ in range(4):
            session.noop()


def _recent() -> list[_Attempt]:
    """The latest mails, or those of the last minute if there are any."""
    latest, since = list(_latest), time.monotonic() - RECENT_SECONDS
    return [attempt for attempt in latest if attempt.begun > since] or latest


def _last_as_long_as_a_mail(begun: float) -> None:
    """Wait until as long has passed since `begun` as one of the latest mails took, be it still under way."""
    while models := _recent():
        # By chance: always the very latest would let whoever can slow a mail down choose how long this takes.
        model = random.choice(models)  # nosec B311 # noqa: S311 (no secret)
        if not model.over.wait(conf.MAIL_LEASE_SECONDS) or model.is_model:
            time.sleep(max(0.0, model.took - (time.monotonic() - begun)))
            return


@contextmanager
def _timed() -> Iterator[None]:
    attempt = _Attempt(time.monotonic())
    _latest.append(attempt)
    try:
        yield
    except Exception as error:
        attempt.is_model = _timed_out(error)
        if not attempt.is_model:
            with suppress(ValueError):  # others have pushed it out meanwhile
                _latest.remove(attempt)
        raise
    finally:
        attempt.took = time.monotonic() - attempt.begun
        attempt.over.set()


def new_backend() -> Any:
    """Django's mail backend as configured, by the API of the Django at hand."""
    return (
        mail.mailers["default"] if django.VERSION >= (6, 1) and hasattr(settings, "MAILERS") else mail.get_connection()
    )


def why_down() -> str:
    """Ask the mail server whether it would take a mail now; the reason if not, else empty. Look goes by it.

    No mail of anybody is tried for it, so the answer cannot depend on who has an account. A server that puts off a
    further connection is up, as long as it serves others of this process, or says (4.7.x of RFC 3463, a matter of
    policy) that it is only this one too many.
    """
    backend = new_backend()
    try:
        backend.open()
        session = getattr(backend, "connection", None)
        if isinstance(session, smtplib.SMTP):
            return _why_it_takes_nothing(session)
        return _why_the_api_is_down(backend) if hasattr(backend, "api_url") else ""
    except smtplib.SMTPConnectError as refused:
        is_up = _is_put_off(refused) and (Connection.open_now > 0 or "4.7." in str(refused.smtp_error))
        return "" if is_up else classify(refused).reason
    except (OSError, smtplib.SMTPException, BadSender) as error:
        return classify(error).reason
    finally:
        with suppress(OSError, smtplib.SMTPException):
            backend.close()


def _why_it_takes_nothing(session: smtplib.SMTP) -> str:
    """Offer a mail from our sender to our sender, and leave it at that: whom a server refuses so, it refuses always.

    Of the answers to the recipient, those count that are about us or the server. That there is no such mailbox, or that
    it shall come back later (greylisting, 4.7.x), says nothing about others.
    """
    sender = parse_sender(str(settings.DEFAULT_FROM_EMAIL)).address
    session.ehlo_or_helo_if_needed()
    code, said = session.mail(sender)
    if code >= 400:
        return _by_answer(code, said, to_recipient=False).reason
    code, said = session.rcpt(sender)
    refusal = _by_answer(code, said, to_recipient=True)
    about_us = code >= 500 and not refusal.permanent
    about_the_server = code == 421 or " 4.3." in refusal.reason
    return refusal.reason if about_us or about_the_server else ""


def _why_the_api_is_down(backend: Any) -> str:
    """Ask a provider for the page at its address, without a mail: any answer but a 5xx says that it is there.

    `backend` is Anymail's, with a session of requests.
    """
    answer = backend.session.get(backend.api_url, timeout=API_TIMEOUT, allow_redirects=False, stream=True)
    answer.close()
    return f"api_{answer.status_code}" if answer.status_code >= 500 else ""


def _is_put_off(error: Exception) -> bool:
    return isinstance(error, smtplib.SMTPConnectError) and 400 <= error.smtp_code < 500


def classify(error: Exception) -> Failure:
    """Name a failure. What a server says of the mailbox is final; what it says of us, an operator can mend."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, text = max(error.recipients.values(), default=(0, b""))
        return _by_answer(code, text, to_recipient=True)
    if isinstance(error, smtplib.SMTPResponseException):
        of_the_mail = isinstance(error, smtplib.SMTPDataError)
        return _by_answer(error.smtp_code, error.smtp_error, to_recipient=False, may_be_final=of_the_mail)
    if isinstance(error, UnmailableAddress):
        return Failure("address", permanent=True)
    if _is_suppressed(error):
        return Failure("suppressed", permanent=True)
    if isinstance(error, MailUnanswered):
        return Failure(UNANSWERED)
    if _timed_out(error):
        return Failure("timeout")
    return Failure(_reason(error))


def _is_suppressed(error: Exception) -> bool:
    """Whether a provider's API refuses to mail this recipient at all: Anymail, which need not be installed, says so."""
    anymail: Any = sys.modules.get("anymail.exceptions")
    return anymail is not None and isinstance(error, anymail.AnymailRecipientsRefused)


def _reason(error: Exception) -> str:
    """Name what no mail server has said."""
    if isinstance(error, BadSender):
        return "sender"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "tls" if "STARTTLS" in str(error) else "auth"
    if type(error) is smtplib.SMTPException:  # smtplib's, where a server and we have no way to log in in common
        return "auth"
    status = getattr(error, "status_code", None)  # of a provider's API, as Anymail's errors have it
    if isinstance(status, int):
        return f"api_{status}"
    known = (reason for kind, reason in _REASONS if isinstance(error, kind))
    return next(known, f"error {type(error).__name__}"[:MAX_REASON])


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (smtplib.SMTPServerDisconnected, "disconnected"),
    (ConnectionRefusedError, "refused"),
    (ssl.SSLError, "tls"),
    (OSError, "network"),
)


def _was_closed_meanwhile(error: Exception) -> bool:
    """Whether the server has hung up, with a word (421) or without; a silent one has not, and is not tried twice."""
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code == 421
    return isinstance(error, smtplib.SMTPServerDisconnected) and not _timed_out(error)


def _timed_out(error: Exception) -> bool:
    """Whether it was silence; smtplib and requests report some of it as something else."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, TimeoutError):
        cause = cause.__context__
    return cause is not None


def _by_answer(code: int, text: bytes | str, *, to_recipient: bool, may_be_final: bool = True) -> Failure:
    """Go by the enhanced code, where there is one (RFC 3463): many servers refuse clients and senders at RCPT.

    5.1.x and 5.2.x are about the mailbox, but for two that are about the sender's. Without an enhanced code, 550 and
    553 in answer to a recipient are about the mailbox (RFC 5321 section 4.2.3), and nothing else need be.
    """
    said = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    enhanced = _ENHANCED.match(said)
    if enhanced:
        final = enhanced[1] == "5" and enhanced[2] in {"1", "2"} and enhanced[0] not in {"5.1.7", "5.1.8"}
    else:
        final = to_recipient and code in {550, 553}
    reason = f"smtp_{code} {enhanced[0]}" if enhanced else f"smtp_{code}"
    return Failure(reason, permanent=may_be_final and final and 500 <= code < 600)
