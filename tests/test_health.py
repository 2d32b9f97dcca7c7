"""/health/: whether this server can serve, told to anybody, and hence nothing about anybody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.mailing import smtp
from harness.smtp_server import closed_port
from harness.valkey import Valkey
from tests.conftest import API, PostOffice
from tests.test_environment import PRODUCTION, ROOT

FINE = {"status": "ok", "database": "ok", "limits": "memory", "mailer": "ok", "codes": "ok"}


def health(**extra: Any) -> Any:
    return Client().get("/health/", **extra)


def test_a_server_that_is_well_says_so(db: None) -> None:
    response = health()
    assert (response.status_code, response.json()) == (200, FINE)
    assert response["Content-Type"] == "application/json"
    assert "no-store" in response["Cache-Control"]
    assert "Set-Cookie" not in response


def test_it_can_be_asked_by_head_and_without_a_slash(db: None) -> None:
    response = Client().head("/health/")
    assert (response.status_code, response.content) == (200, b"")
    assert Client().get("/health").json() == FINE


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_else_can_be_asked_of_it(method: str) -> None:
    response = getattr(Client(), method)("/health/")
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


def test_plain_http_is_answered_and_not_redirected(db: None, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert health().status_code == 200
    assert Client().get("/health").status_code == 200
    for path in ("/reset/", "/health/more", "/healthy", "/reset/health/"):
        assert Client().get(path).status_code == 301, path


def test_a_host_that_is_not_ours_is_refused_as_everywhere(db: None) -> None:
    assert health(headers={"host": "attacker.example"}).status_code == 400


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
        "response = Client().get('/health/', headers={'host': 'accounts.example.com'})\n"
        "print(response.status_code, response.content.decode())\n"
    )
    with closed_port() as port:
        for database in (f"postgres://recovery:hunter2@127.0.0.1:{port}/recovery", f"sqlite:///{tmp_path / 'new'}"):
            command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", ask]
            variables = {**PRODUCTION, "DATABASE_URL": database}
            result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
            answer = '503 {"status": "unavailable", "database": "unavailable", "limits": "memory"}'
            assert result.stdout.strip() == answer, result.stderr
            assert "hunter2" not in result.stdout + result.stderr
