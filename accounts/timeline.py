"""A reset's timeline in sentences, for support that is asked: where is my email?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from .choices import EventKind, Mail
from .directory import WITHOUT_PASSWORD
from .lookup import UNKNOWN
from .models import ForgetPassword, PasswordResetEvent

_SENTENCES: dict[str, str] = {
    EventKind.STARTED: "Support started it: {reason}.",
    EventKind.LOOKED_UP: "The mailer looked for the account: {reason}.",
    EventKind.MAILED: "The mail server took the email ({reason}).",
    EventKind.NOT_MAILED: "No email went out: {reason}.",
    EventKind.MAIL_FAILED: "The mail server did not take the email; it is tried again.",
    EventKind.MAIL_DEAD: "The email was given up.",
    EventKind.REVIVED: "Support had the email tried again: {reason}.",
    EventKind.RESEND_ASKED: "Another email was asked for{by}.",
    EventKind.WRONG_CODE: "A wrong code was typed.",
    EventKind.VERIFIED: "The right code was typed.",
    EventKind.CANCELLED: "It was cancelled{by}; the emailed link goes on working.",
    EventKind.COMPLETED: "The new password was set.",
    EventKind.ENDED: "Support ended it: {reason}.",
    EventKind.SUPERSEDED: "It ended, for {reason}.",
    EventKind.REPORTED: "The owner reported it: this was not me. {reason}.",
}
_REASONS: dict[tuple[str, str], str] = {
    (EventKind.SUPERSEDED, ""): "another reset of the account was completed",
    (EventKind.SUPERSEDED, "report"): "the owner reported another one",
    (EventKind.REPORTED, "locked"): "The account's password was replaced and its owner sent a link",
    (EventKind.REPORTED, "ended"): "What was under way ended",
    **{(EventKind.MAILED, mail.value): mail.label for mail in Mail if mail},
    (EventKind.MAILED, UNKNOWN): "there is no account",
    (EventKind.MAILED, WITHOUT_PASSWORD): "the account has no password",
}
_NOBODY = {
    UNKNOWN: "there is no account with this address",
    "inactive": "the account is not active",
    WITHOUT_PASSWORD: "the account has no password and signs in another way",
    "no_address": "the account has no address",
    "ambiguous": "several accounts are spelled alike, and none is meant for certain",
    "superseded": "the reset had ended before",
    "moved": "the account has another address now",
}
"""Why there is nobody to mail; a Directory of a project's own may have further reasons."""
_CODES = {EventKind.MAIL_FAILED, EventKind.MAIL_DEAD}
"""Lines whose reason is what the mail server has said, shown as it is."""
_BY = {EventKind.RESEND_ASKED, EventKind.CANCELLED}
"""Lines whose reason, if there is one, is who of support did it."""


class Line(NamedTuple):
    """What happened when, and what to look for in the logs of others: an answer's code, or a provider's id."""

    at: datetime
    text: str
    detail: str = ""


def timeline(record: ForgetPassword) -> Iterator[Line]:
    """The lines of a reset, the oldest first. The first is the record itself, which no event is written for."""
    if record.fresh_link_for_id:
        yield Line(record.created_at, "It was made for the owner of a reported reset.")
    elif not record.by_support:
        yield Line(record.created_at, "Somebody asked for it.", record.client_ip or "")
    for event in record.events.all():
        yield _line(event)


def _line(event: PasswordResetEvent) -> Line:
    kind, reason = EventKind(event.kind), event.reason
    if kind in _CODES:
        return Line(event.created_at, _SENTENCES[kind], reason)
    by = f" by support: {reason}" if reason and kind in _BY else ""
    said = _REASONS.get((kind, reason)) or _NOBODY.get(reason) or reason
    return Line(event.created_at, _SENTENCES[kind].format(reason=said, by=by), event.provider_id)
