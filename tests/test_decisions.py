"""The pages of docs/decisions: each has its parts, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.deployment import ROOT

FOLDER = ROOT / "docs" / "decisions"
PAGES = sorted(FOLDER.glob("20*.md"))
STATUS = re.compile(r"Status: (accepted|(accepted, in part )?superseded by \[.+\]\((?P<page>[\w-]+\.md)\))")
CALL, MODULE, FILE = re.compile(r"[a-z_]\w*\(\)"), re.compile(r"[a-z_]\w*(\.\w+)+"), re.compile(r"[\w.-]+(/[\w.-]+)+")
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
FOLDERS = ("accounts", "backend", "benchmarks", "drills", "harness", "web/src")
SOURCES = {".py", ".js", ".html", ".txt", ".toml", ".graphql", ".in", ""}


@pytest.fixture(scope="module")
def words() -> frozenset[str]:
    """Every name in the sources; the pages themselves do not count."""
    files = [
        *ROOT.glob("*"),
        *ROOT.glob("tests/*"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")),
    ]
    texts = (path.read_text(errors="ignore") for path in files if path.suffix in SOURCES and path.is_file())
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


def names(page: str) -> set[str]:
    """What a page puts in backticks and what looks like a name of ours: `thing()`, `a.b`, `a/b.py`, `A_SETTING`."""
    quoted = set(re.findall(r"`([^`\n]+)`", page))
    kinds = (CALL, MODULE, FILE, CONSTANT)
    return {each for each in quoted if any(kind.fullmatch(each) for kind in kinds) or re.fullmatch(r"_\w+", each)}


def is_there(name: str, words: frozenset[str]) -> bool:
    if FILE.fullmatch(name):
        return (ROOT / name).exists() or set(re.findall(r"\w+", name)) <= words
    return set(re.findall(r"\w+", name)) <= words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_parts(page: Path) -> None:
    title, date, status, *rest = page.read_text().split("\n\n")
    assert title.startswith("# ")
    assert page.name.startswith(f"{date}-why-")
    found = STATUS.fullmatch(" ".join(status.split()))
    assert found, status
    assert found["page"] is None or (FOLDER / found["page"]).exists()
    parts = [paragraph for paragraph in rest if paragraph.startswith("## ")]
    assert [part for part in parts if part != "## What was weighed"] == ["## Context", "## Decision", "## Consequences"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path, words: frozenset[str]) -> None:
    assert {name for name in names(page.read_text()) if not is_there(name, words)} == set()


def test_every_page_is_listed() -> None:
    listed = re.findall(r"^\| [\d-]+ \| \[.+?\]\(([\w-]+\.md)\)", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [page.name for page in PAGES]


def test_a_name_that_is_gone_would_be_found(words: frozenset[str]) -> None:
    gone = "_" + "gone"
    page = f"`{gone}`, `believe()`, `accounts/{gone}.py`, `MAIL_SENDERS`, `json`"
    assert {name for name in names(page) if not is_there(name, words)} == {gone, f"accounts/{gone}.py"}
