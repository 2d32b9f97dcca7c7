"""Tools that others wrote, against the production server: each must find nothing to complain of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.deployment import Running, site_in
from tests.npm import npm

pytestmark = pytest.mark.processes

UNLIMITED = "1000000/second"
OPEN = {
    "ALLOWED_HOSTS": "127.0.0.1",
    "SECURE_SSL_REDIRECT": "0",
    "TRUSTED_PROXIES": "0",
    "GRAPHQL_INTROSPECTION": "1",
    "PASSWORD_RESET_COOLDOWN": "0",
    "THROTTLE_REQUEST_PER_IP": UNLIMITED,
    "THROTTLE_REQUEST_PER_EMAIL": UNLIMITED,
    "THROTTLE_VERIFY_PER_IP": UNLIMITED,
}
"""What lets a tool in: it speaks plain HTTP, reads the schema, and asks more often than any person."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Running]:
    with site_in(tmp_path_factory.mktemp("audited"), prepared, **OPEN) as site, site.serving() as server:
        yield server


def test_the_server_passes_all_audits_of_graphql_http(server: Running) -> None:
    done = npm("audit", "--", f"{server.url}/graphql/")
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verdict for verdict in verdicts if verdict["status"] != "ok"] == []
    assert len(verdicts) == 61


def test_the_linter_of_schemas_has_nothing_to_say() -> None:
    done = npm("lint-schema")
    assert done.returncode == 0, done.stdout + done.stderr


def test_schemathesis_finds_no_fault(server: Running, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/graphql/", "--no-color"]
    options = ["--seed", "1", "--generation-deterministic", "--max-examples", "40"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
