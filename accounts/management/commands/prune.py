"""`manage.py prune`: wipe and delete old resets now, instead of waiting for a mailer's daily round."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from ... import retention
from ...conf import conf

MOST_DAYS = 36_500
WIDTH = 30
"""Characters of the bar."""


def days(text: str) -> int:
    """A number of days that is not too small. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or not retention.LEAST_DAYS <= int(text[:9]) <= MOST_DAYS:
        raise ArgumentTypeError(f"give a number of days, from {retention.LEAST_DAYS} to {MOST_DAYS}")
    return int(text)


class Command(BaseCommand):
    help = (
        "Wipe the personal data of resets after RETENTION_PERSONAL_DAYS, and delete them after RETENTION_DAYS. Mailers "
        "do it by themselves once a day. It works in small batches, blocks nobody, and can be stopped at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=days, default=conf.RETENTION_DAYS, help="instead of RETENTION_DAYS")
        parser.add_argument("--dry-run", action="store_true", help="count, and change nothing")

    def handle(self, *args: Any, days: int, dry_run: bool, **options: Any) -> None:
        if not days:
            raise CommandError("RETENTION_DAYS is 0, so resets are kept for ever. Say --days to delete some.")
        now = timezone.now()
        is_watched = self.stdout.isatty()
        todo = retention.count(now, days) if dry_run or is_watched else {}
        if dry_run:
            self._say(todo)
            return
        done: Counter[str] = Counter()
        try:
            for what, rows in retention.prune(now, days):
                done[what] += rows
                if is_watched:
                    self._draw(done.total(), sum(todo.values()))
        finally:
            if is_watched:
                self.stdout.write("")
            self._say(done)

    def _say(self, rows: dict[str, int]) -> None:
        for kind in retention.KINDS:
            self.stdout.write(f"{rows.get(kind.name, 0):>10,} {kind.name}")

    def _draw(self, done: int, total: int) -> None:
        """One line that is written over and over."""
        total = max(done, total)
        filled = WIDTH * done // total
        bar = "#" * filled + "." * (WIDTH - filled)
        self.stdout.write(f"\r[{bar}] {100 * done // total:3d} %  {done:,} of {total:,} ", ending="")
        self.stdout.flush()
