"""`manage.py index_addresses`: the index without which looking an address up reads the whole user table."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from ...directory import directory
from ...lookup import address_index, is_indexed


class Command(BaseCommand):
    help = "Index the user table by the capitalised address. On PostgreSQL nobody has to wait for it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS)
        parser.add_argument("--dry-run", action="store_true", help="print the statement, and run nothing")

    def handle(self, *args: Any, database: str, dry_run: bool, **options: Any) -> None:
        connection, (model, _), index = connections[database], directory().address_column(), address_index()
        # Concurrently: the table is in use, and signing in must not wait for the index.
        how: dict[str, Any] = {"concurrently": True} if connection.vendor == "postgresql" else {}
        with connection.schema_editor(collect_sql=dry_run, atomic=False) as editor:
            statement = index.create_sql(model, editor, **how)
            if dry_run:
                self.stdout.write(f"{statement};")
            elif is_indexed(database):
                self.stdout.write(f"{index.name} is there already.")
            else:
                editor.execute(statement, params=None)
                self.stdout.write(f"{index.name} has been made.")
