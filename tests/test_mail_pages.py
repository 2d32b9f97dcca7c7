"""The mails in HTML as a browser shows them: nothing for axe-core to find, nothing that is fetched, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from django.conf import settings as project
from playwright.sync_api import Browser, Page

from accounts.mailing.samples import SAMPLES
from tests import browser
from tests.test_mails import html_of
from tests.test_reset_page import faults

pytestmark = pytest.mark.browser
chromium = browser.chromium


@pytest.fixture(autouse=True)
def _a_service_with_a_name(settings: Any) -> None:
    settings.BRAND_NAME, settings.SUPPORT_EMAIL = "Example Accounts", "help@example.com"


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page(viewport={"width": 320, "height": 568})
    yield page
    page.close()


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "ar"])
def test_a_mail_can_be_read_by_everybody(page: Page, language: str, colours: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=colours)
    for kind, write in SAMPLES.items():
        page.set_content(html_of(write(language)))
        assert faults(page) == [], kind


@pytest.mark.parametrize("language", [code for code, _ in project.LANGUAGES])
def test_a_mail_fits_a_small_screen_and_fetches_nothing(page: Page, language: str) -> None:
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    for kind, write in SAMPLES.items():
        page.set_content(html_of(write(language)))
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, kind
    assert fetched == []
