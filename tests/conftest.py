"""What the tests share: an API client, a post office that mails on demand, accounts, and a clock that can be moved."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client
from django.utils import timezone
from hypothesis import settings as hypothesis_settings

from accounts import codes, transitions
from accounts.directory import directory
from accounts.limits import rules
from accounts.mailing import mailer, smtp
from accounts.models import ForgetPassword
from harness.valkey import Valkey

# How long an example takes says more about the machine than about the example.
hypothesis_settings.register_profile("without a deadline", deadline=None)
hypothesis_settings.load_profile("without a deadline")

PASSWORD = "umbrella-cactus-violin-91"  # noqa: S105 (of accounts that live for one test)
NEW_PASSWORD = "thistle walnut comet raft 7"  # noqa: S105 (of accounts that live for one test)

RESET = (
    "reset { requestId status matchPhrase attemptsLeft createdAt expiresAt resendAvailableAt isUserPasswordUpdated }"
)
OPERATIONS = {
    "requestPasswordReset": f"... on RequestPasswordResetSuccess {{ {RESET} }}",
    "resendPasswordResetCode": f"... on ResendPasswordResetCodeSuccess {{ {RESET} }}",
    "verifyPasswordResetCode": f"... on VerifyPasswordResetCodeSuccess {{ resetToken expiresAt {RESET} }} "
    "... on InvalidCodeError { attemptsLeft }",
    "resetPassword": f"... on ResetPasswordSuccess {{ {RESET} }} "
    "... on PasswordRejectedError { violations { code } }",
    "checkResetToken": "... on CheckResetTokenSuccess { expiresAt }",
    "checkPassword": "... on CheckPasswordSuccess { score } ... on PasswordRejectedError { violations { code } }",
    "cancelPasswordReset": f"... on CancelPasswordResetSuccess {{ {RESET} }}",
    "reportPasswordReset": "... on ReportPasswordResetSuccess { cancelled freshLink }",
}
FAILURES = "... on Error { message } ... on InvalidInputError { field } ... on RateLimitedError { retryAfter }"


@dataclass
class API:
    """The endpoint as a frontend uses it; `mutate` answers with the payload of the one field it sends."""

    http: Client
    path: str = "/graphql/"

    def post(self, body: Any, **headers: str) -> Any:
        content = body if isinstance(body, (bytes, str)) else json.dumps(body)
        headers = {"accept": "application/graphql-response+json", **headers}
        return self.http.post(self.path, content, content_type="application/json", headers=headers)

    def execute(self, query: str, **variables: Any) -> dict[str, Any]:
        response = self.post({"query": query, "variables": variables})
        assert response.status_code == 200, response.content
        answer: dict[str, Any] = response.json()
        assert "errors" not in answer, answer
        return dict(answer["data"])

    def mutate(self, field: str, **values: Any) -> dict[str, Any]:
        kind = field[0].upper() + field[1:] + "Input"
        query = (
            f"mutation M($input: {kind}!) {{ {field}(input: $input) {{ __typename {OPERATIONS[field]} {FAILURES} }} }}"
        )
        return dict(self.execute(query, input=values)[field])

    def request(self, email: str = "ada@example.com", **more: Any) -> dict[str, Any]:
        answer = self.mutate("requestPasswordReset", email=email, **more)
        assert answer["__typename"] == "RequestPasswordResetSuccess", answer
        return dict(answer["reset"])

    def verify(self, request_id: str, code: str) -> dict[str, Any]:
        return self.mutate("verifyPasswordResetCode", requestId=request_id, code=code)

    def reset(self, token: str, password: str = NEW_PASSWORD) -> dict[str, Any]:
        return self.mutate("resetPassword", resetToken=token, newPassword=password)

    def report(self, token: str) -> dict[str, Any]:
        return self.mutate("reportPasswordReset", reportToken=token)

    def status(self, request_id: str) -> dict[str, Any] | None:
        inner = RESET.removeprefix("reset ")
        query = f"query S($id: ID!) {{ passwordResetStatus(requestId: $id) {inner} }}"
        found: dict[str, Any] | None = self.execute(query, id=request_id)["passwordResetStatus"]
        return found


@dataclass(frozen=True)
class Letter:
    """A mail as its reader sees it."""

    message: EmailMessage

    @property
    def text(self) -> str:
        return str(self.message.body)

    @property
    def subject(self) -> str:
        return str(self.message.subject)

    @property
    def html(self) -> str:
        return str(self.message.alternatives[0][0])  # type: ignore[attr-defined]

    @property
    def code(self) -> str:
        found = re.search(r"^@\S+ #(\d+)$", self.text, re.MULTILINE)
        return found[1] if found else ""

    @property
    def tokens(self) -> list[str]:
        return re.findall(r"[#?]token=([\w-]+)", self.text)

    @property
    def token(self) -> str:
        (only,) = self.tokens
        return str(only)

    @property
    def report(self) -> str:
        """The token of its "this was not me"."""
        found = re.search(r"[#?]report=([\w-]+)", self.text)
        return found[1] if found else ""


class PostOffice:
    """Looks and sends whenever a test says so, into Django's outbox."""

    def __init__(self) -> None:
        self.read = 0

    def deliver(self) -> list[Letter]:
        """Mail all that is due now; returns the new letters."""
        connection = smtp.Connection()
        while mailer.look().looked:
            pass
        while mailer.send_due(connection, limit=20):
            pass
        letters = [Letter(message) for message in mail.outbox[self.read :]]
        self.read = len(mail.outbox)
        return letters

    def deliver_one(self) -> Letter:
        (letter,) = self.deliver()
        return letter


@pytest.fixture(autouse=True)
def _no_counts_from_other_tests() -> Iterator[None]:
    rules.reset()
    yield
    rules.reset()


@pytest.fixture(autouse=True)
def _health_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.health.CACHE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _the_queue_of_other_tests_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailer, "_beginning", transitions.LONG_AGO)


@pytest.fixture
def api(db: None) -> API:
    return API(Client())


@pytest.fixture
def post(db: None) -> PostOffice:
    return PostOffice()


def account_of(user: Any) -> codes.Account:
    """What a user's codes are bound to."""
    return directory().bound(user, user.email)


@pytest.fixture
def make_user(db: None) -> Callable[..., Any]:
    def make(email: str = "ada@example.com", username: str = "", **fields: Any) -> Any:
        users = get_user_model().objects
        return users.create_user(username or email, email, fields.pop("password", PASSWORD), **fields)

    return make


@pytest.fixture
def user(make_user: Callable[..., Any]) -> Any:
    return make_user(username="ada")


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A clock that stands still until it is moved: `clock.shift(60)`."""
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=timezone.get_default_timezone()), tick=False) as traveller:
        yield traveller


@pytest.fixture
def later(clock: time_machine.Traveller) -> Callable[..., None]:
    """Move the clock: `later(minutes=9, seconds=59)`."""

    def move(**amount: float) -> None:
        clock.shift(timedelta(**amount))

    return move


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """A real Valkey on the loopback interface."""
    server = Valkey()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: Valkey, settings: Any) -> Valkey:
    """The same, empty, and counting the limits."""
    settings.REDIS_URL = valkey_server.url
    valkey_server.client().flushall()
    return valkey_server


@pytest.fixture(params=["memory", "valkey"])
def counting(request: pytest.FixtureRequest) -> str:
    """Where limits are counted: once in this process, once in a real Valkey."""
    if request.param == "valkey":
        request.getfixturevalue("valkey")
    return str(request.param)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a deployment needs, to be copied."""
    from harness.deployment import prepare

    return prepare(tmp_path_factory.mktemp("prepared"))


def record_of(request_id: str) -> ForgetPassword:
    """The row behind a handle."""
    from accounts import codes

    parsed = codes.parse_handle(request_id)
    assert parsed is not None
    return ForgetPassword.objects.get(pk=parsed[0])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is there to be tested, a skipped test is a failed one."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
