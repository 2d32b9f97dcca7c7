"""Brands: one key in the request, and page, mails, sender, links and host of the code follow."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import brands, colors
from accounts.mailing.headers import parse_sender
from accounts.models import ForgetPassword
from accounts.passwords.policy import context_words
from accounts.recovery import reporting
from accounts.recovery.client import Client as Asker
from tests.conftest import API, PostOffice

SHOP = {
    "name": "Example Shop",
    "logo": "https://cdn.example.net/shop.png",
    "color": "#7A1F5C",
    "support_email": "help@shop.example.com",
    "sign_in_url": "https://shop.example.com/login",
    "reset_url": "https://shop.example.com/#/forgot",
    "sender": "Shop <no-reply@shop.example.com>",
}


@pytest.fixture
def shops(settings: Any) -> Any:
    settings.BRANDS = {"shop": SHOP, "plain": {"name": "Plain & Co."}}
    return settings


# --- Picked by a key -------------------------------------------------------------------------------------------------


def test_the_mail_has_the_brand_that_the_frontend_has_named(shops: Any, api: API, post: PostOffice, user: Any) -> None:
    api.request(app="shop")
    letter = post.deliver_one()
    assert letter.subject == "Example Shop: Your code to reset the password"
    assert letter.message.from_email == SHOP["sender"]
    assert "\nhttps://shop.example.com/#/forgot?token=" in letter.text
    assert letter.text.endswith(f"@shop.example.com #{letter.code}\n")
    assert letter.message.extra_headers["Message-ID"].endswith("@shop.example.com>")
    html = letter.html
    assert 'src="https://cdn.example.net/shop.png" alt="Example Shop"' in html
    assert "background: #7a1f5c" in html
    assert "#0b57a4" not in html
    assert "help@shop.example.com" in html


def test_without_a_key_it_is_the_default_one(shops: Any, api: API, post: PostOffice, user: Any) -> None:
    api.request(app=None)
    letter = post.deliver_one()
    assert "\nhttps://accounts.example.com/reset/#token=" in letter.text
    assert "Shop" not in letter.text + letter.subject + letter.html


def test_what_a_brand_leaves_out_is_the_sites_page_and_address(
    shops: Any, api: API, post: PostOffice, user: Any
) -> None:
    shops.DEFAULT_FROM_EMAIL, shops.SUPPORT_EMAIL = "Example <no-reply@example.com>", "help@example.com"
    api.request(app="plain")
    letter = post.deliver_one()
    assert letter.message.from_email == '"Plain & Co." <no-reply@example.com>'
    assert "\nhttps://accounts.example.com/reset/plain/#token=" in letter.text
    assert "help@example.com" not in letter.text + letter.html


@pytest.mark.parametrize("key", ["shops", "SHOP", "https://evil.example/", "\0", "x" * 5000])
def test_a_key_that_is_not_there_is_a_typed_refusal(
    shops: Any, api: API, user: Any, django_assert_num_queries: Any, key: str
) -> None:
    for email in (user.email, "nobody@example.com"):
        with django_assert_num_queries(0):
            answer = api.mutate("requestPasswordReset", email=email, app=key)
        assert answer["__typename"] == "InvalidInputError"
        assert answer["field"] == "app"
        assert key not in answer["message"]
    assert not ForgetPassword.objects.exists()


def test_a_reset_outlives_a_brand_that_is_taken_out(shops: Any, api: API, post: PostOffice, user: Any) -> None:
    api.request(app="shop")
    shops.BRANDS = {}
    assert "\nhttps://accounts.example.com/reset/#token=" in post.deliver_one().text


def test_the_fresh_link_after_a_report_has_the_brand_of_what_was_reported(
    shops: Any, api: API, post: PostOffice, user: Any
) -> None:
    api.request(app="shop")
    letter = post.deliver_one()
    api.reset(letter.token)
    post.deliver_one()
    assert reporting.report(letter.report, Asker("192.0.2.1")).fresh_link
    assert "\nhttps://shop.example.com/#/forgot?token=" in post.deliver_one().text


def test_support_may_name_a_brand(shops: Any, post: PostOffice, user: Any) -> None:
    call_command("start_reset", user.email, brand="shop")
    assert "The support team of Example Shop" in post.deliver_one().text
    with pytest.raises(CommandError, match="BRANDS has no shops"):
        call_command("start_reset", user.email, brand="shops")


def test_the_words_of_all_brands_are_too_little_for_a_password(shops: Any) -> None:
    assert {"Example Shop", "Shop", "shop", "Plain"} <= context_words()


# --- The page --------------------------------------------------------------------------------------------------------


def test_the_page_of_a_brand_lets_in_its_style_and_its_logo_alone(shops: Any, client: Client, db: None) -> None:
    response = client.get("/reset/shop/")
    html, policy = response.content.decode(), response["Content-Security-Policy"]
    assert 'data-app="shop"' in html
    assert "--accent:#7a1f5c" in html
    assert "img-src data: https://cdn.example.net;" in policy
    assert "style-src 'self' 'sha256-" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/reset/", "/reset/nobody/", "/reset/nobody%23token=abc"])
def test_any_other_page_is_the_default_ones(shops: Any, client: Client, db: None, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert "data-app" not in response.content.decode()
    assert "sha256" not in response["Content-Security-Policy"]


@pytest.mark.parametrize("sign", ["%23", "%2523"])
def test_a_link_with_an_encoded_number_sign_opens_the_brands_page(
    shops: Any, client: Client, db: None, sign: str
) -> None:
    assert 'data-app="shop"' in client.get(f"/reset/shop/{sign}token=abc").content.decode()


# --- What is told at start -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "An object of objects"),
        ({"shop": "Example"}, "An object of objects"),
        ({"Shop": {"name": "Shop"}}, "Shop: a key has 1 to 40"),
        ({"shop": {}}, "shop: name is missing."),
        ({"shop": {"name": ""}}, "shop: name is a text, or left out."),
        ({"shop": {"name": "<b>"}}, "shop: name: A name of 60 letters"),
        ({"shop": {"name": "Shop", "key": "x"}}, "shop: there is no key; there are color, logo"),
        ({"shop": {"name": "Shop", "color": "red"}}, "shop: color: Not a color, such as #0b57a4."),
        ({"shop": {"name": "Shop", "color": "#ffcc00"}}, "Take a darker one, such as #806600."),
        ({"shop": {"name": "Shop", "logo": "//cdn.example.net/a.png"}}, "shop: logo: Not a web address"),
        ({"shop": {"name": "Shop", "support_email": "us"}}, "shop: support_email: Not an email address"),
        ({"shop": {"name": "Shop", "reset_url": "https://a.example/#here"}}, "shop: reset_url: Behind the # stands"),
        ({"shop": {"name": "Shop", "sender": "nobody"}}, "shop: sender: "),
    ],
)
def test_a_mistake_is_named_with_its_mend(given: Any, told: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is looked at below)
        brands.parse(given, parse_sender)
    assert told in str(caught.value)


def test_all_mistakes_are_told_at_once(settings: Any) -> None:
    settings.BRANDS = {"a": {"name": "A", "color": "#fff", "sender": "x"}, "b": {"logo": "y"}}
    settings.BRAND_COLOR = "#ffff00"
    assert [found.id for found in run_checks(tags=["compatibility"])] == ["account_recovery.E018"] * 5


@pytest.mark.parametrize("given", [[], ["shop"], {"shop": "Example"}])
def test_what_is_no_brands_at_all_is_told_by_every_check_alike(settings: Any, given: Any) -> None:
    settings.BRANDS, settings.FRONTEND_RESET_URL = given, "https://app.example.com/reset"
    found = run_checks(tags=["compatibility", "security"], include_deployment_checks=True)
    assert "account_recovery.E018" in [each.id for each in found]


def test_a_page_over_plain_http_is_told(settings: Any) -> None:
    settings.BRANDS = {"shop": {"name": "Shop", "reset_url": "http://shop.example.com/forgot"}}
    found = run_checks(tags=["security"], include_deployment_checks=True)
    assert "The reset_url of shop in BRANDS is plain HTTP." in [each.msg for each in found]


def test_a_brand_with_a_page_of_its_own_needs_no_page_of_ours(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.hosts.without_pages"
    settings.FRONTEND_RESET_URL = "https://app.example.com/reset"
    settings.BRANDS = {"shop": {"name": "Shop", "reset_url": "https://shop.example.com/forgot"}}
    assert brands.of("shop").reset_url == "https://shop.example.com/forgot"
    assert "Shop" in context_words()
    assert [found.id for found in run_checks(tags=["compatibility"])] == []
    settings.BRANDS = {"shop": {"name": "Shop"}}
    assert [found.id for found in run_checks(tags=["compatibility"])] == ["account_recovery.E013"]


# --- Colors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    # The first three are WCAG's own bounds; the last is a gray known for just passing on white.
    [("#000000", "#ffffff", 21), ("#ffffff", "#ffffff", 1), ("#ffffff", "#000000", 21), ("#767676", "#ffffff", 4.54)],
)
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert colors.contrast(one, other) == pytest.approx(ratio, abs=0.005)


@pytest.mark.parametrize("color", ["#7a1f5c", "#000000", "#0b57a4", "#8f0000", "#00632b", "#5c5c00"])
def test_whatever_is_allowed_can_be_read_everywhere(color: str) -> None:
    palette = brands.Palette.of(brands.parse_color(color))
    for words, ground in (
        (palette.accent, brands.GROUND),
        (palette.accent, "#ffffff"),
        (palette.on_accent, palette.accent),
        (palette.on_accent, palette.hover),
        (palette.dark_accent, brands.DARK_CARD),
        (palette.dark_on_accent, palette.dark_accent),
        (palette.dark_on_accent, palette.dark_hover),
    ):
        assert colors.contrast(words, ground) >= colors.READABLE
