"""Wakes the mailer when a record is created, or has another mail due, as soon as that is committed."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models.signals import post_save

from ..models import ForgetPassword
from ..signals import mail_due
from .dispatch import wake


def connect() -> None:
    """Connect both receivers; safe to call twice, as Django may do with `AppConfig.ready`."""
    post_save.connect(
        mail_what_was_requested, sender=ForgetPassword, dispatch_uid="account_recovery.mail_what_was_requested"
    )
    mail_due.connect(mail_what_is_due, sender=ForgetPassword, dispatch_uid="account_recovery.mail_what_is_due")


def mail_what_was_requested(instance: ForgetPassword, created: bool, raw: bool, using: str, **kwargs: Any) -> None:
    """Wake the mailer for a new record. Fixtures (`raw`) bring records that were mailed where they came from."""
    if created and not raw:
        _wake_after_commit(instance.pk, using, new=instance.looked_at is None)


def mail_what_is_due(pk: uuid.UUID, **kwargs: Any) -> None:
    """Wake the mailer for a record that a verb has left with a mail due."""
    _wake_after_commit(pk, None, new=False)


def _wake_after_commit(pk: uuid.UUID, using: str | None, *, new: bool) -> None:
    # A named function: Django 5.2 logs a failed robust callback by its __qualname__, which a partial has not.
    def wake_mailer() -> None:
        wake(pk, new=new)

    transaction.on_commit(wake_mailer, using=using, robust=True)
