"""How many mails a second, and for how much CPU, against one `send_mail` call each and against the number of threads.

    python -m harness.postgres python -m benchmarks.mail_throughput [--mails 300] [--rounds 3] [--short]

The first table compares what a mail costs with a mail server that answers at once, in the clear and over STARTTLS:
Django's `send_mail` once for each message (each call connects, makes an SSL context and shakes hands, and a view would
render its templates besides), and our mailer on a prepared backlog. The lines take turns, and each shows the median of
its rounds. The second table shows what threads are good for: mail servers that take 0, 20 or 100 ms for each command.
The third one shows several `run_mailer` processes, with a server of 20 ms and few threads each.

CPU is that of the mailing process, user and system, without its start and without the mail server's and the database's.
"Mails for a CPU second" are given as multiples of the baseline named. Compare the lines of one run with each other: the
machine may be shared.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import subprocess  # nosec B404 # it runs our own modules
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import rows
from benchmarks.report import Report
from benchmarks.smtp_sink import Running, counting_sink, make_certificate

PATIENCE = 300.0
"""Seconds after which a line has failed."""


class Cost(NamedTuple):
    """What one mail took: seconds by the clock, and seconds of CPU."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(server: Running, mails: int, send: Callable[[int], None]) -> Cost:
    before, wall, cpu = server.taken(), time.perf_counter(), cpu_seconds()
    send(mails)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    if (taken := server.taken() - before) != mails:
        raise SystemExit(f"{taken} mails instead of {mails}")
    return Cost(wall / mails, cpu / mails)


@contextmanager
def mailing_to(port: int, *, tls: bool = False) -> Iterator[None]:
    from django.test import override_settings

    from harness.smtp_server import point_mail_at

    class Wanted:
        pass

    point_mail_at(Wanted, port, use_tls=tls)
    with override_settings(**{name: value for name, value in vars(Wanted).items() if name.isupper()}):
        yield


# --- What is measured ------------------------------------------------------------------------------------------------


def one_call_each(mails: int) -> None:
    """What a view does that has its text ready: a connection for each mail, and no record of it."""
    from django.core.mail import send_mail

    text, html = _texts()
    for number in range(mails):
        send_mail("Your code to reset the password", text, None, [rows.address(number)], html_message=html)


def one_view_each(mails: int) -> None:
    """The same with the templates rendered for each mail, as views do."""
    from django.core.mail import send_mail

    for number in range(mails):
        text, html = _texts()
        send_mail("Your code to reset the password", text, None, [rows.address(number)], html_message=html)


class ByThreads:
    """The mailer with so many threads, on rows that are due, or that must be looked up first."""

    def __init__(self, threads: int, *, looked: bool = True) -> None:
        self._threads = threads
        self._looked = looked

    def prepare(self, mails: int) -> None:
        rows.make_due(mails, looked=self._looked)

    def __call__(self, mails: int) -> None:
        from accounts import signals
        from accounts.mailing import threads as workers

        done, numbers = threading.Event(), itertools.count(1)

        def count(**_: Any) -> None:
            if next(numbers) == mails:
                done.set()

        signals.password_reset_sent.connect(count, dispatch_uid="benchmark")
        crew = workers.SendingThreads(self._threads)
        crew.start()
        if not done.wait(PATIENCE):
            raise SystemExit("the mails were not sent")
        crew.stop(PATIENCE)
        signals.password_reset_sent.disconnect(dispatch_uid="benchmark")


def _context() -> dict[str, Any]:
    link = {"name": "person", "url": "https://accounts.example.com/reset/#token=" + "x" * 66}
    return {
        "host": "accounts.example.com",
        "reset_page": "https://accounts.example.com/reset/",
        "code_lasts": "10 minutes",
        "link_lasts": "1 hour",
        "brand": "accounts.example.com",
        "subject": "accounts.example.com: your code",
        "code": "048213",
        "phrase": "candle harbour",
        "asked_at": "2026-03-01 12:00 UTC",
        "asked_from": "Firefox, Linux",
        "links": [link],
    }


def _texts() -> tuple[str, str]:
    from django.template.loader import render_to_string

    text = render_to_string("account_recovery/mail/reset.txt", _context())
    return text, render_to_string("account_recovery/mail/reset.html", _context())


# --- The tables ------------------------------------------------------------------------------------------------------


def compare_costs(report: Report, server: Running, mails: int, rounds: int) -> None:
    lines: dict[str, tuple[bool, Callable[[int], None]]] = {
        "send_mail each": (False, one_call_each),
        "two templates and send_mail each": (False, one_view_each),
        "send_mail each, STARTTLS": (True, one_call_each),
        "two templates and send_mail each, STARTTLS": (True, one_view_each),
        "mailer, 1 thread": (False, ByThreads(1)),
        "mailer, 4 threads": (False, ByThreads(4)),
        "mailer, 16 threads": (False, ByThreads(16)),
        "mailer, 4 threads, Look included": (False, ByThreads(4, looked=False)),
        "mailer, 4 threads, STARTTLS": (True, ByThreads(4)),
        "mailer, 4 threads, Look included, STARTTLS": (True, ByThreads(4, looked=False)),
    }
    costs: dict[str, list[Cost]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, (tls, send) in lines.items():
            cost = _one_line(server, mails if number else 20, send, tls=tls)
            if number:  # the first round fills caches
                costs[name].append(cost)
    baselines = [name for name in lines if "each" in name]
    report.table(f"What a mail costs: medians of {rounds} rounds of {mails} mails", "mails/s", "CPU ms/mail", *"abcd")
    for name, found in costs.items():
        wall, cpu = _median(found)
        times = [f"{_median(costs[baseline]).cpu / cpu:.2f}" for baseline in baselines]
        report.row(name, f"{1 / wall:.0f}", f"{1000 * cpu:.2f}", *times)
    report.say("  a to d: mails for a CPU second, as a multiple of the first, second, third, fourth line")


def compare_threads(report: Report, delay: int, threads: tuple[int, ...], mails: int) -> None:
    report.table(f"A mail server of {delay} ms for each command", "mails", "mails/s", "CPU ms/mail")
    with counting_sink(delay) as server:
        few = max(10, mails // (1 + delay // 2))
        _row(report, "send_mail each", few, _one_line(server, few, one_call_each))
        for number in threads:
            # About the same time for each line.
            some = min(mails, few * number)
            _row(
                report,
                f"mailer, {number} {'thread' if number == 1 else 'threads'}",
                some,
                _one_line(server, some, ByThreads(number)),
            )


def compare_processes(report: Report, threads: int, mails: int) -> None:
    title = f"Processes of `run_mailer` with {threads} threads each, a mail server of 20 ms"
    report.table(title, "mails", "mails/s", "CPU ms/mail", "times one")
    first = 0.0
    for processes in (1, 2, 4):
        some = mails * processes
        rows.make_due(some)
        with counting_sink(20) as server:
            cost = _with_processes(server, processes, threads, some)
        first = first or 1 / cost.wall
        cells = (f"{some}", f"{1 / cost.wall:.0f}", f"{1000 * cost.cpu:.2f}", f"{1 / cost.wall / first:.2f}")
        report.row(f"{processes} {'process' if processes == 1 else 'processes'}", *cells)


def _one_line(server: Running, mails: int, send: Callable[[int], None], *, tls: bool = False) -> Cost:
    if isinstance(send, ByThreads):
        send.prepare(mails)
    with mailing_to(server.port, tls=tls):
        return measure(server, mails, send)


def _row(report: Report, name: str, mails: int, cost: Cost) -> None:
    report.row(name, f"{mails}", f"{1 / cost.wall:.0f}", f"{1000 * cost.cpu:.2f}")


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def _with_processes(server: Running, processes: int, threads: int, mails: int) -> Cost:
    """Start them, wait until each is ready, let all of them go at once; each tells its CPU since then."""
    environment = {**os.environ, "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(server.port)}
    command = [sys.executable, "-m", "benchmarks.mail_throughput", "--process", str(threads)]
    started = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # nosec B603 # noqa: S603 (our own command)
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout  # nosec B101 # noqa: S101 (for the type checker)
        process.stdout.readline()
    wall = time.perf_counter()
    for process in started:
        assert process.stdin  # nosec B101 # noqa: S101 (for the type checker)
        process.stdin.write("\n")
        process.stdin.flush()
    cpu = sum(float(process.communicate()[0]) for process in started)
    wall = time.perf_counter() - wall
    if server.taken() != mails:
        raise SystemExit(f"{server.taken()} mails instead of {mails}")
    return Cost(wall / mails, cpu / mails)


def be_a_process(threads: int) -> None:
    from django.core.management import call_command

    print("ready", flush=True)
    sys.stdin.readline()
    cpu = cpu_seconds()
    call_command("run_mailer", once=True, threads=threads)
    print(cpu_seconds() - cpu, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mails", type=int, default=600, help="mails of a line; fewer where the server is slow")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the first table")
    parser.add_argument("--short", action="store_true", help="half a minute: the first table alone, with one round")
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        return be_a_process(options.process)
    with tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder:
        certificate = make_certificate(Path(folder))
        os.environ["SSL_CERT_FILE"] = str(certificate)  # whom Django's mail backend trusts
        rows.migrate()
        report = Report("mail_throughput")
        rows.make_accounts(options.mails)
        with counting_sink(certificate=certificate) as server:
            compare_costs(report, server, options.mails, 1 if options.short else options.rounds)
        if not options.short:
            for delay in (0, 20, 100):
                compare_threads(report, delay, (1, 4, 16), options.mails)
            compare_processes(report, 4, options.mails // 4)
    return None


if __name__ == "__main__":
    main()
