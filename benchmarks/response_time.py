"""How long a request takes while the mail server is instant, and while it takes two seconds for every mail.

    .venv/bin/python -m benchmarks.response_time              # 200 requests to each
    .venv/bin/python -m benchmarks.response_time --requests 500 --slow 5

Starts the production server twice, each with granian as `make serve` runs it, a SQLite database of its own and an SMTP
server of its own on the loopback interface: one that answers at once, and one that thinks about each mail. Then
`requestPasswordReset` is sent to them in turn, each time for another address; half of the addresses have an account,
so half of the requests owe a mail. Limits and cooldown are lifted. What is printed is the time from the first byte sent
to the last byte received, in milliseconds, on a connection kept open; mails are counted as the SMTP servers took them.

Nothing waits for a mail if the medians of both are alike: a ratio of 1.0.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.smtp_server import SMTPServer, environment

ROOT = Path(__file__).resolve().parent.parent
MUTATION = (
    "mutation Ask($email: String!) { requestPasswordReset(input: {email: $email}) "
    "{ __typename ... on RequestPasswordResetSuccess { reset { requestId } } } }"
)
WARM_UP = 20
"""Requests to each arrangement before the clock counts: the first ones import, compile and fill caches."""
START_SECONDS = 60


@dataclass
class Arrangement:
    """A running site with its mail server, and the milliseconds that its answers took."""

    name: str
    site: http.client.HTTPConnection
    smtp: SMTPServer
    milliseconds: list[float] = field(default_factory=list)

    def ask(self, email: str) -> float:
        body = json.dumps({"query": MUTATION, "variables": {"email": email}})
        headers = {"Content-Type": "application/json", "X-Forwarded-Proto": "https"}
        started = time.perf_counter()
        self.site.request("POST", "/graphql/", body, headers)
        response = self.site.getresponse()
        content = response.read()
        took = (time.perf_counter() - started) * 1000
        answer = json.loads(content) if response.status == 200 else content
        if not isinstance(answer, dict) or "reset" not in answer["data"]["requestPasswordReset"]:
            raise SystemExit(f"{self.name}: HTTP {response.status}: {answer!r}")
        return took

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=200, help="requests to each arrangement")
    parser.add_argument("--slow", type=float, default=2.0, help="seconds that the slow mail server takes for a mail")
    options = parser.parse_args()
    with ExitStack() as stack:
        fast = stack.enter_context(arrangement("instant SMTP", 0.0, WARM_UP + options.requests))
        slow = stack.enter_context(
            arrangement(f"{options.slow:g} s per mail", options.slow, WARM_UP + options.requests)
        )
        for number in range(WARM_UP + options.requests):
            # Neither always goes first.
            for each in (fast, slow) if number % 2 else (slow, fast):
                took = each.ask(address(number))
                if number >= WARM_UP:
                    each.milliseconds.append(took)
        report(fast, slow)


def report(fast: Arrangement, slow: Arrangement) -> None:
    say(f"{'':>16} {'requests':>9} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'mails taken':>12}")
    for each in (fast, slow):
        times = (each.percentile(50), each.percentile(99), max(each.milliseconds))
        say(
            f"{each.name:>16} {len(each.milliseconds):>9} {times[0]:>8.1f} {times[1]:>8.1f} {times[2]:>8.1f}"
            f" {len(each.smtp.letters):>12}"
        )
    say(f"median slow / median fast: {slow.percentile(50) / fast.percentile(50):.2f}")


@contextmanager
def arrangement(name: str, seconds_per_mail: float, accounts: int) -> Iterator[Arrangement]:
    """A site and its mail server, running for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder, SMTPServer() as smtp:
        smtp.slow(seconds_per_mail, "END")
        port = free_port()
        variables = {**os.environ, **site_environment(Path(folder), port), **environment(smtp.port)}
        prepare(variables, accounts)
        with granian(variables, port) as site:
            yield Arrangement(name, site, smtp)


def site_environment(folder: Path, port: int) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "backend.settings",
        "DEBUG": "0",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SECURE_SSL_REDIRECT": "0",
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "REDIS_URL": "",
        "MAIL_DISPATCH": "thread",
        "THROTTLE_REQUEST_PER_IP": "1000000/hour",
        "THROTTLE_REQUEST_PER_EMAIL": "1000000/hour",
        "PASSWORD_RESET_COOLDOWN": "0",
    }


def prepare(variables: dict[str, str], accounts: int) -> None:
    """Make the database, with an account for every second address."""
    script = f"""
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from benchmarks.response_time import address
call_command("migrate", verbosity=0)
users = get_user_model()
emails = [address(number) for number in range(0, {accounts}, 2)]
users.objects.bulk_create(users(username=email, email=email, password="argon2$not-a-hash") for email in emails)
"""
    subprocess.run([sys.executable, "-c", script], env=variables, cwd=ROOT, check=True)


@contextmanager
def granian(variables: dict[str, str], port: int) -> Iterator[http.client.HTTPConnection]:
    """The production server, as `make serve` starts it."""
    command = [str(Path(sys.executable).parent / "granian"), "--interface", "wsgi", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "2", "--blocking-threads", "8", "--no-ws", "--log-level", "warning"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, "backend.wsgi:application"], env=variables, cwd=ROOT, stdout=log, stderr=log
        )
        try:
            wait_for(port, server)
            site = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            yield site
            site.close()
        finally:
            server.terminate()
            server.wait(START_SECONDS)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the server did not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def address(number: int) -> str:
    return f"person{number}@example.com"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
