"""Whether a stranger with a stopwatch can tell addresses that have an account from those that have none.

    make timing
    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.timing --pairs 500    # sooner, and less sure

The production server as `make serve` starts it, on PostgreSQL, mails to a server that takes a while for each mail.
Addresses with and without an account come in random order, as many of each, every one once. For each, over one
connection and hence one worker, the stranger sends the request, asks for the status until it is SENT, and then sends a
wrong code, and a made-up token of each kind to each verb that takes it. Limits and cooldown are lifted, and there are
a thousand accounts without any address. benchmarks/polling.py asks for the status again and again, and averages.

Each kind of time is compared between known and unknown by the AUC of Mann and Whitney: the chance that a known one
takes longer. 0.5 tells nothing. OWASP ASVS 5.0 section 6.3.8 wants no difference; what is accepted here is 0.45 to
0.55. Two more groups of unknown addresses check the method. `AA` is treated like any other: what it differs by is
noise. For `planted` the stopwatch runs 2 ms longer: that must be seen.

The exit code is 0 if nothing can be told, 1 if something can, 2 if the method has not shown that it would see it. The
table also goes to var/timing-report.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from benchmarks.auc import Comparison, compare
from benchmarks.sites import ROOT, Site, address, prepare, say, serving
from benchmarks.smtp_sink import sink

TOLERANCE = 0.05
PLANTED_SECONDS = 0.002
WARM_UP = 100
CODE_LIFETIME_MS = 600_000
REQUEST = "the request"
MADE_UP = (
    *((kind, verb) for kind in ("link", "code") for verb in ("checkResetToken", "resetPassword", "checkPassword")),
    ("report", "reportPasswordReset"),
)
"""Which made-up tokens are sent where."""
COLUMNS = "| time of | groups | n | median, ms | median of unknown, ms | AUC | 95 of 100 | |"

Times = dict[str, dict[str, list[float]]]
"""Milliseconds by what was timed and by group."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000, help="known addresses, and unknown ones")
    parser.add_argument("--slow", type=float, default=100, help="milliseconds that the mail server takes for a mail")
    parser.add_argument("--report", type=Path, default=ROOT / "var" / "timing-report.md", help="where the table goes")
    options = parser.parse_args()
    begun = time.monotonic()
    times = measure(options.pairs, options.slow)
    lines, exit_code = verdict(times)
    heading = (
        f"{options.pairs} pairs, a mail takes {options.slow:g} ms, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {datetime.now().astimezone():%Y-%m-%d %H:%M}, {time.monotonic() - begun:.0f} s"
    )
    report = "\n".join(["# Known and unknown addresses by the stopwatch", "", heading, "", *lines])
    options.report.parent.mkdir(exist_ok=True)
    options.report.write_text(report + "\n")
    say(report)
    sys.exit(exit_code)


def measure(pairs: int, slow: float) -> Times:
    groups = ["known"] * pairs + ["unknown"] * pairs + ["AA"] * (pairs // 2) + ["planted"] * (pairs // 4)
    random.shuffle(groups)
    database = {"DATABASE_URL": postgresql()}
    prepare(database["DATABASE_URL"], [address(n) for n, group in enumerate(groups) if group == "known"])
    times: Times = defaultdict(lambda: defaultdict(list))
    with sink(mail=slow) as smtp_port, serving(database, smtp_port) as site:
        for number in range(WARM_UP):
            one_round(site, address(-1 - number))
        for number, group in enumerate(groups):
            took = one_round(site, address(number), PLANTED_SECONDS if group == "planted" else 0.0)
            for name, milliseconds in took.items():
                times[name][group].append(milliseconds)
    return times


def one_round(site: Site, email: str, planted: float = 0.0) -> dict[str, float]:
    """What a stranger can time about one address, in milliseconds."""
    began = time.perf_counter()
    if planted:
        time.sleep(planted)
    handle, _ = site.request(email)
    request = since(began)
    shown, following = site.status(handle)
    while shown["status"] == "QUEUED":
        shown, _ = site.status(handle)
    until_sent = since(began)
    return {
        REQUEST: request,
        "the next one, for the status": following,
        "all until SENT is shown": until_sent,
        "a wrong code after that": site.guess(handle),
        **{f"a made-up {kind}, {verb}": site.send_made_up(kind, verb, handle) for kind, verb in MADE_UP},
        "SENT by the times that it shows": shown_delay(shown),
    }


def verdict(times: Times) -> tuple[list[str], int]:
    """The table, and the exit code."""
    lines = [COLUMNS, "|---|---|---|---|---|---|---|---|"]
    leaks = False
    for group in ("known", "AA"):
        for name, groups in times.items():
            compared = compare(groups[group], groups["unknown"])
            leaks |= (bad := abs(compared.auc - 0.5) > TOLERANCE)
            lines.append(row(name, f"{group}, unknown", compared, "can be told" if bad else "cannot be told"))
    planted = compare(times[REQUEST]["planted"], times[REQUEST]["unknown"])
    blind = planted.low <= 0.5 + TOLERANCE
    lines.append(row(REQUEST, "planted, unknown", planted, "not seen: the method is blind" if blind else "seen"))
    return lines, 1 if leaks else 2 if blind else 0


def row(name: str, groups: str, compared: Comparison, remark: str) -> str:
    cells: Iterable[str] = (
        name,
        groups,
        ", ".join(str(n) for n in compared.n),
        *(f"{median:.2f}" for median in compared.medians),
        f"{compared.auc:.3f}",
        f"{compared.low:.3f} to {compared.high:.3f}",
        remark,
    )
    return f"| {' | '.join(cells)} |"


def shown_delay(shown: dict[str, str]) -> float:
    """Milliseconds from request to look, by the server's own clock: no network is in between."""
    running = datetime.fromisoformat(shown["expiresAt"]) - datetime.fromisoformat(shown["createdAt"])
    return running.total_seconds() * 1000 - CODE_LIFETIME_MS


def since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def postgresql() -> str:
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        raise SystemExit("DATABASE_URL must name a PostgreSQL: python -m harness.postgres python -m benchmarks.timing")
    return url


if __name__ == "__main__":
    main()
