"""Sends the events that are due to their receivers, signed as Standard Webhooks has it.

Each receiver has a thread of its own, so that one that hangs is in nobody's way. A try ends after TIMEOUT seconds,
follows no redirect and reads no body. What fails comes again, later and later, for a day.
"""

from __future__ import annotations

import http.client
import logging
import random
import socket
import ssl
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import close_old_connections, connections, router, transaction
from django.db.models import F, Q
from django.utils import timezone
from standardwebhooks import Webhook

from ..conf import conf
from ..metrics import WEBHOOKS
from ..models import WebhookDelivery
from ..networks import is_public
from .endpoints import Endpoint, endpoints
from .webhooks import bells

logger = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for one try, from the first packet to the answer's first line."""
BATCH = 20
LEASE = timedelta(minutes=5)
"""How long a claimed delivery is left to its claimant. What it has not tried in half of that is given back."""
PAUSES = [timedelta(seconds=seconds) for seconds in (5, 60, 300, 900, 1800, 3600, 7200, 14_400)]
"""After each failure; the last one from then on. A quarter more or less is random, so that tries spread."""
PATIENCE = timedelta(days=1)
"""How long an event is tried at all."""
GONE = 410


class NotPublic(Exception):
    """The receiver's address is one of a private network, and WEBHOOKS does not allow that."""


def run(name: str, stopping: threading.Event) -> None:
    """Deliver what is due to one receiver until told to stop: at each ring, and at each sweep."""
    bell = bells[name]
    while not stopping.is_set():
        bell.clear()
        try:
            while not stopping.is_set() and deliver_due(name, stopping):
                pass
        except Exception as error:  # noqa: BLE001 (the database is away; the next sweep tries again)
            logger.error("webhooks to %s wait: %s", name, type(error).__name__)  # noqa: TRY400 (its text may hold anything)
        close_old_connections()
        bell.wait(conf.MAIL_SWEEP_SECONDS)
    connections.close_all()


def jobs(stopping: threading.Event) -> list[tuple[str, Callable[[], None]]]:
    """The threads that a mailing process needs for this, by name."""

    def job(name: str) -> Callable[[], None]:
        return lambda: run(name, stopping)

    return [(f"webhook-{endpoint.name}", job(endpoint.name)) for endpoint in endpoints()]


def retire() -> None:
    """Wake the threads, so that they see that they are to stop."""
    for bell in bells.values():
        bell.set()


def deliver_due(name: str, stopping: threading.Event | None = None) -> int:
    """Claim what is due to one receiver, and try it. Returns how many were claimed."""
    endpoint = next((each for each in endpoints() if each.name == name), None)
    if endpoint is None:
        return 0
    claimed_at = timezone.now()
    rows = _claim(name, claimed_at)
    for number, row in enumerate(rows):
        is_late = timezone.now() - claimed_at > LEASE / 2  # a name can take long to be looked up
        if is_late or (stopping is not None and stopping.is_set()):
            _release([each.pk for each in rows[number:]], claimed_at)
            break
        _settle(row, claimed_at, _try(endpoint, row))
    return len(rows)


def _claim(name: str, now: datetime) -> list[WebhookDelivery]:
    due = WebhookDelivery.objects.filter(
        Q(claimed_at=None) | Q(claimed_at__lte=now - LEASE), endpoint=name, next_at__lte=now
    )
    with transaction.atomic(using=router.db_for_write(WebhookDelivery)):
        rows = list(due.select_for_update(skip_locked=True).order_by("next_at")[:BATCH])
        WebhookDelivery.objects.filter(pk__in=[row.pk for row in rows]).update(
            claimed_at=now, attempts=F("attempts") + 1
        )
    return rows


def _release(pks: list[uuid.UUID], claimed_at: datetime) -> None:
    """Give back what was not tried; the try does not count."""
    WebhookDelivery.objects.filter(pk__in=pks, claimed_at=claimed_at).update(
        claimed_at=None, attempts=F("attempts") - 1
    )


def _settle(row: WebhookDelivery, claimed_at: datetime, error: str) -> None:
    """Write down how a try went. Fenced: only the claim that still holds may say so."""
    now = timezone.now()
    changes: dict[str, Any] = {"claimed_at": None, "error": error}
    WEBHOOKS.labels(row.event, "failed" if error else "delivered").inc()
    if not error:
        changes |= {"delivered_at": now, "next_at": None}
    else:
        pause = PAUSES[min(row.attempts, len(PAUSES) - 1)] * random.uniform(0.75, 1.25)  # nosec B311 # noqa: S311 (spreads load, guards nothing)
        given_up = error == f"http_{GONE}" or now + pause > row.created_at + PATIENCE
        changes["next_at"] = None if given_up else now + pause
        facts = {"endpoint": row.endpoint, "delivery": row.pk, "record": row.record_id, "reason": error}
        logger.warning({"event": "webhook given up" if given_up else "webhook failed", **facts})
    WebhookDelivery.objects.filter(pk=row.pk, claimed_at=claimed_at).update(**changes)


def _try(endpoint: Endpoint, row: WebhookDelivery) -> str:
    """Send one event; the reason code of what went wrong, or nothing where the receiver has answered with a 2xx."""
    try:
        status = _post(endpoint, row)
    except NotPublic:
        return "private_address"
    except TimeoutError:
        return "timeout"
    except ssl.SSLError:
        return "tls"
    except socket.gaierror:
        return "name"
    except http.client.HTTPException:
        return "answer"
    except OSError:
        return "network"
    return "" if 200 <= status < 300 else f"http_{status}"


def _post(endpoint: Endpoint, row: WebhookDelivery) -> int:
    parts, now, name = urlsplit(endpoint.url), timezone.now(), f"msg_{row.pk.hex}"
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "account-recovery",
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(name, now, row.body) for secret in endpoint.secrets),
    }
    connection = _Connection(str(parts.hostname), parts.port or 443, private=endpoint.private)
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    over = threading.Event()

    def cut() -> None:
        over.set()
        connection.abort()

    watch = threading.Timer(TIMEOUT, cut)
    watch.daemon = True
    watch.start()
    try:
        connection.request("POST", target, row.body.encode(), headers)
        return connection.getresponse().status
    finally:
        watch.cancel()
        connection.close()
        if over.is_set():  # an answer that drips is cut off, and may then look like anything
            raise TimeoutError


class _Connection(http.client.HTTPSConnection):
    """Connects to an address that has been looked at, so that a name cannot mean another one a moment later."""

    def __init__(self, host: str, port: int, *, private: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT, context=ssl.create_default_context())
        self._private = private

    def connect(self) -> None:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]) for *_, address in found]
        if not self._private and not all(map(is_public, addresses)):
            raise NotPublic
        plain = socket.create_connection((addresses[0], self.port), TIMEOUT)
        self.sock = plain
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]

    def abort(self) -> None:
        """Cut the connection, from another thread."""
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return
