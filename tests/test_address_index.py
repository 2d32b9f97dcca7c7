"""The index on the user table, without which a look-up reads all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import checks
from accounts.lookup import address_index, find_mailboxes, is_indexed

# Concurrently, so outside of a transaction: what is made here has to be dropped by hand.
pytestmark = pytest.mark.django_db(transaction=True)

INDEX = "auth_user_upper_email"


@pytest.fixture(autouse=True)
def _dropped_in_the_end() -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX IF EXISTS {INDEX}")


def index_addresses(**options: Any) -> str:
    said = StringIO()
    call_command("index_addresses", stdout=said, **options)
    return said.getvalue().strip()


def plan_of_a_look_up() -> str:
    """How the database means to find an address among many, by the very statement of a look-up."""
    users = get_user_model()
    users.objects.bulk_create(users(username=f"user{n}", email=f"user{n}@example.com") for n in range(2000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE auth_user" if connection.vendor == "postgresql" else "ANALYZE")
    with CaptureQueriesContext(connection) as captured:
        find_mailboxes(["user1@example.com", "User2@example.com"])
    (statement,) = captured.captured_queries
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {statement['sql']}")
        return "\n".join(str(line) for line in cursor.fetchall())


def test_it_is_made_once() -> None:
    assert not is_indexed()
    assert index_addresses() == f"{INDEX} has been made."
    assert is_indexed()
    assert index_addresses() == f"{INDEX} is there already."


def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    assert index_addresses(dry_run=True).startswith("CREATE INDEX")
    assert not is_indexed()


def test_with_it_a_look_up_reads_no_whole_table() -> None:
    index_addresses()
    assert INDEX in plan_of_a_look_up()


def test_without_it_a_look_up_reads_the_whole_table() -> None:
    assert INDEX not in plan_of_a_look_up()


def test_on_postgresql_nobody_waits_for_it() -> None:
    assert ("CONCURRENTLY" in index_addresses(dry_run=True)) is (connection.vendor == "postgresql")


def test_on_postgresql_one_that_broke_off_does_not_count() -> None:
    index_addresses()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)", [INDEX])
        assert not is_indexed()


def warned() -> bool:
    return "account_recovery.W050" in [each.id for each in run_checks(tags=[Tags.database], databases=["default"])]


def test_migrating_a_large_database_without_it_says_so(
    monkeypatch: pytest.MonkeyPatch, make_user: Callable[..., Any]
) -> None:
    monkeypatch.setattr(checks, "MANY_USERS", 1)
    make_user("ada@example.com")
    assert not warned()
    make_user("bob@example.com")
    assert warned()
    index_addresses()
    assert not warned()


def test_migrating_an_empty_database_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MANY_USERS", 0)
    monkeypatch.setattr(get_user_model()._meta, "db_table", "not_there_yet")
    assert not warned()


def test_its_name_fits_every_database(monkeypatch: pytest.MonkeyPatch, make_user: Callable[..., Any]) -> None:
    monkeypatch.setattr(get_user_model()._meta, "db_table", "a_table_of_users_with_quite_a_long_name")
    assert len(str(address_index().name)) <= 30


@pytest.mark.parametrize(
    ("stored", "told"),
    [(" ada@example.com", True), ("ada@example.com\n", True), ("ada@example.com", False), ("", False)],
)
def test_addresses_with_blanks_around_them_are_told_and_counted(
    make_user: Callable[..., Any], stored: str, told: bool
) -> None:
    user = make_user("ada@example.com")
    get_user_model().objects.filter(pk=user.pk).update(email=stored)
    messages = [
        each.msg
        for each in run_checks(tags=[Tags.database], databases=["default"])
        if each.id == "account_recovery.W051"
    ]
    assert bool(messages) is told
    assert all("1" in message for message in messages)
