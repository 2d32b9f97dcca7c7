"""How long what is mailed really works: docs/states.md, "How long a link can live"."""

from __future__ import annotations

import random
import smtplib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.conf import OPEN_LIFETIME, conf
from accounts.mailing import smtp
from accounts.models import ForgetPassword
from tests.conftest import API, PostOffice

Later = Callable[..., None]


def is_good(api: API, link: str) -> bool:
    return bool(api.mutate("checkResetToken", resetToken=link)["__typename"] == "CheckResetTokenSuccess")


def resend(api: API, handle: str) -> str:
    return str(api.mutate("resendPasswordResetCode", requestId=handle)["__typename"])


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the mail server refuse everything for the time being, and each pause be as long as it may."""

    def refuse(connection: smtp.Connection, message: Any, **options: Any) -> None:
        raise smtplib.SMTPRecipientsRefused(dict.fromkeys(message.to, (450, b"later")))

    def begin() -> None:
        monkeypatch.setattr(smtp.Connection, "send", refuse)
        monkeypatch.setattr(random, "uniform", lambda _least, most: most)

    return begin


def test_each_mail_of_a_reset_renews_the_one_link_of_all(api: API, post: PostOffice, user: Any, later: Later) -> None:
    handle = api.request()["requestId"]
    first = post.deliver_one()
    later(minutes=59)
    assert resend(api, handle) == "ResendPasswordResetCodeSuccess"
    assert post.deliver_one().token == first.token
    later(minutes=59, seconds=59)
    assert is_good(api, first.token)
    later(seconds=1)
    assert not is_good(api, first.token)


def test_the_longest_life_of_a_link_with_the_defaults(
    api: API, post: PostOffice, user: Any, later: Later, refusing: Callable[[], None]
) -> None:
    """The first mail arrives, the last resend comes at the last moment, and every try of it fails but for its claim."""
    handle = api.request()["requestId"]
    link = post.deliver_one().token
    looked_at = timezone.now()
    refusing()
    later(minutes=59, seconds=59)
    assert resend(api, handle) == "ResendPasswordResetCodeSuccess"
    pauses = []
    while post.deliver() == [] and (due := ForgetPassword.objects.get().mail_next_at):
        pauses.append(due - timezone.now())
        later(seconds=pauses[-1].total_seconds())
    assert [pause.total_seconds() for pause in pauses] == [10 * 2**number for number in range(9)]
    assert ForgetPassword.objects.get().mail_attempts == conf.MAIL_MAX_ATTEMPTS == 10
    later(minutes=59, seconds=59)
    assert is_good(api, link)
    later(seconds=1)
    assert not is_good(api, link)
    a_moment = timedelta(seconds=1)
    longest = OPEN_LIFETIME + sum(pauses, timedelta()) + conf.link_lifetime
    assert timezone.now() - looked_at + a_moment == longest == timedelta(hours=3, minutes=25, seconds=10)


def test_nothing_is_resent_an_hour_after_the_look(api: API, post: PostOffice, user: Any, later: Later) -> None:
    handle = api.request()["requestId"]
    post.deliver()
    later(hours=1)
    assert resend(api, handle) == "UnknownRequestError"
    assert post.deliver() == []


def test_no_code_lives_longer_than_ten_minutes_however_often_it_is_mailed(
    api: API, post: PostOffice, user: Any, later: Later
) -> None:
    handle = api.request()["requestId"]
    first = post.deliver_one()
    later(minutes=4)
    assert resend(api, handle) == "ResendPasswordResetCodeSuccess"
    assert post.deliver_one().code == first.code
    later(minutes=6)
    assert api.verify(handle, first.code)["__typename"] == "InvalidCodeError"


def test_a_mail_says_from_when_on_its_code_and_its_link_work_and_how_long(
    api: API, post: PostOffice, user: Any, later: Later
) -> None:
    """In the same words however often the same code is mailed."""
    handle = api.request()["requestId"]
    first = post.deliver_one()
    later(minutes=4, seconds=1)
    resend(api, handle)
    second = post.deliver_one()
    later(minutes=10)
    resend(api, handle)
    third = post.deliver_one()
    assert (first.code == second.code, second.code == third.code) == (True, False)
    for letter in (first, second, third):
        html = letter.html
        for text in (letter.text, html):
            assert "It works for 10 minutes after the first email with it." in text
            assert "works once, for 1 hour after the last email with it." in text
    assert first.text == second.text
