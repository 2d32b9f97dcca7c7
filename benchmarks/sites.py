"""What a benchmark asks: the production server on a free port, as `make serve` starts it, with limits lifted."""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import subprocess  # nosec B404 # it runs our own modules
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from accounts.conf import RecoverySettings
from harness.deployment import Running, free_port, recipe
from harness.deployment import running as running_server
from harness.smtp_server import environment as mailing_to

ROOT = Path(__file__).resolve().parent.parent
IDLE_SECONDS = 4
"""Less than the server keeps an idle connection for."""
HEADERS = {"Content-Type": "application/json", "X-Forwarded-Proto": "https"}
ENDLESS = "1000000/hour"
THROTTLES = [name for name in vars(RecoverySettings) if name.startswith("THROTTLE_")]
"""Every limit that there is."""
REQUEST = """mutation Ask($email: String!) { requestPasswordReset(input: {email: $email}) {
    ... on RequestPasswordResetSuccess { reset { requestId } } } }"""
STATUS = "query Status($id: ID!) { passwordResetStatus(requestId: $id) { status createdAt expiresAt } }"
VERIFY = """mutation Guess($id: ID!, $code: String!) { verifyPasswordResetCode(input: {requestId: $id, code: $code}) {
    ... on InvalidCodeError { attemptsLeft } } }"""
TOKEN_KINDS = {"code": b"\1", "link": b"\2", "report": b"\3"}
"""The first byte of each kind of token; the record's id and 32 bytes of MAC follow."""
PASSWORD = "thistle walnut comet raft 7"  # nosec B105 # noqa: S105 (sent with tokens that nobody will believe)
WITH_A_TOKEN = {
    "checkResetToken": "resetToken: $token",
    "resetPassword": f'resetToken: $token, newPassword: "{PASSWORD}"',
    "checkPassword": f'resetToken: $token, newPassword: "{PASSWORD}"',
    "reportPasswordReset": "reportToken: $token",
}
"""What each verb that takes a token is sent."""
WITHOUT_ADDRESS = 1000
"""Accounts that have none, as directories of machines and imports do."""


@dataclass
class Site:
    """A running site, and one connection to it that is kept open: all that is asked goes to the same worker.

    After some idle seconds the server ends it, and the next question begins another.
    """

    http: http.client.HTTPConnection
    asked_at: float = 0.0

    def request(self, email: str) -> tuple[str, float]:
        """Ask for a reset; the handle, and the milliseconds that it took."""
        data, took = self.ask(REQUEST, email=email)
        return str(data["requestPasswordReset"]["reset"]["requestId"]), took

    def status(self, handle: str) -> tuple[dict[str, str], float]:
        """Where a reset stands, and the milliseconds that it took to learn that."""
        data, took = self.ask(STATUS, id=handle)
        return data["passwordResetStatus"], took

    def guess(self, handle: str) -> float:
        """Send a code, a wrong one but for one time in a million; the milliseconds that it took."""
        return self.ask(VERIFY, id=handle, code="000000")[1]

    def send_made_up(self, kind: str, verb: str, handle: str) -> float:
        """Send a token of this kind for the handle's own row, whose id is known, and with a MAC that is made up.

        Returns the milliseconds that it took to be refused.
        """
        token = TOKEN_KINDS[kind] + decode(handle)[:16] + secrets.token_bytes(32)
        query = f"mutation T($token: String!) {{ {verb}(input: {{{WITH_A_TOKEN[verb]}}}) {{ __typename }} }}"
        data, took = self.ask(query, token=encode(token))
        if data[verb]["__typename"] != "InvalidResetTokenError":
            raise SystemExit(f"{verb}: {data}")
        return took

    def ask(self, query: str, **variables: Any) -> tuple[dict[str, Any], float]:
        """The data of an answer, and the milliseconds from the first byte sent to the last byte received."""
        return self.ask_as(HEADERS, query, **variables)

    def ask_as(self, headers: dict[str, str], query: str, **variables: Any) -> tuple[dict[str, Any], float]:
        """The same with other headers, as another client behind the proxy sends them."""
        body = json.dumps({"query": query, "variables": variables})
        if time.perf_counter() - self.asked_at > IDLE_SECONDS:
            self.http.close()
            self.http.connect()
        started = self.asked_at = time.perf_counter()
        self.http.request("POST", "/graphql/", body, headers)
        response = self.http.getresponse()
        content = response.read()
        took = (time.perf_counter() - started) * 1000
        answer = json.loads(content) if response.status == 200 else {}
        if "data" not in answer or "errors" in answer:
            raise SystemExit(f"HTTP {response.status}: {content!r}")
        return answer["data"], took


@contextmanager
def serving(environment: dict[str, str], smtp_port: int, *, workers: int = 2) -> Iterator[Site]:
    """A site with this environment, mailing to this port, for as long as the context lasts."""
    port = free_port()
    variables = {**site_environment(port), **mailing_to(smtp_port), **environment}
    with granian(variables, port, workers) as http:
        yield Site(http)


def site_environment(port: int) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "backend.settings",
        "DEBUG": "0",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SECURE_SSL_REDIRECT": "0",
        "REDIS_URL": "",
        "MAIL_DISPATCH": "thread",
        **dict.fromkeys(THROTTLES, ENDLESS),
        "PASSWORD_RESET_COOLDOWN": str(0),
    }


def prepare(database_url: str, emails: Iterable[str]) -> None:
    """Make the database anew, with an account for each of these addresses, and many that have none."""
    script = f"""
import sys
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("flush", interactive=False, verbosity=0)
users = get_user_model()
users.objects.bulk_create(
    users(username=email, email=email, password="argon2$not-a-hash") for email in sys.stdin.read().split()
)
users.objects.bulk_create(users(username=f"machine{{n}}", password="!") for n in range({WITHOUT_ADDRESS}))
"""
    variables = {**site_environment(0), "PUBLIC_URL": "http://127.0.0.1", "DATABASE_URL": database_url}
    given: Any = {"env": variables, "cwd": ROOT, "input": "\n".join(emails), "text": True}
    done = subprocess.run([sys.executable, "-c", script], **given)  # nosec B603 # noqa: S603 (the script above)
    if done.returncode:
        raise SystemExit("the database could not be prepared")


@contextmanager
def granian(variables: dict[str, str], port: int, workers: int) -> Iterator[http.client.HTTPConnection]:
    """The production server, as `make serve` starts it."""
    with running(recipe(port, workers)[-1], variables, port):
        site = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        yield site
        site.close()


@contextmanager
def running(command: list[str], variables: dict[str, str], port: int) -> Iterator[Running]:
    """A server at this port, which says no more than warnings."""
    with tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder:
        quiet = [*command, "--log-level", "warning"]
        with running_server(quiet, port, variables, Path(folder, "server.log")) as server:
            yield server


def handle_of(port: int) -> str:
    """A handle of the site at this port, for a reset that has just been requested."""
    site = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        return Site(site).request("somebody@example.com")[0]
    finally:
        site.close()


def cpu_milliseconds(pid: int) -> float:
    """What a server and its workers have used; `pid` is the one process that has started the others."""
    main = psutil.Process(pid)
    times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
    return float(sum(each.user + each.system for each in times)) * 1000


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def address(number: int) -> str:
    """An address that tells nothing by its length."""
    return f"person{number % 10**6:06}@example.com"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
