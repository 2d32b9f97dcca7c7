"""The two mails that are off unless asked for: to who signs in another way, and to an address without an account."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.core import mail

from accounts import transitions
from accounts.directory import Directory
from accounts.mailing import mailer, smtp
from accounts.models import ForgetPassword, PasswordResetEvent
from tests.conftest import API, Letter, PostOffice

Later = Callable[..., None]

TYPED = "nobody@example.com"


@pytest.fixture
def explain(settings: Any) -> None:
    settings.MAIL_WITHOUT_PASSWORD = "explain"  # noqa: S105 (a mode)


@pytest.fixture
def told(settings: Any) -> None:
    settings.MAIL_UNKNOWN = "on"


@pytest.fixture
def elsewhere(make_user: Callable[..., Any]) -> Any:
    """An account that signs in by another service."""
    user = make_user("Ada@example.com")
    user.set_unusable_password()
    user.save()
    return user


class Social(Directory):
    def sign_in_ways(self, account: Any) -> Sequence[str]:
        return ["Google", f"the card of {account.username}"]


def timeline() -> list[tuple[str, str]]:
    return list(PasswordResetEvent.objects.order_by("pk").values_list("kind", "reason"))


def holds_no_secret(letter: Letter) -> bool:
    whole = letter.text + letter.html
    return not letter.code and not letter.tokens and "token=" not in whole and "report=" not in whole


# --- Without a password ----------------------------------------------------------------------------------------------


def test_who_signs_in_another_way_is_told_which(
    explain: None, elsewhere: Any, api: API, post: PostOffice, settings: Any
) -> None:
    settings.RECOVERY_DIRECTORY = f"{__name__}.Social"
    settings.SIGN_IN_URL = "https://app.example.com/login"
    handle = api.request("ada@example.com")["requestId"]
    letter = post.deliver_one()
    assert letter.message.to == ["Ada@example.com"]
    assert letter.message.subject == "accounts.example.com: How you sign in"
    assert "Sign in as you always do: Google, the card of" in letter.text
    assert "https://app.example.com/login" in letter.text
    assert holds_no_secret(letter)
    assert timeline() == [("LOOKED_UP", "unusable_password"), ("MAILED", "unusable_password")]
    assert (api.status(handle) or {})["status"] == "SENT"
    assert not ForgetPassword.objects.exclude(user=None).exists()


def test_without_names_the_mail_says_what_it_knows(explain: None, elsewhere: Any, api: API, post: PostOffice) -> None:
    api.request("ada@example.com")
    assert "for example with the button of another service" in post.deliver_one().text


def test_nobody_is_told_unless_the_operator_says_so(elsewhere: Any, api: API, post: PostOffice) -> None:
    api.request("ada@example.com")
    api.request(TYPED)
    assert post.deliver() == []


def test_a_password_lost_between_two_mails_is_told_by_the_second(
    explain: None, user: Any, api: API, post: PostOffice, later: Later
) -> None:
    handle = api.request("ada@example.com")["requestId"]
    assert post.deliver_one().code
    user.set_unusable_password()
    user.save()
    later(minutes=2)
    api.mutate("resendPasswordResetCode", requestId=handle)
    assert "no password here" in post.deliver_one().text


def test_what_moved_elsewhere_is_not_told_there(
    explain: None, user: Any, api: API, post: PostOffice, later: Later
) -> None:
    handle = api.request("ada@example.com")["requestId"]
    post.deliver_one()
    user.set_unusable_password()
    user.email = "new@example.com"
    user.save()
    later(minutes=2)
    api.mutate("resendPasswordResetCode", requestId=handle)
    assert post.deliver() == []


# --- Without an account ----------------------------------------------------------------------------------------------


def test_an_address_without_account_is_told_so_once_and_forgotten(
    told: None, api: API, post: PostOffice, later: Later
) -> None:
    handle = api.request(TYPED)["requestId"]
    letter = post.deliver_one()
    assert letter.message.to == [TYPED]
    assert letter.message.subject == "accounts.example.com: No account with this address"
    assert "to the address of your account" not in letter.html
    assert holds_no_secret(letter)
    assert timeline() == [("LOOKED_UP", "unknown"), ("MAILED", "unknown")]
    assert ForgetPassword.objects.get().email == ""

    later(minutes=2)
    assert api.mutate("resendPasswordResetCode", requestId=handle)["__typename"] == "ResendPasswordResetCodeSuccess"
    assert post.deliver() == []
    assert timeline()[-1] == ("NOT_MAILED", "unknown")


def test_it_is_told_once_a_day(told: None, api: API, post: PostOffice, later: Later) -> None:
    counts = []
    for minutes in (2, 60, 24 * 60):
        api.request(TYPED)
        counts.append(len(post.deliver()))
        assert not ForgetPassword.objects.exclude(email="").exists()
        later(minutes=minutes)
    api.request(TYPED)
    assert [*counts, len(post.deliver())] == [1, 0, 0, 1]


def test_the_whole_site_tells_few(told: None, api: API, post: PostOffice, settings: Any) -> None:
    settings.THROTTLE_MAIL_UNKNOWN = "2/hour"
    for number in range(4):
        api.request(f"nobody{number}@example.com")
    assert len(post.deliver()) == 2


def test_off_wipes_what_was_typed_at_the_first_look(api: API, post: PostOffice) -> None:
    api.request(TYPED)
    post.deliver()
    assert ForgetPassword.objects.get().email == ""


@pytest.mark.parametrize("answer", [(550, b"5.1.1 nobody here"), (450, b"4.7.1 later")], ids=["for good", "too often"])
def test_what_was_typed_and_cannot_be_mailed_troubles_nobody(
    told: None, api: API, post: PostOffice, monkeypatch: pytest.MonkeyPatch, settings: Any, answer: tuple[int, bytes]
) -> None:
    def refuses(*_: Any, **__: Any) -> str:
        raise smtplib.SMTPRecipientsRefused({TYPED: answer})

    settings.MAIL_MAX_ATTEMPTS = 1
    monkeypatch.setattr(smtp.Connection, "send", refuses)
    api.request(TYPED)
    post.deliver()
    record = ForgetPassword.objects.get()
    assert (record.mail_due, record.mail_error, record.email) == ("", "", "")
    assert timeline()[-1] == ("NOT_MAILED", "unknown")


def test_an_account_made_meanwhile_is_mailed_its_code(
    told: None, api: API, post: PostOffice, make_user: Callable[..., Any]
) -> None:
    api.request(TYPED)
    mailer.look()
    make_user(TYPED)
    letter = post.deliver_one()
    assert letter.tokens


def test_a_mailer_that_dies_before_its_mark_tells_nobody_twice(
    told: None, api: API, post: PostOffice, monkeypatch: pytest.MonkeyPatch, later: Later
) -> None:
    def dies(*_: Any) -> int:
        raise KeyboardInterrupt

    api.request(TYPED)
    with monkeypatch.context() as dying:
        dying.setattr(transitions, "settle", dies)
        with pytest.raises(KeyboardInterrupt):
            post.deliver()
    assert len(mail.outbox) == 1
    later(minutes=5)
    post.deliver()
    assert len(mail.outbox) == 1
    assert ForgetPassword.objects.get().mail_due == ""
