"""How long after the answer to a request its mail is taken by the mail server, at half and at full load.

    python -m harness.postgres python -m benchmarks.mail_latency [--threads 4] [--delay 20] [--seconds 15]

Starts the production server (granian as `make serve` runs it, two processes, threads that mail) with a mail server that
takes 20 ms for each command. Requests come at an even pace over connections kept open, each for another account, so
that each owes a mail. Full load is looked for first: the highest rate of requests at which, for a few seconds, all are
answered in time and as many mails leave as requests come. Then half and all of it are offered for longer.

Times are from the answer received to the mail accepted, in milliseconds; the answers' own are given beside them.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import statistics
import subprocess  # nosec B404 # it runs our own modules
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import sites
from benchmarks.report import Report
from benchmarks.smtp_sink import counting_sink
from harness.deployment import free_port
from harness.smtp_server import environment as mailing_to

CLIENTS = 16
ACCOUNTS = 20_000
PREPARE = f"from benchmarks import rows; rows.migrate(); rows.make_accounts({ACCOUNTS}); rows.analyze()"
KEEPING_UP = 0.95
"""The part of requests whose answers, and of answers whose mails, must come as fast as they do."""


@dataclass
class Load:
    """Requests at a pace, and when each was answered."""

    answered: dict[str, float] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)
    begun: float = 0.0
    ended: float = 0.0


class Site:
    """A running server, the log of its mail server, and the accounts that have not asked yet."""

    def __init__(self, port: int, log: Path) -> None:
        self._port = port
        self._log = log
        self._numbers = itertools.count()

    def offer(self, rate: float, seconds: float) -> Load:
        """Ask so many times a second, as far as the clients can; later than due rather than not at all."""
        load, turns = Load(begun=time.time()), iter(range(int(rate * seconds)))
        lock = threading.Lock()

        def ask() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            client = sites.Site(connection)
            while True:
                with lock:
                    turn, number = next(turns, None), next(self._numbers)
                if turn is None:
                    return
                time.sleep(max(0.0, load.begun + turn / rate - time.time()))
                email = f"person{number}@example.com"
                load.milliseconds.append(client.request(email)[1])
                load.answered[email] = time.time()

        clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        load.ended = time.time()
        return load

    def taken(self) -> dict[str, float]:
        """When each address's mail was taken."""
        pairs = (line.split() for line in self._log.read_text().splitlines())
        return {address: float(at) for address, at in (pair for pair in pairs if len(pair) == 2)}

    def wait_for(self, load: Load) -> dict[str, float]:
        deadline = time.time() + 120
        while load.answered.keys() - self.taken().keys():
            if time.time() > deadline:
                raise SystemExit("the mails were not sent")
            time.sleep(0.2)
        return self.taken()

    def keeps_up(self, rate: float, seconds: float) -> bool:
        """Whether, in the later half of this time, answers come as fast as requests, and mails as fast as answers."""
        load = self.offer(rate, seconds)
        middle, end = load.begun + seconds / 2, load.begun + seconds
        answers = sum(middle <= at < end for at in load.answered.values())
        mails = sum(middle <= at < end for address, at in self.wait_for(load).items() if address in load.answered)
        return answers >= KEEPING_UP * rate * seconds / 2 and mails >= KEEPING_UP * answers


def find_full_load(site: Site, report: Report, seconds: float) -> float:
    """Mails a second that the site is good for: its pace under a flood, or a little below it."""
    flood = site.offer(1000, 0.6)
    taken = site.wait_for(flood)
    times = sorted(taken[address] for address in flood.answered)
    most = len(times) / (times[-1] - flood.begun)
    report.say(f"A flood of {len(times)} requests was mailed at {most:.0f} a second.")
    rate = 1.3 * most
    while not site.keeps_up(rate, seconds):
        rate *= 0.85
    return rate


def percentiles(values: list[float]) -> tuple[str, str]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return f"{cuts[49]:.0f}", f"{cuts[98]:.0f}"


def report_load(site: Site, report: Report, name: str, rate: float, seconds: float) -> None:
    load = site.offer(rate, seconds)
    taken = site.wait_for(load)
    waited = [1000 * (taken[address] - at) for address, at in load.answered.items()]
    pace = len(load.answered) / (load.ended - load.begun)
    report.row(name, f"{pace:.0f}", *percentiles(load.milliseconds), *percentiles(waited))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=4, help="MAIL_SENDERS of each of the two processes")
    parser.add_argument("--delay", type=float, default=20, help="milliseconds for each command of the mail server")
    parser.add_argument("--seconds", type=float, default=15, help="length of each load")
    parser.add_argument("--short", action="store_true", help="half a minute: a third of the length")
    options = parser.parse_args()
    seconds = options.seconds / 3 if options.short else options.seconds
    report = Report("mail_latency")
    with serving(options.delay, options.threads) as site:
        site.offer(20, 1)  # the first requests import, compile and fill caches
        full = find_full_load(site, report, seconds / 3)
        title = f"{options.threads} threads in each of two processes, {options.delay:g} ms for each SMTP command"
        report.table(title, "requests/s", "answer p50 ms", "p99 ms", "mail p50 ms", "p99 ms")
        report_load(site, report, "half load", full / 2, seconds)
        report_load(site, report, "full load", full, seconds)


@contextmanager
def serving(delay: float, threads: int) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder:
        log, port = Path(folder, "log"), free_port()
        with counting_sink(delay, log=log) as smtp:
            database = os.environ.get("DATABASE_URL", f"sqlite:///{folder}/db.sqlite3")
            variables = {**sites.site_environment(port), **mailing_to(smtp.port), "DATABASE_URL": database}
            variables["MAIL_SENDERS"] = str(threads)
            subprocess.run([sys.executable, "-c", PREPARE], env=variables, cwd=sites.ROOT, check=True)  # nosec B603 # noqa: S603 (our own script)
            with sites.granian(variables, port, 2):
                yield Site(port, log)


if __name__ == "__main__":
    main()
