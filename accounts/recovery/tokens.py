"""Which tokens are believed: those of codes, of links and of reports."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .. import codes
from ..choices import State
from ..conf import TOKEN_LIFETIME, conf
from ..directory import directory
from ..exceptions import InvalidResetToken
from ..limits import rules
from ..lookup import find_mailbox
from ..models import ForgetPassword
from .client import Client


@dataclass(frozen=True, slots=True)
class GoodToken:
    """A token that has been checked against its record and account, as they were when they were read."""

    token: codes.Token
    record: ForgetPassword
    user: Any
    expires_at: datetime

    def still_good(self, now: datetime) -> Q:
        """The token's conditions as the database must still find them at the moment of completion."""
        if self.token.kind is codes.TokenKind.LINK:
            return ~Q(state=State.COMPLETED) & Q(link_issued_at__gt=now - conf.link_lifetime)
        return Q(state=State.VERIFIED, generation=self.record.generation, verified_at__gt=now - TOKEN_LIFETIME)


def believe(text: str, now: datetime, client: Client) -> GoodToken:
    """Check a token against its record and the account as it is now. Only refused tokens are counted for the client.

    Raises InvalidResetToken, whatever is wrong, and RateLimited.
    """
    token = codes.parse_token(text)
    good = _good_token(token, now) if token and codes.token_was_issued(token, *_seed_of(token.record_id)) else None
    if good is None:
        rules.count_refused_token(client.ip)
        raise bad_token()
    rules.check_token_may_be_used(good.record.pk)
    return good


def _seed_of(record_id: uuid.UUID) -> tuple[bytes, int]:
    """Seed and generation of a record, which are enough to tell a forged token.

    Whoever has a handle can make up a token for its record. It is refused after one statement and one MAC for each key,
    whatever the record is and whether there is one, so the time tells nothing.
    """
    columns = ForgetPassword.objects.filter(pk=record_id).values_list("forget_password_otp", "generation")
    seed, generation = columns.first() or (b"", 0)
    return bytes(seed), generation


def _good_token(token: codes.Token, now: datetime) -> GoodToken | None:
    """A token that was issued, with its record and account, if it is good for them as they are now."""
    record = ForgetPassword.objects.select_related("user").filter(pk=token.record_id, superseded_at=None).first()
    if record is None:
        return None
    user = _user_of(token, record)
    if token.kind is codes.TokenKind.CODE:
        expires_at = record.token_expires_at if record.state == State.VERIFIED else None
    else:
        alive = record.link_issued_at is not None and record.state != State.COMPLETED
        expires_at = record.link_issued_at + conf.link_lifetime if alive and record.link_issued_at else None
    if user is None or expires_at is None or now >= expires_at:
        return None
    return GoodToken(token, record, user, expires_at)


def _user_of(token: codes.Token, record: ForgetPassword) -> Any:
    """The account that a token is for, or None; where several share the address, the token's MAC tells which it is."""
    if record.user is not None:
        users = (record.user,)
    else:
        users = find_mailbox(record.email).recoverable if token.kind is codes.TokenKind.LINK else ()
    for user in users:
        bound = directory().bound(user, record.email)
        if codes.token_matches(token, record.seed, bound, record.generation):
            return None if directory().why_not(user, bound.address) else user
    return None


def believe_report(text: str, client: Client) -> ForgetPassword:
    """The record of a report token; only one that is refused counts for the client.

    Raises InvalidResetToken and RateLimited.
    """
    token = codes.parse_report_token(text)
    record = None
    if token and codes.report_matches(token, _seed_of(token.record_id)[0]):
        record = ForgetPassword.objects.filter(pk=token.record_id).first()
    if record is None:
        rules.count_refused_token(client.ip)
        raise bad_token()
    rules.check_token_may_be_used(record.pk)
    return record


def bad_token() -> InvalidResetToken:
    return InvalidResetToken(_("This link or token can no longer be used. Please start a new reset."))
