"""Support starts a reset: the owner gets the link, and whoever starts it gets nothing to follow or finish it by."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import ForgetPassword, PasswordResetEvent
from tests.conftest import API, NEW_PASSWORD, PASSWORD, PostOffice

USERS = "/admin/auth/user/"


@pytest.fixture
def clerk(make_user: Callable[..., Any]) -> Any:
    """Staff that may look at accounts and change them, and start no reset."""
    account = make_user("clerk@example.com", "clerk", is_staff=True)
    account.user_permissions.add(*Permission.objects.filter(codename__in=["view_user", "change_user"]))
    return account


@pytest.fixture
def desk(clerk: Any) -> Client:
    client = Client()
    client.force_login(clerk)
    return client


def allow(clerk: Any) -> None:
    clerk.user_permissions.add(Permission.objects.get(codename="start_reset"))


def start(desk: Client, *accounts: Any) -> Any:
    keys = [str(account.pk) for account in accounts]
    return desk.post(USERS, {"action": "start_reset", "_selected_action": keys}, follow=True)


# --- The mail --------------------------------------------------------------------------------------------------------


def test_the_owner_gets_a_link_that_says_who_has_started_it(
    user: Any, api: API, post: PostOffice, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("start_reset", "ADA@example.com", by="grace")
    letter = post.deliver_one()
    assert letter.message.to == ["ada@example.com"]
    assert "The support team of accounts.example.com has started this reset for you." in letter.text
    assert "two words" not in letter.text
    assert letter.code == ""
    assert api.reset(*letter.tokens)["__typename"] == "ResetPasswordSuccess"
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)
    started = list(PasswordResetEvent.objects.order_by("pk").values_list("kind", "reason"))[:3]
    assert started == [("STARTED", "grace"), ("LOOKED_UP", "found"), ("MAILED", "LINK")]


def test_what_is_said_to_support_holds_no_secret(
    user: Any, post: PostOffice, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("start_reset", "ada@example.com")
    record = ForgetPassword.objects.get()
    (token,) = post.deliver_one().tokens
    said = capsys.readouterr().out
    assert said == f"A link is on its way to ada@example.com. Its reset is {record.pk}.\n"
    assert record.handle not in said
    assert token not in said


def test_the_owner_can_report_it(user: Any, api: API, post: PostOffice) -> None:
    call_command("start_reset", "ada@example.com")
    letter = post.deliver_one()
    (report,) = re.findall(r"#report=([\w-]+)", letter.text)
    assert api.report(report)["__typename"] == "ReportPasswordResetSuccess"
    assert api.reset(*letter.tokens)["__typename"] == "InvalidResetTokenError"


def test_the_mail_is_in_the_language_of_the_account(
    user: Any, api: API, post: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(user), "language", "de-AT", raising=False)
    call_command("start_reset", "ada@example.com")
    letter = post.deliver_one()
    assert "Das Support-Team von" in letter.text or "hat diese Zurücksetzung" in letter.text
    api.reset(*letter.tokens)
    assert 'lang="de"' in post.deliver_one().html


@pytest.mark.parametrize("tag", ["", None, "xx-nonsense"])
def test_an_account_without_a_language_of_ours_gets_the_sites(
    user: Any, post: PostOffice, monkeypatch: pytest.MonkeyPatch, tag: Any
) -> None:
    monkeypatch.setattr(type(user), "language", tag, raising=False)
    call_command("start_reset", "ada@example.com")
    assert 'lang="en"' in post.deliver_one().html


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nobody@example.com", "unknown"),
        ("nonsense", "not a valid email address"),
        ("sso@example.com", "unusable_password"),
    ],
)
def test_support_is_told_why_nobody_can_be_mailed(
    make_user: Callable[..., Any], post: PostOffice, address: str, said: str
) -> None:
    sso = make_user("sso@example.com", "sso")
    sso.set_unusable_password()
    sso.save()
    with pytest.raises(CommandError, match=said):
        call_command("start_reset", address)
    assert not ForgetPassword.objects.exists()


def test_support_cannot_flood_a_mailbox_either(user: Any, post: PostOffice) -> None:
    call_command("start_reset", "ada@example.com")
    with pytest.raises(CommandError, match="a moment ago"):
        call_command("start_reset", "ada@example.com")
    assert len(post.deliver()) == 1


# --- The admin -------------------------------------------------------------------------------------------------------


def test_staff_with_the_permission_have_links_mailed(
    clerk: Any, desk: Client, make_user: Callable[..., Any], post: PostOffice
) -> None:
    allow(clerk)
    ada, robot = make_user("ada@example.com", "ada"), make_user("", "robot")
    page = start(desk, ada, robot).content.decode()
    assert "Ada: a link is on its way to ada@example.com." in page
    assert "Robot: That is not a valid email address." in page
    assert post.deliver_one().message.to == ["ada@example.com"]
    assert PasswordResetEvent.objects.filter(kind="STARTED").values_list("reason", flat=True).get() == "clerk"


def test_staff_without_it_do_not(clerk: Any, desk: Client, user: Any, post: PostOffice) -> None:
    assert "start_reset" not in desk.get(USERS).content.decode()
    start(desk, user)
    assert post.deliver() == []


def test_nobody_chooses_somebody_elses_password(clerk: Any, desk: Client, user: Any) -> None:
    clerk.is_superuser = True
    clerk.save()
    page = desk.get(f"{USERS}{user.pk}/change/").content.decode()
    assert 'name="email"' in page
    assert not re.search(r'href="[^"]*[./\d]/password/"', page)
    user.refresh_from_db()
    assert user.password.split("$")[-1] not in page
    form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    assert desk.post(f"{USERS}{user.pk}/password/", form).status_code == 404
    assert desk.get(f"{USERS}{user.pk}/password/").status_code == 404
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


def test_an_account_can_still_be_changed_otherwise(clerk: Any, desk: Client, user: Any) -> None:
    clerk.is_superuser = True
    clerk.save()
    form = {"username": "ada", "email": "ada@example.com", "first_name": "Ada", "is_active": "on"}
    dates = {"last_login_0": "", "last_login_1": "", "date_joined_0": "2026-03-01", "date_joined_1": "12:00:00"}
    answer = desk.post(f"{USERS}{user.pk}/change/", form | dates)
    assert answer.status_code == 302, answer.content.decode()
    user.refresh_from_db()
    assert (user.first_name, user.check_password(PASSWORD)) == ("Ada", True)
