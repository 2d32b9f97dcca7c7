"""The system's Chromium with the cable out: it reaches the live server and nothing else, and all it does is noted.

A test module that wants it says `chromium = browser.chromium` and `visit = browser.visit`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE = 15_000
"""Milliseconds; a busy machine is not a failure."""
TELL_VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP ${event.violatedDirective}: ${event.blockedURI}`))"""


@dataclass
class Visit:
    """One page in a browser profile of its own, with everything that it asked for and complained about."""

    page: Page
    origin: str
    requests: list[Request] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Load a page afresh, even where only the fragment differs from what is open."""
        self.page.goto("about:blank")
        self.page.goto(self.origin + path)
        return self.page

    @property
    def posted(self) -> list[dict[str, Any]]:
        """The GraphQL requests, decoded."""
        return [json.loads(request.post_data or "") for request in self.requests if request.method == "POST"]

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Playwright's own wait_for_function has the page evaluate a string, which a good policy forbids."""
        deadline = time.monotonic() + PATIENCE / 1000
        while not done():
            assert time.monotonic() < deadline, "waited in vain"
            self.page.wait_for_timeout(20)

    def watch(self, context: BrowserContext) -> None:
        context.set_default_timeout(PATIENCE)
        context.add_init_script(TELL_VIOLATIONS)
        context.route(lambda url: not url.startswith(self.origin + "/"), self._refuse)
        context.on("request", lambda request: self.requests.append(request))
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def _refuse(self, route: Route) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")


# One browser for each file and no longer: as long as Playwright runs, its event loop is this thread's, and tests of
# other files that start a loop would fail.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        pytest.skip("No Chromium is installed here: install the package chromium (on Ubuntu: chromium-browser).")
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # For the same reason Django takes a test for asynchronous code and would refuse it the database.
        patch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=binary, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, live_server: Any) -> Iterator[Visit]:
    """A fresh page. Whatever a test looks at, the page must not have reached outside or complained meanwhile."""
    context = chromium.new_context(base_url=live_server.url)
    seen = Visit(context.new_page(), live_server.url)
    seen.watch(context)
    yield seen
    context.close()
    assert not seen.outside, seen.outside
    assert not seen.complaints, seen.complaints
