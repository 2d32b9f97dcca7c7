"""`manage.py run_mailer`: the mailer as a process of its own."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from ...conf import conf
from ...mailing import threads as workers
from ...models import ForgetPassword
from ...signals import password_reset_sent


class Command(BaseCommand):
    help = "Mail what is due until told to stop (SIGTERM, Ctrl+C). Run as many as you like; they share the work."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--threads", type=int, default=conf.MAIL_SENDERS, help="mails sent at once, at the most")
        parser.add_argument("--once", action="store_true", help="mail what is due now, and end")

    def handle(self, *args: Any, threads: int, once: bool, **options: Any) -> None:
        self.stopped = threading.Event()
        self.sent = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        password_reset_sent.connect(self._count, dispatch_uid="account_recovery.run_mailer")
        running = workers.SendingThreads(threads)
        running.start()
        while not (once or self.stopped.wait(1)):
            self._progress()
        running.stop(timeout=threading.TIMEOUT_MAX if once else workers.DRAIN_SECONDS)
        self._progress()
        if sys.stdout.isatty():
            self.stdout.write("")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped.set()

    def _count(self, **kwargs: Any) -> None:
        self.sent += 1

    def _progress(self) -> None:
        """One line that is written over and over, where somebody watches; silence in a log."""
        if sys.stdout.isatty():
            waiting = ForgetPassword.objects.due(timezone.now()).count()
            self.stdout.write(f"\r{self.sent} mailed, {waiting} due ", ending="")
            self.stdout.flush()
