"""An account that gets another address, or is closed, between the mails of a reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import codes
from accounts.codes import code_matches
from accounts.directory import Directory
from accounts.mailing import mailer
from tests.conftest import API, NEW_PASSWORD, PASSWORD, PostOffice, account_of, record_of
from tests.test_mailer import taking


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


def test_a_mail_that_would_leave_after_the_move_goes_to_nobody(api: API, post: PostOffice, user: Any) -> None:
    """The limits have counted the former address: whoever owns the new one may never have asked for anything."""
    handle = api.request()["requestId"]
    mailer.look()
    move(user, "ada@example.org")
    assert post.deliver() == []
    assert [(event.kind, event.reason) for event in record_of(handle).events.all()] == [
        ("LOOKED_UP", "found"),
        ("NOT_MAILED", "moved"),
    ]


def test_a_mail_to_a_moved_account_is_rehearsed_as_a_decoys_is(api: API, user: Any) -> None:
    api.request()
    mailer.look()
    move(user, "ada@example.org")
    server = taking()
    mailer.send_due(server, 10)
    (rehearsed,) = server.rehearsed
    assert server.sent == []
    assert rehearsed.message.to == ["nobody@example.com"]
    assert len(rehearsed.code) == 6


def test_no_code_of_a_moved_accounts_reset_is_ever_right(api: API, post: PostOffice, user: Any) -> None:
    """Not even the one that would have been mailed, had the mail left after the move."""
    handle = api.request()["requestId"]
    mailer.look()
    move(user, "ada@example.org")
    post.deliver()
    user.refresh_from_db()
    record = record_of(handle)
    code = codes.code(record.pk, record.seed, account_of(user), record.generation)
    assert api.verify(handle, code)["__typename"] == "InvalidCodeError"


def test_an_account_that_moves_from_one_address_to_the_next_mails_nobody_but_who_was_asked_for(
    api: API, post: PostOffice, user: Any, settings: Any, later: Callable[..., None]
) -> None:
    """Fourteen mails an hour to a mailbox that nobody had asked for, each counted against an address of the mover's."""
    settings.THROTTLE_REQUEST_PER_IP = "21/hour"
    handles = []
    for number in range(5):
        move(user, f"own{number}@example.org")
        handles.append(api.request(f"own{number}@example.org")["requestId"])
        post.deliver()
    move(user, "victim@example.com")
    mailed = []
    for _ in range(3):
        later(seconds=61)
        for handle in handles:
            api.mutate("resendPasswordResetCode", requestId=handle)
        mailed += post.deliver()
    assert [letter.message.to for letter in mailed] == []
    api.request("victim@example.com")
    assert post.deliver_one().message.to == ["victim@example.com"]


@pytest.mark.parametrize("address", ["Ada@Example.COM", "ADA@example.com"])
def test_an_account_that_only_spells_its_address_anew_has_not_moved(
    api: API, post: PostOffice, user: Any, address: str
) -> None:
    handle = api.request()["requestId"]
    mailer.look()
    move(user, address)
    letter = post.deliver_one()
    assert letter.message.to == [address]
    assert api.verify(handle, letter.code)["__typename"] == "VerifyPasswordResetCodeSuccess"


def test_a_moved_account_costs_the_mailer_and_a_guess_what_a_decoy_costs(
    api: API, post: PostOffice, user: Any, later: Callable[..., None]
) -> None:
    statements = []
    for moves in (True, False):
        with CaptureQueriesContext(connection) as asked:
            handle = api.request("ada@example.com" if moves else "nobody@example.com")["requestId"]
            mailer.look()
            if moves:
                move(user, "ada@example.org")
            mailer.send_due(taking(), 10)
            api.verify(handle, "000000")
        statements.append([query["sql"].split(" ")[0] for query in asked if "account_recovery_" in query["sql"]])
    assert statements[0] == statements[1]


def test_a_move_while_the_new_password_is_hashed_comes_first(
    api: API, post: PostOffice, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_slowly(self: Directory, password: str) -> str:
        move(user, "ada@example.org")
        return make_password(password)

    monkeypatch.setattr(Directory, "hash", hash_slowly)
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
    assert post.deliver_one().message.to == ["Ada@xn--strae-oqa.example"]


def test_an_owner_whose_account_was_moved_to_the_thief_can_report_it(api: API, post: PostOffice, user: Any) -> None:
    api.request()
    api.reset(post.deliver_one().token)
    move(user, "thief@example.org")
    answer = api.report(post.deliver_one().report)
    assert (answer["cancelled"], answer["freshLink"]) == (0, False)
    user.refresh_from_db()
    assert not user.check_password(NEW_PASSWORD)
    assert post.deliver() == []
