"""The filters of support's list of resets."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from .choices import OPEN_STATES, State, Status
from .conf import GUESSES_IN_A_ROW, GUESSES_PER_DAY, MAX_ATTEMPTS, TOKEN_LIFETIME, conf
from .models import GuessBudget, utc_day
from .querysets import ForgetPasswordQuerySet

RECENT = timedelta(days=7)
"""How far back a filter looks that no index serves: millions of older rows would take seconds."""


def with_status(rows: ForgetPasswordQuerySet, status: Status, now: datetime) -> ForgetPasswordQuerySet:
    """Those whose holders are told this status: what `ForgetPassword.status` says of one row, as a query."""
    if status in (Status.COMPLETED, Status.CANCELLED):
        return rows.filter(state=status)
    spent = Q(day=utc_day(now), used_today__gte=GUESSES_PER_DAY) | Q(in_a_row__gte=GUESSES_IN_A_ROW)
    locked = Q(attempts__gte=MAX_ATTEMPTS) | Q(
        email_digest__in=GuessBudget.objects.filter(spent).values("email_digest")
    )
    verified = Q(state=State.VERIFIED, verified_at__gt=now - TOKEN_LIFETIME)
    expired = Q(state=State.VERIFIED) | Q(sent_at__isnull=False, sent_at__lte=now - conf.code_lifetime)
    conditions = {
        Status.VERIFIED: verified,
        Status.LOCKED: ~verified & locked,
        Status.EXPIRED: ~verified & ~locked & expired,
        Status.QUEUED: ~locked & ~expired & Q(state=State.QUEUED),
        Status.SENT: ~locked & ~expired & Q(state=State.SENT),
    }
    return rows.filter(conditions[status], state__in=OPEN_STATES)


class ShownStatus(admin.SimpleListFilter):
    """The status as holders are told it; most of it is over within hours."""

    title = f"status, of the last {RECENT.days} days"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(each.value, each.value) for each in Status]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        chosen, now = self.value(), timezone.now()
        return with_status(_recent(queryset, now), Status(chosen), now) if chosen in Status.values else queryset


class Trouble(admin.SimpleListFilter):
    """What support is asked about most."""

    title = "trouble"
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("dead", "email given up"),
            ("reported", "“This was not me”"),
            ("nobody", f"no account, of the last {RECENT.days} days"),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case "dead":
                return queryset.dead()
            case "reported":
                return queryset.filter(reported_at__isnull=False)
            case "nobody":
                return _recent(queryset, timezone.now()).filter(user=None, looked_at__isnull=False)
        return queryset


def _recent(rows: ForgetPasswordQuerySet, now: datetime) -> ForgetPasswordQuerySet:
    return rows.filter(created_at__gt=now - RECENT)
