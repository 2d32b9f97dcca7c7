"""An account that gets another address, or is closed, between the mails of a reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password

from accounts import mailer, recovery
from accounts.codes import code_matches
from tests.conftest import API, NEW_PASSWORD, PASSWORD, PostOffice


def move(user: Any, address: str) -> None:
    """Give the account another address, as a profile page would."""
    get_user_model().objects.filter(pk=user.pk).update(email=address)


@pytest.mark.parametrize("address", ["ada@example.org", ""])
def test_a_link_mailed_to_the_former_address_lets_nobody_in(
    api: API, post: PostOffice, user: Any, address: str
) -> None:
    """Who leaves a mailbox because somebody else reads it must not have to wait for the link in it to run out."""
    api.request()
    token = post.deliver_one().token
    move(user, address)
    assert api.mutate("checkResetToken", resetToken=token)["__typename"] == "InvalidResetTokenError"
    assert api.reset(token)["__typename"] == "InvalidResetTokenError"


def test_a_code_mailed_to_the_former_address_is_never_right(api: API, post: PostOffice, user: Any) -> None:
    handle = api.request()["requestId"]
    code = post.deliver_one().code
    move(user, "ada@example.org")
    assert api.verify(handle, code)["__typename"] == "InvalidCodeError"


def test_a_move_while_the_code_is_compared_comes_first(
    api: API, post: PostOffice, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = api.request()["requestId"]
    code = post.deliver_one().code

    def compared(*given: Any) -> bool:
        equal = code_matches(*given)
        move(user, "ada@example.org")
        return equal

    monkeypatch.setattr("accounts.codes.code_matches", compared)
    assert api.verify(handle, code)["__typename"] == "InvalidCodeError"


def test_a_code_token_dies_when_the_account_moves(api: API, post: PostOffice, user: Any) -> None:
    handle = api.request()["requestId"]
    token = api.verify(handle, post.deliver_one().code)["resetToken"]
    move(user, "ada@example.org")
    assert api.reset(token)["__typename"] == "InvalidResetTokenError"


def test_a_mail_that_left_after_the_move_goes_to_the_new_address_and_lets_in(
    api: API, post: PostOffice, user: Any
) -> None:
    api.request()
    mailer.look()
    move(user, "ada@example.org")
    letter = post.deliver_one()
    assert letter.message.to == ["ada@example.org"]
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"


def test_a_move_while_the_new_password_is_hashed_comes_first(
    api: API, post: PostOffice, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_slowly(password: str) -> str:
        move(user, "ada@example.org")
        return make_password(password)

    monkeypatch.setattr(recovery, "hash_password", hash_slowly)
    api.request()
    assert api.reset(post.deliver_one().token)["__typename"] == "InvalidResetTokenError"
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


def test_the_news_of_a_change_goes_to_the_mailbox_that_proved_it_although_the_account_has_moved(
    api: API, post: PostOffice, user: Any
) -> None:
    """A thief's first act is to move the account, and it may well come before the news has left."""
    api.request()
    api.reset(post.deliver_one().token)
    move(user, "thief@example.org")
    assert post.deliver_one().message.to == ["ada@example.com"]


@pytest.mark.parametrize("done", ["closed", "deleted"])
def test_the_news_of_a_change_is_told_although_the_account_is_gone(
    api: API, post: PostOffice, user: Any, done: str
) -> None:
    api.request()
    api.reset(post.deliver_one().token)
    user.delete() if done == "deleted" else type(user).objects.update(is_active=False)
    assert post.deliver_one().message.to == ["ada@example.com"]


def test_the_news_of_a_change_goes_to_the_stored_address_and_not_to_the_typed_one(
    api: API, post: PostOffice, make_user: Callable[..., Any]
) -> None:
    user = make_user("Ada@straße.example")
    api.request("ada@STRAßE.example")
    api.reset(post.deliver_one().token)
    user.delete()
    assert post.deliver_one().message.to == ["Ada@straße.example"]


def test_an_owner_whose_account_was_moved_to_the_thief_can_report_it(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    api.reset(post.deliver_one().token)
    move(user, "thief@example.org")
    answer = api.report(post.deliver_one().report)
    assert (answer["cancelled"], answer["freshLink"]) == (0, False)
    user.refresh_from_db()
    assert not user.check_password(NEW_PASSWORD)
    assert post.deliver() == []
