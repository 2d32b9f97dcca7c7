"""/livez and /readyz: whether this process lives, and can serve; told to anybody, and hence nothing about anybody."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from celery import current_app
from django.db import OperationalError, connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext
from kombu.connection import Connection

from accounts.health import Readiness
from accounts.mailing import smtp
from accounts.models import Heartbeat
from harness.smtp_server import closed_port
from harness.valkey import Valkey
from tests.conftest import API, PostOffice
from tests.test_environment import PRODUCTION, ROOT

FINE = {"status": "ok", "database": "ok", "limits": "memory", "mailer": "ok", "codes": "ok"}


PATHS = ["/readyz", "/readyz/", "/health", "/health/"]


def health(**extra: Any) -> Any:
    return Client().get("/readyz", **extra)


def test_a_server_that_is_well_says_so(db: None) -> None:
    response = health()
    assert (response.status_code, response.json()) == (200, FINE)
    assert response["Content-Type"] == "application/json"
    assert "no-store" in response["Cache-Control"]
    assert "Set-Cookie" not in response


@pytest.mark.parametrize("path", PATHS)
def test_it_can_be_asked_by_head_with_and_without_a_slash_and_by_its_former_name(db: None, path: str) -> None:
    response = Client().head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert Client().get(path).json() == FINE


@pytest.mark.parametrize("path", ["/livez", *PATHS])
@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_else_can_be_asked_of_it(method: str, path: str) -> None:
    response = getattr(Client(), method)(path)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/livez", "/livez/", *PATHS])
def test_a_load_balancer_may_ask_by_an_ip_address_and_by_plain_http(db: None, settings: Any, path: str) -> None:
    settings.SECURE_SSL_REDIRECT = True
    for host in ("10.0.0.7", "[fd00::7]:8000", "attacker.example", "no_host"):
        response = Client().get(path, headers={"host": host})
        assert response.status_code == 200, host
        assert host not in response.content.decode() + str(response.headers)
    for other in ("/reset/", "/health/more", "/healthy", "/livez/more", "/reset/readyz"):
        assert Client().get(other).status_code == 301, other
        assert Client().get(other, secure=True, headers={"host": "10.0.0.7"}).status_code == 400, other


def test_whether_it_lives_is_asked_of_nothing_else(django_db_blocker: Any) -> None:
    with django_db_blocker.block():
        response = Client().get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "no-store" in response["Cache-Control"]


# --- The database ----------------------------------------------------------------------------------------------------


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Have the database refuse the write with this, as Django passes it on."""

    def refuse(*args: Any, **options: Any) -> Any:
        raise OperationalError("hunter2") from error

    monkeypatch.setattr(Heartbeat.objects, "filter", refuse)
    monkeypatch.setattr(connections, "close_all", lambda: None)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("25006", "read-only"),
        ("53100", "full"),
        ("57P03", "unavailable"),
        (None, "unavailable"),
    ],
)
def test_a_database_that_takes_no_writes_is_told_by_its_reason(
    db: None, monkeypatch: pytest.MonkeyPatch, code: str | None, reason: str
) -> None:
    error = psycopg.OperationalError("hunter2")
    error.sqlstate = code
    fail(monkeypatch, error)
    response = health()
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert response.json() == {"status": "unavailable", "database": reason, "limits": "memory"}


@pytest.mark.parametrize(
    ("name", "reason"), [("SQLITE_FULL", "full"), ("SQLITE_READONLY", "read-only"), ("SQLITE_BUSY", "unavailable")]
)
def test_so_is_a_full_or_read_only_file(db: None, monkeypatch: pytest.MonkeyPatch, name: str, reason: str) -> None:
    error = sqlite3.OperationalError("hunter2")
    error.sqlite_errorname = name
    fail(monkeypatch, error)
    assert health().json()["database"] == reason


def test_a_database_that_is_half_migrated_is_told(db: None) -> None:
    assert Readiness().facts()["database"] == "ok"
    MigrationRecorder.Migration.objects.filter(app="account_recovery").delete()
    assert Readiness().facts() == {"status": "unavailable", "database": "not migrated", "limits": "memory"}


def test_the_log_says_once_that_it_is_away_and_once_that_it_is_back(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    readiness = Readiness()
    readiness.facts()
    with monkeypatch.context() as patch:
        fail(patch, psycopg.OperationalError("hunter2"))
        for _ in range(3):
            readiness.facts()
    readiness.facts()
    assert caplog.messages == ["the database is unavailable", "the database is ok"]


def test_it_is_asked_once_in_two_seconds_whoever_asks(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("accounts.health.CACHE_SECONDS", 2.0)
    monkeypatch.setattr("accounts.health.time", SimpleNamespace(monotonic=lambda: now))
    readiness = Readiness()
    readiness.facts()
    with CaptureQueriesContext(connection) as asked:
        now += 1.9
        readiness.facts()
        assert len(asked) == 0
        now += 0.2
        readiness.facts()
        assert len(asked) > 0


def test_while_the_database_is_silent_one_thread_waits_for_it_and_the_others_say_so(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.health.PATIENCE", 0.01)
    readiness = Readiness()
    with readiness._asking:
        assert readiness.facts() == {"status": "unavailable", "database": "silent", "limits": "memory"}
    assert readiness.facts()["status"] == "ok"


# --- What else it needs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "state"), [("memory://", "ok"), ("amqp://127.0.0.1:1//", "down")])
def test_the_broker_is_told_where_there_is_one(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch, url: str, state: str
) -> None:
    """It does not stop the service: what it does not take, web processes mail by themselves."""
    settings.MAIL_DISPATCH = "celery"
    monkeypatch.setattr(current_app, "connection_for_write", partial(Connection, url))
    response = health()
    assert (response.status_code, response.json()["broker"]) == (200, state)
    assert response.json()["status"] == ("ok" if state == "ok" else "degraded")


def test_it_says_that_redis_counts_that_it_is_down_and_that_it_is_back(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.limits.counter.PROBE_SECONDS", 0.0)
    server = Valkey()
    server.start()
    settings.REDIS_URL = server.url
    assert health().json() == {**FINE, "limits": "redis"}
    server.stop()
    response = health()
    assert response.status_code == 200
    assert response.json() == {**FINE, "status": "degraded", "limits": "memory, redis is down"}
    server.start()
    assert health().json() == {**FINE, "limits": "redis"}
    server.stop()


def test_requests_that_nobody_looks_at_are_told(api: API, post: PostOffice, later: Callable[..., None]) -> None:
    api.request("nobody@example.com")
    later(seconds=69)
    assert health().json() == FINE
    later(seconds=1)
    response = health()
    assert (response.status_code, response.json()) == (200, {**FINE, "status": "degraded", "mailer": "behind"})
    post.deliver()
    assert health().json() == FINE


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_whether_a_mail_is_due_or_dead_shows_nowhere(
    api: API, post: PostOffice, user: Any, later: Callable[..., None], monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    """Or whoever asks for one address, and then for the health, learns whether there is an account."""

    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(smtp.Connection, "send", refuse)
    api.request(email)
    for _ in range(20):
        post.deliver()
        later(hours=1)
        assert health().json() == FINE


@pytest.mark.processes
def test_without_its_database_it_cannot_serve_and_says_so_over_plain_http(tmp_path: Path) -> None:
    ask = (
        "from django.test import Client\n"
        "response = Client().get('/readyz', headers={'host': 'accounts.example.com'})\n"
        "print(response.status_code, response.content.decode())\n"
    )
    with closed_port() as port:
        away = f"postgres://recovery:hunter2@127.0.0.1:{port}/recovery"
        for database, said in ((away, "unavailable"), (f"sqlite:///{tmp_path / 'new'}", "not migrated")):
            command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", ask]
            variables = {**PRODUCTION, "DATABASE_URL": database}
            result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
            answer = f'503 {{"status": "unavailable", "database": "{said}", "limits": "memory"}}'
            assert result.stdout.strip() == answer, result.stderr
            assert "hunter2" not in result.stdout + result.stderr
