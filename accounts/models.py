"""The record of a reset, which is also the outbox of its mails; the guesses an address has left; the audit timeline."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.db import models
from django.db.models import Q
from django.utils import timezone

from . import codes, traces
from .choices import EventKind, Mail, State, Status, WebhookEvent
from .conf import GUESSES_IN_A_ROW, GUESSES_PER_DAY, MAX_ATTEMPTS, MAX_RESENDS, OPEN_LIFETIME, TOKEN_LIFETIME, conf
from .querysets import PERSONAL, ForgetPasswordQuerySet
from .statements import Insert

POLLS = (
    (timedelta(minutes=1), timedelta(seconds=2)),
    (timedelta(minutes=10), timedelta(seconds=5)),
    (timedelta.max, timedelta(seconds=15)),
)
"""Up to which age of the latest mail a page asks how often. Two pages of a reset are within the limit of its handle."""


class ForgetPassword(models.Model):
    """One "I forgot my password", from the request to the new password.

    Known and unknown addresses get the very same row; whether there is an account is looked up later, by the mailer.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        conf.user_model,
        on_delete=models.SET_NULL,
        # The table may be another system's, which deletes its rows without asking us.
        db_constraint=False,
        null=True,
        blank=True,
        related_name="password_resets",
        help_text="The account, once looked up; null where there is none, or several.",
    )
    forget_password_otp = models.BinaryField(
        max_length=codes.SEED_BYTES,
        default=codes.new_seed,
        editable=False,
        help_text="The random seed; handle, code, link and token are derived from it with the server's key.",
    )
    is_user_password_updated = models.BooleanField(default=False, help_text="True once a new password has been set.")
    created_at = models.DateTimeField(default=timezone.now, help_text="When the reset was requested.")
    updated_at = models.DateTimeField(default=timezone.now)

    email = models.CharField(
        max_length=254, blank=True, help_text="As typed; wiped once looked up and found to be nobody's, or old."
    )
    email_digest = models.CharField(max_length=64, help_text="Keyed digest of the folded address.")
    idempotency_digest = models.CharField(max_length=64, null=True, unique=True, blank=True)
    locale = models.CharField(max_length=35, blank=True)
    client_ip = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)
    traceparent = models.CharField(
        max_length=55,
        default=traces.current,
        blank=True,
        editable=False,
        help_text="The trace that the request belongs to, by W3C Trace Context; empty where nobody traces.",
    )

    brand = models.CharField(max_length=40, blank=True, help_text="Which of BRANDS it has; empty: the default.")
    by_support = models.BooleanField(default=False, help_text="Support started it for the owner, whose mail says so.")

    state = models.CharField(max_length=9, choices=State, default=State.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    generation = models.PositiveIntegerField(default=0, help_text="Which code of this reset is the current one.")
    resends = models.PositiveSmallIntegerField(default=0)
    looked_at = models.DateTimeField(null=True, blank=True, help_text="When the mailer looked for the account.")
    sent_at = models.DateTimeField(null=True, blank=True, help_text="The start of the clock that its holder is shown.")
    code_issued_at = models.DateTimeField(null=True, blank=True, help_text="The start of the code's own life.")
    code_key = models.CharField(
        max_length=16, blank=True, default="", editable=False, help_text="Which server key the code was issued under."
    )
    link_issued_at = models.DateTimeField(null=True, blank=True, help_text="The start of the link's own life.")
    verified_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    superseded_at = models.DateTimeField(
        null=True, blank=True, help_text="When another reset of the account completed, or the owner reported one."
    )
    reported_at = models.DateTimeField(null=True, blank=True, help_text="When the owner said: this was not me.")
    fresh_link_for = models.OneToOneField(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="fresh_link",
        help_text="The reported reset whose owner this one mails a fresh link.",
    )

    mail_due = models.CharField(max_length=7, choices=Mail, default=Mail.CODE, blank=True)
    mail_asked_at = models.DateTimeField(default=timezone.now, help_text="When a mail was last asked for.")
    mail_attempts = models.PositiveSmallIntegerField(default=0)
    mail_next_at = models.DateTimeField(
        null=True, blank=True, default=timezone.now, help_text="When to try; null while a mail is due: dead."
    )
    mail_turn_at = models.DateTimeField(
        null=True,
        blank=True,
        default=timezone.now,
        help_text="Its place in the queue: when it was due, and later for each mail its client had asked for before.",
    )
    mail_claimed_at = models.DateTimeField(null=True, blank=True)
    mail_error = models.CharField(max_length=40, blank=True, help_text="A reason code, never a secret.")

    objects = ForgetPasswordQuerySet.as_manager()

    spent: Spent | None = None
    """The guesses that the address has spent, where they were read together with the record."""

    class Meta:
        verbose_name = "password reset"
        permissions = [
            ("start_reset", "Can start a reset for somebody"),
            ("send_again", "Can have an email sent again"),
            ("cancel_reset", "Can cancel a reset, as its holder can"),
            ("mail_again", "Can try dead mails again"),
            ("end_reset", "Can end a reset for good"),
            ("erase_person", "Can erase all resets of a person"),
        ]
        indexes = [
            models.Index(fields=["email_digest", "created_at"], name="reset_by_address"),
            models.Index(fields=["created_at"], condition=Q(looked_at=None), name="reset_not_looked"),
            models.Index(fields=["mail_turn_at"], condition=~Q(mail_due=Mail.NONE), name="reset_mail_due"),
            models.Index(fields=["created_at"], name="reset_created"),
            models.Index(fields=["created_at"], condition=PERSONAL, name="reset_personal"),
            models.Index(fields=["reported_at"], condition=Q(reported_at__isnull=False), name="reset_reported"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=State.values), name="reset_state_known"),
            models.CheckConstraint(condition=Q(mail_due__in=Mail.values), name="reset_mail_known"),
            models.CheckConstraint(condition=Q(attempts__lte=MAX_ATTEMPTS), name="reset_attempts_bounded"),
            models.CheckConstraint(condition=Q(resends__lte=MAX_RESENDS), name="reset_resends_bounded"),
            models.CheckConstraint(
                condition=Q(state=State.COMPLETED, is_user_password_updated=True, completed_at__isnull=False)
                | (~Q(state=State.COMPLETED) & Q(is_user_password_updated=False, completed_at=None)),
                name="reset_completed_is_updated",
            ),
            models.CheckConstraint(
                condition=Q(looked_at=None, sent_at=None) | Q(looked_at__isnull=False, sent_at__isnull=False),
                name="reset_sent_when_looked",
            ),
            models.CheckConstraint(
                condition=Q(state__in=(State.QUEUED, State.CANCELLED)) | Q(looked_at__isnull=False),
                name="reset_looked_before_it_moves",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.VERIFIED) | Q(verified_at__isnull=False), name="reset_verified_has_a_time"
            ),
            models.CheckConstraint(
                condition=Q(code_issued_at=None) | Q(generation__gt=0), name="reset_code_has_a_generation"
            ),
            models.CheckConstraint(
                condition=~Q(mail_due=Mail.NONE) | Q(mail_claimed_at=None, mail_next_at=None, mail_turn_at=None),
                name="reset_claims_a_due_mail",
            ),
            # Or no claim would find it.
            models.CheckConstraint(
                condition=Q(mail_next_at=None) | Q(mail_turn_at__isnull=False), name="reset_next_try_has_a_turn"
            ),
            models.CheckConstraint(
                condition=Q(reported_at=None) | Q(state=State.COMPLETED) | Q(superseded_at__isnull=False),
                name="reset_reported_is_over",
            ),
        ]

    def __str__(self) -> str:
        return f"password reset {self.pk}"

    def _do_insert(self, manager: Any, using: str, fields: Any, returning_fields: Any, raw: bool) -> Any:
        """What `save` calls to insert a row: the same INSERT, written once instead of anew for each row."""
        if raw or returning_fields:
            return super()._do_insert(manager, using, fields, returning_fields, raw)  # type: ignore[misc]
        insert_reset([self], using=using)
        return []

    def refresh_from_db(self, *args: Any, **options: Any) -> None:
        self.spent = None
        super().refresh_from_db(*args, **options)

    @property
    def seed(self) -> bytes:
        # psycopg hands out memoryviews, which neither hash nor print like bytes.
        return bytes(self.forget_password_otp)

    @property
    def handle(self) -> str:
        """The public requestId: derived, never stored."""
        return codes.handle(self.id, self.seed)

    @property
    def match_phrase(self) -> str:
        return codes.match_phrase(self.id, self.seed)

    @property
    def expires_at(self) -> datetime | None:
        """The end of the clock that the holder is shown; it runs alike with and without an account."""
        return self.sent_at and self.sent_at + conf.code_lifetime

    @property
    def resend_available_at(self) -> datetime:
        return self.mail_asked_at + conf.cooldown

    def poll_after(self, now: datetime) -> timedelta:
        """How long its holder's page should wait before it asks again: the longer, the older its latest mail is."""
        age = now - self.mail_asked_at
        return next(pause for until, pause in POLLS if age < until)

    @property
    def token_expires_at(self) -> datetime | None:
        return self.verified_at and self.verified_at + TOKEN_LIFETIME

    def is_open(self, now: datetime) -> bool:
        """Whether it may still be resent, and a late code still be proven; a reset not yet looked at is open."""
        return self.looked_at is None or now < self.looked_at + OPEN_LIFETIME

    @property
    def is_under_way(self) -> bool:
        """Whether it could still complete, as far as the row tells; the clocks are not asked."""
        return self.superseded_at is None and self.state != State.COMPLETED

    def may_still_act(self, now: datetime) -> bool:
        """Whether anything of it still works: a resend, a code, a link, or a mail that is still to come."""
        link_lives = self.link_issued_at is not None and now < self.link_issued_at + conf.link_lifetime
        return self.is_under_way and (self.is_open(now) or link_lives or self.mail_due != Mail.NONE)

    def code_lives(self, now: datetime) -> bool:
        return self.code_issued_at is not None and now < self.code_issued_at + conf.code_lifetime

    def attempts_left(self, spent: Spent, now: datetime) -> int:
        """The least of what this reset, the address's day and the address's row of failures still allow."""
        return max(0, min(MAX_ATTEMPTS - self.attempts, spent.left(now)))

    def status(self, attempts_left: int, now: datetime) -> Status:
        """What to show, from the stored state, the budget and the clock, in the design's order of precedence."""
        if self.state in (State.COMPLETED, State.CANCELLED):
            return Status(self.state)
        if self.token_expires_at and now < self.token_expires_at:
            return Status.VERIFIED
        if attempts_left == 0:
            return Status.LOCKED
        if self.state == State.VERIFIED or (self.expires_at and now >= self.expires_at):
            return Status.EXPIRED
        return Status(self.state)


insert_reset = Insert(ForgetPassword)
"""What `ForgetPassword.save` inserts a row by."""


class Spent(NamedTuple):
    """The guesses that an address has spent; none where it has no GuessBudget."""

    day: date = date.min
    used_today: int = 0
    in_a_row: int = 0

    def left(self, now: datetime) -> int:
        today = GUESSES_PER_DAY - (self.used_today if self.day == utc_day(now) else 0)
        return max(0, min(today, GUESSES_IN_A_ROW - self.in_a_row))


class GuessBudget(models.Model):
    """How often codes have been guessed for one address, over all its resets, known or unknown alike."""

    email_digest = models.CharField(max_length=64, unique=True)
    day = models.DateField(help_text="The UTC day that used_today counts.")
    used_today = models.PositiveSmallIntegerField(default=0)
    in_a_row = models.PositiveSmallIntegerField(default=0)

    def __str__(self) -> str:
        return f"guesses for {self.email_digest[:8]}"


class PasswordResetEvent(models.Model):
    """A line of the timeline; the record's own `created_at` is the first, so that a request costs one INSERT."""

    record = models.ForeignKey(ForgetPassword, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=12, choices=EventKind)
    reason = models.CharField(max_length=40, blank=True, help_text="A reason code, never a secret.")
    provider_id = models.CharField(
        max_length=100, blank=True, help_text="By which the mail provider's own log knows the mail, where it has said."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S} {self.kind} {self.reason}".strip()

    @classmethod
    def write(cls, record_id: uuid.UUID, kind: EventKind, reason: str = "", **more: Any) -> None:
        cls.objects.create(record_id=record_id, kind=kind, reason=reason, **more)


class WebhookDelivery(models.Model):
    """An event that one receiver is still to hear of, or has heard of. It holds no secret and no address.

    Like a record's mail it is an outbox: whatever dies, what was written here is sent, perhaps more than once and then
    under the same id.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    record = models.ForeignKey(ForgetPassword, on_delete=models.CASCADE, related_name="webhooks")
    endpoint = models.CharField(max_length=40, help_text="The receiver's name in WEBHOOKS.")
    event = models.CharField(max_length=30, choices=WebhookEvent)
    body = models.TextField(help_text="What is sent, to the letter.")
    created_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(
        null=True, blank=True, default=timezone.now, help_text="When to try; null once delivered, or given up."
    )
    claimed_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=40, blank=True, help_text="Why the latest try failed, as a reason code.")

    class Meta:
        verbose_name = "webhook"
        permissions = [("deliver_again", "Can try given-up webhooks again")]
        indexes = [
            models.Index(fields=["endpoint", "next_at"], condition=Q(next_at__isnull=False), name="webhook_due"),
            models.Index(fields=["created_at"], name="webhook_created"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.endpoint}"


class Heartbeat(models.Model):
    """When a process last showed, by a write, that it and the database are well."""

    process = models.CharField(max_length=100, primary_key=True)
    at = models.DateTimeField()
    mails = models.BooleanField(default=False, help_text="Whether it is a process that mails.")

    def __str__(self) -> str:
        return f"{self.process} at {self.at:%Y-%m-%d %H:%M:%S}"

    @staticmethod
    def beat(process: str, now: datetime, *, mails: bool = False) -> None:
        """Say of a process that it is well."""
        if not Heartbeat.objects.filter(pk=process).update(at=now):
            Heartbeat.objects.bulk_create([Heartbeat(process=process, at=now, mails=mails)], ignore_conflicts=True)


insert_events = Insert(PasswordResetEvent)
"""Inserts several lines of the timeline at once."""


def utc_day(now: datetime) -> date:
    """The day that daily budgets count in."""
    return now.astimezone(UTC).date()
