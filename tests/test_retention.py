"""What is kept of old resets: what goes, when, and above all what stays."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from accounts import retention
from accounts.addresses import fold
from accounts.choices import EventKind, Mail, State, WebhookEvent
from accounts.codes import address_digest
from accounts.mailing import threads
from accounts.models import ForgetPassword, GuessBudget, PasswordResetEvent, WebhookDelivery
from tests.conftest import API, PostOffice, record_of

Later = Callable[..., None]


def prune(days: int = 90) -> dict[str, int]:
    done = dict.fromkeys((kind.name for kind in retention.KINDS), 0)
    for what, rows in retention.prune(timezone.now(), days):
        done[what] += rows
    return done


@pytest.fixture
def old(api: API, post: PostOffice, user: Any, later: Later) -> ForgetPassword:
    """A reset of the day before that was mailed, and that nobody followed up."""
    record = record_of(api.request(idempotencyKey="k" * 22)["requestId"])
    post.deliver()
    later(days=1)
    return record


def personal(record: ForgetPassword) -> list[Any]:
    record.refresh_from_db()
    return [record.email, record.client_ip, record.user_agent, record.idempotency_digest]


# --- Wiping and deleting ---------------------------------------------------------------------------------------------


def test_personal_data_goes_after_thirty_days_and_the_reset_after_ninety(old: ForgetPassword, later: Later) -> None:
    later(days=28, hours=23)
    assert sum(prune().values()) == 0
    assert "" not in personal(old)[:1]
    later(hours=2)
    assert {what: rows for what, rows in prune().items() if rows} == {"resets wiped": 1}
    assert personal(old) == ["", None, "", None]
    assert PasswordResetEvent.objects.filter(record=old).exists()
    later(days=60)
    assert prune()["resets deleted"] == 1
    assert not ForgetPassword.objects.exists()
    assert not PasswordResetEvent.objects.exists()


def test_a_reset_without_an_account_goes_like_any_other(api: API, post: PostOffice, user: Any, later: Later) -> None:
    """Its handle is forgotten at the same moment: a stranger who asks every day would learn it otherwise."""
    handles = [api.request(email)["requestId"] for email in ("ada@example.com", "nobody@example.com")]
    post.deliver()
    for days in (29.9, 0.2, 59.8, 0.2):
        later(days=days)
        prune()
        known, unknown = (api.status(handle) for handle in handles)
        assert (known is None) == (unknown is None)
    assert known is None


def test_what_a_wiped_reset_shows_its_holder_does_not_change(old: ForgetPassword, api: API, later: Later) -> None:
    later(days=31)
    before = api.status(old.handle)
    assert prune()["resets wiped"] == 1
    assert api.status(old.handle) == before


def test_a_wiped_address_is_never_looked_up_or_mailed(
    old: ForgetPassword, api: API, post: PostOffice, make_user: Callable[..., Any], later: Later
) -> None:
    make_user("", username="blank")
    later(days=31)
    prune()
    assert post.deliver() == []
    assert api.mutate("resendPasswordResetCode", requestId=old.handle)["__typename"] == "UnknownRequestError"
    call_command("erase_person", "someone@example.com", no_input=True, stdout=io.StringIO())
    assert ForgetPassword.objects.filter(pk=old.pk).exists()


def test_a_mail_that_is_still_to_be_sent_keeps_its_reset_and_a_dead_one_does_not(
    old: ForgetPassword, later: Later
) -> None:
    later(days=50)
    row = ForgetPassword.objects.filter(pk=old.pk)
    row.update(mail_due=Mail.LINK, mail_next_at=timezone.now(), mail_turn_at=timezone.now())
    assert sum(prune().values()) == 0
    row.update(mail_next_at=None, mail_turn_at=None)
    assert prune()["resets wiped"] == 1
    old.refresh_from_db()
    assert old.mail_due == Mail.NONE  # or an operator could revive a mail that has no address any more


def test_a_late_change_keeps_a_reset_for_as_long_as_it_can_be_reported(
    api: API, post: PostOffice, user: Any, later: Later
) -> None:
    api.request()
    later(days=100)  # nobody mailed it before
    later_mail = ForgetPassword.objects.get()
    ForgetPassword.objects.update(mail_next_at=timezone.now())
    letter = post.deliver_one()
    assert "reset" in api.reset(letter.token)
    changed = post.deliver_one()
    later(days=6, hours=23)
    assert prune()["resets deleted"] == 0
    assert api.report(changed.report)["freshLink"] is True
    post.deliver()
    later(days=9)
    assert prune()["resets deleted"] == 1
    assert not ForgetPassword.objects.filter(pk=later_mail.pk).exists()
    fresh = ForgetPassword.objects.get()
    assert fresh.fresh_link_for is None  # the row it referred to is gone, and it is not


def test_budgets_stay_while_they_count(clock: time_machine.Traveller, db: None) -> None:
    today = timezone.now().date()
    rows = [
        ("counts today", today, 3, 0),
        ("counted yesterday", today - timedelta(days=1), 3, 0),
        ("in a row for years", today - timedelta(days=999), 1, 100),
    ]
    for digest, day, used, in_a_row in rows:
        GuessBudget.objects.create(email_digest=digest, day=day, used_today=used, in_a_row=in_a_row)
    assert prune()["budgets deleted"] == 1
    assert set(GuessBudget.objects.values_list("email_digest", flat=True)) == {"counts today", "in a row for years"}


def test_webhooks_go_with_personal_data_unless_one_is_still_tried(old: ForgetPassword, later: Later) -> None:
    for name, next_at in (("told", None), ("tried", timezone.now())):
        WebhookDelivery.objects.create(
            record=old, endpoint=name, event=WebhookEvent.REQUESTED, body="{}", next_at=next_at
        )
    later(days=31)
    assert prune()["webhooks deleted"] == 1
    assert WebhookDelivery.objects.get().endpoint == "tried"
    later(days=60)
    assert prune()["resets deleted"] == 1
    assert not WebhookDelivery.objects.exists()


def test_it_goes_on_batch_by_batch_and_tells_of_each(
    old: ForgetPassword, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in range(4):
        ForgetPassword.objects.create(
            email=f"{number}@example.com", mail_due=Mail.NONE, mail_next_at=None, mail_turn_at=None
        )
    later(days=31)
    pauses: list[float] = []
    found = [each for each in retention.prune(timezone.now(), 90, pauses.append) if each[0] == "resets wiped"]
    assert found == [("resets wiped", 2), ("resets wiped", 2), ("resets wiped", 1)]
    assert len(pauses) == 3


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_left_for_the_next_time(
    api: API, post: PostOffice, user: Any, later: Later
) -> None:
    record = record_of(api.request()["requestId"])
    post.deliver()
    later(days=31)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            ForgetPassword.objects.select_for_update().get(pk=record.pk)
            held.set()
            done.wait(30)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    if connection.vendor == "postgresql":
        assert prune()["resets wiped"] == 0
    else:  # one writer at a time: nobody holds a row beside it
        connection.cursor().execute("PRAGMA busy_timeout = 100")
        with pytest.raises(OperationalError, match="locked"):
            prune()
    done.set()
    holder.join()
    assert prune()["resets wiped"] == 1


@pytest.mark.parametrize(
    ("kind", "index"), list(zip(retention.KINDS, ["reset_created", "reset_personal"], strict=False))
)
def test_old_rows_are_found_by_an_index_and_not_by_reading_all(db: None, kind: retention.Kind, index: str) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:  # all of them better for a table as small as this one
            cursor.execute(
                "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
            )
    plan = kind.too_old(timezone.now(), 90).order_by(kind.age)[: retention.BATCH].explain()
    assert index in plan
    assert "SORT" not in plan.upper()


# --- By itself, by hand, and one person ------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "wiped"), [(90, True), (0, False)])
def test_a_mailer_prunes_by_itself_unless_that_is_switched_off(
    old: ForgetPassword, later: Later, settings: Any, monkeypatch: pytest.MonkeyPatch, days: int, wiped: bool
) -> None:
    settings.RETENTION_DAYS = days
    later(days=31)
    crew = threads.SendingThreads(1)
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return seconds == threads.PRUNE_SECONDS

    monkeypatch.setattr(crew.stopping, "wait", wait)
    monkeypatch.setattr(connections, "close_all", lambda: None)
    crew._prune()
    assert (personal(old)[0] == "") is wiped
    first, *_, last = waits
    assert 60 <= first <= 600
    assert last == 86_400


def test_a_mailer_that_is_stopped_stops_pruning(
    old: ForgetPassword, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(days=31)
    ForgetPassword.objects.create(created_at=timezone.now() - timedelta(days=99))
    ForgetPassword.objects.exclude(pk=old.pk).update(
        updated_at=old.created_at, mail_due=Mail.NONE, mail_next_at=None, mail_turn_at=None
    )
    crew = threads.SendingThreads(1)
    monkeypatch.setattr(crew.stopping, "wait", lambda _: crew.stopping.is_set())
    monkeypatch.setattr(connections, "close_all", lambda: None)
    first = retention.KINDS[0]

    def stop(rows: Any) -> None:
        first.act(rows)
        crew.stopping.set()

    monkeypatch.setattr(retention, "KINDS", (first._replace(act=stop), *retention.KINDS[1:]))
    crew._prune()
    assert ForgetPassword.objects.get() == old
    assert personal(old)[0]  # its turn did not come


def test_the_command_counts_and_acts(old: ForgetPassword, later: Later) -> None:
    later(days=31)
    said = io.StringIO()
    call_command("prune", dry_run=True, stdout=said)
    assert "1 resets wiped" in said.getvalue()
    assert personal(old)[0]
    call_command("prune", stdout=said)
    assert personal(old)[0] == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_command_draws_a_bar_where_somebody_watches(old: ForgetPassword, later: Later) -> None:
    later(days=100)
    said = Terminal()
    call_command("prune", stdout=said)
    assert f"\r[{'#' * 30}] 100 %  1 of 1" in said.getvalue()


@pytest.mark.parametrize("days", ["0", "13", "-1", "36501", "x", "1" * 5000, "٣٠"])
def test_the_command_refuses_days_that_are_none(db: None, days: str) -> None:
    with pytest.raises(CommandError, match="give a number of days, from 14 to 36500"):
        call_command("prune", f"--days={days}")


def test_the_command_says_that_all_is_kept_for_ever(old: ForgetPassword, settings: Any, later: Later) -> None:
    settings.RETENTION_DAYS = 0
    later(days=1000)
    with pytest.raises(CommandError, match="Say --days"):
        call_command("prune")
    call_command("prune", days=14, stdout=io.StringIO())
    assert not ForgetPassword.objects.exists()


def test_one_person_is_erased_and_nobody_else(
    api: API, post: PostOffice, user: Any, make_user: Callable[..., Any], later: Later
) -> None:
    make_user("eve@example.com", username="eve")
    handles = [api.request(email)["requestId"] for email in ("ADA@example.com", "eve@example.com")]
    (letter, other) = post.deliver()
    api.verify(handles[0], "000000")
    api.verify(handles[1], "000000")
    said = io.StringIO()
    call_command("erase_person", " Ada@EXAMPLE.com", no_input=True, stdout=said)
    assert "1 password resets" in said.getvalue()
    assert "1 guess budgets" in said.getvalue()
    assert api.status(handles[0]) is None
    assert "reset" not in api.reset(letter.token if "ada" in letter.message.to[0] else other.token)
    assert [record.email for record in ForgetPassword.objects.all()] == ["eve@example.com"]
    assert GuessBudget.objects.get().email_digest == address_digest(fold("eve@example.com"))
    assert user.check_password("umbrella-cactus-violin-91")


def test_resets_under_a_former_key_and_of_the_account_under_another_address_are_erased_too(
    api: API, post: PostOffice, user: Any, settings: Any, later: Later
) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a former key, long enough to be one" * 2, []
    api.request("ada@example.com")
    post.deliver()
    api.request("nobody@example.com")
    post.deliver()
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a newer key, and as long as that" * 2
    call_command("erase_person", "nobody@example.com", no_input=True, stdout=io.StringIO())
    assert ForgetPassword.objects.get().user == user
    user.email = "ada@elsewhere.example"
    user.save()
    call_command("erase_person", "ada@elsewhere.example", no_input=True, stdout=io.StringIO())
    assert not ForgetPassword.objects.exists()


def test_erasing_asks_first_and_takes_no_nonsense(old: ForgetPassword, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="Nothing was erased"):
        call_command("erase_person", "ada@example.com")
    with pytest.raises(CommandError):
        call_command("erase_person", "no address", no_input=True)
    assert ForgetPassword.objects.exists()


# --- A mail has a greatest age ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "given_up"), [(23.9, False), (24.1, True)])
def test_a_mail_that_nobody_sent_for_a_day_is_given_up_for_known_and_unknown_alike(
    api: API, post: PostOffice, user: Any, later: Later, hours: float, given_up: bool
) -> None:
    handles = [api.request(email)["requestId"] for email in ("ada@example.com", "nobody@example.com")]
    later(hours=hours)
    assert len(post.deliver()) == (0 if given_up else 1)
    for handle in handles:
        record = record_of(handle)
        assert (record.mail_error == "too_old") is given_up
        assert record.events.filter(kind=EventKind.MAIL_DEAD, reason="too_old").exists() is given_up


def test_the_news_of_a_new_password_is_never_too_old(api: API, post: PostOffice, user: Any, later: Later) -> None:
    api.request()
    api.reset(post.deliver_one().token)
    later(days=6)
    assert "was changed at" in post.deliver_one().text
    assert ForgetPassword.objects.get().state == State.COMPLETED


def test_an_operator_can_have_a_given_up_mail_sent_all_the_same(
    api: API, post: PostOffice, user: Any, later: Later, admin_client: Any
) -> None:
    record = record_of(api.request()["requestId"])
    later(days=2)
    assert post.deliver() == []
    data = {"action": "mail_again", "_selected_action": [str(record.pk)]}
    admin_client.post("/admin/account_recovery/forgetpassword/", data, secure=True)
    assert post.deliver_one().token
