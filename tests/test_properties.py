"""Whatever is called, in whatever order: nobody reaches COMPLETED without a mailed code or a mailed link."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core import mail
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from accounts.limits import rules
from accounts.models import ForgetPassword
from tests.conftest import API, NEW_PASSWORD, PASSWORD, Letter, PostOffice, record_of

ADDRESSES = ("ada@example.com", "nobody@example.com")


class Recovery(RuleBasedStateMachine):
    """An owner who reads the mailbox, and a stranger who does everything else, as often as either likes."""

    def __init__(self) -> None:
        super().__init__()
        ForgetPassword.objects.all().delete()
        get_user_model().objects.all().delete()
        mail.outbox.clear()
        rules.reset()
        self.user = get_user_model().objects.create_user("ada", ADDRESSES[0], PASSWORD)
        self.api, self.post = API(Client()), PostOffice()
        self.clock = time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=timezone.get_default_timezone()), tick=False)
        self.time = self.clock.start()
        self.handles: list[str] = []
        self.letters: list[Letter] = []
        self.tokens: list[str] = []
        self.earned = False

    def teardown(self) -> None:
        self.clock.stop()

    @rule(email=st.sampled_from(ADDRESSES))
    def request(self, email: str) -> None:
        answer = self.api.mutate("requestPasswordReset", email=email)
        if "reset" in answer:
            self.handles.append(answer["reset"]["requestId"])

    @rule(seconds=st.sampled_from([1, 61, 299, 301, 601, 3601]))
    def wait(self, seconds: int) -> None:
        self.time.shift(timedelta(seconds=seconds))

    @rule()
    def deliver(self) -> None:
        self.letters += self.post.deliver()

    @rule(which=st.integers(0, 9), code=st.sampled_from(["000000", "123456", "999999", "nonsense"]))
    def guess(self, which: int, code: str) -> None:
        if self.handles and code not in {letter.code for letter in self.letters}:
            answer = self.api.verify(self.handles[which % len(self.handles)], code)
            assert answer["__typename"] in {"InvalidCodeError", "RateLimitedError"}

    @rule(which=st.integers(0, 9), letter=st.integers(0, 9))
    def type_a_mailed_code(self, which: int, letter: int) -> None:
        if self.handles and self.letters:
            code = self.letters[letter % len(self.letters)].code
            answer = self.api.verify(self.handles[which % len(self.handles)], code)
            if "resetToken" in answer:
                self.tokens.append(answer["resetToken"])

    @rule(which=st.integers(0, 9))
    def spend_a_code_token(self, which: int) -> None:
        if self.tokens:
            self._spend(self.tokens[which % len(self.tokens)])

    @rule(which=st.integers(0, 9))
    def follow_a_mailed_link(self, which: int) -> None:
        links = [token for letter in self.letters for token in letter.tokens]
        if links:
            self._spend(links[which % len(links)])

    @rule(which=st.integers(0, 9))
    def reset_with_a_handle_for_a_token(self, which: int) -> None:
        if self.handles:
            answer = self.api.reset(self.handles[which % len(self.handles)])
            assert answer["__typename"] in {"InvalidResetTokenError", "RateLimitedError"}

    @rule(which=st.integers(0, 9), verb=st.sampled_from(["cancelPasswordReset", "resendPasswordResetCode"]))
    def cancel_or_resend(self, which: int, verb: str) -> None:
        if self.handles:
            self.api.mutate(verb, requestId=self.handles[which % len(self.handles)])

    @invariant()
    def the_password_changes_only_with_a_code_or_a_link_out_of_the_mail(self) -> None:
        self.user.refresh_from_db()
        assert self.user.check_password(NEW_PASSWORD) == self.earned
        completed = ForgetPassword.objects.filter(is_user_password_updated=True)
        assert completed.exists() == self.earned

    @invariant()
    def every_status_can_be_asked_for_and_a_decoy_never_gets_beyond_waiting(self) -> None:
        for handle in self.handles[-3:]:
            shown: Any = self.api.status(handle)
            if record_of(handle).user_id is None:
                assert shown["status"] not in {"VERIFIED", "COMPLETED"}

    def _spend(self, token: str) -> None:
        if self.api.reset(token)["__typename"] == "ResetPasswordSuccess":
            self.earned = True


@pytest.mark.django_db
def test_no_sequence_of_calls_completes_without_a_code_or_a_link() -> None:
    run_state_machine_as_test(
        Recovery,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
