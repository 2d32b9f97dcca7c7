"""The seam to the project around: who the accounts are, where their mail goes, and how a password is set.

Nothing else in this app touches a user model. `RECOVERY_DIRECTORY` names another class than the one here: usually a
subclass that overrides a method or two. docs/integrate.md shows some.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.apps import apps
from django.contrib.auth.hashers import is_password_usable, make_password
from django.core.exceptions import FieldDoesNotExist
from django.core.signals import setting_changed
from django.db import connections, models
from django.db.models import Case, Q, QuerySet, SmallIntegerField, Value, When, Window
from django.db.models.functions import Collate, Lower, RowNumber, Upper
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from . import codes
from .addresses import is_blank
from .conf import conf
from .statements import Select

MOST_ACCOUNTS = 10
"""Accounts of one address that its mail has links for."""
WITHOUT_PASSWORD = "unusable_password"  # nosec B105 # noqa: S105 (a reason code)
"""Why an account that signs in by other ways alone cannot be recovered."""
PLACE, SHOUTED = "_recovery_place", "_recovery_shouted"
"""Annotations of a look-up."""


class Directory:
    """The accounts of Django's user model, or of `RECOVERY_USER_MODEL`, each with the address in its own row.

    Keys, names of fields and the model itself may be any. What `is_active` is makes no difference: a column, an
    attribute or a property; a model without one has active accounts alone.
    """

    password_field = "password"  # nosec B105 # noqa: S105 (a name)
    """Where an account keeps its password's hash."""
    update_fields: Sequence[str] | None = None
    """The fields that setting a password writes; None for the whole row, so that a `save` of the project's own can take
    part. Name the password's alone where the database role may write no other."""

    @property
    def model(self) -> Any:
        return apps.get_model(conf.user_model)

    @property
    def email_field(self) -> str:
        return str(self.model.get_email_field_name()) if hasattr(self.model, "get_email_field_name") else "email"

    def accounts(self) -> QuerySet[Any]:
        """All accounts that there are. Leave out who has been deleted and is only kept for the books."""
        accounts: QuerySet[Any] = self.model._default_manager.all()
        return accounts

    def why_not(self, account: Any, address: str) -> str:
        """The reason code why an account cannot be recovered by a mail to this address; empty where it can.

        A code has lower-case letters and underscores; support reads it, and nobody else.
        """
        if not getattr(account, "is_active", True):
            return "inactive"
        if not self.has_password(account):
            return WITHOUT_PASSWORD
        return "no_address" if is_blank(address) else ""

    def address_of(self, key: Any, stored: str, typed: str) -> str:
        """Where the mail for the typed address goes, for the account of this key; empty where that is not its own.

        `stored` is what the account's row holds. It is also called with None, for addresses that are nobody's, and must
        then take as long: whoever tries codes would learn by the time who has an account.
        """
        return stored

    def address_column(self) -> tuple[Any, str]:
        """The model and the field by which addresses are looked up, and which `manage.py index_addresses` indexes."""
        return self.model, self.email_field

    def candidates(self, typed: list[str], folded: list[str], capitals: list[str]) -> list[tuple[Any, str]]:
        """Accounts whose address may be one of those typed, with that address, in the order of their age.

        They may be too many: Python decides afterwards what is equal. `folded` are spellings of the typed addresses
        once case and width are gone, and `capitals` are the same in Python's capitals.
        """
        # A condition may hold a moment, which must not be kept.
        matching = self._matching if self.accounts().query.where else self._statement
        found = matching(typed=typed, folded=folded, capitals=capitals)
        return [(account, stored_in(account, self.email_field)) for account in found]

    def name_of(self, account: Any) -> str:
        """The name that people sign in by, for those who have forgotten it."""
        return str(account.get_username()) if hasattr(account, "get_username") else ""

    def sign_in_ways(self, account: Any) -> Sequence[str]:
        """How an account without a password signs in, such as `["Google"]`, for MAIL_WITHOUT_PASSWORD=explain."""
        return ()

    def language_of(self, account: Any) -> str:
        """The language tag of an account, for mails that nobody has asked for in one: those that support begins."""
        return str(getattr(account, "language", "") or "")

    def hash(self, password: str) -> str:
        """What is stored for a password; slow on purpose."""
        return make_password(password)

    def set_password(self, account: Any, hashed: str) -> None:
        """Store a password's hash. The row has just been read and is locked; the reset is in the same transaction."""
        setattr(account, self.password_field, hashed)
        account.save(update_fields=self.update_fields)

    def named(self, name: str) -> QuerySet[Any]:
        """The accounts that sign in by just this name, for support that searches by it."""
        field = getattr(self.model, "USERNAME_FIELD", None)
        return self.accounts().filter(**{field: name}) if field else self.accounts().none()

    # --- What follows is for this app, and rarely overridden ----------------------------------------------------------

    def lock(self, key: Any) -> Any:
        """The account of a key as it is now, locked until the transaction ends; None where there is none."""
        return self.accounts().select_for_update(of=("self",)).filter(pk=key).first()

    def has_password(self, account: Any) -> bool:
        """Whether the account signs in by a password at all; NULL and Django's unusable ones are none."""
        hashed = getattr(account, self.password_field)
        return bool(hashed) and is_password_usable(hashed)

    def bound(self, account: Any, typed: str) -> codes.Account:
        """What the codes of an account are bound to, for a reset of this address."""
        hashed = getattr(account, self.password_field) or ""
        return codes.Account(str(account.pk), hashed, self.address(account, typed))

    def address(self, account: Any, typed: str) -> str:
        """`address_of`, for an account that has been read."""
        return self.address_of(account.pk, stored_in(account, self.email_field), typed)

    @cached_property
    def _statement(self) -> Select:
        return Select(self.model, self._matching)

    def _matching(self, typed: list[str], folded: list[str], capitals: list[str]) -> QuerySet[Any]:
        return self.matching(self.accounts(), self.email_field, typed, folded, capitals)

    def matching(
        self,
        rows: QuerySet[Any],
        field: str,
        typed: list[str],
        folded: list[str],
        capitals: list[str],
        *,
        account: str = "",
    ) -> QuerySet[Any]:
        """Those rows whose field holds one of the addresses, the oldest MOST_ACCOUNTS of each mailbox.

        `account` leads from a row to its account, such as `user__`. Mailboxes are told apart as `mailbox_of` does: by
        more, a look-alike's accounts would take the places of others. Who can be recovered goes first.
        """
        # In the database's capitals and in Python's: SQLite has none for an é, and would not find a stored É by it.
        as_typed = [Upper(Value(address)) for address in typed]
        as_folded = [*(Upper(Value(spelling)) for spelling in folded), *capitals]
        postgresql = connections[rows.db].vendor == "postgresql"
        mailbox = Lower(Collate(field, "C")) if postgresql else Lower(field)
        by_age = [f"{account}{name}" for name in self._by_age()]
        closed = Case(When(self._is_open(account), then=0), default=1, output_field=SmallIntegerField())
        place = Window(RowNumber(), partition_by=[mailbox], order_by=[closed, *by_age])
        found = rows.annotate(**{SHOUTED: Upper(field), PLACE: place})
        matching = Q(**{f"{SHOUTED}__in": as_typed}) | Q(**{f"{SHOUTED}__in": as_folded})
        places: dict[str, Any] = {f"{PLACE}__lte": MOST_ACCOUNTS}
        ordered: QuerySet[Any] = found.filter(matching, **places).order_by(*by_age)
        return ordered

    def columns(self) -> list[str]:
        """The columns that codes are bound to: the password and, where there is one, the address."""
        return [self.password_field, *([self.email_field] if self._has_column(self.email_field) else [])]

    def _is_open(self, account: str) -> Q:
        """What `why_not` says, as far as columns tell."""
        password = f"{account}{self.password_field}"
        has_password = ~Q(**{f"{password}__startswith": "!"}) & ~Q(**{password: ""})
        if self._has_column(self.password_field, null=True):
            has_password &= Q(**{f"{password}__isnull": False})
        return has_password & (Q(**{f"{account}is_active": True}) if self._has_column("is_active") else Q())

    def _by_age(self) -> tuple[str, ...]:
        return ("date_joined", "pk") if self._has_column("date_joined") else ("pk",)

    def _has_column(self, name: str, *, null: bool = False) -> bool:
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            return False
        return isinstance(field, models.Field) and (field.null or not null)


def stored_in(account: Any, field: str) -> str:
    """The address in an account's row; empty where it is NULL, or there is no such field."""
    return str(getattr(account, field, "") or "")


@cache
def directory() -> Directory:
    """The directory of this project: RECOVERY_DIRECTORY."""
    made: Directory = import_string(conf.RECOVERY_DIRECTORY)() if conf.RECOVERY_DIRECTORY else Directory()
    return made


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in {"RECOVERY_DIRECTORY", "RECOVERY_USER_MODEL", "AUTH_USER_MODEL"}:
        directory.cache_clear()


setting_changed.connect(_forget, dispatch_uid="account_recovery.directory")
