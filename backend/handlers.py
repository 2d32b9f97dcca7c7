"""Django's entry point, hardened where a header or a body could harm it before any of our code runs."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

from backend import bounds

FORWARDED_PROTO = re.compile(r"(?:^|[;,\s])proto=\"?(\w+)", re.IGNORECASE)
"""The scheme in a Forwarded header: RFC 7239 section 5.4."""

MAX_CONTENT_TYPE = 1000
"""Characters of a Content-Type that are read."""


def tell_scheme(environ: dict[str, Any]) -> None:
    """Put what a trusted proxy says of the scheme where Django looks for it, in whichever of the usual ways it says so.

    Django compares one header, letter by letter. Behind a proxy with another it redirects to HTTPS without an end.
    """
    if not settings.TRUSTED_PROXIES:
        return
    forwarded = FORWARDED_PROTO.search(environ.get("HTTP_FORWARDED", ""))
    said = (
        environ.get("HTTP_X_FORWARDED_PROTO")
        or environ.get("HTTP_CLOUDFRONT_FORWARDED_PROTO")
        or ("https" if environ.get("HTTP_X_FORWARDED_SSL", "").lower() == "on" else "")
        or (forwarded[1] if forwarded else "")
    )
    if said:
        environ["HTTP_X_FORWARDED_PROTO"] = said.lower()


class Request(WSGIRequest):
    """A request that tolerates a malformed Content-Type.

    Django raises on a charset that is none (RFC 2231's `charset*=x''%FF`), which nobody catches there, and decodes the
    query string by whatever codec is named, even one that makes no text. Here an unreadable Content-Type counts as
    none, which each view refuses as it refuses any other it does not take, and text is UTF-8.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        self.content_type, parameters = _content_type(meta.get("CONTENT_TYPE", "")[:MAX_CONTENT_TYPE])
        self.content_params = dict(parameters)


@lru_cache(64)
def _content_type(header: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    try:
        content_type, parameters = parse_header_parameters(header)
    except ValueError:
        return "", ()
    return content_type, tuple(parameters.items())


class Handler(WSGIHandler):
    """The WSGI application: for WSGI servers as it is, and for `backend.front.Front`, which calls it in its threads."""

    request_class = Request

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        bounds.restrain(environ)
        tell_scheme(environ)
        return super().__call__(environ, start_response)
