"""The threads that mail: one that looks and sweeps, one that probes the mail server, and a few that send."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import close_old_connections, connections

from accounts import mailer, smtp
from accounts.conf import conf

logger = logging.getLogger(__name__)

QUEUE_SIZE = 1000
"""Wake-ups held in memory. What does not fit is dropped, the wake-up and never the mail: a sweep finds it."""
DRAIN_SECONDS = 10.0
"""How long a stopping process goes on sending what it has queued."""
PROBE_SECONDS = 15.0
IDLE_SECONDS = 30.0
"""A sender that has had nothing to do for this long gives its connections back."""


class Crew:
    """One set of running threads with the queue between them."""

    def __init__(self) -> None:
        self._queue: queue.Queue[uuid.UUID | None] = queue.Queue(QUEUE_SIZE)
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._probe_wanted = threading.Event()
        self._server_is_up = True
        self._backlog = False
        self._senders = conf.MAIL_THREADS
        jobs: list[tuple[str, Callable[[], None]]] = [
            ("mail-look", self._look_and_sweep),
            ("mail-probe", self._probe),
            *((f"mail-send-{number}", self._send) for number in range(1, self._senders + 1)),
        ]
        # Daemons: a mail server that does not answer must not keep a stopping process alive.
        self._threads = [threading.Thread(target=job, name=name, daemon=True) for name, job in jobs]
        for thread in self._threads:
            thread.start()

    def ring(self, pk: uuid.UUID | None) -> None:
        """Look now and, with a pk, send that row now; without waiting for either."""
        if pk is not None:
            self._offer(pk)
        self._bell.set()

    def stop(self, timeout: float) -> None:
        """Send what is queued within `timeout` seconds and end the threads; the rest waits for the next sweep."""
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self._bell.set()
        self._probe_wanted.set()
        for _ in range(self._senders):
            try:
                self._queue.put(None, timeout=max(0.0, deadline - time.monotonic()))
            except queue.Full:
                break
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _offer(self, pk: uuid.UUID) -> None:
        try:
            self._queue.put_nowait(pk)
        except queue.Full:
            logger.info("mail queue full; reset %s waits for a sweep", pk)

    def _look_and_sweep(self) -> None:
        """Wake by bell or clock. Never speaks SMTP, so that no mail server can hold up what holders are shown."""
        swept_at = float("-inf")
        while not self._stopping.is_set():
            with _surviving("look"):
                while self._server_is_up and (found := mailer.look()).looked:
                    self._probe_wanted.set()
                    for pk in found.owed:
                        self._offer(pk)
                # What is queued is due as well until somebody claims it, so a sweep waits for an empty queue.
                sweep_is_due = time.monotonic() - swept_at >= conf.MAIL_SWEEP_SECONDS
                if self._queue.empty() and (self._backlog or sweep_is_due):
                    swept_at = time.monotonic()
                    found_due = mailer.due(QUEUE_SIZE)
                    self._backlog = len(found_due) == QUEUE_SIZE
                    for pk in found_due:
                        self._offer(pk)
            close_old_connections()
            self._bell.wait(conf.MAIL_SWEEP_SECONDS)
            self._bell.clear()
        connections.close_all()

    def _probe(self) -> None:
        """Ask now and then whether the server is up: when rows have been looked at, and until a dead one is back."""
        while not self._stopping.is_set():
            if self._server_is_up:
                self._probe_wanted.wait()
                self._probe_wanted.clear()
            with _surviving("probe"):
                was_up, self._server_is_up = self._server_is_up, smtp.server_answers()
                if was_up != self._server_is_up:
                    logger.warning("the mail server is %s", "up again" if self._server_is_up else "down")
                    self._bell.set()
            self._stopping.wait(PROBE_SECONDS)

    def _send(self) -> None:
        connection = smtp.Connection()
        while True:
            try:
                pk = self._queue.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                connection.close()
                connections.close_all()
                continue
            if pk is None:
                break
            with _surviving("send"):
                mailer.send(pk, connection)
            close_old_connections()
            if self._backlog and self._queue.empty():
                self._bell.set()
        connection.close()
        connections.close_all()


_lock = threading.Lock()
_crew: Crew | None = None


def ring(pk: uuid.UUID | None = None) -> None:
    """Wake this process's crew, which starts with its first ring: threads do not survive the fork of a server."""
    global _crew
    crew = _crew
    if crew is None:
        with _lock:
            crew = _crew = _crew or Crew()
    crew.ring(pk)


def stop(timeout: float = DRAIN_SECONDS) -> None:
    """Drain and end this process's crew; a later ring starts another."""
    global _crew
    with _lock:
        crew, _crew = _crew, None
    if crew is not None:
        crew.stop(timeout)


def _forget_after_fork() -> None:
    global _crew, _lock
    _crew, _lock = None, threading.Lock()


@contextmanager
def _surviving(doing: str) -> Iterator[None]:
    """Let a loop outlive one bad round; what went wrong is logged by kind and place, never by its text."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever it was, the next mail is owed all the same)
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "?"
        logger.error("the mailer could not %s: %s in %s", doing, type(error).__name__, where)  # noqa: TRY400
        connections.close_all()


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(stop)
