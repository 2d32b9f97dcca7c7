"""What a new password must satisfy, and how it is said."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from django.contrib.auth import authenticate

from tests.conftest import API, PostOffice


def codes_of(answer: dict[str, Any]) -> set[str]:
    return {violation["code"] for violation in answer.get("violations", [])}


def check(api: API, password: str, **more: Any) -> dict[str, Any]:
    return api.mutate("checkPassword", newPassword=password, **more)


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_too_short"),
        ("fourteen chars", "password_too_short"),
        ("passwordpassword", "password_too_weak"),
        ("qwertyuiop123456", "password_too_weak"),
        ("aaaaaaaaaaaaaaaaaaaa", "password_too_weak"),
        ("password", "password_too_common"),
        ("x7" * 600, "password_too_long"),
    ],
)
def test_a_bad_password_is_refused_with_the_rule_it_breaks(api: API, password: str, code: str) -> None:
    answer = check(api, password)
    assert answer["__typename"] == "PasswordRejectedError"
    assert code in codes_of(answer)


@pytest.mark.parametrize(
    "password",
    [
        "umbrella cactus violin",
        "nur kleine buchstaben und leerzeichen",
        "\u043a\u043e\u0442 \u043d\u0430 \u043a\u0440\u044b\u0448\u0435 \u0434\u043e\u043c\u0430",
        "\U0001f419 octopus under the teapot \U0001fad6",
        " leading and trailing blanks count ",
        "correct thistle " * 8,
        "kayak radish " + "x1 y2 z3 " * 100,
    ],
)
def test_a_good_password_of_any_kind_is_accepted(api: API, password: str) -> None:
    assert check(api, password)["score"] >= 3


def test_length_is_counted_in_code_points(api: API) -> None:
    """Fifteen emoji are fifteen characters, though sixty bytes and thirty UTF-16 units."""
    cats = "".join(chr(0x1F400 + number * 3) for number in range(15))
    assert "password_too_short" not in codes_of(check(api, cats))
    assert "password_too_short" in codes_of(check(api, cats[:14]))


def test_a_word_of_the_account_counts_with_a_token_and_not_without(api: API, post: PostOffice, make_user: Any) -> None:
    make_user("grizelda.throckmorton@example.com", username="throckmorton")
    api.request("grizelda.throckmorton@example.com")
    token = post.deliver_one().token
    password = "grizelda.throckmorton@example"
    assert check(api, password)["__typename"] == "CheckPasswordSuccess"
    assert "password_too_similar" in codes_of(check(api, password, resetToken=token))
    assert api.reset(token, password)["__typename"] == "PasswordRejectedError"


def test_checking_a_password_spends_nothing(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    token = post.deliver_one().token
    assert check(api, "umbrella cactus violin", resetToken=token)["__typename"] == "CheckPasswordSuccess"
    assert api.reset(token)["__typename"] == "ResetPasswordSuccess"


def test_a_password_is_kept_in_nfc_so_that_any_keyboard_can_type_it(api: API, post: PostOffice, user: Any) -> None:
    typed = unicodedata.normalize("NFD", "caf\u00e9 am kleinen brunnen")
    api.request()
    api.reset(post.deliver_one().token, typed)
    assert authenticate(username="ada", password=unicodedata.normalize("NFC", typed)) == user


def test_a_password_is_neither_trimmed_nor_cut(api: API, post: PostOffice, user: Any) -> None:
    password = " umbrella cactus violin " + "and so on " * 20
    api.request()
    assert api.reset(post.deliver_one().token, password)["__typename"] == "ResetPasswordSuccess"
    assert authenticate(username="ada", password=password) == user
    assert authenticate(username="ada", password=password.strip()) is None
    assert authenticate(username="ada", password=password[:-1]) is None


def test_a_nul_in_a_password_is_an_invalid_input(api: API) -> None:
    answer = check(api, "umbrella\0cactus violin")
    assert (answer["__typename"], answer["field"]) == ("InvalidInputError", "newPassword")


def test_the_policy_says_what_the_validators_hold(api: API) -> None:
    policy = api.execute(
        "{ passwordPolicy { codeLength codeLifetimeSeconds linkLifetimeSeconds tokenLifetimeSeconds cooldownSeconds "
        "minPasswordLength maxPasswordLength rules } }"
    )["passwordPolicy"]
    rules = policy.pop("rules")
    assert policy == {
        "codeLength": 6,
        "codeLifetimeSeconds": 600,
        "linkLifetimeSeconds": 3600,
        "tokenLifetimeSeconds": 600,
        "cooldownSeconds": 60,
        "minPasswordLength": 15,
        "maxPasswordLength": 1024,
    }
    assert any("15 characters" in rule for rule in rules)
