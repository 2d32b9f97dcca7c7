"""The admin's site: whatever is registered in it, its lists can be asked for nothing but what their filters offer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Model

from accounts.filters import OfferedFilters
from backend.logins import Login


class Site(admin.AdminSite):
    """Django's, closed by default: an admin that somebody else has written is given the same guards."""

    login_form = Login

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[admin.ModelAdmin[Any]] | None = None,
        **options: Any,
    ) -> None:
        written = admin_class or admin.ModelAdmin
        if not issubclass(written, OfferedFilters):
            guards: tuple[type, ...] = (OfferedFilters,)
            if hasattr(written, "change_password_form"):
                from accounts.user_admin import LinkByMail  # needs the models, which come after this class

                guards = (LinkByMail, OfferedFilters)
            written = type(written.__name__, (*guards, written), {"__module__": written.__module__})
        super().register(model_or_iterable, written, **options)
