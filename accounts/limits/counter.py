"""Moving windows: how often something happened in the last so many seconds, counted in Redis or in this process.

While Redis does not answer, whatever its reason, this process's memory counts instead: nobody is refused for it, and
nobody is let through uncounted. docs/limits.md says what that costs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..conf import conf
from .memory import Memory
from .window import Taken, Window

if TYPE_CHECKING:
    from .redis import RedisCounter

logger = logging.getLogger(__name__)

PROBE_SECONDS = 15.0
"""How often one call tries a Redis that did not answer."""
FALLEN_BACK = "memory, redis is down"

T = TypeVar("T")


def take(windows: Sequence[Window], wanted: int = 1) -> Taken:
    """Count up to `wanted` in all windows at once: as many as every one of them has room for.

    What is refused is not counted anywhere. With 0, only the waits are asked for. Never raises.
    """
    (taken,) = _taken(windows, wanted)
    return taken


def take_in_turn(first: Sequence[Window], then: Sequence[Window]) -> tuple[Taken, Taken]:
    """Count one in all of the first windows and, if they had room, one in all of the others. Never raises."""
    taken, more = _taken(first, 1, then)
    return taken, more


def _taken(windows: Sequence[Window], wanted: int, then: Sequence[Window] = ()) -> list[Taken]:
    now = time.time()
    return _counted(
        lambda redis: redis.take(windows, wanted, now, then), lambda: _memory.take(windows, wanted, now, then)
    )


def give_back(windows: Sequence[Window], taken: Taken, count: int) -> None:
    """Take back `count` of what was counted, unless it is counted elsewhere by now. Never raises."""
    if count > 0:
        _counted(
            lambda redis: redis.give_back(windows, taken.stamp, count),
            lambda: _memory.give_back(windows, taken.stamp, count),
        )


def backend_in_use() -> str:
    """Where limits are counted now: `redis`, `memory` or FALLEN_BACK. Asks Redis if it is up. Never raises."""
    if not conf.REDIS_URL:
        return "memory"
    _counted(lambda redis: redis.check(), lambda: None)
    return "redis" if _breaker.is_closed else FALLEN_BACK


def reset() -> None:
    """Forget the counts of this process and the state of Redis; for tests."""
    global _memory, _breaker
    _memory, _breaker = Memory(), Breaker()


class Breaker:
    """A circuit breaker: while Redis is down, only one call in PROBE_SECONDS waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._try_at = 0.0
        self.is_closed = True

    def lets_through(self) -> bool:
        """Whether to ask Redis. While it is down, True once in PROBE_SECONDS."""
        with self._lock:
            if not self.is_closed:
                if time.monotonic() < self._try_at:
                    return False
                self._try_at = time.monotonic() + PROBE_SECONDS
            return True

    def note(self, error: Exception | None, *, was_closed: bool) -> None:
        """Note the outcome of a call. An answer to a call from before the outage does not end the outage."""
        with self._lock:
            if error is not None and self.is_closed:
                self.is_closed, self._try_at = False, time.monotonic() + PROBE_SECONDS
                logger.warning(
                    "Redis does not answer (%s): this process counts its limits by itself", type(error).__name__
                )
            elif error is None and not self.is_closed and not was_closed:
                self.is_closed = True
                logger.warning("Redis answers again: limits are counted there")


def _counted(in_redis: Callable[[RedisCounter], T], in_memory: Callable[[], T]) -> T:
    breaker, was_closed = _breaker, _breaker.is_closed
    if not conf.REDIS_URL or not breaker.lets_through():
        return in_memory()
    try:
        redis = _redis(conf.REDIS_URL)
        if not was_closed:
            redis.check()
        answer = in_redis(redis)
    except Exception as error:  # noqa: BLE001 (refused, silent, full, read-only, no Redis at all: it is all the same)
        breaker.note(error, was_closed=was_closed)
        return in_memory()
    breaker.note(None, was_closed=was_closed)
    return answer


def _redis(url: str) -> RedisCounter:
    from .redis import RedisCounter  # only here is Redis's client needed

    with _lock:
        if url not in _counters:
            _counters[url] = RedisCounter(url)
        return _counters[url]


def _start_again_after_fork() -> None:
    """Renew the lock after a fork, which another thread may have held in the parent, and leave it its connections."""
    global _lock
    _lock = threading.Lock()
    _counters.clear()
    reset()


_lock = threading.Lock()
_counters: dict[str, RedisCounter] = {}
_memory = Memory()
_breaker = Breaker()
os.register_at_fork(after_in_child=_start_again_after_fork)
