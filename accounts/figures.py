"""What happened to resets lately, counted for support's dashboard.

Counts are of the resets that were asked for within a span of time, whatever became of them since. No address and no
account is among them, and a span's statement reads its own rows alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, DurationField, ExpressionWrapper, F, Q
from django.db.models.functions import TruncDay, TruncHour

from .choices import EventKind, Mail, State
from .conf import MAX_ATTEMPTS
from .models import ForgetPassword, PasswordResetEvent

WAITS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5))
"""Bounds of how long people wait for a mail, from the request until the mail server has taken it."""

_COUNTS: dict[str, Any] = {
    "asked": Count("pk"),
    "found": Count("pk", filter=Q(user__isnull=False)),
    "emailed": Count("pk", filter=Q(user__isnull=False, mail_due=Mail.NONE)),
    "proven": Count("pk", filter=Q(verified_at__isnull=False) | Q(state=State.COMPLETED)),
    "completed": Count("pk", filter=Q(state=State.COMPLETED)),
    "locked": Count("pk", filter=Q(attempts__gte=MAX_ATTEMPTS)),
    "reported": Count("pk", filter=Q(reported_at__isnull=False)),
}


class Slot(NamedTuple):
    """The resets that were asked for within one hour or day."""

    begins: datetime
    asked: int = 0
    found: int = 0
    emailed: int = 0
    proven: int = 0
    completed: int = 0
    locked: int = 0
    reported: int = 0


def hours(begins: datetime, ends: datetime) -> list[Slot]:
    """A slot for each hour of a span in which anything was asked for."""
    return _slots(TruncHour("created_at"), begins, ends)


def days(begins: datetime, ends: datetime) -> list[Slot]:
    """A slot for each day, by the site's clock, of a span in which anything was asked for."""
    return _slots(TruncDay("created_at"), begins, ends)


def _slots(slot: Any, begins: datetime, ends: datetime) -> list[Slot]:
    rows = ForgetPassword.objects.filter(created_at__gte=begins, created_at__lt=ends).order_by()
    found = rows.annotate(begins=slot).values("begins").annotate(**_COUNTS).order_by("begins")
    return [Slot(**each) for each in found]


def waits(begins: datetime, ends: datetime) -> list[int]:
    """How many first mails were taken within each of WAITS, and how many later."""
    mailed = PasswordResetEvent.objects.filter(
        kind=EventKind.MAILED, record__created_at__gte=begins, record__created_at__lt=ends, record__resends=0
    ).exclude(reason=Mail.CHANGED)
    wait = ExpressionWrapper(F("created_at") - F("record__created_at"), DurationField())
    bounds = {f"within{number}": Count("pk", filter=Q(wait__lte=bound)) for number, bound in enumerate(WAITS)}
    found = mailed.order_by().annotate(wait=wait).aggregate(**bounds, all=Count("pk"))
    upto = [*(found[name] for name in bounds), found["all"]]
    return [later - sooner for sooner, later in zip([0, *upto], upto, strict=False)]
