"""A siege: whatever a stranger does, from wherever and however often, the owner gets in by a mailed link.

The stranger knows the address and has every verb of the API. Now and then he steals a code and takes the account. The
owner has the mailbox, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from accounts import codes
from accounts.limits import rules
from accounts.models import ForgetPassword, GuessBudget, PasswordResetEvent
from tests.conftest import API, NEW_PASSWORD, PASSWORD, Letter, PostOffice, account_of, record_of

ADDRESS = "ada@example.com"
THEFT = "stolen kettle sonnet gravel 5"


def networks() -> Iterator[API]:
    """A client for each call, each in a network of its own: as many as the stranger likes."""
    return (API(Client(REMOTE_ADDR=f"2001:db8:{number:x}::1")) for number in count(1))


def wrong_code(letters: list[Letter]) -> str:
    """One that no mail has carried."""
    mailed = {letter.code for letter in letters}
    return next(code for code in (f"{number:06}" for number in count()) if code not in mailed)


class Owner:
    """Reads the mailbox, from the newest mail to the oldest, and does what the answers say."""

    def __init__(self, post: PostOffice) -> None:
        self.api, self.post = API(Client(REMOTE_ADDR="198.51.100.1")), post
        self.letters: list[Letter] = []

    def fetch(self) -> None:
        self.letters += self.post.deliver()

    def gets_in_by_the_newest_link(self) -> bool:
        self.fetch()
        newest = next((letter for letter in reversed(self.letters) if letter.tokens), None)
        return newest is not None and self.api.reset(newest.token)["__typename"] == "ResetPasswordSuccess"

    def asks(self) -> dict[str, Any]:
        return self.api.mutate("requestPasswordReset", email=ADDRESS)

    def reports_the_newest(self) -> dict[str, Any]:
        self.fetch()
        return self.api.report(self.letters[-1].report)


# --- The owner's mails are used up -----------------------------------------------------------------------------------


@pytest.fixture
def owner(post: PostOffice, user: Any) -> Owner:
    return Owner(post)


@pytest.fixture
def use_up(owner: Owner, later: Callable[..., None]) -> Callable[..., list[str]]:
    """Ask for the owner's mails until no more is to be had; the stranger does something with each request."""

    def ask_for_all(with_each: Callable[[API, str], Any], *, before_it_is_mailed: bool) -> list[str]:
        handles: list[str] = []
        for api in networks():
            answer = api.mutate("requestPasswordReset", email="ADA@example.com")
            if answer["__typename"] == "RateLimitedError":
                later(seconds=61)  # a refusal, too, begins the cooldown
                return handles
            handles.append(answer["reset"]["requestId"])
            if not before_it_is_mailed:
                owner.fetch()
            with_each(api, handles[-1])
            later(seconds=61)
        raise AssertionError

    return ask_for_all


def cancel(api: API, handle: str) -> None:
    assert api.mutate("cancelPasswordReset", requestId=handle)["reset"]["status"] == "CANCELLED"


def guess(api: API, handle: str) -> None:
    for code in ("000000", "000001", "000002", "000003", "000004"):
        api.verify(handle, code)


def leave(api: API, handle: str) -> None:
    pass


@pytest.mark.parametrize("before_it_is_mailed", [True, False])
@pytest.mark.parametrize("with_each", [leave, cancel, guess])
def test_the_newest_mails_link_works_once_a_stranger_has_used_the_mails_up(
    owner: Owner, use_up: Any, user: Any, with_each: Callable[[API, str], Any], before_it_is_mailed: bool
) -> None:
    assert len(use_up(with_each, before_it_is_mailed=before_it_is_mailed)) == 5
    refused = owner.asks()
    assert refused["__typename"] == "RateLimitedError"
    assert "link in the newest works for 60 minutes" in refused["message"]
    assert owner.gets_in_by_the_newest_link()
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_the_newest_mails_link_lives_until_another_mail_can_be_asked_for(
    owner: Owner, use_up: Any, later: Callable[..., None]
) -> None:
    """Between the stranger's last mail and the owner's next there is no moment without a way in."""
    use_up(cancel, before_it_is_mailed=False)
    wait = owner.asks()["retryAfter"]
    later(seconds=wait - 61)
    assert owner.asks()["__typename"] == "RateLimitedError"
    link = owner.letters[-1].token
    assert owner.api.mutate("checkResetToken", resetToken=link)["__typename"] == "CheckResetTokenSuccess"
    later(seconds=62)
    assert owner.asks()["__typename"] == "RequestPasswordResetSuccess"
    assert owner.gets_in_by_the_newest_link()


@pytest.mark.parametrize("late", [0, 20, 40])
def test_at_every_moment_of_a_long_siege_the_owner_has_a_link_or_a_mail_to_ask_for(
    owner: Owner, later: Callable[..., None], late: int
) -> None:
    """A stranger takes every mail as soon as it can be had, by requests and resends, and mails come late."""
    handles: list[str] = []
    for minute, api in zip(range(150), networks(), strict=False):
        answer = api.mutate("requestPasswordReset", email=ADDRESS)
        handles += [answer["reset"]["requestId"]] if "reset" in answer else []
        for handle in handles[-2:]:
            api.mutate("resendPasswordResetCode", requestId=handle)
        if minute >= late:
            owner.fetch()
            link = owner.letters[-1].token
            works = api.mutate("checkResetToken", resetToken=link)["__typename"] == "CheckResetTokenSuccess"
            assert works, f"minute {minute}"
        later(seconds=60)
    assert owner.gets_in_by_the_newest_link()


@pytest.mark.parametrize("how", ["by a report", "by a new password"])
def test_an_owner_who_ends_everything_has_an_hour_to_wait_at_the_most(
    owner: Owner, later: Callable[..., None], how: str
) -> None:
    """Resends of resets that a report has ended mail nobody; they must not use up what the owner could ask for."""
    handles = []
    for _, api in zip(range(5), networks(), strict=False):
        handles.append(api.request(ADDRESS)["requestId"])
        later(seconds=61)
    owner.fetch()  # mailed late, so these resets are open for as much longer
    if how == "by a report":
        assert owner.reports_the_newest()["freshLink"] is False
    else:
        assert owner.gets_in_by_the_newest_link()
        assert not owner.gets_in_by_the_newest_link()
    assert owner.asks()["__typename"] == "RateLimitedError"
    for _, api in zip(range(60), networks(), strict=False):
        for handle in handles:
            api.mutate("resendPasswordResetCode", requestId=handle)
        later(seconds=61)
    assert owner.asks()["__typename"] == "RequestPasswordResetSuccess"
    owner.fetch()
    assert "reset" in owner.api.reset(owner.letters[-1].token, "another walnut comet raft 8")


def test_resends_of_what_a_report_ended_put_the_next_mail_off_for_an_hour_from_the_report_and_no_longer(
    owner: Owner, later: Callable[..., None]
) -> None:
    """Three of five mails are requests that the report ends. Resends fill the limit, and take their places."""
    strangers, handles = networks(), []
    for api, _ in zip(strangers, range(3), strict=False):
        handles.append(api.request(ADDRESS)["requestId"])
        owner.fetch()
        later(seconds=61)
    assert owner.reports_the_newest()["freshLink"] is False
    for api, _ in zip(strangers, range(59), strict=False):
        for handle in handles:
            api.mutate("resendPasswordResetCode", requestId=handle)
        later(seconds=61)
    for handle in handles:
        next(strangers).mutate("resendPasswordResetCode", requestId=handle)
    later(seconds=61)
    assert owner.asks()["__typename"] == "RequestPasswordResetSuccess"
    assert owner.gets_in_by_the_newest_link()


def test_the_link_works_after_a_hundred_wrong_codes_in_ten_days(owner: Owner, later: Callable[..., None]) -> None:
    for _, api in zip(range(20), networks(), strict=False):
        guess(api, api.request(ADDRESS)["requestId"])
        later(hours=12)
    assert GuessBudget.objects.get().in_a_row == 100
    assert owner.asks()["reset"]["status"] == "LOCKED"
    assert owner.gets_in_by_the_newest_link()
    assert owner.letters[-1].code == ""


@pytest.mark.parametrize(("minutes", "ended"), [(119, True), (121, False)])
def test_what_ran_out_long_ago_is_left_alone_or_a_stranger_could_make_the_owner_wait(
    owner: Owner, api: API, later: Callable[..., None], minutes: int, ended: bool
) -> None:
    """Strangers can add to it for years. Each row was locked, ended, and told of: forty thousand took three seconds."""
    record = record_of(api.request(ADDRESS)["requestId"])
    owner.fetch()
    later(minutes=minutes)
    assert owner.asks()["__typename"] == "RequestPasswordResetSuccess"
    assert owner.gets_in_by_the_newest_link()
    record.refresh_from_db()
    assert (record.superseded_at is not None) is ended


# --- The account is taken --------------------------------------------------------------------------------------------


def take(api: API, handle: str, letter: Letter) -> None:
    """What a code read over a shoulder is good for."""
    token = api.verify(handle, letter.code)["resetToken"]
    assert api.reset(token, THEFT)["__typename"] == "ResetPasswordSuccess"


def test_an_owner_whose_account_was_taken_and_whose_mails_are_used_up_reports_it_and_gets_in(
    owner: Owner, use_up: Any, user: Any, later: Callable[..., None]
) -> None:
    """The links of all mails are dead by then, and no mail can be asked for: the report is the way in."""
    handles = use_up(leave, before_it_is_mailed=False)
    take(API(Client()), handles[-1], owner.letters[-1])
    assert not owner.gets_in_by_the_newest_link()
    assert owner.asks()["__typename"] == "RateLimitedError"
    assert owner.reports_the_newest()["freshLink"] is True
    for api, handle in zip(networks(), handles, strict=False):
        api.mutate("resendPasswordResetCode", requestId=handle)
        api.mutate("cancelPasswordReset", requestId=handle)
    assert owner.gets_in_by_the_newest_link()
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


def test_an_account_that_is_taken_again_and_again_is_taken_back_each_time(
    owner: Owner, user: Any, later: Callable[..., None]
) -> None:
    for _, thief in zip(range(3), networks(), strict=False):
        handle = thief.request(ADDRESS)["requestId"]
        owner.fetch()
        take(thief, handle, owner.letters[-1])
        later(minutes=5)
        assert owner.reports_the_newest()["freshLink"] is True
        owner.fetch()  # or the fresh link and the thief's next code are due in the same moment, in no order
        user.refresh_from_db()
        assert not user.check_password(THEFT)
    assert owner.gets_in_by_the_newest_link()


def test_an_owner_who_reports_every_mail_there_is_still_gets_in(owner: Owner, later: Callable[..., None]) -> None:
    thief = next(networks())
    handle = thief.request(ADDRESS)["requestId"]
    owner.fetch()
    take(thief, handle, owner.letters[-1])
    for _, api in zip(range(3), networks(), strict=False):
        later(seconds=61)
        api.request(ADDRESS)
        owner.fetch()
        for letter in list(owner.letters):
            owner.api.report(letter.report)
    assert owner.gets_in_by_the_newest_link()


@pytest.mark.parametrize("minutes", [5, 58, 61, 64, 90, 119, 180])
def test_an_owner_who_comes_late_to_the_fresh_link_gets_in_all_the_same(
    owner: Owner, later: Callable[..., None], minutes: int
) -> None:
    """Resends of killed resets count against the address and mail nobody, as a decoy's do.

    They cannot use the mails up beyond the fresh link's hour: their resets are as old as that, and were counted, too.
    """
    handles = []
    for _, api in zip(range(4), networks(), strict=False):
        handles.append(api.request(ADDRESS)["requestId"])
        owner.fetch()
        later(seconds=61)
    take(API(Client()), handles[-1], owner.letters[-1])
    assert owner.reports_the_newest()["freshLink"] is True
    owner.fetch()
    for minute, api in zip(range(minutes), networks(), strict=False):
        api.mutate("resendPasswordResetCode", requestId=handles[minute % 3])
        later(seconds=60)
    owner.asks()
    assert owner.gets_in_by_the_newest_link()


# --- Everything, in any order ----------------------------------------------------------------------------------------


class Siege(RuleBasedStateMachine):
    """The stranger's moves, the owner's reports, and days going by; in the end the owner wants to get in."""

    def __init__(self) -> None:
        super().__init__()
        ForgetPassword.objects.all().delete()
        GuessBudget.objects.all().delete()
        get_user_model().objects.all().delete()
        mail.outbox.clear()
        rules.reset()
        self.user = get_user_model().objects.create_user("ada", ADDRESS, PASSWORD)
        self.clock = time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=timezone.get_default_timezone()), tick=False)
        self.time = self.clock.start()
        self.networks = networks()
        self.owner = Owner(PostOffice())
        self.handles: list[str] = []
        self.ended_at = timezone.now() - timedelta(days=1)
        self.taken_at: datetime | None = None

    @property
    def stranger(self) -> API:
        return next(self.networks)

    @rule(email=st.sampled_from([ADDRESS, "ADA@example.com", " ada@EXAMPLE.com "]))
    def request(self, email: str) -> None:
        answer = self.stranger.mutate("requestPasswordReset", email=email)
        if "reset" in answer:
            self.handles.append(answer["reset"]["requestId"])

    @rule(which=st.integers(0, 9), verb=st.sampled_from(["cancelPasswordReset", "resendPasswordResetCode"]))
    def cancel_or_resend(self, which: int, verb: str) -> None:
        if self.handles:
            self.stranger.mutate(verb, requestId=self.handles[-1 - which % len(self.handles)])

    @rule(which=st.integers(0, 9), times=st.integers(1, 6))
    def guess(self, which: int, times: int) -> None:
        if self.handles:
            for _ in range(times):
                handle = self.handles[-1 - which % len(self.handles)]
                assert "resetToken" not in self.stranger.verify(handle, wrong_code(self.owner.letters))

    @rule(which=st.integers(0, 9))
    def make_tokens_up(self, which: int) -> None:
        if self.handles:
            record = record_of(self.handles[-1 - which % len(self.handles)])
            account = account_of(record.user) if record.user else codes.Account("1", "", "")
            assert "cancelled" not in self.stranger.report(codes.report_token(record.pk, bytes(32)))
            assert "reset" not in self.stranger.reset(codes.link_token(record.pk, bytes(32), account))

    @rule(seconds=st.sampled_from([61, 301, 601, 1800, 3601, 12 * 3600, 24 * 3600]))
    def wait(self, seconds: int) -> None:
        self.time.shift(timedelta(seconds=seconds))

    @rule()
    def deliver(self) -> None:
        self.owner.fetch()

    @rule()
    def steal_a_code_and_take_the_account(self) -> None:
        self.request(ADDRESS)
        self.owner.fetch()
        handles = {record_of(handle).match_phrase: handle for handle in self.handles}
        for letter in [letter for letter in self.owner.letters if letter.code][-2:]:
            handle = next((handles[words] for words in handles if words in letter.text), None)
            answer = self.stranger.verify(handle, letter.code) if handle else {}
            if "reset" in self.stranger.reset(answer.get("resetToken", ""), THEFT):
                self.taken_at = self.ended_at = timezone.now()
                self.owner.fetch()

    @initialize(times=st.integers(0, 2))
    def begin_with_a_theft_or_two(self, times: int) -> None:
        for _ in range(times):
            self.steal_a_code_and_take_the_account()
            self.time.shift(timedelta(minutes=2))

    @rule(back=st.integers(0, 3))
    def the_owner_reports_a_mail(self, back: int) -> None:
        self.owner.fetch()
        if self.owner.letters:
            answer = self.owner.api.report(self.owner.letters[-1 - back % len(self.owner.letters)].report)
            if "cancelled" in answer:
                self.ended_at = timezone.now()
            if answer.get("freshLink"):
                self.taken_at = None

    @invariant()
    def nobody_but_a_thief_of_codes_has_changed_the_password(self) -> None:
        self.user.refresh_from_db()
        assert self.user.check_password(THEFT) == (self.taken_at is not None)
        assert self.user.has_usable_password()

    def teardown(self) -> None:
        try:
            self.the_owner_gets_in()
        finally:
            self.clock.stop()

    def the_owner_gets_in(self) -> None:
        self.owner.fetch()
        if self.taken_at and timezone.now() < self.taken_at + timedelta(days=7):
            news = next(letter for letter in reversed(self.owner.letters) if "was changed at" in letter.text)
            assert self.owner.api.report(news.report)["freshLink"]
            assert self.owner.gets_in_by_the_newest_link()
            return
        answer = self.owner.asks()
        if self.owner.gets_in_by_the_newest_link():
            return
        # What was ended within the hour may have used the mails up, and its resends may take each place that becomes
        # free. An hour after the end there is a mail; and should the stranger be quicker to ask, it is the owner's.
        assert answer["__typename"] == "RateLimitedError", answer
        assert answer["retryAfter"] <= 3600
        there_is_a_mail_at = self.ended_at + timedelta(hours=1, seconds=1)
        assert timezone.now() < there_is_a_mail_at
        self.time.move_to(there_is_a_mail_at)
        for handle in self.handles[-9:]:
            self.stranger.mutate("resendPasswordResetCode", requestId=handle)
        self.stranger.mutate("requestPasswordReset", email=ADDRESS)
        assert self.owner.gets_in_by_the_newest_link()


@pytest.mark.django_db
def test_no_siege_keeps_the_owner_out() -> None:
    run_state_machine_as_test(
        Siege,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# --- Programs that open every link -----------------------------------------------------------------------------------


def links_in(letter: Letter) -> set[str]:
    """Every address that a scanner finds, with its secret and without."""
    assert isinstance(letter.message, EmailMultiAlternatives)
    html = str(letter.message.alternatives[0][0])
    found = set(re.findall(r'https?://[^\s"<>]+', letter.text + html))
    bare = {link.partition("#")[0] for link in found}
    escaped = {link.replace("#", "%23") for link in found}
    asked = {link.replace("#", "?") for link in found}
    return found | bare | escaped | asked


def everything() -> list[list[dict[str, Any]]]:
    models = (ForgetPassword, GuessBudget, PasswordResetEvent, get_user_model())
    return [[dict(row) for row in model._default_manager.order_by("pk").values()] for model in models]


def test_a_scanner_that_opens_every_link_of_every_mail_changes_nothing(
    owner: Owner, api: API, later: Callable[..., None]
) -> None:
    handle = api.request(ADDRESS)["requestId"]
    owner.fetch()
    later(seconds=61)
    cancel(api, api.request(ADDRESS)["requestId"])
    owner.fetch()
    take(api, handle, owner.letters[0])
    owner.fetch()
    later(seconds=61)
    assert owner.reports_the_newest()["freshLink"] is True
    owner.fetch()
    api.request(ADDRESS)
    owner.fetch()
    assert [bool(letter.code) for letter in owner.letters] == [True, False, False, False, True]
    before = everything()
    opened = 0
    for letter in owner.letters:
        for link in links_in(letter):
            path = link.removeprefix("https://accounts.example.com")
            assert path.startswith("/")
            for method in (Client().get, Client().head):
                assert method(path).status_code == 200
                opened += 1
    assert opened >= 5 * 2 * 5
    assert everything() == before
    assert owner.gets_in_by_the_newest_link()
