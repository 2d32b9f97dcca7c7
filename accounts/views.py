"""What is not GraphQL: the page where a mailed link leads when no frontend has its own, and the server's health."""

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from .conf import AWAY_SECONDS, conf
from .exposition import exposition
from .health import readiness

RESET_PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def reset_page(request: HttpRequest) -> HttpResponse:
    """The page behind the mailed link, whose token stays in the fragment: no GET brings it here, and none spends it.

    Some mail programs encode the `#`, and then it does come here, in the path. It is not looked at: the page's script
    takes it from there, as it does from the fragment.
    """
    named = {"brand": conf.brand_name, "sign_in_url": conf.SIGN_IN_URL, "support_email": conf.SUPPORT_EMAIL}
    response = render(request, "account_recovery/reset.html", named)
    response["Content-Security-Policy"] = RESET_PAGE_CSP
    response["Cache-Control"] = "no-store"
    return response


@never_cache
@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """Whether this process lives: it asks nothing and nobody, so it answers whatever else hangs."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Whether this process can serve: 200 `ok` or `degraded`, or 503 `unavailable` without a database to write to."""
    facts = readiness.facts()
    if facts["status"] != "unavailable":
        return JsonResponse(facts)
    return JsonResponse(facts, status=503, headers={"Retry-After": AWAY_SECONDS})


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """What Prometheus reads, for whoever has METRICS_TOKEN; without one, it is not there."""
    if not conf.METRICS_TOKEN:
        raise Http404
    if not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {conf.METRICS_TOKEN}"):
        return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)
