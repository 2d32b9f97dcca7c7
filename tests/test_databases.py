"""What a database brings: a pooler between, and a failover that leaves connections on a server which takes no writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import CROWD, HOST, ROOT, Site, mailed_to, prepare, request_all, site_in
from tests.pgbouncer import pgbouncer
from tests.postgres import Postgres, postgres

pytestmark = pytest.mark.processes

ASK_ADMIN = f"""
from django.contrib.auth.models import User
from django.test import Client
client = Client(raise_request_exception=False, headers={{"host": "{HOST}"}})
client.force_login(User.objects.create_superuser("operator"))
print({{client.get(page, secure=True).status_code for page in 4 * [
    "/admin/auth/group/add/", "/admin/auth/user/1/change/", "/admin/accounts/forgetpassword/"]}})
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
