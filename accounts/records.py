"""How records are read where it happens most: by statements that are written once."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from django.db.models import OuterRef, Subquery

from .models import ForgetPassword, GuessBudget, Spent
from .statements import Select


def find_shown(pk: uuid.UUID) -> ForgetPassword | None:
    """The record with the columns that its holder is shown, and with the guesses that its address has spent."""
    for record in _shown(pk=pk):
        found: ForgetPassword = record
        day, used_today, in_a_row = (vars(found).pop(name) for name in BUDGET)
        found.spent = Spent(day, used_today, in_a_row) if day else Spent()
        return found
    return None


def spent_by(email_digest: str) -> Spent:
    """The guesses that an address has spent as of now."""
    for budget in _budgets(email_digests=[email_digest]):
        return Spent(budget.day, budget.used_today, budget.in_a_row)
    return Spent()


BUDGET = ("budget_day", "budget_used_today", "budget_in_a_row")


@partial(Select, ForgetPassword)
def _shown(pk: uuid.UUID) -> Any:
    budget = GuessBudget.objects.filter(email_digest=OuterRef("email_digest"))
    columns = {name: Subquery(budget.values(name.removeprefix("budget_"))) for name in BUDGET}
    return ForgetPassword.objects.shown().filter(pk=pk).annotate(**columns)


@partial(Select, GuessBudget)
def _budgets(email_digests: list[str]) -> Any:
    return GuessBudget.objects.filter(email_digest__in=email_digests)
