"""The report "this was not me", which ends resets and locks the account."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from .. import signals, transitions
from ..addresses import fold
from ..choices import EventKind, Mail, State, WebhookEvent
from ..directory import directory
from ..hooks import webhooks
from ..hooks.revokers import revoke_all
from ..lookup import find_mailbox
from ..models import ForgetPassword, PasswordResetEvent
from ..passwords.hashing import hash_password
from .client import Client, printable
from .tokens import bad_token, believe_report

LOCK_BYTES = 32
"""Random bytes of a password that nobody knows: 256 bits, as many as a seed has."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report has done: how many open resets it has ended, and whether the owner is mailed a link."""

    ended: int
    fresh_link: bool


def report(token: str, client: Client) -> Reported:
    """The owner says "this was not me": all that is under way ends, and after a completed reset the account is locked.

    Locking replaces the password by a random one, which ends every session. It is a usable password, so that recovery
    still works. Whenever a report finds or leaves an account locked, the owner is mailed a fresh link. A report works
    once, all or nothing. Raises InvalidResetToken and RateLimited.
    """
    disowned = believe_report(token, client)
    # Needed or not: it is slow, so it is made outside the transaction, and the reset may complete in the meantime.
    hashed = hash_password(secrets.token_urlsafe(LOCK_BYTES))
    now = timezone.now()
    with transaction.atomic():
        held = transitions.hold(disowned.pk, disowned.user_id, disowned.email_digest, now)
        superseded = [row.pk for row in held if row.is_under_way]
        transitions.supersede(superseded, now)
        if not transitions.report(disowned.pk, now):
            raise bad_token()
        record = next(row for row in held if row.pk == disowned.pk)
        user = _lock(record.user_id, hashed) if record.state == State.COMPLETED else None
        fresh_link = _needs_a_link(record, user) and _is_still_theirs(record)
        if fresh_link:
            _enqueue_fresh_link(record, client, now)
        PasswordResetEvent.write(record.pk, EventKind.REPORTED, "locked" if user else "ended")
        account = str(user.pk) if user else None
        webhooks.tell(WebhookEvent.REPORTED, record.pk, account=account, locked=user is not None)
        PasswordResetEvent.objects.bulk_create(
            PasswordResetEvent(record_id=pk, kind=EventKind.SUPERSEDED, reason="report")
            for pk in superseded
            if pk != record.pk
        )
    ended = sum(row.may_still_act(now) for row in held)
    record.refresh_from_db()
    signals.announce(signals.password_reset_reported, sender=ForgetPassword, record=record, user=user)
    return Reported(ended, fresh_link)


def _lock(user_id: Any, hashed: str) -> Any:
    """Replace an account's password by one that nobody knows; returns the account, or None where it has none.

    No validator is asked and `password_changed` is not called: nobody chose this password and nobody will type it, so
    it belongs in no history. An account that is closed is locked as well, for it may be opened again.
    """
    account = directory().lock(user_id)
    if account is None or not directory().has_password(account):
        return None
    directory().set_password(account, hashed)
    revoke_all(account)
    return account


def _needs_a_link(record: ForgetPassword, locked_now: Any) -> bool:
    """Whether nobody knows the account's password: locked just now, or by an earlier report and not reset since."""
    return locked_now is not None or transitions.are_locked(record.user_id, record.email_digest)


def _is_still_theirs(record: ForgetPassword) -> bool:
    """Whether the mailbox that got the report token is still the account's: who took the account may have moved it."""
    if record.user is None:
        return bool(find_mailbox(record.email).recoverable)
    address = directory().address(record.user, record.email)
    return not directory().why_not(record.user, address) and fold(address) == fold(record.email)


def _enqueue_fresh_link(record: ForgetPassword, client: Client, now: datetime) -> None:
    """Create a record whose mail brings the owner of a reported reset a link that works with the present password.

    The reported record stays completed or superseded. Nobody has the new one's handle, it counts against no limit, and
    it needs no look-up, for the account is known.
    """
    ForgetPassword(
        user=record.user,
        email=record.email,
        email_digest=record.email_digest,
        locale=record.locale,
        brand=record.brand,
        client_ip=client.ip,
        user_agent=printable(client.user_agent)[:200],
        fresh_link_for=record,
        state=State.SENT,
        looked_at=now,
        sent_at=now,
        mail_due=Mail.LINK,
    ).save(force_insert=True)
