"""Whom a request reaches: unknown, inactive, unusable and duplicate accounts, and what support can see of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.dispatch import Signal
from django.test import Client

from accounts import signals
from accounts.mailing import smtp
from tests.conftest import API, NEW_PASSWORD, PASSWORD, PostOffice, record_of


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (None, "unknown"),
        ({"is_active": False}, "inactive"),
        ({"password": None}, "unusable_password"),
    ],
)
def test_an_account_that_cannot_be_recovered_is_mailed_nothing_and_the_timeline_says_why(
    api: API, post: PostOffice, make_user: Callable[..., Any], fields: dict[str, Any] | None, reason: str
) -> None:
    if fields is not None:
        make_user(**fields)
    handle = api.request()["requestId"]
    assert post.deliver() == []
    assert api.status(handle)["status"] == "SENT"  # type: ignore[index]
    timeline = [(event.kind, event.reason) for event in record_of(handle).events.all()]
    assert timeline == [("LOOKED_UP", reason), ("NOT_MAILED", reason)]


@pytest.mark.parametrize("fields", [{"is_active": False}, {"password": None}])
def test_a_resend_to_such_an_account_mails_nothing_either(
    api: API, post: PostOffice, make_user: Callable[..., Any], later: Callable[..., None], fields: dict[str, Any]
) -> None:
    make_user(**fields)
    handle = api.request()["requestId"]
    post.deliver()
    later(seconds=61)
    api.mutate("resendPasswordResetCode", requestId=handle)
    assert post.deliver() == []


def test_several_accounts_on_one_address_get_one_mail_with_a_link_each(
    api: API, post: PostOffice, make_user: Callable[..., Any]
) -> None:
    users = [make_user(username="ada"), make_user("ADA@example.com", username="ada-at-work")]
    handle = api.request()["requestId"]
    letter = post.deliver_one()
    assert letter.code == ""
    assert len(letter.tokens) == 2
    assert letter.text.index("ada\n") < letter.text.index("ada-at-work\n")
    assert api.reset(letter.tokens[1])["__typename"] == "ResetPasswordSuccess"
    for user in users:
        user.refresh_from_db()
    assert [user.check_password(NEW_PASSWORD) for user in users] == [False, True]
    assert record_of(handle).user == users[1]
    assert api.reset(letter.tokens[0])["__typename"] == "InvalidResetTokenError"


def test_a_reset_ends_the_accounts_sessions(api: API, post: PostOffice, user: Any) -> None:
    browser = Client()
    assert browser.login(username="ada", password=PASSWORD)
    get_user_model().objects.update(is_staff=True, is_superuser=True)
    assert browser.get("/admin/").status_code == 200
    api.request()
    api.reset(post.deliver_one().token)
    assert browser.get("/admin/").status_code == 302


def test_a_reset_changes_nothing_of_an_account_but_its_password(api: API, post: PostOffice, user: Any) -> None:
    """WSTG-ATHN-09: whatever else guards an account, such as a second factor, goes on guarding it."""
    users = get_user_model().objects
    before = dict(users.values().get())
    api.request()
    api.reset(post.deliver_one().token)
    after = dict(users.values().get())
    assert {name for name in before if before[name] != after[name]} == {"password"}


def test_nothing_of_an_account_changes_before_a_valid_code(api: API, post: PostOffice, user: Any) -> None:
    browser = Client()
    assert browser.login(username="ada", password=PASSWORD)
    before = get_user_model().objects.values().get()
    reset = api.request()
    letter = post.deliver_one()
    wrong = "000000" if letter.code != "000000" else "000001"
    api.verify(reset["requestId"], wrong)
    api.reset("A" * len(letter.token))
    api.mutate("checkResetToken", resetToken=letter.token)
    api.mutate("cancelPasswordReset", requestId=reset["requestId"])
    assert get_user_model().objects.values().get() == before
    assert "_auth_user_id" in browser.session


def test_a_reset_signs_nobody_in(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    api.reset(post.deliver_one().token)
    assert not api.http.cookies


def test_the_new_password_is_hashed_with_argon2id_in_production(
    api: API, post: PostOffice, user: Any, settings: Any
) -> None:
    settings.PASSWORD_HASHERS = [name for name in settings.PASSWORD_HASHERS if "MD5" not in name] + [
        "django.contrib.auth.hashers.MD5PasswordHasher"
    ]
    api.request()
    api.reset(post.deliver_one().token)
    user.refresh_from_db()
    assert user.password.startswith("argon2$argon2id$")


def test_the_owner_is_told_that_the_password_changed(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    api.reset(post.deliver_one().token)
    letter = post.deliver_one()
    assert letter.message.to == ["ada@example.com"]
    assert "was changed" in letter.text
    assert letter.code == ""
    assert letter.tokens == []


def test_an_account_deleted_after_the_mail_cannot_be_recovered(api: API, post: PostOffice, user: Any) -> None:
    handle = api.request()["requestId"]
    letter = post.deliver_one()
    user.delete()
    assert api.verify(handle, letter.code)["__typename"] == "InvalidCodeError"
    assert api.reset(letter.token)["__typename"] == "InvalidResetTokenError"
    assert api.status(handle)["status"] == "SENT"  # type: ignore[index]


def test_an_account_reopened_after_the_look_is_let_in_by_its_link(
    api: API, post: PostOffice, make_user: Callable[..., Any], later: Callable[..., None]
) -> None:
    """A code could never be right: the record knows no account. So none is mailed."""
    user = make_user(is_active=False)
    handle = api.request()["requestId"]
    post.deliver()
    type(user).objects.update(is_active=True)
    later(seconds=61)
    api.mutate("resendPasswordResetCode", requestId=handle)
    letter = post.deliver_one()
    assert letter.code == ""
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


def test_the_news_of_a_change_tells_its_time_even_when_it_comes_late(
    api: API, post: PostOffice, user: Any, later: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.request()
    api.reset(post.deliver_one().token)
    with monkeypatch.context() as broken:
        broken.setattr(smtp.Connection, "send", _fail)
        assert post.deliver() == []
    later(minutes=3)
    assert "at March 1, 2026, 12:00 PM UTC" in post.deliver_one().text


@pytest.mark.parametrize("signal", [signals.password_reset_completed, signals.password_reset_verified])
def test_a_failing_receiver_without_a_name_takes_nothing_back(
    api: API, post: PostOffice, user: Any, signal: Signal
) -> None:
    """Django logs a failed robust receiver by its name, and stumbles over a partial, which has none."""
    nameless = partial(_fail)
    signal.connect(nameless)
    try:
        handle = api.request()["requestId"]
        token = api.verify(handle, post.deliver_one().code)["resetToken"]
        assert api.reset(token)["__typename"] == "ResetPasswordSuccess"
    finally:
        signal.disconnect(nameless)


def _fail(*args: Any, **kwargs: Any) -> None:
    raise ConnectionRefusedError
