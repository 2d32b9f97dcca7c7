"""Who waits behind whom: whether one's own mail tells who stood before it, and how long an owner waits behind a flood.

    make timing
    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.waiting --pairs 10    # sooner, and less sure

**One's own mail.** The mail server takes longer for a mail than any pause that could be called short, more or less long
at random. A stranger asks for three mails to mailboxes of their own, for one to the address they wonder about, and for
a fourth of their own, while the process has four senders: the fourth has to wait for one of the others. Each request
comes as from another client, so that none stands behind for what the others asked. What is timed is when the fourth
arrives. The AUC compares known with unknown addresses, as in benchmarks/timing.py. Each pair takes ten seconds, so
there are few: what counts is whether all of the interval is outside of 0.45 to 0.55.

**A flood.** Addresses without an account are asked for from few clients and from many, each within its limit; then an
owner asks once. What is timed is when the owner's mail arrives, with the defaults, and with a pace of 20 a minute.

The exit code is 1 if known addresses can be told, and 2 if a planted quarter of a second is not seen. The report also
goes to var/waiting-report.md.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.auc import compare
from benchmarks.sites import HEADERS, REQUEST, ROOT, Site, address, prepare, say, serving
from benchmarks.smtp_sink import counting_sink
from benchmarks.timing import TOLERANCE, postgresql

SECONDS_OF_A_MAIL = 1.5
VARY = 0.1
PLANTED_MS = 250.0
FIRST_OF_ALL = 16
"""Mails that are sent before anything is timed, so that decoys have something to go by."""
OWN = 3
PATIENCE = 600.0
FLOODS: tuple[tuple[str, int, int, float, dict[str, str]], ...] = (
    ("200 unknown from 10 clients", 200, 10, 1.0, {}),
    ("200 unknown from 200 clients", 200, 200, 1.0, {}),
    ("40 unknown from 2 clients, 20 mails a minute", 40, 2, 0.0, {"MAIL_PER_MINUTE": "20"}),
    ("40 unknown from 40 clients, 20 mails a minute", 40, 40, 0.0, {"MAIL_PER_MINUTE": "20"}),
)


@dataclass
class Stranger:
    """Asks a site, each time as from another client if need be, and reads the mail server's log."""

    site: Site
    log: Path
    clients: int = 0

    def ask(self, email: str, client: int | None = None) -> float:
        """Ask for a reset; returns when it was answered."""
        if client is None:
            client, self.clients = self.clients, self.clients + 1
        headers = {**HEADERS, "X-Forwarded-For": f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}"}
        data, _ = self.site.ask_as(headers, REQUEST, email=email)
        if not data["requestPasswordReset"].get("reset"):
            raise SystemExit(f"refused: {data}")
        return time.time()

    def arrival(self, email: str) -> float:
        """When the mail server took the mail of this address; waits for it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines():
                recipient, _, at = line.partition(" ")
                if recipient == email and at:
                    return float(at)
            time.sleep(0.01)
        raise SystemExit("a mail did not arrive")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40, help="known addresses, and unknown ones, to wonder about")
    parser.add_argument("--report", type=Path, default=ROOT / "var" / "waiting-report.md", help="where the tables go")
    options = parser.parse_args()
    lines, exit_code = own_mail(options.pairs)
    report = "\n".join(["# Who waits behind whom", "", *lines, "", *floods()])
    options.report.parent.mkdir(exist_ok=True)
    options.report.write_text(report + "\n")
    say(report)
    sys.exit(exit_code)


def own_mail(pairs: int) -> tuple[list[str], int]:
    """What one's own mail tells of the one before it, and the exit code."""
    groups = ["known", "unknown"] * pairs + ["planted"] * (pairs // 4)
    random.shuffle(groups)
    known = [f"target{number}@example.com" for number, group in enumerate(groups) if group == "known"]
    own = [address(number) for number in range(FIRST_OF_ALL + len(groups) * (OWN + 1))]
    mailboxes, waited = iter(own), defaultdict(list)
    with asking([*own, *known], SECONDS_OF_A_MAIL, MAIL_SENDERS="4") as stranger:
        warm_up(stranger, [next(mailboxes) for _ in range(FIRST_OF_ALL)])
        for number, group in enumerate(groups):
            before = [next(mailboxes) for _ in range(OWN)]
            for email in (*before, f"target{number}@example.com"):
                stranger.ask(email)
            probe = next(mailboxes)
            asked = stranger.ask(probe)
            waited[group].append((stranger.arrival(probe) - asked) * 1000 + PLANTED_MS * (group == "planted"))
            time.sleep(SECONDS_OF_A_MAIL)  # for what may still be under way
    told = compare(waited["known"], waited["unknown"])
    planted = compare(waited["planted"], waited["unknown"])
    bad, blind = told.is_told(TOLERANCE), planted.low <= 0.5 + TOLERANCE
    return [
        f"One's own mail behind that of another: {pairs} known and {pairs} unknown addresses, a mail takes "
        f"{SECONDS_OF_A_MAIL * (1 - VARY):g} to {SECONDS_OF_A_MAIL * (1 + VARY):g} s. It arrived after "
        f"{told.medians[0]:.0f} ms behind known ones and {told.medians[1]:.0f} ms behind unknown ones in the median; "
        f"AUC {told.auc:.3f} ({told.low:.3f} to {told.high:.3f}): {'can' if bad else 'cannot'} be told. "
        f"A planted {PLANTED_MS:g} ms: AUC {planted.auc:.3f} ({planted.low:.3f} to {planted.high:.3f}), "
        f"{'not seen: the method is blind' if blind else 'seen'}."
    ], 1 if bad else 2 if blind else 0


def floods() -> Iterator[str]:
    """A table of how long an owner's mail takes behind floods of decoys."""
    yield "| before the owner's request | seconds of a mail | the owner's mail came after, s |"
    yield "|---|---|---|"
    for name, decoys, clients, seconds, environment in FLOODS:
        first = [address(number) for number in range(FIRST_OF_ALL)] if seconds else []
        with asking([*first, "owner@example.com"], seconds, **environment) as stranger:
            warm_up(stranger, first)
            for number in range(decoys):
                stranger.ask(f"nobody{number}@example.com", client=1_000_000 + number % clients)
            asked = stranger.ask("owner@example.com")
            yield f"| {name} | {seconds:g} | {stranger.arrival('owner@example.com') - asked:.1f} |"


def warm_up(stranger: Stranger, emails: list[str]) -> None:
    for email in emails:
        stranger.ask(email)
    for email in emails:
        stranger.arrival(email)


@contextmanager
def asking(known: list[str], seconds: float, **environment: str) -> Iterator[Stranger]:
    """One serving process with these accounts, whose mail server takes so long for a mail."""
    variables = {"DATABASE_URL": postgresql(), "TRUSTED_PROXIES": "1", "THROTTLE_REQUEST_PER_IP": "20/hour"}
    prepare(variables["DATABASE_URL"], known)
    with tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder:
        log = Path(folder, "log")
        with (
            counting_sink(mail=seconds * 1000, vary=VARY, log=log) as smtp,
            serving({**variables, **environment}, smtp.port, workers=1) as site,
        ):
            yield Stranger(site, log)


if __name__ == "__main__":
    main()
