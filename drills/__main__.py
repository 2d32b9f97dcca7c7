"""Hold the drills and say what came of them.

Ends with 1 where a mail was lost, or came twice and should not have, or where somebody was not answered in a siege.

make drill
.venv/bin/python -m drills siege
.venv/bin/python -m drills failures --only "mailer killed" --people 60 --strikes 1
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from drills.catalogue import DRILLS
from drills.load import crowd
from drills.scene import Drill, Size
from drills.siege import Stand, besiege
from drills.siege import table as table_of_stands
from drills.verdict import Verdict, table
from harness.deployment import ROOT, prepare
from harness.postgres import Postgres, postgres

DISK = 1024
"""Megabytes that PostgreSQL has for its data, where root holds the drills."""
NEEDS_ROOT = "PostgreSQL's disk full"
VAR = ROOT / "var"
REPORT = VAR / "drill-report.md"
SIEGE_REPORT = VAR / "siege-report.md"


def main() -> int:
    options = arguments()
    VAR.mkdir(exist_ok=True)
    with postgres(megabytes=DISK) as server, tempfile.TemporaryDirectory(prefix="recovery-drill-") as folder:
        prepared = Path(folder) / "prepared"
        prepared.mkdir()
        emails = [asked.email for asked in crowd(options.people) if asked.is_known]
        prepare(prepared, emails, DATABASE_URL=server.copy("template1", "prepared"))
        parts = PARTS[options.part or ("failures" if options.only else "all")]
        passed = [hold_part(options, Path(folder), prepared, server) for hold_part in parts]
    return 0 if all(passed) else 1


def failures(options: argparse.Namespace, folder: Path, prepared: Path, server: Postgres) -> bool:
    """Kill one part after another under load, and count the mails; whether all is as it must be."""
    size = replace(Size(), people=options.people, strikes=options.strikes)
    possible = [name for name in DRILLS if server.disk or name != NEEDS_ROOT]
    chosen = [DRILLS[name] for name in options.only or possible]
    verdicts: list[Verdict] = []
    try:
        verdicts += hold(chosen, folder, prepared, size, server)
    finally:
        # Also where a drill has broken off: what the earlier ones have found is worth its minutes.
        report(verdicts, len(chosen))
    return not any(verdict.faults for verdict in verdicts)


def siege(options: argparse.Namespace, folder: Path, prepared: Path, server: Postgres) -> bool:
    """Besiege a server with connections, and ask honestly meanwhile; whether everybody was answered."""
    stands: list[Stand] = []
    database = server.copy("prepared", "drill")
    with redirect_stdout(io.StringIO()):
        for stand in besiege(folder / "besieged", prepared, options.requests, DATABASE_URL=database):
            print(f"{stand.name}: {stand.unanswered} of {stand.asked} not answered", file=sys.stderr)
            stands.append(stand)
    found = [f"- {stand.name}: {stand.unanswered} not answered" for stand in stands if stand.unanswered]
    lines = [table_of_stands(stands), "", *(found or ["Everybody was answered."])]
    SIEGE_REPORT.write_text("\n".join(["# A siege of connections", "", *lines, ""]))
    print("", *lines, "", f"Also in {SIEGE_REPORT.relative_to(ROOT)}", "", sep="\n")
    return not found


PARTS = {"all": (siege, failures), "siege": (siege,), "failures": (failures,)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="drills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=PARTS, help="siege, failures, or all of it")
    parser.add_argument("--requests", type=int, default=60, help="of each honest client, in each siege (%(default)s)")
    parser.add_argument("--only", action="append", choices=DRILLS, metavar="DRILL", help=", ".join(DRILLS))
    parser.add_argument("--people", type=int, default=Size.people, help="who ask in each drill (%(default)s)")
    parser.add_argument("--strikes", type=int, default=Size.strikes, help="in each drill (%(default)s)")
    return parser.parse_args()


def hold(chosen: Sequence[Drill], folder: Path, prepared: Path, size: Size, server: Postgres) -> Iterator[Verdict]:
    """One drill after the other, each on a copy of one prepared database, and a line for each as it ends."""
    for number, drill in enumerate(chosen, start=1):
        print(f"{number:2}/{len(chosen)} {drill.name} … ", end="", flush=True)
        database = server.copy("prepared", "drill")
        with redirect_stdout(io.StringIO()) as log:
            try:
                verdict = drill.run(folder / f"drill{number}", prepared, size, server, database)
            except AssertionError as error:
                verdict = Verdict(drill.name, faults=(f"could not be held: {error}",))
        print("; ".join(verdict.faults) or f"{verdict.mailed} mailed, none lost", flush=True)
        if verdict.faults:
            (VAR / f"drill-{number}.log").write_text(log.getvalue())
        yield verdict


def report(verdicts: Sequence[Verdict], chosen: int) -> None:
    """Print the table and what must not be, and keep both."""
    found = [f"- {verdict.name}: {fault}" for verdict in verdicts for fault in verdict.faults]
    lines = [table(verdicts), "", *(found or ["Nothing was lost, and no mail came twice that should not have."])]
    if len(verdicts) < chosen:
        lines.append(f"Broken off after {len(verdicts)} of {chosen} drills.")
    REPORT.write_text("\n".join(["# Failure drills", "", *lines, ""]))
    print("", *lines, "", f"Also in {REPORT.relative_to(ROOT)}", sep="\n")


if __name__ == "__main__":
    sys.exit(main())
