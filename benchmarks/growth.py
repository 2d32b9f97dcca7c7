"""Whether anything becomes dearer with the records that a site has kept. PostgreSQL only.

    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.growth            # 10 million records: minutes
    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.growth --records 0 100000 --accounts 100000

For each number of finished resets, what a person, the mailer and support do is done some times in one process, and the
median is told, with the ratio to the first line's. The last column names what the plans of its statements read, for
any that is read from end to end stands there as `Seq Scan`. The mail server answers at once.
"""

from __future__ import annotations

import argparse
import re
import secrets
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks import rows  # it sets Django up, before any model is imported

# isort: split
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client as Browser
from django.test import override_settings
from django.utils import timezone

from accounts import transitions
from accounts.choices import Mail, State
from accounts.exceptions import InvalidCode
from accounts.mailing import mailer
from accounts.models import ForgetPassword, PasswordResetEvent
from accounts.recovery import verbs
from accounts.recovery.client import Client
from benchmarks.report import Report
from benchmarks.sites import ENDLESS, THROTTLES

ADMIN = "/admin/account_recovery/forgetpassword/"
EXPLAINED = re.compile(r"(INSERT|SELECT|UPDATE|WITH)\b")
READS = re.compile(r"(Seq Scan on \w+|Index(?: Only)? Scan (?:Backward )?using \w+|Bitmap Index Scan on \w+)")
TIMES = 30

SETTINGS = {
    "ALLOWED_HOSTS": ["testserver"],
    "MAIL_DISPATCH": "none",
    "REDIS_URL": "",
    "SECURE_SSL_REDIRECT": False,
    "PASSWORD_RESET_COOLDOWN": 0,  # nosec B105
    **dict.fromkeys(THROTTLES, ENDLESS),
}


class Plans:
    """Collects what the plans of all statements read, for the first of some repetitions."""

    def __init__(self) -> None:
        self.found: dict[str, None] = {}

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if EXPLAINED.match(sql) and not many:
            with connection.connection.cursor() as cursor:
                cursor.execute("EXPLAIN " + sql, params)
                for (line,) in cursor.fetchall():
                    self.found |= dict.fromkeys(READS.findall(line))
        return execute(sql, params, many, context)

    def __str__(self) -> str:
        return ", ".join(sorted({re.sub(r"^Index.* using |^Bitmap Index Scan on ", "", read) for read in self.found}))


class Site:
    """What is done to it, each by one call."""

    def __init__(self) -> None:
        self.client = Client(ip="192.0.2.1", user_agent="Mozilla/5.0")
        self.number = 0
        self.handle = ""
        staff = get_user_model()._default_manager.create_superuser(f"support{secrets.token_hex(4)}")
        self.browser = Browser()
        self.browser.force_login(staff)

    def request(self) -> None:
        self.number += 1
        self.handle = verbs.request(rows.address(self.number % 1000), self.client).handle

    def status(self) -> None:
        verbs.status(self.handle, self.client)

    def verify(self) -> None:
        try:
            verbs.verify(self.handle, "000000", self.client)
        except InvalidCode:
            return
        raise SystemExit("a made-up code was right")

    def look(self) -> None:
        if not mailer.look().looked:
            raise SystemExit("nothing was looked up")

    def look_at_all(self) -> None:
        while mailer.look().looked:
            pass

    def request_and_look(self) -> None:
        self.request()
        self.look()

    def claim(self) -> None:
        """Claim as a sender does, mark as it does, and undo it."""
        now = timezone.now()
        with transaction.atomic():
            claimed = transitions.claim(now, 10)
            if not claimed:
                raise SystemExit("nothing was claimed")
            transitions.settle(claimed, Mail.CODE, now, now)
            transaction.set_rollback(True)

    def sweep(self) -> None:
        """What a mailer that wakes up asks, with nothing to do for it."""
        mailer.look()
        transitions.claim(timezone.now() - timedelta(days=3650), 10)

    def list(self) -> None:
        self._get(ADMIN)

    def search(self) -> None:
        self._get(f"{ADMIN}?q=person7%40example.com")

    def _get(self, path: str) -> None:
        if (answer := self.browser.get(path)).status_code != 200:
            raise SystemExit(f"{path}: HTTP {answer.status_code}")


def fill(number: int) -> None:
    """Have so many finished resets, of a month."""
    have = ForgetPassword.objects.filter(state=State.CANCELLED).count()
    template = ForgetPassword.objects.filter(state=State.CANCELLED).first()
    if template is None:
        now = timezone.now() - timedelta(days=31)
        template = ForgetPassword.objects.create(
            email="person0@example.com",
            email_digest="0" * 64,
            state=State.CANCELLED,
            created_at=now,
            looked_at=now,
            sent_at=now,
            mail_due=Mail.NONE,
            mail_next_at=None,
            mail_turn_at=None,
        )
    if number > have:
        rows.multiply(
            template,
            number - have,
            id="gen_random_uuid()",
            email="'person' || (n %% 1000000) || '@example.com'",
            email_digest="encode(sha256(int4send(n)), 'hex')",
            created_at="template.created_at + (n %% 2592000) * interval '1 second'",
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE account_recovery_forgetpassword")


def measured(act: Callable[[], None], before: Callable[[], None] | None = None) -> tuple[float, str]:
    """The median milliseconds of some calls, and what their plans read."""
    plans, times = Plans(), []
    for number in range(TIMES + 1):
        if before:
            before()
        if not number:
            with connection.execute_wrapper(plans):
                act()
            continue
        begun = time.perf_counter()
        act()
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times), str(plans)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    sizes = [0, 100_000, 1_000_000, 10_000_000]
    parser.add_argument("--records", type=int, nargs="+", default=sizes, help="finished resets, growing")
    parser.add_argument("--accounts", type=int, default=1_000_000, help="accounts to look among")
    options = parser.parse_args()
    rows.migrate()
    rows.clear(PasswordResetEvent, ForgetPassword)
    rows.make_crowd(options.accounts)
    call_command("index_addresses", verbosity=0)
    report, base = Report("growth"), dict[str, float]()
    with override_settings(**SETTINGS):
        site = Site()
        for size in options.records:
            fill(size)
            report.table(f"{size:,} records, {options.accounts:,} accounts", "median ms", "ratio", "read")
            acts: dict[str, tuple[Callable[[], None], Callable[[], None] | None]] = {
                "request": (site.request, None),
                "look up one": (site.look, site.request),
                "status": (site.status, None),
                "verify a wrong code": (site.verify, site.request_and_look),
                "claim ten and mark them": (site.claim, None),
                "sweep with nothing to do": (site.sweep, None),
                "the admin's list": (site.list, None),
                "the admin's search": (site.search, None),
            }
            site.request()
            site.look_at_all()
            for name, (act, before) in acts.items():
                milliseconds, read = measured(act, before)
                if name == "request":
                    site.look_at_all()
                ratio = milliseconds / base.setdefault(name, milliseconds)
                report.row(name, f"{milliseconds:.2f}", f"{ratio:.2f}", f"  {read}")
            ForgetPassword.objects.exclude(mail_due=Mail.NONE).delete()


if __name__ == "__main__":
    main()
