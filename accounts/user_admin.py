"""What the admin of accounts does about passwords: staff have the owner mailed a link, and choose none themselves."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse

from .directory import directory, stored_in
from .exceptions import InvalidInput, RateLimited
from .models import ForgetPassword
from .recovery.support import start


class LinkByMail(admin.ModelAdmin):  # type: ignore[type-arg]
    """For the admin of accounts, before Django's `UserAdmin`: staff have the owner mailed a link, no more.

    Whoever chooses somebody's password can sign in as them (OWASP ASVS 5.0 section 6.4.6). So the form for it is gone,
    and the hash with it; the action takes the permission `start_reset`.
    """

    actions = ("start_reset",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = super().get_fieldsets(request, obj)
        if obj is None:
            return shown
        field = directory().password_field
        kept = [(name, {**more, "fields": [each for each in more["fields"] if each != field]}) for name, more in shown]
        return [(name, more) for name, more in kept if more["fields"]]

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        raise Http404

    def has_start_reset_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{ForgetPassword._meta.app_label}.start_reset")

    @admin.action(description="Mail a link to choose a new password", permissions=["start_reset"])
    def start_reset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Start a reset for each account; what stands in the way of one is told, and stops none of the others."""
        for account in queryset:
            address = stored_in(account, directory().email_field)
            try:
                start(address, request.user.get_username())
            except (InvalidInput, RateLimited) as error:
                self.message_user(request, f"{account}: {error}", messages.WARNING)
            else:
                self.message_user(request, f"{account}: a link is on its way to {address}.", messages.SUCCESS)
