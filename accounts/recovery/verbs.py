"""The use cases: request, resend, verify, reset, cancel, and the questions a form may ask on the way.

Each function is one row of the table of verbs and states in docs/states.md. A handle or a token is checked before
anything else is done with the record that it names. Known and unknown addresses run the same statements.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.password_validation import password_changed
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import brands, codes, signals, transitions
from ..addresses import clean_address, fold, without_invisible
from ..choices import OPEN_STATES, EventKind, Mail, State, Status, WebhookEvent
from ..conf import IDEMPOTENCY_LIFETIME, MAX_RESENDS, OPEN_LIFETIME, TOKEN_LIFETIME, conf
from ..directory import directory
from ..exceptions import InvalidCode, InvalidInput, RateLimited, UnknownRequest
from ..hooks import webhooks
from ..hooks.revokers import revoke_all
from ..limits import rules
from ..models import ForgetPassword, PasswordResetEvent, utc_day
from ..passwords import policy
from ..passwords.hashing import hash_password
from ..records import find_shown, spent_of
from ..transitions import turn_of
from .client import Client, printable
from .tokens import bad_token, believe

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{22,200}")
"""22 characters of base64 hold 128 random bits. Whoever guessed a key would get somebody's handle."""
LOCALE = re.compile(r"[A-Za-z0-9]{1,8}([-_][A-Za-z0-9]{1,8}){0,3}")
_NOBODY = codes.Account(key="nobody", password="!" * 97, address="nobody@example.com")
"""What a code is compared with if there is no account: nobody's, and of the usual length."""
_SEPARATORS = re.compile(r"[\s\-\u2010-\u2015\u2212\u00b7.]+")


@dataclass(frozen=True, slots=True)
class Verified:
    """What a right code buys."""

    reset_token: str
    expires_at: datetime
    record: ForgetPassword


def request(
    email: str, client: Client, *, idempotency_key: str | None = None, locale: str = "", brand: str = ""
) -> ForgetPassword:
    """Start a reset: validate, count, insert one row. The row's post_save signal does the rest.

    Raises InvalidInput and RateLimited, the same for every address.
    """
    address = clean_address(email)
    if locale and not LOCALE.fullmatch(locale):
        raise InvalidInput("locale", _("That is no language tag, such as en or pt-BR."))
    if brands.find(brand) is None:
        raise InvalidInput("app", _("There is no app of this name here."))
    if idempotency_key is not None and not IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        raise InvalidInput("idempotencyKey", _("An idempotency key is 22 to 200 random characters without spaces."))
    folded, now = fold(address), timezone.now()
    record = ForgetPassword(
        email=address,
        email_digest=codes.address_digest(folded),
        locale=locale,
        brand=brand,
        client_ip=client.ip,
        user_agent=printable(client.user_agent)[:200],
    )
    if idempotency_key is not None:
        record.mail_turn_at = turn_of(rules.check_client_may_request(client.ip), now)
        record.idempotency_digest = codes.idempotency_digest(idempotency_key, folded)
        return _insert_once(record, client)
    record.mail_turn_at = turn_of(rules.check_may_request(client.ip, record.email_digest), now)
    record.save(force_insert=True)
    return record


def status(handle: str, client: Client) -> ForgetPassword | None:
    """The record of a handle, or None for one that was never issued. Raises RateLimited."""
    record = _find(handle)
    rules.check_client_may_use_handle(client.ip, record.pk if record else None)
    return record


def resend(handle: str, client: Client) -> ForgetPassword:
    """Make the mail due once more. Raises UnknownRequest and RateLimited."""
    record = _require(status(handle, client))
    return mail_again(record, rules.check_client_may_request(client.ip), client.ip)


def mail_again(record: ForgetPassword, rank: int = 1, client_ip: str = "", by: str = "") -> ForgetPassword:
    """`resend` for whoever may: the holder, or `by` name somebody of support, who is no client and has no rank."""
    now = timezone.now()
    shown = shown_status(record, now)
    if shown in (Status.COMPLETED, Status.CANCELLED) or not record.is_open(now):
        raise unknown()
    if now < record.resend_available_at:
        raise _too_soon(record, now, client_ip)
    if record.state == State.QUEUED:
        return record  # its first mail is still due
    if record.resends >= MAX_RESENDS:
        closes = (record.looked_at or now) + OPEN_LIFETIME
        message = _("This reset has been emailed as often as possible. Please start a new one.")
        raise RateLimited((closes - now).total_seconds(), message, limit="resends")
    rules.check_address_may_be_mailed(record.email_digest, client_ip)
    mail = Mail.LINK if shown == Status.LOCKED else Mail.CODE
    if not transitions.resend(record.pk, mail, now, rank):
        # Somebody else moved the row since it was read; say what they would be told now.
        record.refresh_from_db()
        raise _too_soon(record, now, client_ip) if record.state in (State.SENT, State.VERIFIED) else unknown()
    PasswordResetEvent.write(record.pk, EventKind.RESEND_ASKED, by)
    signals.mail_due.send(sender=ForgetPassword, pk=record.pk)
    record.refresh_from_db()
    return record


def verify(handle: str, code: str, client: Client) -> Verified:
    """Trade the emailed code for a token. Every well-formed guess is counted before it is compared.

    Each count is committed by itself, so that neither parallel guesses nor a crash save one. A right code gives back
    the client's count, for others may share its address. Raises UnknownRequest, InvalidCode and RateLimited.
    """
    now = timezone.now()
    record = _require(_find(handle))
    give_back = rules.check_client_may_verify(client.ip)
    shown = shown_status(record, now)
    if shown in (Status.COMPLETED, Status.CANCELLED) or (shown == Status.EXPIRED and not record.is_open(now)):
        raise _over()
    if shown == Status.LOCKED:
        raise _locked()
    digits = _digits(code)
    if len(digits) != conf.PASSWORD_RESET_CODE_LENGTH:
        raise InvalidCode(attempts_left(record, now), _("A code has %d digits.") % conf.PASSWORD_RESET_CODE_LENGTH)
    guess = rules.count_guess()
    if not transitions.count_attempt(record.pk, now):
        rules.give_guess_back(guess)
        record.refresh_from_db()
        raise _locked() if record.state in OPEN_STATES else _over()
    if not transitions.spend(record.email_digest, utc_day(now)):
        rules.give_guess_back(guess)
        raise _locked()
    proven = _proven(record, digits, now)
    if proven is None or not transitions.verify(proven.pk, proven.generation, now):
        PasswordResetEvent.write(record.pk, EventKind.WRONG_CODE)
        record.refresh_from_db()
        raise InvalidCode(attempts_left(record, now), _("That is not the code."))
    rules.give_guess_back(guess)
    give_back()
    record = proven
    bound = directory().bound(record.user, record.email)
    token = codes.code_token(record.pk, record.seed, bound, record.generation + 1)
    PasswordResetEvent.write(record.pk, EventKind.VERIFIED)
    record.refresh_from_db()
    signals.announce(signals.password_reset_verified, sender=ForgetPassword, record=record)
    return Verified(token, now + TOKEN_LIFETIME, record)


def reset(token: str, new_password: str, client: Client) -> ForgetPassword:
    """Set the new password, all or nothing. Raises InvalidResetToken, PasswordRejected, InvalidInput, RateLimited.

    A refused password spends nothing, nor does a process that is too busy to hash it. Only a good token gets as far as
    hashing, which is slow and done outside the transaction. Inside it the rows of the resets are locked first, so that
    two resets of one account, or a reset and a report, wait for each other there.
    """
    good = believe(token, timezone.now(), client)
    password = policy.clean(new_password)
    policy.check(password, good.user)
    accounts = directory()
    hashed = hash_password(password)
    now = timezone.now()
    record, bound = good.record, accounts.bound(good.user, good.record.email)
    with transaction.atomic():
        held = transitions.hold(record.pk, good.user.pk, record.email_digest, now)
        # As it is now, with the password and the address that the token is bound to.
        user = accounts.lock(good.user.pk)
        if user is None or accounts.bound(user, record.email) != bound or accounts.why_not(user, bound.address):
            raise bad_token()
        if not transitions.complete(record.pk, good.still_good(now), user.pk, bound.address, now):
            raise bad_token()
        accounts.set_password(user, hashed)
        revoke_all(user)
        webhooks.tell(WebhookEvent.COMPLETED, record.pk, account=str(user.pk))
        superseded = [row.pk for row in held if row.pk != record.pk]
        transitions.supersede(superseded, now)
        transitions.restore(record.email_digest)
        PasswordResetEvent.write(record.pk, EventKind.COMPLETED)
        PasswordResetEvent.objects.bulk_create(
            PasswordResetEvent(record_id=pk, kind=EventKind.SUPERSEDED) for pk in superseded
        )
        signals.mail_due.send(sender=ForgetPassword, pk=record.pk)
    password_changed(password, user)
    record.refresh_from_db()
    signals.announce(signals.password_reset_completed, sender=ForgetPassword, record=record, user=user)
    return record


def check_token(token: str, client: Client) -> datetime:
    """Until when a token is good; spends nothing. Raises InvalidResetToken and RateLimited."""
    return believe(token, timezone.now(), client).expires_at


def check_password(new_password: str, token: str | None, client: Client) -> int:
    """The strength, 0 to 4, of a password that would be accepted; with a token, for that account.

    Raises PasswordRejected, InvalidResetToken, InvalidInput and RateLimited.
    """
    if token is None:
        rules.check_client_may_try_passwords(client.ip)
    user = believe(token, timezone.now(), client).user if token is not None else None
    password = policy.clean(new_password)
    policy.check(password, user)
    return policy.strength(password, user)


def cancel(handle: str, client: Client) -> ForgetPassword:
    """Give a reset up; one that is over already stays as it is. Raises UnknownRequest and RateLimited."""
    record = _require(status(handle, client))
    give_up(record)
    record.refresh_from_db()
    return record


def give_up(record: ForgetPassword, by: str = "") -> bool:
    """`cancel` for whoever may, as `mail_again` is; returns whether there was anything to give up."""
    if not transitions.cancel(record.pk, timezone.now()):
        return False
    PasswordResetEvent.write(record.pk, EventKind.CANCELLED, by)
    signals.mail_due.send(sender=ForgetPassword, pk=record.pk)
    return True


def attempts_left(record: ForgetPassword, now: datetime) -> int:
    """How many guesses remain, for this reset and for its address."""
    return record.attempts_left(spent_of(record), now)


def shown_status(record: ForgetPassword, now: datetime) -> Status:
    """The status as its holder is told it."""
    return record.status(attempts_left(record, now), now)


def _insert_once(record: ForgetPassword, client: Client) -> ForgetPassword:
    """Insert, unless a row with this idempotency digest was inserted within the hour: then that one."""
    same = ForgetPassword.objects.shown().filter(idempotency_digest=record.idempotency_digest)
    if earlier := same.filter(created_at__gt=record.created_at - IDEMPOTENCY_LIFETIME).first():
        return earlier
    same.filter(created_at__lte=record.created_at - IDEMPOTENCY_LIFETIME).update(idempotency_digest=None)
    try:
        with transaction.atomic():
            record.save(force_insert=True)
            # Not before: if one request is sent twice at once, the second must find the first, not its cooldown.
            rules.check_address_may_request(record.email_digest, client.ip)
    except IntegrityError:
        return same.get()
    return record


def _find(handle: str) -> ForgetPassword | None:
    parsed = codes.parse_handle(handle)
    if parsed is None:
        return None
    record_id, mac = parsed
    record = find_shown(record_id)
    return record if record and codes.handle_matches(mac, record.pk, record.seed) else None


def _require(record: ForgetPassword | None) -> ForgetPassword:
    if record is None:
        raise unknown()
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
    if whole is None or whole.user is None or directory().why_not(whole.user, account.address):
        return None
    if directory().bound(whole.user, whole.email) != account or fold(account.address) != fold(whole.email):
        return None  # the account has changed or moved, and its codes with it
    return whole if whole.superseded_at is None and whole.code_lives(now) else None


def _compared(record_id: uuid.UUID) -> tuple[int, str, codes.Account]:
    """A row's generation, its code's key, and the account that the code is bound to, without making a user of it."""
    accounts = directory()
    columns = ("generation", "code_key", "email", "user__pk", *(f"user__{name}" for name in accounts.columns()))
    row = ForgetPassword.objects.filter(pk=record_id).values_list(*columns).get()
    generation, code_key, typed, key, password, *stored = row
    address = accounts.address_of(key, str((stored and stored[0]) or ""), typed)
    # Without a password there is no account, or none that signs in by one.
    return generation, code_key, codes.Account(str(key), password, address) if password else _NOBODY


def _digits(typed: str) -> str:
    """The decimal digits of any script, as ASCII, spaces and dashes dropped; empty where anything else is in it."""
    bare = _SEPARATORS.sub("", without_invisible(typed[:100]))
    return "".join(str(unicodedata.decimal(letter)) for letter in bare) if bare.isdecimal() else ""


def unknown() -> UnknownRequest:
    """What is said of a handle that was never issued."""
    return UnknownRequest(_("There is no such reset, or it is over. Please start a new one."))


def _over() -> InvalidCode:
    return InvalidCode(0, _("This code can no longer be used. Please start a new reset."))


def _locked() -> InvalidCode:
    return InvalidCode(0, " ".join((str(_("Too many wrong codes.")), rules.link_instead())))


def _too_soon(record: ForgetPassword, now: datetime, client_ip: str) -> RateLimited:
    cooldown = (record.resend_available_at - now).total_seconds()
    # Whoever comes back after the wait must pass every other limit, too.
    wait = max(cooldown, rules.wait_for_mail(record.email_digest, client_ip))
    return RateLimited(wait, rules.asked_lately(wait), limit="cooldown")
