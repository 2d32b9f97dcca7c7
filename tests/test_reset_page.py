"""The page behind the mailed link, in a real browser: what it keeps secret, what it says, and who can use it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Literal

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from accounts.choices import State
from accounts.limits import rules
from accounts.models import ForgetPassword
from accounts.views import RESET_PAGE_CSP
from tests import browser
from tests.browser import Visit
from tests.conftest import API, NEW_PASSWORD, PASSWORD, Letter, PostOffice
from tests.npm import AUDIT

pytestmark = pytest.mark.browser
chromium, visit = browser.chromium, browser.visit

MISTYPED = "short"
OVER = "This link or token can no longer be used."


@pytest.fixture
def letter(api: API, post: PostOffice, user: Any, live_server: Any) -> Letter:
    """The mail that ada has been sent."""
    api.request()
    return post.deliver_one()


def path_of(token: str) -> str:
    return f"/reset/#token={token}"


def status(page: Page) -> Any:
    return expect(page.get_by_role("status"))


def choose(page: Page, password: str) -> None:
    page.get_by_label("New password").fill(password)
    page.get_by_role("button", name="Set this password").click()


# --- What the link does ----------------------------------------------------------------------------------------------


def test_a_mailed_link_sets_the_password(visit: Visit, letter: Letter, user: Any) -> None:
    page = visit.open(path_of(letter.token))
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("Your password is changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_the_mail_leads_to_the_page(letter: Letter) -> None:
    assert f"https://accounts.example.com{path_of(letter.token)}" in letter.text


def test_the_token_leaves_the_address_bar_and_the_history(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_label("New password").wait_for()
    assert page.url == f"{visit.origin}/reset/"
    page.goto("about:blank")
    page.go_back()
    assert page.url == f"{visit.origin}/reset/"


def test_the_token_is_in_no_address_and_no_header(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("changed")
    told = [request.url + str(request.all_headers()) for request in visit.requests]
    assert len(told) >= 5
    assert not [each for each in told if letter.token in each or "referer" in each.lower()]


def test_the_token_is_kept_nowhere(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_label("New password").wait_for()
    assert page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie]") == [{}, {}, ""]
    assert letter.token not in page.content()


@pytest.mark.parametrize("begun", ["link", "asked", "report"])
def test_a_page_that_is_loaded_again_says_what_to_do_and_has_kept_nothing(
    visit: Visit, letter: Letter, begun: str
) -> None:
    if begun == "link":
        page = visit.open(path_of(letter.token))
        page.get_by_label("New password").wait_for()
    elif begun == "report":
        page = visit.open(f"/reset/#report={letter.report}")
        page.get_by_role("button", name="It was not me").wait_for()
    else:
        page = visit.open("/reset/")
        page.get_by_label("Email address").fill("nobody@example.com")
        page.get_by_role("button", name="Email me a link").click()
        page.get_by_label("Code from the email").wait_for()
    for _ in range(2):
        page.reload()
        status(page).to_contain_text(
            re.compile("it keeps nothing. .*open the link in your email once more", re.IGNORECASE)
        )
        expect(page.get_by_role("button", name="Email me a link")).to_be_visible()
    assert page.evaluate("history.state") in {"token", "prove", "choose", "report"}


def test_a_page_that_nothing_was_begun_on_says_nothing_when_it_is_loaded_again(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("Your password is changed")
    for _ in range(2):
        page.reload()
        page.get_by_role("button", name="Email me a link").wait_for()
        status(page).to_have_text("")


def test_opening_the_link_changes_nothing(visit: Visit, letter: Letter) -> None:
    before = ForgetPassword.objects.values().get()
    page = visit.open(path_of(letter.token))
    page.get_by_role("listitem").first.wait_for()
    assert ForgetPassword.objects.values().get() == before


def test_a_scanner_that_follows_every_link_spends_nothing(letter: Letter, api: API, user: Any) -> None:
    before = ForgetPassword.objects.values().get()
    html = str(letter.message.alternatives[0][0])  # type: ignore[attr-defined]
    links = re.findall(r'https?://[^\s"<]+', letter.text + html)
    assert len(links) >= 2
    for link in links:
        path = link.removeprefix("https://accounts.example.com")
        for method in (Client().get, Client().head):
            assert method(path).status_code == 200
        Client().post(path)
    assert ForgetPassword.objects.values().get() == before
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


def test_a_second_link_opened_in_the_same_tab_is_taken(visit: Visit, letter: Letter, user: Any) -> None:
    page = visit.open("/reset/")
    page.get_by_label("Email address").wait_for()
    page.evaluate("(hash) => { location.hash = hash }", f"token={letter.token}")
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("changed")
    assert page.url == f"{visit.origin}/reset/"


ENCODED = ["/reset/%23", "/reset%23", "/reset/%2523", "/reset/%252523"]
"""How mail programs send the `#` of a link that they encode."""


@pytest.mark.parametrize("start", ENCODED)
@pytest.mark.parametrize("end", ["", ".", "%3E", "/", "?utm_source=mail"])
def test_a_link_whose_number_sign_was_encoded_leads_to_the_page_as_well(start: str, end: str) -> None:
    for method in (Client().get, Client().head):
        response = method(f"{start}token=hunter2{end}")
        assert response.status_code == 200
        assert response["Content-Security-Policy"] == RESET_PAGE_CSP
        assert (response["Cache-Control"], response["Referrer-Policy"]) == ("no-store", "no-referrer")
        assert "hunter2" not in response.content.decode() + str(response.headers)


@pytest.mark.parametrize("path", ["/reset/x%23token=a", "/resets%23token=a", "/x/reset/%23token=a", "/reset/token=a"])
def test_no_other_path_leads_to_the_page(path: str) -> None:
    assert Client().get(path).status_code == 404


@pytest.mark.parametrize(
    ("start", "equals", "added"),
    [
        ("/reset/%23", "=", ""),
        ("/reset%23", "%3D", ""),
        ("/reset/%2523", "%253D", ""),
        ("/reset/%23", "=", ".?utm_source=mail#top"),
        ("/reset/#", "=", ">"),
        ("/reset/?utm_source=mail#", "=", ""),
    ],
)
def test_a_link_that_a_mail_program_has_bent_sets_the_password(
    visit: Visit, letter: Letter, user: Any, start: str, equals: str, added: str
) -> None:
    page = visit.open(f"{start}token{equals}{letter.token}{added}")
    page.get_by_label("New password").wait_for()
    assert page.url.rstrip("/") == f"{visit.origin}/reset"
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("Your password is changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_of_a_bent_link_nothing_but_the_first_request_tells_the_token(visit: Visit, letter: Letter) -> None:
    page = visit.open(f"/reset/%23token={letter.token}")
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("changed")
    told = [request.url + str(request.all_headers()) for request in visit.requests]
    assert [letter.token in each for each in told] == [True] + [False] * (len(told) - 1)
    assert not [each for each in told if "referer" in each.lower()]
    assert {"reset.css", "reset.js"} <= {request.url.rpartition("/")[2] for request in visit.requests}
    assert letter.token not in page.content()
    page.goto("about:blank")
    page.go_back()
    assert page.url == f"{visit.origin}/reset/"


def test_a_bent_report_waits_for_the_button_and_is_heard(visit: Visit, letter: Letter) -> None:
    page = visit.open(f"/reset/%23report%3D{letter.report}")
    button = page.get_by_role("button", name="It was not me")
    button.wait_for()
    assert page.url == f"{visit.origin}/reset/"
    assert visit.posted == []
    button.click()
    status(page).to_contain_text("What was under way has ended")


# --- What it refuses -------------------------------------------------------------------------------------------------


def test_a_refused_password_says_why(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    choose(page, MISTYPED)
    status(page).to_contain_text("at least 15 characters")
    password = page.get_by_label("New password")
    expect(password).to_have_attribute("aria-invalid", "true")
    expect(password).to_be_focused()
    expect(password).to_have_accessible_description(re.compile("at least 15 characters"))


def test_a_refused_password_spends_nothing(visit: Visit, letter: Letter, user: Any) -> None:
    page = visit.open(path_of(letter.token))
    choose(page, MISTYPED)
    status(page).to_contain_text("will not do")
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_the_same_refusal_twice_is_announced_twice(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    choose(page, MISTYPED)
    status(page).to_contain_text("will not do")
    page.evaluate("""() => {
        window.said = [];
        const say = document.querySelector("[role=status]");
        new MutationObserver(() => said.push(say.textContent)).observe(say, { childList: true });
    }""")
    choose(page, MISTYPED)
    visit.wait_until(lambda: page.evaluate("said.length") >= 2)
    assert page.evaluate("said[0]") == ""
    assert "will not do" in page.evaluate("said[1]")


def test_a_used_link_says_so_and_offers_another(visit: Visit, letter: Letter) -> None:
    choose(visit.open(path_of(letter.token)), NEW_PASSWORD)
    status(visit.page).to_contain_text("changed")
    page = visit.open(path_of(letter.token))
    status(page).to_contain_text(OVER)
    page.get_by_role("button", name="Email me a link").wait_for()
    expect(page.get_by_label("New password")).to_be_hidden()


def test_a_link_used_meanwhile_says_so_and_offers_another(visit: Visit, letter: Letter, api: API) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_label("New password").wait_for()
    api.reset(letter.token)
    choose(page, "another five words walk by")
    status(page).to_contain_text(OVER)
    page.get_by_role("button", name="Email me a link").wait_for()


def test_an_expired_link_says_so_before_anybody_types(visit: Visit, letter: Letter) -> None:
    ForgetPassword.objects.update(link_issued_at=timezone.now() - timedelta(minutes=60))
    page = visit.open(path_of(letter.token))
    status(page).to_contain_text(OVER)
    expect(page.get_by_label("New password")).to_be_hidden()


@pytest.mark.parametrize("token", ["forged", "A" * 66, "%00", "<img src=x onerror=alert(1)>"])
def test_a_forged_link_says_so(visit: Visit, letter: Letter, token: str) -> None:
    page = visit.open(path_of(token))
    status(page).to_contain_text(OVER)


def test_a_lost_connection_loses_neither_token_nor_password(visit: Visit, letter: Letter, user: Any) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_role("listitem").first.wait_for()
    page.context.set_offline(True)
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("Something went wrong")
    page.context.set_offline(False)
    page.get_by_role("button", name="Set this password").click()
    status(page).to_contain_text("changed")
    visit.complaints.clear()


def test_a_check_that_cannot_be_made_keeps_the_form(
    visit: Visit, letter: Letter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "USES_OF_A_RECORD", "1/hour")
    visit.open(path_of(letter.token)).get_by_role("listitem").first.wait_for()
    page = visit.open(path_of(letter.token))
    status(page).to_contain_text("Please wait, or start a new reset")
    page.get_by_label("New password").wait_for()


def test_nonsense_from_the_same_address_keeps_no_link_out(visit: Visit, letter: Letter, settings: Any) -> None:
    settings.THROTTLE_VERIFY_PER_IP = "1/hour"
    for _ in range(2):
        API(Client()).report("x")
    page = visit.open(path_of(letter.token))
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("changed")


# --- Asking from the page --------------------------------------------------------------------------------------------


def ask(page: Page, email: str) -> None:
    page.get_by_label("Email address").fill(email)
    page.get_by_role("button", name="Email me a link").click()


def test_asking_shows_the_words_of_the_mail(visit: Visit, post: PostOffice, user: Any) -> None:
    page = visit.open("/reset/")
    ask(page, "ada@example.com")
    status(page).to_contain_text("two words")
    words = page.get_by_role("status").locator("strong").inner_text()
    assert words == ForgetPassword.objects.get().match_phrase
    assert words in post.deliver_one().text


def test_the_code_of_the_mail_works_where_it_was_asked_for(visit: Visit, post: PostOffice, user: Any) -> None:
    page = visit.open("/reset/")
    ask(page, "ada@example.com")
    code = page.get_by_label("Code from the email")
    code.wait_for()
    code.fill(post.deliver_one().code)
    code.press("Enter")
    choose(page, NEW_PASSWORD)
    status(page).to_contain_text("changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_a_wrong_code_says_how_many_tries_are_left(visit: Visit, user: Any) -> None:
    page = visit.open("/reset/")
    ask(page, "ada@example.com")
    page.get_by_label("Code from the email").fill("000000")
    page.get_by_role("button", name="Go on").click()
    status(page).to_contain_text("Tries left: 4")
    expect(page.get_by_label("Code from the email")).to_be_focused()


def test_known_and_unknown_addresses_see_the_same(visit: Visit, user: Any) -> None:
    said = []
    for email in ("ada@example.com", "nobody@example.com"):
        page = visit.open("/reset/")
        ask(page, email)
        status(page).to_contain_text("two words")
        words = page.get_by_role("status").locator("strong").inner_text()
        said.append(page.get_by_role("main").inner_text().replace(words, ""))
    assert said[0] == said[1]


def test_an_address_is_sent_as_it_was_typed(visit: Visit, user: Any) -> None:
    ask(visit.open("/reset/"), "zoe@bücher.example")
    visit.page.get_by_label("Code from the email").wait_for()
    assert visit.posted[-1]["variables"]["input"]["email"] == "zoe@bücher.example"


def test_a_malformed_address_says_so(visit: Visit, user: Any) -> None:
    page = visit.open("/reset/")
    ask(page, "ada")
    status(page).to_contain_text("is not a valid email address")
    expect(page.get_by_label("Email address")).to_have_attribute("aria-invalid", "true")


def test_an_answer_lost_on_the_way_costs_no_second_mail(visit: Visit, user: Any) -> None:
    page = visit.open("/reset/")
    lost = []

    def lose_the_answer(route: Any) -> None:
        lost.append(route.fetch())
        route.abort()

    page.route("**/graphql*", lose_the_answer, times=1)
    ask(page, "ada@example.com")
    status(page).to_contain_text("Something went wrong")
    ask(page, "ada@example.com")
    status(page).to_contain_text("two words")
    assert len(lost) == 1
    assert ForgetPassword.objects.count() == 1
    visit.complaints.clear()


# --- This was not me -------------------------------------------------------------------------------------------------


def open_report(visit: Visit, token: str) -> Locator:
    """Follow a mail's report link; returns the button."""
    button = visit.open(f"/reset/#report={token}").get_by_role("button", name="It was not me")
    button.wait_for()
    return button


@pytest.fixture
def changed(letter: Letter, api: API, post: PostOffice) -> Letter:
    """The news that somebody has changed ada's password."""
    api.reset(letter.token, "stolen kettle sonnet gravel 5")
    return post.deliver_one()


def test_the_mails_lead_to_the_report(letter: Letter, changed: Letter) -> None:
    for mail in (letter, changed):
        assert f"https://accounts.example.com/reset/#report={mail.report}" in mail.text


def test_this_was_not_me_waits_for_the_button(visit: Visit, letter: Letter) -> None:
    before = ForgetPassword.objects.values().get()
    button = open_report(visit, letter.report)
    page = visit.page
    assert page.url == f"{visit.origin}/reset/"
    assert visit.posted == []
    assert ForgetPassword.objects.values().get() == before
    expect(page.get_by_role("heading", name="Was it not you?")).to_be_visible()
    expect(page).to_have_title("Was it not you?")
    # Nothing is in focus that a stray Enter would press.
    expect(button).not_to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert visit.posted == []


def test_a_report_ends_what_is_under_way_and_says_how_much(visit: Visit, letter: Letter, api: API) -> None:
    open_report(visit, letter.report).click()
    status(visit.page).to_contain_text("What was under way has ended")
    status(visit.page).to_contain_text("Resets ended: 1")
    expect(visit.page.get_by_role("button")).to_have_count(0)
    assert api.reset(letter.token)["__typename"] == "InvalidResetTokenError"


def test_a_report_of_a_changed_password_mails_a_link_that_sets_another(
    visit: Visit, changed: Letter, post: PostOffice, user: Any
) -> None:
    open_report(visit, changed.report).click()
    status(visit.page).to_contain_text("A link to choose another is on its way")
    choose(visit.open(path_of(post.deliver_one().token)), NEW_PASSWORD)
    status(visit.page).to_contain_text("changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_a_report_that_was_heard_before_says_so_and_offers_a_link(visit: Visit, letter: Letter, api: API) -> None:
    api.report(letter.report)
    open_report(visit, letter.report).click()
    status(visit.page).to_contain_text(OVER)
    visit.page.get_by_role("button", name="Email me a link").wait_for()
    expect(visit.page.get_by_role("heading", name="Reset your password")).to_be_visible()


def test_a_report_whose_answer_got_lost_is_no_failure_the_second_time(visit: Visit, changed: Letter) -> None:
    button = open_report(visit, changed.report)
    answered = []

    def lose_the_answer(route: Any) -> None:
        answered.append(route.fetch())
        route.abort()

    visit.page.route("**/graphql*", lose_the_answer, times=1)
    button.click()
    status(visit.page).to_contain_text("Something went wrong")
    button.click()
    status(visit.page).to_contain_text("most likely by your first try")
    assert len(answered) == 1
    visit.complaints.clear()


def test_a_report_that_is_one_too_many_can_be_sent_again(
    visit: Visit, letter: Letter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "USES_OF_A_RECORD", "0/hour")
    button = open_report(visit, letter.report)
    button.click()
    status(visit.page).to_contain_text("Please wait, or start a new reset")
    monkeypatch.setattr(rules, "USES_OF_A_RECORD", "60/hour")
    button.click()
    status(visit.page).to_contain_text("has ended")


def test_a_report_can_be_made_with_the_keyboard_alone(visit: Visit, letter: Letter) -> None:
    button = open_report(visit, letter.report)
    visit.page.keyboard.press("Tab")
    expect(button).to_be_focused()
    visit.page.keyboard.press("Enter")
    status(visit.page).to_contain_text("has ended")


def test_the_reports_token_is_in_no_address_no_header_and_kept_nowhere(visit: Visit, letter: Letter) -> None:
    open_report(visit, letter.report).click()
    page = visit.page
    status(page).to_contain_text("has ended")
    told = [request.url + str(request.all_headers()) for request in visit.requests]
    assert not [each for each in told if letter.report in each or "referer" in each.lower()]
    assert page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie]") == [{}, {}, ""]
    assert letter.report not in page.content()


def test_a_forged_report_says_so(visit: Visit, user: Any) -> None:
    open_report(visit, "forged").click()
    status(visit.page).to_contain_text(OVER)


# --- Who can use it --------------------------------------------------------------------------------------------------

FORMS = ("ask", "prove", "choose", "report")


def open_form(visit: Visit, form: str, letter: Letter) -> Locator:
    """Go the way that leads to a form."""
    page = visit.open({"choose": path_of(letter.token), "report": "/reset/#report=forged"}.get(form, "/reset/"))
    if form == "prove":
        ask(page, "eve@example.com")
    shown = page.locator(f"form#{form}:not([hidden])")
    shown.wait_for()
    return shown


@pytest.mark.parametrize(
    ("form", "purposes"),
    [("ask", ["username"]), ("prove", ["one-time-code"]), ("choose", ["username", "new-password"])],
)
def test_password_managers_know_what_each_field_is_for(
    visit: Visit, letter: Letter, form: str, purposes: list[str]
) -> None:
    fields = open_form(visit, form, letter).locator("input:not([type=checkbox])")
    assert [field.get_attribute("autocomplete") for field in fields.all()] == purposes


@pytest.mark.parametrize("form", FORMS)
def test_every_field_has_a_label(visit: Visit, letter: Letter, form: str) -> None:
    for field in open_form(visit, form, letter).locator("input:not([hidden])").all():
        assert field.evaluate("field => field.labels.length === 1 && field.labels[0].textContent.trim() !== ''")


def test_a_password_can_be_pasted(visit: Visit, letter: Letter) -> None:
    """A page that forbids it cancels the event; the machine's clipboard itself is not always a headless browser's."""
    page = visit.open(path_of(letter.token))
    paste = "field => field.dispatchEvent(new ClipboardEvent('paste', {bubbles: true, cancelable: true}))"
    assert page.get_by_label("New password").evaluate(paste) is True


def test_a_password_can_be_shown(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    password = page.get_by_label("New password")
    expect(password).to_have_attribute("type", "password")
    page.get_by_label("Show it").check()
    expect(password).to_have_attribute("type", "text")


def test_the_rules_stand_beside_the_field(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_role("listitem").first.wait_for()
    expect(page.get_by_label("New password")).to_have_accessible_description(re.compile("at least 15 characters"))


def test_the_keyboard_is_enough(visit: Visit, letter: Letter, user: Any) -> None:
    page = visit.open(path_of(letter.token))
    expect(page.get_by_label("New password")).to_be_focused()
    page.keyboard.type(NEW_PASSWORD)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_label("New password")).to_have_value(NEW_PASSWORD)
    expect(page.get_by_label("Show it")).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button")).to_be_focused()
    page.keyboard.press("Enter")
    status(page).to_contain_text("changed")


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_cut_off_on_a_small_phone(visit: Visit, letter: Letter, form: str) -> None:
    visit.page.set_viewport_size({"width": 320, "height": 568})
    open_form(visit, form, letter)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 320


def test_nobody_types_the_same_address_twice(visit: Visit, letter: Letter, settings: Any) -> None:
    """WCAG 2.2, 3.3.7: neither for another mail nor for the password manager that keeps the new password."""
    settings.PASSWORD_RESET_COOLDOWN = 0
    page = visit.open("/reset/")
    ask(page, "eve@example.com")
    page.get_by_label("Code from the email").wait_for()
    expect(page.locator("#account")).to_have_value("eve@example.com")
    for left in (4, 3, 2, 1):
        page.get_by_label("Code from the email").fill("000000")
        page.get_by_role("button", name="Go on").click()
        status(page).to_contain_text(f"Tries left: {left}")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Email me a link").wait_for()
    expect(page.get_by_label("Email address")).to_have_value("eve@example.com")


def test_the_page_ends_nothing_by_a_clock_of_its_own(visit: Visit, letter: Letter, user: Any) -> None:
    """WCAG 2.2, 2.2.1: an hour on the open page costs nothing but what the mail said would be over."""
    visit.page.clock.install()
    page = visit.open(path_of(letter.token))
    page.get_by_label("New password").fill(NEW_PASSWORD)
    page.clock.fast_forward("59:00")
    expect(page.get_by_label("New password")).to_have_value(NEW_PASSWORD)
    page.get_by_role("button", name="Set this password").click()
    status(page).to_contain_text("changed")


def faults(page: Page) -> list[str]:
    """What axe-core complains of: WCAG 2.2 A and AA as far as a program can judge, and its own good practice."""
    page.evaluate((AUDIT / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {preload: false})")
    return [f"{fault['id']}: {node['html']}" for fault in found["violations"] for node in fault["nodes"]]


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("form", FORMS)
def test_axe_core_finds_no_fault(visit: Visit, letter: Letter, form: str, colours: Literal["light", "dark"]) -> None:
    visit.page.emulate_media(color_scheme=colours)
    open_form(visit, form, letter)
    assert faults(visit.page) == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_core_finds_no_fault_in_a_refusal(visit: Visit, letter: Letter, colours: Literal["light", "dark"]) -> None:
    visit.page.emulate_media(color_scheme=colours)
    page = visit.open(path_of(letter.token))
    choose(page, MISTYPED)
    status(page).to_contain_text("will not do")
    assert faults(page) == []


def test_axe_core_would_find_a_fault(visit: Visit, letter: Letter) -> None:
    open_form(visit, "ask", letter)
    visit.page.evaluate("document.querySelector('label[for=email]').remove()")
    assert "label" in {fault.split(":")[0] for fault in faults(visit.page)}


def test_without_javascript_the_page_says_what_it_needs() -> None:
    # Read from the source: a Chromium told to run no scripts shows no <noscript> either.
    assert "<noscript><p>This page needs JavaScript" in Client().get("/reset/").content.decode()


# --- What the server sends -------------------------------------------------------------------------------------------


def test_the_page_is_guarded_by_its_headers() -> None:
    response = Client().get("/reset/")
    assert response["Content-Security-Policy"] == RESET_PAGE_CSP
    assert "default-src 'none'" in RESET_PAGE_CSP
    assert "unsafe" not in RESET_PAGE_CSP
    assert "frame-ancestors 'none'" in RESET_PAGE_CSP
    assert response["Cache-Control"] == "no-store"
    assert response["Referrer-Policy"] == "no-referrer"
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert not response.cookies


def test_the_well_known_address_leads_to_the_page() -> None:
    response = Client().get("/.well-known/change-password")
    assert (response.status_code, response["Location"]) == (302, "/reset/")


def test_the_page_takes_no_post(db: None) -> None:
    assert Client().post("/reset/", {"token": "x"}).status_code in {403, 405}
    assert not ForgetPassword.objects.filter(state=State.COMPLETED).exists()


def test_the_old_password_stays_until_the_form_is_sent(visit: Visit, letter: Letter, user: Any) -> None:
    visit.open(path_of(letter.token)).get_by_label("New password").fill(NEW_PASSWORD)
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
