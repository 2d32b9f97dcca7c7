"""The GraphQL endpoint of this project: the app's, with GraphiQL for browsers."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt

from accounts.api.view import GRAPHQL_JSON, JSON, GraphQLView, preferred_type
from backend.schema import schema

GRAPHIQL_CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "connect-src 'self'",
        "font-src 'self' data:",
        "img-src data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What GraphiQL needs and no more; its editor styles itself inline. Its workers are scripts."""


def _is_a_browser(request: HttpRequest) -> bool:
    """Whether a page is asked for: a navigation prefers HTML to anything that GraphQL answers with."""
    return (
        request.method == "GET"
        and "query" not in request.GET
        and preferred_type(request, ("text/html", JSON, GRAPHQL_JSON)) == "text/html"
        # `*/*`, which scripts send and a missing header means, prefers nothing: without this it would get the page.
        and "text/html" in request.headers.get("Accept", "")
    )


def _graphiql(request: HttpRequest) -> HttpResponse:
    links = {"Inbox": "/inbox/"} if settings.DEBUG else {}
    links["Page for people"] = reverse("account_recovery:reset")
    if settings.ADMIN_ENABLED:
        links["Admin"] = reverse("admin:index")
    response = render(request, "graphiql.html", {"endpoint": request.path, "links": links})
    response["Content-Security-Policy"] = GRAPHIQL_CSP
    patch_vary_headers(response, ["Accept"])
    return response


@method_decorator(csrf_exempt, name="dispatch")
class GraphiQLView(GraphQLView):
    """Shows GraphiQL to browsers, where it is on."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if settings.GRAPHIQL and _is_a_browser(request):
            return _graphiql(request)
        return super().dispatch(request, *args, **kwargs)


graphql_view = GraphiQLView.as_view(schema=schema)
