"""requestPasswordReset: what it takes, what it refuses, and that it tells strangers nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import ForgetPassword
from tests.conftest import API, PostOffice, record_of

KEY = "q7Jx2mBz0LrT9wVs4NcY1kD"
FULL_WIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "ada@example.com")
"""As a Japanese keyboard may well send it."""


def test_a_request_costs_one_insert_and_looks_no_account_up(api: API, user: Any) -> None:
    query = "mutation { requestPasswordReset(input: {email: %s}) { __typename } }"
    with CaptureQueriesContext(
        connection,
    ) as known:
        api.execute(query % '"ada@example.com"')
    with CaptureQueriesContext(connection) as unknown:
        api.execute(query % '"nobody@example.com"')
    for queries in (known, unknown):
        (statement,) = [each["sql"] for each in queries if "SAVEPOINT" not in each["sql"]]
        assert statement.startswith("INSERT")
        assert "auth_user" not in statement


def test_known_and_unknown_addresses_are_answered_alike(api: API, user: Any) -> None:
    known, unknown = api.request("ada@example.com"), api.request("nobody@example.com")
    for private in ("requestId", "matchPhrase", "createdAt", "resendAvailableAt"):
        assert len(known[private]) > 0
        assert known.pop(private) != unknown.pop(private)
    assert known == unknown


@pytest.mark.parametrize(
    "email",
    [
        "",
        " ",
        "ada",
        "ada@",
        "@example.com",
        "ada@example",
        "ada@exa mple.com",
        "ada@example.com, eve@example.com",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com\nX: y",
        "ada\0@example.com",
        "ada@example.com\0",
        "a" * 250 + "@example.com",
        "a" * 60_000,
        "<ada@example.com>",
        "\u202e@example.com",
    ],
)
def test_what_is_no_address_is_refused_and_leaves_no_row(api: API, email: str) -> None:
    answer = api.mutate("requestPasswordReset", email=email)
    assert (answer["__typename"], answer["field"]) == ("InvalidInputError", "email")
    assert not ForgetPassword.objects.exists()


@pytest.mark.parametrize(
    "email",
    [
        " ada@example.com ",
        "ADA@EXAMPLE.COM",
        FULL_WIDTH,
        "\u200bada@example.com",
        "\ufeffada@exam\u00adple.com\u200b ",
        "\u202eada@example.com\u202c",
        "\u2066ada\u2069@example.com",
    ],
)
def test_other_spellings_of_an_address_reach_its_owner(api: API, post: PostOffice, user: Any, email: str) -> None:
    api.request(email)
    assert post.deliver_one().message.to == ["ada@example.com"]


@pytest.mark.parametrize("email", ["m\u0131ke@example.com", "mike@ex\u0430mple.com"])
def test_a_look_alike_reaches_nobody(api: API, post: PostOffice, make_user: Callable[..., Any], email: str) -> None:
    """CVE-2019-19844: PostgreSQL takes a dotless i for an i; and a Cyrillic a is no Latin one."""
    make_user("mike@example.com")
    api.request(email)
    assert post.deliver() == []


@pytest.mark.parametrize("typed", ["anna@fa\u00df.example", "anna@xn--fa-hia.example", "ANNA@FA\u00df.EXAMPLE"])
@pytest.mark.parametrize("stored", ["anna@fa\u00df.example", "anna@xn--fa-hia.example"])
def test_a_code_goes_to_the_owners_domain_and_to_no_other(
    api: API, post: PostOffice, make_user: Callable[..., Any], stored: str, typed: str
) -> None:
    """By IDNA 2003 it would go to fass.example, and whoever owns that would take the account."""
    make_user(stored)
    handle = api.request(typed)["requestId"]
    letter = post.deliver_one()
    assert letter.message.to == ["anna@xn--fa-hia.example"]
    assert api.verify(handle, letter.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_an_address_that_would_be_decoded_into_another_gets_no_mail(
    api: API, post: PostOffice, make_user: Callable[..., Any]
) -> None:
    make_user("=?utf-8?b?dmljdGlt?=@corp.example")
    handle = api.request("=?utf-8?b?dmljdGlt?=@corp.example")["requestId"]
    assert post.deliver() == []
    assert record_of(handle).mail_error == "address"


def test_an_address_is_kept_as_typed_in_nfc(api: API) -> None:
    typed = unicodedata.normalize("NFD", "ada@caf\u00e9.example.com")
    assert record_of(api.request(f" {typed} ")["requestId"]).email == "ada@caf\u00e9.example.com"


def test_an_unknown_address_is_wiped_once_looked_up(api: API, post: PostOffice) -> None:
    handle = api.request("nobody@example.com")["requestId"]
    assert record_of(handle).email == "nobody@example.com"
    assert post.deliver() == []
    assert record_of(handle).email == ""


@pytest.mark.parametrize("locale", ["x" * 100, "en\r\nX", "../../etc", "e\0n", "en_US.UTF-8!"])
def test_what_is_no_language_is_refused(api: API, locale: str) -> None:
    answer = api.mutate("requestPasswordReset", email="ada@example.com", locale=locale)
    assert (answer["__typename"], answer["field"]) == ("InvalidInputError", "locale")


@pytest.mark.parametrize("locale", ["en", "pt-BR", "zh-Hant-TW", "tlh"])
def test_a_language_we_do_not_speak_is_no_reason_to_refuse(api: API, post: PostOffice, user: Any, locale: str) -> None:
    api.request(locale=locale)
    assert post.deliver_one().code


# --- idempotency -----------------------------------------------------------------------------------------------------


def test_a_repeated_key_answers_with_the_same_reset_and_mails_nothing(api: API, post: PostOffice, user: Any) -> None:
    first = api.request(idempotencyKey=KEY)
    assert len(post.deliver()) == 1
    again = api.request(idempotencyKey=KEY)
    assert again["requestId"] == first["requestId"]
    assert again["status"] == "SENT"
    assert post.deliver() == []


def test_a_key_is_good_for_an_hour(api: API, later: Callable[..., None]) -> None:
    first = api.request(idempotencyKey=KEY)
    later(minutes=59)
    assert api.request(idempotencyKey=KEY)["requestId"] == first["requestId"]
    later(minutes=2)
    assert api.request(idempotencyKey=KEY)["requestId"] != first["requestId"]


def test_a_key_is_answered_before_the_cooldown_and_the_limit_of_the_address(api: API, settings: Any) -> None:
    settings.THROTTLE_REQUEST_PER_EMAIL = "1/hour"
    first = api.request(idempotencyKey=KEY)
    assert api.mutate("requestPasswordReset", email="ada@example.com")["__typename"] == "RateLimitedError"
    assert api.request(idempotencyKey=KEY)["requestId"] == first["requestId"]


def test_a_key_does_not_get_around_the_clients_limit(api: API, settings: Any) -> None:
    settings.THROTTLE_REQUEST_PER_IP = "2/hour"
    api.request(idempotencyKey=KEY)
    api.request(idempotencyKey=KEY)
    answer = api.mutate("requestPasswordReset", email="ada@example.com", idempotencyKey=KEY)
    assert answer["__typename"] == "RateLimitedError"


def test_a_key_used_for_another_address_is_another_intention(api: API) -> None:
    one = api.request("ada@example.com", idempotencyKey=KEY)
    other = api.request("bob@example.com", idempotencyKey=KEY)
    assert one["requestId"] != other["requestId"]


@pytest.mark.parametrize("key", ["", "short", "x" * 21, "x" * 201, "with space " * 3, "\0" * 22, "\u00e9" * 22])
def test_a_key_that_could_be_guessed_is_refused(api: API, key: str) -> None:
    answer = api.mutate("requestPasswordReset", email="ada@example.com", idempotencyKey=key)
    assert (answer["__typename"], answer["field"]) == ("InvalidInputError", "idempotencyKey")


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_an_address_has_a_cooldown(api: API, user: Any, later: Callable[..., None], email: str) -> None:
    api.request(email)
    answer = api.mutate("requestPasswordReset", email=email.upper())
    assert (answer["__typename"], answer["retryAfter"]) == ("RateLimitedError", 60)
    later(seconds=60)
    api.request(email)


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_an_address_has_five_mails_an_hour(api: API, user: Any, later: Callable[..., None], email: str) -> None:
    for _ in range(5):
        api.request(email)
        later(seconds=61)
    answer = api.mutate("requestPasswordReset", email=email)
    assert answer["__typename"] == "RateLimitedError"
    assert answer["message"] == (
        "No more emails to this address for now. If one has come: the link in the newest works for 60 minutes, "
        "unless the account was changed or an email was reported since."
    )
    assert answer["retryAfter"] == 3600 - 5 * 61
    later(seconds=answer["retryAfter"])
    api.request(email)


def test_resends_count_towards_the_limit_of_the_address(api: API, later: Callable[..., None], settings: Any) -> None:
    settings.THROTTLE_REQUEST_PER_EMAIL = "1/hour"
    reset = api.request()
    later(seconds=61)
    PostOffice().deliver()
    answer = api.mutate("resendPasswordResetCode", requestId=reset["requestId"])
    assert answer["__typename"] == "RateLimitedError"


def test_a_client_has_twenty_requests_an_hour(api: API) -> None:
    for number in range(20):
        api.request(f"user{number}@example.com")
    answer = api.mutate("requestPasswordReset", email="one-more@example.com")
    assert answer["__typename"] == "RateLimitedError"


def test_a_client_has_sixty_codes_and_sixty_bad_tokens_an_hour(api: API) -> None:
    handle = api.request()["requestId"]
    for verb, values, kind in (
        ("checkResetToken", {"resetToken": "x"}, "InvalidResetTokenError"),
        ("verifyPasswordResetCode", {"requestId": handle, "code": "123"}, "InvalidCodeError"),
    ):
        for _ in range(60):
            assert api.mutate(verb, **values)["__typename"] == kind
        assert api.mutate(verb, **values)["__typename"] == "RateLimitedError", verb


def test_a_spoofed_forwarded_header_is_no_other_client(api: API, settings: Any) -> None:
    settings.THROTTLE_REQUEST_PER_IP = "1/hour"
    query = "mutation($e: String!) { requestPasswordReset(input: {email: $e}) { __typename } }"
    answers = []
    for number in range(2):
        body = {"query": query, "variables": {"e": f"user{number}@example.com"}}
        response = api.post(body, **{"X-Forwarded-For": f"203.0.113.{number}"})
        answers.append(response.json()["data"]["requestPasswordReset"]["__typename"])
    assert answers == ["RequestPasswordResetSuccess", "RateLimitedError"]


@pytest.mark.parametrize(
    ("proxies", "header", "client"),
    [
        (0, "203.0.113.1", "127.0.0.1"),
        (1, "203.0.113.1", "203.0.113.1"),
        (1, "198.51.100.9, 203.0.113.1", "203.0.113.1"),
        (2, "198.51.100.9, 203.0.113.1", "198.51.100.9"),
        (2, "6.6.6.6, 198.51.100.9, 203.0.113.1", "198.51.100.9"),
        (2, "203.0.113.1", "127.0.0.1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "rubbish", "127.0.0.1"),
        (1, "", "127.0.0.1"),
    ],
)
def test_only_what_trusted_proxies_appended_is_believed(
    api: API, settings: Any, proxies: int, header: str, client: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    query = 'mutation { requestPasswordReset(input: {email: "ada@example.com"}) { __typename } }'
    api.post({"query": query}, **{"X-Forwarded-For": header})
    assert ForgetPassword.objects.get().client_ip == client


def asked_from(api: API, addresses: Iterable[str]) -> list[bool]:
    """Which of these clients' requests were accepted, each for an address of its own."""
    query = "mutation($e: String!) { requestPasswordReset(input: {email: $e}) { __typename } }"
    answers = []
    for address in addresses:
        body = {"query": query, "variables": {"e": f"{address.replace(':', '-')}@example.com"}}
        response = api.post(body, **{"X-Forwarded-For": address})
        answers.append(response.json()["data"]["requestPasswordReset"]["__typename"] == "RequestPasswordResetSuccess")
    return answers


def test_the_networks_of_an_ipv6_client_share_growing_limits(api: API, settings: Any) -> None:
    settings.THROTTLE_REQUEST_PER_IP, settings.TRUSTED_PROXIES = "1/hour", 1
    assert asked_from(api, ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"]) == [True, False, True]
    assert asked_from(api, ["2001:db8:1:4::1", "2001:db8:1:5::1", "2001:db8:1:105::1"]) == [True, False, True]
    assert sum(asked_from(api, (f"2001:db8:1:{number:x}00::1" for number in range(2, 99)))) == 6
    assert asked_from(api, ["2001:db8:2:2::1"]) == [True]


def test_of_300_networks_of_one_site_not_all_may_request(api: API, settings: Any) -> None:
    """A /48, as one customer may have it, holds 65,536 networks of 64 bits."""
    settings.TRUSTED_PROXIES = 1
    assert sum(asked_from(api, (f"2001:db8:1:{number:x}::1" for number in range(300)))) == 60 + 44
    assert sum(asked_from(api, (f"2001:db8:2:{number:x}00::1" for number in range(256)))) == 200


@pytest.mark.parametrize("form", ["2002:cb00:7101:{:x}::1", "2001:0:c633:6401:0:{:x}:34ff:8efe"])
def test_the_networks_of_an_ipv4_client_within_ipv6_are_that_client(api: API, settings: Any, form: str) -> None:
    """6to4 and Teredo: a single IPv4 address has tens of thousands of IPv6 addresses, wherever it likes."""
    settings.TRUSTED_PROXIES = 1
    addresses = [form.format(number) for number in range(1, 30)]
    assert asked_from(api, ["203.0.113.1", *addresses]) == [True] * 20 + [False] * 10
