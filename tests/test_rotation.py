"""A new SECRET_KEY while servers are deployed one by one: nobody notices, and what was counted stays counted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from accounts.models import ForgetPassword, GuessBudget
from tests.conftest import API, PASSWORD, PostOffice

OLD, NEW, DIGESTS = (
    "the old key, and long enough " * 2,
    "the new key, and long enough " * 2,
    "the digests' own key " * 3,
)
Keys = tuple[str, list[str]]
"""A server's SECRET_KEY and SECRET_KEY_FALLBACKS."""
BEFORE: Keys = (OLD, [])
FIRST = (OLD, [NEW])
"""The first phase: the new key is believed, and nothing is made with it yet."""
SECOND = (NEW, [OLD])
"""The second: the new key is used, and the old one still believed."""
AFTER: Keys = (NEW, [])
MIXED = [(BEFORE, FIRST), (FIRST, SECOND)]
"""Which servers run side by side during each phase."""


@pytest.fixture
def on(settings: Any) -> Callable[[Keys], None]:
    """Have the next call served by a server with these keys."""
    settings.DIGEST_KEY = DIGESTS

    def become(keys: Keys) -> None:
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = keys

    return become


@pytest.mark.parametrize("pair", MIXED)
def test_whichever_server_takes_a_step_every_reset_ends_well(
    api: API, post: PostOffice, later: Callable[..., None], on: Any, pair: Any
) -> None:
    for number, (asked, mailed, proven, changed) in enumerate(product(pair, repeat=4)):
        later(hours=2)
        on(asked)
        user = get_user_model().objects.create_user(f"ada{number}", f"ada{number}@example.com", PASSWORD)
        handle = api.request(user.email)["requestId"]
        on(mailed)
        letter = post.deliver_one()
        on(proven)
        status = api.status(handle)
        assert status is not None
        assert status["status"] == "SENT"
        token = api.verify(handle, letter.code)["resetToken"]
        on(changed)
        assert "reset" in api.reset(token)
        post.deliver()


def test_what_was_mailed_before_the_old_key_is_dropped_needs_it_until_then(
    api: API, post: PostOffice, user: Any, on: Any
) -> None:
    on(BEFORE)
    api.request()
    letter = post.deliver_one()
    on(AFTER)
    assert "reset" not in api.reset(letter.token)
    on(SECOND)
    assert "reset" in api.reset(letter.token)


@pytest.mark.parametrize("key", ["", DIGESTS])
def test_with_a_digest_key_counts_searches_and_idempotency_survive(
    api: API, post: PostOffice, user: Any, on: Any, settings: Any, later: Callable[..., None], key: str
) -> None:
    settings.DIGEST_KEY = key
    on(BEFORE)
    once = "an-idempotency-key-of-ada"
    handle = api.request(idempotencyKey=once)["requestId"]
    post.deliver()
    for _ in range(5):
        api.verify(handle, "000000")
    on(SECOND)
    later(seconds=5)
    again = api.mutate("requestPasswordReset", email="ada@example.com")
    same = api.mutate("requestPasswordReset", email="ada@example.com", idempotencyKey=once)
    later(seconds=61)
    api.verify(api.request()["requestId"], "000000")
    support = Client()
    support.force_login(get_user_model().objects.create_superuser("support"))
    found: Any = support.get("/admin/account_recovery/forgetpassword/?q=ada%40example.com", secure=True)
    assert set(found.context["cl"].result_list) == set(ForgetPassword.objects.all())
    if key:
        assert again["__typename"] == "RateLimitedError"
        assert ForgetPassword.objects.count() == 2
        assert "reset" in same
        assert GuessBudget.objects.get().used_today == 6
    else:  # as if it were another address
        assert again["__typename"] == "RequestPasswordResetSuccess"
        assert GuessBudget.objects.count() == 2
