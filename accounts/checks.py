"""System checks: what a deployment should hear about before its users do."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Tags
from django.db import DatabaseError

from accounts.conf import conf
from accounts.lookup import is_indexed

MANY_USERS = 10_000
"""From so many users on, a look-up that reads them all is worth a warning."""


def register() -> None:
    """Register every check of this app."""
    checks.register(check_mail_dispatch, Tags.compatibility)
    checks.register(check_mail_timeouts, Tags.compatibility)
    checks.register(check_transactions, Tags.database)
    checks.register(check_address_index, Tags.database)


def check_mail_dispatch(**kwargs: Any) -> list[CheckMessage]:
    """E001: mail sent inside the request tells by its duration who has an account."""
    if conf.MAIL_DISPATCH == "inline" and not settings.DEBUG:
        hint = "Set MAIL_DISPATCH to thread, or to none where another process mails."
        return [
            checks.Error(
                "MAIL_DISPATCH=inline mails inside the request and is for tests only.", hint=hint, id="accounts.E001"
            )
        ]
    return []


def check_mail_timeouts(**kwargs: Any) -> list[CheckMessage]:
    """W001: a lease that ends before an SMTP session can, sends mails twice."""
    timeout = getattr(settings, "SMTP", {}).get("timeout", 0)
    if 6 * timeout >= conf.MAIL_LEASE_SECONDS:
        hint = "Give it more than six times EMAIL_TIMEOUT: greeting, HELO, MAIL, RCPT, DATA and the end of it."
        return [
            checks.Warning("MAIL_LEASE_SECONDS is shorter than one slow SMTP session.", hint=hint, id="accounts.W001")
        ]
    return []


def check_transactions(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """E002: under ATOMIC_REQUESTS a refused guess would be rolled back, and so never be counted."""
    if settings.DATABASES["default"].get("ATOMIC_REQUESTS"):
        return [
            checks.Error(
                "ATOMIC_REQUESTS must be off: guesses are counted before they are compared.", id="accounts.E002"
            )
        ]
    return []


def check_address_index(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W050: on a large table of users, a look-up without an index takes as long as the table is long."""
    user_model = get_user_model()
    try:
        few = not user_model._default_manager.all()[MANY_USERS : MANY_USERS + 1].exists()
    except DatabaseError:  # before the first migration there is no table, and nobody to look for
        return []
    if few or is_indexed():
        return []
    hint = "Make it with `manage.py index_addresses`; on PostgreSQL, signing in goes on meanwhile."
    message = "The user table has no index on the capitalised address, by which accounts are looked up."
    return [checks.Warning(message, hint=hint, id="accounts.W050")]
