"""The admin: support finds a reset and reads why no mail arrived, changes nothing, and learns no secret."""

from __future__ import annotations

import base64
import re
import smtplib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import admin
from accounts.mailing import smtp
from accounts.models import ForgetPassword, PasswordResetEvent
from accounts.passwords import hashing
from accounts.passwords.slots import Slots
from tests.conftest import API, PASSWORD, PostOffice, record_of

LIST = "/admin/account_recovery/forgetpassword/"


@pytest.fixture
def support(make_user: Callable[..., Any]) -> Client:
    """Somebody whom Django's own permissions would let do everything."""
    client = Client()
    client.force_login(make_user("support@example.com", "support", is_staff=True, is_superuser=True))
    return client


def page_of(record: ForgetPassword, page: str = "change") -> str:
    return f"{LIST}{record.pk}/{page}/"


def search(support: Client, term: str) -> list[ForgetPassword]:
    response: Any = support.get(LIST, {"q": term})
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


@pytest.fixture
def reset(api: API, post: PostOffice, user: Any) -> ForgetPassword:
    """One reset of an account, mailed."""
    record = record_of(api.request("Ada@Example.com")["requestId"])
    post.deliver()
    return record


@pytest.fixture
def stranger(api: API, post: PostOffice) -> ForgetPassword:
    """One reset of nobody's, looked up and wiped."""
    record = record_of(api.request("Nobody.Here@example.org")["requestId"])
    post.deliver()
    record.refresh_from_db()
    assert record.email == ""
    return record


# --- The way in ------------------------------------------------------------------------------------------------------


def log_in(client: Client, password: str = PASSWORD) -> Any:
    return client.post("/admin/login/", {"username": "ada", "password": password, "next": "/admin/"})


def test_logins_are_counted_whatever_else_the_client_has_tried(api: API, user: Any, settings: Any, caplog: Any) -> None:
    settings.THROTTLE_VERIFY_PER_IP = "2/hour"
    type(user).objects.update(is_staff=True)
    for _ in range(3):
        api.mutate("checkPassword", newPassword=PASSWORD)
    for _ in range(2):
        assert "correct username" in log_in(Client(), "a guess").text
    refused = log_in(Client())
    assert "Too many requests" in refused.text
    assert "_auth_user_id" not in refused.client.session
    assert "login refused" in caplog.text


def test_other_clients_may_still_log_in(user: Any, settings: Any) -> None:
    settings.THROTTLE_VERIFY_PER_IP = "1/hour"
    type(user).objects.update(is_staff=True)
    log_in(Client(), "a guess")
    assert log_in(Client(REMOTE_ADDR="203.0.113.7")).status_code == 302


def test_a_login_hashes_when_its_turn_has_come(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    type(user).objects.update(is_staff=True)
    busy = Slots(1, patience=0)
    monkeypatch.setattr(hashing, "slots", lambda _places: busy)
    with busy.one():
        assert "a lot to do" in log_in(Client()).text
    assert log_in(Client()).status_code == 302


# --- Read-only -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", ["add/", "{pk}/delete/"])
def test_nobody_may_add_or_delete(support: Client, reset: ForgetPassword, page: str, method: str) -> None:
    response = getattr(support, method)(LIST + page.format(pk=reset.pk), {"post": "yes"})
    assert response.status_code == 403
    assert ForgetPassword.objects.count() == 1


def test_nobody_may_change(support: Client, reset: ForgetPassword) -> None:
    before = ForgetPassword.objects.values().get()
    response = support.post(page_of(reset), {"state": "COMPLETED", "email": "eve@example.com", "attempts": "0"})
    assert response.status_code == 403
    assert ForgetPassword.objects.values().get() == before


def test_the_page_of_a_reset_has_nothing_to_fill_in_or_to_save(support: Client, reset: ForgetPassword) -> None:
    response: Any = support.get(page_of(reset))
    assert response.status_code == 200
    assert response.context["adminform"].form.fields == {}
    assert 'name="_save"' not in response.text
    assert response.context["inline_admin_formsets"] == []


def test_deleting_many_at_once_is_not_offered(support: Client, reset: ForgetPassword) -> None:
    response: Any = support.get(LIST)
    offered = [name for name, _ in response.context["cl"].model_admin.get_action_choices(response.wsgi_request)]
    assert "delete_selected" not in offered
    support.post(LIST, {"action": "delete_selected", "_selected_action": [str(reset.pk)], "post": "yes"})
    assert ForgetPassword.objects.count() == 1


def test_a_member_of_staff_without_permission_sees_nothing(
    make_user: Callable[..., Any], reset: ForgetPassword
) -> None:
    client = Client()
    client.force_login(make_user("clerk@example.com", "clerk", is_staff=True))
    assert [client.get(page).status_code for page in (LIST, page_of(reset))] == [403, 403]


# --- Finding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["Ada@Example.com", "ada@example.com", "  ada@example.com ", "ada", " ada "])
def test_a_reset_is_found_by_the_whole_address_and_by_the_name_of_the_account(
    support: Client, reset: ForgetPassword, stranger: ForgetPassword, term: str
) -> None:
    assert search(support, term) == [reset]


def test_a_reset_is_found_by_the_address_that_its_account_has_now(
    support: Client, reset: ForgetPassword, user: Any
) -> None:
    user.email = "ada@elsewhere.example"
    user.save()
    assert search(support, "ada@elsewhere.example") == [reset]
    assert search(support, "ada@example.com") == [reset]


def test_an_address_is_found_after_the_key_was_rotated(
    support: Client, stranger: ForgetPassword, settings: Any
) -> None:
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a newer key, and as long as that" * 2
    assert search(support, "nobody.here@example.org") == [stranger]


@pytest.mark.parametrize("term", ["ada@example.com", "ada", "0" * 32])
def test_no_search_reads_the_whole_table(support: Client, reset: ForgetPassword, term: str) -> None:
    """Part of an address did: it took seven seconds at two million resets."""
    with CaptureQueriesContext(connection) as asked:
        search(support, term)
    table = "account_recovery_forgetpassword"
    searches = [query["sql"] for query in asked if f'FROM "{table}"' in query["sql"]]
    assert len(searches) == 2  # the count and the page
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # the better one for a single row
        for sql in searches:
            cursor.execute(f"{explain} {sql}")
            plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
            assert f"Seq Scan on {table}" not in plan
            assert f"SCAN {table}" not in plan


def test_the_newest_resets_come_first_and_nothing_without_an_index_sorts_them(
    support: Client, reset: ForgetPassword, stranger: ForgetPassword
) -> None:
    assert list(support.get(LIST).context["cl"].result_list) == [stranger, reset]
    links = re.findall(r'href="(\?[^"]*\bo=[^"]*)"', support.get(LIST).content.decode())
    assert set(links) == {"?o=", "?o=1"}  # by the time, the other way round


def test_a_list_of_very_many_says_about_how_many_and_has_pages_for_the_newest(
    support: Client, reset: ForgetPassword, stranger: ForgetPassword, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MOST_LISTED", 1)
    page = support.get(LIST)
    assert page.context["cl"].result_count == 1
    assert "The newest 1 of about 2. Search, or filter, for older ones." in page.content.decode()
    found = support.get(LIST, {"q": "ada@example.com"})
    assert "The newest 1. Search, or filter, for older ones." in found.content.decode()


def test_a_reset_is_found_by_its_id(support: Client, reset: ForgetPassword, stranger: ForgetPassword) -> None:
    assert search(support, str(reset.pk)) == [reset]
    assert search(support, str(stranger.pk)) == [stranger]


@pytest.mark.parametrize("term", ["Nobody.Here@example.org", "nobody.here@EXAMPLE.ORG", " nobody.here@example.org "])
def test_the_whole_address_of_a_stranger_is_found_although_it_was_wiped(
    support: Client, reset: ForgetPassword, stranger: ForgetPassword, term: str
) -> None:
    assert search(support, term) == [stranger]


@pytest.mark.parametrize("term", ["nobody.here@example", "nobody", "@", "eve@example.com", "' OR 1=1 --", "-" * 36])
def test_what_is_nobody_s_in_full_finds_no_stranger(support: Client, stranger: ForgetPassword, term: str) -> None:
    assert search(support, term) == []


# --- Reading ---------------------------------------------------------------------------------------------------------


def timeline(support: Client, record: ForgetPassword) -> list[str]:
    page = support.get(page_of(record)).text
    shown = re.findall(r"<li><time>[\d :-]{19}</time> (.*?) <code>(.*?)</code></li>", page)
    return [" ".join(filter(None, line)) for line in shown]


def test_the_timeline_tells_how_a_mail_went_out(support: Client, reset: ForgetPassword) -> None:
    assert timeline(support, reset) == [
        "Somebody asked for it. 127.0.0.1",
        "The mailer looked for the account: found.",
        "The mail server took the email (code and link).",
    ]


def test_the_timeline_tells_why_a_stranger_got_none(support: Client, stranger: ForgetPassword) -> None:
    assert timeline(support, stranger)[1:] == [
        "The mailer looked for the account: there is no account with this address.",
        "No email went out: there is no account with this address.",
    ]


def test_the_timeline_tells_why_an_inactive_account_got_none(
    support: Client, api: API, post: PostOffice, make_user: Callable[..., Any]
) -> None:
    make_user("gone@example.com", is_active=False)
    record = record_of(api.request("gone@example.com")["requestId"])
    post.deliver()
    assert timeline(support, record)[-1] == "No email went out: the account is not active."


def spellings(secret: bytes) -> set[str]:
    """The ways in which a page might come to print raw bytes."""
    return {
        secret.hex(),
        secret.hex(" "),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        base64.b32encode(secret).decode().rstrip("="),
        str(int.from_bytes(secret)),
        repr(secret)[2:-1],
        secret.decode("latin-1"),
        str(list(secret)),
    }


def test_no_page_holds_a_secret(support: Client, api: API, post: PostOffice, user: Any) -> None:
    handle = api.request("ada@example.com", idempotencyKey="a-key-of-22-characters")["requestId"]
    letter = post.deliver_one()
    token = api.verify(handle, letter.code)["resetToken"]
    record = record_of(handle)
    assert record.idempotency_digest
    pages = [
        LIST,
        f"{LIST}?q=ada@example.com",
        page_of(record),
        page_of(record, "history"),
        f"/admin/auth/user/{user.pk}/change/",
        f"/admin/auth/user/{user.pk}/delete/",
        "/admin/",
    ]
    answers = [support.get(page) for page in pages]
    assert [answer.status_code for answer in answers] == [200] * len(pages)
    text = "".join(answer.content.decode().casefold() for answer in answers)
    secrets = {handle, letter.token, token, record.email_digest, record.idempotency_digest, "a-key-of-22-characters"}
    for raw in (record.seed, bytes.fromhex(record.email_digest), base64.urlsafe_b64decode(handle + "=")):
        secrets |= spellings(raw)
    assert str(record.pk) in text
    assert {secret for secret in secrets if secret.casefold() in text} == set()
    # Six digits may stand within an id by chance, so a code is looked for as a word.
    assert not re.search(rf"\b{letter.code}\b", text)


def test_the_page_names_no_field_that_keeps_a_secret(support: Client, reset: ForgetPassword) -> None:
    response: Any = support.get(page_of(reset))
    shown = {name for fieldset in response.context["adminform"] for line in fieldset for name in line.fields}
    assert {"email", "state", "mail_error"} <= shown
    assert shown.isdisjoint({"forget_password_otp", "email_digest", "idempotency_digest"})


# --- Reviving --------------------------------------------------------------------------------------------------------


def revive(support: Client, *records: ForgetPassword) -> str:
    ticked = [str(record.pk) for record in records]
    response = support.post(LIST, {"action": "mail_again", "_selected_action": ticked}, follow=True)
    assert response.status_code == 200
    return response.text


@pytest.fixture
def dead(api: API, post: PostOffice, make_user: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> ForgetPassword:
    """One reset whose mail the server refused for good."""

    def refuse(connection: smtp.Connection, message: Any, **options: Any) -> None:
        raise smtplib.SMTPRecipientsRefused(dict.fromkeys(message.to, (550, b"no such mailbox")))

    make_user("grace@example.com")
    record = record_of(api.request("grace@example.com")["requestId"])
    with monkeypatch.context() as refusing:
        refusing.setattr(smtp.Connection, "send", refuse)
        post.deliver()
    record.refresh_from_db()
    assert (record.mail_due, record.mail_next_at, record.mail_error) == ("CODE", None, "smtp_550")
    return record


def test_a_dead_mail_stays_dead_until_it_is_revived(dead: ForgetPassword, post: PostOffice) -> None:
    assert post.deliver() == []


def test_a_dead_mail_that_is_revived_is_mailed(support: Client, dead: ForgetPassword, post: PostOffice) -> None:
    assert "tried again: 1." in revive(support, dead)
    assert post.deliver_one().message.to == ["grace@example.com"]
    assert PasswordResetEvent.objects.filter(record=dead, kind="MAILED").count() == 1


def test_only_what_was_ticked_is_revived(support: Client, dead: ForgetPassword, reset: ForgetPassword) -> None:
    assert "tried again: 0." in revive(support, reset)
    dead.refresh_from_db()
    assert dead.mail_next_at is None


def test_a_mail_that_was_sent_or_never_owed_is_not_sent_by_reviving(
    support: Client, reset: ForgetPassword, stranger: ForgetPassword, post: PostOffice
) -> None:
    before = list(ForgetPassword.objects.order_by("pk").values())
    assert "tried again: 0." in revive(support, reset, stranger)
    assert list(ForgetPassword.objects.order_by("pk").values()) == before
    assert post.deliver() == []


def test_a_mail_that_waits_for_its_next_try_keeps_its_turn(support: Client, dead: ForgetPassword) -> None:
    turn = timezone.now() + timedelta(minutes=5)
    ForgetPassword.objects.filter(pk=dead.pk).update(mail_next_at=turn, mail_turn_at=turn, mail_attempts=3)
    assert "tried again: 0." in revive(support, dead)
    dead.refresh_from_db()
    assert (dead.mail_next_at, dead.mail_attempts) == (turn, 3)


def test_the_login_leads_staff_who_have_forgotten_to_the_reset_page(api: API) -> None:
    page = api.http.get("/admin/login/").content.decode()
    (way,) = re.findall(r'<a href="([^"]+)">Forgotten your', page)
    answer = api.http.get(way)
    assert (answer.status_code, answer["Location"]) == (302, "/reset/")


# --- What support reads ----------------------------------------------------------------------------------------------


def test_the_list_says_what_the_holder_is_told(support: Client, api: API, post: PostOffice, reset: Any) -> None:
    for _ in range(5):
        api.verify(reset.handle, "000000")
    page = support.get(LIST).content.decode()
    assert '<span class="recovery-badge recovery-locked">LOCKED</span>' in page
    assert "account_recovery/admin.css" in page


def test_the_list_asks_for_all_guesses_at_once(support: Client, api: API, post: PostOffice, reset: Any) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as asked:
            support.get(LIST)
        return len(asked)

    before = statements()
    for number in range(10):
        api.request(f"other{number}@example.com")
    assert statements() == before


def test_a_record_is_a_summary_first_and_its_fields_folded(support: Client, api: API, reset: Any) -> None:
    api.verify(reset.handle, "000000")
    page = support.get(page_of(reset)).content.decode()
    assert "1 of 5 for this reset, 1 of 10 for the address today, 1 of 100 in a row" in page
    assert "none due" in page
    assert re.search(r"<details>\s*<summary>", page)
    assert re.search(r"\d\d:\d\d:\d\d", page)


def test_a_dead_mail_and_a_reported_reset_are_seen_in_the_list(support: Client, reset: ForgetPassword) -> None:
    ForgetPassword.objects.update(mail_due="LINK", mail_error="smtp_550 5.1.1", reported_at=timezone.now(),
                                  superseded_at=timezone.now())  # fmt: skip
    page = support.get(LIST).content.decode()
    assert '<span class="recovery-badge recovery-dead">link alone: dead, smtp_550 5.1.1</span>' in page
    assert '<span class="recovery-badge recovery-reported">reported</span>' in page
