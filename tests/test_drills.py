"""The failure drills, each with a single strike and a handful of mails; `make drill` holds all of them, and harder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.catalogue import DRILLS
from drills.load import crowd
from drills.scene import Size
from drills.verdict import Verdict
from tests.deployment import CROWD, prepare
from tests.postgres import Postgres, postgres

pytestmark = pytest.mark.processes

SHORT = Size(people=12, clients=4, per_second=12, strikes=1, outage=0.5, lease=4)


def hold(name: str, folder: Path, prepared: Path, server: Postgres | None = None) -> Verdict:
    database = server.copy("prepared", folder.name) if server else ""
    return DRILLS[name].run(folder, prepared, SHORT, server, database)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL to kill."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def prepared_on_postgres(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("on-postgres"), DATABASE_URL=server.copy("template1", "prepared"))


def test_the_crowd_of_a_short_drill_is_the_one_that_has_accounts() -> None:
    assert [asked.email for asked in crowd(SHORT.people) if asked.is_known] == CROWD


@pytest.mark.parametrize(
    "name", ["web worker killed", "web server killed", "mailer killed", "broker killed", "SMTP drops, mail taken"]
)
def test_nothing_is_lost_when(name: str, tmp_path: Path, prepared: Path) -> None:
    assert hold(name, tmp_path, prepared).faults == ()


def test_nothing_is_lost_when_the_database_is_killed(
    tmp_path: Path, prepared_on_postgres: Path, server: Postgres
) -> None:
    assert hold("PostgreSQL killed", tmp_path, prepared_on_postgres, server).faults == ()
