"""Bodies that come in chunks, under a plain WSGI server and under the development server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from accounts.conf import MAX_BODY
from backend.bounds import NO_LENGTH
from drills.siege import Connection
from harness.deployment import HOST, Running, Site, free_port, running, site_in
from tests.test_connections import (
    as_json,
    chunks,
    test_a_body_without_a_length_is_read,
    test_a_form_without_a_length_is_read,
)

__all__ = ["test_a_body_without_a_length_is_read", "test_a_form_without_a_length_is_read"]
"""Asked here of another server, the one of this file."""

pytestmark = pytest.mark.processes

HEAD = f"POST /graphql/ HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Proto: https\r\nContent-Type: application/json\r\n"
CHUNKED = f"{HEAD}Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("plain"), prepared, MAIL_DISPATCH="none") as site:
        yield site


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Running]:
    """granian as a WSGI server; gunicorn and waitress undo chunks as well, and say so in the same way."""
    port = free_port()
    granian = [f"{sys.prefix}/bin/granian", "--interface", "wsgi", "--http", "1", "--no-ws", "backend.wsgi:application"]
    command = [*granian, "--host", "127.0.0.1", "--port", str(port)]
    with running(command, port, site.environment, site.folder / "granian.log") as server:
        yield server


@pytest.fixture(scope="module")
def development_server(site: Site) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    with running(command, port, site.environment, site.folder / "runserver.log") as server:
        yield server


def test_too_many_chunks_are_refused(server: Running) -> None:
    answer = requests.post(f"{server.url}/graphql/", chunks(b"x" * (MAX_BODY + 1)), headers=as_json(), timeout=30)
    assert answer.status_code == 413
    assert answer.json() == {"errors": [{"message": f"The body may have {MAX_BODY} bytes at most."}]}


@pytest.mark.parametrize("body", ["zz\r\nabc\r\n0\r\n\r\n", "-5\r\nabc\r\n0\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n"])
def test_chunks_that_are_none_are_refused(server: Running, body: str) -> None:
    with Connection(server.port, f"{CHUNKED}\r\n{body}".encode()) as connection:
        assert connection.status() == 400


def test_a_length_beside_chunks_is_not_believed(server: Running) -> None:
    body = b'{"query": "{ __typename }"}'
    both = f"{CHUNKED}Content-Length: 3\r\nConnection: close\r\n\r\n{len(body):x}\r\n".encode()
    with Connection(server.port, both + body + b"\r\n0\r\n\r\n") as connection:
        assert connection.status() in {200, 400}


def test_the_development_server_says_that_it_needs_a_length(development_server: Running) -> None:
    for path in ("/graphql/", "/admin/login/"):
        answer = requests.post(development_server.url + path, chunks(b"{}"), headers=as_json(), timeout=30)
        assert answer.status_code == 411
        assert answer.json() == {"errors": [{"message": NO_LENGTH.message}]}
