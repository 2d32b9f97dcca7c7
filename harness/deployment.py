"""A deployment as an operator would make it: real processes, a database file, a mail server, and a proxy in front."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gql import Client, GraphQLRequest
from gql.transport.requests import RequestsHTTPTransport

from harness.smtp_server import Delivery, SMTPServer
from harness.smtp_server import environment as mailing_to

ROOT = Path(__file__).parent.parent
HOST = "accounts.example.com"
PROXIED = {"Host": HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
"""What a proxy that speaks TLS tells the server behind it."""
CROWD = [f"user{number}@example.com" for number in range(8)]
PATIENCE = 60.0
"""Seconds; a busy machine is not a failure."""

MAKE_USERS = """
from django.contrib.auth.models import User
hashed = User(username="any")
hashed.set_password("umbrella-cactus-violin-91")
User.objects.bulk_create(User(username=email, email=email, password=hashed.password) for email in %r)
"""
REQUEST = """mutation Ask($input: RequestPasswordResetInput!) { requestPasswordReset(input: $input) {
    ... on RequestPasswordResetSuccess { reset { requestId status matchPhrase } } ... on Error { message } } }"""
VERIFY = """mutation Verify($input: VerifyPasswordResetCodeInput!) { verifyPasswordResetCode(input: $input) {
    ... on VerifyPasswordResetCodeSuccess { resetToken } ... on Error { message } } }"""
RESET = """mutation Reset($input: ResetPasswordInput!) { resetPassword(input: $input) {
    ... on ResetPasswordSuccess { reset { status isUserPasswordUpdated } } ... on Error { message } } }"""
STATUS = "query Status($id: ID!) { passwordResetStatus(requestId: $id) { status } }"


def wait_until(done: Callable[[], Any], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def recipe(port: int, workers: int = 2) -> list[list[str]]:
    """The commands of `make serve`, once everything is set up: the check, the collection of files, the server.

    The Makefile alone says how the server is started; tests, drills and benchmarks read it there.
    """
    variables = [f"VENV={sys.prefix}", f"PORT={port}", f"WORKERS={workers}"]
    make = ["make", "--dry-run", "--no-print-directory", "serve", *variables]
    text = subprocess.run(
        make, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    ).stdout
    commands = [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]
    check, collect, (execute, *serve) = commands[-3:]
    assert execute == "exec", serve
    return [check, collect, serve]


@dataclass
class Running:
    """A process that serves HTTP, and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        """Ask it to end, and wait until it has; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL it and all that it has started; returns when it is gone."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    @property
    def workers(self) -> list[int]:
        """The processes that a granian serves from, by their numbers, the present one of each."""
        spawned = re.findall(r"Spawning worker-(\d+) with PID: (\d+)", self.log.read_text())
        return [pid for _, pid in sorted({int(number): int(pid) for number, pid in spawned}.items())]

    @property
    def started(self) -> int:
        """How many workers have come so far as to serve, replaced ones included."""
        return self.log.read_text().count("Started worker-")


@contextmanager
def running(command: list[str], port: int | None, environment: dict[str, str], log: Path) -> Iterator[Running]:
    """Start a process and wait for its port, if it has one; whatever happens, all of it is gone at the end."""
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True) as process,
    ):
        server = Running(process, port or 0, log)
        try:
            if port is not None:
                wait_until(lambda: process.poll() is not None or _answers(port))
                assert process.poll() is None, log.read_text()
            yield server
            process.terminate()
            process.wait(PATIENCE)
        finally:
            # The session is its own, so this ends nothing but what is left of this server.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Site:
    """A deployment: a folder with its database, an environment, a mail server."""

    folder: Path
    mail: SMTPServer
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Collected files go to this folder instead of the project's; nothing else differs from production.
        (self.folder / "settings_here.py").write_text(
            f"from backend.settings import *\nSTATIC_ROOT = {str(self.folder / 'static')!r}\n"
        )
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.folder),
            "DJANGO_SETTINGS_MODULE": "settings_here",
            "DATABASE_URL": f"sqlite:///{self.folder / 'db.sqlite3'}",
            "SECRET_KEY": secrets.token_urlsafe(64),
            "PUBLIC_URL": f"https://{HOST}",
            "TRUSTED_PROXIES": "1",
            "THROTTLE_REQUEST_PER_IP": "1000/hour",
            # Tests wait by asking, many times a second.
            "THROTTLE_STATUS_PER_HANDLE": "100000/hour",
            "THROTTLE_STATUS_PER_IP": "100000/hour",
            "MAIL_SWEEP_SECONDS": "1",
            "MAIL_RETRY_SECONDS": "1",
            **mailing_to(self.mail.port),
            **self.environment,
        }

    def run(self, *command: str) -> None:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def serving(self, port: int = 0, workers: int = 2) -> Iterator[Running]:
        port = port or free_port()
        _, _, command = recipe(port, workers)
        with running(command, port, self.environment, self.new_log("server")) as server:
            # The port answers before the workers do, and a worker stopped while it still starts would never end.
            wait_until(lambda: server.started == workers)
            yield server
            print(server.log.read_text())  # noqa: T201 (pytest shows it where the test fails)

    @contextmanager
    def mailing(self, *arguments: str) -> Iterator[Running]:
        """The mailer as a process of its own."""
        command = [sys.executable, "manage.py", "run_mailer", *arguments]
        with running(command, None, self.environment, self.new_log("mailer")) as mailer:
            yield mailer

    @contextmanager
    def working(self) -> Iterator[Running]:
        """A Celery worker of this deployment, ready for its first task."""
        # A name of its own: the names of workers at one broker must differ.
        name = f"worker-{uuid.uuid4().hex[:8]}"
        command = [sys.executable, "-m", "celery", "--quiet", "-A", "backend", "worker", "--concurrency", "2"]
        command += ["--loglevel", "INFO", "--hostname", f"{name}@%h"]
        with running(command, None, self.environment, self.new_log(name)) as worker:
            wait_until(lambda: " ready." in worker.log.read_text())
            yield worker
            # How a worker ends when it is told to is Celery's; what it leaves undone is what these tests are about.
            worker.process.kill()
            worker.process.wait()

    def new_log(self, name: str) -> Path:
        """A file of its own for each process, so that a second one does not wipe what the first has said."""
        return self.folder / f"{name}-{len(list(self.folder.glob(f'{name}-*.log'))) + 1}.log"

    def letters_to(self, email: str) -> list[Delivery]:
        return [letter for letter in self.mail.letters if letter.recipients == (email,)]


def prepare(folder: Path, crowd: Sequence[str] = CROWD, **environment: str) -> Path:
    """Make a migrated database with some users, and the collected files, for `site_in` to copy."""
    with SMTPServer() as mail:
        site = Site(folder, mail, environment)
        check, collect, _ = recipe(8000)
        site.run(*check)
        site.run(*collect)
        site.run(sys.executable, "manage.py", "migrate", "--verbosity", "0")
        site.run(sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", MAKE_USERS % (crowd,))
    return folder


@contextmanager
def site_in(folder: Path, prepared: Path, **environment: str) -> Iterator[Site]:
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    with SMTPServer() as mail:
        yield Site(folder, mail, environment)
        for stage in list(mail.stages):
            mail.release(stage)


def ask(server: Running, query: str, **variables: Any) -> dict[str, Any]:
    transport = RequestsHTTPTransport(f"{server.url}/graphql/", headers=PROXIED, timeout=30)
    with Client(transport=transport) as session:
        answer: dict[str, Any] = session.execute(GraphQLRequest(query, variable_values=variables))
    (payload,) = answer.values()
    return dict(payload)


def request_all(server: Running) -> list[str]:
    """Ask for everybody in the crowd; returns the handles of what was accepted."""
    return [ask(server, REQUEST, input={"email": email})["reset"]["requestId"] for email in CROWD]


def is_sent(server: Running, handle: str) -> bool:
    return bool(ask(server, STATUS, id=handle)["status"] == "SENT")


def mailed_to(site: Site) -> list[str]:
    return sorted(letter.recipients[0] for letter in site.mail.letters)
