"""How records are read where it happens most: by statements that are written once."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import OuterRef, Subquery

from .models import ForgetPassword, GuessBudget, Spent
from .statements import Select, Structure

BUDGET = ("budget_day", "budget_used_today", "budget_in_a_row")


def find_shown(pk: uuid.UUID) -> ForgetPassword | None:
    """The record with the columns that its holder is shown, and with the guesses that its address has spent."""
    for record in _shown(pk=pk):
        found: ForgetPassword = record
        day, used_today, in_a_row = (vars(found).pop(name) for name in BUDGET)
        found.spent = Spent(day, used_today, in_a_row) if day else Spent()
        return found
    return None


@partial(Select, ForgetPassword)
def _shown(pk: uuid.UUID) -> Any:
    return _with_budget(ForgetPassword.objects.shown().filter(pk=pk))


def _with_budget(rows: Any) -> Any:
    budget = GuessBudget.objects.filter(email_digest=OuterRef("email_digest"))
    return rows.annotate(**{name: Subquery(budget.values(name.removeprefix("budget_"))) for name in BUDGET})


WATCHED = (
    "state",
    "attempts",
    "resends",
    "is_user_password_updated",
    "looked_at",
    "sent_at",
    "verified_at",
    "mail_asked_at",
)
"""What can change of that which a holder is shown."""


def watched(pks: Collection[uuid.UUID]) -> list[tuple[Any, ...]]:
    """For each of these records its key, its WATCHED columns, and the guesses that its address has spent."""
    return _watched(pks=pks) if pks else []


@partial(Select, ForgetPassword)
def _watched(pks: list[uuid.UUID]) -> Any:
    return _with_budget(ForgetPassword.objects.filter(pk__in=pks)).values_list("pk", *WATCHED, *BUDGET)


def spent_by(email_digest: str) -> Spent:
    """The guesses that an address has spent as of now."""
    return spent_by_each([email_digest]).get(email_digest, Spent())


def spent_of(record: ForgetPassword) -> Spent:
    """The guesses that a record's address has spent: read together with the record, or now, and then kept with it."""
    if record.spent is None:
        record.spent = spent_by(record.email_digest)
    return record.spent


def spent_by_each(email_digests: Collection[str]) -> dict[str, Spent]:
    """The guesses that several addresses have spent; none has spent any that is not among them."""
    found = _spent(email_digests=email_digests) if email_digests else []
    return {digest: Spent(day, used_today, in_a_row) for digest, day, used_today, in_a_row in found}


@partial(Select, GuessBudget)
def _spent(email_digests: list[str]) -> Any:
    budgets = GuessBudget.objects.filter(email_digest__in=email_digests)
    return budgets.values_list("email_digest", "day", "used_today", "in_a_row")


def is_any_waiting() -> bool:
    """Whether there is a record whose account nobody has looked for."""
    return bool(_waiting(limit=1))


@partial(Select, ForgetPassword)
def _waiting(limit: Structure) -> Any:
    return ForgetPassword.objects.not_looked().values_list("pk")[:limit]


def lock_waiting(limit: int) -> list[ForgetPassword]:
    """Lock the oldest records whose account nobody has looked for, but for those that somebody else is looking at."""
    return _locked_waiting(limit=limit)


@partial(Select, ForgetPassword)
def _locked_waiting(limit: Structure) -> Any:
    rows = ForgetPassword.objects.not_looked().only("pk", "email", "traceparent")
    return rows.select_for_update(skip_locked=True, of=("self",))[:limit]


def find_claimed(pks: Collection[uuid.UUID], claimed_at: datetime) -> list[ForgetPassword]:
    """The records of a claim, with their users."""
    return _claimed(pks=pks, claimed_at=claimed_at) if pks else []


@partial(Select, ForgetPassword)
def _claimed(pks: list[uuid.UUID], claimed_at: datetime) -> Any:
    return ForgetPassword.objects.select_related("user").filter(pk__in=pks, mail_claimed_at=claimed_at)
