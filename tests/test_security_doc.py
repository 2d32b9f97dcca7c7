"""docs/security.md names a test for everything that a standard asks, or says why there is none; and each exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "security.md"
EXCUSES = ("By configuration:", "By hand", "By reading:", "Not met:", "Partly:")
NAMED = re.compile(r"`(test_\w+\.py(?:::\w+)+)`")
FILE = re.compile(r"`([A-Z][a-z]\w+|[\w/.]+\.\w+)`")


@dataclass(frozen=True)
class Row:
    """A line of one of the page's tables of requirements."""

    source: str
    asked: str
    shown: str

    def __str__(self) -> str:
        return f"{self.source}: {self.asked}"

    @property
    def tests(self) -> list[str]:
        return NAMED.findall(self.shown)

    @property
    def excused(self) -> bool:
        """Whether it says why no test shows it, and names the file that does; what is not met has none."""
        says_so = any(excuse in self.shown for excuse in EXCUSES)
        return says_so and (self.shown.startswith("Not met:") or bool(FILE.search(self.shown)))


def rows_of(page: str) -> list[Row]:
    lines = page.split("\n## What standards ask for\n")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [Row(*each) for each in cells if each[0] != "source" and set(each[0]) != {"-"}]


def names_in(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """The tests of a module or class, parametrized or not, as pytest names them without the parameters."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield f"{prefix}::{node.name}"
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from names_in(node.body, f"{prefix}::{node.name}")


def all_tests() -> set[str]:
    files = (ROOT / "tests").glob("test_*.py")
    return {name for file in files for name in names_in(ast.parse(file.read_text()).body, file.name)}


ROWS = rows_of(PAGE.read_text())


def test_every_test_that_the_page_names_exists() -> None:
    named = set(NAMED.findall(PAGE.read_text()))
    assert len(named) > 100
    assert named - all_tests() == set()


def test_nothing_that_looks_like_a_test_is_spelled_so_that_it_goes_unchecked() -> None:
    page = PAGE.read_text().replace("`tests/test_security_doc.py`", "")
    assert "test_" not in NAMED.sub("", page)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_every_row_names_a_test_or_says_why_not(row: Row) -> None:
    assert row.source
    assert row.asked
    assert row.tests or row.excused


def test_no_requirement_stands_there_twice() -> None:
    assert len({str(row) for row in ROWS}) == len(ROWS) > 50


def test_every_file_that_the_page_names_exists() -> None:
    named = {name for row in ROWS for name in FILE.findall(row.shown)}
    assert {"Makefile", "pyproject.toml"} <= named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_class_of_a_test_file_is_looked_into() -> None:
    source = "class TestIt:\n  @mark\n  def test_one(self): ...\n  def helper(self): ...\nasync def test_two(): ...\n"
    assert set(names_in(ast.parse(source).body, "f.py")) == {"f.py::TestIt::test_one", "f.py::test_two"}


@pytest.mark.parametrize(
    ("shown", "good"),
    [
        ("`test_a.py::test_b`", True),
        ("By configuration: `Makefile`", True),
        ("Not met: nobody has written it", True),
        ("By configuration: somewhere", False),
        ("it is obvious", False),
        ("", False),
    ],
)
def test_an_excuse_names_what_to_read(shown: str, good: bool) -> None:
    row = Row("X 1", "something", shown)
    assert bool(row.tests or row.excused) is good
