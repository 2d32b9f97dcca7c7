"""The pace of mails: so many in any minute, over all who share a Redis, and nobody refused for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from accounts.limits import rules
from accounts.mailing import pace
from harness.valkey import Valkey
from tests.conftest import API

TAKERS = 16


@pytest.fixture(autouse=True)
def _ten_a_minute(settings: Any) -> None:
    settings.MAIL_PER_MINUTE = 10


def test_without_a_pace_all_may_go(settings: Any) -> None:
    settings.MAIL_PER_MINUTE = 0
    for _ in range(5):
        taken = pace.take(1000)
        assert (taken.count, taken.wait) == (1000, 0)
        pace.give_back(taken, 5)


def test_what_is_wanted_is_given_as_far_as_the_minute_allows(counting: str) -> None:
    assert [pace.take(wanted).count for wanted in (4, 4, 4, 4)] == [4, 4, 2, 0]


def test_more_than_a_minutes_worth_is_cut_to_it(counting: str) -> None:
    assert pace.take(1000).count == 10


def test_whoever_waits_as_long_as_told_may_send(counting: str, later: Callable[..., None]) -> None:
    pace.take(3)
    later(seconds=20)
    pace.take(7)
    taken = pace.take(5)
    assert (taken.count, taken.wait) == (0, 40)
    later(seconds=39)
    assert pace.take(5).count == 0
    later(seconds=1)
    assert pace.take(5).count == 3


def test_no_minute_holds_more_than_its_number(counting: str, later: Callable[..., None]) -> None:
    """Not only those that begin on the clock's minute."""
    sent: list[int] = []
    for second in range(300):
        sent += [second] * pace.take(second % 4).count
        later(seconds=1)
    assert all(sum(start <= second < start + 60 for second in sent) <= 10 for start in range(300))
    assert len(sent) == 50, "and each minute is used"


def test_parallel_takers_get_exactly_the_minutes_number(counting: str, settings: Any) -> None:
    settings.MAIL_PER_MINUTE = 100
    gate = threading.Barrier(TAKERS)

    def take(number: int) -> int:
        gate.wait(timeout=30)
        return sum(pace.take(number % 5).count for _ in range(10))

    with ThreadPoolExecutor(TAKERS) as pool:
        assert sum(pool.map(take, range(TAKERS))) == 100


def test_what_was_not_used_can_be_given_back(counting: str, later: Callable[..., None]) -> None:
    taken = pace.take(10)
    later(seconds=1)
    pace.give_back(taken, 4)
    assert [pace.take(10).count for _ in range(2)] == [4, 0]


def test_giving_back_moves_nobody_elses_time(counting: str, later: Callable[..., None]) -> None:
    early = pace.take(5)
    later(seconds=30)
    pace.take(5)
    pace.give_back(early, 5)
    later(seconds=30)
    assert pace.take(10).count == 5, "those of the other half are still within their minute"


def test_no_more_can_be_given_back_than_was_taken(counting: str, later: Callable[..., None]) -> None:
    first = pace.take(2)
    later(seconds=1)
    pace.take(8)
    pace.give_back(first, 100)
    pace.give_back(first, 100)
    assert pace.take(10).count == 2


def test_processes_that_share_a_redis_share_the_pace(valkey: Valkey) -> None:
    assert pace.take(10).count == 10
    rules.reset()
    assert pace.take(10).count == 0


def test_while_redis_is_down_this_process_keeps_the_pace(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    taken = pace.take(20)
    assert taken.count == 10
    pace.give_back(taken, 3)
    assert pace.take(20).count == 3
    assert len(caplog.records) == 1


def test_a_request_is_never_refused_for_the_pace(api: API) -> None:
    pace.take(10)
    api.request()
