"""Headers and bodies that could harm Django itself, before any view runs, are refused in order, and never by a 500."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import parse_cookie
from django.test import RequestFactory
from django.urls import reverse

from accounts.conf import MAX_BODY
from backend.bounds import ADMIN, INBOX, MAX_CONTENT_TYPE, MAX_COOKIE
from backend.handlers import Handler, Request, tell_scheme

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
    return wsgi_answer(method, content_type, path, **environ)[0]


def wsgi_answer(
    method: str, content_type: str = "application/json", path: str = "/graphql/", **environ: Any
) -> tuple[int, dict[str, str], bytes]:
    from backend.wsgi import application

    body = BODY if method == "POST" else b""
    request = RequestFactory().generic(method, path, body, **environ).environ
    request["CONTENT_TYPE"] = content_type
    started: list[Any] = []
    start: Any = lambda *both: started.extend(both)  # noqa: E731
    response: Any = application(request, start)
    content = b"".join(response)
    response.close()
    status, headers = started
    return int(status.split()[0]), dict(headers), content


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


# --- Bounds, under every server --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "content_type", "environ"),
    [
        (413, "application/json", {"CONTENT_LENGTH": str(MAX_BODY + 1)}),
        (413, "application/json", {"CONTENT_LENGTH": "9" * 5000}),
        (415, "x/y; a=" + "b" * MAX_CONTENT_TYPE, {}),
        (431, "application/json", {"HTTP_COOKIE": "a" * (MAX_COOKIE + 1)}),
        (415, "x/y; a=" + "b" * MAX_CONTENT_TYPE, {"CONTENT_LENGTH": "99999999", "HTTP_COOKIE": "a" * 9999}),
    ],
    ids=["long body", "longer body", "long type", "long cookie", "all of it"],
)
@pytest.mark.parametrize("secure", [True, False])
def test_what_is_more_than_it_may_be_is_refused_before_it_is_read(
    status: int, content_type: str, environ: dict[str, str], settings: Any, secure: bool
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    scheme = "https" if secure else "http"
    found, headers, content = wsgi_answer(
        "POST", content_type, "/admin/login/", **environ, **{"wsgi.url_scheme": scheme}
    )
    assert found == status
    assert json.loads(content)["errors"][0]["message"]
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Request-ID"]


@pytest.mark.parametrize("length", ["", "0", "-1", "many", "\xb2"])
def test_a_length_within_bounds_or_none_at_all_is_no_reason_to_refuse(length: str) -> None:
    assert wsgi("POST", CONTENT_LENGTH=length) in {200, 400}


def test_a_header_of_the_longest_length_is_served() -> None:
    longest = "application/json; a=".ljust(MAX_CONTENT_TYPE, "b")
    assert wsgi("POST", longest) == 200
    assert wsgi("GET", path="/admin/login/", HTTP_COOKIE="a=".ljust(MAX_COOKIE, "b")) == 200


def test_quoted_cookies_are_none_of_ours_and_are_not_read(read_cookies: list[str]) -> None:
    assert wsgi("GET", path="/admin/login/", HTTP_COOKIE='a=1; b="\\1;\\1"; c="x"; d=2') == 200
    assert read_cookies
    assert set(read_cookies) == {"a=1; d=2"}


@pytest.fixture
def read_cookies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Django reads as cookies; it asks for them on every path."""
    read: list[str] = []

    def noted(text: str) -> dict[str, str]:
        read.append(text)
        return parse_cookie(text)

    monkeypatch.setattr("django.core.handlers.wsgi.parse_cookie", noted)
    return read


@pytest.mark.parametrize("path", ["/graphql/", "/reset/", "/health/", "/nothing/", "/inbox/", "/administrators/"])
def test_cookies_are_not_read_where_nobody_wants_them(read_cookies: list[str], path: str) -> None:
    assert wsgi("GET", path=path, HTTP_COOKIE="a=1") == wsgi("GET", path=path, HTTP_COOKIE="a" * 100_000)
    assert set(read_cookies) <= {""}


def test_cookies_are_read_in_the_admin_and_in_the_inbox_of_development(read_cookies: list[str], settings: Any) -> None:
    wsgi("GET", path=f"{ADMIN}login/", HTTP_COOKIE="a=1")
    settings.DEBUG = True
    wsgi("GET", path=INBOX, HTTP_COOKIE="b=2")
    assert [text for text in read_cookies if text] == ["a=1", "b=2"]
    assert reverse("admin:index") == ADMIN


def test_no_file_is_taken_from_a_form() -> None:
    fields = {"a": "1", "b": SimpleUploadedFile("b.txt", b"content")}
    request = RequestFactory().post("/admin/login/", fields)
    assert request.POST.dict() == {"a": "1"}
    assert not request.FILES


def test_every_server_gets_the_same_bounds() -> None:
    from backend import asgi as asynchronous
    from backend import wsgi as synchronous

    assert isinstance(synchronous.application, Handler)
    assert asynchronous.application._handler is synchronous.application


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_X_FORWARDED_PROTO": "https"},
        {"HTTP_X_FORWARDED_PROTO": "HTTPS"},
        {"HTTP_CLOUDFRONT_FORWARDED_PROTO": "https"},
        {"HTTP_X_FORWARDED_SSL": "on"},
        {"HTTP_FORWARDED": "proto=https"},
        {"HTTP_FORWARDED": 'for=192.0.2.60;Proto="HTTPS";by=203.0.113.43, for=198.51.100.17'},
    ],
)
def test_a_trusted_proxy_may_tell_the_scheme_in_any_usual_way(settings: Any, headers: dict[str, str]) -> None:
    assert is_secure(settings, headers, proxies=1)
    assert not is_secure(settings, headers, proxies=0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_X_FORWARDED_PROTO": "http"},
        {"HTTP_FORWARDED": "proto=http"},
        {"HTTP_FORWARDED": "for=proto;host=https"},
        {"HTTP_X_FORWARDED_SSL": "off"},
        {"HTTP_X_FORWARDED_PROTO": "http", "HTTP_FORWARDED": "proto=https"},
    ],
)
def test_plain_http_behind_a_trusted_proxy_is_plain_http(settings: Any, headers: dict[str, str]) -> None:
    assert not is_secure(settings, headers, proxies=1)


def is_secure(settings: Any, headers: dict[str, str], *, proxies: int) -> bool:
    settings.TRUSTED_PROXIES = proxies
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if proxies else None
    environ = {**RequestFactory().get("/").environ, **headers}
    tell_scheme(environ)
    return Request(environ).is_secure()


# --- Chunks ----------------------------------------------------------------------------------------------------------


class Breaking(io.BytesIO):
    """A body whose chunks end in the middle, which each server says by an error of its own."""

    def read(self, size: int | None = -1) -> bytes:
        raise RuntimeError("no chunk")


@pytest.mark.parametrize(
    ("terminated", "length", "body", "status"),
    [
        (True, "", io.BytesIO(BODY), 200),
        (True, "5", io.BytesIO(BODY), 200),
        (True, "", io.BytesIO(b" " * MAX_BODY + BODY), 413),
        (True, "", Breaking(), 400),
        (False, "", io.BytesIO(BODY), 411),
        (False, str(len(BODY)), io.BytesIO(BODY), 400),
    ],
)
def test_chunks_are_read_where_the_server_undoes_them_and_refused_elsewhere(
    terminated: bool, length: str, body: io.BytesIO, status: int
) -> None:
    told: dict[str, Any] = {
        "wsgi.input": body,
        "wsgi.input_terminated": terminated,
        "HTTP_TRANSFER_ENCODING": "chunked",
    }
    assert wsgi("POST", CONTENT_LENGTH=length, **told) == status


@pytest.mark.parametrize(("body", "status"), [(BODY, 200), (b" " * MAX_BODY + BODY, 413), (b"", 400)])
def test_a_body_of_http_2_has_neither_a_length_nor_chunks(body: bytes, status: int) -> None:
    told: dict[str, Any] = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
    assert wsgi("POST", CONTENT_LENGTH="", **told) == status
