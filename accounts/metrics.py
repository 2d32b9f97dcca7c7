"""What operators count and measure, written where it happens: docs/operations.md says what each of it means.

Each process counts for itself, in files of PROMETHEUS_MULTIPROC_DIR where that is set, so that an answer can sum all
processes of a machine up. No label has an address, a handle or an account for its value: values are few, and are
written in this code.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

OPERATIONS = Counter("recovery_operations", "Verbs that were asked for, by what became of them.", ["verb", "outcome"])
REFUSALS = Counter("recovery_refusals", "What a limit has refused, by the limit.", ["limit"])
MAILS = Counter("recovery_mails", "Tries to send a mail, by its kind and what became of it.", ["kind", "outcome"])
MAIL_AGE = Histogram(
    "recovery_mail_age_seconds",
    "From the request, or the latest resend, until the mail server has taken the mail.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400),
)
HASHING = Gauge("recovery_hashing_in_flight", "Passwords that are being hashed.", multiprocess_mode="livesum")
WEBHOOKS = Counter("recovery_webhooks", "Tries to deliver a webhook, by event and outcome.", ["event", "outcome"])
