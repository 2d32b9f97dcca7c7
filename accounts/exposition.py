"""The metrics as Prometheus reads them: what the processes have counted, and what the database knows just now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from django.db.models import Count, Min
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import REGISTRY, Collector

from . import metrics  # noqa: F401 (what is counted is there although nothing has happened yet)
from .choices import Mail
from .models import ForgetPassword, Heartbeat, WebhookDelivery

FORGOTTEN = timedelta(hours=1)
"""An older heartbeat is of a process that has ended; until then it may have died."""


class FromDatabase(Collector):
    """What every process would find: the backlog, and who works on it."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = timezone.now()
        owed = ForgetPassword.objects.exclude(mail_due=Mail.NONE)
        due = owed.filter(mail_next_at__lte=now).aggregate(count=Count("pk"), oldest=Min("mail_next_at"))
        oldest = due["oldest"] or now
        if waiting := ForgetPassword.objects.not_looked().values_list("created_at", flat=True).first():
            oldest = min(oldest, waiting)
        webhooks = WebhookDelivery.objects.filter(next_at__isnull=False)
        yield _gauge("recovery_backlog", "Mails that are due now.", due["count"])
        yield _gauge("recovery_backlog_oldest_seconds", "How long the oldest has been due.", _since(oldest, now))
        yield _gauge("recovery_dead_mails", "Mails that were given up.", owed.dead().count())
        yield _gauge("recovery_webhooks_backlog", "Webhooks that are still to be delivered.", webhooks.count())
        beats = GaugeMetricFamily(
            "recovery_mailer_heartbeat_seconds", "Since a mailing process has swept.", labels=["process"]
        )
        for process, at in Heartbeat.objects.filter(mails=True, at__gt=now - FORGOTTEN).values_list("process", "at"):
            beats.add_metric([process], _since(at, now))
        yield beats


def exposition() -> bytes:
    """All of it in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(FromDatabase())
    if not is_summed():
        return generate_latest(registry) + generate_latest(REGISTRY)
    forget_the_dead(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def is_summed() -> bool:
    """Whether all processes of this machine count together: PROMETHEUS_MULTIPROC_DIR was set when they started."""
    return bool(values.ValueClass._multiprocess)


def refusals() -> dict[str, int]:
    """What limits have refused since the processes were started, by the limit."""
    counted = REGISTRY
    if is_summed():
        counted = CollectorRegistry()
        MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
    samples = (
        sample for family in counted.collect() if family.name == "recovery_refusals" for sample in family.samples
    )
    return {each.labels["limit"]: int(each.value) for each in samples if each.name.endswith("_total")}


def forget_the_dead(folder: Path) -> None:
    """Drop what processes were just doing that have been killed; what they have counted stays."""
    for counts in folder.glob("gauge_live*.db"):
        pid = int(counts.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            pass  # it lives, and is somebody else's


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=value)


def _since(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())
