"""How well two groups of times can be told apart: the AUC of Mann and Whitney, with its interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two groups, their medians, and the chance that one of the first took longer than one of the second."""

    n: tuple[int, int]
    medians: tuple[float, float]
    auc: float
    low: float
    high: float

    def is_told(self, tolerance: float) -> bool:
        """Whether the whole interval lies further from 0.5 than the tolerance."""
        return self.low > 0.5 + tolerance or self.high < 0.5 - tolerance


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compare two groups; 0.5 means that nobody can tell them apart. The interval holds the AUC 95 times of 100."""
    area = auc(first, second)
    margin = NORMAL_95 * standard_error(area, len(first), len(second))
    return Comparison(
        (len(first), len(second)),
        (statistics.median(first), statistics.median(second)),
        area,
        max(0.0, area - margin),
        min(1.0, area + margin),
    )


def auc(first: Sequence[float], second: Sequence[float]) -> float:
    """The chance that a value of the first group exceeds one of the second, an equal one counting half."""
    both = sorted([(value, True) for value in first] + [(value, False) for value in second])
    ranks, position = 0.0, 0
    while position < len(both):
        end = position
        while end < len(both) and both[end][0] == both[position][0]:
            end += 1
        shared_rank = (position + 1 + end) / 2
        ranks += shared_rank * sum(of_first for _, of_first in both[position:end])
        position = end
    return (ranks - len(first) * (len(first) + 1) / 2) / (len(first) * len(second))


def standard_error(area: float, n_first: int, n_second: int) -> float:
    """By Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n_first - 1) * (q1 - area**2) + (n_second - 1) * (q2 - area**2)
    return math.sqrt(max(0.0, variance) / (n_first * n_second))
