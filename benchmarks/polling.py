"""Whether a stranger who asks for a status again and again, and averages, can tell whose address has an account.

    make timing
    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.polling --handles 30 --polls 100    # less sure

The production server as `make serve` starts it, on PostgreSQL, with limits lifted. Every reset is SENT, and mailed or
rehearsed, before the first poll. Then each handle is asked about once in each turn, in a new random order, so that
whatever else the machine does meets all of them alike. Of each handle's times the quicker half is averaged: so many
polls make differences visible that a single one hides.

The averages of known and unknown are compared as benchmarks/timing.py compares single times. `AA` are more unknown
addresses, and for `planted` 50 microseconds are added: that must be seen. There are fewer averages than single times,
so they count as told apart only where the whole interval lies beyond 0.45 to 0.55. The exit codes are the same.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.auc import compare
from benchmarks.sites import ROOT, Site, address, prepare, say, serving
from benchmarks.smtp_sink import sink
from benchmarks.timing import COLUMNS, TOLERANCE, postgresql, row

PLANTED_MS = 0.05
KEPT = 0.5
"""Of each handle's polls, the quickest: of these the averages differ least by chance, by a third of what all would."""
QUIET_SECONDS = 3.0
"""For the last mails to be sent, once all is SENT."""

Averages = dict[str, list[float]]
"""Milliseconds, one for each handle, by group."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--handles", type=int, default=150, help="of known addresses, and of unknown ones")
    parser.add_argument("--polls", type=int, default=300, help="for each handle")
    parser.add_argument("--report", type=Path, default=ROOT / "var" / "polling-report.md", help="where the table goes")
    options = parser.parse_args()
    begun = time.monotonic()
    lines, exit_code = verdict(measure(options.handles, options.polls))
    heading = f"{options.polls} polls of each handle, {time.monotonic() - begun:.0f} s"
    report = "\n".join(["# Known and unknown addresses by the average of many polls", "", heading, "", *lines])
    options.report.parent.mkdir(exist_ok=True)
    options.report.write_text(report + "\n")
    say(report)
    sys.exit(exit_code)


def measure(handles: int, polls: int) -> Averages:
    groups = ["known", "unknown"] * handles + ["AA"] * (handles // 2) + ["planted"] * (handles // 2)
    random.shuffle(groups)
    database = {"DATABASE_URL": postgresql()}
    prepare(database["DATABASE_URL"], [address(n) for n, group in enumerate(groups) if group == "known"])
    with sink() as smtp_port, serving(database, smtp_port) as site:
        asked = {site.request(address(number))[0]: group for number, group in enumerate(groups)}
        until_quiet(site, list(asked))
        times = poll(site, list(asked), polls)
    averages: Averages = defaultdict(list)
    for handle, group in asked.items():
        averages[group].append(average(times[handle]) + (PLANTED_MS if group == "planted" else 0.0))
    return averages


def until_quiet(site: Site, handles: Sequence[str]) -> None:
    """Ask until all is SENT, and let the last mails go out."""
    for handle in handles:
        while site.status(handle)[0]["status"] == "QUEUED":
            time.sleep(0.1)
    time.sleep(QUIET_SECONDS)


def poll(site: Site, handles: list[str], polls: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(polls):
        random.shuffle(handles)
        for handle in handles:
            times[handle].append(site.status(handle)[1])
    return times


def average(times: Sequence[float]) -> float:
    return statistics.fmean(sorted(times)[: max(1, int(len(times) * KEPT))])


def verdict(averages: Averages) -> tuple[list[str], int]:
    """The table, and the exit code."""
    lines = [COLUMNS, "|---|---|---|---|---|---|---|---|"]
    compared = {group: compare(averages[group], averages["unknown"]) for group in ("known", "AA", "planted")}
    leaks = compared["known"].is_told(TOLERANCE) or compared["AA"].is_told(TOLERANCE)
    blind = compared["planted"].low <= 0.5 + TOLERANCE
    for group, each in compared.items():
        remark = "can be told" if each.is_told(TOLERANCE) else "cannot be told"
        if group == "planted":
            remark = "not seen: the method is blind" if blind else "seen"
        lines.append(row("a status, averaged", f"{group}, unknown", each, remark))
    return lines, 1 if leaks else 2 if blind else 0


if __name__ == "__main__":
    main()
