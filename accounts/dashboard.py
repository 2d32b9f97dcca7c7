"""The dashboard of support: the last day and month at a glance, drawn here, so that the page needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.core.cache import cache
from django.utils import timezone
from django.utils.timesince import timesince

from . import figures
from .exposition import refusals
from .figures import Slot
from .models import ForgetPassword

MONTH = 30
"""Days that are shown, today included."""
SETTLED = timedelta(hours=1)
"""How old the counts of days before yesterday may be. To read a month of millions takes seconds."""
WIDTH, HEIGHT, GAP = 720, 120, 2
"""Of a chart, in its own units."""
LIMITS = {
    "request": "requests and resends of one client",
    "address": "emails to one address",
    "cooldown": "too soon after the last email",
    "resends": "resends of one reset",
    "verify": "codes of one client",
    "codes": "wrong codes of the whole site",
    "token": "links and tokens of one client that did not work",  # nosec B105
    "uses": "uses of one link or token",
    "password": "passwords that one client had scored",  # nosec B105
    "status": "questions of one client about resets",
    "handle": "questions about one reset",
    "streams": "pages that wait for live status",
    "made-up": "questions about resets that were never begun",
    "login": "logins to the admin",
    "busy": "too many passwords at once",
}
"""What each limit counts, in the words of support; docs/limits.md has the limits themselves."""


class Bar(NamedTuple):
    """An hour or a day of a chart: where it stands, how high its two parts are, and what they say."""

    x: float
    width: float
    asked_y: float
    asked_height: float
    completed_y: float
    completed_height: float
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Resets that were asked for, and those of them that were completed, over time."""

    name: str
    bars: Sequence[Bar]
    most: int
    first: str
    last: str


class Step(NamedTuple):
    """A step of the way to a new password: how many have come as far, and of those before how many in a hundred."""

    name: str
    resets: int
    percent: int
    width: int


def facts(now: datetime) -> dict[str, Any]:
    """All that the page shows."""
    day, month = _last_day(now), _last_month(now)
    due = ForgetPassword.objects.due(now)
    oldest = due.values_list("mail_next_at", flat=True).order_by("mail_next_at").first()
    return {
        "charts": [
            _chart("Last 24 hours, by the hour", day, timedelta(hours=1), "%b %d, %H:00"),
            _chart(f"Last {MONTH} days", month, timedelta(days=1), "%b %d"),
        ],
        "funnels": [("Last 24 hours", _funnel(day)), (f"Last {MONTH} days", _funnel(month))],
        "waits": _waits(now),
        "due": due.count(),
        "oldest": timesince(oldest, now) if oldest else "",
        "dead": ForgetPassword.objects.dead().count(),
        "reported": [sum(slot.reported for slot in span) for span in (day, month)],
        "locked": [sum(slot.locked for slot in span) for span in (day, month)],
        "refusals": sorted(((LIMITS.get(name, name), n) for name, n in refusals().items()), key=lambda each: -each[1]),
    }


def _last_day(now: datetime) -> list[Slot]:
    begins = timezone.localtime(now).replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    return _filled(figures.hours(begins, now), begins, timedelta(hours=1), 24)


def _last_month(now: datetime) -> list[Slot]:
    """The month by days. What is older than yesterday hardly changes, so it is remembered for a while."""
    today = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    begins, yesterday = today - timedelta(days=MONTH - 1), today - timedelta(days=1)
    key = f"account_recovery.figures:{begins.isoformat()}"
    older = cache.get_or_set(key, lambda: figures.days(begins, yesterday), SETTLED.total_seconds())
    return _filled([*(older or ()), *figures.days(yesterday, now)], begins, timedelta(days=1), MONTH)


def _filled(slots: Sequence[Slot], begins: datetime, step: timedelta, count: int) -> list[Slot]:
    """Every hour or day of a span, those without any reset as well."""
    known = {round((slot.begins - begins) / step): slot for slot in slots}
    return [known.get(number) or Slot(begins + number * step) for number in range(count)]


def _chart(name: str, slots: Sequence[Slot], step: timedelta, form: str) -> Chart:
    most = max(slot.asked for slot in slots)
    width = WIDTH / len(slots)
    bars = []
    for number, slot in enumerate(slots):
        asked, completed = (HEIGHT * count / (most or 1) for count in (slot.asked, slot.completed))
        title = f"{_at(slot, form)}: {slot.asked:,} asked for, {slot.completed:,} completed"
        bars.append(
            Bar(
                round(number * width + GAP / 2, 1),
                round(width - GAP, 1),
                round(HEIGHT - asked, 1),
                round(asked, 1),
                round(HEIGHT - completed, 1),
                round(completed, 1),
                title,
            )
        )
    return Chart(name, bars, most, _at(slots[0], form), _at(slots[-1], form))


def _at(slot: Slot, form: str) -> str:
    return timezone.localtime(slot.begins).strftime(form)


def _funnel(slots: Sequence[Slot]) -> list[Step]:
    steps = []
    before = asked = sum(slot.asked for slot in slots)
    for name, field in (
        ("Asked for", "asked"),
        ("An account was found", "found"),
        ("Its email was taken by the mail server", "emailed"),
        ("The code was typed, or the link used", "proven"),
        ("The password was changed", "completed"),
    ):
        count = sum(getattr(slot, field) for slot in slots)
        steps.append(Step(name, count, round(100 * count / (before or 1)), round(100 * count / (asked or 1))))
        before = count
    return steps


def _waits(now: datetime) -> list[tuple[str, int, int]]:
    """How long first mails took within the last day: a bound, how many, and how many in a hundred."""
    counts = figures.waits(now - timedelta(days=1), now)
    names = ("within 5 seconds", "within 30 seconds", "within 5 minutes", "later")
    return [(name, count, round(100 * count / (sum(counts) or 1))) for name, count in zip(names, counts, strict=True)]
