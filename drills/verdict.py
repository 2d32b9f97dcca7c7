"""What a drill came to: who was accepted, who was mailed, and whether each has exactly what was promised."""

from __future__ import annotations

import base64
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drills.load import Asked
from harness.smtp_server import Delivery


class Row(NamedTuple):
    """A `ForgetPassword`, as far as a drill looks into it."""

    pk: uuid.UUID
    email_digest: str
    state: str
    is_settled: bool
    """Looked up, and owing nothing."""


class Repeats(NamedTuple):
    """How many mails may come twice, and how many must: a drill that caught none of them has struck at nothing."""

    least: int = 0
    most: int = 0

    def times(self, strikes: int) -> Repeats:
        return Repeats(self.least * strikes, self.most * strikes)

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"


NONE_REPEATED = Repeats()


@dataclass(frozen=True)
class Verdict:
    """The counts of one drill; whatever stands in `faults` must not happen."""

    name: str
    asked: int = 0
    accepted: int = 0
    unanswered: int = 0
    """Asked without a key, and got no answer: accepted or not, nobody can tell."""
    retried: int = 0
    mailed: int = 0
    """Accepted ones with an account, whose mail has arrived."""
    mailed_unanswered: int = 0
    lost: int = 0
    repeated: int = 0
    expected: Repeats = NONE_REPEATED
    seconds: float = 0.0
    """From the end of the load until nothing was due."""
    faults: tuple[str, ...] = ()


def judge(
    name: str,
    crowd: Sequence[Asked],
    letters: Sequence[Delivery],
    rows: Sequence[Row],
    shown: Mapping[str, str],
    expected: Repeats,
    seconds: float,
) -> Verdict:
    """Count, and name what must not be. `shown` is the status that each address's holder is told at the end."""
    by_address: dict[str, list[Delivery]] = defaultdict(list)
    for letter in letters:
        for recipient in letter.recipients:
            by_address[recipient].append(letter)
    owed = [asked for asked in crowd if asked.accepted and asked.is_known]
    lost = [asked.email for asked in owed if not by_address[asked.email]]
    unanswered = [asked for asked in crowd if not asked.accepted]
    repeated = sum(len(copies) - 1 for copies in by_address.values() if copies)
    faults = [
        *(f"{email}: accepted and never mailed" for email in lost),
        *_wrongly_asked(crowd),
        *_wrongly_mailed(crowd, by_address),
        *_wrongly_kept(crowd, rows),
        *(f"{email}: shown as {status}, not SENT" for email, status in shown.items() if status != "SENT"),
    ]
    if not expected.least <= repeated <= expected.most:
        faults.append(f"{repeated} mails came twice, and not {expected}")
    return Verdict(
        name=name,
        asked=len(crowd),
        accepted=sum(asked.accepted for asked in crowd),
        unanswered=len(unanswered),
        retried=sum(asked.tries > 1 for asked in crowd),
        mailed=len(owed) - len(lost),
        mailed_unanswered=sum(bool(by_address[asked.email]) for asked in unanswered),
        lost=len(lost),
        repeated=repeated,
        expected=expected,
        seconds=seconds,
        faults=tuple(faults),
    )


def _wrongly_asked(crowd: Sequence[Asked]) -> list[str]:
    refused = [f"{asked.email}: refused, {asked.refused}" for asked in crowd if asked.refused]
    return refused + [f"{asked.email}: never answered, in {asked.tries} tries" for asked in crowd if _gave_up(asked)]


def _gave_up(asked: Asked) -> bool:
    return bool(asked.key) and not asked.accepted and not asked.refused


def _wrongly_mailed(crowd: Sequence[Asked], by_address: dict[str, list[Delivery]]) -> list[str]:
    """Mails to strangers, of another reset than was asked for, and copies that differ from the first."""
    faults = [
        f"{address}: mailed" for address in by_address.keys() - {asked.email for asked in crowd if asked.is_known}
    ]
    for asked in crowd:
        copies = by_address.get(asked.email, [])
        if len({(letter.message["Message-ID"], letter.text) for letter in copies}) > 1:
            faults.append(f"{asked.email}: mailed twice, and differently")
        if asked.accepted and any(asked.phrase not in letter.text for letter in copies):
            faults.append(f"{asked.email}: mailed without the words that were shown")
        if asked.accepted and any(_pk_in(letter) != _pk_of(asked) for letter in copies):
            faults.append(f"{asked.email}: mailed about another row than was answered")
    return faults


def _wrongly_kept(crowd: Sequence[Asked], rows: Sequence[Row]) -> list[str]:
    """Rows that are missing, there twice, not SENT, or still owe something."""
    by_key = {row.pk: row for row in rows}
    for_address = Counter(row.email_digest for row in rows)
    faults = [f"row {row.pk}: {row.state}, not SENT" for row in rows if row.state != "SENT"]
    faults += [f"row {row.pk}: still owes a look or a mail" for row in rows if not row.is_settled]
    faults += [f"{count} rows of one address" for count in for_address.values() if count > 1]
    return faults + [
        f"{asked.email}: accepted, and its row is gone"
        for asked in crowd
        if asked.accepted and _pk_of(asked) not in by_key
    ]


def _pk_of(asked: Asked) -> uuid.UUID:
    """A handle begins with its row's key."""
    padded = asked.handle + "=" * (-len(asked.handle) % 4)
    return uuid.UUID(bytes=base64.urlsafe_b64decode(padded)[:16])


def _pk_in(letter: Delivery) -> uuid.UUID:
    """And so does a Message-ID."""
    return uuid.UUID(str(letter.message["Message-ID"]).strip("<>").partition(".")[0])


HEADINGS = (
    "drill",
    "asked",
    "accepted",
    "no answer",
    "asked again",
    "mailed",
    "lost",
    "twice",
    "expected",
    "recovered in",
)


def table(verdicts: Sequence[Verdict]) -> str:
    """All drills, one line each."""
    return markdown([HEADINGS, *(_line(verdict) for verdict in verdicts)])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first line is its headings."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [
        "| " + " | ".join(_pad(cell, width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([padded[0], rule, *padded[1:]])


def _line(verdict: Verdict) -> tuple[str, ...]:
    unanswered = f"{verdict.unanswered} ({verdict.mailed_unanswered} mailed)" if verdict.unanswered else "0"
    counts = (verdict.mailed, verdict.lost, verdict.repeated, verdict.expected)
    return (
        verdict.name,
        *map(str, (verdict.asked, verdict.accepted, unanswered, verdict.retried, *counts)),
        f"{verdict.seconds:.1f} s",
    )


def _pad(cell: str, width: int) -> str:
    return cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
