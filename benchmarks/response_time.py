"""How long a request takes while the mail server is instant, and while it takes two seconds for every mail.

    .venv/bin/python -m benchmarks.response_time              # 200 requests to each
    .venv/bin/python -m benchmarks.response_time --requests 500 --slow 5

Starts the production server twice, each with granian as `make serve` runs it, a SQLite database of its own and an SMTP
server of its own on the loopback interface: one that answers at once, and one that thinks about each mail. Then
`requestPasswordReset` is sent to them in turn, each time for another address; half of the addresses have an account,
so half of the requests owe a mail. Limits and cooldown are lifted. What is printed is the time from the first byte sent
to the last byte received, in milliseconds, on a connection kept open; mails are counted as the SMTP servers took them.

Nothing waits for a mail if the medians of both are alike: a ratio of 1.0.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sites import Site, address, prepare, say, serving
from harness.smtp_server import SMTPServer

WARM_UP = 20
"""Requests to each arrangement before the clock counts: the first ones import, compile and fill caches."""


@dataclass
class Arrangement:
    """A running site with its mail server, and the milliseconds that its answers took."""

    name: str
    site: Site
    smtp: SMTPServer
    milliseconds: list[float] = field(default_factory=list)

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=200, help="requests to each arrangement")
    parser.add_argument("--slow", type=float, default=2.0, help="seconds that the slow mail server takes for a mail")
    options = parser.parse_args()
    with ExitStack() as stack:
        fast = stack.enter_context(arrangement("instant SMTP", 0.0, WARM_UP + options.requests))
        slow = stack.enter_context(
            arrangement(f"{options.slow:g} s per mail", options.slow, WARM_UP + options.requests)
        )
        for number in range(WARM_UP + options.requests):
            # Neither always goes first.
            for each in (fast, slow) if number % 2 else (slow, fast):
                _, took = each.site.request(address(number))
                if number >= WARM_UP:
                    each.milliseconds.append(took)
        report(fast, slow)


def report(fast: Arrangement, slow: Arrangement) -> None:
    say(f"{'':>16} {'requests':>9} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'mails taken':>12}")
    for each in (fast, slow):
        times = (each.percentile(50), each.percentile(99), max(each.milliseconds))
        say(
            f"{each.name:>16} {len(each.milliseconds):>9} {times[0]:>8.1f} {times[1]:>8.1f} {times[2]:>8.1f}"
            f" {len(each.smtp.letters):>12}"
        )
    say(f"median slow / median fast: {slow.percentile(50) / fast.percentile(50):.2f}")


@contextmanager
def arrangement(name: str, seconds_per_mail: float, accounts: int) -> Iterator[Arrangement]:
    """A site and its mail server, running for as long as the context lasts; every second address has an account."""
    with tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder, SMTPServer() as smtp:
        smtp.slow(seconds_per_mail, "END")
        database = f"sqlite:///{Path(folder) / 'db.sqlite3'}"
        prepare(database, [address(number) for number in range(0, accounts, 2)])
        with serving({"DATABASE_URL": database}, smtp.port) as site:
            yield Arrangement(name, site, smtp)


if __name__ == "__main__":
    main()
