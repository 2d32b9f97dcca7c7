"""What a new password must satisfy, and how it is said."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import translation
from django.utils.translation import gettext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.exceptions import InvalidInput, PasswordRejected
from accounts.limits import rules as limits
from accounts.passwords import policy as passwords
from tests.conftest import API, NEW_PASSWORD, PASSWORD, PostOffice

DJANGO = "django.contrib.auth.password_validation"
FULL = "... on Error { message } ... on PasswordRejectedError { violations { code message } }"


def codes_of(answer: dict[str, Any]) -> set[str]:
    return {violation["code"] for violation in answer.get("violations", [])}


def check(api: API, password: str, **more: Any) -> dict[str, Any]:
    return api.mutate("checkPassword", newPassword=password, **more)


def reasons(api: API, password: str, language: str = "en", **more: str) -> dict[str, str]:
    """The violations of a password as a person is told them: code and message."""
    query = f"mutation M($input: CheckPasswordInput!) {{ checkPassword(input: $input) {{ {FULL} }} }}"
    body = {"query": query, "variables": {"input": {"newPassword": password, **more}}}
    answer = api.post(body, **{"Accept-Language": language}).json()["data"]["checkPassword"]
    return {violation["code"]: violation["message"] for violation in answer.get("violations", [])}


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_too_short"),
        ("fourteen chars", "password_too_short"),
        ("passwordpassword", "password_too_weak"),
        ("qwertyuiop123456", "password_too_weak"),
        ("aaaaaaaaaaaaaaaaaaaa", "password_too_weak"),
        ("111111222222333333", "password_too_weak"),
        ("abcdefghijklmnopqrstuvwxyz", "password_too_weak"),
        (" " * 15, "password_too_weak"),
        ("\U0001f419" * 15, "password_too_weak"),
        ("password", "password_too_common"),
        ("password password", "password_too_common"),
        ("Password1234567!", "password_too_common"),
        ("letmein letmein letmein", "password_too_common"),
        ("P4$$w0rd-P4$$w0rd", "password_too_common"),
        ("p4ssw0rd!!!2026", "password_too_common"),
        ("$unsh1ne $unsh1ne", "password_too_common"),
        ("January2026!!!!!!", "password_too_common"),
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
        "monkey 4417 8302 9965 1273",
        "49302857103948571",
        "zqhwlkfnvbtrpgm",
        "e\u0301\u0323" + "\u0301\u0316\u0327\u0331\u0306\u030c\u0328\u0302\u0304\u0311\u0313\u0335\u0338",
        "\U0001f419\U0001fad6\U0001f600\U0001f4a9\U0001f680 +\U0001f9ed\U0001f3bb= \U0001f9c0\U0001f511\U0001f300!",
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
    password = "grizelda.throckmorton@example"  # noqa: S105 (refused, that is the point)
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


# --- Long ones -------------------------------------------------------------------------------------------------------


def test_a_beginning_that_repeats_itself_does_not_condemn_a_long_password(api: API) -> None:
    """zxcvbn is shown 72 code points, of what is left when a repetition stands there once."""
    assert check(api, "a" * 72 + "umbrella cactus violin")["score"] >= 3


@pytest.mark.parametrize("word", ["a", "1234567890", "elephants!", "password", "qwertyuiop"])
@pytest.mark.parametrize("ending", ["", "x"])
def test_a_weak_password_does_not_get_strong_by_being_repeated(api: API, word: str, ending: str) -> None:
    """Wherever a piece of 72 code points may begin in it."""
    assert "password_too_weak" in codes_of(check(api, word * (1000 // len(word)) + ending))


def test_1024_code_points_are_accepted_and_one_more_is_not(api: API) -> None:
    """Counted in NFC: as typed there are 2,048, in UTF-8 more than 3,000 bytes."""
    typed = unicodedata.normalize("NFD", "\u00e9\u00fc\u00e5\u00f1" * 256)
    assert len(typed) == 2048
    assert codes_of(check(api, typed)) == {"password_too_weak"}
    assert codes_of(check(api, typed + "x")) == {"password_too_long"}
    assert check(api, NEW_PASSWORD + "\U0001f419" * (1024 - len(NEW_PASSWORD)))["__typename"] == "CheckPasswordSuccess"


def test_a_password_with_half_a_character_is_refused_and_nothing_breaks(api: API) -> None:
    assert api.post(json.dumps({"query": "{ __typename }", "variables": {"x": "\ud800" * 20}})).status_code == 400
    literal = api.post({"query": 'mutation { checkPassword(input: {newPassword: "\\uD800"}) { __typename } }'})
    assert literal.status_code == 400
    with pytest.raises(InvalidInput):
        passwords.clean("\ud800" * 20)


# --- Words of the context --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [
        "accounts.example.com",
        "Example-Accounts-2026!",
        "example example 2026",
        "3x4mple-acc0unts-77",
        "elpmaxe-stnuocca-77",
        "\uff25xample \u00c9xample 123",
        "examplepassword12345",
        "app.example.org/reset",
        "Acme Rockets 2026",
        "Zephyrine 2026!!",
    ],
)
def test_little_more_than_the_name_of_the_service_is_refused(api: API, settings: Any, password: str) -> None:
    settings.BRAND_NAME, settings.PASSWORD_CONTEXT_WORDS = "Zephyrine", ["Acme", "Rockets"]
    settings.FRONTEND_RESET_URL = "https://app.example.org/reset"
    assert "password_contextual" in codes_of(check(api, password))


@pytest.mark.parametrize("password", ["example violin cactus raft", "kayak radish Example", "accounts of a lost raft"])
def test_the_name_of_the_service_may_be_part_of_a_password_that_is_strong_without_it(api: API, password: str) -> None:
    assert check(api, password)["__typename"] == "CheckPasswordSuccess"


def test_a_context_word_adds_nothing_to_the_score(api: API) -> None:
    assert check(api, "zebra kayak")["violations"] == [{"code": "password_too_short"}]
    assert check(api, "zebra kayak example accounts")["score"] == passwords.strength("zebra kayak  ")


@pytest.mark.parametrize(
    "password",
    [
        "grizelda.throckmorton@mail.test",
        "throckmorton 12345",
        "notromkcorht 12345",
        "Grizelda99 Grizelda99",
        "Thr0ckm0rt0n!!! 1999",
        "Wilhelmina Vanderzee",
    ],
)
def test_little_more_than_the_name_or_the_address_of_the_account_is_refused(make_user: Any, password: str) -> None:
    user = make_user("grizelda.throckmorton@mail.test", "grizelda99", first_name="Wilhelmina", last_name="Vanderzee")
    with pytest.raises(PasswordRejected) as refused:
        passwords.check(password, user)
    assert "password_contextual" in {violation.code for violation in refused.value.violations}


def test_the_reason_names_the_word(api: API) -> None:
    assert "“accounts”" in reasons(api, "accounts12345678901")["password_contextual"]


def test_a_name_of_one_letter_forbids_nothing(make_user: Any) -> None:
    passwords.check("umbrella cactus violin", make_user("a@b.io", "e", first_name="I"))


# --- What a person is told -------------------------------------------------------------------------------------------


class TwoComplaints:
    """A validator of another app, as Django allows it: several errors, one without a code."""

    def validate(self, password: str, user: Any = None) -> None:
        counted = ValidationError("It lacks %(number)d things.", code="lacking", params={"number": 2})
        raise ValidationError([counted, ValidationError("It has no rhythm.")])

    def get_help_text(self) -> str:
        return "Rhythm is wanted."


def test_every_validator_s_code_and_message_reach_the_client(
    api: API, post: PostOffice, make_user: Any, settings: Any
) -> None:
    settings.AUTH_PASSWORD_VALIDATORS = [
        {"NAME": f"{DJANGO}.MinimumLengthValidator", "OPTIONS": {"min_length": 15}},
        {"NAME": f"{DJANGO}.UserAttributeSimilarityValidator"},
        {"NAME": f"{DJANGO}.CommonPasswordValidator"},
        {"NAME": f"{DJANGO}.NumericPasswordValidator"},
        {"NAME": "tests.test_passwords.TwoComplaints"},
    ]
    make_user("ada@example.com", username="12345678")
    api.request()
    assert reasons(api, "12345678", resetToken=post.deliver_one().token) == {
        "password_too_short": "This password is too short. It must contain at least 15 characters.",
        "password_too_similar": "The password is too similar to the username.",
        "password_too_common": "This password is too common.",
        "password_entirely_numeric": "This password is entirely numeric.",
        "lacking": "It lacks 2 things.",
        "invalid": "It has no rhythm.",
    }


def test_each_rule_of_ours_has_its_own_code_and_reason(api: API) -> None:
    told = {
        **reasons(api, "short"),
        **reasons(api, "x" * 1025),
        **reasons(api, "password password"),
        **reasons(api, "example 1234567890"),
        **reasons(api, "aaaaaaaaaaaaaaaaaaaa"),
    }
    assert set(told) == {
        "password_too_short",
        "password_too_long",
        "password_too_common",
        "password_contextual",
        "password_too_weak",
    }
    assert len(set(told.values())) == len(told)


def test_the_reason_is_in_the_language_of_the_one_who_asks(api: API, settings: Any) -> None:
    """Nothing is translated before the request is there."""
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]
    assert "mindestens 15 Zeichen" in reasons(api, "kurz", language="de")["password_too_short"]
    assert "at least 15 characters" in reasons(api, "kurz", language="en")["password_too_short"]


def test_no_sentence_of_the_policy_is_fixed_when_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator is made once; what it says must still be looked up each time."""
    before = [rule.text for rule in passwords.rules()]
    monkeypatch.setattr(passwords, "_", lambda text: f"<{gettext(text)}>")
    monkeypatch.setattr(passwords, "ngettext", lambda *forms: f"<{forms[1]}>")
    ours = [rule.text for rule in passwords.rules() if rule.text.startswith("<")]
    assert len(ours) == 4
    assert {rule.strip("<>") for rule in ours} <= set(before)
    with translation.override("de"):
        assert any("mindestens 15" in rule.text for rule in passwords.rules())


def test_the_policy_has_a_sentence_for_each_rule(settings: Any) -> None:
    told = [rule.text for rule in passwords.rules()]
    assert len(set(told)) == len(settings.AUTH_PASSWORD_VALIDATORS)
    for word in ("15 characters", "1024 characters", "common", "name of this service", "hard to guess", "similar"):
        assert any(word in rule for rule in told), word


def test_django_s_own_forms_hold_the_same_policy(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever sets a password in the admin or from the shell meets the validators, too."""
    get_user_model().objects.create_superuser("root", "root@example.com", PASSWORD)
    client = Client()
    client.login(username="root", password=PASSWORD)
    form = {"old_password": PASSWORD, "new_password1": "example 1234567890", "new_password2": "example 1234567890"}
    page = client.post("/admin/password_change/", form).content.decode()
    assert "a word others connect with this service" in page


# --- One answer from both --------------------------------------------------------------------------------------------


def test_the_password_in_use_may_be_set_again(api: API, post: PostOffice, user: Any) -> None:
    """To refuse it would tell whoever has the link whether a guess at it is right, as often as they like to ask."""
    api.request()
    token = post.deliver_one().token
    assert check(api, PASSWORD, resetToken=token)["__typename"] == "CheckPasswordSuccess"
    assert api.reset(token, PASSWORD)["__typename"] == "ResetPasswordSuccess"
    before = user.password
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert user.password != before


WORDS = ["password", "ada", "example", "qwerty", "violin", "kayak", "radish", "2026", "!", " ", "\u0301", "\0", "@"]
TYPED = st.one_of(
    st.text(max_size=90),
    st.lists(st.sampled_from(WORDS), max_size=8).map("".join),
    st.tuples(st.sampled_from(WORDS), st.integers(1, 400)).map(lambda pair: pair[0] * pair[1]),
    st.text(alphabet="4@8({[</369&#!1/|0$5+7%2/", max_size=72),
)


def test_a_password_is_refused_alike_when_it_is_tried_and_when_it_is_set(
    api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    api.request()
    token = post.deliver_one().token

    @given(TYPED)
    @hypothesis_settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    def holds(password: str) -> None:
        nonlocal token
        limits.reset()
        tried, done = check(api, password, resetToken=token), api.reset(token, password)
        if done["__typename"] == "ResetPasswordSuccess":
            assert tried["__typename"] == "CheckPasswordSuccess"
            assert tried["score"] >= 3
            api.request()
            token = post.deliver()[-1].token
        else:
            assert done["__typename"] in {"PasswordRejectedError", "InvalidInputError"}
            assert tried == done

    holds()
