"""Django's entry points, hardened where a header alone could make them fail before any of our code runs."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest
from django.utils.http import parse_header_parameters


class _AnyContentType(HttpRequest):
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


class Request(_AnyContentType, WSGIRequest):
    pass


class AsyncRequest(_AnyContentType, ASGIRequest):
    pass


class Handler(WSGIHandler):
    """The WSGI application."""

    request_class = Request


class AsyncHandler(ASGIHandler):
    """The ASGI application."""

    request_class = AsyncRequest
