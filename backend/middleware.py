"""What every answer goes through, whatever answers: it gets an id that the log has too, and the security headers."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.middleware.security import SecurityMiddleware
from django.utils.log import log_response

from accounts import views
from accounts.recovery.client import client_address
from backend import logs
from backend.bounds import BUSY, REFUSAL

logger = logging.getLogger(__name__)

Handle = Callable[[HttpRequest], HttpResponseBase]

REQUEST_ID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""What nginx, Envoy and their like make. No handle, code or token looks like it."""

NOTHING_CSP = "default-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For what is no page: JSON, redirects, errors, files."""
ERROR_CSP = f"{NOTHING_CSP}; style-src 'self'"
"""For an error that a person reads."""
PAGES_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""For pages that others have written: the admin, and the inbox of development."""
PAGES = {"admin", "mail_preview"}
ADMIN = "/admin/"
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Defaults: a view that knows better has set its own."""
PROBES: dict[str, Handle] = {
    "/livez": views.livez,
    "/readyz": views.readyz,
    "/health": views.readyz,
    "/metrics": views.metrics,
}
RETRY_SECONDS = 2
"""When to come again, for whom there was no room."""


class RequestId:
    """Gives each request an id, binds it and the client's address to all that is logged meanwhile, and tells it."""

    def __init__(self, get_response: Handle) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = _told_by_proxy(request) or uuid.uuid4().hex
        logs.context.set({"request_id": request_id, "client": client_address(request)})
        response = self._get_response(request)
        response["X-Request-ID"] = request_id
        return response


class SecurityHeaders:
    """Adds to every answer, errors included, the security headers that it has not set itself.

    Django's own middleware sets some of them, but not on what is refused before its turn comes.
    """

    def __init__(self, get_response: Handle) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if _is_page(request):
            # Under no-referrer a browser calls a form's origin null, which Django's check of forms refuses.
            response.headers["Referrer-Policy"] = "same-origin"
        if not _explains_itself_to_a_developer(response):
            response.headers.setdefault("Content-Security-Policy", _policy(request, response))
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class Refusals:
    """Answers what was refused before Django was to read it, in the shape of the API's errors.

    It stands before the redirect to HTTPS, which would be the answer otherwise; so it adds by itself what the security
    and CORS middleware behind it would.
    """

    def __init__(self, get_response: Handle) -> None:
        self._get_response = get_response
        self._security = SecurityMiddleware(get_response)
        self._cors = CorsMiddleware(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if REFUSAL not in request.META:
            return self._get_response(request)
        response = _refuse(request)
        self._cors.add_response_headers(request, response)
        return self._security.process_response(request, response)


class Probes:
    """Answers load balancers and Prometheus before host and scheme are looked at: they ask by IP and by plain HTTP."""

    def __init__(self, get_response: Handle) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = PROBES.get(request.path_info.removesuffix("/"), self._get_response)
        return answer(request)


class _AtTheAdmin:
    """Has a middleware see requests to the admin alone: nothing else has a session, a user or messages."""

    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(ADMIN):
            answer: HttpResponseBase = self.get_response(request)
            return answer
        response: HttpResponseBase = super().__call__(request)  # type: ignore[misc]
        return response


class Sessions(_AtTheAdmin, SessionMiddleware):
    """Django's, at the admin."""


class Users(_AtTheAdmin, AuthenticationMiddleware):
    """Django's, at the admin."""


class Messages(_AtTheAdmin, MessageMiddleware):
    """Django's, at the admin."""


def _refuse(request: HttpRequest) -> HttpResponse:
    refusal = request.META[REFUSAL]
    body = {"errors": [{"message": refusal.message}]}
    response = JsonResponse(body, status=refusal.status, content_type="application/json; charset=utf-8")
    if refusal is BUSY:
        response["Retry-After"] = str(RETRY_SECONDS)
    log_response("request refused: %s", refusal.message, response=response, request=request, logger=logger)
    return response


def _told_by_proxy(request: HttpRequest) -> str:
    told = request.headers.get("X-Request-ID", "") if settings.TRUSTED_PROXIES else ""
    return told if REQUEST_ID.fullmatch(told) else ""


def _policy(request: HttpRequest, response: HttpResponseBase) -> str:
    if _is_page(request):
        return PAGES_CSP
    is_read = response.status_code >= 400 and response.headers.get("Content-Type", "").startswith("text/html")
    return ERROR_CSP if is_read else NOTHING_CSP


def _is_page(request: HttpRequest) -> bool:
    match = request.resolver_match
    return match is not None and not PAGES.isdisjoint(match.app_names)


def _explains_itself_to_a_developer(response: HttpResponseBase) -> bool:
    """Whether this may be Django's technical error page, which styles itself inline; there is none in production."""
    return bool(settings.DEBUG) and response.status_code >= 400


def _forget(**kwargs: Any) -> None:
    # Not sooner: Django logs a refusal after the last middleware has seen it.
    logs.context.set({})


request_finished.connect(_forget, dispatch_uid="backend.middleware.forget")
