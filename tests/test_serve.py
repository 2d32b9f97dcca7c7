"""The production server, started as `make serve` starts it: a whole reset over HTTP and SMTP, its headers, its end."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from gql import Client, GraphQLRequest
from gql.transport.requests import RequestsHTTPTransport

from tests.conftest import NEW_PASSWORD, PASSWORD
from tests.smtp_server import DROP, HOLD, Delivery, SMTPServer
from tests.smtp_server import environment as mailing_to

ROOT = Path(__file__).parent.parent
HOST = "accounts.example.com"
PROXIED = {"Host": HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
"""What a proxy that speaks TLS tells the server behind it."""
CROWD = [f"user{number}@example.com" for number in range(8)]
PATIENCE = 30.0
"""Seconds; a busy machine is not a failure."""

MAKE_USERS = f"""
from django.contrib.auth.models import User
hashed = User(username="any")
hashed.set_password({PASSWORD!r})
User.objects.bulk_create(User(username=email, email=email, password=hashed.password) for email in {CROWD!r})
"""
REQUEST = """mutation Ask($input: RequestPasswordResetInput!) { requestPasswordReset(input: $input) {
    ... on RequestPasswordResetSuccess { reset { requestId status matchPhrase } } ... on Error { message } } }"""
VERIFY = """mutation Verify($input: VerifyPasswordResetCodeInput!) { verifyPasswordResetCode(input: $input) {
    ... on VerifyPasswordResetCodeSuccess { resetToken } ... on Error { message } } }"""
RESET = """mutation Reset($input: ResetPasswordInput!) { resetPassword(input: $input) {
    ... on ResetPasswordSuccess { reset { status isUserPasswordUpdated } } ... on Error { message } } }"""
STATUS = "query Status($id: ID!) { passwordResetStatus(requestId: $id) { status } }"


def wait_until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str], log: Path) -> Iterator[Running]:
    """Start a server and wait for its port; whatever happens, it is gone afterwards."""
    with log.open("wb") as out, subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out) as process:
        server = Running(process, port, log)
        try:
            wait_until(lambda: process.poll() is not None or _answers(port))
            assert process.poll() is None, log.read_text()
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()


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
            "MAIL_SWEEP_SECONDS": "1",
            "MAIL_RETRY_SECONDS": "1",
            **mailing_to(self.mail.port),
            **self.environment,
        }

    def run(self, *command: str) -> None:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def recipe(self, port: int) -> list[list[str]]:
        """The commands of `make serve`, once everything is set up."""
        make = ["make", "--dry-run", "--no-print-directory", "serve", f"VENV={sys.prefix}", f"PORT={port}"]
        text = subprocess.run(
            make, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
        ).stdout
        commands = [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]
        return commands[-3:]

    @contextmanager
    def serving(self) -> Iterator[Running]:
        port = free_port()
        *_, (execute, *command) = self.recipe(port)
        assert execute == "exec"
        workers = int(command[command.index("--workers") + 1])
        with running(command, port, self.environment, self.folder / "log") as server:
            # The port answers before the workers do, and a worker stopped while it still starts would never end.
            wait_until(lambda: server.log.read_text().count("Started worker-") == workers)
            yield server
            print(server.log.read_text())  # noqa: T201 (pytest shows it where the test fails)

    def letters_to(self, email: str) -> list[Delivery]:
        return [letter for letter in self.mail.letters if letter.recipients == (email,)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with some users, and the collected files."""
    with SMTPServer() as mail:
        site = Site(tmp_path_factory.mktemp("prepared"), mail)
        check, collect, _ = site.recipe(8000)
        site.run(*check)
        site.run(*collect)
        site.run(sys.executable, "manage.py", "migrate", "--verbosity", "0")
        site.run(sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", MAKE_USERS)
    return site.folder


@contextmanager
def site_in(folder: Path, prepared: Path, **environment: str) -> Iterator[Site]:
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    with SMTPServer() as mail:
        yield Site(folder, mail, environment)
        for stage in list(mail.stages):
            mail.release(stage)


@pytest.fixture
def site(tmp_path: Path, prepared: Path) -> Iterator[Site]:
    """A deployment to stop and start."""
    with site_in(tmp_path, prepared) as site:
        yield site


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("shared"), prepared) as site:
        yield site


@pytest.fixture(scope="module")
def server(shared_site: Site) -> Iterator[Running]:
    """A running server for the tests that only talk to it."""
    with shared_site.serving() as server:
        yield server


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


# --- The way of a reset ----------------------------------------------------------------------------------------------


def test_a_whole_reset_over_http_and_smtp(shared_site: Site, server: Running) -> None:
    email = CROWD[0]
    reset = ask(server, REQUEST, input={"email": email.upper()})["reset"]
    shared_site.mail.wait_until(lambda: shared_site.letters_to(email))
    (letter,) = shared_site.letters_to(email)
    assert reset["matchPhrase"] in letter.text
    assert f"https://{HOST}/reset/#token=" in letter.text
    assert is_sent(server, reset["requestId"])

    host, code = letter.text.splitlines()[-1].split(" #")
    assert host == f"@{HOST}"
    token = ask(server, VERIFY, input={"requestId": reset["requestId"], "code": code})["resetToken"]
    done = ask(server, RESET, input={"resetToken": token, "newPassword": NEW_PASSWORD})["reset"]
    assert done == {"status": "COMPLETED", "isUserPasswordUpdated": True}
    shared_site.mail.wait_until(lambda: len(shared_site.letters_to(email)) == 2)
    assert "was changed" in shared_site.letters_to(email)[1].text


def test_nobody_is_mailed_about_an_unknown_address(shared_site: Site, server: Running) -> None:
    reset = ask(server, REQUEST, input={"email": "nobody@example.com"})["reset"]
    wait_until(lambda: is_sent(server, reset["requestId"]))
    ask(server, REQUEST, input={"email": CROWD[1]})
    shared_site.mail.wait_until(lambda: shared_site.letters_to(CROWD[1]))
    assert shared_site.letters_to("nobody@example.com") == []


# --- What it serves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/static/admin/css/base.css", "text/css"),
        ("/static/accounts/reset.css", "text/css"),
        ("/static/accounts/reset.js", "text/javascript"),
    ],
)
def test_static_files_are_served(server: Running, path: str, kind: str) -> None:
    response = requests.get(server.url + path, headers=PROXIED, timeout=30)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(kind)


@pytest.mark.parametrize("path", ["/graphql/", "/reset/", "/admin/login/"])
def test_every_answer_carries_the_security_headers(server: Running, path: str) -> None:
    headers = requests.get(server.url + path, headers=PROXIED, timeout=30).headers
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("path", ["/graphql/", "/reset/"])
def test_plain_http_is_sent_to_https(server: Running, path: str) -> None:
    headers = {**PROXIED, "X-Forwarded-Proto": "http"}
    response = requests.get(server.url + path, headers=headers, timeout=30, allow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (301, f"https://{HOST}{path}")


def test_plain_http_is_served_where_the_redirect_is_off(tmp_path: Path, prepared: Path) -> None:
    with site_in(tmp_path, prepared, SECURE_SSL_REDIRECT="0", TRUSTED_PROXIES="0") as site, site.serving() as server:
        response = requests.get(f"{server.url}/reset/", headers={"Host": HOST}, timeout=30, allow_redirects=False)
        assert response.status_code == 200
        assert "Strict-Transport-Security" not in response.headers


def test_another_host_name_is_refused(server: Running) -> None:
    headers = {**PROXIED, "Host": "attacker.example"}
    assert requests.get(f"{server.url}/reset/", headers=headers, timeout=30).status_code == 400


@pytest.mark.parametrize("path", ["/inbox/", "/"])
def test_what_is_for_development_is_not_there(server: Running, path: str) -> None:
    assert requests.get(server.url + path, headers=PROXIED, timeout=30).status_code == 404


def test_graphiql_is_not_there(server: Running) -> None:
    headers = {**PROXIED, "Accept": "text/html"}
    response = requests.get(f"{server.url}/graphql/", headers=headers, timeout=30)
    assert response.status_code in {400, 406}
    assert "html" not in response.headers["Content-Type"]


# --- How it ends -----------------------------------------------------------------------------------------------------


def test_a_stopping_server_mails_what_it_has_queued(site: Site) -> None:
    site.mail.on("DATA", HOLD)
    with site.serving() as server:
        handles = request_all(server)
        wait_until(lambda: all(is_sent(server, handle) for handle in handles))
        assert site.mail.letters == []
        server.process.send_signal(signal.SIGTERM)
        site.mail.release("DATA")
        assert server.process.wait(PATIENCE) == 0
    assert mailed_to(site) == CROWD


def test_what_was_accepted_is_mailed_after_a_stop_and_a_start(site: Site) -> None:
    with site.serving() as server:
        request_all(server)
        server.stop()
    with site.serving():
        site.mail.wait_until(lambda: set(mailed_to(site)) == set(CROWD))
    assert mailed_to(site) == CROWD


def test_what_was_accepted_without_a_mail_server_is_mailed_after_a_start(site: Site) -> None:
    site.mail.on("CONNECT", DROP)
    with site.serving() as server:
        request_all(server)
        server.stop()
    assert site.mail.letters == []
    site.mail.release("CONNECT")
    with site.serving():
        site.mail.wait_until(lambda: set(mailed_to(site)) == set(CROWD))
    assert mailed_to(site) == CROWD
