"""Counting in Redis, for all processes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .window import Taken, Window

TIMEOUT_SECONDS = 0.5
"""For connecting to Redis, and for each of its answers."""
PREFIX = "recovery:"


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
