"""Logins to the admin: they are counted and bounded, and noted (OWASP ASVS 5.0 section 16.3.1)."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import ValidationError

from accounts.conf import conf
from accounts.exceptions import RateLimited
from accounts.limits import rules
from accounts.passwords import hashing
from accounts.recovery.client import client_address

logger = logging.getLogger(__name__)

LOGIN_PATIENCE = 0.1
"""Seconds. Whoever waits for a place holds a thread that answers requests, and anybody may try to log in."""


class Login(AdminAuthenticationForm):
    """A login checks a secret like other operations: it is counted with them, and hashes when its turn has come."""

    def clean(self) -> dict[str, Any]:
        try:
            rules.check_client_may_log_in(client_address(self.request))  # type: ignore[arg-type]
            with hashing.slots(conf.HASH_CONCURRENCY).one(LOGIN_PATIENCE):
                return super().clean()
        except RateLimited as refused:
            logger.warning({"event": "login refused", "outcome": type(refused).__name__, "limit": refused.limit})
            raise ValidationError(str(refused.message)) from None


def connect() -> None:
    """Connect the receivers; safe to call twice, as Django may do with `AppConfig.ready`."""
    user_logged_in.connect(note_login, dispatch_uid="backend.note_login")
    user_logged_out.connect(note_logout, dispatch_uid="backend.note_logout")
    user_login_failed.connect(note_failure, dispatch_uid="backend.note_failure")


def note_login(user: Any, **kwargs: Any) -> None:
    logger.info({"event": "logged in", "user": user.pk})


def note_logout(user: Any, **kwargs: Any) -> None:
    logger.info({"event": "logged out", "user": user.pk if user else None})


def note_failure(**kwargs: Any) -> None:
    # What was typed stays out: people type addresses there, and passwords into the wrong field.
    logger.warning("login failed")
