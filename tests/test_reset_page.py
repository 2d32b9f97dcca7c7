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
from accounts.recovery import live
from accounts.views import RESET_PAGE_CSP
from tests import browser
from tests.browser import Visit
from tests.conftest import API, NEW_PASSWORD, PASSWORD, Letter, PostOffice
from tests.npm import AUDIT

pytestmark = pytest.mark.browser
chromium, visit = browser.chromium, browser.visit

MISTYPED = "short"
OVER = "This link was already used"


@pytest.fixture
def letter(api: API, post: PostOffice, user: Any, live_server: Any) -> Letter:
    """The mail that ada has been sent."""
    api.request()
    return post.deliver_one()


def path_of(token: str) -> str:
    return f"/reset/#token={token}"


def status(page: Page) -> Any:
    return expect(page.get_by_role("status"))


def reads(page: Page, heading: str) -> None:
    """The screen with this heading is shown."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible()


def choose(page: Page, password: str) -> None:
    page.get_by_label("New password").fill(password)
    page.get_by_role("button", name="Change password").click()


# --- What the link does ----------------------------------------------------------------------------------------------


def test_a_mailed_link_sets_the_password(visit: Visit, letter: Letter, user: Any) -> None:
    page = visit.open(path_of(letter.token))
    choose(page, NEW_PASSWORD)
    reads(page, "Password changed")
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
    reads(page, "Password changed")
    told = [request.url + str(request.all_headers()) for request in visit.requests]
    assert len(told) >= 5
    assert not [each for each in told if letter.token in each or "referer" in each.lower()]


def test_the_token_is_kept_nowhere(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_label("New password").wait_for()
    assert page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie]") == [{}, {}, ""]
    assert letter.token not in page.content()


@pytest.mark.parametrize("begun", ["link", "report"])
def test_a_link_whose_page_is_loaded_again_has_to_be_opened_again(visit: Visit, letter: Letter, begun: str) -> None:
    if begun == "link":
        page = visit.open(path_of(letter.token))
        page.get_by_label("New password").wait_for()
    else:
        page = visit.open(f"/reset/#report={letter.report}")
        page.get_by_role("button", name="It was not me").wait_for()
    for _ in range(2):
        page.reload()
        reads(page, "Open your email once more")
    page.get_by_role("button", name="Ask for another email").click()
    reads(page, "Forgot your password?")


def test_a_page_that_nothing_was_begun_on_says_nothing_when_it_is_loaded_again(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    choose(page, NEW_PASSWORD)
    reads(page, "Password changed")
    for _ in range(2):
        page.reload()
        reads(page, "Forgot your password?")
        status(page).to_have_text("")


def test_opening_the_link_changes_nothing(visit: Visit, letter: Letter) -> None:
    before = ForgetPassword.objects.values().get()
    page = visit.open(path_of(letter.token))
    page.get_by_role("listitem").first.wait_for()
    assert ForgetPassword.objects.values().get() == before


def test_a_scanner_that_follows_every_link_spends_nothing(letter: Letter, api: API, user: Any) -> None:
    before = ForgetPassword.objects.values().get()
    html = letter.html
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
    reads(page, "Password changed")
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


@pytest.mark.parametrize("path", ["/reset/x/y%23token=a", "/resets%23token=a", "/x/reset/%23token=a", "/reset/token=a"])
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
    reads(page, "Password changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_of_a_bent_link_nothing_but_the_first_request_tells_the_token(visit: Visit, letter: Letter) -> None:
    page = visit.open(f"/reset/%23token={letter.token}")
    choose(page, NEW_PASSWORD)
    reads(page, "Password changed")
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
    heard(page, "What was under way has ended")


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
    reads(page, "Password changed")
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
    reads(visit.page, "Password changed")
    page = visit.open(path_of(letter.token))
    reads(page, OVER)
    page.get_by_role("button", name="Ask for another email").wait_for()
    expect(page.get_by_label("New password")).to_be_hidden()


def test_a_link_used_meanwhile_says_so_and_offers_another(visit: Visit, letter: Letter, api: API) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_label("New password").wait_for()
    api.reset(letter.token)
    choose(page, "another five words walk by")
    reads(page, OVER)
    page.get_by_role("button", name="Ask for another email").wait_for()


def test_an_expired_link_says_so_before_anybody_types(visit: Visit, letter: Letter) -> None:
    ForgetPassword.objects.update(link_issued_at=timezone.now() - timedelta(minutes=60))
    page = visit.open(path_of(letter.token))
    reads(page, OVER)
    expect(page.get_by_label("New password")).to_be_hidden()


@pytest.mark.parametrize("token", ["forged", "A" * 66, "%00", "<img src=x onerror=alert(1)>"])
def test_a_forged_link_says_so(visit: Visit, letter: Letter, token: str) -> None:
    page = visit.open(path_of(token))
    reads(page, OVER)


def test_a_lost_connection_loses_neither_token_nor_password(visit: Visit, letter: Letter, user: Any) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_role("listitem").first.wait_for()
    page.context.set_offline(True)
    choose(page, NEW_PASSWORD)
    reads(page, "You are offline")
    page.context.set_offline(False)
    reads(page, "Password changed")
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
    reads(page, "Password changed")


# --- Asking from the page --------------------------------------------------------------------------------------------


def ask(page: Page, email: str) -> None:
    page.get_by_label("Email address").fill(email)
    page.get_by_role("button", name="Send the email").click()


def test_asking_shows_the_words_of_the_mail(visit: Visit, post: PostOffice, user: Any) -> None:
    page = visit.open("/reset/")
    ask(page, "ada@example.com")
    reads(page, "Check your email")
    words = page.locator("#prove .phrase").inner_text()
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
    reads(page, "Password changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_a_wrong_code_says_how_many_tries_are_left(visit: Visit, user: Any) -> None:
    page = visit.open("/reset/")
    ask(page, "ada@example.com")
    page.get_by_label("Code from the email").fill("000000")
    status(page).to_contain_text("Tries left: 4")
    expect(page.get_by_label("Code from the email")).to_be_focused()


def test_known_and_unknown_addresses_see_the_same(visit: Visit, user: Any) -> None:
    said = []
    for email in ("ada@example.com", "nobody@example.com"):
        page = visit.open("/reset/")
        ask(page, email)
        reads(page, "Check your email")
        words = page.locator("#prove .phrase").inner_text()
        told = page.get_by_role("main").inner_text().replace(words, "").replace(email, "")
        said.append(re.sub(r"\d:\d\d", "", told))
    assert said[0] == said[1]


def test_an_address_is_sent_as_it_was_typed(visit: Visit, user: Any) -> None:
    ask(visit.open("/reset/"), "zoe@bücher.example")
    visit.page.get_by_label("Code from the email").wait_for()
    inputs = [each["variables"]["input"] for each in visit.posted if "input" in each.get("variables", {})]
    assert inputs[-1]["email"] == "zoe@bücher.example"


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
    reads(page, "No answer just now")
    page.get_by_role("button", name="Try again").click()
    reads(page, "Check your email")
    assert len(lost) == 1
    assert ForgetPassword.objects.count() == 1
    visit.complaints.clear()


# --- Waiting for the email -------------------------------------------------------------------------------------------

KEPT = "JSON.parse(sessionStorage.getItem('account-recovery'))"


@pytest.fixture
def waiting(visit: Visit, user: Any) -> Page:
    """The page that waits for ada's code."""
    page = visit.open("/reset/")
    ask(page, "ada@example.com")
    reads(page, "Check your email")
    return page


def code_field(page: Page) -> Locator:
    return page.get_by_label("Code from the email")


def test_a_reload_loses_nothing_of_a_reset_that_waits(visit: Visit, waiting: Page, post: PostOffice) -> None:
    words = waiting.locator("#prove .phrase").inner_text()
    for _ in range(2):
        waiting.reload()
        reads(waiting, "Check your email")
        expect(waiting.locator("#prove .phrase")).to_have_text(words)
        expect(waiting.locator("#prove .address")).to_have_text("ada@example.com")
    code_field(waiting).fill(post.deliver_one().code)
    choose(waiting, NEW_PASSWORD)
    reads(waiting, "Password changed")
    assert waiting.evaluate(KEPT) is None


def test_no_token_no_code_and_no_password_is_kept(waiting: Page, post: PostOffice) -> None:
    letter = post.deliver_one()
    code_field(waiting).fill(letter.code)
    waiting.get_by_label("New password").fill(NEW_PASSWORD)
    kept = waiting.evaluate(KEPT)
    assert set(kept) == {
        "email", "requestId", "status", "matchPhrase", "expiresAt", "resendAvailableAt", "pollAfterSeconds"
    }  # fmt: skip
    assert letter.code not in str(kept)


def test_back_and_forward_lead_through_the_steps(waiting: Page, post: PostOffice) -> None:
    code_field(waiting).fill(post.deliver_one().code)
    reads(waiting, "Choose a new password")
    waiting.go_back()
    reads(waiting, "Check your email")
    waiting.go_forward()
    reads(waiting, "Choose a new password")
    waiting.go_back()
    waiting.go_back()
    reads(waiting, "Forgot your password?")
    expect(waiting.get_by_label("Email address")).to_have_value("ada@example.com")


def test_a_new_visit_begins_anew(visit: Visit, waiting: Page) -> None:
    reads(visit.open("/reset/"), "Forgot your password?")


def test_a_reset_completed_from_the_email_shows_as_done(waiting: Page, post: PostOffice, api: API) -> None:
    api.reset(post.deliver_one().token)
    reads(waiting, "Password changed")


def test_a_reset_that_was_given_up_elsewhere_shows_as_over(waiting: Page, api: API) -> None:
    api.mutate("cancelPasswordReset", requestId=ForgetPassword.objects.get().handle)
    reads(waiting, "This reset is over")
    waiting.get_by_role("button", name="Start again").click()
    expect(waiting.get_by_label("Email address")).to_have_value("ada@example.com")


def test_a_page_that_nobody_sees_asks_nothing(visit: Visit, waiting: Page) -> None:
    waiting.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    waiting.wait_for_timeout(100)
    before = len(visit.posted)
    waiting.clock.install()
    waiting.clock.run_for(60_000)
    assert len(visit.posted) == before


@pytest.mark.parametrize("form", ["{code}", "Your code: {first} {last}", "{first}-{last}\u200b", " {wide}"])
def test_a_code_is_sent_when_its_last_digit_is_there_however_it_was_pasted(
    waiting: Page, post: PostOffice, form: str
) -> None:
    code = post.deliver_one().code
    wide = "".join(chr(ord(digit) - ord("0") + 0xFF10) for digit in code)
    code_field(waiting).fill(form.format(code=code, first=code[:3], last=code[3:], wide=wide))
    reads(waiting, "Choose a new password")


@pytest.mark.parametrize(
    "typed",
    [
        "Ada <ada@example.com>",
        "ada@example.com.",
        "<mailto:ada@example.com>",
        "\u200bada@example.com ",
        '"ada@example.com",',
    ],
)
def test_an_address_is_found_in_what_was_pasted(visit: Visit, user: Any, typed: str) -> None:
    page = visit.open("/reset/")
    ask(page, typed)
    expect(page.locator("#prove .address")).to_have_text("ada@example.com")


def test_the_email_can_be_sent_again_once_its_clock_is_over(
    waiting: Page, post: PostOffice, api: API, visit: Visit
) -> None:
    first = post.deliver_one()
    again = waiting.locator("#prove .again")
    expect(again).to_have_attribute("aria-disabled", "true")
    expect(again).to_have_text(re.compile(r"Send again in 0:\d\d|Send again in 1:00"))
    ForgetPassword.objects.update(mail_asked_at=timezone.now() - timedelta(minutes=2))
    rules.reset()
    expect(again).to_have_text("Send again")
    again.click()
    status(waiting).to_have_text("Sent again.")
    assert post.deliver_one().code == first.code
    expect(again).to_have_attribute("aria-disabled", "true")


def test_a_code_whose_time_is_over_is_called_expired_and_not_wrong(
    waiting: Page, post: PostOffice, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    letter = post.deliver_one()
    ForgetPassword.objects.update(sent_at=timezone.now() - timedelta(minutes=11))
    reads(waiting, "This code has expired")
    expect(waiting.locator("#expired .phrase")).to_have_text(ForgetPassword.objects.get().match_phrase)
    waiting.get_by_role("button", name="Type a code").click()
    reads(waiting, "Check your email")
    code_field(waiting).fill(letter.code)  # a late one: its own clock began with the email
    reads(waiting, "Choose a new password")


def test_from_an_expired_code_another_email_is_one_press_away(waiting: Page, post: PostOffice, settings: Any) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    post.deliver_one()
    long_ago = timezone.now() - timedelta(minutes=11)
    ForgetPassword.objects.update(sent_at=long_ago, code_issued_at=long_ago)
    reads(waiting, "This code has expired")
    rules.reset()
    waiting.locator("#expired .again").click()
    reads(waiting, "Check your email")
    code_field(waiting).fill(post.deliver_one().code)
    reads(waiting, "Choose a new password")


def test_too_many_tries_leave_the_link(waiting: Page, post: PostOffice, visit: Visit) -> None:
    letter = post.deliver_one()
    for number in range(5):
        code_field(waiting).fill(f"00000{number}")
        if number < 4:
            status(waiting).to_contain_text(f"Tries left: {4 - number}")
    reads(waiting, "Too many tries")
    expect(waiting.locator("#locked .address")).to_have_text("ada@example.com")
    choose(visit.open(path_of(letter.token)), NEW_PASSWORD)
    reads(waiting, "Password changed")


def test_a_server_that_is_away_is_told_with_the_number_of_the_request(visit: Visit, user: Any) -> None:
    page = visit.open("/reset/")
    number = "6210f789af204abab92a017c8aa1b5a4"
    away = {"status": 503, "headers": {"X-Request-ID": number}, "body": "{}"}
    page.route("**/graphql*", lambda route: route.fulfill(**away), times=1)
    ask(page, "ada@example.com")
    reads(page, "No answer just now")
    expect(page.locator("#incident")).to_contain_text(number)
    page.get_by_role("button", name="Try again").click()
    reads(page, "Check your email")
    visit.complaints.clear()


def test_what_is_typed_during_the_wait_is_not_lost_and_not_sent(visit: Visit, letter: Letter, user: Any) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_label("New password").fill(NEW_PASSWORD)
    held: list[Any] = []
    page.route("**/graphql*", lambda route: held.append(route), times=1)
    page.get_by_role("button", name="Change password").click()
    visit.wait_until(lambda: bool(held))
    expect(page.get_by_label("New password")).not_to_be_editable()
    page.get_by_label("New password").press("End")
    page.keyboard.type("more")
    held[0].continue_()
    reads(page, "Password changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_a_password_that_is_shown_is_hidden_again_with_the_next_step(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    page.get_by_role("button", name="Show").click()
    choose(page, MISTYPED)
    status(page).to_contain_text("will not do")
    expect(page.get_by_label("New password")).to_have_attribute("type", "password")


def test_the_rules_are_ticked_off_while_a_password_is_typed(visit: Visit, letter: Letter) -> None:
    page = visit.open(path_of(letter.token))
    rules_of = page.locator("#rules li")
    rules_of.first.wait_for()
    password = page.get_by_label("New password")
    password.fill("short")
    expect(rules_of.first).to_have_class("unmet")
    password.fill("passwordpassword1")
    expect(page.locator("#verdict")).to_have_text("Easy to guess")
    expect(rules_of.first).to_have_text(re.compile(r"15 characters.*\(met\)"))
    expect(page.locator("#rules [data-codes=password_too_common]")).to_have_text(re.compile("not met yet"))
    password.fill(NEW_PASSWORD)
    expect(page.locator("#verdict")).to_have_text("Strong")
    expect(page.locator("#rules .unmet")).to_have_count(0)


def test_hesitation_does_not_use_the_token_up(visit: Visit, letter: Letter) -> None:
    """Each question about a password counts against the token, as setting it does."""
    page = visit.open(path_of(letter.token))
    page.locator("#rules li").first.wait_for()
    page.clock.install()
    for number in range(40):
        page.get_by_label("New password").fill(f"{NEW_PASSWORD} {number}")
        page.clock.run_for(600)
    visit.wait_until(lambda: sum("checkPassword" in each["query"] for each in visit.posted) == 30)
    page.get_by_role("button", name="Change password").click()
    reads(page, "Password changed")


def test_after_the_change_the_page_leads_to_where_people_sign_in(visit: Visit, letter: Letter, settings: Any) -> None:
    settings.SIGN_IN_URL, settings.SUPPORT_EMAIL = "https://app.example.com/login", "help@example.com"
    settings.BRAND_NAME = "Bücher & Söhne"
    page = visit.open(path_of(letter.token))
    expect(page).to_have_title("Choose a new password · Bücher & Söhne")
    choose(page, NEW_PASSWORD)
    expect(page.get_by_role("link", name="Sign in")).to_have_attribute("href", "https://app.example.com/login")
    expect(page.get_by_role("link", name="help@example.com")).to_be_visible()
    expect(page.get_by_role("heading", name="Password changed")).to_be_focused()
    expect(page).to_have_title("Password changed · Bücher & Söhne")


def test_a_brands_page_has_its_color_and_asks_by_its_key(visit: Visit, settings: Any, db: None) -> None:
    shop = {"name": "Example Shop", "color": "#7a1f5c", "logo": "https://cdn.example.net/shop.svg"}
    settings.BRANDS = {"shop": shop}
    logo = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30"/>'
    visit.page.context.route(shop["logo"], lambda route: route.fulfill(body=logo, content_type="image/svg+xml"))
    page = visit.open("/reset/shop/")
    picture = page.get_by_alt_text("Example Shop")
    visit.wait_until(lambda: picture.evaluate("image => image.complete && image.naturalWidth") == 90)
    expect(page.get_by_role("button", name="Send the email")).to_have_css("background-color", "rgb(122, 31, 92)")
    page.get_by_label("Email address").fill("ada@example.com")
    page.get_by_role("button", name="Send the email").click()
    reads(page, "Check your email")
    assert page.url == f"{visit.origin}/reset/shop/"
    assert visit.posted[0]["variables"]["input"]["app"] == "shop"


def test_where_only_trusted_documents_are_run_the_page_works(
    visit: Visit, letter: Letter, settings: Any, user: Any
) -> None:
    settings.TRUSTED_DOCUMENTS = {"mine": "{ __typename }"}
    page = visit.open(path_of(letter.token))
    choose(page, NEW_PASSWORD)
    reads(page, "Password changed")
    ask_on(visit, "grace@example.com")


# --- Live status -----------------------------------------------------------------------------------------------------


@pytest.fixture
def live_status(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in development, where the test's server of threads streams as well."""
    settings.DEBUG = True
    monkeypatch.setattr(live, "TICK", 0.05)


def streams(visit: Visit) -> int:
    return sum("subscription" in each["query"] for each in visit.posted)


def polls(visit: Visit) -> int:
    return sum("query Status" in each["query"] for each in visit.posted)


def ask_on(visit: Visit, email: str = "ada@example.com") -> Page:
    page = visit.open("/reset/")
    page.get_by_label("Email address").fill(email)
    page.get_by_role("button", name="Send the email").click()
    reads(page, "Check your email")
    return page


def test_a_page_that_waits_is_told_and_asks_no_more(
    visit: Visit, live_status: None, api: API, post: PostOffice, user: Any, transactional_db: None
) -> None:
    page = ask_on(visit)
    visit.wait_until(lambda: streams(visit) == 1)
    token = post.deliver_one().token
    assert api.reset(token)["__typename"] == "ResetPasswordSuccess"
    reads(page, "Password changed")
    assert (streams(visit), polls(visit)) == (1, 0)


def test_what_happens_while_a_code_is_being_sent_is_not_missed(
    visit: Visit, live_status: None, api: API, post: PostOffice, user: Any, transactional_db: None
) -> None:
    page = ask_on(visit)
    visit.wait_until(lambda: streams(visit) == 1)
    token = post.deliver_one().token
    held: list[Any] = []
    page.route("**/graphql", lambda route: held.append(route) if "verify" in (route.request.post_data or "")
               else route.fallback())  # fmt: skip
    page.get_by_label("Code from the email").fill("000000")
    visit.wait_until(lambda: bool(held))
    assert api.reset(token)["__typename"] == "ResetPasswordSuccess"
    page.wait_for_timeout(500)
    held[0].continue_()
    reads(page, "Password changed")


def test_where_no_stream_can_be_had_the_page_asks(
    visit: Visit, live_status: None, monkeypatch: pytest.MonkeyPatch, api: API, post: PostOffice, user: Any,
    transactional_db: None,
) -> None:  # fmt: skip
    monkeypatch.setattr(live, "MOST", 0)
    page = ask_on(visit)
    visit.wait_until(lambda: polls(visit) >= 1)
    assert streams(visit) == 1
    assert api.reset(post.deliver_one().token)["__typename"] == "ResetPasswordSuccess"
    reads(page, "Password changed")


def test_a_page_that_is_looked_at_again_opens_another_stream(
    visit: Visit, live_status: None, api: API, user: Any, transactional_db: None
) -> None:
    def turn(hidden: bool) -> None:
        page.evaluate(
            """hidden => { Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange")) }""",
            hidden,
        )

    page = ask_on(visit)
    visit.wait_until(lambda: streams(visit) == 1)
    turn(True)
    page.wait_for_timeout(100)
    turn(False)
    visit.wait_until(lambda: streams(visit) == 2)


# --- This was not me -------------------------------------------------------------------------------------------------


def heard(page: Page, text: str) -> None:
    reads(page, "Thank you")
    expect(page.locator("#heardtext")).to_contain_text(text)


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
    expect(page.get_by_role("heading", name="Didn't ask for this?")).to_be_visible()
    expect(page).to_have_title(re.compile("Didn't ask for this?"))
    # Nothing is in focus that a stray Enter would press.
    expect(button).not_to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert visit.posted == []


def test_a_report_ends_what_is_under_way_and_says_how_much(visit: Visit, letter: Letter, api: API) -> None:
    open_report(visit, letter.report).click()
    heard(visit.page, "What was under way has ended")
    heard(visit.page, "Resets ended: 1")
    expect(visit.page.get_by_role("button")).to_have_count(0)
    assert api.reset(letter.token)["__typename"] == "InvalidResetTokenError"


def test_a_report_of_a_changed_password_mails_a_link_that_sets_another(
    visit: Visit, changed: Letter, post: PostOffice, user: Any
) -> None:
    open_report(visit, changed.report).click()
    heard(visit.page, "A link to choose another is on its way")
    choose(visit.open(path_of(post.deliver_one().token)), NEW_PASSWORD)
    reads(visit.page, "Password changed")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_a_report_that_was_heard_before_says_so_and_offers_a_link(visit: Visit, letter: Letter, api: API) -> None:
    api.report(letter.report)
    open_report(visit, letter.report).click()
    reads(visit.page, OVER)
    visit.page.get_by_role("button", name="Ask for another email").wait_for()


def test_a_report_whose_answer_got_lost_is_no_failure_the_second_time(visit: Visit, changed: Letter) -> None:
    button = open_report(visit, changed.report)
    answered = []

    def lose_the_answer(route: Any) -> None:
        answered.append(route.fetch())
        route.abort()

    visit.page.route("**/graphql*", lose_the_answer, times=1)
    button.click()
    reads(visit.page, "No answer just now")
    visit.page.get_by_role("button", name="Try again").click()
    heard(visit.page, "most likely by your first try")
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
    heard(visit.page, "has ended")


def test_a_report_can_be_made_with_the_keyboard_alone(visit: Visit, letter: Letter) -> None:
    button = open_report(visit, letter.report)
    visit.page.keyboard.press("Tab")
    expect(button).to_be_focused()
    visit.page.keyboard.press("Enter")
    heard(visit.page, "has ended")


def test_the_reports_token_is_in_no_address_no_header_and_kept_nowhere(visit: Visit, letter: Letter) -> None:
    open_report(visit, letter.report).click()
    page = visit.page
    heard(page, "has ended")
    told = [request.url + str(request.all_headers()) for request in visit.requests]
    assert not [each for each in told if letter.report in each or "referer" in each.lower()]
    assert page.evaluate("[{...localStorage}, {...sessionStorage}, document.cookie]") == [{}, {}, ""]
    assert letter.report not in page.content()


def test_a_forged_report_says_so(visit: Visit, user: Any) -> None:
    open_report(visit, "forged").click()
    reads(visit.page, OVER)


# --- Who can use it --------------------------------------------------------------------------------------------------

FORMS = ("ask", "prove", "choose", "report")
SCREENS = (
    "ask",
    "prove",
    "choose",
    "done",
    "locked",
    "expired",
    "used",
    "reopen",
    "over",
    "report",
    "heard",
    "offline",
    "away",
)


def open_form(visit: Visit, form: str, letter: Letter) -> Locator:
    """Go the way that leads to a form."""
    page = visit.open({"choose": path_of(letter.token), "report": "/reset/#report=forged"}.get(form, "/reset/"))
    if form == "prove":
        ask(page, "eve@example.com")
    shown = page.locator(f"section#{form}:not([hidden])")
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
    page.get_by_role("button", name="Show").click()
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
    expect(page.get_by_role("button", name="Hide")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Change password")).to_be_focused()
    page.keyboard.press("Enter")
    reads(page, "Password changed")


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
    for left in (4, 3, 2, 1, 0):
        page.get_by_label("Code from the email").fill(f"00000{left}")
        if left:
            status(page).to_contain_text(f"Tries left: {left}")
    reads(page, "Too many tries")
    page.get_by_role("button", name="Use another address").click()
    expect(page.get_by_label("Email address")).to_have_value("eve@example.com")


def test_the_page_ends_nothing_by_a_clock_of_its_own(visit: Visit, letter: Letter, user: Any) -> None:
    """WCAG 2.2, 2.2.1: an hour on the open page costs nothing but what the mail said would be over."""
    visit.page.clock.install()
    page = visit.open(path_of(letter.token))
    page.get_by_label("New password").fill(NEW_PASSWORD)
    page.clock.fast_forward("59:00")
    expect(page.get_by_label("New password")).to_have_value(NEW_PASSWORD)
    page.get_by_role("button", name="Change password").click()
    reads(page, "Password changed")


def faults(page: Page, within: str = "html") -> list[str]:
    """What axe-core complains of: WCAG 2.2 A and AA as far as a program can judge, and its own good practice."""
    page.evaluate((AUDIT / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found = page.evaluate("within => axe.run(within, {preload: false})", within)
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


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_core_finds_no_fault_in_any_screen(visit: Visit, letter: Letter, screen: str) -> None:
    page = visit.open("/reset/")
    page.get_by_label("Email address").wait_for()
    page.evaluate(
        """(screen) => document.querySelectorAll("section").forEach((each) => { each.hidden = each.id !== screen; })""",
        screen,
    )
    expect(page.locator(f"section#{screen} h1")).to_be_visible()
    assert faults(page) == []


def test_every_screen_is_known_to_these_tests(letter: Letter) -> None:
    assert tuple(re.findall(r'<section id="(\w+)"', Client().get("/reset/").content.decode())) == SCREENS


@pytest.mark.parametrize("language", ["de", "ar", "ja", "hi"])
def test_axe_core_finds_no_fault_in_another_language(visit: Visit, letter: Letter, language: str) -> None:
    visit.page.context.set_extra_http_headers({"Accept-Language": language})
    for path in ("/reset/", path_of(letter.token), f"/reset/#report={letter.report}"):
        page = visit.open(path)
        expect(page.locator("h1:visible")).to_be_visible()
        assert page.locator("html").get_attribute("lang") == language
        assert faults(page) == []


def test_axe_core_would_find_a_fault(visit: Visit, letter: Letter) -> None:
    open_form(visit, "ask", letter)
    visit.page.evaluate("document.querySelector('label[for=email]').remove()")
    assert "label" in {fault.split(":")[0] for fault in faults(visit.page)}


def test_without_javascript_the_page_says_what_it_needs() -> None:
    # Read from the source: a Chromium told to run no scripts shows no <noscript> either.
    assert '<noscript><p class="notice bad">This page needs JavaScript' in Client().get("/reset/").content.decode()


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
