"""`manage.py start_reset`: mail somebody a link to choose a new password, for support that has them on the phone."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...exceptions import InvalidInput, RateLimited
from ...recovery.support import start


class Command(BaseCommand):
    help = "Mail the owner of an address a link to choose a new password. The mail says that support has started it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help="the address of the account, as the person types it")
        parser.add_argument("--by", default="", help="who starts it, for the timeline; as a rule whoever is logged in")

        parser.add_argument("--brand", default="", help="which of BRANDS the mail has; as a rule the default one")

    def handle(self, *args: Any, address: str, by: str, brand: str, **options: Any) -> None:
        try:
            record = start(address, by or getpass.getuser(), brand)
        except (InvalidInput, RateLimited) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"A link is on its way to {record.email}. Its reset is {record.pk}.")
