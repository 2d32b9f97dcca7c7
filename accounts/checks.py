"""System checks: what a deployment should hear about before its users do."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags

from accounts.conf import conf


def register() -> None:
    """Register every check of this app."""
    checks.register(check_mail_dispatch, Tags.compatibility)
    checks.register(check_mail_timeouts, Tags.compatibility)
    checks.register(check_transactions, Tags.database)


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
