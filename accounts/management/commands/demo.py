"""`manage.py demo`: a demo account to play with, and where to look."""

from __future__ import annotations

import socket
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

EMAIL = "demo@example.com"
PASSWORD = "forgotten-by-demo-day-one"  # nosec B105 # noqa: S105 (printed on purpose, and made in development only)


class Command(BaseCommand):
    help = "Make the demo account, check that the port is free, and say where to look. Development only."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("The demo account is for development: set DEBUG=1.")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CommandError(f"Port {port} on {host} is taken; try: make run PORT={port + 1}") from error
        users = get_user_model()._default_manager
        if not users.filter(username="demo").exists():
            users.create_superuser("demo", EMAIL, PASSWORD)
        site = f"http://{host}:{port}"
        self.stdout.write(
            f"\n  GraphiQL  {site}/graphql/\n  Inbox     {site}/inbox/\n  Admin     {site}/admin/\n"
            f"\n  Demo user: demo ({EMAIL}), password {PASSWORD} until you reset it.\n"
        )
