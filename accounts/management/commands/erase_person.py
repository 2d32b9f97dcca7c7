"""`manage.py erase_person`: delete every trace of one person's resets, as privacy law lets people ask for."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...addresses import clean_address
from ...exceptions import InvalidInput
from ...retention import erase


class Command(BaseCommand):
    help = (
        "Delete all resets of an address and of the accounts it belongs to, with their timelines, webhooks and counts "
        "of wrong codes. The accounts themselves stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help="as the person types it")
        parser.add_argument("--no-input", action="store_true", help="do not ask whether that is meant")

    def handle(self, *args: Any, address: str, no_input: bool, **options: Any) -> None:
        try:
            address = clean_address(address)
        except InvalidInput as error:
            raise CommandError(str(error)) from error
        if not no_input and input(f"Erase all resets of {address}? Type yes: ").strip() != "yes":
            raise CommandError("Nothing was erased.")
        for what, rows in erase(address).items():
            self.stdout.write(f"{rows:>10,} {what}")
