"""The threads of a mailing process: one that looks and sweeps, one that probes the mail server, and a few that send."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from django.core.mail import EmailMessage
from django.db import close_old_connections, connections

from ..conf import conf
from ..limits.window import Taken
from . import mailer, pace, smtp

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
"""How long the crew makes do with as many connections as the mail server has allowed it."""
RELIEF_SECONDS = 0.25
"""How often somebody looks after the senders: far more often than a claimed mail may go unbegun."""


class Crew:
    """The threads that look and probe; what is owed after a look goes to the hands, which are the subclass's."""

    def __init__(self, hands: int) -> None:
        self.stopping = threading.Event()
        self._bell = threading.Event()
        self._probe_wanted = threading.Event()
        self._why_down = ""
        """Why the mail server takes no mail; empty while it does."""
        self._deadline = float("inf")
        jobs: list[tuple[str, Callable[[], None]]] = [("mail-look", self._look_and_sweep), ("mail-probe", self._probe)]
        jobs += [(f"mail-hand-{number}", self._work) for number in range(1, hands + 1)]
        # Daemons: a mail server that does not answer must not keep a stopping process alive.
        # Whatever one dies of, Python's own last words would put the exception's text into the log.
        self._threads = [threading.Thread(target=surviving("go on")(job), name=name, daemon=True) for name, job in jobs]

    def start(self) -> None:
        """Start the threads, which sweep at once: what an earlier process left is due now."""
        for thread in self._threads:
            thread.start()

    def ring(self, pk: uuid.UUID | None) -> None:
        """Look now and, with a pk, see to that row now; without waiting for either."""
        if pk is not None:
            self.owe([pk])
        self._bell.set()

    def stop(self, timeout: float) -> None:
        """Look once more, send what is due within `timeout` seconds, end the threads; a later process does the rest."""
        self.retire(timeout)
        for thread in self._threads:
            thread.join(max(0.0, self._deadline - time.monotonic()))
        with surviving("let go"):
            mailer.let_go()

    def retire(self, timeout: float = 0.0) -> None:
        """Tell the threads to do the same, and do not wait for them: what is being sent is sent, and marked."""
        self._deadline = time.monotonic() + timeout
        self.stopping.set()
        self._bell.set()
        self._probe_wanted.set()

    def owe(self, pks: Iterable[uuid.UUID]) -> None:
        """Tell the hands that these rows owe a mail. Never waits."""
        raise NotImplementedError

    def sweep(self) -> None:
        """See to what is due although nobody rang for it."""
        raise NotImplementedError

    def dismiss(self) -> None:
        """Tell the hands to finish what is there and go."""
        raise NotImplementedError

    def _work(self) -> None:
        """What each hand does until it is dismissed."""
        raise NotImplementedError

    def _look_and_sweep(self) -> None:
        """Wake by bell or clock. Never speaks SMTP, so that no mail server can hold up what holders are shown."""
        swept_at = float("-inf")
        last_round = False
        while not last_round:
            last_round = self.stopping.is_set()
            with surviving("look"):
                while not self._why_down and (found := mailer.look()).looked:
                    self._probe_wanted.set()
                    self.owe(found.owed)
                if time.monotonic() - swept_at >= conf.MAIL_SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    self.sweep()
            close_old_connections()
            if not last_round:
                self._bell.wait(conf.MAIL_SWEEP_SECONDS)
                self._bell.clear()
        self.dismiss()
        connections.close_all()

    def _probe(self) -> None:
        """Ask now and then whether the server is up: when rows have been looked at, and until a dead one is back."""
        while not self.stopping.is_set():
            if not self._why_down:
                self._probe_wanted.wait()
                self._probe_wanted.clear()
            with surviving("probe"):
                before, self._why_down = self._why_down, smtp.why_down()
                if bool(before) != bool(self._why_down):
                    state = f"down: {self._why_down}" if self._why_down else "up again"
                    logger.warning("the mail server is %s", state)
                    self._bell.set()
            self.stopping.wait(PROBE_SECONDS)


class IdleHands:
    """Where hands wait to be called: first those with an open connection to the mail server, the latest one first.

    Where the server takes no more connections, a hand without one would be called in vain.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[threading.Event] = []
        self._dismissed = False
        self.coming = 0
        """How many have been called and are not up yet."""
        self.is_more_due = False
        """Whether somebody has called since the latest claim began, or that claim cannot have been the last."""

    def call(self, *, wake: bool) -> None:
        """Say that more is due. With `wake`, a hand gets up for it; else whoever is at work goes on with it."""
        with self._lock:
            self.is_more_due = True
            if wake and self._idle:
                self.coming += 1
                self._idle.pop().set()

    def dismiss(self) -> None:
        """Send everybody home, those who wait and those who come back."""
        with self._lock:
            self._dismissed = True
            while self._idle:
                self._idle.pop().set()

    def wait(self, seconds: float | None, *, eager: bool = True, connected: bool = True) -> bool | None:
        """Wait to be called: True if so, False if dismissed, None if nothing was for so long.

        Who is `eager` does not even sit down while more is due. Who is not `connected` is called after all others.
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


class SendingCrew(Crew):
    """Sends by threads of its own. They need no list: what is due stands in the table, and they take from there.

    As many are at work as pays. While mails are sent fast, one or two send them all. While each mail takes long, a hand
    that has claimed one calls the next: waiting costs a thread and a connection, and next to no time of a processor.
    """

    def __init__(self, hands: int) -> None:
        super().__init__(hands)
        self._threads.append(threading.Thread(target=self._relieve, name="mail-relief", daemon=True))
        self._hands = hands
        self._idle_hands = IdleHands()
        self._sending = 0
        self._batch = 1
        self._counting = threading.Lock()
        self._most, self._most_until = hands, float("inf")
        self._held_back = False

    def owe(self, pks: Iterable[uuid.UUID]) -> None:
        if any(True for _ in pks):
            self.sweep()

    def sweep(self) -> None:
        self._call(if_useful=not (self._sending or self._idle_hands.coming) or _mails_take_long())

    def dismiss(self) -> None:
        self._idle_hands.dismiss()

    def _call(self, *, if_useful: bool = True) -> None:
        """Say that more is due, and wake one more hand if that is useful and the mail server takes it."""
        self._idle_hands.call(wake=if_useful and self._sending < self._most)

    def _work(self) -> None:
        connection, go_on = PatientConnection(), True
        while go_on:
            # While the server takes no more connections, a hand without one would ask for it over and over.
            may_connect = connection.is_open or self._most == self._hands
            called = self._idle_hands.wait(IDLE_SECONDS, eager=may_connect, connected=connection.is_open)
            if called is None:
                connection.close()
                connections.close_all()
                called = self._idle_hands.wait(None, connected=False)
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
        """Send until nothing is due, and then say False; or leave it to the other hands, or to later, and say True.

        A full batch hints at a backlog, and calls one more hand to it, if that can help. While a mail server is slow,
        each hand waits most of the time, and the more, the better. A fast one leaves them waiting for the interpreter
        alone; then one of them takes a nap, and the others get as much done with less ado. What one hand has found to
        be worth claiming, the next begins with.
        """
        batch = self._batch
        while time.monotonic() < self._deadline:
            if not (allowed := pace.take(batch)).count:
                if not self.stopping.is_set():
                    return True
                time.sleep(min(allowed.wait, NAP_SECONDS, max(0.0, self._deadline - time.monotonic())))
                continue
            begun, used = time.monotonic(), time.thread_time()
            try:
                claimed = self._claim_and_send(connection, allowed)
            except smtp.TooManyConnections:
                return self._make_do(allowed)
            if claimed < allowed.count:
                self._batch = 1
                return False
            took = time.monotonic() - begun + 1e-6
            crowded = self._sending > 1 and self._sending * (time.thread_time() - used) / took > CROWDED
            batch = self._batch = max(1, min(MAX_BATCH, 2 * batch, int(BATCH_WORTH * claimed / took)))
            if not self.stopping.is_set():
                if crowded:
                    return True
                self._call()
        return False

    def _claim_and_send(self, connection: smtp.Connection, allowed: Taken) -> int:
        """Send as many mails as are allowed and due; returns how many were claimed."""

        def call_another(claimed: int) -> None:
            if claimed == allowed.count:
                self._call(if_useful=_mails_take_long())

        # Half of the hands and of the pace is kept for mails whose turn has come: so the first mail of a client finds a
        # hand at once, whatever others have asked for.
        busy = self._sending > self._half
        in_turn = not self.stopping.is_set() and (busy or pace.is_half_used(allowed))
        self._idle_hands.is_more_due = False
        claimed = mailer.send_due(connection, allowed.count, in_turn=in_turn, on_claim=call_another)
        if busy and claimed < allowed.count:
            self._held_back = True
        pace.give_back(allowed, allowed.count - claimed)
        return claimed

    @property
    def _half(self) -> int:
        return max(1, self._hands // 2)

    def _make_do(self, allowed: Taken) -> bool:
        """Be content for a while with the connections that the mail server has taken.

        True, to come back after a nap, where it has taken none of this process: others of its clients hold them all.
        """
        pace.give_back(allowed, allowed.count)
        with self._counting:
            is_news = self._most_until == float("inf")
            self._most, self._most_until = max(1, smtp.Connection.open_now), time.monotonic() + CONTENT_SECONDS
            self._held_back = True  # for a hand that has a connection
        if is_news:
            logger.warning("the mail server takes no more than %d connections", smtp.Connection.open_now)
        return not smtp.Connection.open_now

    @contextmanager
    def _counted(self) -> Iterator[bool]:
        """Count this hand among those at work, unless the server takes no more of them: then it is not welcome."""
        with self._counting:
            if time.monotonic() > self._most_until:
                self._most, self._most_until = self._hands, float("inf")
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
                self._call()

    def _relieve(self) -> None:
        """Look after the hands: a server that says nothing may hold up one mail, but no other."""
        while not self.stopping.wait(RELIEF_SECONDS):
            with surviving("relieve"):
                mailer.relieve()
                if self._idle_hands.is_more_due:  # everybody at work has been busy for all this time
                    self._call()
            close_old_connections()
        connections.close_all()


class PatientConnection(smtp.Connection):
    """A connection whose thread gives its database connection back before it waits long for the mail server."""

    def send(self, message: EmailMessage, *, lease_ends: float = 0.0) -> None:
        _let_the_database_go()
        super().send(message, lease_ends=lease_ends)

    def rehearse(self, message: EmailMessage) -> None:
        _let_the_database_go()
        super().rehearse(message)


def _let_the_database_go() -> None:
    if _mails_take_long():
        connections.close_all()


def _mails_take_long() -> bool:
    return smtp.seconds_of_a_mail() >= LONG_SECONDS


_lock = threading.Lock()
_crew: Crew | None = None
_make_crew: Callable[[], Crew] | None = None


def ring(make_crew: Callable[[], Crew], pk: uuid.UUID | None = None) -> None:
    """Wake this process's crew, which starts with its first ring."""
    global _crew, _make_crew
    crew = _crew
    if crew is None:
        with _lock:
            if _crew is None:
                _crew, _make_crew = make_crew(), make_crew
                _crew.start()
            crew = _crew
    crew.ring(pk)


def stop(timeout: float = DRAIN_SECONDS) -> None:
    """Drain and end this process's crew; a later ring starts another."""
    global _crew, _make_crew
    with _lock:
        crew, _crew, _make_crew = _crew, None, None
    if crew is not None:
        crew.stop(timeout)


def _start_again_after_fork() -> None:
    """Threads do not survive a fork; a server that forks workers after loading the application wants them in each."""
    global _crew, _lock
    _crew, _lock = None, threading.Lock()
    mailer.forget()
    if _make_crew is not None:
        ring(_make_crew)


@contextmanager
def surviving(doing: str) -> Iterator[None]:
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


os.register_at_fork(after_in_child=_start_again_after_fork)
# Not atexit: a worker that multiprocessing started, as granian's are, ends without it. It does end its threads, and
# this is how concurrent.futures hears of that (docs/decisions).
threading._register_atexit(stop)  # type: ignore[attr-defined]
