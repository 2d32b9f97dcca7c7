"""Statements that are written once: the ORM would have written the same, and so found and changed the same."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import records, transitions
from accounts.directory import directory
from accounts.models import ForgetPassword, GuessBudget, PasswordResetEvent, Spent, insert_events, utc_day
from accounts.statements import Select, Update

pytestmark = pytest.mark.django_db

NOW = timezone.now()
PKS = [uuid.UUID(int=number) for number in (1, 2)]
DIGESTS = ["0" * 64, "1" * 64]
CLAIMED = {"claimed_at": NOW - timedelta(minutes=1)}
TIMES = {"now": NOW, "lapsed": NOW - timedelta(minutes=2)}


def candidates() -> Select:
    return directory()._statement


STATEMENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "the status": (lambda: records._shown, {"pk": PKS[0]}),
    "what was guessed": (lambda: records._spent, {"email_digests": DIGESTS}),
    "whether any waits": (lambda: records._waiting, {"limit": 1}),
    "those that wait": (lambda: records._locked_waiting, {"limit": 100}),
    "those that were claimed": (lambda: records._claimed, {"pks": PKS, **CLAIMED}),
    "those that are due": (lambda: transitions._due, {**TIMES, "since": NOW, "limit": 7}),
    "those whose turn it is": (lambda: transitions._due_in_turn, {**TIMES, "since": NOW, "limit": 7}),
    "one that is due": (lambda: transitions._due_of, {**TIMES, "pk": PKS[0]}),
    "the accounts": (candidates, {"typed": ["Ada@x", "b@x"], "folded": ["ada@x", "b@x"], "capitals": ["ADA@X", "B@X"]}),
    "a claim": (lambda: transitions._claim, {"pks": PKS, "now": NOW, "young_since": TIMES["lapsed"], "key": "k" * 16}),
    "a mark": (lambda: transitions._settle, {"pks": PKS, "mail": "CODE", "now": NOW, **CLAIMED}),
    "what was found": (transitions._stamp, {"pks": PKS, "users": [1, None], "emails": ["ada@x", ""], "now": NOW}),
}


@pytest.fixture
def two() -> list[ForgetPassword]:
    """A record that is due, and one that has been claimed."""
    GuessBudget.objects.create(email_digest=DIGESTS[0], day=utc_day(NOW), used_today=3, in_a_row=4)
    return [
        ForgetPassword.objects.create(pk=pk, email=f"{digest[0]}@example.com", email_digest=digest, **more)
        for pk, digest, more in zip(
            PKS, DIGESTS, ({}, {"mail_claimed_at": CLAIMED["claimed_at"], "state": "QUEUED"}), strict=True
        )
    ]


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_orm_writes_the_same(two: list[ForgetPassword], django_user_model: Any, name: str) -> None:
    django_user_model.objects.create(pk=1, username="ada", email="ada@x")
    get, values = STATEMENTS[name]
    statement = get()
    with CaptureQueriesContext(connection) as asked:
        statement(**{name: list(each) if isinstance(each, list) else each for name, each in values.items()})
        made = statement._make(**values)
        if isinstance(statement, Update):
            rows, changes = made
            rows.update(**changes)
        else:
            list(made)
    ours, theirs = [query["sql"] for query in asked]
    assert ours == theirs


def test_the_status_brings_the_budget_of_its_address(two: list[ForgetPassword]) -> None:
    first, second = (records.find_shown(pk) for pk in PKS)
    assert first
    assert second
    assert (first.spent, second.spent) == (Spent(utc_day(NOW), 3, 4), Spent())
    assert "client_ip" in first.get_deferred_fields()
    assert first.state == "QUEUED"
    assert first.created_at == two[0].created_at
    assert first.seed == two[0].seed


def test_a_row_that_was_inserted_reads_as_it_was_made(two: list[ForgetPassword]) -> None:
    for made in two:
        found = ForgetPassword.objects.get(pk=made.pk)
        assert {name: getattr(found, name) for name in vars(made) if not name.startswith("_")} == {
            name: value for name, value in vars(made).items() if not name.startswith("_")
        } | {"forget_password_otp": found.forget_password_otp}
        assert found.seed == made.seed


@pytest.mark.parametrize("number", [1, 2, 3])
def test_several_lines_of_the_timeline_are_inserted_at_once(two: list[ForgetPassword], number: int) -> None:
    with CaptureQueriesContext(connection) as asked:
        insert_events([PasswordResetEvent(record_id=PKS[0], kind="MAILED", reason=str(n)) for n in range(number)])
    assert len(asked) == 1
    assert list(two[0].events.values_list("kind", "reason")) == [("MAILED", str(n)) for n in range(number)]


def test_a_list_of_any_length_is_taken_and_few_texts_are_kept(two: list[ForgetPassword]) -> None:
    statement = Select(ForgetPassword, by_pks)
    for length in range(1, 9):
        pks = [*PKS, *(uuid.uuid4() for _ in range(7))][:length]
        assert {record.pk for record in statement(pks=pks)} == {*PKS} & {*pks}
    assert len(statement._texts) == 4  # for 1, 2, 4 and 8


def by_pks(pks: list[uuid.UUID]) -> Any:
    return ForgetPassword.objects.filter(pk__in=pks)


def test_a_value_that_a_statement_computes_with_is_refused() -> None:
    def upper(text: str) -> Any:
        return ForgetPassword.objects.filter(email=text.upper())

    with pytest.raises(TypeError, match="text"):
        Select(ForgetPassword, upper)(text="a")


def test_an_update_tells_how_many_rows_it_found(two: list[ForgetPassword]) -> None:
    def more(pks: list[uuid.UUID]) -> Any:
        return ForgetPassword.objects.filter(pk__in=pks), {"attempts": F("attempts") + 1}

    assert Update(ForgetPassword, more)(pks=[*PKS, uuid.uuid4()]) == 2
    assert set(ForgetPassword.objects.values_list("attempts", flat=True)) == {1}
