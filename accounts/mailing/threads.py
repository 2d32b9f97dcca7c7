"""The threads of a mailing process: one that looks and sweeps, one that probes the mail server, and a few that send."""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from django.core.mail import EmailMessage
from django.db import close_old_connections, connections
from django.utils import timezone

from .. import retention
from ..conf import conf
from ..hooks import delivery
from ..limits.window import Taken
from ..models import Heartbeat
from . import batches, mailer, pace, smtp

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""How long a stopping process goes on sending what is due."""
PROBE_SECONDS = 15.0
IDLE_SECONDS = 30.0
"""A thread that has had nothing to do for this long gives its connections back."""
MAX_BATCH = 50
BATCH_WORTH = 0.5
"""A sender claims as many mails at once as it sends in this many seconds: one from a slow server, many from a fast."""
CROWDED = 0.9
"""The part of a processor that all senders may use together; beyond it, one more would only be in the others' way."""
NAP_SECONDS = 1.0
LONG_SECONDS = 0.25
"""From so long a mail on, what its sender holds meanwhile is worth more than what it costs to take it anew."""
CONTENT_SECONDS = 60.0
"""How long no more connections are tried than the mail server has taken."""
TICK_SECONDS = 0.05
"""The least time between two looks: what is requested meanwhile is looked up, claimed and marked together."""
SPREAD_SECONDS = 0.2
"""How soon the mails of a tick are all to be begun: so many senders share them."""
BUSY = 0.5
"""The part of a processor from which on this process is what mails wait for, and not the mail server."""
BUSY_SECONDS = 0.2
"""Over how long that is measured."""
BEAT_SECONDS = 30.0
PRUNE_SECONDS = 86_400.0
FIRST_PRUNE_SECONDS = (60.0, 600.0)
"""After its start a process waits for a random time, so that not all prune at once, nor one that ends at once."""
RELIEF_SECONDS = 0.25
"""How often open batches are relieved; far below BATCH_SECONDS."""


class MailerThreads:
    """The threads of a mailing process: one looks records up and sweeps, one probes the mail server, the others send.

    How the mails that are due reach the senders is up to the subclass.
    """

    def __init__(self, senders: int) -> None:
        self.stopping = threading.Event()
        self._wake_up = threading.Event()
        self._probe_wanted = threading.Event()
        self._why_down = ""
        """Why the mail server takes no mail; empty while it does."""
        self._deadline = float("inf")
        self._beat_at = float("-inf")
        jobs: list[tuple[str, Callable[[], None]]] = [("mail-look", self._look_and_sweep), ("mail-probe", self._probe)]
        jobs += [("retention", self._prune)]
        jobs += [(f"mail-sender-{number}", self._work) for number in range(1, senders + 1)]
        jobs += delivery.jobs(self.stopping)
        # Daemons: a mail server that does not answer must not keep a stopping process alive.
        # Whatever one dies of, Python's own last words would put the exception's text into the log.
        self._threads = [threading.Thread(target=surviving("go on")(job), name=name, daemon=True) for name, job in jobs]

    def start(self) -> None:
        """Start the threads. They sweep at once, for an earlier process may have left mails."""
        for thread in self._threads:
            thread.start()

    def wake(self, pk: uuid.UUID | None) -> None:
        """Look now and, with a pk, enqueue that row. Never waits."""
        if pk is not None:
            self.enqueue([pk])
        self._wake_up.set()

    def stop(self, timeout: float) -> None:
        """Look once more, send for `timeout` seconds at most, and end the threads. A later process sends the rest."""
        self.retire(timeout)
        for thread in self._threads:
            thread.join(max(0.0, self._deadline - time.monotonic()))
        with surviving("let go"):
            mailer.let_go()

    def retire(self, timeout: float = 0.0) -> None:
        """As `stop`, without waiting for the threads. What is being sent is sent and marked."""
        self._deadline = time.monotonic() + timeout
        self.stopping.set()
        self._wake_up.set()
        self._probe_wanted.set()
        delivery.retire()

    def enqueue(self, pks: Iterable[uuid.UUID]) -> None:
        """Tell the senders that these rows have a mail due. Never waits."""
        raise NotImplementedError

    def sweep(self) -> None:
        """Send what is due although no wake-up came for it."""
        raise NotImplementedError

    def dismiss(self) -> None:
        """Tell the senders to finish what is due and end."""
        raise NotImplementedError

    def _work(self) -> None:
        """The loop of a sender, until it is dismissed."""
        raise NotImplementedError

    def _look_and_sweep(self) -> None:
        """Look and sweep, at each wake-up and each MAIL_SWEEP_SECONDS; the first wake-up in a while at once.

        This thread never speaks SMTP: a slow mail server must not delay the status that holders see.
        """
        swept_at = float("-inf")
        last_round = False
        while not last_round:
            last_round = self.stopping.is_set()
            began = time.monotonic()
            with surviving("look"):
                while not self._why_down and (found := mailer.look()).looked:
                    self._probe_wanted.set()
                    self.enqueue(found.owed)
                    if found.looked < mailer.LOOK_BATCH:
                        break  # whatever has come since has woken this thread again
                if time.monotonic() - swept_at >= conf.MAIL_SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    mailer.find_beginning()
                    self.sweep()
                    self._beat(swept_at)
            close_old_connections()
            if not last_round:
                self._wake_up.wait(conf.MAIL_SWEEP_SECONDS)
                self.stopping.wait(began + TICK_SECONDS - time.monotonic())
                self._wake_up.clear()
        self.dismiss()
        connections.close_all()

    def _beat(self, now: float) -> None:
        """Show that this process sweeps, every BEAT_SECONDS."""
        if now - self._beat_at >= BEAT_SECONDS:
            self._beat_at = now
            Heartbeat.beat(f"{socket.gethostname()[:80]}:{os.getpid()}", timezone.now(), mails=True)

    def _probe(self) -> None:
        """Probe the mail server after each look, and while it is down; PROBE_SECONDS apart at least."""
        while not self.stopping.is_set():
            if not self._why_down:
                self._probe_wanted.wait()
                self._probe_wanted.clear()
            with surviving("probe"):
                before, self._why_down = self._why_down, smtp.why_down()
                if bool(before) != bool(self._why_down):
                    state = f"down: {self._why_down}" if self._why_down else "up again"
                    logger.warning("the mail server is %s", state)
                    self._wake_up.set()
            self.stopping.wait(PROBE_SECONDS)

    def _prune(self) -> None:
        """Once a day, wipe and delete what is too old; half of the time, the database is everybody else's."""
        wait = random.uniform(*FIRST_PRUNE_SECONDS)  # nosec B311 # noqa: S311 (spreads load, guards nothing)
        while not self.stopping.wait(wait):
            wait = PRUNE_SECONDS
            if not conf.RETENTION_DAYS:
                continue
            done: Counter[str] = Counter()
            with surviving("prune"):
                for what, rows in retention.prune(timezone.now(), conf.RETENTION_DAYS, self.stopping.wait):
                    done[what] += rows
                    if self.stopping.is_set():
                        break
            if done:
                logger.info("pruned: %s", ", ".join(f"{rows} {what}" for what, rows in done.items()))
            connections.close_all()


class IdleSenders:
    """The senders that wait for work. Those with an open connection are called first, the latest one first.

    While the server takes no more connections, a sender without one could do nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[threading.Event] = []
        self._dismissed = False
        self.coming = 0
        """How many were called and have not started yet."""
        self.is_more_due = False
        """Whether more became due since the latest claim began."""

    def call(self, *, wake: bool) -> None:
        """Note that more is due. With `wake`, an idle sender starts; otherwise a working one takes it."""
        with self._lock:
            self.is_more_due = True
            if wake and self._idle:
                self.coming += 1
                self._idle.pop().set()

    def dismiss(self) -> None:
        """End the senders that wait, and those that come back."""
        with self._lock:
            self._dismissed = True
            while self._idle:
                self._idle.pop().set()

    def wait(self, seconds: float | None, *, eager: bool = True, connected: bool = True) -> bool | None:
        """Wait for a call: True once called, False once dismissed, None after `seconds` without either.

        An `eager` sender does not wait while more is due. One that is not `connected` is called last.
        """
        called = threading.Event()
        with self._lock:
            if self._dismissed or (eager and self.is_more_due):
                return not self._dismissed
            self._idle.insert(len(self._idle) if connected else 0, called)
        in_time = called.wait(seconds)
        with self._lock:
            if not in_time and called in self._idle:
                self._idle.remove(called)
                return None
            self.coming = max(0, self.coming - 1)
            return not self._dismissed


class Load:
    """How much of a processor this process uses. With one interpreter lock, it cannot use much more than one."""

    def __init__(self) -> None:
        self._at, self._used = time.monotonic(), time.process_time()
        self.is_high = False

    def measure(self) -> None:
        """Look again, unless that was done a moment ago."""
        now, used = time.monotonic(), time.process_time()
        if now - self._at >= BUSY_SECONDS:
            self.is_high = used - self._used > BUSY * (now - self._at)
            self._at, self._used = now, used


class SendingThreads(MailerThreads):
    """Senders that take what is due from the table, so they need no queue.

    One or two senders are enough while mails are sent fast. While each takes long, a sender that has claimed a mail
    wakes another one: a sender that waits costs a thread and a connection, and hardly any CPU.
    """

    def __init__(self, senders: int) -> None:
        super().__init__(senders)
        self._threads.append(threading.Thread(target=self._relieve, name="mail-relief", daemon=True))
        self._senders = senders
        self._idle_senders = IdleSenders()
        self._sending = 0
        self._batch = 1
        self._counting = threading.Lock()
        self._most, self._most_until = senders, float("inf")
        self._held_back = False
        self._load = Load()
        self._due = 0
        """Mails that have been found due and that no sender has tried to claim."""
        self._is_unsure = True
        """Whether others may be due: left by an earlier process, put off, given back."""

    def enqueue(self, pks: Iterable[uuid.UUID]) -> None:
        """Call as many senders as it takes to begin all of these mails within SPREAD_SECONDS."""
        if due := len(list(pks)):
            with self._counting:
                self._due += due
            self._load.measure()
            # Where this process is busy, a mail takes long for want of the interpreter: more senders are no help.
            seconds = smtp.seconds_of_a_mail()
            helpful = 1 if self._load.is_high else math.ceil(due * seconds / SPREAD_SECONDS) or 1
            wanted = min(due, self._senders, helpful)
            worth = int(BATCH_WORTH / max(seconds, 1e-6))
            self._batch = max(1, min(MAX_BATCH, math.ceil(due / wanted), worth))
            self._call_if_useful()
            for _ in range(wanted - self._sending - self._idle_senders.coming):
                self._call()

    def sweep(self) -> None:
        self._is_unsure = True
        self._call_if_useful()

    def _call_if_useful(self) -> None:
        self._call(if_useful=not (self._sending or self._idle_senders.coming) or self._waits_for_the_server())

    def _reserve(self, batch: int) -> tuple[int, bool]:
        """How many mails to claim, and whether that is more than are known to be due.

        None where others see to all that are due: claims are not cheap.
        """
        with self._counting:
            self._idle_senders.is_more_due = False
            wanted = batch if self._is_unsure or self.stopping.is_set() else min(batch, self._due)
            probing = wanted > self._due
            self._due = max(0, self._due - wanted)
            self._is_unsure = False  # whoever claims finds out, and says so where there may be more
            return wanted, probing

    def dismiss(self) -> None:
        self._idle_senders.dismiss()

    def _call(self, *, if_useful: bool = True) -> None:
        """Note that more is due, and wake one more sender if that helps and the server takes its connection."""
        self._idle_senders.call(wake=if_useful and self._sending < self._most)

    def _waits_for_the_server(self) -> bool:
        self._load.measure()
        return _mails_take_long() and not self._load.is_high

    def _work(self) -> None:
        connection, go_on = PatientConnection(), True
        while go_on:
            # While the server takes no more connections, a sender without one would try again and again.
            may_connect = connection.is_open or self._most == self._senders
            called = self._idle_senders.wait(IDLE_SECONDS, eager=may_connect, connected=connection.is_open)
            if called is None:
                connection.close()
                connections.close_all()
                called = self._idle_senders.wait(None, connected=False)
            go_on = bool(called)
            nap = True
            while nap:
                nap = False
                with surviving("send"), self._counted() as is_welcome:
                    nap = is_welcome and self._send_all(connection)
                close_old_connections()
                if nap:
                    self.stopping.wait(NAP_SECONDS)
        connection.close()
        connections.close_all()

    def _send_all(self, connection: smtp.Connection) -> bool:
        """Send until nothing is due. Returns whether to come back after a nap: others send on, or the pace says wait.

        Where more is due, or may be, one more sender is woken. Where all of them together keep the processor busy, more
        senders are no faster, and this one takes a nap. The batch size found here is where the next sender begins.
        """
        batch = self._batch
        while time.monotonic() < self._deadline:
            wanted, probing = self._reserve(batch)
            if not wanted:
                return False
            if not (allowed := pace.take(wanted)).count:
                self._is_unsure = True
                if not self.stopping.is_set():
                    return True
                time.sleep(min(allowed.wait, NAP_SECONDS, max(0.0, self._deadline - time.monotonic())))
                continue
            begun, used = time.monotonic(), time.thread_time()
            try:
                claimed = self._claim_and_send(connection, allowed, probing=probing)
            except smtp.TooManyConnections:
                return self._make_do(allowed)
            except Exception:
                self._is_unsure = True  # what was reserved is still due
                raise
            took = time.monotonic() - begun + 1e-6
            if allowed.count < wanted or took > batches.BATCH_SECONDS:
                self._is_unsure = True
            if claimed < allowed.count:
                self._batch = 1
                return False
            crowded = self._sending > 1 and self._sending * (time.thread_time() - used) / took > CROWDED
            batch = self._batch = max(1, min(MAX_BATCH, 2 * batch, int(BATCH_WORTH * claimed / took)))
            if not self.stopping.is_set():
                if crowded:
                    return True
                if self._is_unsure or self._due:
                    self._call()
        return False

    def _claim_and_send(self, connection: smtp.Connection, allowed: Taken, *, probing: bool) -> int:
        """Send as many mails as are allowed and due; returns how many were claimed.

        Where more are found than were known of, there may be others still: another sender may look for them at once.
        """

        def call_another(claimed: int) -> None:
            full = claimed == allowed.count
            self._is_unsure = self._is_unsure or (full and probing)
            if full and (self._is_unsure or self._due):
                self._call(if_useful=self._waits_for_the_server())

        # Half of the senders and of the pace is for mails whose turn has come, so that a client's first mail finds a
        # sender at once, however many others have requested.
        busy = self._sending > self._half
        in_turn = not self.stopping.is_set() and (busy or pace.is_half_used(allowed))
        claimed = mailer.send_due(connection, allowed.count, in_turn=in_turn, on_claim=call_another)
        if busy and claimed < allowed.count:
            self._held_back = True
        pace.give_back(allowed, allowed.count - claimed)
        return claimed

    @property
    def _half(self) -> int:
        return max(1, self._senders // 2)

    def _make_do(self, allowed: Taken) -> bool:
        """For CONTENT_SECONDS, try no more connections than the mail server has taken.

        Returns whether it has taken none of this process, so that this sender comes back after a nap.
        """
        pace.give_back(allowed, allowed.count)
        with self._counting:
            is_news = self._most_until == float("inf")
            self._most, self._most_until = max(1, smtp.Connection.open_now), time.monotonic() + CONTENT_SECONDS
            self._held_back = self._is_unsure = True  # for a sender that has a connection
        if is_news:
            logger.warning("the mail server takes no more than %d connections", smtp.Connection.open_now)
        return not smtp.Connection.open_now

    @contextmanager
    def _counted(self) -> Iterator[bool]:
        """Count this sender as working. False where the server takes no more connections."""
        with self._counting:
            if time.monotonic() > self._most_until:
                self._most, self._most_until = self._senders, float("inf")
            is_welcome = self._sending < self._most
            self._sending += is_welcome
        try:
            yield is_welcome
        finally:
            with self._counting:
                self._sending -= is_welcome
                again = self._held_back and self._sending < self._half
                self._held_back = self._held_back and not again
            if again:  # what was left because it was not its turn
                self._is_unsure = True
                self._call()

    def _relieve(self) -> None:
        """Relieve the senders: a silent server may hold up one mail, but no other."""
        while not self.stopping.wait(RELIEF_SECONDS):
            with surviving("relieve"):
                if mailer.relieve():
                    self._is_unsure = True
                    self._call()
                elif self._idle_senders.is_more_due:  # every working sender has been busy all this time
                    self._call()
            close_old_connections()
        connections.close_all()


class PatientConnection(smtp.Connection):
    """Closes its thread's database connection before it waits long for the mail server."""

    def send(self, message: EmailMessage, *, lease_ends: float = 0.0) -> str:
        _let_the_database_go()
        return super().send(message, lease_ends=lease_ends)

    def rehearse(self, message: EmailMessage) -> None:
        _let_the_database_go()
        super().rehearse(message)


def _let_the_database_go() -> None:
    if _mails_take_long():
        connections.close_all()


def _mails_take_long() -> bool:
    return smtp.seconds_of_a_mail() >= LONG_SECONDS


_lock = threading.Lock()
_running: MailerThreads | None = None
_make: Callable[[], MailerThreads] | None = None


def wake(make: Callable[[], MailerThreads], pk: uuid.UUID | None = None) -> None:
    """Wake this process's mailer threads, which the first call starts."""
    global _running, _make
    running = _running
    if running is None:
        with _lock:
            if _running is None:
                _running, _make = make(), make
                _running.start()
            running = _running
    running.wake(pk)


def stop(timeout: float = DRAIN_SECONDS) -> None:
    """Send what is due and end this process's mailer threads. A later wake-up starts new ones."""
    global _running, _make
    with _lock:
        running, _running, _make = _running, None, None
    if running is not None:
        running.stop(timeout)


def _start_again_after_fork() -> None:
    """Start threads in a forked process as well: they do not survive a fork."""
    global _running, _lock
    _running, _lock = None, threading.Lock()
    mailer.forget()
    if _make is not None:
        wake(_make)


@contextmanager
def surviving(doing: str) -> Iterator[None]:
    """Log an exception by type and place, never by its text, and go on: the next mail is due all the same."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (logged below)
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "?"
        logger.error("the mailer could not %s: %s in %s", doing, type(error).__name__, where)  # noqa: TRY400
        connections.close_all()


os.register_at_fork(after_in_child=_start_again_after_fork)
# Not atexit: a worker that multiprocessing started, as granian's are, ends without it. It does end its threads, and
# this is how concurrent.futures hears of that (docs/decisions).
threading._register_atexit(stop)  # type: ignore[attr-defined]
