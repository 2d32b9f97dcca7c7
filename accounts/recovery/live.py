"""Live status: whoever watches a reset is told of each change, by one query a second for all watchers of a process.

What is told, and when, is alike for every address: the same query, at the same tick, whatever the row. A process has
one `Watchers` for its event loop. Nobody is told through it what `passwordResetStatus` would not say.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.http import HttpRequest
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from ..choices import Status
from ..conf import STREAMS
from ..exceptions import RateLimited
from ..limits import rules
from ..metrics import REFUSALS
from ..models import ForgetPassword, Spent
from ..records import WATCHED, watched

logger = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at the database: a change is told half of it later, on average."""
MOST = 4_000
"""Watchers of a process."""
MOST_PER_CLIENT = 20
"""Watchers that a client may have in a process; whoever has more asks for the status instead. An IPv6 client's networks
may have more, as docs/limits.md says."""
MOST_BEGINNERS = 64
"""Clients of a process that wait for their first answer."""
BUSY_SECONDS = 60
"""When a client may try again that found no room."""
OVER = {Status.COMPLETED, Status.CANCELLED}

T = TypeVar("T")
Told = tuple[Any, ...]

# Threads of their own: a database that is silent must not keep the requests from theirs, nor beginners the watchers.
_beginning = ThreadPoolExecutor(2, thread_name_prefix="live")
_looking = ThreadPoolExecutor(1, thread_name_prefix="live-look")


def is_served(request: HttpRequest) -> bool:
    """Whether the server that has this request can hold streams: without a thread for each, or in development."""
    return isinstance(request, ASGIRequest) or bool(request.META.get(STREAMS)) or settings.DEBUG


async def begin(find: Callable[[], T]) -> T:
    """What a function finds in the database for somebody who begins to watch. Raises RateLimited at the door.

    Few may wait for that: who is let in has an answer soon, and a flood of beginners does not grow in memory.
    """
    global _beginners
    language = translation.get_language()

    def in_its_language() -> T:
        with translation.override(language):
            return find()

    if _beginners >= MOST_BEGINNERS:
        raise _no_room()
    _beginners += 1
    try:
        # With the request's own context, which has its id for the log.
        return await _in(_beginning, partial(contextvars.copy_context().run, in_its_language))
    finally:
        _beginners -= 1


_beginners = 0


async def _in(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    def run() -> T:
        close_old_connections()
        return call()

    return await asyncio.get_running_loop().run_in_executor(pool, run)


def _no_room() -> RateLimited:
    REFUSALS.labels("streams").inc()
    return RateLimited(BUSY_SECONDS, _("Too many pages of your network are waiting."), limit="streams")


async def changes(record: ForgetPassword, client_ip: str) -> AsyncIterator[ForgetPassword]:
    """The record as it is now, and after each change of what its holder is told, until it is over.

    It is the same object each time. Raises RateLimited where there is no room for another watcher.
    """
    watchers = Watchers.of_this_loop()
    watch = watchers.enter(record, client_ip)
    try:
        yield record
        while not watch.is_over:
            await watch.wait()
            yield record
    finally:
        watchers.leave(watch, client_ip)


class Watch:
    """One watcher of one record, and what it was told last."""

    __slots__ = ("_waiting", "is_over", "record", "row", "told")

    def __init__(self, record: ForgetPassword) -> None:
        self.record = record
        self.row: Sequence[Any] = ()
        self.told = _told(record, timezone.now())
        self.is_over = self.told[0] in OVER
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until there is something to tell."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def look(self, row: Sequence[Any] | None, now: datetime) -> None:
        """Take over what the database has, and wake the watcher where that, or the clock, has made news."""
        if self._waiting is None or self._waiting.done():
            return  # it is still busy telling; the next tick finds the same row
        if row is None:  # retention, or a person who was erased
            self.is_over = True
            self._waiting.set_result(None)
            return
        if row != self.row:
            _take_over(self.record, row)
            self.row = row
        told = _told(self.record, now)
        if told != self.told:
            self.told = told
            self.is_over = told[0] in OVER
            self._waiting.set_result(None)


class Watchers:
    """All watchers of one event loop."""

    def __init__(self) -> None:
        self._watches: dict[UUID, set[Watch]] = {}
        self._clients: Counter[str] = Counter()
        self._count = 0
        self._ticking: asyncio.Task[None] | None = None

    @classmethod
    def of_this_loop(cls) -> Watchers:
        return _by_loop.setdefault(asyncio.get_running_loop(), cls())

    def enter(self, record: ForgetPassword, client_ip: str) -> Watch:
        """Begin to watch. Raises RateLimited."""
        networks = rules.networks(client_ip)
        full = any(self._clients[network] >= MOST_PER_CLIENT * growth for network, growth in networks)
        if full or self._count >= MOST:
            raise _no_room()
        watch = Watch(record)
        self._count += 1
        self._clients.update(network for network, _growth in networks)
        self._watches.setdefault(record.pk, set()).add(watch)
        if self._ticking is None or self._ticking.done():
            # In no request's context: what it logs is about none.
            self._ticking = asyncio.get_running_loop().create_task(self._tick(), context=contextvars.Context())
        return watch

    def leave(self, watch: Watch, client_ip: str) -> None:
        self._count -= 1
        for network, _growth in rules.networks(client_ip):
            self._clients[network] -= 1
            if not self._clients[network]:
                del self._clients[network]
        watches = self._watches[watch.record.pk]
        watches.discard(watch)
        if not watches:
            del self._watches[watch.record.pk]

    async def _tick(self) -> None:
        """Look at all that is watched, once a tick, while anybody watches."""
        away = False
        while self._watches:
            await asyncio.sleep(TICK)
            # Who comes while the database is asked is not meant by its answer.
            asked = self.watching()
            try:
                self.look(await _in(_looking, partial(watched, tuple(asked))), asked)
            except Exception as error:  # noqa: BLE001 (the next tick may find the database again)
                if not away:
                    logger.error("live status cannot look: %s", type(error).__name__)  # noqa: TRY400 (once)
                away = True
            else:
                away = False

    def watching(self) -> dict[UUID, tuple[Watch, ...]]:
        """Who watches what just now."""
        return {pk: tuple(watches) for pk, watches in self._watches.items()}

    def look(self, rows: Iterable[Sequence[Any]], asked: Mapping[UUID, Iterable[Watch]]) -> None:
        """Tell the watchers that these rows were read for what is new of them."""
        now = timezone.now()
        found = {row[0]: row[1:] for row in rows}
        for pk, watches in asked.items():
            for watch in watches:
                watch.look(found.get(pk), now)


_by_loop: WeakKeyDictionary[Any, Watchers] = WeakKeyDictionary()


def _told(record: ForgetPassword, now: datetime) -> Told:
    """All that a holder is told and that can change; `pollAfterSeconds` alone is no news."""
    left = record.attempts_left(record.spent or Spent(), now)
    return (
        record.status(left, now),
        left,
        record.expires_at,
        record.resend_available_at,
        record.is_user_password_updated,
    )


def _take_over(record: ForgetPassword, row: Sequence[Any]) -> None:
    *columns, day, used_today, in_a_row = row
    for name, value in zip(WATCHED, columns, strict=True):
        setattr(record, name, value)
    record.spent = Spent(day, used_today, in_a_row) if day else Spent()
