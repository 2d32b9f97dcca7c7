"""The two steps that turn a row into a mail: Look finds the account, Send mails it.

They are apart so that the public status, which Look moves, never depends on how a mail fared, and hence never on
whether there was one. Either step may be repeated, by anybody, at any time: the row says what is still owed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from .. import signals, transitions
from ..choices import EventKind
from ..lookup import Mailbox, find_mailboxes
from ..models import ForgetPassword, PasswordResetEvent
from ..querysets import ForgetPasswordQuerySet
from . import smtp
from .batches import Batch
from .smtp import Connection

LOOK_BATCH = 100


class Found(NamedTuple):
    """What one Look found: how many rows it looked at, and which are to be sent: all, for a decoy is rehearsed."""

    looked: int
    owed: list[uuid.UUID]


def look() -> Found:
    """Find the accounts of the oldest rows that nobody has looked at, and show all of them SENT in one commit."""
    waiting = ForgetPassword.objects.not_looked()
    if not waiting.exists():  # the usual answer, which must not cost SQLite's one write lock
        return Found(0, [])
    with transaction.atomic():
        rows = list(waiting.select_for_update(skip_locked=True, of=("self",))[:LOOK_BATCH])
        now = timezone.now()  # before the look-up: what is shown must not tell how long that took
        mailboxes = find_mailboxes({row.email for row in rows})
        found = {row.pk: mailboxes[row.email] for row in rows}
        transitions.stamp_looked({row.pk: _finding(row, found[row.pk]) for row in rows}, now)
        # A line for every row, also where all is well: one more statement for strangers alone could be measured.
        PasswordResetEvent.objects.bulk_create(
            PasswordResetEvent(record_id=pk, kind=EventKind.LOOKED_UP, reason=mailbox.reason or "found")
            for pk, mailbox in found.items()
        )
    if signals.password_reset_requested.has_listeners(ForgetPassword):
        for record in ForgetPassword.objects.select_related("user").filter(pk__in=found):
            signals.announce(signals.password_reset_requested, sender=ForgetPassword, record=record)
    return Found(len(rows), list(found))


def send_due(
    connection: Connection,
    limit: int,
    *,
    in_turn: bool = False,
    on_claim: Callable[[int], None] | None = None,
) -> int:
    """Claim up to `limit` mails by their turns, and send them; returns how many were claimed.

    With `in_turn`, none is claimed before its turn has come. `on_claim` is told how many there are before the first of
    them is sent. Raises TooManyConnections where the server serves others of this process, and not this one as well.
    """
    return _send(ForgetPassword.objects.all(), connection, limit, in_turn=in_turn, on_claim=on_claim).claimed


def send(pk: uuid.UUID, connection: Connection) -> bool:
    """Send the mail that this row owes; True where the server took it.

    False where it owes none, somebody else sends it, or it failed and has been put off.
    """
    relieve()
    return _send(ForgetPassword.objects.filter(pk=pk), connection, 1).taken == 1


def relieve() -> None:
    """Mark and give back what senders cannot, being held up by the mail server or let down by the database.

    What fails is raised once every batch has had its turn.
    """
    failure = None
    for batch in list(_in_hand):
        if batch.is_over():
            _in_hand.discard(batch)
            continue
        try:
            batch.relieve()
        except Exception as error:  # noqa: BLE001 (raised below)
            failure = error
            _in_hand.add(batch)  # its sender may have ended, and dropped it, while its marks were out of its hands
    if failure:
        raise failure


def let_go() -> None:
    """Give back what this process has claimed and not finished; for one that must end now."""
    for batch in list(_in_hand):
        batch.close()


def forget() -> None:
    """Drop all that is in hand, in a process that has been forked: it is the parent's."""
    _in_hand.clear()
    smtp.forget()


_in_hand: set[Batch] = set()


def _send(
    rows: ForgetPasswordQuerySet,
    connection: Connection,
    limit: int,
    *,
    in_turn: bool = False,
    on_claim: Callable[[int], None] | None = None,
) -> Batch:
    """Claim, render, send, mark.

    All that is left is given back if an exception, such as the interpreter's own at its end, breaks the batch off. If
    the database fails it, the batch stays in hand to be relieved.
    """
    claimed_at = timezone.now()
    batch = Batch(transitions.claim(rows, claimed_at, limit, in_turn=in_turn), claimed_at)
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
    """The one account of a row, by primary key, and the address to keep: a stranger's is wiped."""
    user = mailbox.users[0].pk if len(mailbox.users) == 1 else None
    return user, "" if mailbox.reason == "unknown" else row.email
