"""The production server, started as `make serve` starts it: a whole reset over HTTP and SMTP, its headers, its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from harness.deployment import (
    CROWD,
    HOST,
    PATIENCE,
    PROXIED,
    REQUEST,
    RESET,
    VERIFY,
    Running,
    Site,
    ask,
    is_sent,
    mailed_to,
    request_all,
    site_in,
    wait_until,
)
from harness.smtp_server import DROP, HOLD
from tests.conftest import NEW_PASSWORD

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Path, prepared: Path) -> Iterator[Site]:
    """A deployment to stop and start."""
    with site_in(tmp_path, prepared) as site:
        yield site


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("shared"), prepared) as site:
        yield site


@pytest.fixture(scope="module")
def server(shared_site: Site) -> Iterator[Running]:
    """A running server for the tests that only talk to it."""
    with shared_site.serving() as server:
        yield server


# --- The way of a reset ----------------------------------------------------------------------------------------------


def test_a_whole_reset_over_http_and_smtp(shared_site: Site, server: Running) -> None:
    email = CROWD[0]
    reset = ask(server, REQUEST, input={"email": email.upper()})["reset"]
    shared_site.mail.wait_until(lambda: shared_site.letters_to(email))
    (letter,) = shared_site.letters_to(email)
    assert reset["matchPhrase"] in letter.text
    assert f"https://{HOST}/reset/#token=" in letter.text
    assert is_sent(server, reset["requestId"])

    host, code = letter.text.splitlines()[-1].split(" #")
    assert host == f"@{HOST}"
    token = ask(server, VERIFY, input={"requestId": reset["requestId"], "code": code})["resetToken"]
    done = ask(server, RESET, input={"resetToken": token, "newPassword": NEW_PASSWORD})["reset"]
    assert done == {"status": "COMPLETED", "isUserPasswordUpdated": True}
    shared_site.mail.wait_until(lambda: len(shared_site.letters_to(email)) == 2)
    assert "was changed" in shared_site.letters_to(email)[1].text


def test_nobody_is_mailed_about_an_unknown_address(shared_site: Site, server: Running) -> None:
    reset = ask(server, REQUEST, input={"email": "nobody@example.com"})["reset"]
    wait_until(lambda: is_sent(server, reset["requestId"]))
    ask(server, REQUEST, input={"email": CROWD[1]})
    shared_site.mail.wait_until(lambda: shared_site.letters_to(CROWD[1]))
    assert shared_site.letters_to("nobody@example.com") == []


# --- What it serves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/static/admin/css/base.css", "text/css"),
        ("/static/account_recovery/reset.css", "text/css"),
        ("/static/account_recovery/reset.js", "text/javascript"),
    ],
)
def test_static_files_are_served(server: Running, path: str, kind: str) -> None:
    response = requests.get(server.url + path, headers=PROXIED, timeout=30)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(kind)


@pytest.mark.parametrize(
    ("method", "path", "status", "more"),
    [
        ("GET", "/graphql/", 400, {}),
        ("PUT", "/graphql/", 405, {}),
        ("POST", "/graphql/", 413, {}),
        ("POST", "/graphql/", 415, {"Content-Type": "application/json; charset*=x''%FF"}),
        ("GET", "/graphql/", 406, {"Accept": "application/json; q*=x''%FF"}),
        ("GET", "/reset/", 200, {}),
        ("GET", "/admin/login/", 200, {}),
        ("GET", "/static/account_recovery/reset.css", 200, {}),
        ("GET", "/static/account_recovery/no.css", 404, {}),
        ("GET", "/nothing/", 404, {}),
        ("GET", "/reset/", 400, {"Host": "attacker.example"}),
    ],
)
def test_every_answer_carries_the_security_headers(
    server: Running, method: str, path: str, status: int, more: dict[str, str]
) -> None:
    body = "x" * 70_000 if status == 413 else ""
    sent = {**PROXIED, "Content-Type": "application/json", **more}
    response = requests.request(method, server.url + path, data=body, headers=sent, timeout=30)
    headers = response.headers
    assert response.status_code == status
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == ("same-origin" if path.startswith("/admin/") else "no-referrer")
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert ("no-store" in headers["Cache-Control"]) is ("css" not in path or status == 404)
    assert headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/graphql/", "/reset/"])
def test_plain_http_is_sent_to_https(server: Running, path: str) -> None:
    headers = {**PROXIED, "X-Forwarded-Proto": "http"}
    response = requests.get(server.url + path, headers=headers, timeout=30, allow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (301, f"https://{HOST}{path}")


def test_plain_http_is_served_where_the_redirect_is_off(tmp_path: Path, prepared: Path) -> None:
    with site_in(tmp_path, prepared, SECURE_SSL_REDIRECT="0", TRUSTED_PROXIES="0") as site, site.serving() as server:
        response = requests.get(f"{server.url}/reset/", headers={"Host": HOST}, timeout=30, allow_redirects=False)
        assert response.status_code == 200
        assert "Strict-Transport-Security" not in response.headers


def test_another_host_name_is_refused(server: Running) -> None:
    headers = {**PROXIED, "Host": "attacker.example"}
    assert requests.get(f"{server.url}/reset/", headers=headers, timeout=30).status_code == 400


def test_the_inbox_of_development_is_not_there(server: Running) -> None:
    assert requests.get(f"{server.url}/inbox/", headers=PROXIED, timeout=30).status_code == 404


def test_the_root_leads_people_to_the_page(server: Running) -> None:
    answer = requests.get(f"{server.url}/", headers=PROXIED, timeout=30, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/reset/")


def test_graphiql_is_not_there(server: Running) -> None:
    headers = {**PROXIED, "Accept": "text/html"}
    response = requests.get(f"{server.url}/graphql/", headers=headers, timeout=30)
    assert response.status_code in {400, 406}
    assert "html" not in response.headers["Content-Type"]


# --- How it ends -----------------------------------------------------------------------------------------------------


def test_a_stopping_server_mails_what_it_has_queued(site: Site) -> None:
    site.mail.on("DATA", HOLD)
    with site.serving() as server:
        handles = request_all(server)
        wait_until(lambda: all(is_sent(server, handle) for handle in handles))
        assert site.mail.letters == []
        server.process.send_signal(signal.SIGTERM)
        site.mail.release("DATA")
        assert server.process.wait(PATIENCE) == 0
    assert mailed_to(site) == CROWD


def test_what_was_accepted_is_mailed_after_a_stop_and_a_start(site: Site) -> None:
    with site.serving() as server:
        request_all(server)
        server.stop()
    with site.serving():
        site.mail.wait_until(lambda: set(mailed_to(site)) == set(CROWD))
    assert mailed_to(site) == CROWD


def test_what_was_accepted_without_a_mail_server_is_mailed_after_a_start(site: Site) -> None:
    site.mail.on("CONNECT", DROP)
    with site.serving() as server:
        request_all(server)
        server.stop()
    assert site.mail.letters == []
    site.mail.release("CONNECT")
    with site.serving():
        site.mail.wait_until(lambda: set(mailed_to(site)) == set(CROWD))
    assert mailed_to(site) == CROWD
