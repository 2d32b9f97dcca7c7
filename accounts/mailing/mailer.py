"""The two steps from a record to a mail: Look finds the account, Send mails it.

The public status is moved by Look alone. So it cannot depend on how a mail went, or on whether there was one. Any
process may repeat either step at any time, for the record says what is still due.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from .. import records, signals, traces, transitions
from ..choices import EventKind, WebhookEvent
from ..conf import conf
from ..hooks import webhooks
from ..lookup import UNKNOWN, Mailbox, find_mailboxes
from ..models import ForgetPassword, PasswordResetEvent, insert_events
from . import smtp
from .batches import Batch
from .smtp import Connection

LOOK_BATCH = 100
SKEW = timedelta(minutes=1)
"""How far the clocks of machines may differ before a mail waits for the next sweep."""


class Found(NamedTuple):
    """How many records one Look has looked up, and which have a mail due: all of them, for decoys are rehearsed."""

    looked: int
    owed: list[uuid.UUID]


def look() -> Found:
    """Look up the accounts of the oldest new records, and show all of them SENT in one commit."""
    if not records.is_any_waiting():  # the usual case, which must not take SQLite's one write lock
        return Found(0, [])
    began = traces.now()
    with transaction.atomic():
        rows = records.lock_waiting(LOOK_BATCH)
        now = timezone.now()  # before the look-up, so that the shown time does not tell how long it took
        mailboxes = find_mailboxes({row.email for row in rows})
        found = {row.pk: mailboxes[row.email] for row in rows}
        transitions.stamp_looked({row.pk: _finding(row, found[row.pk]) for row in rows}, now)
        # A line for every record: a statement for strangers alone could be measured.
        insert_events(
            [
                PasswordResetEvent(record_id=pk, kind=EventKind.LOOKED_UP, reason=mailbox.reason or "found")
                for pk, mailbox in found.items()
            ]
        )
        webhooks.tell_all(WebhookEvent.REQUESTED, {pk: {} for pk in found})
    for row in rows:
        traces.step("look up", row.traceparent, began, record=row.pk, outcome=found[row.pk].reason or "found")
    if signals.password_reset_requested.has_listeners(ForgetPassword):
        for record in ForgetPassword.objects.select_related("user").filter(pk__in=found):
            signals.announce(signals.password_reset_requested, sender=ForgetPassword, record=record)
    return Found(len(rows), list(found))


def find_beginning() -> None:
    """Find where the queue begins, so that claims need not look before it; each sweep does.

    While an old transaction is open, PostgreSQL keeps the index entries of all that has been settled since, and every
    claim would pass over them. A mail with an earlier turn, by a clock that is behind, waits for the next sweep.
    """
    global _beginning
    latest = timezone.now() - SKEW
    _beginning = min(transitions.first_turn() or latest, latest)


_beginning = transitions.LONG_AGO


def send_due(
    connection: Connection,
    limit: int,
    *,
    in_turn: bool = False,
    on_claim: Callable[[int], None] | None = None,
) -> int:
    """Claim up to `limit` mails by their turns and send them. Returns how many were claimed.

    With `in_turn`, none is claimed before its turn has come. `on_claim` is told how many there are before the first of
    them is sent. Raises TooManyConnections where the server serves others of this process, and not this one as well.
    """
    return _send(connection, limit, in_turn=in_turn, on_claim=on_claim).claimed


def send(pk: uuid.UUID, connection: Connection) -> bool:
    """Send the mail that is due for this record. Returns whether the server took it.

    False where it owes none, somebody else sends it, or it failed and has been put off.
    """
    relieve()
    return _send(connection, 1, pk=pk).taken == 1


def relieve() -> bool:
    """Relieve every open batch; raise the last error after all were tried. Returns whether mails were given back."""
    failure, given_back = None, False
    for batch in list(_in_hand):
        if batch.is_over():
            _in_hand.discard(batch)
            continue
        try:
            given_back = batch.relieve() or given_back
        except Exception as error:  # noqa: BLE001 (raised below)
            failure = error
            _in_hand.add(batch)  # its sender may have ended, and dropped it, while its marks were out of its hands
    if failure:
        raise failure
    return given_back


def let_go() -> None:
    """Close every open batch, for a process that must end now."""
    for batch in list(_in_hand):
        batch.close()


def forget() -> None:
    """Drop the open batches in a forked process: they are the parent's."""
    _in_hand.clear()
    smtp.forget()


_in_hand: set[Batch] = set()


def _send(
    connection: Connection,
    limit: int,
    *,
    pk: uuid.UUID | None = None,
    in_turn: bool = False,
    on_claim: Callable[[int], None] | None = None,
) -> Batch:
    """Claim, render, send, mark.

    All that is left is given back if an exception, such as the interpreter's own at its end, breaks the batch off. If
    the database fails it, the batch stays in hand to be relieved.
    """
    claimed_at = timezone.now()
    pks = transitions.claim(claimed_at, limit, pk=pk, in_turn=in_turn, since=_beginning)
    batch = Batch(pks, claimed_at)
    _in_hand.add(batch)
    try:
        if on_claim:
            on_claim(batch.claimed)
        while record := batch.next():
            batch.send(record, connection)
    finally:
        batch.close()
        _in_hand.discard(batch)
    return batch


def _finding(row: ForgetPassword, mailbox: Mailbox) -> tuple[Any, str]:
    """The one account of a record, by primary key, and the address to keep: a stranger's is wiped, once told."""
    user = mailbox.recoverable[0].pk if len(mailbox.recoverable) == 1 else None
    return user, "" if mailbox.reason == UNKNOWN and conf.MAIL_UNKNOWN != "on" else row.email
