"""The examples for frontends: each is opened in Chromium, from another origin, and walked through to a new password."""

from __future__ import annotations

import io
import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from accounts.recovery import live
from harness.deployment import ROOT
from tests import browser
from tests.conftest import NEW_PASSWORD, PostOffice
from tests.npm import npm
from tests.test_clients import serving

chromium = browser.chromium
EXAMPLES = ROOT / "examples"
AS_THEY_ARE = ["fetch", "web-component"]
BUILT = {"react-apollo": "main.tsx", "urql": "main.js", "vue": "main.js"}
ENDPOINT = "http://127.0.0.1:8000/graphql/"


def put_together(example: str, folder: Path, endpoint: str) -> None:
    """What its own server would serve: the files as they are, or the page and what a bundler makes of the rest."""
    if example in BUILT:
        bundle = npm("example", "--", str(EXAMPLES / example / BUILT[example]))
        assert bundle.returncode == 0, bundle.stderr
        (folder / "main.js").write_text(bundle.stdout)
        shutil.copy(EXAMPLES / example / "index.html", folder)
    else:
        shutil.copytree(EXAMPLES / example, folder, dirs_exist_ok=True)
    page = folder / "index.html"
    assert ENDPOINT in page.read_text()
    page.write_text(page.read_text().replace(ENDPOINT, endpoint))


@pytest.fixture
def open_example(
    chromium: Browser, live_server: Any, settings: Any, tmp_path: Path
) -> Iterator[Callable[[str], tuple[Page, list[str]]]]:
    """Serve an example and open it; returns its page, and what the browser complains of."""
    contexts, servers = [], []

    def open_it(example: str) -> tuple[Page, list[str]]:
        put_together(example, tmp_path, f"{live_server.url}/graphql/")
        server = serving(tmp_path)
        servers.append(server)
        origin = server.__enter__()
        settings.CORS_ALLOWED_ORIGINS = [origin]
        context = chromium.new_context()
        contexts.append(context)
        context.set_default_timeout(browser.PATIENCE)
        complaints: list[str] = []

        def hear(message: ConsoleMessage) -> None:
            # The server here has no icon for the browser's tab.
            if message.type in {"error", "warning"} and "favicon" not in message.location.get("url", ""):
                complaints.append(message.text)

        context.on("console", hear)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        page = context.new_page()
        page.goto(origin)
        return page, complaints

    yield open_it
    for context in contexts:
        context.close()
    for server in servers:
        server.__exit__(None, None, None)


@pytest.mark.browser
@pytest.mark.parametrize("example", [*AS_THEY_ARE, *BUILT])
def test_an_example_leads_to_a_new_password(
    open_example: Any, post: PostOffice, user: Any, settings: Any, monkeypatch: pytest.MonkeyPatch,
    transactional_db: None, example: str,
) -> None:  # fmt: skip
    settings.DEBUG = example == "urql"  # for live status, which a server of threads has in development alone
    monkeypatch.setattr(live, "TICK", 0.05)
    page, complaints = open_example(example)
    page.get_by_label("Email address").fill("nonsense@")
    page.get_by_label("Email address").fill("ada@example.com")
    page.get_by_role("button", name="Send the email").click()
    page.get_by_label("Code from the email").wait_for()
    letter = post.deliver_one()
    phrase = page.get_by_text("these two words").inner_text().rpartition(": ")[2]
    assert phrase in letter.text
    if example == "urql":
        expect(page.get_by_text("Status: SENT")).to_be_visible()
    page.get_by_label("Code from the email").fill("000000")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("That is not the code.")).to_be_visible()
    page.get_by_label("Code from the email").fill(letter.code)
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("New password").fill("short")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_text("That password will not do.")).to_be_visible()
    page.get_by_label("New password").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_text("Password changed. You can sign in now.")).to_be_visible()
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)
    assert complaints == []


@pytest.mark.browser
def test_a_page_notices_that_the_email_was_used_elsewhere(
    open_example: Any, post: PostOffice, user: Any, api: Any, transactional_db: None
) -> None:
    page, _ = open_example("react-apollo")
    page.get_by_label("Email address").fill("ada@example.com")
    page.get_by_role("button", name="Send the email").click()
    page.get_by_label("Code from the email").wait_for()
    assert api.reset(post.deliver_one().token)["__typename"] == "ResetPasswordSuccess"
    expect(page.get_by_text("Password changed. You can sign in now.")).to_be_visible()


def test_the_example_in_python_leads_to_a_new_password(
    live_server: Any, post: PostOffice, user: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, transactional_db: None
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: post.deliver_one().code)
    monkeypatch.setattr("getpass.getpass", lambda _: NEW_PASSWORD)
    monkeypatch.setattr("sys.argv", ["recover.py", f"{live_server.url}/graphql/", "ada@example.com"])
    monkeypatch.setattr("sys.stdin", io.StringIO())
    runpy.run_path(str(EXAMPLES / "python" / "recover.py"), run_name="__main__")
    assert "Password changed." in capsys.readouterr().out
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)
