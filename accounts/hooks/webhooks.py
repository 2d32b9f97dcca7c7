"""Events that leave: each is a row for each receiver, written in the transaction that it tells of.

So none is lost, and none is told that did not happen. `recovery.requested` is written for every request once it has
been looked up, known and unknown alike, and says nothing of the account.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from ..choices import WebhookEvent
from ..models import WebhookDelivery
from .endpoints import endpoints

bells: defaultdict[str, threading.Event] = defaultdict(threading.Event)
"""One for each receiver, rung when this process has written something for it."""


def tell(event: WebhookEvent, record_id: uuid.UUID, **facts: Any) -> None:
    """Write an event of one reset, as part of the transaction at hand."""
    tell_all(event, {record_id: facts})


def tell_all(event: WebhookEvent, records: Mapping[uuid.UUID, Mapping[str, Any]]) -> None:
    """The same for several, each with its own facts."""
    now = timezone.now()
    receivers = [endpoint.name for endpoint in endpoints() if event in endpoint.events]
    rows = [
        WebhookDelivery(record_id=pk, endpoint=name, event=event, body=_body(event, now, pk, facts), created_at=now)
        for pk, facts in records.items()
        for name in receivers
    ]
    if not rows:
        return
    WebhookDelivery.objects.bulk_create(rows)

    # A named function: Django 5.2 logs a failed robust callback by its __qualname__, which a partial has not.
    def ring() -> None:
        for name in receivers:
            bells[name].set()

    transaction.on_commit(ring, robust=True)


def _body(event: WebhookEvent, now: datetime, record_id: uuid.UUID, facts: Mapping[str, Any]) -> str:
    data = {"reset": str(record_id), **facts}
    return json.dumps({"type": event.value, "timestamp": now.astimezone(UTC).isoformat(), "data": data})
