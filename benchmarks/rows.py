"""Accounts and rows for a benchmark of the mailer, made as quickly as the database takes them.

Importing this sets Django up, with the benchmarks' settings.
"""

# ruff: noqa: E402 (models can be imported once Django is set up)

from __future__ import annotations

import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
django.setup()

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, models
from django.utils import timezone

from accounts import codes
from accounts.addresses import fold
from accounts.choices import State
from accounts.models import ForgetPassword, PasswordResetEvent

NO_HASH = "argon2$"
"""Of accounts that nobody signs in to."""


def migrate() -> None:
    call_command("migrate", verbosity=0)


def address(number: int) -> str:
    return f"person{number}@example.com"


def make_accounts(number: int) -> None:
    """Have exactly so many accounts, and no row."""
    clear(PasswordResetEvent, ForgetPassword)
    users = get_user_model()._default_manager
    users.all().delete()
    users.bulk_create(users.model(username=address(n), email=address(n), password=NO_HASH) for n in range(number))


def make_crowd(number: int) -> None:
    """Have so many accounts, made within PostgreSQL beyond the first thousand."""
    first = min(number, 1000)
    make_accounts(first)
    template = get_user_model()._default_manager.order_by("pk")[0]
    if number > first:
        multiply(template, number - first, username="'crowd' || n", email="'crowd' || n || '@example.com'")
    analyze(get_user_model())


def make_due(mails: int, *, looked: bool = True) -> None:
    """Have exactly so many rows, each of an account of its own, that owe a code; or that nobody has looked at yet."""
    clear(PasswordResetEvent, ForgetPassword)
    now = timezone.now()
    users = get_user_model()._default_manager.order_by("pk")[:mails]
    ForgetPassword.objects.bulk_create(
        [
            ForgetPassword(
                email=user.email,
                email_digest=codes.address_digest(fold(user.email)),
                user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
                **({"user": user, "state": State.SENT, "looked_at": now, "sent_at": now} if looked else {}),
            )
            for user in users
        ],
        batch_size=500,
    )
    analyze()


def multiply(template: models.Model, copies: int, **different: str) -> None:
    """Copy a row within PostgreSQL; `different` are expressions over `n`, the number of the copy, by column."""
    table, columns = template._meta.db_table, [str(field.column) for field in template._meta.concrete_fields]
    pk: Any = template._meta.pk
    columns = [column for column in columns if column in different or column != pk.column]
    values = [different.get(column, f'template."{column}"') for column in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    statement = f"""INSERT INTO "{table}" ({names}) SELECT {", ".join(values)}
        FROM "{table}" AS template CROSS JOIN generate_series(1, %s) AS n WHERE template."{pk.column}" = %s"""  # nosec B608 # noqa: S608 (names of our own models)
    with connection.cursor() as cursor:
        cursor.execute(statement, [copies, template.pk])


def analyze(*models_: Any) -> None:
    """Give the planner the numbers that it would soon have anyhow."""
    with connection.cursor() as cursor:
        for model in models_ or (ForgetPassword, get_user_model()):
            cursor.execute(f'ANALYZE "{model._meta.db_table}"')


def clear(*models_: Any) -> None:
    """Empty tables for good, and those that refer to them, so that one line leaves nothing behind for the next."""
    if connection.vendor != "postgresql":
        for model in models_:
            model._default_manager.all().delete()
        return
    names = ", ".join(f'"{model._meta.db_table}"' for model in models_)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {names} CASCADE")


def leave_to_us() -> None:
    """Keep PostgreSQL from vacuuming the queue on its own."""
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{ForgetPassword._meta.db_table}" SET (autovacuum_enabled = off)')
