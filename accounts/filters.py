"""What the address of an admin's list may ask for: what its own filters link to, and nothing else.

Django takes any look-up of any column there. Whoever may look at a list could so read, letter by letter, the columns
that no page shows: `?forget_password_otp__regex=…` tells by what it finds.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ListFilter, ModelAdmin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

MAX_TEXT = 254
"""Characters of a parameter, as many as an address has: a search of many words is a statement of great depth."""


class OfferedFilters(ModelAdmin):  # type: ignore[type-arg]
    """An admin whose list is filtered by its `list_filter` alone, and whose actions take nothing but keys.

    Another look-up is refused with a 400. Another value for one that is offered leads back to the whole list, for that
    happens to people as well: at midnight, "today" becomes another date. `date_hierarchy` is refused with the rest.
    """

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _ChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        # An empty `_to_field` would be looked for among the fields.
        return super().get_object(request, object_id, from_field or None)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.clean(key, None)
        except ValidationError as odd:
            raise BadRequest("No key of a row looks like that.") from odd
        return super().response_action(request, queryset, *args, **kwargs)


class _ChangeList(ChangeList):
    def get_filters(self, request: HttpRequest) -> Any:
        if any(len(value) > MAX_TEXT for values in request.GET.lists() for value in values[1]):
            raise IncorrectLookupParameters
        filters, has_filters, others, *more = super().get_filters(request)
        if others:
            raise DisallowedModelAdminLookup("That is no filter of this list.")
        asked = self.get_filters_params()
        for each in filters:
            given = {name: asked[name] for name in each.expected_parameters() if name in asked}
            if given and given not in _offers(each):
                raise IncorrectLookupParameters
        return filters, has_filters, others, *more


def _offers(of: ListFilter) -> list[dict[str, list[str]]]:
    """The parameters behind each link of a filter."""
    choices: Any = of.choices(_Links())  # type: ignore[arg-type]
    return [{name: [str(value)] for name, value in choice["query_string"].items()} for choice in choices]


class _Links:
    """Stands in for a list where a filter makes its links: they stay parameters, and nothing is counted."""

    add_facets = False

    def get_query_string(self, new_params: dict[str, Any] | None = None, remove: Any = None) -> dict[str, Any]:
        return new_params or {}
