"""What is not GraphQL: the page where a mailed link leads when no frontend has its own, and the server's health."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from urllib.parse import urlsplit

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from . import brands
from .brands import Palette
from .conf import AWAY_SECONDS, conf
from .exposition import exposition
from .health import readiness
from .recovery import live

RESET_PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


MODULES = [f"account_recovery/{name}.js" for name in ("api", "kept", "operations", "password", "typed")]
"""What the page's script imports, so that browsers need not read that before they ask for these."""


@gzip_page
@require_safe
def reset_page(request: HttpRequest, brand: str = "") -> HttpResponse:
    """The page behind the mailed link, whose token stays in the fragment: no GET brings it here, and none spends it.

    Some mail programs encode the `#`, and then it does come here, in the path. It is not looked at: the page's script
    takes it from there, as it does from the fragment.
    """
    shown = brands.of(brand)
    theme = _theme(shown.palette) if shown.color else ""
    response = render(
        request,
        "account_recovery/reset.html",
        {"brand": shown, "theme": theme, "modules": MODULES, "live": live.is_served(request)},
    )
    response["Content-Security-Policy"] = _policy(theme, shown.logo)
    response["Cache-Control"] = "no-store"
    return response


@cache
def _theme(palette: Palette) -> str:
    """The style that gives the page a brand's colors."""
    light = (palette.accent, palette.hover, palette.on_accent)
    dark = (palette.dark_accent, palette.dark_hover, palette.dark_on_accent)
    one, other = (f"--accent:{accent};--accent-hover:{hover};--on-accent:{on}" for accent, hover, on in (light, dark))
    return f":root{{{one}}}@media(prefers-color-scheme:dark){{:root{{{other}}}}}"


@cache
def _policy(theme: str, logo: str) -> str:
    """RESET_PAGE_CSP, which lets in this very style and what comes from the logo's host."""
    policy = RESET_PAGE_CSP
    if theme:
        digest = b64encode(sha256(theme.encode()).digest()).decode()
        policy = policy.replace("style-src 'self'", f"style-src 'self' 'sha256-{digest}'")
    if logo:
        parts = urlsplit(logo)
        policy = policy.replace("img-src data:", f"img-src data: {parts.scheme}://{parts.netloc}")
    return policy


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
