"""Mailing through Celery: a message holds the primary key of a row, and nothing else.

It is a bell for one mail, and the mail that goes is the one whose turn it is: a queue is first come, first served, and
whoever fills it would hold up all that come later.

The row stays the outbox. A broker that is down, silent, or forgets a message costs a delay and no mail: the worker's
own sweep publishes again what has been due for a while.
"""

from __future__ import annotations

import logging
import queue
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.db import close_old_connections, connections
from django.utils import timezone

from accounts import mailer, pace, smtp, workers
from accounts.conf import conf
from accounts.models import ForgetPassword

logger = logging.getLogger(__name__)

QUEUE_SIZE = 1000
"""Messages waiting to be published. One that does not fit is dropped, the message and never the mail."""

_local = threading.local()


@shared_task(name="accounts.send_mail", ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def send_mail(pk: str) -> None:
    """Send one mail, if one is due that nobody else is sending; `pk` only tells one message from another."""
    if not hasattr(_local, "connection"):
        _local.connection = smtp.Connection()
    mailer.relieve()
    # Where the pace of mails allows none just now, the mail stays due, and a sweep publishes it again.
    if (allowed := pace.take(1)).count:
        claimed = 0
        with suppress(smtp.TooManyConnections):
            in_turn = pace.is_half_used(allowed)
            # Twice: a bell that came sooner may have taken this one's mail, and left the one that it could not see yet.
            claimed = mailer.send_due(_local.connection, 1, in_turn=in_turn) or mailer.send_due(
                _local.connection, 1, in_turn=in_turn
            )
        pace.give_back(allowed, 1 - claimed)


class PublishingCrew(workers.Crew):
    """Looks in this process and leaves the sending to Celery; a thread of its own speaks to the broker."""

    def __init__(self, *, sweeps: bool = False) -> None:
        super().__init__(hands=1)
        self._sweeps = sweeps
        self._waiting: queue.Queue[uuid.UUID | None] = queue.Queue(QUEUE_SIZE)

    def owe(self, pks: Iterable[uuid.UUID]) -> None:
        for pk in pks:
            try:
                self._waiting.put_nowait(pk)
            except queue.Full:
                logger.info("too much to publish; reset %s waits for a sweep", pk)

    def sweep(self) -> None:
        if self._sweeps and self._waiting.empty():
            overdue = ForgetPassword.objects.due(timezone.now() - timedelta(seconds=conf.MAIL_OVERDUE_SECONDS))
            self.owe(overdue.values_list("pk", flat=True)[:QUEUE_SIZE])

    def dismiss(self) -> None:
        self._waiting.put(None)

    def _work(self) -> None:
        while True:
            try:
                pk = self._waiting.get(timeout=workers.IDLE_SECONDS)
            except queue.Empty:
                close_old_connections()
                continue
            if pk is None:
                break
            with workers.surviving("publish"):
                send_mail.apply_async((str(pk),), retry=False)
        connections.close_all()


@worker_ready.connect(dispatch_uid="accounts.start_sweeping")
def start_sweeping(**kwargs: Any) -> None:
    """In the worker's main process: look, and publish what fell through."""
    workers.ring(lambda: PublishingCrew(sweeps=True))


@worker_shutting_down.connect(dispatch_uid="accounts.stop_sweeping")
def stop_sweeping(**kwargs: Any) -> None:
    """Let the crew go before the worker waits for its tasks."""
    workers.stop(timeout=1)
