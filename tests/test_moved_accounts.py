"""An account that gets another address, or is closed, between the mails of a reset."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password

from accounts import mailer, recovery
from tests.conftest import API, PASSWORD, PostOffice


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
