"""Which accounts an address belongs to: the rules for look-alikes, duplicates, and who cannot be recovered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Index
from django.db.models.functions import Upper

from .addresses import fold, is_blank, mailbox_of, spellings
from .directory import MOST_ACCOUNTS, directory

UNKNOWN = "unknown"
"""The reason of an address that is nobody's."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where the mail for a typed address goes, and for which accounts; or why none of them can be recovered by it."""

    address: str = ""
    users: tuple[Any, ...] = ()
    reason: str = ""

    @property
    def recoverable(self) -> tuple[Any, ...]:
        return () if self.reason else self.users


def find_mailboxes(typed: Iterable[str]) -> dict[str, Mailbox]:
    """Look several typed addresses up with one query. A blank one, as a wiped one is, is nobody's and never asked for.

    The database finds candidates by a case-insensitive match, and Python decides: databases differ in what they call
    equal, and one takes a dotless i for an i (CVE-2019-19844). Mail only ever goes to the stored address.

    Of the accounts that share an address, the oldest MOST_ACCOUNTS are found, and the others are not even read: a mail
    must not grow with every account that somebody signs up or moves there. On a large table this wants the index that
    `address_index` describes.
    """
    found = _find(typed)
    return {address: _choose(address, accounts) for address, accounts in found.items()}


def accounts_of(typed: str) -> list[Any]:
    """The accounts that an address belongs to, whether or not they can be recovered."""
    return [account for account, _ in _find([typed])[typed]]


def _find(typed: Iterable[str]) -> dict[str, list[tuple[Any, str]]]:
    """For each typed address the accounts that have it, each with the address as stored."""
    found: dict[str, list[tuple[Any, str]]] = {address: [] for address in typed}
    wanted = {address: fold(address) for address in found if not is_blank(address)}
    if not wanted:
        return found
    folded = [spelling for address in wanted.values() for spelling in spellings(address)]
    capitals = [spelling.upper() for spelling in folded]
    by_fold = defaultdict(list)
    for account, address in directory().candidates(typed=list(wanted), folded=folded, capitals=capitals):
        by_fold[fold(address)].append((account, address))
    return found | {address: by_fold[folded] for address, folded in wanted.items()}


def find_mailbox(typed: str) -> Mailbox:
    """Look one typed address up."""
    return find_mailboxes([typed])[typed]


def address_index() -> Index:
    """The index on the table of addresses that a look-up uses; `manage.py index_addresses` makes it."""
    model, field = directory().address_column()
    return Index(Upper(field), name=f"{model._meta.db_table[:14]}_upper_{field[:9]}")


def is_indexed(database: str = DEFAULT_DB_ALIAS) -> bool:
    """Whether that index is there, complete, and under that name."""
    connection, (model, _) = connections[database], directory().address_column()
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            return address_index().name in connection.introspection.get_constraints(cursor, model._meta.db_table)
        # One that broke off while it was made goes by its name as well, and is never used.
        cursor.execute(
            "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid", [f'"{address_index().name}"']
        )
        return cursor.fetchone() is not None


def _choose(typed: str, found: list[tuple[Any, str]]) -> Mailbox:
    if not found:
        return Mailbox(reason=UNKNOWN)
    reasons = [directory().why_not(account, address) for account, address in found]
    mailable = [each for each, reason in zip(found, reasons, strict=True) if not reason]
    if not mailable:
        account, address = found[0]
        return Mailbox(address, (account,), reasons[0])
    by_mailbox = defaultdict(list)
    for account, address in mailable:
        by_mailbox[mailbox_of(address)].append((account, address))
    if len(by_mailbox) == 1:
        (group,) = by_mailbox.values()
    else:
        group = by_mailbox.get(mailbox_of(typed), [])
    if not group:
        return Mailbox(reason="ambiguous")
    stored = [address for _, address in group]
    accounts = tuple(account for account, _ in group[:MOST_ACCOUNTS])
    return Mailbox(address=typed if typed in stored else stored[0], users=accounts)
