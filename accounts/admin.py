"""The admin: what support needs to see of a reset, and nothing that would let it take one over."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import ngettext

from . import codes, signals, transitions
from .addresses import fold
from .filters import OfferedFilters
from .models import ForgetPassword, PasswordResetEvent, WebhookDelivery


class ReadOnly:
    """No adding, no changing, no deleting: a record is evidence."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Timeline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = PasswordResetEvent
    fields = ("created_at", "kind", "reason", "provider_id")
    readonly_fields = fields
    verbose_name_plural = "timeline"


@admin.register(ForgetPassword)
class ForgetPasswordAdmin(ReadOnly, OfferedFilters):
    """Searchable by record id, and by the address somebody typed, whoever's it is."""

    list_display = ("created_at", "email", "user", "state", "attempts", "resends", "mail_due", "mail_error", "sent_at")
    list_filter = ("state", "mail_due", "created_at")
    list_select_related = ("user",)
    search_fields = ("=id", "email")
    search_help_text = "An address as it was typed, in full or in part; a whole address is found after wiping, too."
    # The seed and what is derived from it stay out, and so do the digests: none of them helps support.
    exclude = ("forget_password_otp", "email_digest", "idempotency_digest")
    inlines = (Timeline,)
    actions = ("mail_again",)
    show_full_result_count = False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ForgetPassword], search_term: str
    ) -> tuple[QuerySet[ForgetPassword], bool]:
        """Find a whole address by its digest as well, for that of a stranger has been wiped."""
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        if "@" in search_term:
            found |= queryset.filter(email_digest=codes.address_digest(fold(search_term.strip())))
        return found, may_repeat

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """A row is named by its key: nothing that refers to one is edited here."""
        return False

    def has_mail_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.mail_again")

    @admin.action(description="Try dead mails again", permissions=["mail_again"])
    def mail_again(self, request: HttpRequest, queryset: QuerySet[ForgetPassword]) -> None:
        """Revive mails that were given up, once what stopped them is mended."""
        pks = list(queryset.values_list("pk", flat=True))
        revived = transitions.revive(ForgetPassword.objects.filter(pk__in=pks), timezone.now())
        for pk in pks:
            signals.mail_due.send(sender=ForgetPassword, pk=pk)
        said = ngettext("%d dead mail will be tried again.", "%d dead mails will be tried again.", revived) % revived
        self.message_user(request, said, messages.SUCCESS)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, OfferedFilters):
    """What receivers have been told, and what they have not: `next at` is empty for what was given up."""

    list_display = ("created_at", "endpoint", "event", "error", "attempts", "next_at", "delivered_at")
    list_filter = ("event", "created_at")
    ordering = ("-created_at",)
    actions = ("deliver_again",)
    show_full_result_count = False

    def has_deliver_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.deliver_again")

    @admin.action(description="Try given-up webhooks again", permissions=["deliver_again"])
    def deliver_again(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Try for another day what was given up, once what stopped it is mended."""
        given_up = queryset.filter(next_at=None, delivered_at=None)
        now = timezone.now()
        revived = given_up.update(next_at=now, created_at=now, attempts=0, error="")
        said = ngettext("%d webhook will be tried again.", "%d webhooks will be tried again.", revived) % revived
        self.message_user(request, said, messages.SUCCESS)
