"""The transitions of a reset. Each is one conditional UPDATE, and its row count says whether it happened.

Nothing is read, changed in Python and saved back, so of fifty parallel calls exactly one succeeds.
`updated_at` is set by hand throughout, for `QuerySet.update()` touches no `auto_now`. The holder's transitions come
first, then the mailer's, then those of the guesses that an address has left.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from typing import Any, cast

from django.db import models, router, transaction
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Cast

from . import codes
from .choices import OPEN_STATES, Mail, State
from .conf import (
    GUESSES_IN_A_ROW,
    GUESSES_PER_DAY,
    MAX_ATTEMPTS,
    MAX_RESENDS,
    OPEN_LIFETIME,
    REPORT_LIFETIME,
    TURN,
    TURNS,
    conf,
)
from .models import ForgetPassword, GuessBudget
from .querysets import ForgetPasswordQuerySet
from .statements import Select, Structure, Update


def count_attempt(pk: uuid.UUID, now: datetime) -> bool:
    """Count a guess before it is compared; False where none is left."""
    return _one(pk, state__in=OPEN_STATES, attempts__lt=MAX_ATTEMPTS).update(attempts=F("attempts") + 1, updated_at=now)


def verify(pk: uuid.UUID, generation: int, now: datetime) -> bool:
    """Spend the code of this generation. A mail that is still due would bring a newer code, so it is cancelled."""
    return _one(
        pk,
        state__in=(State.QUEUED, State.SENT),
        generation=generation,
        superseded_at=None,
        code_issued_at__isnull=False,
    ).update(
        state=State.VERIFIED,
        verified_at=now,
        generation=F("generation") + 1,
        code_issued_at=None,
        updated_at=now,
        **NOTHING_DUE,
    )


def resend(pk: uuid.UUID, mail: Mail, now: datetime, rank: int) -> bool:
    """Make a mail due again and, for a CODE, start the shown clock anew unless it still has half to run.

    A row without an account takes the same statement: its mail is rehearsed, and goes to nobody.
    """
    changes: dict[str, Any] = {
        "mail_due": mail,
        "mail_next_at": now,
        "mail_turn_at": turn_of(rank, now),
        "mail_attempts": 0,
        "mail_claimed_at": None,
        "mail_error": "",
    }
    if mail is Mail.CODE:
        still_young = Q(state=State.SENT, sent_at__gt=now - conf.code_reuse)
        changes |= {
            "state": State.SENT,
            "verified_at": None,
            "sent_at": _if(~still_young, "sent_at", now),
        }
    return _one(
        pk,
        state__in=(State.SENT, State.VERIFIED),
        resends__lt=MAX_RESENDS,
        mail_asked_at__lte=now - conf.cooldown,
    ).update(resends=F("resends") + 1, mail_asked_at=now, updated_at=now, **changes)


def cancel(pk: uuid.UUID, now: datetime) -> bool:
    """Give up code and token. A CODE mail that is due becomes a LINK mail: what was accepted is mailed all the same."""
    code_is_due = Q(mail_due=Mail.CODE)
    return _one(pk, state__in=OPEN_STATES).update(
        state=State.CANCELLED,
        verified_at=None,
        mail_due=_if(code_is_due, "mail_due", Mail.LINK),
        mail_claimed_at=_if(code_is_due, "mail_claimed_at", None),
        updated_at=now,
    )


def complete(pk: uuid.UUID, allowed: Q, user_id: Any, address: str, now: datetime) -> bool:
    """Complete the reset if `allowed` still holds, and make the news to the owner due.

    What was typed gives way to the account's own address, which has just been proven: there the news goes.
    """
    return _one(pk, allowed, superseded_at=None).update(
        state=State.COMPLETED,
        is_user_password_updated=True,
        completed_at=now,
        user_id=user_id,
        email=address,
        mail_due=Mail.CHANGED,
        mail_next_at=now,
        mail_turn_at=now,
        mail_attempts=0,
        mail_claimed_at=None,
        mail_error="",
        updated_at=now,
    )


def hold(pk: uuid.UUID, user_id: Any, email_digest: str, now: datetime) -> list[ForgetPassword]:
    """Lock a reset and all open ones of its account, by user or by address. Returns them.

    Always lock in primary-key order and before anything else, so that callers cannot deadlock. Skip long-expired rows:
    a stranger can create any number.
    """
    same_account = _of_address(email_digest) | (Q() if user_id is None else Q(user_id=user_id))
    under_way = Q(superseded_at=None) & ~Q(state=State.COMPLETED) & _not_long_over(now)
    rows = ForgetPassword.objects.filter(Q(pk=pk) | (same_account & under_way))
    return list(rows.select_for_update(of=("self",)).order_by("pk"))


def supersede(pks: Collection[uuid.UUID], now: datetime) -> None:
    """End resets that are locked by `hold`. Nothing of them works any more; their holders are not told."""
    ForgetPassword.objects.filter(pk__in=pks).update(superseded_at=now, updated_at=now, **NOTHING_DUE)


def report(pk: uuid.UUID, now: datetime) -> bool:
    """Record, once, that the owner reports a reset: a superseded one, or a completed one that is the latest."""
    since = now - REPORT_LIFETIME
    ended = ~Q(state=State.COMPLETED) & Q(link_issued_at__gt=since) & ~Q(email="")
    return _one(pk, ended | (_latest() & Q(completed_at__gt=since)), reported_at=None).update(
        reported_at=now, updated_at=now
    )


def are_locked(user_id: Any, email_digest: str) -> bool:
    """Whether a report has replaced the password of the account, or of one that shares its address."""
    of_address = _of_address(email_digest) & Q(user_id__isnull=False)
    of_account = of_address if user_id is None else Q(user_id=user_id)
    return ForgetPassword.objects.filter(of_account, _latest(), reported_at__isnull=False).exists()


def stamp_looked(found: Mapping[uuid.UUID, tuple[Any, str]], now: datetime) -> int:
    """Store what Look found: for each record the user's primary key, if there is exactly one, and the address.

    To their holders all rows are SENT, whatever was found, and all by one statement of the same form, so that
    neither its length nor an order tells anybody apart. Their mail stays due: a stranger's is rehearsed.
    """
    if not found:
        return 0
    keys, emails = [key for key, _ in found.values()], [email for _, email in found.values()]
    return _stamp()(pks=found, users=keys, emails=emails, now=now)


@cache
def _stamp() -> Update:
    key = _user_key()
    kinds = {models.IntegerField: "int", models.UUIDField: "uuid.UUID", models.CharField: "str"}
    kind = next(name for kind, name in kinds.items() if isinstance(key, kind))
    return Update(ForgetPassword, _stamping, users=f"list[{kind}]")


def _stamping(pks: list[uuid.UUID], users: list[Any], emails: list[str], now: datetime) -> Any:
    key_field = _user_key()
    found = Case(*(When(pk=pk, then=Value(key, key_field)) for pk, key in zip(pks, users, strict=True)))
    return ForgetPassword.objects.filter(pk__in=pks, looked_at=None), {
        "looked_at": now,
        "sent_at": now,
        "state": _if(Q(state=State.QUEUED), "state", State.SENT),
        "updated_at": now,
        "user_id": Cast(found, key_field),  # PostgreSQL takes a CASE of nothing but NULLs for text
        "email": Case(
            *(When(pk=pk, then=Value(email)) for pk, email in zip(pks, emails, strict=True)), default=F("email")
        ),
    }


def _user_key() -> Any:
    return cast("models.ForeignKey[Any, Any]", ForgetPassword._meta.get_field("user")).target_field


LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""Before every turn."""


def first_turn() -> datetime | None:
    """The earliest turn of all mails that are due, whoever has claimed them."""
    owed = ForgetPassword.objects.exclude(mail_due=Mail.NONE).filter(mail_turn_at__isnull=False)
    return owed.order_by("mail_turn_at").values_list("mail_turn_at", flat=True).first()


def claim(
    now: datetime,
    limit: int,
    *,
    pk: uuid.UUID | None = None,
    in_turn: bool = False,
    since: datetime = LONG_AGO,
) -> list[uuid.UUID]:
    """Claim mails that are due, for the length of a lease, or that of one record. It starts the life of code and link.

    What has an earlier turn than `since` is not looked for.

    Rows that another mailer is just taking are passed over, so that many mailers share a backlog without waiting
    for each other. A code under half its life old is mailed again as it is, unless the clock that is shown has been
    started anew since, or the server's key has changed; otherwise the generation moves on.
    """
    times: Any = {"now": now, "lapsed": now - conf.lease}
    with transaction.atomic(using=router.db_for_write(ForgetPassword)):
        due = _due_in_turn if in_turn else _due
        found = due(limit=limit, since=since, **times) if pk is None else _due_of(pk=pk, **times)
        pks: list[uuid.UUID] = [each for (each,) in found]
        if pks:
            _claim(pks=pks, now=now, young_since=now - conf.code_reuse, key=codes.code_key())
    return pks


def _claimable(now: datetime, lapsed: datetime, *, in_turn: bool = False) -> Any:
    due = ForgetPassword.objects.due(now, lapsed=lapsed, in_turn=in_turn)
    return due.select_for_update(skip_locked=True, of=("self",)).values_list("pk")


@partial(Select, ForgetPassword)
def _due(now: datetime, lapsed: datetime, since: datetime, limit: Structure) -> Any:
    return _claimable(now, lapsed).filter(mail_turn_at__gte=since)[:limit]


@partial(Select, ForgetPassword)
def _due_in_turn(now: datetime, lapsed: datetime, since: datetime, limit: Structure) -> Any:
    return _claimable(now, lapsed, in_turn=True).filter(mail_turn_at__gte=since)[:limit]


@partial(Select, ForgetPassword)
def _due_of(pk: uuid.UUID, now: datetime, lapsed: datetime) -> Any:
    return _claimable(now, lapsed).filter(pk=pk)


@partial(Update, ForgetPassword)
def _claim(pks: list[uuid.UUID], now: datetime, young_since: datetime, key: str) -> Any:
    new_code = Q(mail_due=Mail.CODE) & (
        Q(code_issued_at=None)
        | Q(code_issued_at__lte=young_since)
        | Q(code_issued_at__lt=F("sent_at"))
        | ~Q(code_key=key)
    )
    return ForgetPassword.objects.filter(pk__in=pks), {
        "mail_claimed_at": now,
        "updated_at": now,
        "mail_attempts": F("mail_attempts") + 1,
        "generation": _if(new_code, "generation", F("generation") + 1),
        "code_issued_at": _if(new_code, "code_issued_at", now),
        "code_key": _if(new_code, "code_key", key),
        "link_issued_at": _if(Q(mail_due__in=(Mail.CODE, Mail.LINK)), "link_issued_at", now),
    }


def release(pks: Iterable[uuid.UUID], claimed_at: datetime) -> int:
    """Release claims that were not used. The try does not count. Fenced."""
    return ForgetPassword.objects.filter(pk__in=list(pks), mail_claimed_at=claimed_at).update(
        mail_claimed_at=None, mail_attempts=F("mail_attempts") - 1
    )


def settle(pks: Collection[uuid.UUID], mail: str, claimed_at: datetime, now: datetime) -> int:
    """Mark mails as sent: nothing is due any more. Fenced: only the claim that still holds may say so."""
    return _settle(pks=pks, mail=str(mail), claimed_at=claimed_at, now=now) if pks else 0


@partial(Update, ForgetPassword)
def _settle(pks: list[uuid.UUID], mail: str, claimed_at: datetime, now: datetime) -> Any:
    settled = ForgetPassword.objects.filter(pk__in=pks, mail_due=mail, mail_claimed_at=claimed_at)
    return settled, {"updated_at": now, **NOTHING_DUE}


def forget_addresses(pks: Collection[uuid.UUID]) -> None:
    """Wipe the addresses of resets that are nobody's, once they have been told so."""
    ForgetPassword.objects.filter(pk__in=pks).update(email="")


def postpone(
    pk: uuid.UUID,
    mail: str,
    claimed_at: datetime,
    *,
    retry_at: datetime | None,
    error: str,
    now: datetime,
    behind: timedelta = timedelta(),
) -> bool:
    """Release a claim after a failure. Without `retry_at` the mail is dead until it is revived. Fenced.

    `behind` is how much later than it is due again its turn comes.
    """
    turn_at = retry_at and retry_at + behind
    return _one(pk, mail_due=mail, mail_claimed_at=claimed_at).update(
        mail_claimed_at=None, mail_next_at=retry_at, mail_turn_at=turn_at, mail_error=error, updated_at=now
    )


def revive(rows: ForgetPasswordQuerySet, now: datetime) -> int:
    """Give dead mails all their tries again. Returns how many there were."""
    return rows.dead().update(mail_next_at=now, mail_turn_at=now, mail_attempts=0, mail_error="", updated_at=now)


def wipe(rows: models.QuerySet[Any]) -> int:
    """Forget whom old resets were for, and who asked; a dead mail, which would have no address, is due no more."""
    return rows.update(email="", client_ip=None, user_agent="", traceparent="", idempotency_digest=None, **NOTHING_DUE)


def _latest() -> Q:
    """Completed, and no other reset of the same account has been since."""
    later = ForgetPassword.objects.filter(
        state=State.COMPLETED, user_id=OuterRef("user_id"), completed_at__gt=OuterRef("completed_at")
    )
    return Q(~Exists(later), state=State.COMPLETED)


def _if(condition: Q, field: str, value: Any) -> Case:
    """A new value for a field where the condition holds, and its present value elsewhere."""
    new = value if hasattr(value, "resolve_expression") else Value(value)
    column = cast("models.Field[Any, Any]", ForgetPassword._meta.get_field(field))
    return Case(When(condition, then=new), default=F(field), output_field=column)


def _one(pk: uuid.UUID, *conditions: Q, **more: Any) -> _One:
    return _One(ForgetPassword.objects.filter(*conditions, pk=pk, **more))


class _One:
    """A single row, if it meets the conditions; `update` returns whether it did."""

    def __init__(self, rows: ForgetPasswordQuerySet) -> None:
        self._rows = rows

    def update(self, **changes: Any) -> bool:
        return self._rows.update(**changes) == 1


def spend(email_digest: str, today: date) -> bool:
    """Count one guess; False where the day's or the row's budget is gone."""
    if _spend(email_digest, today):
        return True
    GuessBudget.objects.bulk_create([GuessBudget(email_digest=email_digest, day=today)], ignore_conflicts=True)
    return _spend(email_digest, today)


def restore(email_digest: str) -> None:
    """Reset the count of wrong codes in a row, once the owner has proven to be the owner.

    The day's count stays. Were it restored, whoever holds a handle of the address would see LOCKED turn into SENT,
    and so learn that there is an account (docs/decisions).
    """
    GuessBudget.objects.filter(email_digest=email_digest).update(in_a_row=0)


def _spend(email_digest: str, today: date) -> bool:
    affordable = GuessBudget.objects.filter(
        ~Q(day=today) | Q(used_today__lt=GUESSES_PER_DAY), in_a_row__lt=GUESSES_IN_A_ROW
    )
    return (
        affordable.filter(email_digest=email_digest).update(
            used_today=Case(
                When(day=today, then=F("used_today") + 1),
                default=Value(1),
                output_field=models.PositiveSmallIntegerField(),
            ),
            day=today,
            in_a_row=F("in_a_row") + 1,
        )
        == 1
    )


def turn_of(rank: int, due: datetime) -> datetime:
    """When the turn of a mail comes that is the `rank`-th of its client."""
    return due + TURN * (min(rank, TURNS) - 1)


NOTHING_DUE: dict[str, Any] = {
    "mail_due": Mail.NONE,
    "mail_next_at": None,
    "mail_turn_at": None,
    "mail_claimed_at": None,
    "mail_error": "",
}


def _of_address(email_digest: str) -> Q:
    """Rows of the same address. One that was made without a digest shares nothing with another such row."""
    return Q(email_digest=email_digest) if email_digest else Q(pk__in=())


def _not_long_over(now: datetime) -> Q:
    """Rows of which something may still work, with an hour to spare for clocks that differ."""
    open_since, link_since = now - 2 * OPEN_LIFETIME, now - conf.link_lifetime - OPEN_LIFETIME
    looked = Q(looked_at=None) | Q(looked_at__gt=open_since)
    return looked | Q(link_issued_at__gt=link_since) | ~Q(mail_due=Mail.NONE)
