"""Django's entry point, hardened where a header or a body could harm it before any of our code runs."""

from __future__ import annotations

from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

from backend import bounds


class Request(WSGIRequest):
    """A request whose Content-Type may say what it likes.

    Django raises on a charset that is none (RFC 2231's `charset*=x''%FF`), which nobody catches there, and decodes the
    query string by whatever codec is named, even one that makes no text. Here an unreadable Content-Type counts as
    none, which each view refuses as it refuses any other it does not take, and text is UTF-8.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:
            self.content_type, self.content_params = "", {}


class Handler(WSGIHandler):
    """The WSGI application: for WSGI servers as it is, and for `backend.front.Front`, which calls it in its threads."""

    request_class = Request

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        bounds.restrain(environ)
        return super().__call__(environ, start_response)
