"""The admin: what support needs to see of a reset, and nothing that would let it take one over."""

from __future__ import annotations

import logging
import re
import uuid
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timesince

from . import codes, records, retention
from .addresses import clean_address, fold
from .choices import Mail
from .conf import GUESSES_IN_A_ROW, GUESSES_PER_DAY, MAX_ATTEMPTS
from .dashboard import facts
from .directory import directory
from .exceptions import InvalidInput, RateLimited, UnknownRequest
from .exposition import is_summed
from .filters import OfferedFilters
from .lookup import accounts_of
from .models import ForgetPassword, Spent, WebhookDelivery, utc_day
from .recovery import support
from .searches import ShownStatus, Trouble
from .timeline import timeline

logger = logging.getLogger(__name__)

MOST_ERASED = 20
"""People whose resets are erased at once: each is a transaction, and few are erased by mistake."""
MOST_AT_ONCE = 100
"""Resets that an action takes, as many as a page shows: "select all" means every row that matches, millions perhaps."""
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
    sortable_by: ClassVar[tuple[str, ...]] = ("created_at",)
    paginator = Newest
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response: Any = super().changelist_view(request, extra_context)
        shown = (getattr(response, "context_data", None) or {}).get("cl")
        if shown:
            self.prepare(shown.result_list)
        if shown and shown.result_count >= MOST_LISTED:
            of = "" if shown.has_active_filters or shown.query else f" of about {_estimate(shown.queryset):,}"
            response.context_data["subtitle"] = f"The newest {MOST_LISTED:,}{of}. Search, or filter, for older ones."
        return response  # type: ignore[no-any-return]

    def prepare(self, rows: Any) -> None:
        """Read by few statements what the columns of all the rows of a page need."""


def _may(request: HttpRequest, permission: str) -> bool:
    return request.user.has_perm(f"{ForgetPassword._meta.app_label}.{permission}")


def _estimate(rows: QuerySet[Any]) -> int:
    """How many rows a table has, as far as PostgreSQL's statistics know; counted where there are none."""
    connection = connections[rows.db]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [rows.model._meta.db_table])
            if (found := cursor.fetchone()) and found[0] >= MOST_LISTED:
                return int(found[0])
    return int(rows.model._default_manager.count())


def _to_the_second(at: datetime) -> str:
    """A time with its seconds, which tell a slow mail server from a slow mailer."""
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S}"


@admin.register(ForgetPassword)
class ForgetPasswordAdmin(ReadOnly, NewestFirst):
    """Searchable by record id, by a whole address, whoever's it is, and by the name of an account."""

    change_list_template = "account_recovery/admin/list.html"
    list_display = ("age", "email", "user", "shown_status", "mail")
    list_filter = (ShownStatus, Trouble, "created_at")
    sortable_by = ("age",)
    list_select_related = ("user",)
    search_fields = ("id",)  # or there is no search box; what is looked for, `get_search_results` says
    search_help_text = "A whole address, of an account or not; the name somebody signs in by; or a record's id."
    readonly_fields = ("shown_status", "mail", "guesses", "timeline")
    # The seed and what is derived from it stay out, and so do the digests: none of them helps support.
    fieldsets = (
        (
            None,
            {"fields": ("email", "user", "shown_status", "mail", "guesses", "client_ip", "user_agent", "timeline")},
        ),
        (
            "The record itself",
            {
                "classes": ("collapse",),
                "fields": (
                    "created_at",
                    *("state", "is_user_password_updated", "by_support", "brand", "locale"),
                    *("attempts", "generation", "resends"),
                    *("looked_at", "sent_at", "code_issued_at", "link_issued_at", "verified_at", "completed_at"),
                    *("superseded_at", "reported_at", "fresh_link_for", "updated_at"),
                    *("mail_due", "mail_asked_at", "mail_attempts", "mail_next_at", "mail_turn_at"),
                    *("mail_claimed_at", "mail_error"),
                ),
            },
        ),
    )
    actions = ("send_again", "cancel", "mail_again", "end", "erase")

    class Media:
        css = {"all": ("account_recovery/admin.css",)}

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_dashboard"
        return [path("dashboard/", self.admin_site.admin_view(self.dashboard), name=name), *super().get_urls()]

    def dashboard(self, request: HttpRequest) -> HttpResponse:
        """The last day and month, for whoever may see resets."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        counted = "the processes of this machine started" if is_summed() else "this process started"
        context = {"title": "Dashboard", "opts": self.opts, "counted": counted, **facts(timezone.now())}
        context |= self.admin_site.each_context(request)
        return TemplateResponse(request, "account_recovery/admin/dashboard.html", context)

    def prepare(self, rows: Any) -> None:
        spent = records.spent_by_each({record.email_digest for record in rows})
        for record in rows:
            record.spent = spent.get(record.email_digest, Spent())

    @admin.display(description="age", ordering="created_at")
    def age(self, record: ForgetPassword) -> str:
        exactly = _to_the_second(record.created_at)
        return format_html('<time title="{}">{}</time>', exactly, timesince(record.created_at, depth=1))

    @admin.display(description="status")
    def shown_status(self, record: ForgetPassword) -> str:
        """What the holder is told, and what only support may know."""
        now = timezone.now()
        words = [str(record.status(record.attempts_left(records.spent_of(record), now), now))]
        words += ["reported"] if record.reported_at else ["ended"] if record.superseded_at else []
        badges = ((word.lower(), word) for word in words)
        return format_html_join(" ", '<span class="recovery-badge recovery-{}">{}</span>', badges)

    @admin.display(description="mail")
    def mail(self, record: ForgetPassword) -> str:
        """Whether a mail is due, and what came of the last try."""
        if record.mail_due == Mail.NONE:
            return "none due"
        kind = "due" if record.mail_next_at else "dead"
        text = f"{record.get_mail_due_display()}: {kind}{f', {record.mail_error}' if record.mail_error else ''}"
        return format_html('<span class="recovery-badge recovery-{}">{}</span>', kind, text)

    @admin.display(description="timeline")
    def timeline(self, record: ForgetPassword) -> str:
        lines = ((_to_the_second(at), text, detail) for at, text, detail in timeline(record))
        shown = format_html_join("", "<li><time>{}</time> {} <code>{}</code></li>", lines)
        return format_html('<ol class="recovery-timeline">{}</ol>', shown)

    @admin.display(description="wrong codes")
    def guesses(self, record: ForgetPassword) -> str:
        """What is spent of each budget: docs/states.md, "Attempts and budgets"."""
        spent = records.spent_of(record)
        today = spent.used_today if spent.day == utc_day(timezone.now()) else 0
        return (
            f"{record.attempts} of {MAX_ATTEMPTS} for this reset, {today} of {GUESSES_PER_DAY} for the address today, "
            f"{spent.in_a_row} of {GUESSES_IN_A_ROW} in a row"
        )

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

    # --- What support may do, each with a permission of its own -------------------------------------------------------

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        return _may(request, "send_again")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return _may(request, "cancel_reset")

    def has_mail_again_permission(self, request: HttpRequest) -> bool:
        return _may(request, "mail_again")

    def has_end_permission(self, request: HttpRequest) -> bool:
        return _may(request, "end_reset")

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return _may(request, "erase_person")

    def _few(self, request: HttpRequest, queryset: QuerySet[ForgetPassword], most: int) -> list[ForgetPassword]:
        """The resets that were ticked; none, and a word about it, where they are too many to be meant one by one."""
        if len(records := list(queryset.order_by("pk")[: most + 1])) <= most:
            return records
        self.message_user(request, f"Choose {most} at the most at a time: nothing was done.", messages.WARNING)
        return []

    @admin.action(description="Send the email again", permissions=["send_again"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[ForgetPassword]) -> None:
        """What the holder could do, within the same limits. What stands in the way of one stops none of the others."""
        sent = 0
        for record in self._few(request, queryset, MOST_AT_ONCE):
            try:
                support.send_again(record, request.user.get_username())
                sent += 1
            except (UnknownRequest, RateLimited) as error:
                self.message_user(request, f"{record}: {error}", messages.WARNING)
        self.message_user(request, f"Emails that will be sent again: {sent}.", messages.SUCCESS)

    @admin.action(description="Cancel: codes stop working, emailed links go on", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[ForgetPassword]) -> None:
        by, few = request.user.get_username(), self._few(request, queryset, MOST_AT_ONCE)
        cancelled = sum(support.cancel(record, by) for record in few)
        self.message_user(request, f"Resets that are cancelled: {cancelled}.", messages.SUCCESS)

    @admin.action(description="Try dead emails again", permissions=["mail_again"])
    def mail_again(self, request: HttpRequest, queryset: QuerySet[ForgetPassword]) -> None:
        """Revive mails that were given up, once what stopped them is mended."""
        pks = list(queryset.values_list("pk", flat=True))
        revived = support.revive(pks, request.user.get_username())
        self.message_user(request, f"Dead emails that will be tried again: {revived}.", messages.SUCCESS)

    @admin.action(description="End: neither code nor link works any more", permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[ForgetPassword]) -> None:
        by, few = request.user.get_username(), self._few(request, queryset, MOST_AT_ONCE)
        ended = sum(support.end(record, by) for record in few)
        self.message_user(request, f"Resets that are ended: {ended}.", messages.SUCCESS)

    @admin.action(description="Erase all resets of these people", permissions=["erase"])
    def erase(self, request: HttpRequest, queryset: QuerySet[ForgetPassword]) -> HttpResponse | None:
        """Delete what is known of the people of these resets, once that is confirmed; it cannot be undone."""
        if not (records := self._few(request, queryset, MOST_ERASED)):
            return None
        if "confirmed" not in request.POST:
            context = {
                **self.admin_site.each_context(request),
                "title": "Erase all resets of these people",
                "opts": self.opts,
                "records": records,
                "ticked": [record.pk for record in records],
                "action_checkbox_name": ACTION_CHECKBOX_NAME,
            }
            return TemplateResponse(request, "account_recovery/admin/erase.html", context)
        for record in records:
            erased = retention.erase_of(record)
            # The timeline goes with the rest. The log keeps who has done it, and nothing of whom it was about.
            logger.warning({"event": "person erased", "user": request.user.pk, "resets": erased["password resets"]})
        self.message_user(request, f"People whose resets are erased: {len(records)}.", messages.SUCCESS)
        return None


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, NewestFirst):
    """What receivers have been told, and what they have not: `next at` is empty for what was given up."""

    list_display = ("created_at", "endpoint", "event", "error", "attempts", "next_at", "delivered_at")
    list_filter = ("event", "created_at")
    actions = ("deliver_again",)

    def has_deliver_again_permission(self, request: HttpRequest) -> bool:
        return _may(request, "deliver_again")

    @admin.action(description="Try given-up webhooks again", permissions=["deliver_again"])
    def deliver_again(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Try for another day what was given up, once what stopped it is mended."""
        given_up = queryset.filter(next_at=None, delivered_at=None)
        now = timezone.now()
        revived = given_up.update(next_at=now, created_at=now, attempts=0, error="")
        self.message_user(request, f"Webhooks that will be tried again: {revived}.", messages.SUCCESS)
