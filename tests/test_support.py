"""What support does for people in the admin: each act with a permission of its own, and a line on the timeline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import admin, retention
from accounts.choices import EventKind, Mail, State, Status
from accounts.models import ForgetPassword, GuessBudget, PasswordResetEvent
from accounts.recovery import support, verbs
from accounts.searches import RECENT, with_status
from accounts.timeline import timeline
from tests.conftest import API, Letter, PostOffice, record_of

pytestmark = pytest.mark.usefixtures("clock")

LIST = "/admin/account_recovery/forgetpassword/"
ACTS = {
    "send_again": "send_again",
    "cancel": "cancel_reset",
    "mail_again": "mail_again",
    "end": "end_reset",
    "erase": "erase_person",
}
"""The actions, each with its permission."""


@pytest.fixture
def clerk(make_user: Callable[..., Any]) -> Any:
    account = make_user("clerk@example.com", "clerk", is_staff=True)
    account.user_permissions.add(Permission.objects.get(codename="view_forgetpassword"))
    return account


@pytest.fixture
def desk(clerk: Any) -> Client:
    client = Client()
    client.force_login(clerk)
    return client


@pytest.fixture
def sent(api: API, post: PostOffice, user: Any) -> tuple[ForgetPassword, Letter]:
    """A reset of ada's, and its mail."""
    record = record_of(api.request()["requestId"])
    letter = post.deliver_one()
    record.refresh_from_db()
    return record, letter


def allow(clerk: Any, *permissions: str) -> None:
    clerk.user_permissions.add(*Permission.objects.filter(codename__in=permissions))


def act(desk: Client, action: str, *records: ForgetPassword, **more: Any) -> str:
    ticked = [str(record.pk) for record in records]
    response = desk.post(LIST, {"action": action, "_selected_action": ticked, **more}, follow=True)
    assert response.status_code == 200
    return response.text


def last_line(record: ForgetPassword) -> tuple[str, str]:
    kind, reason = PasswordResetEvent.objects.filter(record=record).values_list("kind", "reason").last() or ("", "")
    return kind, reason


# --- Permissions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTS)
def test_an_act_is_offered_and_done_with_its_own_permission_alone(
    desk: Client, clerk: Any, sent: Any, action: str
) -> None:
    record, _ = sent
    ForgetPassword.objects.filter(pk=record.pk).update(mail_asked_at=timezone.now() - timedelta(minutes=5))
    allow(clerk, *(permission for name, permission in ACTS.items() if name != action))
    assert f'value="{action}"' not in desk.get(LIST).text
    before = list(ForgetPassword.objects.values()), PasswordResetEvent.objects.count()
    act(desk, action, record, confirmed="yes")
    assert (list(ForgetPassword.objects.values()), PasswordResetEvent.objects.count()) == before
    allow(clerk, ACTS[action])
    desk.force_login(type(clerk).objects.get(pk=clerk.pk))
    assert f'value="{action}"' in desk.get(LIST).text


# --- Sending again ---------------------------------------------------------------------------------------------------


def test_support_has_a_mail_sent_again(desk: Client, clerk: Any, sent: Any, post: PostOffice, later: Any) -> None:
    record, letter = sent
    allow(clerk, "send_again")
    later(minutes=2)
    assert "sent again: 1." in act(desk, "send_again", record)
    assert last_line(record) == ("RESEND_ASKED", "clerk")
    assert post.deliver_one().code == letter.code


def test_support_is_held_to_the_limits_of_the_address(desk: Client, clerk: Any, sent: Any, post: PostOffice) -> None:
    record, _ = sent
    allow(clerk, "send_again")
    page = act(desk, "send_again", record)
    assert "sent again: 0." in page
    assert "a moment ago" in page
    assert post.deliver() == []


def test_what_is_over_is_not_sent_again(desk: Client, clerk: Any, sent: Any, post: PostOffice, later: Any) -> None:
    record, _ = sent
    allow(clerk, "send_again")
    support.cancel(record, "clerk")
    later(minutes=2)
    assert "it is over" in act(desk, "send_again", record)
    assert post.deliver() == []


def test_what_was_link_alone_stays_so_for_nobody_has_a_page_for_a_code(
    desk: Client, clerk: Any, user: Any, post: PostOffice, later: Any
) -> None:
    record = support.start("ada@example.com", "clerk")
    post.deliver()
    allow(clerk, "send_again")
    later(minutes=2)
    record.refresh_from_db()
    act(desk, "send_again", record)
    letter = post.deliver_one()
    assert (letter.code, len(letter.tokens)) == ("", 1)


@pytest.mark.parametrize("action", ["send_again", "cancel", "end"])
def test_all_that_match_are_not_what_was_meant(
    desk: Client, clerk: Any, sent: Any, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(admin, "MOST_AT_ONCE", 0)
    allow(clerk, ACTS[action])
    record, _ = sent
    page = act(desk, action, record, select_across="1")
    assert "Choose 0 at the most at a time: nothing was done." in page
    assert last_line(record)[0] == "MAILED"


# --- Cancelling and ending -------------------------------------------------------------------------------------------


def test_what_support_cancels_leaves_its_link(desk: Client, clerk: Any, sent: Any, api: API) -> None:
    record, letter = sent
    allow(clerk, "cancel_reset")
    assert "are cancelled: 1." in act(desk, "cancel", record)
    assert last_line(record) == ("CANCELLED", "clerk")
    assert api.verify(record.handle, letter.code)["__typename"] == "InvalidCodeError"
    assert api.reset(letter.token)["__typename"] == "ResetPasswordSuccess"
    assert "are cancelled: 0." in act(desk, "cancel", record)


def test_what_support_ends_leaves_nothing(desk: Client, clerk: Any, sent: Any, api: API, post: PostOffice) -> None:
    record, letter = sent
    allow(clerk, "end_reset")
    before = api.status(record.handle)
    assert "are ended: 1." in act(desk, "end", record)
    assert last_line(record) == ("ENDED", "clerk")
    assert api.status(record.handle) == before
    assert api.verify(record.handle, letter.code)["__typename"] == "InvalidCodeError"
    assert api.reset(letter.token)["__typename"] == "InvalidResetTokenError"
    assert post.deliver() == []
    assert "are ended: 0." in act(desk, "end", record)


def test_only_the_reset_that_is_meant_is_ended(
    desk: Client, clerk: Any, sent: Any, api: API, post: PostOffice, later: Any
) -> None:
    record, _ = sent
    allow(clerk, "end_reset")
    later(minutes=2)
    api.request()
    other = post.deliver_one()
    act(desk, "end", record)
    assert api.reset(other.token)["__typename"] == "ResetPasswordSuccess"


# --- Erasing ---------------------------------------------------------------------------------------------------------


def test_erasing_is_asked_for_once_more(desk: Client, clerk: Any, sent: Any) -> None:
    record, _ = sent
    allow(clerk, "erase_person")
    page = act(desk, "erase", record)
    assert "This cannot be undone." in page
    assert "ada@example.com" in page
    assert ForgetPassword.objects.filter(pk=record.pk).exists()


def test_a_person_is_erased_with_all_resets(
    desk: Client, clerk: Any, sent: Any, api: API, caplog: Any, later: Any
) -> None:
    record, _ = sent
    api.verify(record.handle, "000000")
    later(minutes=2)
    api.request()
    other = record_of(api.request("grace@example.com")["requestId"])
    allow(clerk, "erase_person")
    assert "resets are erased: 1." in act(desk, "erase", record, confirmed="yes")
    assert list(ForgetPassword.objects.all()) == [other]
    assert not GuessBudget.objects.exists()
    (line,) = [each.msg for each in caplog.records if "person erased" in str(each.msg)]
    assert line == {"event": "person erased", "user": clerk.pk, "resets": 2}


def test_a_person_whose_address_was_wiped_is_erased_as_well(api: API, post: PostOffice, later: Any) -> None:
    for _ in range(2):
        api.request("nobody@example.com")
        post.deliver()
        later(minutes=2)
    keep = record_of(api.request("grace@example.com")["requestId"])
    wiped = ForgetPassword.objects.filter(email="").first()
    assert wiped
    retention.erase_of(wiped)
    assert list(ForgetPassword.objects.all()) == [keep]


def test_a_record_without_a_digest_takes_no_other_with_it(sent: Any) -> None:
    bare = [ForgetPassword(email_digest="") for _ in range(2)]
    for each in bare:
        each.save(force_insert=True)
    retention.erase_of(bare[0])
    assert ForgetPassword.objects.count() == 3


def test_few_are_erased_at_a_time(desk: Client, clerk: Any, db: None) -> None:
    allow(clerk, "erase_person")
    many = [ForgetPassword(email_digest=f"{number}") for number in range(21)]
    for each in many:
        each.save(force_insert=True)
    assert "Choose 20 at the most at a time: nothing was done." in act(desk, "erase", *many, confirmed="yes")
    assert ForgetPassword.objects.count() == 21


# --- Filters ---------------------------------------------------------------------------------------------------------


def listed(desk: Client, **parameters: str) -> set[Any]:
    response: Any = desk.get(LIST, parameters)
    return {record.pk for record in response.context["cl"].result_list}


def records_of_every_kind() -> list[ForgetPassword]:
    """One for each way in which state, clocks and counts may meet."""
    now = timezone.now()
    budgets: list[dict[str, int]] = [{}, {"used_today": 10}, {"in_a_row": 100}]
    made: list[ForgetPassword] = []
    for state, seconds, attempts, spent in product(State, (1, 599, 601, 4000), (0, 5), budgets):
        then = now - timedelta(seconds=seconds)
        record = ForgetPassword(email_digest=f"digest {len(made)}", state=state, attempts=attempts)
        if state is not State.QUEUED:
            record.looked_at = record.sent_at = then
        if state is State.VERIFIED:
            record.verified_at = then
        if state is State.COMPLETED:
            record.completed_at, record.is_user_password_updated = now, True
        record.save(force_insert=True)
        if spent:
            GuessBudget.objects.create(email_digest=record.email_digest, day=now.date(), **spent)
        made.append(record)
    return made


def test_the_filter_of_a_status_finds_those_who_are_told_it(db: None) -> None:
    records, now = records_of_every_kind(), timezone.now()
    told = {record.pk: verbs.shown_status(record, now) for record in records}
    assert set(told.values()) == set(Status)
    for status in Status:
        found = set(with_status(ForgetPassword.objects.all(), status, now).values_list("pk", flat=True))
        assert found == {pk for pk, shown in told.items() if shown is status}, status


def test_the_list_is_narrowed_to_what_support_is_asked_about(desk: Client, api: API, sent: Any, post: Any) -> None:
    record, letter = sent
    stranger = record_of(api.request("nobody@example.com")["requestId"])
    post.deliver()
    dead = record_of(api.request("grace@example.com")["requestId"])
    ForgetPassword.objects.filter(pk=dead.pk).update(mail_next_at=None, mail_turn_at=None, mail_error="smtp_550")
    api.report(letter.report)
    assert listed(desk, trouble="dead") == {dead.pk}
    assert listed(desk, trouble="reported") == {record.pk}
    assert listed(desk, trouble="nobody") == {stranger.pk}
    assert listed(desk, status="QUEUED") == {dead.pk}
    ForgetPassword.objects.update(created_at=timezone.now() - RECENT)
    assert listed(desk, status="QUEUED") == listed(desk, trouble="nobody") == set()
    assert listed(desk, trouble="dead") == {dead.pk}


@pytest.mark.parametrize(("trouble", "index"), [("dead", "reset_mail_due"), ("reported", "reset_reported")])
def test_rare_trouble_is_found_by_an_index(db: None, trouble: str, index: str) -> None:
    every = ForgetPassword.objects.order_by()
    rows = every.dead() if trouble == "dead" else every.filter(reported_at__isnull=False)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    assert index in rows.explain()


# --- The timeline ----------------------------------------------------------------------------------------------------


def test_every_line_is_a_sentence(db: None) -> None:
    record = ForgetPassword(email_digest="x", client_ip="192.0.2.1")
    record.save(force_insert=True)
    reasons = {
        EventKind.STARTED: "grace",
        EventKind.LOOKED_UP: "ambiguous",
        EventKind.MAILED: Mail.LINK,
        EventKind.NOT_MAILED: "moved",
        EventKind.MAIL_FAILED: "smtp_451 4.7.1",
        EventKind.MAIL_DEAD: "too_old",
        EventKind.REVIVED: "grace",
        EventKind.RESEND_ASKED: "",
        EventKind.CANCELLED: "grace",
        EventKind.ENDED: "grace",
        EventKind.SUPERSEDED: "report",
        EventKind.REPORTED: "locked",
    }
    for kind in EventKind:
        PasswordResetEvent.write(record.pk, kind, reasons.get(kind, ""))
    lines = [" ".join(filter(None, (line.text, line.detail))) for line in timeline(record)]
    assert lines == [
        "Somebody asked for it. 192.0.2.1",
        "Support started it: grace.",
        "The mailer looked for the account: several accounts are spelled alike, and none is meant for certain.",
        "The mail server took the email (link alone).",
        "No email went out: the account has another address now.",
        "The mail server did not take the email; it is tried again. smtp_451 4.7.1",
        "The email was given up. too_old",
        "Support had the email tried again: grace.",
        "Another email was asked for.",
        "A wrong code was typed.",
        "The right code was typed.",
        "It was cancelled by support: grace; the emailed link goes on working.",
        "The new password was set.",
        "Support ended it: grace.",
        "It ended, for the owner reported another one.",
        "The owner reported it: this was not me. The account's password was replaced and its owner sent a link.",
    ]


def test_a_reason_of_a_projects_own_directory_is_shown_as_it_is(db: None) -> None:
    record = ForgetPassword(email_digest="x", by_support=True)
    record.save(force_insert=True)
    PasswordResetEvent.write(record.pk, EventKind.NOT_MAILED, "on_leave")
    assert [line.text for line in timeline(record)] == ["No email went out: on_leave."]
