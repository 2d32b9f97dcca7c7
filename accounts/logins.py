"""Notes who logs in to the admin and who fails to: OWASP ASVS 5.0 section 16.3.1."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed

logger = logging.getLogger(__name__)


def connect() -> None:
    """Connect the receivers; safe to call twice, as Django may do with `AppConfig.ready`."""
    user_logged_in.connect(note_login, dispatch_uid="account_recovery.note_login")
    user_logged_out.connect(note_logout, dispatch_uid="account_recovery.note_logout")
    user_login_failed.connect(note_failure, dispatch_uid="account_recovery.note_failure")


def note_login(user: Any, **kwargs: Any) -> None:
    logger.info({"event": "logged in", "user": user.pk})


def note_logout(user: Any, **kwargs: Any) -> None:
    logger.info({"event": "logged out", "user": user.pk if user else None})


def note_failure(**kwargs: Any) -> None:
    # What was typed stays out: people type addresses there, and passwords into the wrong field.
    logger.warning("login failed")
