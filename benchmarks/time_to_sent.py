"""How long until SENT is shown, for known and unknown addresses, whatever ails the mail server.

    make timing
    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.time_to_sent --pairs 200

One production server after the other, on PostgreSQL, each with another mail server: one that is slow, one that refuses
every recipient, one that refuses a half of them, and one that holds every sender thread for a minute. Known and unknown
addresses come in random order; after each request the status is asked for until it is SENT. It is timed twice: by the
stopwatch, and by the times that the status itself shows. At last a server is dead: all must stay QUEUED, and move
together when it is back.

The exit code is 0 if all AUCs are within 0.45 and 0.55 and the dead server behaves; see benchmarks/timing.py.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path

from benchmarks.auc import compare
from benchmarks.sites import ROOT, Site, address, prepare, say, serving
from benchmarks.smtp_sink import sink
from benchmarks.timing import TOLERANCE, postgresql, shown_delay, since
from harness.smtp_server import closed_port

WARM_UP = 160
"""Half of them known: enough to occupy every sender thread of two workers."""
CROWD = 40
"""Known addresses, and unknown ones, that wait for the dead server: together they fit into one look."""
CONDITIONS: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "slow: 200 ms for a mail": partial(sink, mail=200),
    "refuses every recipient": partial(sink, refuse="all"),
    "refuses every second one": partial(sink, refuse="half"),
    "holds every sender": partial(sink, mail=60_000),
}
COLUMNS = "| mail server | SENT by | group | n | p10 ms | p50 | p90 | p99 | AUC | 95 of 100 |"

Times = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000, help="known and unknown addresses for each mail server")
    parser.add_argument("--report", type=Path, default=ROOT / "var" / "time-to-sent-report.md")
    options = parser.parse_args()
    lines, good = ["# How long until SENT is shown", "", COLUMNS, "|---|---|---|---|---|---|---|---|---|---|"], True
    for name, mail_server in CONDITIONS.items():
        for measured_by, times in measure(options.pairs, mail_server).items():
            rows, alike = compared(name, measured_by, times)
            lines, good = lines + rows, good and alike
    told, together = while_dead_and_after()
    report = "\n".join([*lines, "", *told])
    options.report.parent.mkdir(exist_ok=True)
    options.report.write_text(report + "\n")
    say(report)
    sys.exit(not (good and together))


def measure(pairs: int, mail_server: Callable[[], AbstractContextManager[int]]) -> dict[str, Times]:
    """Milliseconds until SENT, by group, for each way to measure it."""
    groups = ["known", "unknown"] * (WARM_UP // 2) + shuffled(pairs)
    times: dict[str, Times] = {"stopwatch": defaultdict(list), "times shown": defaultdict(list)}
    with site_for(groups, mail_server()) as site:
        for number, group in enumerate(groups):
            began = time.perf_counter()
            handle, _ = site.request(address(number))
            while (shown := site.status(handle)[0])["status"] == "QUEUED":
                pass
            took = since(began)
            if number >= WARM_UP:
                times["stopwatch"][group].append(took)
                times["times shown"][group].append(shown_delay(shown))
    return times


def compared(name: str, measured_by: str, times: Times) -> tuple[list[str], bool]:
    """Two lines of the table, and whether they are alike."""
    result = compare(times["known"], times["unknown"])
    areas = {"known": f"{result.auc:.3f} | {result.low:.3f} to {result.high:.3f}", "unknown": "|"}
    lines = []
    for group in ("known", "unknown"):
        percentiles = " | ".join(f"{percentile(times[group], percent):.1f}" for percent in (10, 50, 90, 99))
        lines.append(f"| {name} | {measured_by} | {group} | {len(times[group])} | {percentiles} | {areas[group]} |")
    return lines, abs(result.auc - 0.5) <= TOLERANCE


def while_dead_and_after() -> tuple[list[str], bool]:
    """Ask while the mail server is dead, bring it back; what was to be seen, and whether it was the same for all."""
    groups = shuffled(CROWD)
    with ExitStack() as stack:
        dead = stack.enter_context(ExitStack())
        port = dead.enter_context(closed_port())
        site = stack.enter_context(site_for(groups, nullcontext(port), MAIL_SWEEP_SECONDS="1"))
        until_noticed(site)
        handles = [site.request(address(number))[0] for number in range(len(groups))]
        time.sleep(5)
        waiting = [site.status(handle)[0]["status"] for handle in handles]
        dead.close()
        stack.enter_context(sink(port=port))
        moved: Times = defaultdict(list)
        for handle, group in zip(handles, groups, strict=True):
            while (shown := site.status(handle)[0])["status"] == "QUEUED":
                time.sleep(0.1)
            moved[group].append(datetime.fromisoformat(shown["expiresAt"]).timestamp() * 1000)
    spread = max(moved["known"] + moved["unknown"]) - min(moved["known"] + moved["unknown"])
    stayed = set(waiting) == {"QUEUED"}
    return [
        f"While the mail server was dead, {waiting.count('QUEUED')} of {len(waiting)} stayed QUEUED. "
        f"When it was back, they became SENT within {spread:.3f} ms of each other, by the times shown; "
        f"AUC {compare(moved['known'], moved['unknown']).auc:.3f}."
    ], stayed and spread < 1


def until_noticed(site: Site) -> None:
    """Ask until a request stays QUEUED for longer than any worker's sweep: now all know that the server is dead."""
    for number in range(1, 30):
        handle, _ = site.request(address(-number))
        time.sleep(3)
        if site.status(handle)[0]["status"] == "QUEUED":
            return
    raise SystemExit("the site goes on as if its mail server were not dead")


@contextmanager
def site_for(groups: Sequence[str], mail_server: AbstractContextManager[int], **environment: str) -> Iterator[Site]:
    """A site with an account for each known address, which mails to this server."""
    database = {"DATABASE_URL": postgresql()}
    prepare(database["DATABASE_URL"], [address(n) for n, group in enumerate(groups) if group == "known"])
    with mail_server as port, serving({**database, **environment}, port) as site:
        yield site


def shuffled(pairs: int) -> list[str]:
    groups = ["known", "unknown"] * pairs
    random.shuffle(groups)
    return groups


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main()
