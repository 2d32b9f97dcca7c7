"""The two steps that turn a row into a mail: Look finds the account, Send mails it.

They are apart so that the public status, which Look moves, never depends on how a mail fared, and hence never on
whether there was one. Either step may be repeated, by anybody, at any time: the row says what is still owed.
"""

from __future__ import annotations

import logging
import random
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
from accounts.querysets import NOTHING_DUE
from accounts.smtp import Connection, classify

logger = logging.getLogger(__name__)

LOOK_BATCH = 100
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
    for row in rows:
        signals.password_reset_requested.send_robust(sender=ForgetPassword, record=row)
    return Found(len(rows), [row.pk for row in rows if not mailboxes[row.email].reason])


def due(limit: int) -> list[uuid.UUID]:
    """The rows that owe a mail and that nobody is sending, the longest due first."""
    return list(ForgetPassword.objects.due(timezone.now()).values_list("pk", flat=True)[:limit])


def send(pk: uuid.UUID, connection: Connection) -> bool:
    """Claim, render, send and mark one mail; True where the server took it.

    False where there was nothing to send, somebody else sends it, or it failed and has been put off.
    """
    if not ForgetPassword.objects.claim(pk, timezone.now()):
        return False
    record = ForgetPassword.objects.select_related("user").get(pk=pk)
    mailbox = _mailbox_of(record)
    if mailbox.reason:
        _drop(record, mailbox.reason)
        return False
    try:
        connection.send(_compose(record, mailbox))
    except Exception as error:  # noqa: BLE001 (one mail that cannot be sent must never stop the next)
        _put_off(record, error)
        return False
    _mark_sent(record)
    return True


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


def _compose(record: ForgetPassword, mailbox: Mailbox) -> EmailMessage:
    if record.mail_due == Mail.CHANGED:
        return mails.changed_mail(record, mailbox.address)
    budget = GuessBudget.objects.filter(email_digest=record.email_digest).first()
    may_guess = record.attempts_left(budget, timezone.now()) > 0
    return mails.reset_mail(
        record, mailbox.address, mailbox.users, with_code=record.mail_due == Mail.CODE and may_guess
    )


def _mark_sent(record: ForgetPassword) -> None:
    mail, claimed_at = record.mail_due, _claimed_at(record)
    with transaction.atomic():
        if ForgetPassword.objects.settle(record.pk, mail, claimed_at, timezone.now()):
            PasswordResetEvent.write(record.pk, EventKind.MAILED, mail)
    signals.password_reset_sent.send_robust(sender=ForgetPassword, record=record, mail=mail)


def _drop(record: ForgetPassword, reason: str) -> None:
    with transaction.atomic():
        if ForgetPassword.objects.settle(record.pk, record.mail_due, _claimed_at(record), timezone.now()):
            PasswordResetEvent.write(record.pk, EventKind.NOT_MAILED, reason)


def _put_off(record: ForgetPassword, error: Exception) -> None:
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
    with transaction.atomic():
        if ForgetPassword.objects.postpone(
            record.pk, record.mail_due, _claimed_at(record), retry_at=retry_at, error=failure.reason, now=now
        ):
            PasswordResetEvent.write(record.pk, EventKind.MAIL_DEAD if dead else EventKind.MAIL_FAILED, failure.reason)


def _backoff(attempts: int) -> timedelta:
    """Doubles with every try, up to an hour; a random half keeps a crowd of mails from returning as a crowd."""
    longest = min(timedelta(seconds=conf.MAIL_RETRY_SECONDS * 2 ** min(attempts - 1, 20)), MAX_BACKOFF)
    return random.uniform(0.5, 1.0) * longest  # noqa: S311 (spreads load, guards nothing)


def _claimed_at(record: ForgetPassword) -> datetime:
    if record.mail_claimed_at is None:  # pragma: no cover (a claim was just made)
        raise RuntimeError("the record is not claimed")
    return record.mail_claimed_at
