"""Headers that make Django itself stumble, before any view runs, are refused in order and never answered by a 500."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.test import RequestFactory

pytestmark = pytest.mark.django_db  # for Django looks after its connections around each request

BODY = b'{"query": "{ __typename }"}'
UNREADABLE = [
    "application/json; charset*=x''%FF",
    "application/json; charset*0*=x''a; charset*1=b",
    "application/json; charset=\0",
]
NO_TEXT = ["application/json; charset=hex", "application/json; charset=undefined", "application/json; charset=idna"]
ACCEPTED = ["application/json; q*=x''%FF", "text/html; q*0*=x''a"]


def wsgi(method: str, content_type: str = "application/json", path: str = "/graphql/", **environ: Any) -> int:
    """Send one request through the application that servers load; returns the status."""
    from backend.wsgi import application

    body = BODY if method == "POST" else b""
    request = RequestFactory().generic(method, path, body, **environ).environ
    request["CONTENT_TYPE"] = content_type
    statuses: list[str] = []
    start: Any = lambda status, _: statuses.append(status)  # noqa: E731
    response: Any = application(request, start)
    response.close()
    (status,) = statuses
    return int(status.split()[0])


def asgi(content_type: str) -> int:
    """The same through the application for ASGI servers."""
    from backend.asgi import application

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/graphql/",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", content_type.encode("latin-1"))],
    }

    async def ask() -> Any:
        server: Any = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call]
        await server.send_input({"type": "http.request", "body": BODY})
        start = await server.receive_output()
        await server.receive_output()
        await server.wait()
        return start["status"]

    return int(asyncio.run(ask()))


def test_an_honest_request_is_served() -> None:
    assert wsgi("POST") == asgi("application/json; charset=utf-8") == 200


@pytest.mark.parametrize("content_type", [*UNREADABLE, *NO_TEXT])
def test_a_content_type_that_names_no_charset_is_an_unsupported_one(content_type: str) -> None:
    assert wsgi("POST", content_type) == 415
    assert asgi(content_type) == 415


@pytest.mark.parametrize("path", ["/graphql/?query={__typename}", "/reset/?next=%FF", "/admin/login/?next=%FF"])
@pytest.mark.parametrize("content_type", [*UNREADABLE, *NO_TEXT])
def test_a_query_string_is_utf_8_whatever_the_content_type_says(path: str, content_type: str) -> None:
    assert wsgi("GET", content_type, path) == 200


@pytest.mark.parametrize("accept", ACCEPTED)
def test_an_accept_header_that_cannot_be_read_accepts_nothing(accept: str) -> None:
    assert wsgi("POST", HTTP_ACCEPT=accept) == 406


def test_a_thousand_parameters_are_too_many() -> None:
    assert wsgi("GET", path="/graphql/?" + "a&" * 1001) == 400
