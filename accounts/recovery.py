"""The use cases: request, resend, verify, reset, cancel, report, and the questions a form may ask on the way.

Each function is one row of the verb and state table in docs/states.md. Whoever calls them is trusted with nothing: a
handle or a token is checked before anything else is done with the record it names. Known and unknown addresses run the
same statements throughout.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.password_validation import password_changed
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import codes, limits, passwords, signals
from accounts.addresses import clean_address, fold, without_invisible
from accounts.choices import OPEN_STATES, EventKind, Mail, State, Status
from accounts.conf import IDEMPOTENCY_LIFETIME, MAX_RESENDS, OPEN_LIFETIME, TOKEN_LIFETIME, conf
from accounts.exceptions import InvalidCode, InvalidInput, InvalidResetToken, RateLimited, UnknownRequest
from accounts.hashing import hash_password
from accounts.lookup import email_of, find_mailbox, why_not_mailable
from accounts.models import ForgetPassword, GuessBudget, PasswordResetEvent, account_of, utc_day
from accounts.querysets import turn_of

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{22,200}")
"""22 characters of base64 hold 128 random bits, and a key that can be guessed would hand out somebody's handle."""
LOCALE = re.compile(r"[A-Za-z0-9]{1,8}([-_][A-Za-z0-9]{1,8}){0,3}")
LOCK_BYTES = 32
"""Random bytes of a password that nobody shall know: 256 bits, as a seed has."""
_NOBODY = codes.Account(key="nobody", password="!" * 97, address="nobody@example.com")
"""What a code is compared against where there is no account: as long as one commonly is, and nobody's."""
_SEPARATORS = re.compile(r"[\s\-\u2010-\u2015\u2212\u00b7.]+")


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, as far as the network tells."""

    ip: str
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a right code buys."""

    reset_token: str
    expires_at: datetime
    record: ForgetPassword


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report has done: how many resets that might still have acted it ended, and whether it mails a link."""

    ended: int
    fresh_link: bool


def request(email: str, client: Client, *, idempotency_key: str | None = None, locale: str = "") -> ForgetPassword:
    """Start a reset: validate, count, insert one row. The row's post_save signal does the rest.

    Raises InvalidInput and RateLimited, the same for every address.
    """
    address = clean_address(email)
    if locale and not LOCALE.fullmatch(locale):
        raise InvalidInput("locale", _("That is no language tag, such as en or pt-BR."))
    if idempotency_key is not None and not IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        raise InvalidInput("idempotencyKey", _("An idempotency key is 22 to 200 random characters without spaces."))
    rank = limits.check_client_may_request(client.ip)
    folded = fold(address)
    record = ForgetPassword(
        email=address,
        email_digest=codes.address_digest(folded),
        idempotency_digest=codes.idempotency_digest(idempotency_key, folded) if idempotency_key else None,
        locale=locale,
        client_ip=client.ip,
        user_agent=_printable(client.user_agent)[:200],
        mail_turn_at=turn_of(rank, timezone.now()),
    )
    if idempotency_key:
        return _insert_once(record, client)
    limits.check_address_may_request(record.email_digest, client.ip)
    record.save(force_insert=True)
    return record


def status(handle: str, client: Client) -> ForgetPassword | None:
    """The record of a handle, or None for one that was never issued. Raises RateLimited."""
    record = _find(handle)
    limits.check_client_may_use_handle(client.ip, record.pk if record else None)
    return record


def resend(handle: str, client: Client) -> ForgetPassword:
    """Owe the mail once more. Raises UnknownRequest and RateLimited."""
    now = timezone.now()
    record = _require(status(handle, client))
    rank = limits.check_client_may_request(client.ip)
    shown = shown_status(record, now)
    if shown in (Status.COMPLETED, Status.CANCELLED) or not record.is_open(now):
        raise _unknown()
    if now < record.resend_available_at:
        raise _too_soon(record, now, client)
    if record.state == State.QUEUED:
        return record  # its first mail is still due
    if record.resends >= MAX_RESENDS:
        closes = (record.looked_at or now) + OPEN_LIFETIME
        message = _("This reset has been mailed as often as it can be. Please start a new one.")
        raise RateLimited((closes - now).total_seconds(), message, limit="resends")
    limits.check_address_may_be_mailed(record.email_digest, client.ip)
    mail = Mail.LINK if shown == Status.LOCKED else Mail.CODE
    if not ForgetPassword.objects.resend(record.pk, mail, now, rank):
        # Somebody else moved the row since it was read; say what they would be told now.
        record.refresh_from_db()
        raise _too_soon(record, now, client) if record.state in (State.SENT, State.VERIFIED) else _unknown()
    PasswordResetEvent.write(record.pk, EventKind.RESEND_ASKED)
    signals.mail_due.send(sender=ForgetPassword, pk=record.pk)
    record.refresh_from_db()
    return record


def verify(handle: str, code: str, client: Client) -> Verified:
    """Trade the mailed code for a token. Every well-formed guess is counted before it is compared.

    Counted first, and each count committed on its own, so that neither parallel guesses nor a crash in between get a
    comparison for nothing. Only the client's count is given back for a right one: others may share its address. Raises
    UnknownRequest, InvalidCode and RateLimited.
    """
    now = timezone.now()
    record = _require(_find(handle))
    give_back = limits.check_client_may_verify(client.ip)
    shown = shown_status(record, now)
    if shown in (Status.COMPLETED, Status.CANCELLED) or (shown == Status.EXPIRED and not record.is_open(now)):
        raise _over()
    if shown == Status.LOCKED:
        raise _locked()
    digits = _digits(code)
    if len(digits) != conf.PASSWORD_RESET_CODE_LENGTH:
        raise InvalidCode(attempts_left(record, now), _("That is not how a code looks."))
    guess = limits.count_guess()
    if not ForgetPassword.objects.count_attempt(record.pk, now):
        limits.give_guess_back(guess)
        record.refresh_from_db()
        raise _locked() if record.state in OPEN_STATES else _over()
    if not GuessBudget.objects.spend(record.email_digest, utc_day(now)):
        limits.give_guess_back(guess)
        raise _locked()
    proven = _proven(record, digits, now)
    if proven is None or not ForgetPassword.objects.verify(proven.pk, proven.generation, now):
        PasswordResetEvent.write(record.pk, EventKind.WRONG_CODE)
        record.refresh_from_db()
        raise InvalidCode(attempts_left(record, now), _("That is not the code."))
    limits.give_guess_back(guess)
    give_back()
    record = proven
    token = codes.code_token(record.pk, record.seed, account_of(record.user), record.generation + 1)
    PasswordResetEvent.write(record.pk, EventKind.VERIFIED)
    record.refresh_from_db()
    signals.announce(signals.password_reset_verified, sender=ForgetPassword, record=record)
    return Verified(token, now + TOKEN_LIFETIME, record)


def reset(token: str, new_password: str, client: Client) -> ForgetPassword:
    """Set the new password, all or nothing. Raises InvalidResetToken, PasswordRejected, InvalidInput, RateLimited.

    A refused password spends nothing, nor does a process too busy to hash one. Nobody makes it hash without a good
    token. The slow hash is made outside the transaction; inside it the resets' rows come first, so that two resets of
    one account, or a reset and a report, wait for each other there and nowhere else.
    """
    good = _believe(token, timezone.now(), client)
    password = passwords.clean(new_password)
    passwords.check(password, good.user)
    hashed = hash_password(password)
    now = timezone.now()
    record, user = good.record, good.user
    with transaction.atomic():
        held = ForgetPassword.objects.hold(record.pk, user.pk, record.email_digest, now)
        if not _as_it_was(user).update(password=hashed):
            raise _bad_token()
        if not ForgetPassword.objects.complete(record.pk, good.still_good(now), user.pk, email_of(user), now):
            raise _bad_token()
        killed = [row.pk for row in held if row.pk != record.pk]
        ForgetPassword.objects.kill(killed, now)
        GuessBudget.objects.restore(record.email_digest)
        PasswordResetEvent.write(record.pk, EventKind.COMPLETED)
        PasswordResetEvent.objects.bulk_create(
            PasswordResetEvent(record_id=pk, kind=EventKind.SUPERSEDED) for pk in killed
        )
        signals.mail_due.send(sender=ForgetPassword, pk=record.pk)
    user.password = hashed
    password_changed(password, user)
    record.refresh_from_db()
    signals.announce(signals.password_reset_completed, sender=ForgetPassword, record=record, user=user)
    return record


def check_token(token: str, client: Client) -> datetime:
    """Until when a token is good; spends nothing. Raises InvalidResetToken and RateLimited."""
    return _believe(token, timezone.now(), client).expires_at


def check_password(new_password: str, token: str | None, client: Client) -> int:
    """The strength, 0 to 4, of a password that would be accepted; with a token, for that account.

    Raises PasswordRejected, InvalidResetToken, InvalidInput and RateLimited.
    """
    if token is None:
        limits.check_client_may_try_passwords(client.ip)
    user = _believe(token, timezone.now(), client).user if token is not None else None
    password = passwords.clean(new_password)
    passwords.check(password, user)
    return passwords.strength(password, user)


def cancel(handle: str, client: Client) -> ForgetPassword:
    """Give a reset up; one that is over already stays as it is. Raises UnknownRequest and RateLimited."""
    record = _require(status(handle, client))
    if ForgetPassword.objects.cancel(record.pk, timezone.now()):
        PasswordResetEvent.write(record.pk, EventKind.CANCELLED)
        signals.mail_due.send(sender=ForgetPassword, pk=record.pk)
    record.refresh_from_db()
    return record


def report(token: str, client: Client) -> Reported:
    """The owner says "this was not me": all that is under way ends, and after a completed reset the account is locked.

    Locking replaces the password by one that nobody knows, and with it every session ends. It is a usable password all
    the same, so that recovery goes on working. Whenever a report finds or leaves an account like that, the owner is
    mailed a fresh link. All or nothing, and once. Raises InvalidResetToken and RateLimited.
    """
    disowned = _believe_report(token, client)
    # Needed or not: it is slow, so it is made outside the transaction, and the reset may complete in the meantime.
    hashed = hash_password(secrets.token_urlsafe(LOCK_BYTES))
    now = timezone.now()
    with transaction.atomic():
        held = ForgetPassword.objects.hold(disowned.pk, disowned.user_id, disowned.email_digest, now)
        killed = [row.pk for row in held if row.is_under_way]
        ForgetPassword.objects.kill(killed, now)
        if not ForgetPassword.objects.report(disowned.pk, now):
            raise _bad_token()
        record = next(row for row in held if row.pk == disowned.pk)
        user = _lock(record.user_id, hashed) if record.state == State.COMPLETED else None
        fresh_link = _needs_a_link(record, user) and _is_still_theirs(record)
        if fresh_link:
            _owe_fresh_link(record, client, now)
        PasswordResetEvent.write(record.pk, EventKind.REPORTED, "locked" if user else "ended")
        PasswordResetEvent.objects.bulk_create(
            PasswordResetEvent(record_id=pk, kind=EventKind.SUPERSEDED, reason="report")
            for pk in killed
            if pk != record.pk
        )
    ended = sum(row.may_still_act(now) for row in held)
    record.refresh_from_db()
    signals.announce(signals.password_reset_reported, sender=ForgetPassword, record=record, user=user)
    return Reported(ended, fresh_link)


def attempts_left(record: ForgetPassword, now: datetime) -> int:
    """How many guesses remain, with the budget of the record's address read afresh."""
    return record.attempts_left(GuessBudget.objects.filter(email_digest=record.email_digest).first(), now)


def shown_status(record: ForgetPassword, now: datetime) -> Status:
    """The status as its holder is told it."""
    return record.status(attempts_left(record, now), now)


@dataclass(frozen=True, slots=True)
class _GoodToken:
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


def _insert_once(record: ForgetPassword, client: Client) -> ForgetPassword:
    """Insert, unless a row with this idempotency digest was inserted within the hour: then that one."""
    same = ForgetPassword.objects.shown().filter(idempotency_digest=record.idempotency_digest)
    if earlier := same.filter(created_at__gt=record.created_at - IDEMPOTENCY_LIFETIME).first():
        return earlier
    same.filter(created_at__lte=record.created_at - IDEMPOTENCY_LIFETIME).update(idempotency_digest=None)
    try:
        with transaction.atomic():
            record.save(force_insert=True)
            # Not before: of one intention sent twice at once, the second must find the first, not its cooldown.
            limits.check_address_may_request(record.email_digest, client.ip)
    except IntegrityError:
        return same.get()
    return record


def _find(handle: str) -> ForgetPassword | None:
    parsed = codes.parse_handle(handle)
    if parsed is None:
        return None
    record_id, mac = parsed
    record = ForgetPassword.objects.shown().filter(pk=record_id).first()
    return record if record and codes.handle_matches(mac, record.pk, record.seed) else None


def _require(record: ForgetPassword | None) -> ForgetPassword:
    if record is None:
        raise _unknown()
    return record


def _proven(record: ForgetPassword, digits: str, now: datetime) -> ForgetPassword | None:
    """The whole record and its account, if these digits prove it; None where they do not.

    A wrong code costs the same whatever the row: one statement and one MAC, for a row without an account
    against one that nobody has. Nothing else of an account is read before the code has been found equal.
    """
    generation, code_key, account = _compared(record.pk)
    if not codes.code_matches(digits, record.pk, record.seed, account, generation, code_key):
        return None
    whole = ForgetPassword.objects.select_related("user").filter(pk=record.pk, generation=generation).first()
    if whole is None or whole.user is None or why_not_mailable(whole.user):
        return None
    if account_of(whole.user) != account or fold(account.address) != fold(whole.email):
        return None  # the account has changed or moved, and the code died with that
    return whole if whole.killed_at is None and whole.code_lives(now) else None


def _compared(record_id: uuid.UUID) -> tuple[int, str, codes.Account]:
    """A row's generation, its code's key, and the account that the code is bound to, without making a user of it."""
    columns = (
        "generation",
        "code_key",
        "user__pk",
        "user__password",
        f"user__{get_user_model().get_email_field_name()}",
    )
    generation, code_key, *account = ForgetPassword.objects.filter(pk=record_id).values_list(*columns).get()
    key, password, address = account
    return generation, code_key, _NOBODY if key is None else codes.Account(str(key), password, str(address or ""))


def _believe(text: str, now: datetime, client: Client) -> _GoodToken:
    """Check a token against its record and the account as it is now; only one that is refused counts for the client.

    Raises InvalidResetToken, whatever is wrong, and RateLimited.
    """
    token = codes.parse_token(text)
    good = _good_token(token, now) if token and codes.token_was_issued(token, *_seed_of(token.record_id)) else None
    if good is None:
        limits.count_refused_token(client.ip)
        raise _bad_token()
    limits.check_token_may_be_used(good.record.pk)
    return good


def _seed_of(record_id: uuid.UUID) -> tuple[bytes, int]:
    """What shows whether a token was issued: seed and generation, of which nobody can tell whose row it is.

    Whoever holds a handle can make up a token for its record. One statement and one MAC for each key refuse it,
    whatever record it is, or none; only those who were mailed the right one get any further.
    """
    columns = ForgetPassword.objects.filter(pk=record_id).values_list("forget_password_otp", "generation")
    seed, generation = columns.first() or (b"", 0)
    return bytes(seed), generation


def _good_token(token: codes.Token, now: datetime) -> _GoodToken | None:
    """A token that was issued, with its record and account, if it is good for them as they are now."""
    record = ForgetPassword.objects.select_related("user").filter(pk=token.record_id, killed_at=None).first()
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
    return _GoodToken(token, record, user, expires_at)


def _user_of(token: codes.Token, record: ForgetPassword) -> Any:
    """The account that a token is for, or None; where several share the address, the token's MAC tells which it is."""
    if record.user is not None:
        users = (record.user,)
    else:
        users = find_mailbox(record.email).users if token.kind is codes.TokenKind.LINK else ()
    fits = (user for user in users if codes.token_matches(token, record.seed, account_of(user), record.generation))
    return next((user for user in fits if not why_not_mailable(user)), None)


def _believe_report(text: str, client: Client) -> ForgetPassword:
    """The record of a report token; only one that is refused counts for the client.

    Raises InvalidResetToken and RateLimited.
    """
    token = codes.parse_report_token(text)
    record = None
    if token and codes.report_matches(token, _seed_of(token.record_id)[0]):
        record = ForgetPassword.objects.filter(pk=token.record_id).first()
    if record is None:
        limits.count_refused_token(client.ip)
        raise _bad_token()
    limits.check_token_may_be_used(record.pk)
    return record


def _as_it_was(user: Any) -> Any:
    """The account, while it is open and still has the password hash and the address that its token is bound to."""
    bound = {"password": user.password, user.get_email_field_name(): email_of(user)}
    return get_user_model()._default_manager.filter(pk=user.pk, is_active=True, **bound)


def _lock(user_id: Any, hashed: str) -> Any:
    """Replace an account's password by one that nobody knows; returns the account, or None where it has none.

    No validator is asked and `password_changed` is not called: nobody chose this password and nobody will type it, so
    it belongs in no history. An account that is closed is locked as well, for it may be opened again.
    """
    accounts = get_user_model()._default_manager.filter(pk=user_id)
    if not accounts.exclude(password__startswith=UNUSABLE_PASSWORD_PREFIX).update(password=hashed):
        return None
    return accounts.get()


def _needs_a_link(record: ForgetPassword, locked_now: Any) -> bool:
    """Whether nobody knows the account's password: locked just now, or by an earlier report and not reset since."""
    return locked_now is not None or ForgetPassword.objects.are_locked(record.user_id, record.email_digest)


def _is_still_theirs(record: ForgetPassword) -> bool:
    """Whether the mailbox that got the report token is still the account's: who took the account may have moved it."""
    if record.user is None:
        return bool(find_mailbox(record.email).users)
    return not why_not_mailable(record.user) and fold(email_of(record.user)) == fold(record.email)


def _owe_fresh_link(record: ForgetPassword, client: Client, now: datetime) -> None:
    """Owe the owner of a reported reset a link that works with the password as it is now.

    On a row of its own, for a completed one stays completed and a killed one dead. Nobody holds its handle, it counts
    against no limit, and it is looked up already: the account is known.
    """
    ForgetPassword(
        user=record.user,
        email=record.email,
        email_digest=record.email_digest,
        locale=record.locale,
        client_ip=client.ip,
        user_agent=_printable(client.user_agent)[:200],
        answers=record,
        state=State.SENT,
        looked_at=now,
        sent_at=now,
        mail_due=Mail.LINK,
    ).save(force_insert=True)


def _digits(typed: str) -> str:
    """The decimal digits of any script, as ASCII, spaces and dashes dropped; empty where anything else is in it."""
    bare = _SEPARATORS.sub("", without_invisible(typed[:100]))
    return "".join(str(unicodedata.decimal(letter)) for letter in bare) if bare.isdecimal() else ""


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())


def _unknown() -> UnknownRequest:
    return UnknownRequest(_("There is no such reset, or it is over. Please start a new one."))


def _bad_token() -> InvalidResetToken:
    return InvalidResetToken(_("This link or token can no longer be used. Please start a new reset."))


def _over() -> InvalidCode:
    return InvalidCode(0, _("This code can no longer be used. Please start a new reset."))


def _locked() -> InvalidCode:
    return InvalidCode(0, f"{_('Too many wrong codes.')} {limits.link_instead()}")


def _too_soon(record: ForgetPassword, now: datetime, client: Client) -> RateLimited:
    cooldown = (record.resend_available_at - now).total_seconds()
    # The cooldown is seldom all that stands in the way; whoever comes back after the wait must get through.
    wait = max(cooldown, limits.wait_for_mail(record.email_digest, client.ip))
    return RateLimited(wait, limits.asked_lately(wait), limit="cooldown")
