"""Queries of resets; what moves them is in transitions.py."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q

from .choices import Mail
from .conf import conf

if TYPE_CHECKING:
    from .models import ForgetPassword  # noqa: F401 (named in the annotations below)


class ForgetPasswordQuerySet(models.QuerySet["ForgetPassword"]):
    """What is asked of the records."""

    def shown(self) -> ForgetPasswordQuerySet:
        """Rows with the columns that their holders are shown, and no others: see SHOWN."""
        return self.only(*SHOWN)

    def dead(self) -> ForgetPasswordQuerySet:
        """Rows whose mail was given up."""
        return self.filter(mail_next_at=None).exclude(mail_due=Mail.NONE)

    def not_looked(self) -> ForgetPasswordQuerySet:
        """Rows whose account nobody has looked for yet, the oldest first."""
        return self.filter(looked_at=None).order_by("created_at")

    def personal(self) -> ForgetPasswordQuerySet:
        """Rows that hold what somebody typed, or whence and by which browser they came."""
        return self.filter(PERSONAL)

    def due(self, now: datetime, *, in_turn: bool = False, lapsed: datetime | None = None) -> ForgetPasswordQuerySet:
        """Rows that owe a mail now and that nobody is sending, by their turns; with `in_turn`, none before its turn."""
        turn = Q(mail_turn_at__lte=now) if in_turn else Q()
        return self.filter(_claimable(now, lapsed or now - conf.lease), turn).order_by("mail_turn_at")


PERSONAL = ~Q(email="") | Q(client_ip__isnull=False) | ~Q(user_agent="")
"""Which rows are still to be wiped; there is an index of them."""

SHOWN = (
    "id",
    "forget_password_otp",
    "email_digest",
    "state",
    "attempts",
    "resends",
    "is_user_password_updated",
    "created_at",
    "looked_at",
    "sent_at",
    "verified_at",
    "mail_asked_at",
)
"""What status, resend and cancel are decided by. Each is as wide with an account as without. `user`, `email` and what
became of a mail are not: whoever asks often enough and averages would see how long they take to read."""


def _claimable(now: datetime, lapsed: datetime) -> Q:
    unclaimed = Q(mail_claimed_at=None) | Q(mail_claimed_at__lte=lapsed)
    # Looked at by then: a code that seemed older than its shown clock would not be mailed a second time as it is.
    return ~Q(mail_due=Mail.NONE) & Q(mail_next_at__lte=now, looked_at__lte=now) & unclaimed
