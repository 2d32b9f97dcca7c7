"""Hashing and scoring are slow by design or by nature: neither may be used to starve the server."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from argon2 import Type, extract_parameters
from django.contrib.auth.hashers import check_password, make_password
from zxcvbn import matching

import accounts.directory
from accounts.exceptions import PasswordRejected, RateLimited
from accounts.models import ForgetPassword
from accounts.passwords import hashing, policy
from accounts.passwords.slots import Slots
from backend import settings as production
from tests.conftest import API, NEW_PASSWORD, PostOffice, record_of

L33T = "4@8({[</369&#!1/|0$5+7%2/" * 3


# --- Hashing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hashers(settings: Any) -> None:
    settings.PASSWORD_HASHERS = production.PASSWORD_HASHERS


def test_a_new_password_is_hashed_by_argon2id_with_more_than_owasp_asks_for(
    api: API, post: PostOffice, user: Any, hashers: None
) -> None:
    """19 MiB, two passes, one lane: the least that the OWASP Password Storage Cheat Sheet allows."""
    api.request()
    api.reset(post.deliver_one().token)
    user.refresh_from_db()
    parameters = extract_parameters(user.password.removeprefix("argon2"))
    assert parameters.type is Type.ID
    assert (parameters.memory_cost, parameters.time_cost) == (65536, 3)
    assert parameters.memory_cost >= 19 * 1024
    assert parameters.time_cost >= 2


def test_a_hash_takes_one_core_whatever_the_machine_has(hashers: None) -> None:
    hashed = hashing.hash_password(NEW_PASSWORD)
    assert extract_parameters(hashed.removeprefix("argon2")).parallelism == 1


@pytest.mark.parametrize("hasher", ["Argon2PasswordHasher", "PBKDF2PasswordHasher", "ScryptPasswordHasher"])
def test_what_was_hashed_before_goes_on_working_and_is_renewed_at_the_next_login(
    db: None, settings: Any, hasher: str
) -> None:
    settings.PASSWORD_HASHERS = [f"django.contrib.auth.hashers.{hasher}"]
    old = make_password(NEW_PASSWORD)
    settings.PASSWORD_HASHERS = production.PASSWORD_HASHERS
    renewed: list[str] = []
    assert check_password(NEW_PASSWORD, old, renewed.append)
    assert renewed == [NEW_PASSWORD]


class Hasher:
    """Stands in for make_password: says when a hash begins, and makes none before it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.count = 0
        self.go = threading.Event()

    def __call__(self, password: str) -> str:
        self.count += 1
        self.begun.release()
        assert self.go.wait(10)
        return "hashed"


@pytest.fixture
def hasher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hasher]:
    stand_in = Hasher()
    monkeypatch.setattr(accounts.directory, "make_password", stand_in)
    hashing.slots.cache_clear()
    yield stand_in
    stand_in.go.set()
    hashing.slots.cache_clear()


def test_no_more_are_hashed_at_once_than_there_are_places(
    hasher: Hasher, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HASH_CONCURRENCY = 2
    monkeypatch.setattr(hashing, "PATIENCE", 0.01)
    threads = [threading.Thread(target=hashing.hash_password, args=(NEW_PASSWORD,)) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert hasher.begun.acquire(timeout=10)
    with pytest.raises(RateLimited) as busy:
        hashing.hash_password(NEW_PASSWORD)
    assert busy.value.retry_after == 2
    assert hasher.count == 2
    hasher.go.set()
    for thread in threads:
        thread.join(10)
    assert hashing.hash_password(NEW_PASSWORD) == "hashed"


def test_a_place_is_free_again_when_hashing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Slots(1, patience=0)
    for _ in range(3):
        with pytest.raises(MemoryError), places.one():
            raise MemoryError


@pytest.fixture
def no_place(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All places for hashing are taken, and nobody waits."""
    settings.HASH_CONCURRENCY = 1
    hashing.slots.cache_clear()
    monkeypatch.setattr(hashing, "PATIENCE", 0)
    with hashing.slots(1).one():
        yield
    hashing.slots.cache_clear()


def test_a_process_too_busy_to_hash_says_so_and_spends_nothing(
    api: API, post: PostOffice, user: Any, no_place: None
) -> None:
    request_id = api.request()["requestId"]
    token = post.deliver_one().token
    answer = api.reset(token)
    assert (answer["__typename"], answer["retryAfter"]) == ("RateLimitedError", 2)
    assert answer["message"]
    user.refresh_from_db()
    assert not user.check_password(NEW_PASSWORD)
    assert not record_of(request_id).is_user_password_updated
    assert api.mutate("checkResetToken", resetToken=token)["__typename"] == "CheckResetTokenSuccess"


def test_whoever_has_no_good_token_makes_nothing_hash(api: API, post: PostOffice, user: Any, hasher: Hasher) -> None:
    handle = api.request()["requestId"]
    link = post.deliver_one().token
    ForgetPassword.objects.update(superseded_at=record_of(handle).created_at)
    for token in ("", "x", handle, link, link[:-4] + "AAAA"):
        assert api.reset(token)["__typename"] == "InvalidResetTokenError"
    assert hasher.count == 0


def test_a_refused_password_is_not_hashed(api: API, post: PostOffice, user: Any, hasher: Hasher) -> None:
    api.request()
    token = post.deliver_one().token
    for password in ("short", "x" * 1025, "password password", "a" * 60_000):
        assert api.reset(token, password)["__typename"] == "PasswordRejectedError"
    assert hasher.count == 0


# --- Scoring ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many code points zxcvbn looks up in its dictionaries, once for each time it does so."""
    lengths: list[int] = []
    look_up: Callable[..., Any] = matching.dictionary_match

    def counted(password: str, *arguments: Any, **more: Any) -> Any:
        lengths.append(len(password))
        return look_up(password, *arguments, **more)

    monkeypatch.setattr(matching, "dictionary_match", counted)
    return lengths


def test_zxcvbn_is_not_led_through_every_way_to_read_l33t(db: None, readings: list[int]) -> None:
    """These 72 symbols can be read in 1,152 ways, and a dictionary look-up for each took 2.3 seconds."""
    policy.check(L33T)
    assert len(readings) <= 25


@pytest.mark.parametrize(
    "password",
    [
        L33T * 13,
        "".join(chr(0x4E00 + number) for number in range(1024)),
        "0123456789" * 102,
        "4@8({[<" * 146,
        "19991231 password qwertyuiop qwertyuiop qwertyuiop" * 20,
    ],
)
def test_the_work_of_scoring_has_a_bound_whatever_is_typed(readings: list[int], password: str) -> None:
    with suppress(PasswordRejected):
        policy.check(password)
    assert max(readings) <= 72
    assert len(readings) <= 25


def test_l33t_is_still_read_where_nobody_exaggerates() -> None:
    assert policy.strength("p@$$w0rd p@$$w0rd") <= policy.strength("password password")
    assert policy.strength("Tr0ub4dor 1!|(<{[$5") >= 3


def test_what_is_far_too_long_is_refused_before_it_is_even_normalized(monkeypatch: pytest.MonkeyPatch) -> None:
    """NFC sorts combining marks, at a cost that grows with the square of their number."""

    def fail(*arguments: Any) -> str:
        pytest.fail("normalized")

    monkeypatch.setattr(policy, "unicodedata", SimpleNamespace(normalize=fail))
    with pytest.raises(PasswordRejected) as refused:
        policy.clean("a" + "\u0300\u0316" * 15_000)
    assert [violation.code for violation in refused.value.violations] == ["password_too_long"]


def test_what_would_be_short_enough_once_normalized_is_not_refused_unseen() -> None:
    """U+1F82 comes apart into four code points; nothing comes apart into more."""
    password = "\u1f82" * 1024
    typed = unicodedata.normalize("NFD", password)
    assert len(typed) == 4096
    assert policy.clean(typed) == password


def test_one_password_is_scored_at_a_time(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one waits, and is told to come back if that takes too long."""
    monkeypatch.setattr(policy._turn, "patience", 0)
    with policy._turn.one():
        answer = api.mutate("checkPassword", newPassword=NEW_PASSWORD)
        with pytest.raises(RateLimited):
            policy.check(NEW_PASSWORD)
        with pytest.raises(RateLimited):
            policy.strength(NEW_PASSWORD)
    assert (answer["__typename"], answer["retryAfter"]) == ("RateLimitedError", 2)
    assert api.mutate("checkPassword", newPassword=NEW_PASSWORD)["__typename"] == "CheckPasswordSuccess"


def test_zxcvbn_is_told_nothing_of_an_account(make_user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the words it is given in a global: with two threads, one password was held against another's account."""
    told: list[Any] = []

    def score(*arguments: Any) -> dict[str, int]:
        told.append(arguments)
        return {"score": 4}

    monkeypatch.setattr(policy, "zxcvbn", score)
    policy.strength("throckmorton cactus", make_user("throckmorton@example.com"))
    assert told == [("throckmorton cactus",), (" cactus",)]
