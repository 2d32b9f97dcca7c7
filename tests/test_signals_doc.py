"""docs/signals.md does what it says: each of its snippets is run, and none of them would pass without signals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth import signals as auth_signals
from django.core import signals as core_signals
from django.db.models import signals as model_signals
from django.dispatch import Signal

from accounts import signals as own_signals

PAGE = Path(__file__).parent.parent / "docs" / "signals.md"
LESSONS = (
    "connect",
    "@receiver",
    "disconnect and dispatch_uid",
    "request_finished",
    "pre_init and post_init",
    "pre_save and post_save",
    "pre_delete and post_delete",
)


@dataclass(frozen=True)
class Snippet:
    """One fenced Python block, with the heading above it and the line of the page that it begins at."""

    heading: str
    line: int
    source: str

    def run(self) -> None:
        # Shifted down to where it stands, so that a traceback names the line of the page.
        code = compile("\n" * self.line + self.source, str(PAGE), "exec")
        exec(code, {"__name__": "docs.signals"})  # noqa: S102 (our own page)


def snippets() -> Iterator[Snippet]:
    text = PAGE.read_text(encoding="utf-8")
    heading = ""
    for found in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<source>.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        if found["source"] is None:
            heading = found["heading"].replace("`", "")
        else:
            yield Snippet(heading, text.count("\n", 0, found.start("source")), found["source"])


def signals_of(module: ModuleType) -> dict[str, Signal]:
    return {name: signal for name, signal in vars(module).items() if isinstance(signal, Signal)}


SNIPPETS = list(snippets())
each_snippet = pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.heading)


@pytest.fixture(autouse=True)
def _receivers_as_they_were() -> Iterator[None]:
    """Whatever a snippet connects or disconnects, it does so for itself only."""
    modules = (auth_signals, core_signals, model_signals, own_signals)
    before = {signal: list(signal.receivers) for module in modules for signal in signals_of(module).values()}
    yield
    for signal, receivers in before.items():
        with signal.lock:
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()


@pytest.mark.django_db(transaction=True)
@each_snippet
def test_the_snippet_shows_what_the_page_says(snippet: Snippet) -> None:
    snippet.run()


@pytest.mark.django_db(transaction=True)
@each_snippet
def test_the_snippet_fails_where_signals_are_dumb(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    def send_to_nobody(self: Signal, sender: Any, **named: Any) -> list[Any]:
        return []

    monkeypatch.setattr(Signal, "send", send_to_nobody)
    monkeypatch.setattr(Signal, "send_robust", send_to_nobody)
    with pytest.raises(AssertionError):
        snippet.run()


def test_every_lesson_has_its_snippet() -> None:
    headings = [snippet.heading for snippet in SNIPPETS]
    assert headings[: len(LESSONS)] == list(LESSONS)
    assert len(headings) == len(set(headings)), "a snippet's heading is its name"
    assert len(SNIPPETS) == PAGE.read_text(encoding="utf-8").count("```") / 2, "a block that is not Python is not run"


def test_the_page_knows_every_signal_of_the_project() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == list(signals_of(own_signals))
