"""Clients that frontends are written with, in a page of another origin: a real browser, a real preflight."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.signals import request_started
from playwright.sync_api import Browser, Error, Page, Request

from tests import browser
from tests.npm import npm

pytestmark = pytest.mark.browser
chromium = browser.chromium
CLIENTS = ["apollo", "urql", "apolloPersisted", "urqlPersisted"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server of its own for the files of a frontend; yields its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A frontend's own server; returns its origin."""
    folder = tmp_path_factory.mktemp("frontend")
    bundle = npm("bundle")
    assert bundle.returncode == 0, bundle.stderr
    (folder / "clients.js").write_text(bundle.stdout)
    (folder / "index.html").write_text('<!doctype html><script type="module" src="clients.js"></script>')
    with serving(folder) as origin:
        yield origin


@pytest.fixture
def page(chromium: Browser, frontend: str) -> Iterator[Page]:
    context = chromium.new_context()
    context.set_default_timeout(browser.PATIENCE)
    page = context.new_page()
    page.goto(frontend)
    yield page
    context.close()


@pytest.fixture
def asked(live_server: Any) -> Iterator[list[tuple[str, str]]]:
    """The methods of the requests that reached the server, each with the origin it came from."""
    seen: list[tuple[str, str]] = []

    def note(sender: object, environ: dict[str, str], **kwargs: Any) -> None:
        seen.append((environ["REQUEST_METHOD"], environ.get("HTTP_ORIGIN", "")))

    request_started.connect(note)
    yield seen
    request_started.disconnect(note)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_another_origin_walks_up_to_a_wrong_code(
    page: Page, frontend: str, live_server: Any, settings: Any, asked: list[tuple[str, str]], client: str
) -> None:
    settings.CORS_ALLOWED_ORIGINS = [frontend]
    walked = page.evaluate(f"(url) => window.{client}(url, 'ada@example.com')", f"{live_server.url}/graphql/")
    assert (walked["requested"], walked["status"]) == ("RequestPasswordResetSuccess", "QUEUED")
    assert (walked["shown"]["status"], walked["shown"]["attemptsLeft"]) == ("QUEUED", 5)
    assert (walked["verified"]["__typename"], walked["verified"]["attemptsLeft"]) == ("InvalidCodeError", 4)
    assert "Cannot query field 'nothing'" in walked["refusal"]
    assert ("OPTIONS", frontend) in asked
    assert {method for method, _ in asked} == {"OPTIONS", "POST"}


@pytest.mark.parametrize("client", ["apolloPersisted", "urqlPersisted"])
def test_a_hash_alone_is_answered_so_that_the_text_comes_and_no_further_hash(
    page: Page, frontend: str, live_server: Any, settings: Any, client: str
) -> None:
    settings.CORS_ALLOWED_ORIGINS = [frontend]
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))
    page.evaluate(f"(url) => window.{client}(url, 'ada@example.com')", f"{live_server.url}/graphql/")
    sent: list[Any] = [request.post_data_json for request in requests if request.method == "POST"]
    hashes = ["query" not in body and "persistedQuery" in body["extensions"] for body in sent]
    assert hashes == [True] + [False] * 4


def test_a_persisted_query_by_get_is_told_that_its_handle_must_not_stand_in_a_url(
    page: Page, frontend: str, live_server: Any, settings: Any
) -> None:
    """As urql's exchange comes; `preferGetForPersistedQueries: false` is what the README asks for."""
    settings.CORS_ALLOWED_ORIGINS = [frontend]
    url = f"{live_server.url}/graphql/"
    with pytest.raises(Error, match="A query with a requestId must be sent by POST: URLs are logged"):
        page.evaluate("(url) => window.urqlPersistedByGet(url, 'ada@example.com')", url)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_origin_that_is_not_listed_gets_no_further_than_the_preflight(
    page: Page, frontend: str, live_server: Any, settings: Any, asked: list[tuple[str, str]], client: str
) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate(f"(url) => window.{client}(url, 'ada@example.com')", f"{live_server.url}/graphql/")
    assert set(asked) == {("OPTIONS", frontend)}
