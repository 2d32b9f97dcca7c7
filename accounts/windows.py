"""Moving windows: how often something happened in the last so many seconds, counted in Redis or in this process.

While Redis does not answer, whatever its reason, this process's memory counts instead: nobody is refused for it, and
nobody is let through uncounted. docs/limits.md says what that costs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.conf import conf

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 0.5
"""For connecting to Redis, and for each of its answers."""
PROBE_SECONDS = 15.0
"""How often one call, and no other, asks a Redis that did not answer whether it is back."""
PREFIX = "recovery:"
FALLEN_BACK = "memory, redis is down"

T = TypeVar("T")


class Window(NamedTuple):
    """At most `most` of what `key` names within any `seconds` seconds."""

    key: str
    most: int
    seconds: int

    @property
    def kind(self) -> str:
        """What is counted, without whose it is."""
        return self.key.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Taken:
    """How many were counted, and when; and of each window, in their order, what follows."""

    count: int
    waits: tuple[float, ...]
    """In seconds, when it had room for one; 0: then."""
    stamp: float
    standing: tuple[int, ...] = ()
    """How many stand in it now, with those just counted."""

    @property
    def wait(self) -> float:
        """Seconds until every window has room for one; 0 where all have it now."""
        return max(self.waits)


def take(windows: Sequence[Window], wanted: int = 1) -> Taken:
    """Count as many of `wanted` as all the windows have room for, in each of them, in one step.

    What finds no room is not counted anywhere, so that asking in vain puts nothing off. Wanting 0 only asks for waits.
    Never raises.
    """
    now = time.time()
    return _counted(lambda redis: redis.take(windows, wanted, now), lambda: _memory.take(windows, wanted, now))


def give_back(windows: Sequence[Window], taken: Taken, count: int) -> None:
    """Take back `count` of what was counted. Where it is counted elsewhere by now, nothing happens. Never raises."""
    if count > 0:
        _counted(
            lambda redis: redis.give_back(windows, taken.stamp, count),
            lambda: _memory.give_back(windows, taken.stamp, count),
        )


def where() -> str:
    """What counts now: `redis`, `memory` or FALLEN_BACK; asks Redis, unless it lately did not answer. Never raises."""
    if not conf.REDIS_URL:
        return "memory"
    _counted(RedisCounter.check, lambda: None)
    return "redis" if _breaker.is_closed else FALLEN_BACK


def reset() -> None:
    """Forget what this process counts, and how Redis fared; for tests."""
    global _memory, _breaker
    _memory, _breaker = Memory(), Breaker()


class Memory:
    """Counts in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: OrderedDict[str, tuple[int, deque[float]]] = OrderedDict()

    def take(self, windows: Sequence[Window], wanted: int, now: float) -> Taken:
        with self._lock:
            self._sweep(now, 2 * len(windows))
            waits, lengths, room = [], [], wanted
            for window in windows:
                times = self._current(window, now)
                lengths.append(len(times))
                room = min(room, max(0, window.most - len(times)))
                full = len(times) >= window.most
                leaves = times[-window.most] if window.most and full else now
                waits.append(max(0.0, leaves + window.seconds - now) if full else 0.0)
            for window in windows if room else ():
                self._times.setdefault(window.key, (window.seconds, deque()))[1].extend([now] * room)
            return Taken(room, tuple(waits), now, tuple(length + room for length in lengths))

    def give_back(self, windows: Sequence[Window], stamp: float, count: int) -> None:
        with self._lock:
            for window in windows:
                _, times = self._times.get(window.key, (0, deque()))
                for _ in range(min(count, times.count(stamp))):
                    times.remove(stamp)

    def __len__(self) -> int:
        return len(self._times)

    def _current(self, window: Window, now: float) -> deque[float]:
        _, times = self._times.get(window.key, (0, deque[float]()))
        while times and times[0] + window.seconds <= now:
            times.popleft()
        return times

    def _sweep(self, now: float, keys: int) -> None:
        """Forget what is over, so many keys at a time and in turn: twice as many as may be added, so they get fewer."""
        for _ in range(min(keys, len(self._times))):
            key, (seconds, times) = self._times.popitem(last=False)
            if times and times[-1] + seconds > now:
                self._times[key] = seconds, times


class RedisCounter:
    """Counts in Redis, in one script, so that all processes together are as exact as one."""

    TAKE = """
        -- KEYS: lists of the times counted, newest first. ARGV: now, wanted; then most and seconds for each key.
        local now, room, waits = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
        local standing = {}
        for i, key in ipairs(KEYS) do
            local most, seconds = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
            local oldest = redis.call('LINDEX', key, -1)
            while oldest and tonumber(oldest) + seconds <= now do
                redis.call('RPOP', key)
                oldest = redis.call('LINDEX', key, -1)
            end
            local length = redis.call('LLEN', key)
            standing[i] = length
            room = math.max(0, math.min(room, most - length))
            local leaves = now
            if length >= most and most > 0 then leaves = tonumber(redis.call('LINDEX', key, most - 1)) end
            waits[i] = length < most and '0' or string.format('%.6f', math.max(0, leaves + seconds - now))
        end
        for i, key in ipairs(room > 0 and KEYS or {}) do
            standing[i] = standing[i] + room
            for _ = 1, room do redis.call('LPUSH', key, ARGV[1]) end
            redis.call('EXPIRE', key, ARGV[2 * i + 2])
        end
        return {room, waits, standing}
    """

    def __init__(self, url: str) -> None:
        # No second try by the client: the breaker decides when to try again, and memory counts meanwhile.
        self._redis: Any = Redis.from_url(
            url.replace("redis+unix://", "unix://"),
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._take = self._redis.register_script(self.TAKE)

    def check(self) -> None:
        """Write something: a full Redis, or one that is only a replica, would go on answering what it is asked."""
        self._redis.set(f"{PREFIX}check", 1, ex=1)

    def take(self, windows: Sequence[Window], wanted: int, now: float) -> Taken:
        bounds = [bound for window in windows for bound in (window.most, window.seconds)]
        count, waits, standing = self._take([PREFIX + window.key for window in windows], [repr(now), wanted, *bounds])
        return Taken(int(count), tuple(float(wait) for wait in waits), now, tuple(standing))

    def give_back(self, windows: Sequence[Window], stamp: float, count: int) -> None:
        with self._redis.pipeline() as pipe:
            for window in windows:
                pipe.lrem(PREFIX + window.key, count, repr(stamp))
            pipe.execute()


class Breaker:
    """Remembers that Redis did not answer, so that a silent one holds up a call now and then and not every call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._try_at = 0.0
        self.is_closed = True

    def lets_through(self) -> bool:
        """Whether to ask Redis. While it is down: once in PROBE_SECONDS, whoever comes first."""
        with self._lock:
            if not self.is_closed:
                if time.monotonic() < self._try_at:
                    return False
                self._try_at = time.monotonic() + PROBE_SECONDS
            return True

    def note(self, error: Exception | None, *, was_closed: bool) -> None:
        """Note how an attempt went. An answer that was on its way when Redis went down does not count as its return."""
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
    with _lock:
        if url not in _counters:
            _counters[url] = RedisCounter(url)
        return _counters[url]


def _start_again_after_fork() -> None:
    """A lock that another thread held when the process forked would never be let go in the child."""
    global _lock
    _lock = threading.Lock()
    reset()


_lock = threading.Lock()
_counters: dict[str, RedisCounter] = {}
_memory = Memory()
_breaker = Breaker()
os.register_at_fork(after_in_child=_start_again_after_fork)
