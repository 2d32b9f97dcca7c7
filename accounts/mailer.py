"""The two steps that turn a row into a mail: Look finds the account, Send mails it.

They are apart so that the public status, which Look moves, never depends on how a mail fared, and hence never on
whether there was one. Either step may be repeated, by anybody, at any time: the row says what is still owed.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from accounts import mails, signals
from accounts.choices import EventKind, Mail
from accounts.conf import conf
from accounts.lookup import Mailbox, email_of, find_mailbox, find_mailboxes, why_not_mailable
from accounts.models import ForgetPassword, GuessBudget, PasswordResetEvent
from accounts.querysets import NOTHING_DUE, ForgetPasswordQuerySet
from accounts.smtp import Connection, classify

logger = logging.getLogger(__name__)

LOOK_BATCH = 100
BATCH_SECONDS = 2.0
"""Within this time of a claim its mail is begun or the claim given back; far below any lease."""
MAX_BACKOFF = timedelta(hours=1)


class Found(NamedTuple):
    """What one Look found: how many rows it looked at, and which of them owe a mail."""

    looked: int
    owed: list[uuid.UUID]


def look() -> Found:
    """Find the accounts of the oldest rows that nobody has looked at, and show all of them SENT in one commit."""
    with transaction.atomic():
        rows = list(ForgetPassword.objects.not_looked().select_for_update(skip_locked=True, of=("self",))[:LOOK_BATCH])
        mailboxes = find_mailboxes({row.email for row in rows})
        now = timezone.now()
        for row in rows:
            _stamp(row, mailboxes[row.email], now)
        # A line for every row, also where all is well: one more statement for strangers alone could be measured.
        PasswordResetEvent.objects.bulk_create(
            PasswordResetEvent(record=row, kind=EventKind.LOOKED_UP, reason=mailboxes[row.email].reason or "found")
            for row in rows
        )
    for record in ForgetPassword.objects.select_related("user").filter(pk__in=[row.pk for row in rows]):
        signals.announce(signals.password_reset_requested, sender=ForgetPassword, record=record)
    return Found(len(rows), [row.pk for row in rows if not mailboxes[row.email].reason])


def send_due(connection: Connection, limit: int) -> int:
    """Claim up to `limit` mails that have been due the longest, and send them; returns how many were claimed."""
    return _send(ForgetPassword.objects.all(), connection, limit).claimed


def send(pk: uuid.UUID, connection: Connection) -> bool:
    """Send the mail that this row owes; True where the server took it.

    False where it owes none, somebody else sends it, or it failed and has been put off.
    """
    return _send(ForgetPassword.objects.filter(pk=pk), connection, 1).taken == 1


def let_go() -> None:
    """Give back what this process has claimed and not finished; for one that must end now."""
    for batch in list(_in_hand):
        batch.release()


def _send(rows: ForgetPasswordQuerySet, connection: Connection, limit: int) -> _Batch:
    """Claim, render, send, mark.

    A claim must not grow old before its mail's turn comes: what has not been begun within BATCH_SECONDS is given back,
    and so is all that is left if an exception, such as the interpreter's own at its end, breaks the batch off.
    """
    claimed_at, begun = timezone.now(), time.monotonic()
    batch = _Batch(rows.claim(claimed_at, limit), claimed_at)
    _in_hand.add(batch)
    try:
        while batch.waiting and time.monotonic() - begun < BATCH_SECONDS:
            batch.send_next(connection)
    finally:
        batch.close()
        _in_hand.discard(batch)
    return batch


_in_hand: set[_Batch] = set()


class _Batch:
    """Rows that are claimed together, with all that their mails need fetched together."""

    def __init__(self, pks: list[uuid.UUID], claimed_at: datetime) -> None:
        found = ForgetPassword.objects.select_related("user").filter(pk__in=pks, mail_claimed_at=claimed_at)
        self.waiting = sorted(found, key=lambda record: pks.index(record.pk)) if pks else []
        self.claimed = len(pks)
        self.taken = 0
        digests = {record.email_digest for record in self.waiting}
        budgets = GuessBudget.objects.filter(email_digest__in=digests) if digests else ()
        self._budgets = {budget.email_digest: budget for budget in budgets}
        self._claimed_at = claimed_at
        self._events: list[PasswordResetEvent] = []

    def send_next(self, connection: Connection) -> None:
        """Render, send and mark the mail that has been due the longest."""
        record = self.waiting[0]
        mailbox = _mailbox_of(record)
        if mailbox.reason:
            self._settle(record, EventKind.NOT_MAILED, mailbox.reason)
        else:
            try:
                connection.send(_compose(record, mailbox, self._budgets.get(record.email_digest)))
            except Exception as error:  # noqa: BLE001 (one mail that cannot be sent must never stop the next)
                self._put_off(record, error)
            else:
                self.taken += 1
                self._settle(record, EventKind.MAILED, record.mail_due)
                signals.announce(
                    signals.password_reset_sent, sender=ForgetPassword, record=record, mail=record.mail_due
                )
        del self.waiting[0]

    def close(self) -> None:
        """Write the timelines, and give back what has not been begun."""
        PasswordResetEvent.objects.bulk_create(self._events)
        self.release()

    def release(self) -> None:
        """Give back what is not finished. Fenced as all else: a mark that comes later finds no row."""
        if self.waiting:
            ForgetPassword.objects.release([record.pk for record in self.waiting], self._claimed_at)

    def _settle(self, record: ForgetPassword, kind: EventKind, reason: str) -> None:
        # At once and for each: this mark is all that stands between a crash and a second copy of the mail.
        if ForgetPassword.objects.settle(record.pk, record.mail_due, self._claimed_at, timezone.now()):
            self._note(record, kind, reason)

    def _put_off(self, record: ForgetPassword, error: Exception) -> None:
        """Release the claim; the mail is due again later, or dead where another try cannot help."""
        failure, now = classify(error), timezone.now()
        dead = failure.permanent or record.mail_attempts >= conf.MAIL_MAX_ATTEMPTS
        retry_at = None if dead else now + _backoff(record.mail_attempts)
        logger.warning(
            "mail of reset %s not accepted: %s (%s), try %d, %s",
            record.pk,
            failure.reason,
            type(error).__name__,
            record.mail_attempts,
            "given up" if dead else "will be tried again",
        )
        if ForgetPassword.objects.postpone(
            record.pk, record.mail_due, self._claimed_at, retry_at=retry_at, error=failure.reason, now=now
        ):
            self._note(record, EventKind.MAIL_DEAD if dead else EventKind.MAIL_FAILED, failure.reason)

    def _note(self, record: ForgetPassword, kind: EventKind, reason: str) -> None:
        self._events.append(PasswordResetEvent(record=record, kind=kind, reason=reason, created_at=timezone.now()))


def _stamp(row: ForgetPassword, mailbox: Mailbox, now: datetime) -> None:
    if mailbox.reason:
        wiped = {"email": ""} if mailbox.reason == "unknown" else {}
        ForgetPassword.objects.stamp_looked(row.pk, now, **wiped, **NOTHING_DUE)
    else:
        row.user = mailbox.users[0] if len(mailbox.users) == 1 else None
        ForgetPassword.objects.stamp_looked(row.pk, now, user=row.user)


def _mailbox_of(record: ForgetPassword) -> Mailbox:
    """Where the mail goes by what is true now: an account may have been closed, or moved, since it was looked up."""
    if record.user is None:
        return find_mailbox(record.email) if record.email else Mailbox(reason="unknown")
    return Mailbox(email_of(record.user), (record.user,), why_not_mailable(record.user))


def _compose(record: ForgetPassword, mailbox: Mailbox, budget: GuessBudget | None) -> EmailMessage:
    if record.mail_due == Mail.CHANGED:
        return mails.changed_mail(record, mailbox.address)
    # Only the account that Look has found can prove a code; one that appeared since is let in by its link.
    with_code = (
        record.mail_due == Mail.CODE and record.user is not None and record.attempts_left(budget, timezone.now()) > 0
    )
    return mails.reset_mail(record, mailbox.address, mailbox.users, with_code=with_code)


def _backoff(attempts: int) -> timedelta:
    """Doubles with every try, up to an hour; a random half keeps a crowd of mails from returning as a crowd."""
    longest = min(timedelta(seconds=conf.MAIL_RETRY_SECONDS * 2 ** min(attempts - 1, 20)), MAX_BACKOFF)
    return random.uniform(0.5, 1.0) * longest  # noqa: S311 (spreads load, guards nothing)
