"""Security headers and cookies: every answer has them, whoever gives it, refusals and failures included."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path

from backend.urls import urlpatterns as real_urls
from tests import browser
from tests.browser import Visit
from tests.conftest import API, PASSWORD, PostOffice
from tests.test_environment import PRODUCTION, load

chromium, visit = browser.chromium, browser.visit

QUERY = {"query": "{ __typename }"}
ALWAYS = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""OWASP ASVS 5.0 sections 3.4.1 to 3.4.8 and 3.5.8."""


def failing(request: HttpRequest) -> HttpResponse:
    raise RuntimeError


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def suspicious(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation


urlpatterns = [
    *real_urls,
    path("failing/", failing),
    path("forbidden/", forbidden),
    path("suspicious/", suspicious),
    path("inbox/", include("django_mail_preview.urls")),
]


def anybody(request: HttpRequest) -> bool:
    return True


def post_json(client: Client, body: Any = QUERY, **more: Any) -> Any:
    return client.post("/graphql/", body, content_type="application/json", secure=True, **more)


def get(address: str, **headers: str) -> Callable[[Client], Any]:
    return lambda client: client.get(address, secure=True, headers=headers)


ANSWERS: dict[str, tuple[int, Callable[[Client], Any]]] = {
    "a result": (200, post_json),
    "a result by GET": (200, get("/graphql/?query={__typename}")),
    "no document": (200, lambda client: post_json(client, {"query": "{"})),
    "no query": (400, lambda client: post_json(client, {"query": 1})),
    "no JSON": (400, lambda client: post_json(client, b"{")),
    "no JSON type": (415, lambda client: client.post("/graphql/", {"query": "{"}, secure=True)),
    "no such method": (405, lambda client: client.put("/graphql/", secure=True)),
    "nothing acceptable": (406, lambda client: post_json(client, headers={"Accept": "image/png"})),
    "too long": (413, lambda client: post_json(client, b"x" * 70_000)),
    "a preflight": (
        200,
        lambda client: client.options(
            "/graphql/",
            secure=True,
            headers={"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"},
        ),
    ),
    "GraphiQL": (200, get("/graphql/", Accept="text/html")),
    "the reset page": (200, get("/reset/")),
    "the reset page by PUT": (405, lambda client: client.put("/reset/", secure=True)),
    "the way to it": (302, get("/.well-known/change-password")),
    "the login": (200, get("/admin/login/")),
    "a wrong login": (200, lambda client: client.post("/admin/login/", {"username": "a"}, secure=True)),
    "the admin, not logged in": (302, get("/admin/")),
    "a forged form": (403, lambda _: Client(enforce_csrf_checks=True).post("/reset/", secure=True)),
    "a missing slash": (301, get("/admin")),
    "a stylesheet": (200, get("/static/account_recovery/reset.css")),
    "no stylesheet": (404, get("/static/account_recovery/no.css")),
    "nothing": (404, get("/nothing/")),
    "another host": (400, get("/reset/", Host="attacker.example")),
    "a broken host": (400, get("/graphql/", Host="a b")),
    "too many parameters": (400, get("/graphql/?" + "a&" * 1001)),
    "something suspicious": (400, get("/suspicious/")),
    "something forbidden": (403, get("/forbidden/")),
    "a failure": (500, get("/failing/")),
}
IN_THE_ADMIN = {"the login", "a wrong login", "the admin, not logged in"}


@pytest.fixture
def client(db: None) -> Client:
    return Client(raise_request_exception=False)


def answered(client: Client, answer: str) -> Any:
    response = ANSWERS[answer][1](client)
    if response.streaming:
        assert response.getvalue()
    response.close()
    return response


def policy_of(response: Any) -> dict[str, list[str]]:
    return {name: sources for name, *sources in map(str.split, response["Content-Security-Policy"].split("; "))}


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_has_the_headers(client: Client, answer: str) -> None:
    status, response = ANSWERS[answer][0], answered(client, answer)
    assert response.status_code == status
    expected = ALWAYS | {"Referrer-Policy": "same-origin"} if answer in IN_THE_ADMIN else ALWAYS
    assert {name: response.headers.get(name) for name in ALWAYS} == expected
    assert "camera=()" in response["Permissions-Policy"]
    assert re.fullmatch(r"[0-9a-f]{32}", response["X-Request-ID"])


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_has_a_policy_that_allows_little(client: Client, answer: str) -> None:
    policy = policy_of(answered(client, answer))
    for directive in ("default-src", "object-src", "base-uri", "frame-ancestors"):
        assert policy[directive] == ["'none'"]
    assert policy["form-action"] in (["'none'"], ["'self'"])
    allowed = {source for sources in policy.values() for source in sources} - {"'none'", "'self'", "data:"}
    assert allowed == ({"'unsafe-inline'"} if answer == "GraphiQL" else set())
    assert "data:" not in policy.get("script-src", [])


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("answer", ANSWERS)
def test_nothing_but_files_is_kept_by_a_cache(client: Client, answer: str) -> None:
    response = answered(client, answer)
    assert ("no-store" in response["Cache-Control"]) is (answer != "a stylesheet")


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("answer", ANSWERS)
def test_text_says_its_charset(client: Client, answer: str) -> None:
    kind = answered(client, answer).headers.get("Content-Type", "")
    assert not kind or re.search(r"charset=.?utf-8", kind)


def test_an_error_page_for_developers_may_style_itself(client: Client, settings: Any) -> None:
    settings.DEBUG = True
    assert "Content-Security-Policy" not in get("/nothing/")(client).headers
    assert policy_of(get("/reset/")(client))["default-src"] == ["'none'"]


def test_plain_http_is_told_all_but_to_use_https(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    for host, status in (("accounts.example.com", 301), ("attacker.example", 400)):
        response = client.get("/reset/", headers={"Host": host})
        assert response.status_code == status
        told = {name: response.headers.get(name) for name in ALWAYS}
        assert told == {**ALWAYS, "Strict-Transport-Security": None}


def test_files_are_for_this_site_alone(client: Client) -> None:
    assert "Access-Control-Allow-Origin" not in answered(client, "a stylesheet").headers


# --- Hosts -----------------------------------------------------------------------------------------------------------

FORWARDED = {
    "X-Forwarded-Host": "attacker.example",
    "X-Forwarded-Server": "attacker.example",
    "X-Forwarded-Port": "8443",
    "X-Host": "attacker.example",
    "Forwarded": "host=attacker.example",
}


@pytest.mark.parametrize("proxies", [0, 1])
def test_a_forwarded_host_is_never_believed(client: Client, settings: Any, proxies: int) -> None:
    settings.TRUSTED_PROXIES, settings.SECURE_SSL_REDIRECT = proxies, True
    response = client.get("/admin", headers={"Host": "accounts.example.com", **FORWARDED}, secure=True)
    assert response["Location"] == "/admin/"
    response = client.get("/reset/", headers={"Host": "accounts.example.com", **FORWARDED})
    assert response["Location"] == "https://accounts.example.com/reset/"


@pytest.mark.parametrize("proxies", [0, 1])
@pytest.mark.parametrize("host", ["localhost", "testserver:8443", "127.0.0.1"])
def test_no_host_of_a_request_reaches_a_mail(
    api: API, post: PostOffice, user: Any, settings: Any, host: str, proxies: int
) -> None:
    settings.TRUSTED_PROXIES = proxies
    query = 'mutation { requestPasswordReset(input: {email: "ada@example.com"}) { __typename } }'
    assert api.post({"query": query}, Host=host, Origin=f"https://{host}", **FORWARDED).status_code == 200
    (letter,) = post.deliver()
    written = str(letter.message.message())
    assert "https://accounts.example.com/reset/#token=" in written
    assert "attacker" not in written
    assert host.split(":")[0] not in written


# --- Cookies ---------------------------------------------------------------------------------------------------------


def test_in_production_cookies_are_bound_to_this_host_and_to_https() -> None:
    given = load(**PRODUCTION)
    assert given["SESSION_COOKIE_NAME"] == "__Host-sessionid"
    assert given["CSRF_COOKIE_NAME"] == "__Host-csrftoken"
    assert given["SESSION_COOKIE_SECURE"] is given["CSRF_COOKIE_SECURE"] is given["CSRF_COOKIE_HTTPONLY"] is True
    assert "SESSION_COOKIE_DOMAIN" not in given


def test_in_development_cookies_work_without_https() -> None:
    given = load(DEBUG="1", SECRET_KEY="x")
    assert given["SESSION_COOKIE_SECURE"] is given["CSRF_COOKIE_SECURE"] is False
    assert "SESSION_COOKIE_NAME" not in given


def test_the_cookies_of_the_admin(client: Client, make_user: Callable[..., Any], settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    make_user("support@example.com", "support", is_staff=True, is_superuser=True)
    client.get("/admin/login/", secure=True)
    client.post("/admin/login/", {"username": "support", "password": PASSWORD}, secure=True)
    assert set(client.cookies) == {"__Host-sessionid", "__Host-csrftoken"}
    for cookie in client.cookies.values():
        assert (cookie["secure"], cookie["httponly"], cookie["path"], cookie["domain"]) == (True, True, "/", "")
        assert cookie["samesite"] in {"Lax", "Strict"}


@pytest.mark.parametrize("address", ["/reset/", "/graphql/?query={__typename}", "/nothing/"])
def test_outside_of_the_admin_there_are_no_cookies(client: Client, address: str) -> None:
    client.get(address, secure=True)
    assert not client.cookies


# --- In a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def plain_cookies(settings: Any) -> None:
    """A browser takes no __Host- cookie over plain HTTP, which is all that the tests' server speaks."""
    settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME = "sessionid", "csrftoken"


@pytest.mark.browser
@pytest.mark.usefixtures("plain_cookies")
def test_the_admin_works_under_its_policy(visit: Visit, api: API, make_user: Callable[..., Any]) -> None:
    """Its scripts build widgets, its lists filter and act; the fixture fails the test where the policy hinders them."""
    user = make_user("support@example.com", "support", is_staff=True, is_superuser=True)
    api.request("support@example.com")
    page = visit.open("/admin/login/")
    page.get_by_label("Username").fill("support")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Users").first.click()
    page.wait_for_url("**/admin/auth/user/")  # with its scripts, which make the box tick the others
    page.locator("#action-toggle").check()
    page.get_by_text("1 of 1 selected").wait_for()
    visit.open(f"/admin/auth/user/{user.pk}/change/")
    page.locator(".datetimeshortcuts :text('Today')").first.click()
    page.locator("#id_groups_to").wait_for()
    page.locator("a.related-widget-wrapper-link, #id_user_permissions_add").first.wait_for()
    for address in ("/admin/", "/admin/auth/user/add/", "/admin/account_recovery/forgetpassword/?status=SENT"):
        visit.open(address)
    page.locator("#changelist-filter").wait_for()
    visit.open("/admin/account_recovery/forgetpassword/")
    page.locator("#result_list tbody a").first.click()
    page.get_by_text("Timeline", exact=False).first.wait_for()
    policy = visit.requests[0].response()
    assert policy is not None
    assert "unsafe-inline" not in policy.headers["content-security-policy"]


@pytest.mark.browser
@pytest.mark.urls(__name__)
@pytest.mark.usefixtures("plain_cookies")
def test_the_inbox_works_under_its_policy(visit: Visit, db: None, settings: Any, tmp_path: Path) -> None:
    settings.MAIL_PREVIEW_ALLOW = f"{__name__}.anybody"
    settings.MAIL_PREVIEW_ROOT = tmp_path
    from django_mail_preview.backends import EmailBackend

    message = mail.EmailMultiAlternatives("A subject", "the text", "a@example.com", ["b@example.com"])
    message.attach_alternative("<p style='color: red'>the page</p>", "text/html")
    backend: Any = EmailBackend()
    assert backend.send_messages([message]) == 1
    page = visit.open("/inbox/")
    page.get_by_role("link", name="A subject").first.click()
    page.frame_locator("iframe").get_by_text("the page").wait_for()
    page.get_by_role("link", name="Plain text").click()
    page.get_by_text("the text").wait_for()


@pytest.mark.browser
def test_the_reset_page_works_under_its_policy(visit: Visit, db: None) -> None:
    visit.open("/reset/")
    visit.page.locator("form").first.wait_for(state="attached")
