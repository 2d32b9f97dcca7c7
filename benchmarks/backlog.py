"""Whether a long queue, or a crowd of accounts, makes a mail dearer. PostgreSQL only.

    python -m harness.postgres python -m benchmarks.backlog [--rows 1000 10000 100000 1000000] [--accounts 1000000]

First table: for each length of the queue, some mails are sent from its head, to a mail server that answers at once; and
what the claim's own SELECT then takes, by EXPLAIN ANALYZE, and how many blocks it touches. Nothing vacuums meanwhile.

Second table: the same SELECT after many rows have been claimed and settled, which leaves dead entries at the head of
the index: as it is found first, when it is repeated, and while a transaction that began before all that is still open,
as a dump is; no clean-up of any kind is allowed then.

Third table: the time of a look at 100 rows among so many accounts, without and with the index of
`manage.py index_addresses`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from benchmarks import rows
from benchmarks.mail_throughput import mailing_to, measure
from benchmarks.report import Report
from benchmarks.smtp_sink import counting_sink

ACCOUNTS = 2000
"""Accounts whose rows stand in the queue; a mail's cost does not depend on how often one of them asked."""


class Plan(NamedTuple):
    """What EXPLAIN (ANALYZE, BUFFERS) says of a statement."""

    milliseconds: float
    blocks: int


def fill(number: int) -> None:
    """Have so many rows that owe a code, the longest due since hours."""
    from django.db import connection

    from accounts.models import ForgetPassword

    rows.make_due(1)
    template = ForgetPassword.objects.get()
    long_ago = template.created_at - timedelta(hours=2)
    ForgetPassword.objects.update(mail_next_at=long_ago, mail_turn_at=long_ago)
    users = "(SELECT min(id) FROM auth_user) + n %% (SELECT count(*) FROM auth_user)"
    emails = f"'person' || n %% {ACCOUNTS} || '@example.com'"  # each its own: what was typed elsewhere is not mailed
    due = "template.mail_next_at + n * interval '1 millisecond'"
    if number > 1:
        rows.multiply(
            template,
            number - 1,
            id="gen_random_uuid()",
            user_id=users,
            email=emails,
            mail_next_at=due,
            mail_turn_at=due,
            created_at=due,
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE account_recovery_forgetpassword")


def from_the_head(mails: int) -> None:
    """Send as one thread does that is never short of work."""
    from accounts.mailing import mailer, smtp

    connection = smtp.Connection()
    for done in range(0, mails, 50):
        mailer.send_due(connection, min(50, mails - done))
    connection.close()


def explain_claim(limit: int = 50, **since: Any) -> Plan:
    """What the claim's own SELECT takes, as the mailer would run it now; nothing stays claimed."""
    from django.db import connection, transaction
    from django.utils import timezone

    from accounts import transitions

    plans: list[Plan] = []

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "FOR UPDATE" in sql and not plans:
            with connection.connection.cursor() as cursor:
                cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, params)
                (plan,) = cursor.fetchone()[0]
            plans.append(
                Plan(plan["Execution Time"], plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
            )
        return execute(sql, params, many, context)

    with transaction.atomic(), connection.execute_wrapper(explain):
        transitions.claim(timezone.now(), limit, **since)
        transaction.set_rollback(True)
    return plans[0]


def settle(number: int, at_once: int = 500, **since: Any) -> float:
    """Claim and settle as the mailer does, without mailing; returns the milliseconds of a claim of 50."""
    from django.utils import timezone

    from accounts import transitions
    from accounts.choices import Mail

    for _ in range(number // at_once):
        now = timezone.now()
        transitions.settle(transitions.claim(now, at_once), Mail.CODE, now, now)
    times = []
    for _ in range(20):
        begun, now = time.perf_counter(), timezone.now()
        pks = transitions.claim(now, 50, **since)
        times.append(time.perf_counter() - begun)
        transitions.settle(pks, Mail.CODE, now, now)
    return 1000 * statistics.median(times)


@contextmanager
def old_transaction() -> Iterator[None]:
    """A second connection that goes on seeing the database as it is now."""
    from django.db import connection

    with connection.copy().cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM account_recovery_passwordresetevent")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
            cursor.connection.close()


def compare_lengths(report: Report, lengths: list[int], mails: int) -> None:
    report.table("The length of the queue", "rows", "mails/s", "CPU ms/mail", "SELECT ms", "blocks")
    with counting_sink() as server:
        for length in lengths:
            fill(length)
            some = min(mails, length)
            with mailing_to(server.port):
                cost = measure(server, some, from_the_head)
            plan = explain_claim()
            cells = (f"{length:,}", f"{1 / cost.wall:.0f}", f"{1000 * cost.cpu:.2f}", f"{plan.milliseconds:.2f}")
            report.row(f"{some} mails from the head", *cells, f"{plan.blocks}")


def compare_heads(report: Report, length: int, settled: int) -> None:
    from accounts.transitions import first_turn

    title = f"The head of a queue of {length:,} rows, when {settled:,} have been settled"
    report.table(title, "SELECT ms", "blocks", "claim ms")
    fill(length)
    _head(report, "before", explain_claim(), settle(0))
    claim = settle(settled)
    _head(report, "after, first", explain_claim(), claim)
    _head(report, "after, repeated", explain_claim(), settle(0))
    fill(length)
    with old_transaction():
        claim = settle(settled)
        _head(report, "while an old transaction is open", explain_claim(), claim)
        _head(report, "the same, repeated", explain_claim(), settle(0))
        since: Any = {"since": first_turn()}
        _head(report, "the same, after a sweep", explain_claim(**since), settle(0, **since))


def _head(report: Report, name: str, plan: Plan, claim: float) -> None:
    report.row(name, f"{plan.milliseconds:.2f}", f"{plan.blocks}", f"{claim:.2f}")


def compare_looks(report: Report, accounts: int) -> None:
    from django.core.management import call_command

    report.table(f"A look at 100 rows among {accounts:,} accounts", "median ms", "greatest ms")
    rows.make_crowd(accounts)
    _look(report, "without the index")
    call_command("index_addresses", verbosity=0)
    rows.analyze()
    _look(report, "with the index")


def _look(report: Report, name: str) -> None:
    from accounts.mailing import mailer

    times = []
    for _ in range(3):
        rows.make_due(100, looked=False)
        begun = time.perf_counter()
        if mailer.look().looked != 100:
            raise SystemExit("fewer rows than were made")
        times.append(1000 * (time.perf_counter() - begun))
    report.row(name, f"{statistics.median(times):.1f}", f"{max(times):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    lengths = [1000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--rows", type=int, nargs="+", default=lengths, help="lengths of the queue")
    parser.add_argument("--mails", type=int, default=1000, help="mails to send from the head of each")
    parser.add_argument("--settled", type=int, default=20_000, help="rows to settle before the claim is explained")
    parser.add_argument("--accounts", type=int, default=1_000_000, help="accounts to look among")
    parser.add_argument("--short", action="store_true", help="half a minute: small numbers throughout")
    options = parser.parse_args()
    if options.short:
        options.rows, options.mails, options.settled, options.accounts = [1000, 100_000], 300, 5000, 100_000
    rows.migrate()
    report = Report("backlog")
    rows.make_accounts(ACCOUNTS)
    rows.leave_to_us()
    compare_lengths(report, options.rows, options.mails)
    compare_heads(report, max(100_000, 2 * options.settled), options.settled)
    compare_looks(report, options.accounts)


if __name__ == "__main__":
    main()
