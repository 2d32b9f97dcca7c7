"""What a stranger is answered about an address: the same, to the byte and to the statement, whoever has it.

Each story is told twice from the same moment on, for an address that nobody has and for another kind of address. Only
handles and match phrases may differ, for they are random; the clock stands still, so times must not.
"""

from __future__ import annotations

import json
import re
import smtplib
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.core.mail import EmailMessage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import codes
from accounts.api.fields import root_fields
from accounts.exceptions import RateLimited
from accounts.limits import rules
from accounts.mailing import mailer, smtp
from accounts.models import GuessBudget, PasswordResetEvent
from accounts.records import watched
from backend.schema import schema
from tests.conftest import API, FAILURES, NEW_PASSWORD, OPERATIONS, RESET

NOBODY = "nobody@example.com"
KINDS = {
    "known": "ada@example.com",
    "inactive": "inactive@example.com",
    "without a password": "sso@example.com",
    "ambiguous": "sisyphos@example.com",
    "shared by two": "shared@example.com",
    "refused by its server": "refused@example.com",
    "never accepted": "greylisted@example.com",
    "another stranger": "stranger@example.com",
}
MAILED = {KINDS["known"], KINDS["shared by two"]}
"""Stored addresses that mail can reach."""
KEY = "q7Jx2mBz0LrT9wVs4NcY1kD"
RANDOM_HEADERS = {"Content-Length", "X-Request-ID"}
"""A match phrase has no fixed length."""


@dataclass(frozen=True)
class Exchange:
    """One operation as a stranger can see it, and what it asked of the database."""

    verb: str
    status: int
    headers: dict[str, str]
    body: str
    statements: list[str]


@dataclass
class Stranger:
    """Somebody who knows an address and nothing else, and who writes down all that can be told from outside."""

    api: API
    clock: time_machine.Traveller
    email: str
    handle: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """Each handle seen, and its number. Two handles may have one phrase: there are 65,536."""

    def request(self, **more: Any) -> None:
        answer = self.mutate("requestPasswordReset", email=self.email, **more)
        self.handle = answer.get("reset", {}).get("requestId", self.handle)
        self.look_at_it()

    def resend(self) -> None:
        self.mutate("resendPasswordResetCode", requestId=self.handle)
        self.look_at_it()

    def guess(self, *typed: str) -> None:
        for code in typed:
            self.mutate("verifyPasswordResetCode", requestId=self.handle, code=code)
        self.look_at_it()

    def cancel(self) -> None:
        self.mutate("cancelPasswordReset", requestId=self.handle)
        self.look_at_it()

    def forge(self) -> None:
        """Try tokens of every kind, made up for this very row, whose id stands in the handle, and for none."""
        parsed = codes.parse_handle(self.handle)
        assert parsed is not None
        made_up = codes.Account("1", "made up", "")
        tokens = ["no token at all"]
        for record_id in (parsed[0], uuid.UUID(int=7)):
            tokens += [
                codes.link_token(record_id, bytes(32), made_up),
                codes.code_token(record_id, bytes(32), made_up, generation=1),
                codes.report_token(record_id, bytes(32)),
            ]
        for token in tokens:
            self.mutate("checkResetToken", resetToken=token)
            self.mutate("resetPassword", resetToken=token, newPassword=NEW_PASSWORD)
            self.mutate("resetPassword", resetToken=token, newPassword="short")
            self.mutate("checkPassword", resetToken=token, newPassword=NEW_PASSWORD)
            self.mutate("reportPasswordReset", reportToken=token)
        self.look_at_it()

    def look_at_it(self) -> None:
        inner = RESET.removeprefix("reset ")
        self.send(
            "passwordResetStatus",
            f"query S($id: ID!) {{ passwordResetStatus(requestId: $id) {inner} }}",
            id=self.handle,
        )
        self.be_told_of_it()

    def be_told_of_it(self) -> None:
        """What a stream would be made of: the row that its next look reads, and by which statement."""
        parsed = codes.parse_handle(self.handle)
        record_id = parsed[0] if parsed else uuid.UUID(int=0)
        with CaptureQueriesContext(connection) as asked:
            rows = watched([record_id])
        body = repr([row[1:] for row in rows])
        statements = [query["sql"].replace(record_id.hex, "").replace(str(record_id), "") for query in asked]
        self.exchanges.append(Exchange("passwordResetStatusChanged", 200, {}, body, statements))

    def read_the_rules(self) -> None:
        self.send("passwordPolicy", "{ passwordPolicy { codeLength minPasswordLength rules } }")

    def wait(self, **amount: float) -> None:
        self.clock.shift(timedelta(**amount))
        if self.handle:
            self.look_at_it()

    def mutate(self, verb: str, **values: Any) -> dict[str, Any]:
        kind = verb[0].upper() + verb[1:] + "Input"
        selection = f"{{ __typename {OPERATIONS[verb]} {FAILURES} }}"
        answer = self.send(verb, f"mutation M($input: {kind}!) {{ {verb}(input: $input) {selection} }}", input=values)
        return dict(answer["data"][verb])

    def send(self, verb: str, query: str, **variables: Any) -> dict[str, Any]:
        statements: list[str] = []

        def note(execute: Any, sql: str, *rest: Any) -> Any:
            statements.append(re.sub(r"\bs\d+_x\d+\b", "a savepoint", sql))
            return execute(sql, *rest)

        with connection.execute_wrapper(note):
            response = self.api.post({"query": query, "variables": variables})
        headers = {name: "" if name in RANDOM_HEADERS else value for name, value in response.headers.items()}
        body = self.anonymous(response.content.decode())
        self.exchanges.append(Exchange(verb, response.status_code, headers, body, statements))
        return dict(json.loads(response.content))

    def anonymous(self, body: str) -> str:
        """The body with its random parts under other names: a handle's number, and that of the phrase beside it."""
        for handle, phrase in re.findall(r'"requestId": "([^"]+)".*?"matchPhrase": "([^"]+)"', body):
            number = self.numbers.setdefault(handle, len(self.numbers))
            body = body.replace(handle, f"handle {number}").replace(phrase, f"phrase {number}")
        return body


class Servers(smtp.Connection):
    """Mail servers of all tempers."""

    def send(self, message: EmailMessage, *, lease_ends: float = 0.0) -> str:
        (address,) = message.to
        for name, code in (("refused", 550), ("greylisted", 451)):
            if address.startswith(name):
                raise smtplib.SMTPRecipientsRefused({address: (code, b"5.1.1 No")})
        return super().send(message, lease_ends=lease_ends)


def deliver() -> None:
    """Look, and try to send what is due."""
    while mailer.look().looked:
        pass
    while mailer.send_due(Servers(), limit=20):
        pass


# --- Stories ---------------------------------------------------------------------------------------------------------


def asked_again_and_again(stranger: Stranger) -> None:
    for _ in range(6):
        stranger.request()
        stranger.request()
        deliver()
        stranger.wait(seconds=61)
    stranger.resend()


def asked_with_a_key(stranger: Stranger) -> None:
    stranger.request(idempotencyKey=KEY)
    stranger.request(idempotencyKey=KEY)
    deliver()
    stranger.request(idempotencyKey=KEY)
    stranger.guess("000000")
    stranger.request(idempotencyKey=KEY)
    stranger.wait(hours=1, seconds=1)
    stranger.request(idempotencyKey=KEY)


def asked_in_vain(stranger: Stranger) -> None:
    stranger.read_the_rules()
    stranger.request(locale="no language")
    stranger.request(idempotencyKey="short")


def looked_up_and_mailed(stranger: Stranger) -> None:
    stranger.request()
    mailer.look()
    stranger.look_at_it()
    for _ in range(12):  # as often as it takes to give a mail up
        mailer.send_due(Servers(), limit=20)
        stranger.wait(minutes=1)
    stranger.wait(hours=1)
    stranger.resend()
    stranger.wait(days=1)


def resent(stranger: Stranger) -> None:
    stranger.request()
    stranger.resend()
    stranger.wait(seconds=61)
    stranger.resend()
    for _ in range(4):
        deliver()
        stranger.look_at_it()
        stranger.resend()
        stranger.wait(seconds=30)
        stranger.resend()
        stranger.wait(seconds=31)


def guessed(stranger: Stranger) -> None:
    stranger.request()
    stranger.guess("000000", "nonsense", "12345", "1234567")
    deliver()
    stranger.guess("000000", "1234", "\u0661\u0662\u0663\u0664\u0665\u0666", "000 002", "000003")
    stranger.guess("000004", "000005", "nonsense")
    stranger.wait(seconds=61)
    stranger.resend()
    deliver()
    stranger.guess("000006")
    stranger.wait(minutes=11)
    stranger.guess("000006")
    stranger.wait(hours=1)
    stranger.resend()


def guessed_until_the_day_is_over(stranger: Stranger) -> None:
    for _ in range(3):
        stranger.request()
        deliver()
        stranger.guess(*["000000"] * 6)
        stranger.wait(seconds=61)
    stranger.resend()
    deliver()
    stranger.look_at_it()
    stranger.wait(hours=12)
    stranger.request()
    stranger.guess("000000")
    deliver()
    stranger.guess("000000")


def guessed_a_hundred_times(stranger: Stranger) -> None:
    stranger.request()
    deliver()
    stranger.guess("000000")
    GuessBudget.objects.update(in_a_row=99, used_today=1)
    stranger.guess("000000", "000000", "nonsense")
    stranger.wait(days=1)
    stranger.request()
    deliver()
    stranger.guess("000000")


def guessed_while_codes_are_stopped(stranger: Stranger) -> None:
    stranger.request()
    deliver()
    with suppress(RateLimited):
        while True:
            rules.count_guess()
    stranger.guess("000000", "nonsense", "000001")
    stranger.wait(minutes=6)
    stranger.resend()
    deliver()
    stranger.guess("000000")
    stranger.wait(minutes=53)
    stranger.guess("000000")
    stranger.wait(minutes=1)
    stranger.guess("000000")
    stranger.request()
    deliver()
    stranger.guess("000000")


def expired(stranger: Stranger) -> None:
    stranger.request()
    deliver()
    stranger.wait(minutes=10)
    stranger.guess("000000", "nonsense")
    stranger.resend()
    deliver()
    stranger.guess("000000")
    stranger.wait(minutes=50)
    stranger.guess("000000", "nonsense")
    stranger.resend()
    stranger.cancel()
    stranger.wait(days=1)


def cancelled_before_the_look(stranger: Stranger) -> None:
    stranger.request()
    stranger.cancel()
    deliver()
    stranger.look_at_it()
    after_a_cancel(stranger)


def cancelled_before_the_mail(stranger: Stranger) -> None:
    stranger.request()
    mailer.look()
    stranger.cancel()
    deliver()
    after_a_cancel(stranger)


def cancelled_after_the_mail(stranger: Stranger) -> None:
    stranger.request()
    deliver()
    stranger.guess("000000")
    stranger.cancel()
    after_a_cancel(stranger)


def after_a_cancel(stranger: Stranger) -> None:
    stranger.cancel()
    stranger.guess("000000", "nonsense")
    stranger.wait(seconds=61)
    stranger.resend()
    stranger.forge()


def made_tokens_up(stranger: Stranger) -> None:
    stranger.request()
    stranger.forge()
    deliver()
    stranger.forge()
    stranger.guess(*["000000"] * 5)
    stranger.forge()
    stranger.wait(hours=1)
    stranger.forge()


STORIES: list[Callable[[Stranger], None]] = [
    asked_again_and_again,
    asked_with_a_key,
    asked_in_vain,
    looked_up_and_mailed,
    resent,
    guessed,
    guessed_until_the_day_is_over,
    guessed_a_hundred_times,
    guessed_while_codes_are_stopped,
    expired,
    cancelled_before_the_look,
    cancelled_before_the_mail,
    cancelled_after_the_mail,
    made_tokens_up,
]


@pytest.fixture
def accounts(make_user: Callable[..., Any]) -> Iterator[None]:
    """Accounts of every kind, some without address. SQLite is taught what every other database knows of capitals."""
    for number in range(10):
        make_user(["", " "][number % 2], username=f"robot{number}")
    make_user(KINDS["known"])
    make_user(KINDS["refused by its server"])
    make_user(KINDS["never accepted"])
    make_user(KINDS["inactive"], is_active=False)
    sso = make_user(KINDS["without a password"])
    sso.set_unusable_password()
    sso.save()
    for spelled in ("\u017fisyphos", "sisypho\u017f"):  # with a long s
        make_user(f"{spelled}@example.com", username=f"beginning with {spelled[0]!a}")
    # Two accounts of one mailbox.
    make_user("Shared@example.com")
    make_user("shared@EXAMPLE.com")
    _teach_sqlite(str.upper)
    yield
    _teach_sqlite(lambda text: "".join(letter.upper() if letter.isascii() else letter for letter in text))


def _teach_sqlite(upper: Callable[[str], str]) -> None:
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        connection.connection.create_function("UPPER", 1, lambda text: text and upper(text), deterministic=True)


@pytest.fixture
def tell(
    accounts: None, api: API, clock: time_machine.Traveller, settings: Any
) -> Callable[[Callable[[Stranger], None], str], list[Exchange]]:
    """Tell a story about an address, from the same moment on each time; returns what was to be seen."""
    settings.THROTTLE_VERIFY_PER_IP = settings.THROTTLE_REQUEST_PER_IP = "1000/hour"
    begin = datetime.now().astimezone()

    def told(story: Callable[[Stranger], None], email: str) -> list[Exchange]:
        clock.move_to(begin)
        rules.reset()
        stranger = Stranger(api, clock, email)
        story(stranger)
        return stranger.exchanges

    return told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_nothing_tells_an_address_from_one_that_nobody_has(
    tell: Callable[..., list[Exchange]], story: Callable[[Stranger], None], kind: str
) -> None:
    unknown, other = tell(story, NOBODY), tell(story, KINDS[kind])
    assert len(unknown) == len(other) > 3
    for number, (expected, seen) in enumerate(zip(unknown, other, strict=True), start=1):
        assert seen == expected, f"exchange {number}, {seen.verb}"


@pytest.mark.parametrize("kind", ["known", "without a password"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_nor_does_anything_where_everybody_is_mailed(
    tell: Callable[..., list[Exchange]], story: Callable[[Stranger], None], kind: str, settings: Any
) -> None:
    settings.MAIL_WITHOUT_PASSWORD, settings.MAIL_UNKNOWN = "explain", "on"
    assert tell(story, NOBODY) == tell(story, KINDS[kind])


def test_the_stories_reach_every_field_and_every_answer_that_a_stranger_can_get(
    tell: Callable[..., list[Exchange]],
) -> None:
    """What the stories never come to, they cannot compare. A new field of the schema needs a place in one of them."""
    exchanges = [exchange for story in STORIES for exchange in tell(story, KINDS["known"])]
    assert {exchange.verb for exchange in exchanges} == set(root_fields(schema))
    seen = {word for exchange in exchanges for word in re.findall(r'"(?:status|__typename)": "(\w+)"', exchange.body)}
    assert seen >= {"QUEUED", "SENT", "EXPIRED", "LOCKED", "CANCELLED"}
    assert seen >= {
        "RequestPasswordResetSuccess",
        "ResendPasswordResetCodeSuccess",
        "CancelPasswordResetSuccess",
        "InvalidInputError",
        "RateLimitedError",
        "InvalidCodeError",
        "UnknownRequestError",
        "InvalidResetTokenError",
    }


def test_the_kinds_are_what_they_are_called(tell: Callable[..., list[Exchange]]) -> None:
    reasons = {}
    for kind, email in KINDS.items():
        PasswordResetEvent.objects.all().delete()
        tell(looked_up_and_mailed, email)
        events = PasswordResetEvent.objects.exclude(kind="MAIL_FAILED").values_list("kind", "reason")
        reasons[kind] = list(dict.fromkeys(f"{event} {reason}" for event, reason in events))
    assert reasons == {
        "known": ["LOOKED_UP found", "MAILED CODE"],
        "inactive": ["LOOKED_UP inactive", "NOT_MAILED inactive"],
        "without a password": ["LOOKED_UP unusable_password", "NOT_MAILED unusable_password"],
        "ambiguous": ["LOOKED_UP ambiguous", "NOT_MAILED ambiguous"],
        "shared by two": ["LOOKED_UP found", "MAILED CODE"],
        "refused by its server": ["LOOKED_UP found", "MAIL_DEAD smtp_550 5.1.1"],
        "never accepted": ["LOOKED_UP found"],
        "another stranger": ["LOOKED_UP unknown", "NOT_MAILED unknown"],
    }


def test_of_one_batch_exactly_the_mailable_get_one_mail(
    tell: Callable[..., list[Exchange]], api: API, clock: time_machine.Traveller
) -> None:
    for email in (NOBODY, *KINDS.values()):
        api.request(email)
    deliver()
    assert sorted(message.to for message in mail.outbox) == sorted([address] for address in MAILED)
