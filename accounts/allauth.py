"""The directory of a project with django-allauth: any address that an account has verified finds it.

RECOVERY_DIRECTORY = "account_recovery.allauth.AllauthDirectory"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from allauth.account.models import EmailAddress
from django.apps import apps
from django.db.models import QuerySet

from .addresses import fold, spellings
from .directory import Directory


class AllauthDirectory(Directory):
    """Accounts by the addresses that allauth has verified. The one in an account's own row counts for nothing."""

    def address_column(self) -> tuple[Any, str]:
        return EmailAddress, "email"

    def candidates(self, typed: list[str], folded: list[str], capitals: list[str]) -> list[tuple[Any, str]]:
        rows = self.matching(self._verified(), "email", typed, folded, capitals, account="user__")
        return [(row.user, row.email) for row in rows.select_related("user")]

    def address_of(self, key: Any, stored: str, typed: str) -> str:
        folded = list(spellings(fold(typed)))
        rows = self.matching(
            self._verified(), "email", [typed], folded, [each.upper() for each in folded], account="user__"
        )
        same = [row for row in rows if row.user_id == key and fold(row.email) == fold(typed)]
        return str(next((row.email for row in same if row.email == typed), same[0].email if same else ""))

    def sign_in_ways(self, account: Any) -> Sequence[str]:
        if not apps.is_installed("allauth.socialaccount"):
            return ()
        from allauth.socialaccount.models import SocialAccount
        from allauth.socialaccount.providers import registry

        used = SocialAccount.objects.filter(user=account).order_by("pk").values_list("provider", flat=True)
        names = dict(registry.as_choices())
        return [str(names[each]) for each in dict.fromkeys(used) if each in names]

    def _verified(self) -> QuerySet[Any]:
        verified: QuerySet[Any] = EmailAddress.objects.filter(verified=True, user__in=self.accounts())
        return verified
