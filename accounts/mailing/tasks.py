"""Mailing through Celery: a message holds the primary key of a row, and nothing else.

It wakes a worker for one mail, and the worker sends the mail whose turn it is: a queue is first come, first served, and
whoever fills it would hold up all that come later.

The row stays the outbox. A broker that is down, silent, or forgets a message costs a delay and no mail: a sweep
publishes again what has been due for a while, and where that does not help either, the process that sweeps mails it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.db import close_old_connections, connections
from django.utils import timezone
from kombu.exceptions import ChannelError

from ..conf import conf
from ..models import ForgetPassword
from . import mailer, pace, smtp, threads

logger = logging.getLogger(__name__)

QUEUE_SIZE = 1000
"""Messages waiting to be published. One that does not fit is dropped, the message and never the mail."""

_local = threading.local()


@shared_task(name="account_recovery.send_mail", ignore_result=True, acks_late=True, reject_on_worker_lost=True)
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
            # Twice: an earlier message may have taken this one's mail, and left the one that it could not see yet.
            claimed = mailer.send_due(_local.connection, 1, in_turn=in_turn) or mailer.send_due(
                _local.connection, 1, in_turn=in_turn
            )
        pace.give_back(allowed, 1 - claimed)


class PublishingThreads(threads.MailerThreads):
    """Looks in this process and leaves the sending to Celery; a thread of its own speaks to the broker.

    Where that is in vain, senders of this process stand in until messages are taken again. It is in vain where a mail
    is overdue and the broker has failed for as long as that takes; and where a mail is overdue and the same mail has
    been first in turn for a whole lease. However long the queue, whoever takes a message from it sends the first mail.
    """

    def __init__(self, *, republishes: bool = False) -> None:
        super().__init__(senders=1)
        self._republishes = republishes
        self._waiting: queue.Queue[uuid.UUID | None] = queue.Queue(QUEUE_SIZE)
        self._stand_in: threads.SendingThreads | None = None
        self._is_overdue = self._is_stuck = False
        self._first: uuid.UUID | None = None
        self._first_since = 0.0
        self._failing_since: float | None = None
        self._queued: int | None = None
        self._counted_at = float("-inf")

    def enqueue(self, pks: Iterable[uuid.UUID]) -> None:
        owed = list(pks)
        if stand_in := self._stand_in:
            stand_in.enqueue(owed)
        self._publish_soon(owed)

    def sweep(self) -> None:
        due, now = ForgetPassword.objects.due, timezone.now()
        overdue = due(now - timedelta(seconds=conf.MAIL_OVERDUE_SECONDS)).values_list("pk", flat=True)
        pks = list(overdue[: QUEUE_SIZE if self._republishes else 1])
        first = due(now).values_list("pk", flat=True).first() if pks else None
        if first != self._first:
            self._first, self._first_since = first, time.monotonic()
        self._is_overdue = bool(pks)
        self._is_stuck = bool(first) and time.monotonic() - self._first_since >= conf.MAIL_LEASE_SECONDS
        if not pks and self._stand_in:
            pks = [uuid.uuid4()]  # for no mail: it finds out whether messages are taken again
        if self._waiting.empty():
            self._publish_soon(pks)

    def dismiss(self) -> None:
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        if stand_in := self._stand_in:
            stand_in.stop(max(0.0, self._deadline - time.monotonic()))

    def _publish_soon(self, pks: Iterable[uuid.UUID]) -> None:
        for pk in pks:
            try:
                self._waiting.put_nowait(pk)
            except queue.Full:
                logger.info("too much to publish; reset %s waits for a sweep", pk)

    def _work(self) -> None:
        while not (self.stopping.is_set() and self._failing_since):
            try:
                pk = self._waiting.get(timeout=threads.IDLE_SECONDS)
            except queue.Empty:
                close_old_connections()
                continue
            if pk is None:
                break
            with threads.surviving("publish"):
                self._publish(pk)
        connections.close_all()

    def _publish(self, pk: uuid.UUID) -> None:
        now = time.monotonic()
        try:
            if self._stand_in and now - self._counted_at >= conf.MAIL_SWEEP_SECONDS:
                self._counted_at = now
                if self._messages_are_taken():
                    self._step_back()
            send_mail.apply_async((str(pk),), retry=False)
        except Exception as error:  # noqa: BLE001 (each transport has errors of its own)
            logger.info("a message is not published (%s); its mail waits for a sweep", type(error).__name__)
            self._queued = None
            self._failing_since = self._failing_since or now
            if self._is_overdue and now - self._failing_since >= conf.MAIL_OVERDUE_SECONDS:
                self._step_in(f"the broker is down ({type(error).__name__})")
        else:
            self._failing_since = None
            if self._is_stuck:
                self._step_in("nobody takes messages from the broker")

    def _messages_are_taken(self) -> bool:
        """Whether no more are in the queue than when this was last asked, though one has been published since."""
        before, self._queued = self._queued, _queue_length()
        return before is not None and self._queued <= before

    def _step_in(self, why: str) -> None:
        if self._stand_in is None and not self._why_down and not self.stopping.is_set():
            logger.warning("%s: this process mails what is due until that is over", why)
            stand_in = threads.SendingThreads(conf.MAIL_SENDERS)
            stand_in.start()
            self._stand_in = stand_in

    def _step_back(self) -> None:
        stand_in, self._stand_in = self._stand_in, None
        if stand_in:
            logger.warning("the broker is back, and messages are taken: this process leaves the mails to the workers")
            stand_in.retire()
            self._first, self._is_stuck = None, False


def _queue_length() -> int:
    """Messages that nobody has taken yet. Raises what the transport does."""
    with send_mail.app.connection_for_write() as connection, connection.channel() as channel:
        try:
            return int(channel.queue_declare(send_mail.app.conf.task_default_queue, passive=True).message_count)
        except ChannelError:  # Redis knows no queue that is empty
            return 0


@worker_ready.connect(dispatch_uid="account_recovery.start_sweeping")
def start_sweeping(**kwargs: Any) -> None:
    """In the worker's main process: look, and publish what fell through."""
    threads.wake(lambda: PublishingThreads(republishes=True))


@worker_shutting_down.connect(dispatch_uid="account_recovery.stop_sweeping")
def stop_sweeping(**kwargs: Any) -> None:
    """End the mailer threads before the worker waits for its tasks."""
    threads.stop(timeout=1)
