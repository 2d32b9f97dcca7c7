"""Which accounts an address belongs to: the rules for look-alikes, duplicates and accounts that cannot be recovered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Case, Index, Q, SmallIntegerField, Value, When, Window
from django.db.models.functions import Collate, Lower, RowNumber, Upper

from .addresses import fold, is_blank, mailbox_of, spellings
from .statements import Select

MOST_ACCOUNTS = 10
"""Accounts of one address that its mail has links for."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where the mail for a typed address goes, and for which accounts; or why it goes nowhere."""

    address: str = ""
    users: tuple[Any, ...] = ()
    reason: str = ""


def find_mailboxes(typed: Iterable[str]) -> dict[str, Mailbox]:
    """Look several typed addresses up with one query. A blank one, as a wiped one is, is nobody's and never asked for.

    The database finds candidates by a case-insensitive match, and Python decides: databases differ in what they call
    equal, and one takes a dotless i for an i (CVE-2019-19844). Mail only ever goes to the stored address.

    Of the accounts that share an address, the oldest MOST_ACCOUNTS are found, and the others are not even read: a mail
    must not grow with every account that somebody signs up or moves there. On a large table this wants the index that
    `address_index` describes.
    """
    typed = list(dict.fromkeys(typed))
    wanted = {address: fold(address) for address in typed if not is_blank(address)}
    folded = [spelling for address in wanted.values() for spelling in spellings(address)]
    user_model = get_user_model()
    field = user_model.get_email_field_name()
    by_fold = defaultdict(list)
    if wanted:
        capitals = [spelling.upper() for spelling in folded]
        for user in _candidates(user_model, field, _by_age())(typed=wanted, folded=folded, capitals=capitals):
            by_fold[fold(getattr(user, field))].append(user)
    nobody = {address: Mailbox(reason="unknown") for address in typed}
    return nobody | {address: _choose(address, by_fold[folded], field) for address, folded in wanted.items()}


@cache
def _candidates(user_model: Any, field: str, by_age: tuple[str, ...]) -> Select:
    """The accounts whose address may be one of those typed, or one of their folded spellings."""

    def candidates(typed: list[str], folded: list[str], capitals: list[str]) -> Any:
        # In the database's capitals and in Python's: SQLite has none for an é, and would not find a stored É by it.
        as_typed = [Upper(Value(address)) for address in typed]
        as_folded = [*(Upper(Value(spelling)) for spelling in folded), *capitals]
        users = user_model._default_manager.annotate(_shouted_email=Upper(field), _place=_place_at_its_address(field))
        matching = Q(_shouted_email__in=as_typed) | Q(_shouted_email__in=as_folded)
        return users.filter(matching, _place__lte=MOST_ACCOUNTS).order_by(*by_age)

    return Select(user_model, candidates)


def address_index() -> Index:
    """The index on the user table that a look-up uses; `manage.py index_addresses` makes it."""
    user_model = get_user_model()
    field = user_model.get_email_field_name()
    return Index(Upper(field), name=f"{user_model._meta.db_table[:14]}_upper_{field[:9]}")


def is_indexed(database: str = DEFAULT_DB_ALIAS) -> bool:
    """Whether that index is there, complete, and under that name."""
    connection, table = connections[database], get_user_model()._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            return address_index().name in connection.introspection.get_constraints(cursor, table)
        # One that broke off while it was made goes by its name as well, and is never used.
        cursor.execute(
            "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid", [f'"{address_index().name}"']
        )
        return cursor.fetchone() is not None


def find_mailbox(typed: str) -> Mailbox:
    """Look one typed address up."""
    return find_mailboxes([typed])[typed]


def why_not_mailable(user: Any) -> str:
    """The reason code why an account cannot be recovered by mail, or an empty string where it can."""
    if not user.is_active:
        return "inactive"
    if not user.has_usable_password():
        return "unusable_password"
    return "no_address" if is_blank(email_of(user)) else ""


def email_of(user: Any) -> str:
    """The address that an account has stored, whatever its model calls the field."""
    return str(getattr(user, user.get_email_field_name()) or "")


def _place_at_its_address(field: str) -> Window:
    """The place of an account among those of its mailbox: who can be recovered before who cannot, the oldest first.

    Mailboxes are told apart as `mailbox_of` does: by more, a look-alike's accounts would take the places of others.
    """
    postgresql = connections[get_user_model()._default_manager.db].vendor == "postgresql"
    mailbox = Lower(Collate(field, "C")) if postgresql else Lower(field)
    closed = Case(
        When(~Q(password__startswith=UNUSABLE_PASSWORD_PREFIX), is_active=True, then=0),
        default=1,
        output_field=SmallIntegerField(),
    )
    return Window(RowNumber(), partition_by=[mailbox], order_by=[closed, *_by_age()])


def _by_age() -> tuple[str, ...]:
    fields = {each.name for each in get_user_model()._meta.concrete_fields}
    return ("date_joined", "pk") if "date_joined" in fields else ("pk",)


def _choose(typed: str, users: list[Any], field: str) -> Mailbox:
    if not users:
        return Mailbox(reason="unknown")
    mailable = [user for user in users if not why_not_mailable(user)]
    if not mailable:
        return Mailbox(reason=why_not_mailable(users[0]), users=())
    by_address = defaultdict(list)
    for user in mailable:
        by_address[mailbox_of(getattr(user, field))].append(user)
    if len(by_address) == 1:
        (group,) = by_address.values()
    else:
        group = by_address.get(mailbox_of(typed), [])
    if not group:
        return Mailbox(reason="ambiguous")
    stored = [str(getattr(user, field)) for user in group]
    return Mailbox(address=typed if typed in stored else stored[0], users=tuple(group[:MOST_ACCOUNTS]))
