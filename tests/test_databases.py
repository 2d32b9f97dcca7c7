"""What a database brings: a pooler in between, and failovers, which leave connections to what takes no writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
import requests

from harness.deployment import (
    CROWD,
    HOST,
    PROXIED,
    REQUEST,
    ROOT,
    STATUS,
    Running,
    Site,
    ask,
    is_sent,
    mailed_to,
    prepare,
    request_all,
    site_in,
    wait_until,
)
from harness.pgbouncer import pgbouncer
from harness.postgres import Postgres, postgres

pytestmark = pytest.mark.processes

ASK_ADMIN = f"""
from django.contrib.auth.models import User
from django.test import Client
client = Client(raise_request_exception=False, headers={{"host": "{HOST}"}})
client.force_login(User.objects.create_superuser("operator"))
print({{client.get(page, secure=True).status_code for page in 4 * [
    "/admin/auth/group/add/", "/admin/auth/user/1/change/", "/admin/account_recovery/forgetpassword/"]}})
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def pooled(server: Postgres) -> Iterator[str]:
    with pgbouncer(server) as url:
        yield url


def shell(site: Site, code: str) -> str:
    command = [sys.executable, "manage.py", "shell", "--no-imports", "--command", code]
    done = subprocess.run(command, cwd=ROOT, env=site.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_behind_a_pooler_everything_is_as_without(tmp_path: Path, pooled: str) -> None:
    """It is migrated, asked, mailed and administered, without a word about the pooler in any variable."""
    (tmp_path / "prepared").mkdir()
    prepared = prepare(tmp_path / "prepared", DATABASE_URL=pooled)
    with site_in(tmp_path / "site", prepared, DATABASE_URL=pooled) as site:
        with site.serving() as server:
            request_all(server)
            site.mail.wait_until(lambda: len(site.mail.letters) == len(CROWD))
        assert mailed_to(site) == CROWD
        assert shell(site, ASK_ADMIN).strip() == "{200}"


# --- Kept connections ------------------------------------------------------------------------------------------------

ASK_WHETHER_USABLE = """
from django.db import connection
connection.ensure_connection()
connection.connection.cursor = lambda *_: 1 / 0  # whoever asks the server anything comes by here
print(connection.is_usable())
connection.errors_occurred = True
try:
    connection.is_usable()
except ZeroDivisionError:
    print("asked")
"""


def end_connections(server: Postgres, database: str) -> None:
    """What a restart of the database, or of a pooler in front of it, looks like to those that are connected."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = %s", [database]
        )


def test_a_connection_that_the_server_has_ended_costs_no_request(replaced: Site, server: Postgres) -> None:
    replaced.environment["MAIL_DISPATCH"] = "none"  # a mailer that is just claiming would lose its claim for a lease
    with replaced.serving(workers=1) as web:
        handles = []
        for email in CROWD[:3]:
            handles.append(ask(web, REQUEST, input={"email": email})["reset"]["requestId"])
            end_connections(server, "replaced")
        for handle in handles:
            assert ask(web, STATUS, id=handle)["status"] == "QUEUED"


def test_a_connection_is_asked_whether_it_lives_after_an_error_alone(replaced: Site) -> None:
    assert shell(replaced, ASK_WHETHER_USABLE).split() == ["True", "asked"]


# --- A failover ------------------------------------------------------------------------------------------------------


@pytest.fixture
def replaced(tmp_path: Path, server: Postgres) -> Iterator[Site]:
    """A deployment with one thread, so that a request has the connection of the one before."""
    (tmp_path / "prepared").mkdir()
    database = server.copy("template1", "replaced")
    prepared = prepare(tmp_path / "prepared", DATABASE_URL=database)
    with site_in(tmp_path / "site", prepared, DATABASE_URL=database, THREADS="1") as site:
        yield site


def turn_read_only(server: Postgres, *, on: bool) -> None:
    """What a failover to a standby looks like from outside: each connection ends, and new ones take no writes."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE replaced SET default_transaction_read_only = {'on' if on else 'off'}")
        if on:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = 'replaced'"
            )


def get(web: Running, path: str) -> requests.Response:
    return requests.get(f"{web.url}{path}", timeout=40)


def post(web: Running, email: str) -> requests.Response:
    body = {"query": REQUEST, "variables": {"input": {"email": email}}}
    return requests.post(f"{web.url}/graphql/", json=body, headers=PROXIED, timeout=40)


def assert_away(web: Running, email: str, reason: str) -> None:
    """A request is a 503 that says when to come again, and so is the probe, with the reason; the process lives."""
    answer = post(web, email)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
    probe = get(web, "/readyz")
    assert (probe.status_code, probe.json()["database"]) == (503, reason)
    assert get(web, "/livez").status_code == 200


def is_well(web: Running) -> bool:
    return get(web, "/readyz").status_code == 200


def files_spilled(server: Postgres) -> int:
    with psycopg.connect(server.url) as connection:
        found = connection.execute("SELECT temp_files FROM pg_stat_database WHERE datname = 'replaced'").fetchone()
        assert found is not None
        return int(found[0])


def test_a_probe_needs_room_on_the_disk(replaced: Site, server: Postgres) -> None:
    """What happens where there is none is a drill: `drills failures`."""
    with replaced.serving(workers=1) as web:
        before = files_spilled(server)
        assert is_well(web)
        wait_until(lambda: files_spilled(server) > before)


@pytest.mark.parametrize("dispatch", ["thread", "none"])
def test_once_a_database_takes_writes_again_so_does_everybody(replaced: Site, server: Postgres, dispatch: str) -> None:
    """Requests, Look and senders alike: nobody keeps a connection that was made while it took none."""
    site = replaced
    first, second, third, fourth, *_ = CROWD  # each is limited by itself
    site.environment["MAIL_DISPATCH"] = dispatch
    with site.serving(workers=1) as web, site.mailing() if dispatch == "none" else nullcontext():
        ask(web, REQUEST, input={"email": first})
        site.mail.wait_until(lambda: site.letters_to(first))
        turn_read_only(server, on=True)
        for refused in (second, third):
            assert_away(web, refused, "read-only")
        turn_read_only(server, on=False)
        handle = ask(web, REQUEST, input={"email": fourth})["reset"]["requestId"]
        site.mail.wait_until(lambda: site.letters_to(fourth), timeout=20)
        assert is_sent(web, handle)


# --- Other outages ---------------------------------------------------------------------------------------------------


def test_a_frozen_database_costs_seconds_and_never_the_server(replaced: Site, server: Postgres) -> None:
    """Twenty probes of a server that was stopped held all threads for ever, and every request behind them."""
    replaced.environment |= {"THREADS": "4", "MAIL_DISPATCH": "none"}
    with replaced.serving(workers=1) as web, ThreadPoolExecutor(24) as crowd:
        ask(web, REQUEST, input={"email": CROWD[0]})
        with server.frozen():
            probes = [crowd.submit(get, web, "/readyz") for _ in range(20)]
            people = [crowd.submit(post, web, email) for email in CROWD[1:4]]
            assert get(web, "/livez").status_code == 200
            assert {probe.result().status_code for probe in probes} == {503}
            assert {answer.result().status_code for answer in people} == {503}
        wait_until(lambda: is_well(web))
        ask(web, REQUEST, input={"email": CROWD[4]})


def test_when_all_connections_are_taken_it_is_a_503_until_one_is_free(replaced: Site, server: Postgres) -> None:
    """A limit of its role's own stands for max_connections, of which a superuser always has a few left."""
    database = server.server.get_uri(database="replaced")
    with psycopg.connect(database, autocommit=True) as operator:
        operator.execute("CREATE ROLE app LOGIN")
        operator.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
        operator.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app")
        replaced.environment |= {"MAIL_DISPATCH": "none", "DATABASE_URL": database.replace("//postgres:", "//app:")}
        with replaced.serving(workers=1) as web:
            operator.execute("ALTER ROLE app CONNECTION LIMIT 0")
            assert_away(web, CROWD[0], "unavailable")
            operator.execute("ALTER ROLE app CONNECTION LIMIT -1")
            wait_until(lambda: is_well(web))
            ask(web, REQUEST, input={"email": CROWD[1]})


def test_a_half_migrated_database_is_not_served(replaced: Site, server: Postgres) -> None:
    replaced.environment["MAIL_DISPATCH"] = "none"
    database = server.server.get_uri(database="replaced")
    with psycopg.connect(database, autocommit=True) as operator:
        operator.execute("DELETE FROM django_migrations WHERE app = 'account_recovery'")
        operator.execute("ALTER TABLE account_recovery_forgetpassword RENAME COLUMN locale TO later")
        with replaced.serving(workers=1) as web:
            assert_away(web, CROWD[0], "not migrated")
