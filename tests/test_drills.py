"""The failure drills, each with a single strike and a handful of mails; `make drill` holds all of them, and harder."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from accounts.mailing import batches
from drills import catalogue
from drills.catalogue import DRILLS
from drills.load import Asked, crowd
from drills.scene import Size
from drills.verdict import Repeats, Row, Verdict, judge
from harness.deployment import CROWD, prepare
from harness.postgres import Postgres, postgres
from harness.smtp_server import Delivery

pytestmark = pytest.mark.processes

SHORT = Size(people=12, clients=4, per_second=12, strikes=1, outage=0.5, lease=4)


# --- What counts as a fault, without a deployment --------------------------------------------------------------------


def accepted(email: str) -> tuple[Asked, Row]:
    """Somebody who was answered, and the row that was made."""
    pk = uuid.uuid4()
    handle = base64.urlsafe_b64encode(pk.bytes + bytes(16)).decode().rstrip("=")
    asked = Asked(email, key=None, tries=1, handle=handle, phrase="amber falcon")
    return asked, Row(pk, email, "SENT", is_settled=True)


def letter(row: Row, text: str = "amber falcon 123456", generation: int = 1) -> Delivery:
    message = EmailMessage()
    message["Message-ID"] = f"<{row.pk}.code.{generation}@example.com>"
    message.set_content(text)
    return Delivery("no-reply@example.com", (row.email_digest,), message, 1, "localhost")


ADA, NOBODY = accepted("user0@example.com"), accepted("nobody0@example.com")
SOME = Repeats(0, 9)


def faults(people: list[tuple[Asked, Row]], letters: list[Delivery], expected: Repeats = SOME) -> str:
    crowd, rows = [asked for asked, _ in people], [row for _, row in people]
    return "; ".join(judge("drill", crowd, letters, rows, {}, expected, 0.0).faults)


def test_one_mail_for_a_known_address_and_none_for_an_unknown_one_is_right() -> None:
    assert faults([ADA, NOBODY], [letter(ADA[1])]) == ""


def test_two_copies_of_one_mail_are_right_where_they_were_to_be_expected() -> None:
    assert faults([ADA], [letter(ADA[1])] * 2) == ""


@pytest.mark.parametrize(
    ("letters", "fault"),
    [
        ([], "user0@example.com: accepted and never mailed"),
        ([letter(ADA[1]), letter(NOBODY[1])], "nobody0@example.com: mailed"),
        ([letter(ADA[1])] * 11, "10 mails came twice, and not 0 to 9"),
        ([letter(ADA[1]), letter(ADA[1], "amber falcon 654321")], "user0@example.com: mailed twice, and differently"),
        ([letter(ADA[1]), letter(ADA[1], generation=2)], "user0@example.com: mailed twice, and differently"),
        ([letter(ADA[1], "basil canoe 123456")], "user0@example.com: mailed without the words that were shown"),
        (
            [letter(ADA[1]._replace(pk=uuid.uuid4()))],
            "user0@example.com: mailed about another row than was answered",
        ),
    ],
)
def test_a_wrong_mail_is_a_fault(letters: list[Delivery], fault: str) -> None:
    assert faults([ADA, NOBODY], letters) == fault


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"state": "QUEUED"}, "QUEUED, not SENT"),
        ({"is_settled": False}, "still owes a look or a mail"),
        ({"pk": uuid.uuid4()}, "accepted, and its row is gone"),
        ({"email_digest": ADA[1].email_digest}, "2 rows of one address"),
    ],
)
def test_a_wrong_row_is_a_fault(wrong: dict[str, Any], fault: str) -> None:
    assert fault in faults([ADA, (NOBODY[0], NOBODY[1]._replace(**wrong))], [letter(ADA[1])])


def test_a_client_without_a_key_that_was_not_answered_is_neither_owed_a_mail_nor_wronged_by_one() -> None:
    unanswered = Asked("user0@example.com", key=None, tries=1)
    assert faults([(unanswered, ADA[1])], []) == faults([(unanswered, ADA[1])], [letter(ADA[1])]) == ""


def test_a_client_with_a_key_must_be_answered_in_the_end() -> None:
    unanswered = Asked("user0@example.com", key="k" * 22, tries=9)
    assert faults([(unanswered, ADA[1])], []) == "user0@example.com: never answered, in 9 tries"


def test_a_status_other_than_sent_is_a_fault() -> None:
    verdict = judge("drill", [NOBODY[0]], [], [NOBODY[1]], {"nobody0@example.com": "QUEUED"}, Repeats(), 0.0)
    assert verdict.faults == ("nobody0@example.com: shown as QUEUED, not SENT",)


def test_a_drill_that_caught_no_mail_where_it_must_has_struck_at_nothing() -> None:
    assert faults([ADA], [letter(ADA[1])], Repeats(1, 4)) == "0 mails came twice, and not 1 to 4"


# --- The drills ------------------------------------------------------------------------------------------------------


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


def test_the_catalogue_knows_how_many_mails_are_marked_together() -> None:
    assert catalogue.MARKED_TOGETHER == batches.MARK_MAILS


def test_the_drills_can_be_called_without_any_settings() -> None:
    """They make their own, for processes of their own."""
    bare = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-m", "drills", "--help"], env=bare, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--only" in done.stdout
