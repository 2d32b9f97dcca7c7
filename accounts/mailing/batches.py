"""A batch of mails: claimed together, rendered and sent one by one, marked as sent in small groups."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import defaultdict
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never

from django.core.mail import EmailMessage
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from .. import records, signals, traces, transitions
from ..addresses import fold
from ..choices import EventKind, Mail, WebhookEvent
from ..conf import conf
from ..directory import WITHOUT_PASSWORD, directory
from ..hooks import webhooks
from ..limits import rules
from ..lookup import UNKNOWN, Mailbox, find_mailbox
from ..metrics import MAIL_AGE, MAILS
from ..models import ForgetPassword, PasswordResetEvent, Spent, insert_events
from . import mails
from .smtp import UNANSWERED, Connection, TooManyConnections, classify

logger = logging.getLogger(__name__)

BATCH_SECONDS = 2.0
"""A claimed mail is begun within this time, or its claim released. Far below any lease."""
MARK_SECONDS = 0.05
"""How long the mark of a sent mail may wait, so that several marks share one statement."""
MARK_MAILS = 10
"""How many marks may wait. A thread of a process that is killed repeats so many mails at most."""
MAX_BACKOFF = timedelta(hours=1)
TOO_OLD = "too_old"
"""Why a mail was given up that nobody had tried for MAIL_MAX_AGE."""


class _Outcome(NamedTuple):
    """What became of a mail, as its timeline will tell."""

    record: ForgetPassword
    kind: EventKind
    reason: str
    provider_id: str = ""


class Batch:
    """Records that were claimed together, with all that their mails need, fetched together.

    One thread sends them. Others may relieve it meanwhile, so what both touch changes hands under a lock, and is
    written to the database by whoever took it.
    """

    def __init__(self, pks: list[uuid.UUID], claimed_at: datetime) -> None:
        found = records.find_claimed(pks, claimed_at)
        self.claimed = len(pks)
        self.taken = 0
        self._waiting = sorted(found, key=lambda record: pks.index(record.pk)) if pks else []
        self._spent = records.spent_by_each({record.email_digest for record in self._waiting})
        self._with_codes = bool(self._waiting) and rules.codes_are_served()
        self._claimed_at = claimed_at
        self._begun = self._marked = time.monotonic()
        self._sending: ForgetPassword | None = None
        self._sending_since = traces.now()
        self._unmarked: list[_Outcome] = []
        self._strangers: set[uuid.UUID] = set()
        self._lock = threading.Lock()

    def next(self) -> ForgetPassword | None:
        """The next record to mail. None if no one is left, or BATCH_SECONDS have passed."""
        with self._lock:
            may_begin = self._waiting and time.monotonic() - self._begun < BATCH_SECONDS
            self._sending = self._waiting.pop(0) if may_begin else None
            self._sending_since = traces.now()
            return self._sending

    def send(self, record: ForgetPassword, connection: Connection) -> None:
        """Render and send one mail, or rehearse a decoy's, and mark it soon or at once."""
        provider_id = ""
        if _is_too_old(record, self._claimed_at):
            self._give_up(record, TOO_OLD)
            return
        try:
            with_code = self._with_codes and _may_carry_a_code(record, self._spent.get(record.email_digest, Spent()))
            mailbox, message = _mail_of(record, with_code=with_code)
            if mailbox.reason == UNKNOWN:
                self._strangers.add(record.pk)
            if mailbox.address:
                provider_id = connection.send(message, lease_ends=self._begun + conf.MAIL_LEASE_SECONDS)
            else:
                connection.rehearse(message)
        except (OperationalError, InterfaceError, TooManyConnections):
            raise  # the database is in trouble, or the server busy, whatever the mail
        except Exception as error:  # noqa: BLE001 (one mail that cannot be sent must never stop the next)
            self._put_off(record, error)
        else:
            self.taken += bool(mailbox.address)
            kind = EventKind.MAILED if mailbox.address else EventKind.NOT_MAILED
            self._done(_Outcome(record, kind, mailbox.reason or record.mail_due, provider_id))
        if len(self._unmarked) >= MARK_MAILS or time.monotonic() - self._marked >= MARK_SECONDS:
            self.mark()

    def mark(self) -> None:
        """Mark what was sent, so that nothing is due for it any more, and then write the timelines.

        The mark is all that stands between a crash and a second copy of a mail. Where the database does not take it,
        it is kept, to be tried again.
        """
        with self._lock:
            outcomes, self._unmarked = self._unmarked, []
        self._marked = time.monotonic()
        if not outcomes:
            return
        try:
            self._settle(outcomes)
        except Exception:
            with self._lock:
                self._unmarked = outcomes + self._unmarked
            raise
        insert_events(
            [
                PasswordResetEvent(
                    record_id=done.record.pk, kind=done.kind, reason=done.reason, provider_id=done.provider_id
                )
                for done in outcomes
            ]
        )
        now = timezone.now()
        for record, kind, reason, _ in outcomes:
            MAILS.labels(record.mail_due, kind.lower()).inc()
            if kind is EventKind.MAILED and record.mail_due != Mail.CHANGED:
                MAIL_AGE.observe((now - record.mail_asked_at).total_seconds())
            if kind is EventKind.MAILED and reason == record.mail_due:
                signals.announce(
                    signals.password_reset_sent, sender=ForgetPassword, record=record, mail=record.mail_due
                )

    def relieve(self) -> bool:
        """If the sender is stuck in SMTP, write marks older than MARK_SECONDS and release mails after BATCH_SECONDS.

        Returns whether mails were released.
        """
        now = time.monotonic()
        if self._unmarked and now - self._marked >= MARK_SECONDS:
            self.mark()
        return now - self._begun >= BATCH_SECONDS and self._give_back()

    def is_over(self) -> bool:
        """Whether the lease has ended: the fence refuses every later mark."""
        return time.monotonic() - self._begun >= conf.MAIL_LEASE_SECONDS

    def close(self) -> None:
        """Mark what was sent and release the rest, the mail that is just being sent included."""
        with self._lock:
            if self._sending is not None:
                self._waiting.insert(0, self._sending)
                self._sending = None
        try:
            self.mark()
        finally:
            self._give_back()

    def _give_back(self) -> bool:
        """Release what has not been begun; returns whether there was any. Fenced: a later mark finds no row."""
        with self._lock:
            records, self._waiting = self._waiting, []
        if records:
            transitions.release([record.pk for record in records], self._claimed_at)
        return bool(records)

    def _done(self, outcome: _Outcome) -> None:
        self._trace(outcome.record, outcome.kind, outcome.reason)
        with self._lock:
            self._sending = None
            self._unmarked.append(outcome)

    def _put_off(self, record: ForgetPassword, error: Exception) -> None:
        """Release the claim after a failure. The mail is due again later, or dead if another try cannot help."""
        failure, now = classify(error), timezone.now()
        twice_unanswered = failure.reason == record.mail_error == UNANSWERED
        dead = failure.permanent or twice_unanswered or record.mail_attempts >= conf.MAIL_MAX_ATTEMPTS
        if dead and record.pk in self._strangers:
            # What a stranger typed is nobody's trouble: no dead mail, no webhook.
            self._done(_Outcome(record, EventKind.NOT_MAILED, UNKNOWN))
            return
        retry_at = None if dead else now + _backoff(record.mail_attempts)
        logger.warning(
            "mail of reset %s not accepted: %s (%s), try %d, %s",
            record.pk,
            failure.reason,
            type(error).__name__,
            record.mail_attempts,
            "given up" if dead else "will be tried again",
        )
        # Once unanswered, for good: the server may have kept each such try.
        shown = UNANSWERED if record.mail_error == UNANSWERED else failure.reason
        self._release(record, failure.reason, error=shown, retry_at=retry_at, now=now)

    def _give_up(self, record: ForgetPassword, reason: str) -> None:
        """Have the mail dead without a try, for a decoy as for any other."""
        logger.warning("mail of reset %s given up: %s", record.pk, reason)
        self._release(record, reason, error=reason, retry_at=None, now=timezone.now())

    def _release(
        self, record: ForgetPassword, reason: str, *, error: str, retry_at: datetime | None, now: datetime
    ) -> None:
        """Release the claim and write down why; tell of it where the mail is dead."""
        kind = EventKind.MAIL_FAILED if retry_at else EventKind.MAIL_DEAD
        self._trace(record, kind, reason)
        with self._lock:
            self._sending = None
        with transaction.atomic():
            if transitions.postpone(
                record.pk,
                record.mail_due,
                self._claimed_at,
                retry_at=retry_at,
                error=error,
                now=now,
                behind=_behind(record),
            ):
                PasswordResetEvent.write(record.pk, kind, reason)
                MAILS.labels(record.mail_due, kind.lower()).inc()
                if not retry_at:
                    mail = {"mail": str(record.mail_due), "reason": reason}
                    webhooks.tell(WebhookEvent.UNDELIVERED, record.pk, **mail)

    def _trace(self, record: ForgetPassword, kind: EventKind, reason: str) -> None:
        facts = {"record": record.pk, "mail": record.mail_due, "outcome": kind.lower(), "reason": reason}
        traces.step("mail", record.traceparent, self._sending_since, **facts)

    def _settle(self, outcomes: list[_Outcome]) -> None:
        if conf.MAIL_UNKNOWN == "on":
            # First: broken off in between, the mail is due again and then rehearsed, and nobody gets a second one.
            transitions.forget_addresses([record.pk for record, *_ in outcomes if record.pk in self._strangers])
        by_mail = defaultdict(list)
        for record, *_ in outcomes:
            by_mail[record.mail_due].append(record.pk)
        for mail, pks in by_mail.items():
            transitions.settle(pks, mail, self._claimed_at, timezone.now())


def _mail_of(record: ForgetPassword, *, with_code: bool) -> tuple[Mailbox, EmailMessage]:
    """The mail that is due, and where it goes; for a decoy, the mail that it would get if it were none.

    Writing a mail keeps the interpreter from answering requests, so it is written for decoys as well.
    """
    match Mail(record.mail_due):
        case Mail.CODE | Mail.LINK:
            mailbox = _mailbox_of(record)
            if mailbox.reason:
                return _instead(record, mailbox, with_code=with_code)
            # Only the account that Look has found can prove a code; one that appeared since is let in by its link.
            with_code = with_code and record.user is not None
            return mailbox, mails.reset_mail(record, mailbox.address, mailbox.users, with_code=with_code)
        case Mail.CHANGED:
            # News for the mailbox that proved the reset: a thief's next act may be to move the account, or to close it.
            return Mailbox(record.email), mails.changed_mail(record, record.email)
        case Mail.NONE:
            raise ValueError("Nothing is due.")
        case other:
            assert_never(other)


def _instead(record: ForgetPassword, mailbox: Mailbox, *, with_code: bool) -> tuple[Mailbox, EmailMessage]:
    """What goes out where no account can be recovered: usually nothing, which is a mailbox without an address."""
    explains = conf.MAIL_WITHOUT_PASSWORD == "explain"  # nosec B105 # noqa: S105 (a mode)
    if explains and mailbox.reason == WITHOUT_PASSWORD and fold(mailbox.address) == fold(record.email):
        return mailbox, mails.without_password_mail(record, mailbox.address, mailbox.users[0])
    may_tell = mailbox.reason == UNKNOWN and conf.MAIL_UNKNOWN == "on" and record.email
    if may_tell and rules.may_tell_a_stranger(record.email_digest):
        return Mailbox(record.email, reason=UNKNOWN), mails.unknown_mail(record, record.email)
    decoy = mails.reset_mail(record, "nobody@example.com", (mails.NOBODY,), with_code=with_code)
    return Mailbox(reason=mailbox.reason), decoy


def _mailbox_of(record: ForgetPassword) -> Mailbox:
    """The mailbox as of now: the account may have been closed, or moved, since it was looked up."""
    if record.superseded_at is not None:
        return Mailbox(reason="superseded")
    if record.user is None:
        return find_mailbox(record.email) if record.email else Mailbox(reason=UNKNOWN)
    address = directory().address(record.user, record.email)
    # The limits have counted what was typed: of an account that is elsewhere now they know nothing.
    moved = "" if fold(address) == fold(record.email) else "moved"
    return Mailbox(address, (record.user,), directory().why_not(record.user, address) or moved)


def _is_too_old(record: ForgetPassword, now: datetime) -> bool:
    """Whether nobody has tried a mail for so long that it is of no use; the news of a new password always is."""
    waited = now - record.mail_next_at if record.mail_next_at else timedelta()
    return record.mail_due != Mail.CHANGED and waited > timedelta(seconds=conf.MAIL_MAX_AGE)


def _behind(record: ForgetPassword) -> timedelta:
    """How far the mail stands behind its due time, for what its client requested before. A retry keeps it."""
    return record.mail_turn_at - record.mail_next_at if record.mail_turn_at and record.mail_next_at else timedelta()


def _may_carry_a_code(record: ForgetPassword, spent: Spent) -> bool:
    """Whether there is a page to type a code into, and it would be compared."""
    has_a_page = not record.by_support and record.fresh_link_for_id is None
    return has_a_page and record.mail_due == Mail.CODE and record.attempts_left(spent, timezone.now()) > 0


def _backoff(attempts: int) -> timedelta:
    """The pause before the next try. It doubles up to an hour; half of it is random, so that retries spread."""
    longest = min(timedelta(seconds=conf.MAIL_RETRY_SECONDS * 2 ** min(attempts - 1, 20)), MAX_BACKOFF)
    return random.uniform(0.5, 1.0) * longest  # nosec B311 # noqa: S311 (spreads load, guards nothing)
