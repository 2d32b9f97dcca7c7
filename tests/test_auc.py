"""The measure that `make timing` goes by."""

from __future__ import annotations

import random

import pytest

from benchmarks import polling
from benchmarks.auc import auc, compare
from benchmarks.timing import verdict


def test_equal_groups_cannot_be_told_apart() -> None:
    assert auc([1.0, 2.0, 3.0], [3.0, 1.0, 2.0]) == 0.5


def test_groups_that_do_not_overlap_can_always_be_told_apart() -> None:
    assert auc([4.0, 5.0], [1.0, 2.0, 3.0]) == 1.0
    assert auc([1.0, 2.0], [3.0, 4.0, 5.0]) == 0.0


def test_equal_values_count_half() -> None:
    assert auc([1.0, 2.0], [1.0, 2.0]) == 0.5
    assert auc([2.0], [1.0, 2.0, 2.0, 3.0]) == 0.5


def test_it_is_the_share_of_pairs_of_which_the_first_is_the_greater() -> None:
    draw = random.Random(7)  # noqa: S311 (the same numbers each time)
    first, second = ([draw.randint(0, 20) + shift for _ in range(50)] for shift in (0.0, 2.0))
    pairs = [(one > other) + (one == other) / 2 for one in first for other in second]
    assert auc(first, second) == pytest.approx(sum(pairs) / len(pairs))


def test_the_interval_narrows_with_the_size_of_the_groups() -> None:
    few, many = (compare([1.0, 2.0] * n, [1.0, 2.0] * n) for n in (50, 5000))
    assert few.low < many.low < 0.5 < many.high < few.high


GROUPS = {group: [float(n % 100) for n in range(1000)] for group in ("known", "unknown", "AA")}
SLOWER = [value + 40 for value in GROUPS["known"]]


@pytest.mark.parametrize(
    ("changed", "exit_code"),
    [
        ({"planted": SLOWER}, 0),
        ({"planted": SLOWER, "known": SLOWER}, 1),
        ({"planted": SLOWER, "AA": SLOWER}, 1),
        ({"planted": GROUPS["unknown"]}, 2),
    ],
)
def test_the_verdict_is_the_exit_code(changed: dict[str, list[float]], exit_code: int) -> None:
    lines, code = verdict({"the request": {**GROUPS, **changed}})
    assert code == exit_code
    assert len(lines) == 2 + 3


@pytest.mark.parametrize(
    ("changed", "exit_code"),
    [
        ({"planted": SLOWER}, 0),
        ({"planted": SLOWER, "known": SLOWER}, 1),
        ({"planted": SLOWER, "known": [-value for value in SLOWER]}, 1),
        ({"planted": SLOWER, "AA": SLOWER}, 1),
        ({"planted": GROUPS["unknown"]}, 2),
    ],
)
def test_the_verdict_on_averages_is_the_exit_code_too(changed: dict[str, list[float]], exit_code: int) -> None:
    lines, code = polling.verdict({**GROUPS, **changed})
    assert code == exit_code
    assert len(lines) == 2 + 3


def test_of_many_polls_the_quicker_half_is_averaged() -> None:
    assert polling.average([9.0, 1.0, 3.0, 500.0]) == 2.0
    assert polling.average([7.0]) == 7.0
