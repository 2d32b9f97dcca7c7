"""A moving window, and what counting in some of them brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Window(NamedTuple):
    """At most `most` of what `key` names within any `seconds` seconds."""

    key: str
    most: int
    seconds: int

    @property
    def kind(self) -> str:
        """What is counted, without whose it is."""
        return self.key.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Taken:
    """How many were counted, and when; and of each window, in their order, what follows."""

    count: int
    waits: tuple[float, ...]
    """In seconds, when it had room for one; 0: then."""
    stamp: float
    standing: tuple[int, ...] = ()
    """How many stand in it now, with those just counted."""

    @property
    def wait(self) -> float:
        """Seconds until every window has room for one; 0 where all have it now."""
        return max(self.waits)
