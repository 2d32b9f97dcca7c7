"""The words a record may hold: its states, the mail it owes, and the lines of its timeline."""

from django.db import models


class State(models.TextChoices):
    """What is stored. EXPIRED and LOCKED are derived from it and the clock: see `Status`."""

    QUEUED = "QUEUED"
    SENT = "SENT"
    VERIFIED = "VERIFIED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"


OPEN_STATES = (State.QUEUED, State.SENT, State.VERIFIED)


class Status(models.TextChoices):
    """What the holder of a handle is told."""

    QUEUED = "QUEUED"
    SENT = "SENT"
    VERIFIED = "VERIFIED"
    COMPLETED = "COMPLETED"
    EXPIRED = "EXPIRED"
    LOCKED = "LOCKED"
    CANCELLED = "CANCELLED"


class Mail(models.TextChoices):
    """Which mail a record still owes; this column is the outbox."""

    NONE = ""
    CODE = "CODE", "code and link"
    LINK = "LINK", "link alone"
    CHANGED = "CHANGED", "the password was changed"


class WebhookEvent(models.TextChoices):
    """What a webhook tells of."""

    REQUESTED = "recovery.requested", "requested"
    COMPLETED = "recovery.completed", "completed"
    REPORTED = "recovery.reported", "reported"
    UNDELIVERED = "recovery.undelivered", "undelivered"


class EventKind(models.TextChoices):
    """The lines of a record's timeline, which answers support's question: why did nothing arrive?"""

    STARTED = "STARTED"
    LOOKED_UP = "LOOKED_UP"
    MAILED = "MAILED"
    NOT_MAILED = "NOT_MAILED"
    MAIL_FAILED = "MAIL_FAILED"
    MAIL_DEAD = "MAIL_DEAD"
    REVIVED = "REVIVED"
    RESEND_ASKED = "RESEND_ASKED"
    WRONG_CODE = "WRONG_CODE"
    VERIFIED = "VERIFIED"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    ENDED = "ENDED"
    SUPERSEDED = "SUPERSEDED"
    REPORTED = "REPORTED"
