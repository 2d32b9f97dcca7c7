"""Whether this process can serve: what load balancers ask for, and what operators read.

Anybody may ask, so nothing is told that only a known address changes, as the mails that are due, or fail, would be.
Look takes every row alike; how long it is behind tells that no mailer runs, or that the mail server is down.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

from django.db import Error, connections, router, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from .conf import conf
from .limits import counter, rules
from .models import ForgetPassword, Heartbeat

logger = logging.getLogger(__name__)

CACHE_SECONDS = 2.0
"""How long an answer is good, so that whoever asks very often costs nothing."""
PATIENCE = 3.0
"""Seconds that others wait for whoever is asking the database; then it is silent."""
BEHIND_SECONDS = 60
"""How long, besides a sweep's own pause, a request may wait to be looked at before that is worth a word."""
BROKER_SECONDS = 1.0
PROBE = "readiness"
"""The row that is written to find out whether the database takes writes: all processes share it."""
SPILL = """
SET LOCAL work_mem = '64kB';
SET LOCAL temp_tablespaces = '';
SELECT count(*) FROM generate_series(1, 20000)
"""
"""Needs some 300 kB of PostgreSQL's disk for a moment. A write alone can find room in a page that is there already, and
then all is well here while most requests fail."""
OK = "ok"
REASONS = {
    "25006": "read-only",
    "53100": "full",
    "SQLITE_READONLY": "read-only",
    "SQLITE_FULL": "full",
}
"""What a database's own code for an error means here."""


class Readiness:
    """What this process has found out about what it needs, asked by one thread at a time."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._asked_at = float("-inf")
        self._facts: dict[str, str] = {}
        self._is_migrated = False

    def facts(self) -> dict[str, str]:
        """The `status`, `ok`, `degraded` or `unavailable`, and what it is made of. Waits for PATIENCE at the most.

        But for whoever asks first: that one waits for as long as the database's own bounds let it.
        """
        if not self._asking.acquire(timeout=PATIENCE):
            return self._summed_up(database="silent")
        try:
            if time.monotonic() - self._asked_at >= CACHE_SECONDS:
                before, self._facts = self._facts.get("database", OK), self._ask()
                if (now := self._facts["database"]) != before:
                    logger.warning("the database is %s", now)
                self._asked_at = time.monotonic()
            return self._facts
        finally:
            self._asking.release()

    def _ask(self) -> dict[str, str]:
        try:
            if (database := self._ask_database()) != OK:
                return self._summed_up(database=database)
            oldest = ForgetPassword.objects.not_looked().values_list("created_at", flat=True).first()
        except Error as error:
            connections.close_all()
            return self._summed_up(database=_reason(error))
        patience = timedelta(seconds=BEHIND_SECONDS + conf.MAIL_SWEEP_SECONDS)
        mailer = OK if oldest is None or timezone.now() - oldest < patience else "behind"
        more = {"broker": _ask_broker()} if conf.MAIL_DISPATCH == "celery" else {}
        return self._summed_up(database=OK, mailer=mailer, codes=OK if rules.codes_are_served() else "stopped", **more)

    def _ask_database(self) -> str:
        """Whether it has all of its tables, takes a write, and has room for more; raises what it raises."""
        alias = router.db_for_write(ForgetPassword)
        if not self._is_migrated:
            executor = MigrationExecutor(connections[alias])
            if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                return "not migrated"
            self._is_migrated = True
        Heartbeat.beat(PROBE, timezone.now())
        if connections[alias].vendor == "postgresql":
            with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
                cursor.execute(SPILL)
        return OK

    def _summed_up(self, **facts: str) -> dict[str, str]:
        facts = {"database": facts["database"], "limits": counter.backend_in_use(), **facts}
        if facts["database"] != OK:
            return {"status": "unavailable", **facts}
        fine = {OK, "redis", "memory"}.issuperset(facts.values())
        return {"status": OK if fine else "degraded", **facts}


def _reason(error: Error) -> str:
    """What the operator reads; never the text of an error, which may hold anything."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return REASONS.get(str(code), "unavailable")


def _ask_broker() -> str:
    from celery import current_app  # only here is Celery needed
    from kombu.exceptions import OperationalError

    try:
        with current_app.connection_for_write(connect_timeout=BROKER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
    except OperationalError:
        return "down"
    return OK


readiness = Readiness()
