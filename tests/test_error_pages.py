"""What a person sees who got lost: a page that says what happened, in the same clothes, with one way on."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from django.test import Client
from playwright.sync_api import expect

from tests import browser
from tests.browser import Visit
from tests.test_headers import ANSWERS
from tests.test_reset_page import faults

chromium, visit = browser.chromium, browser.visit

HEADINGS = {
    "nothing": "There is nothing here",
    "no stylesheet": "There is nothing here",
    "another host": "That request was not understood",
    "something suspicious": "That request was not understood",
    "something forbidden": "You may not see this",
    "a forged form": "This form is too old",
    "a failure": "Something went wrong here",
}


@pytest.mark.urls("tests.test_headers")
@pytest.mark.parametrize("answer", HEADINGS)
def test_an_error_says_what_happened_and_leads_on(db: None, answer: str) -> None:
    response = ANSWERS[answer][1](Client(raise_request_exception=False))
    page = response.content.decode()
    assert f"<h1>{HEADINGS[answer]}</h1>" in page
    assert 'href="/reset/"' in page
    assert "style-src 'self'" in response["Content-Security-Policy"]


def test_an_error_repeats_nothing_of_what_was_asked_for(db: None) -> None:
    page = Client().get("/hunter2/?q=<script>hunter2").content.decode()
    assert "hunter2" not in page


def test_the_root_leads_people_to_the_page(db: None, settings: Any) -> None:
    assert Client().get("/").headers["Location"] == ("/graphql/" if settings.GRAPHIQL else "/reset/")


@pytest.mark.urls("tests.test_logs")
def test_an_error_is_told_even_where_the_page_is_not_served(db: None) -> None:
    response = Client().get("/nothing/")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()


@pytest.mark.browser
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_core_finds_no_fault_in_an_error(visit: Visit, colours: Literal["light", "dark"]) -> None:
    visit.page.emulate_media(color_scheme=colours)
    page = visit.open("/nothing/")
    expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
    assert faults(page) == []
    page.get_by_role("link", name="Forgot your password?").click()
    expect(page.get_by_label("Email address")).to_be_visible()
    visit.complaints.clear()  # the browser's own word on the 404
