"""Counting in Redis, for all processes together."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from typing import Any

from redis import ConnectionPool, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..sockets import has_something_to_read
from .window import Taken, Window

TIMEOUT_SECONDS = 0.5
"""For connecting to Redis, and for each of its answers."""
PREFIX = "{recovery}:"
"""Of all keys. A cluster keeps what has the same words in braces at one node, so that one script may count it."""


class RedisCounter:
    """Counts in Redis, in one script, so that all processes together are as exact as one.

    Each thread has a connection of its own. redis-py's client and its pool cost twice what the rest of a call does.
    """

    TAKE = """
        -- KEYS: lists of the times counted, newest first. ARGV: now, wanted, and how many of the keys come first; then
        -- most and seconds for each key. The other keys are counted only if the first ones were.
        local now, answer = tonumber(ARGV[1]), {}
        local function take(from, to, wanted)
            local room, waits, standing = wanted, {}, {}
            for i = from, to do
                local key, most, seconds = KEYS[i], tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
                local oldest = redis.call('LINDEX', key, -1)
                while oldest and tonumber(oldest) + seconds <= now do
                    redis.call('RPOP', key)
                    oldest = redis.call('LINDEX', key, -1)
                end
                local length = redis.call('LLEN', key)
                standing[#standing + 1] = length
                room = math.max(0, math.min(room, most - length))
                local leaves = now
                if length >= most and most > 0 then leaves = tonumber(redis.call('LINDEX', key, most - 1)) end
                waits[#waits + 1] = length < most and '0' or string.format('%.6f', math.max(0, leaves + seconds - now))
            end
            for i = from, room > 0 and to or 0 do
                standing[i - from + 1] = standing[i - from + 1] + room
                for _ = 1, room do redis.call('LPUSH', KEYS[i], ARGV[1]) end
                redis.call('EXPIRE', KEYS[i], ARGV[2 * i + 3])
            end
            answer[#answer + 1] = {room, waits, standing}
            return room
        end
        local first = tonumber(ARGV[3])
        local room = take(1, first, tonumber(ARGV[2]))
        if #KEYS > first then take(first + 1, #KEYS, room) end
        return answer
    """

    def __init__(self, url: str) -> None:
        # No second try by the connection: the breaker decides when to try again, and memory counts meanwhile.
        self._pool = ConnectionPool.from_url(
            url.replace("redis+unix://", "unix://"),
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = hashlib.sha1(self.TAKE.encode(), usedforsecurity=False).hexdigest()
        self._local = threading.local()
        self._node: dict[str, Any] = {}
        """The node of a cluster that has the keys, if it is not the one in the URL."""

    def check(self) -> None:
        """Write something, and run the script on nothing.

        A full Redis, or one that is only a replica, would go on answering what it is asked, and what is no Redis at all
        may say OK to everything.
        """
        self._ask("SET", f"{PREFIX}check", 1, "EX", 1)
        self.take([], 1, 0.0)

    def take(self, windows: Sequence[Window], wanted: int, now: float, then: Sequence[Window] = ()) -> list[Taken]:
        """Count in `windows`, and in `then` if they had room; returns what came of each."""
        both = [*windows, *then]
        bounds = [bound for window in both for bound in (window.most, window.seconds)]
        arguments = [len(both), *(PREFIX + window.key for window in both), repr(now), wanted, len(windows), *bounds]
        try:
            answer = self._ask("EVALSHA", self._script, *arguments)
        except exceptions.NoScriptError:
            answer = self._ask("EVAL", self.TAKE, *arguments)
        return [
            Taken(int(count), tuple(float(wait) for wait in waits), now, tuple(standing))
            for count, waits, standing in answer
        ]

    def give_back(self, windows: Sequence[Window], stamp: float, count: int) -> None:
        self._ask_all([("LREM", PREFIX + window.key, count, repr(stamp)) for window in windows])

    def _ask(self, *command: Any) -> Any:
        (answer,) = self._ask_all([command])
        return answer

    def _ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            return self._send(commands)
        except exceptions.MovedError as moved:
            self._node = {"host": moved.host, "port": moved.port}
            self._local.connection = None
            return self._send(commands)
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            self._node = {}  # it may have died, and the one in the URL knows which took its place
            self._local.connection = None
            raise

    def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        connection = self._connection()
        connection.send_packed_command(connection.pack_commands(commands))
        return [connection.read_response() for _ in commands]

    def _connection(self) -> Any:
        """This thread's connection, made anew where the server has ended it, or its last answer was not read."""
        connection: Any = getattr(self._local, "connection", None)
        if connection is None:
            options = {**self._pool.connection_kwargs, **self._node}
            connection = self._local.connection = self._pool.connection_class(**options)
            connection.connect()
        elif connection._sock is None or has_something_to_read(connection._sock.fileno()):
            # redis-py's own `can_read` tries to read and catches what that raises, which takes ten times as long.
            connection.disconnect()
            connection.connect()
        return connection
