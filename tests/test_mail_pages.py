"""The mails in HTML as a browser shows them: nothing for axe-core to find, nothing that is fetched, nothing cut off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser

from accounts.choices import Mail
from accounts.mailing import mails
from tests import browser
from tests.test_mails import FIREFOX, asked, html_of, reset_mail
from tests.test_reset_page import faults

pytestmark = pytest.mark.browser
chromium = browser.chromium

KINDS = ("code", "link", "several links", "fresh link", "changed")


@pytest.fixture
def html(make_user: Callable[..., Any], settings: Any) -> Callable[[str], str]:
    settings.BRAND_NAME, settings.SUPPORT_EMAIL = "Example Accounts", "help@example.com"

    def written(kind: str) -> str:
        ada, countess = (make_user("ada@example.com", username=name) for name in ("ada", "countess"))
        made = {
            "code": reset_mail(ada, user_agent=FIREFOX),
            "link": reset_mail(ada, with_code=False),
            "several links": reset_mail(ada, countess),
            "fresh link": reset_mail(ada, with_code=False, fresh_link_for_id=asked().pk),
            "changed": mails.changed_mail(asked(mail_due=Mail.CHANGED), "ada@example.com"),
        }
        assert tuple(made) == KINDS
        return html_of(made[kind])

    return written


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_can_be_read_by_everybody(
    chromium: Browser, html: Callable[[str], str], kind: str, colours: Literal["light", "dark"]
) -> None:
    page = chromium.new_page(viewport={"width": 320, "height": 568}, color_scheme=colours)
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.set_content(html(kind))
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert fetched == []
    page.close()
