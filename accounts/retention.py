"""What is kept of old resets, and for how long: RETENTION_PERSONAL_DAYS and RETENTION_DAYS.

Nothing that could still act is touched: what a mail is still to be sent for, what a link or a report still works for,
and budgets that still count. The work is done in small batches, each a transaction of its own over rows that nobody
else wants, so any number of processes may do it at once, and nobody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import models, router, transaction
from django.db.models import Q

from . import codes
from .addresses import fold
from .choices import Mail
from .conf import REPORT_LIFETIME, conf
from .lookup import accounts_of
from .models import ForgetPassword, GuessBudget, Heartbeat, PasswordResetEvent, WebhookDelivery, utc_day
from .querysets import ForgetPasswordQuerySet
from .transitions import wipe

BATCH = 500
"""Rows of one transaction: some tens of milliseconds of a database's work, however many rows there are."""
STILL_ACTING = REPORT_LIFETIME + timedelta(days=1)
"""How long after its last change a reset may still act by its report, with a day to spare."""
LEAST_DAYS = 14
"""How long resets are kept at the least. A deleted reset's handle is answered like one that never was; were that sooner
where nobody has completed it, it would say so."""

Pause = Callable[[float], object]
"""Called between two batches with the seconds that the last one took; may wait, so that others get at the database."""


class Kind(NamedTuple):
    """Rows of one table that grow too old, and what becomes of them."""

    name: str
    age: str
    """The column in whose order they are taken."""
    too_old: Callable[[datetime, int], models.QuerySet[Any]]
    """Those that are too old now, if resets are kept for so many days."""
    act: Callable[[models.QuerySet[Any]], object]


def prune(now: datetime, days: int, pause: Pause | None = None) -> Iterator[tuple[str, int]]:
    """Wipe and delete what is too old when resets are kept for so many days.

    Yields after each batch what it was of, and how many rows; whoever stops asking has it end there.
    """
    for kind in KINDS:
        too_old = kind.too_old(now, days)
        rows, done = too_old, BATCH
        while done == BATCH:
            began = time.monotonic()
            done, last = _batch(rows, kind)
            if done:
                yield kind.name, done
                # The database need not pass over what has just been deleted, which it keeps for a while.
                rows = too_old.filter(**{f"{kind.age}__gte": last})
            if done and pause:
                pause(time.monotonic() - began)


def count(now: datetime, days: int) -> dict[str, int]:
    """How many rows `prune` would act on now."""
    return {kind.name: kind.too_old(now, days).count() for kind in KINDS}


def erase(address: str) -> dict[str, int]:
    """Delete every trace of one person: of an address, and of the accounts that it belongs to. Returns how many rows.

    What is under way for them ends with it. An address counts under each server key that is still accepted.
    """
    return _erase(codes.address_digests(fold(address)), [account.pk for account in accounts_of(address)])


def erase_of(record: ForgetPassword) -> dict[str, int]:
    """`erase` the person of a reset, whose address may have been wiped since: by its digest, and by its account."""
    digests, accounts = {record.email_digest}, {record.user_id}
    if record.email:
        digests.update(codes.address_digests(fold(record.email)))
        accounts.update(account.pk for account in accounts_of(record.email))
    return _erase(digests - {""}, accounts - {None})


def _erase(digests: Collection[str], accounts: Collection[Any]) -> dict[str, int]:
    with transaction.atomic(using=_database()):
        resets = ForgetPassword.objects.filter(Q(email_digest__in=digests) | Q(user_id__in=accounts))
        # Locked first, and in this order, as whatever else holds several: nothing is added to them any more.
        held = list(resets.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))
        _, deleted = ForgetPassword.objects.filter(pk__in=held).delete()
        _, budgets = GuessBudget.objects.filter(email_digest__in=digests).delete()
    rows = deleted | budgets
    return {str(model._meta.verbose_name_plural): rows.get(model._meta.label, 0) for model in _ABOUT_PEOPLE}


_ABOUT_PEOPLE = (ForgetPassword, PasswordResetEvent, WebhookDelivery, GuessBudget)


def _database() -> str:
    return router.db_for_write(ForgetPassword)


def _batch(rows: models.QuerySet[Any], kind: Kind) -> tuple[int, Any]:
    """Lock the oldest of these rows and act on them. Returns how many there were, and the age of the last one.

    What somebody else holds is left for the next time.
    """
    with transaction.atomic(using=_database()):
        oldest = rows.order_by(kind.age).select_for_update(skip_locked=True, of=("self",))
        found = list(oldest.values_list("pk", kind.age)[:BATCH])
        if not found:
            return 0, None
        kind.act(rows.model._default_manager.filter(pk__in=[pk for pk, _ in found]))
    return len(found), found[-1][1]


def _wipeable(now: datetime, days: int) -> models.QuerySet[Any]:
    """Resets that hold personal data although support will hardly ask for them any more."""
    kept = ForgetPassword.objects.personal().filter(created_at__gte=_days_ago(now, days))
    return _over(kept, now, min(days, conf.RETENTION_PERSONAL_DAYS))


def _deletable(now: datetime, days: int) -> models.QuerySet[Any]:
    return _over(ForgetPassword.objects.all(), now, days)


def _over(rows: ForgetPasswordQuerySet, now: datetime, days: int) -> models.QuerySet[Any]:
    """Those of so many days ago that cannot act any more. A mail that is due can, one that was given up cannot."""
    no_mail_due = Q(mail_due=Mail.NONE) | Q(mail_next_at=None)
    changed = now - STILL_ACTING
    return rows.filter(no_mail_due, created_at__lt=_days_ago(now, days), updated_at__lt=changed)


def _told(now: datetime, days: int) -> models.QuerySet[Any]:
    """Webhooks that were delivered, or given up."""
    old = _days_ago(now, min(days, conf.RETENTION_PERSONAL_DAYS))
    return WebhookDelivery.objects.filter(created_at__lt=old, next_at=None)


def _counting_nothing(now: datetime, days: int) -> models.QuerySet[Any]:
    """Budgets of an earlier day without wrong codes in a row: those count until the owner gets in, however long."""
    return GuessBudget.objects.filter(in_a_row=0, day__lt=utc_day(now))


def _silent(now: datetime, days: int) -> models.QuerySet[Any]:
    """Heartbeats of processes that have ended."""
    return Heartbeat.objects.filter(at__lt=_days_ago(now, 1))


def _days_ago(now: datetime, days: int) -> datetime:
    return now - timedelta(days=days)


def _delete(rows: models.QuerySet[Any]) -> None:
    rows.delete()


KINDS = (
    Kind("resets deleted", "created_at", _deletable, _delete),
    Kind("resets wiped", "created_at", _wipeable, wipe),
    Kind("webhooks deleted", "created_at", _told, _delete),
    Kind("budgets deleted", "pk", _counting_nothing, _delete),
    Kind("heartbeats deleted", "at", _silent, _delete),
)
