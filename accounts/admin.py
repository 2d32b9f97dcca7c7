"""The admin: what support needs to see of a reset, and nothing that would let it take one over."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import ngettext

from . import codes, signals, transitions
from .addresses import clean_address, fold
from .directory import directory
from .exceptions import InvalidInput
from .filters import OfferedFilters
from .lookup import accounts_of
from .models import ForgetPassword, PasswordResetEvent, WebhookDelivery

MOST_LISTED = 10_000
"""Rows that a list has pages for."""
RECORD_ID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


class ReadOnly:
    """No adding, no changing, no deleting: a record is evidence."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Newest(Paginator):  # type: ignore[type-arg]
    """Pages of the newest MOST_LISTED rows: to count millions, or to leaf through to the oldest, takes seconds."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[:MOST_LISTED].count())


class NewestFirst(OfferedFilters):
    """A list of very many rows, the newest first, which can be sorted by nothing that has no index."""

    ordering = ("-created_at",)
    sortable_by = ("created_at",)
    paginator = Newest
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response: Any = super().changelist_view(request, extra_context)
        shown = (getattr(response, "context_data", None) or {}).get("cl")
        if shown and shown.result_count >= MOST_LISTED:
            of = "" if shown.has_active_filters or shown.query else f" of about {_estimate(shown.queryset):,}"
            response.context_data["subtitle"] = f"The newest {MOST_LISTED:,}{of}. Search, or filter, for older ones."
        return response  # type: ignore[no-any-return]


def _estimate(rows: QuerySet[Any]) -> int:
    """How many rows a table has, as far as PostgreSQL's statistics know; counted where there are none."""
    connection = connections[rows.db]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [rows.model._meta.db_table])
            if (found := cursor.fetchone()) and found[0] >= MOST_LISTED:
                return int(found[0])
    return int(rows.model._default_manager.count())


class Timeline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = PasswordResetEvent
    fields = ("created_at", "kind", "reason", "provider_id")
    readonly_fields = fields
    verbose_name_plural = "timeline"


@admin.register(ForgetPassword)
class ForgetPasswordAdmin(ReadOnly, NewestFirst):
    """Searchable by record id, by a whole address, whoever's it is, and by the name of an account."""

    list_display = ("created_at", "email", "user", "state", "attempts", "resends", "mail_due", "mail_error", "sent_at")
    list_filter = ("state", "mail_due", "created_at")
    list_select_related = ("user",)
    search_fields = ("id",)  # or there is no search box; what is looked for, `get_search_results` says
    search_help_text = "A whole address, of an account or not; the name somebody signs in by; or a record's id."
    # The seed and what is derived from it stay out, and so do the digests: none of them helps support.
    exclude = ("forget_password_otp", "email_digest", "idempotency_digest")
    inlines = (Timeline,)
    actions = ("mail_again",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ForgetPassword], search_term: str
    ) -> tuple[QuerySet[ForgetPassword], bool]:
        """Look for what has an index, and for nothing else. An address is found by its digest, after wiping, too."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if RECORD_ID.fullmatch(term):
            return queryset.filter(pk=uuid.UUID(term)), False
        try:
            address = clean_address(term)
        except InvalidInput:
            return queryset.filter(user__in=directory().named(term)), False
        return queryset.filter(
            Q(email_digest__in=codes.address_digests(fold(address))) | Q(user__in=accounts_of(address))
        ), False

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
        told = ngettext("%(n)d dead mail will be tried again.", "%(n)d dead mails will be tried again.", revived)
        self.message_user(request, told % {"n": revived}, messages.SUCCESS)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, NewestFirst):
    """What receivers have been told, and what they have not: `next at` is empty for what was given up."""

    list_display = ("created_at", "endpoint", "event", "error", "attempts", "next_at", "delivered_at")
    list_filter = ("event", "created_at")
    actions = ("deliver_again",)

    def has_deliver_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.deliver_again")

    @admin.action(description="Try given-up webhooks again", permissions=["deliver_again"])
    def deliver_again(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Try for another day what was given up, once what stopped it is mended."""
        given_up = queryset.filter(next_at=None, delivered_at=None)
        now = timezone.now()
        revived = given_up.update(next_at=now, created_at=now, attempts=0, error="")
        told = ngettext("%(n)d webhook will be tried again.", "%(n)d webhooks will be tried again.", revived)
        self.message_user(request, told % {"n": revived}, messages.SUCCESS)
