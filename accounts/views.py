"""The pages that are not GraphQL: where a mailed link leads when no frontend of its own is configured."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

RESET_PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def reset_page(request: HttpRequest) -> HttpResponse:
    """The page behind the mailed link, whose token stays in the fragment: no GET brings it here, and none spends it."""
    response = render(request, "accounts/reset.html")
    response["Content-Security-Policy"] = RESET_PAGE_CSP
    response["Cache-Control"] = "no-store"
    return response
