"""The app in projects of others: the wheel, installed into an environment of its own, and played by HTTP.

tests/hosts/ holds the projects. Each runs on SQLite and on PostgreSQL, with a real mail server, as `runserver` or an
ASGI server serves it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from harness.deployment import Running, free_port, running, wait_until
from harness.postgres import Postgres, postgres
from harness.smtp_server import Delivery, SMTPServer
from harness.wheel import build, install, run

pytestmark = pytest.mark.processes

HOSTS = Path(__file__).parent / "hosts"
OLD, NEW, NEWER = "umbrella-cactus-violin-91", "thistle walnut comet raft 7", "harbor lantern quilt moss 4"
PACKAGES = (
    "django-allauth",
    "djangorestframework",
    "djangorestframework-simplejwt",
    "django-rest-knox",
    "django-oauth-toolkit",
    "bcrypt",
    "granian",
)
FIELDS = {
    "requestPasswordReset": "... on RequestPasswordResetSuccess { reset { requestId status attemptsLeft } }",
    "verifyPasswordResetCode": "... on VerifyPasswordResetCodeSuccess { resetToken } "
    "... on InvalidCodeError { attemptsLeft }",
    "resetPassword": "... on ResetPasswordSuccess { reset { status } }",
    "reportPasswordReset": "... on ReportPasswordResetSuccess { cancelled freshLink }",
}
GUESSES = "mutation M($id: ID!) {{ {} }}".format(
    " ".join(
        f'g{n}: verifyPasswordResetCode(input: {{requestId: $id, code: "00000{n}"}}) {{ __typename }}' for n in range(5)
    )
)


@dataclass
class Host:
    """A running project."""

    server: Running
    mail: SMTPServer
    path: str = "/graphql/"
    seen: dict[str, int] = field(default_factory=dict)

    def post(self, path: str, body: bytes, content_type: str) -> tuple[int, Any]:
        request = urllib.request.Request(self.server.url + path, body, {"Content-Type": content_type})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (our own server)
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def ask(self, query: str, **variables: Any) -> Any:
        status, answer = self.post(
            self.path, json.dumps({"query": query, "variables": variables}).encode(), "application/json"
        )
        assert (status, "errors" in answer) == (200, False), (answer, self.server.log.read_text()[-3000:])
        return answer["data"]

    def mutate(self, verb: str, **values: str) -> Any:
        kind = f"{verb[0].upper()}{verb[1:]}Input"
        return self.ask(
            f"mutation M($in: {kind}!) {{ {verb}(input: $in) {{ __typename {FIELDS[verb]} }} }}", **{"in": values}
        )[verb]

    def request(self, email: str) -> str:
        reset = self.mutate("requestPasswordReset", email=email)["reset"]
        assert (reset["status"], reset["attemptsLeft"]) == ("QUEUED", 5)
        return str(reset["requestId"])

    def status(self, handle: str) -> str:
        query = "query S($id: ID!) { passwordResetStatus(requestId: $id) { status isUserPasswordUpdated } }"
        return str(self.ask(query, id=handle)["passwordResetStatus"]["status"])

    def letter_to(self, email: str) -> Delivery:
        """The next mail to this address."""
        number = self.seen.get(email, 0)
        self.mail.wait_until(lambda: len(self._letters(email)) > number)
        self.seen[email] = number + 1
        return self._letters(email)[number]

    def _letters(self, email: str) -> list[Delivery]:
        return [letter for letter in self.mail.letters if letter.recipients == (email,)]

    def sign_in(self, email: str, password: str) -> dict[str, Any]:
        form = urllib.parse.urlencode({"email": email, "password": password}).encode()
        status, answer = self.post("/sign-in/", form, "application/x-www-form-urlencoded")
        assert status == 200, self.server.log.read_text()[-3000:]
        return dict(answer)

    def recover(self, typed: str, address: str) -> None:
        """The whole flow for one account: by its code, by its link, and a report that undoes it."""
        handle = self.request(typed)
        letter = self.letter_to(address)
        assert self.status(handle) == "SENT"
        assert self.mutate("verifyPasswordResetCode", requestId=handle, code="000000") == {
            "__typename": "InvalidCodeError",
            "attemptsLeft": 4,
        }
        token = self.mutate("verifyPasswordResetCode", requestId=handle, code=code_in(letter))["resetToken"]
        assert self.mutate("resetPassword", resetToken=token, newPassword=NEW)["reset"] == {"status": "COMPLETED"}
        assert self.sign_in(address, NEW)["welcome"]
        assert not self.sign_in(address, OLD)["welcome"]
        news = self.letter_to(address)
        assert "changed" in news.message["Subject"]
        self.request(typed)
        (link,) = re.findall(r"https://host\.example\.com/recovery/reset/#token=([\w-]+)", self.letter_to(address).text)
        assert self.mutate("resetPassword", resetToken=link, newPassword=NEWER)["__typename"] == "ResetPasswordSuccess"
        assert self.sign_in(address, NEWER)["welcome"]
        assert self.mutate("resetPassword", resetToken=token, newPassword=OLD)["__typename"] == "InvalidResetTokenError"
        report = re.search(r"#report=([\w-]+)", self.letter_to(address).text)
        assert report
        reported = self.mutate("reportPasswordReset", reportToken=report[1])
        assert (reported["__typename"], reported["freshLink"]) == ("ReportPasswordResetSuccess", True)
        assert not self.sign_in(address, NEWER)["welcome"]
        assert "#token=" in self.letter_to(address).text

    def is_told_like_everybody(self, typed: str) -> None:
        """An address that cannot be recovered: the same answers, and no mail."""
        handle = self.request(typed)
        wait_until(lambda: self.status(handle) == "SENT")
        answer = self.mutate("verifyPasswordResetCode", requestId=handle, code="000000")
        assert answer == {"__typename": "InvalidCodeError", "attemptsLeft": 4}

    def page(self) -> int:
        with urllib.request.urlopen(f"{self.server.url}/recovery/reset/", timeout=60) as answer:  # noqa: S310
            return int(answer.status)


def code_in(letter: Delivery) -> str:
    found = re.search(r"^@\S+ #(\d+)\s*$", letter.text, re.MULTILINE)
    assert found, letter.text
    return found[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment with the wheel, and what the hosts are made of."""
    folder = tmp_path_factory.mktemp("hosts")
    return install(folder / "venv", f"{build(folder)}[postgres]", *PACKAGES, pins="requirements-dev.txt")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Django's settings of an empty database."""
    if request.param == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "db.sqlite3"),
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    url = request.getfixturevalue("server").copy("template1", "host")
    parts = psycopg.conninfo.conninfo_to_dict(url)
    return {"ENGINE": "django.db.backends.postgresql", "NAME": "host", "HOST": parts["host"], "USER": parts["user"]}


@pytest.fixture
def host(python: str, database: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Prepares one of the projects, and serves it as long as a context lasts."""
    with SMTPServer() as mail:

        @contextmanager
        def serving(name: str, *, asgi: bool = False) -> Iterator[Host]:
            folder = tmp_path / name
            shutil.copytree(HOSTS / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
            environment = {
                "DJANGO_SETTINGS_MODULE": "settings",
                "PYTHONPATH": f"{folder}:{HOSTS}",
                "PYTHONDONTWRITEBYTECODE": "1",
                **{name: os.environ[name] for name in ("PATH", "CITEXT") if name in os.environ},
                "DATABASE": json.dumps(database),
                "MAIL_PORT": str(mail.port),
            }

            apps = [path.parent.name for path in folder.glob("*/migrations")]
            run(python, "-W", "ignore", str(HOSTS / "prepare.py"), *apps, cwd=folder, **environment)
            port = free_port()
            command = [python, "-W", "ignore", "-m", "django", "runserver", "--noreload", f"127.0.0.1:{port}"]
            if asgi:
                granian = str(Path(python).parent / "granian")
                command = [granian, "--interface", "asginl", "--port", str(port), "asgi:application"]
            command = ["env", "-C", str(folder), *command]
            with running(command, port, environment, tmp_path / f"{name}.log") as server:
                yield Host(server, mail)

        yield serving


# --- An app called accounts, the default user, ATOMIC_REQUESTS -------------------------------------------------------


@pytest.mark.parametrize("asgi", [False, True], ids=["runserver", "ASGI"])
def test_a_project_with_an_accounts_app_of_its_own(host: Any, asgi: bool) -> None:
    with host("plain", asgi=asgi) as site:
        assert site.page() == 200
        for site.path, name, other in (
            ("/graphql/", "ada", "bob"),
            ("/stock/", "cleo", "dan"),
            ("/async/", "eve", "finn"),
        ):
            assert site.ask("{ ping }") == {"ping": "pong"}
            assert site.ask('mutation { echo(text: "hello") }') == {"echo": "hello"}
            site.recover(f"{name.upper()}@Example.com", f"{name}@example.com")
            site.is_told_like_everybody("nobody@example.com")
            guesses_are_counted(site, f"{other}@example.com")
        assert {letter.recipients[0][:3] for letter in site.mail.letters} == {"ada", "bob", "cle", "dan", "eve", "fin"}


def guesses_are_counted(site: Host, email: str) -> None:
    """One at a time, also where a transaction is around each request."""
    handle = site.request(email)
    letter = site.letter_to(email)
    body = json.dumps({"query": GUESSES, "variables": {"id": handle}}).encode()
    status, answer = site.post(site.path, body, "application/json")
    assert status in {200, 400}
    assert answer.get("data") is None
    assert answer["errors"][0]["message"] == "At most one field that checks a secret may be sent at a time."
    wrong = f"{(int(code_in(letter)) + 1) % 10**6:06}"
    for left in (4, 3, 2, 1, 0):
        guess = site.mutate("verifyPasswordResetCode", requestId=handle, code=wrong)
        assert guess == {"__typename": "InvalidCodeError", "attemptsLeft": left}
    assert site.status(handle) == "LOCKED"
    locked = site.mutate("verifyPasswordResetCode", requestId=handle, code=code_in(letter))
    assert locked == {"__typename": "InvalidCodeError", "attemptsLeft": 0}


# --- A user model of the project's own -------------------------------------------------------------------------------


@pytest.fixture
def citext(monkeypatch: pytest.MonkeyPatch, database: dict[str, Any]) -> None:
    """Where the server has it: the one that comes as a wheel has not."""
    if "postgresql" in database["ENGINE"]:
        with psycopg.connect(f"host={database['HOST']} user={database['USER']} dbname=host") as connection:
            if connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'").fetchone():
                connection.execute("CREATE EXTENSION citext")
                monkeypatch.setenv("CITEXT", "1")


def test_a_user_model_of_the_projects_own(citext: None, host: Any) -> None:
    with host("custom") as site:
        before = site.sign_in("Ada@example.com", OLD)
        assert before == {"welcome": True, "saves": 1, "changes": 0}
        site.recover("ada@example.com", "Ada@example.com")
        after = site.sign_in("Ada@example.com", OLD)
        assert (after["saves"], after["changes"]) == (4, 3)  # two resets and a report
        site.is_told_like_everybody("bob@example.com")  # deleted, and kept for the books
        site.is_told_like_everybody("eve@example.com")  # closed
        assert {letter.recipients for letter in site.mail.letters} == {("Ada@example.com",)}


# --- django-allauth --------------------------------------------------------------------------------------------------


def test_with_allauth_any_proven_address_finds_its_account(host: Any) -> None:
    with host("allauth_site") as site:
        proven = ["ada@example.com", "ada.second@example.com"]
        for address in proven:
            site.recover(address.upper(), address)
        site.is_told_like_everybody("unproven@example.com")
        assert {letter.recipients for letter in site.mail.letters} == {(address,) for address in proven}
        site.request("bob@example.com")
        assert "Sign in as you always do: Dummy." in site.letter_to("bob@example.com").text


# --- Tokens of other packages ----------------------------------------------------------------------------------------


def test_tokens_of_other_packages_end_with_the_password(host: Any) -> None:
    with host("tokens") as site:
        for email in ("ada@example.com", "bob@example.com"):
            site.post("/give/", f"email={email}".encode(), "application/x-www-form-urlencoded")
        all_work = dict.fromkeys(("simplejwt", "knox", "drf", "access", "refresh", "grant", "sessions"), 1)
        assert site.sign_in("ada@example.com", OLD) == {"welcome": True, "works": all_work}
        handle = site.request("ada@example.com")
        letter = site.letter_to("ada@example.com")
        token = site.mutate("verifyPasswordResetCode", requestId=handle, code=code_in(letter))["resetToken"]
        site.mutate("resetPassword", resetToken=token, newPassword=NEW)
        assert site.sign_in("ada@example.com", NEW) == {"welcome": True, "works": dict.fromkeys(all_work, 0)}
        assert site.sign_in("bob@example.com", OLD) == {"welcome": True, "works": all_work}


# --- A table of another system ---------------------------------------------------------------------------------------

PEOPLE = """
CREATE TABLE people (id {key}, email text NOT NULL, encrypted_password text, name text NOT NULL);
INSERT INTO people (email, encrypted_password, name) VALUES
    ('ada@example.com', '$2a$04$Ix0n1aG9jZVcCGUoHCyHNeCjCnjPrjZKcqYCBqs3ZDNjmv1ch1p2i', 'ada'),
    ('eve@example.com', NULL, 'eve');
"""
ROLE = """
DROP ROLE IF EXISTS recovery; CREATE ROLE recovery LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO recovery;
GRANT SELECT, UPDATE (encrypted_password) ON people TO recovery;
"""


@pytest.fixture
def theirs(database: dict[str, Any]) -> Iterator[Callable[[str], Any]]:
    """Makes the other system's table, and runs its statements as itself; the host gets a role that may do little."""
    if "postgresql" in database["ENGINE"]:
        with psycopg.connect(
            f"host={database['HOST']} user={database['USER']} dbname=host", autocommit=True
        ) as connection:
            connection.execute(PEOPLE.format(key="bigserial PRIMARY KEY"))
            connection.execute(ROLE)
            database["USER"] = "recovery"
            yield lambda statement: connection.execute(statement)
            connection.execute("DROP OWNED BY recovery; DROP ROLE recovery")
    else:
        with closing(sqlite3.connect(database["NAME"], timeout=20, isolation_level=None)) as connection:
            connection.executescript(PEOPLE.format(key="integer PRIMARY KEY"))
            yield lambda statement: connection.execute(statement)


def test_a_table_that_another_system_owns(theirs: Callable[[str], None], host: Any) -> None:
    with host("legacy") as site:
        site.recover("ADA@example.com", "ada@example.com")
        site.is_told_like_everybody("eve@example.com")
        handle = site.request("ada@example.com")
        letter = site.letter_to("ada@example.com")
        theirs("DELETE FROM people WHERE email = 'ada@example.com'")
        guess = site.mutate("verifyPasswordResetCode", requestId=handle, code=code_in(letter))
        assert guess == {"__typename": "InvalidCodeError", "attemptsLeft": 4}
        assert {letter.recipients for letter in site.mail.letters} == {("ada@example.com",)}
