"""Sessions of the admin: what the database keeps of them signs nobody in, and else they are Django's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.contrib.sessions.backends.db import SessionStore as DjangosStore
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client

from backend.sessions import SessionStore
from tests.conftest import PASSWORD
from tests.test_codes import dump

ADMIN = "/admin/"
COOKIE = django_settings.SESSION_COOKIE_NAME


@pytest.fixture
def operator(make_user: Callable[..., Any]) -> Any:
    return make_user("operator@example.com", "operator", is_staff=True, is_superuser=True)


@pytest.fixture
def signed_in(operator: Any) -> Client:
    client = Client()
    client.post("/admin/login/", {"username": "operator", "password": PASSWORD, "next": ADMIN})
    assert is_in(client)
    return client


def is_in(client: Client) -> bool:
    return client.get(ADMIN).status_code == 200


def with_cookie(value: str) -> Client:
    client = Client()
    client.cookies[COOKIE] = value
    return client


def test_a_key_of_a_stolen_table_signs_nobody_in(signed_in: Client) -> None:
    assert is_in(with_cookie(signed_in.cookies[COOKIE].value))
    (stolen,) = Session.objects.values_list("session_key", flat=True)
    assert not is_in(with_cookie(stolen))


def test_the_database_holds_nowhere_what_the_cookie_holds(signed_in: Client) -> None:
    key = signed_in.cookies[COOKIE].value
    assert len(key) == 32
    stored = dump()
    assert Session.objects.get().session_key in stored
    assert key not in stored


def test_a_login_changes_the_key_and_leaves_nothing_of_the_former(operator: Any) -> None:
    client = Client()
    session = client.session
    session["visited"] = True
    session.save()
    before = client.cookies[COOKIE].value
    client.post("/admin/login/", {"username": "operator", "password": PASSWORD})
    assert client.cookies[COOKIE].value != before
    assert client.session["visited"] is True
    assert Session.objects.count() == 1
    assert not is_in(with_cookie(before))


def test_a_copied_cookie_does_not_outlive_the_logout(signed_in: Client) -> None:
    copied = signed_in.cookies[COOKIE].value
    signed_in.post("/admin/logout/")
    assert not is_in(with_cookie(copied))
    assert not Session.objects.exists()


def test_a_changed_password_ends_a_session(signed_in: Client, operator: Any) -> None:
    operator.set_password("thistle walnut comet raft 7")
    operator.save()
    assert not is_in(signed_in)


def test_a_session_ends_with_its_time_and_can_be_cleared(signed_in: Client, later: Callable[..., None]) -> None:
    signed_in.post("/admin/login/", {"username": "operator", "password": PASSWORD})
    later(days=15)
    assert not is_in(signed_in)
    call_command("clearsessions")
    assert not Session.objects.exists()


@pytest.mark.parametrize("value", ["", "short", "x" * 4000, '"\\000\\001" ', "\xe9" * 32, "\xff" * 32])
def test_an_odd_cookie_is_no_session_and_no_failure(db: None, value: str) -> None:
    response = Client().get(ADMIN, headers={"Cookie": f"{COOKIE}={value}"})
    assert response.status_code == 302


def test_a_session_that_django_kept_by_its_key_has_ended(operator: Any) -> None:
    known = Client()
    known.force_login(operator)
    old = DjangosStore()
    old.update(known.session.items())
    old.create()
    assert not is_in(with_cookie(str(old.session_key)))


def test_what_django_asks_of_a_store_by_either_kind_of_call(db: None) -> None:
    store = SessionStore()
    store["words"] = "apple piano"
    store.create()
    key = str(store.session_key)
    assert store.exists(key)
    assert SessionStore(key)["words"] == "apple piano"
    store["words"] = "river stone"
    store.save()
    assert SessionStore(key)["words"] == "river stone"
    store.cycle_key()
    assert store.session_key != key
    assert not store.exists(key)
    assert SessionStore(store.session_key)["words"] == "river stone"
    store.flush()
    assert not Session.objects.exists()
    store.delete()
    unknown = SessionStore(key)
    assert unknown.get("words") is None
    assert unknown.session_key is None


def test_and_so_by_asynchronous_calls(db: None) -> None:
    async def walk() -> None:
        store = SessionStore()
        await store.aset("words", "apple piano")
        await store.acreate()
        key = str(store.session_key)
        assert await store.aexists(key)
        assert await SessionStore(key).aget("words") == "apple piano"
        assert await Session.objects.acount() == 1
        assert (await Session.objects.aget()).session_key != key
        await store.adelete(key)
        assert not await store.aexists(key)

    async_to_sync(walk)()
