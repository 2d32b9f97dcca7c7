"""The dashboard: what it counts, who may see it, and that it needs no script."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from playwright.sync_api import expect

from accounts import dashboard, figures
from accounts.metrics import REFUSALS
from accounts.models import ForgetPassword, PasswordResetEvent
from tests import browser
from tests.browser import Visit
from tests.conftest import API, PostOffice
from tests.test_reset_page import faults

PAGE = "/admin/account_recovery/forgetpassword/dashboard/"
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
chromium, visit = browser.chromium, browser.visit


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    cache.clear()


@pytest.fixture
def clerk(make_user: Callable[..., Any]) -> Any:
    return make_user("clerk@example.com", "clerk", is_staff=True)


def seen_by(clerk: Any) -> Any:
    client = Client()
    client.force_login(clerk)
    return client.get(PAGE)


def asked(ago: timedelta, **facts: Any) -> ForgetPassword:
    """A reset of a while ago, mailed unless the facts say otherwise."""
    at = NOW - ago
    record = ForgetPassword(email_digest="x", created_at=at, looked_at=at, sent_at=at, state="SENT", mail_due="",
                            mail_next_at=None, mail_turn_at=None)  # fmt: skip
    for name, value in facts.items():
        setattr(record, name, value)
    record.save(force_insert=True)
    return record


def done(at: datetime) -> dict[str, Any]:
    return {"state": "COMPLETED", "completed_at": at, "is_user_password_updated": True}


def funnel(facts: dict[str, Any], number: int) -> list[int]:
    return [step.resets for step in facts["funnels"][number][1]]


# --- What it counts --------------------------------------------------------------------------------------------------


def test_each_reset_counts_as_far_as_it_has_come(user: Any) -> None:
    hour = timedelta(hours=1)
    asked(hour)
    asked(hour, user=user, mail_due="CODE", mail_error="smtp_550")
    asked(hour, user=user, attempts=5)
    asked(hour, user=user, state="VERIFIED", verified_at=NOW)
    asked(hour, user=user, **done(NOW))
    asked(timedelta(days=3), user=user, reported_at=NOW, superseded_at=NOW)
    asked(timedelta(days=40), user=user, **done(NOW))
    facts = dashboard.facts(NOW)
    assert funnel(facts, 0) == [5, 4, 3, 2, 1]
    assert funnel(facts, 1) == [6, 5, 4, 2, 1]
    assert [facts[name] for name in ("dead", "locked", "reported")] == [1, [1, 1], [0, 1]]
    assert [step.percent for step in facts["funnels"][0][1]] == [100, 80, 75, 67, 50]


def test_every_hour_and_day_has_a_bar_also_one_without_a_reset(user: Any) -> None:
    for ago in (timedelta(), timedelta(hours=2), timedelta(hours=2), timedelta(days=29)):
        asked(ago, user=user)
    asked(timedelta(hours=2), user=user, **done(NOW))
    day, month = dashboard.facts(NOW)["charts"]
    assert (len(day.bars), len(month.bars)) == (24, 30)
    assert (day.first, day.last) == ("Feb 28, 13:00", "Mar 01, 12:00")
    assert (month.first, month.last) == ("Jan 31", "Mar 01")
    assert day.bars[21].title == "Mar 01, 10:00: 3 asked for, 1 completed"
    assert (day.most, day.bars[21].asked_height, day.bars[21].completed_height) == (3, 120, 40)
    assert [bar.asked_height for bar in day.bars[:21]] == [0] * 21
    assert month.bars[0].title == "Jan 31: 1 asked for, 0 completed"


def test_no_hour_is_lost_where_clocks_stand_at_the_half_hour(user: Any, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"  # where it is 18:00
    for hours in range(23):
        asked(timedelta(hours=hours, minutes=-1), user=user)
    now = NOW + timedelta(minutes=5)
    assert funnel(dashboard.facts(now), 0)[0] == 23


def test_the_wait_is_from_the_request_to_the_mail_server(user: Any) -> None:
    for seconds in (5, 6, 30, 300, 301):
        record = asked(timedelta(hours=1), user=user)
        at = record.created_at + timedelta(seconds=seconds)
        PasswordResetEvent.objects.create(record=record, kind="MAILED", reason="CODE", created_at=at)
    news = asked(timedelta(hours=1), user=user)
    PasswordResetEvent.objects.create(record=news, kind="MAILED", reason="CHANGED", created_at=NOW)
    again = asked(timedelta(hours=1), user=user, resends=1)
    PasswordResetEvent.objects.create(record=again, kind="MAILED", reason="CODE", created_at=NOW)
    assert figures.waits(NOW - timedelta(days=1), NOW) == [1, 2, 1, 1]


def test_nothing_at_all_is_drawn_as_well(db: None) -> None:
    facts = dashboard.facts(NOW)
    assert funnel(facts, 1) == [0] * 5
    assert sum(len(chart.bars) for chart in facts["charts"]) == 54


def test_what_limits_have_refused_is_in_words(clerk: Any) -> None:
    before = dict(dashboard.facts(NOW)["refusals"]).get("emails to one address", 0)
    REFUSALS.labels("address").inc()
    assert dict(dashboard.facts(NOW)["refusals"])["emails to one address"] == before + 1


def test_days_before_yesterday_are_read_once_an_hour(user: Any) -> None:
    asked(timedelta(days=5), user=user)
    assert funnel(dashboard.facts(NOW), 1)[0] == 1
    asked(timedelta(days=5), user=user)
    asked(timedelta(days=1), user=user)
    with CaptureQueriesContext(connection) as queries:
        assert funnel(dashboard.facts(NOW), 1)[0] == 2
    assert len(queries) <= 7
    cache.clear()
    assert funnel(dashboard.facts(NOW), 1)[0] == 3


# --- Who sees it -----------------------------------------------------------------------------------------------------


def test_whoever_may_see_resets_sees_it(clerk: Any) -> None:
    assert seen_by(clerk).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_forgetpassword"))
    page = seen_by(clerk)
    assert page.status_code == 200
    assert "<script" not in page.text.split('id="content"')[1].split('id="footer"')[0]
    assert Client().get(PAGE).status_code == 302


@pytest.mark.browser
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_is_drawn_under_the_admins_policy(
    visit: Visit, api: API, post: PostOffice, make_user: Callable[..., Any], settings: Any, colours: Any
) -> None:
    settings.SESSION_COOKIE_NAME = "sid"
    support = make_user("support@example.com", "support", is_staff=True, is_superuser=True)
    api.request("support@example.com")
    post.deliver()
    client = Client()
    client.force_login(support)
    cookie = {"name": "sid", "value": client.cookies["sid"].value, "url": visit.origin}
    visit.page.context.add_cookies([cookie])  # type: ignore[list-item]
    visit.page.emulate_media(color_scheme=colours)
    page = visit.open("/admin/account_recovery/forgetpassword/")
    page.get_by_role("link", name="Dashboard").click()
    expect(page.get_by_role("img", name="Last 24 hours")).to_be_visible()
    told = page.locator("svg[role=img]").first.locator("title").last.text_content() or ""
    assert "1 asked for, 0 completed" in told
    assert faults(page, ".recovery-dashboard") == []
