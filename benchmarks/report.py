"""The tables of a benchmark, printed as they come and kept under var/benchmarks/."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import django

FOLDER = Path(__file__).resolve().parent.parent / "var" / "benchmarks"


class Report:
    """Says what was measured, and under what conditions."""

    def __init__(self, name: str) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        self._path = FOLDER / f"{name}-django-{django.get_version()}.txt"
        self._path.write_text("")
        self._widths: list[int] = []
        self.say(f"Django {django.get_version()}, Python {platform.python_version()}, {os.cpu_count()} processors")

    def table(self, title: str, *columns: str) -> None:
        """Begin a table; each column's heading ends with its unit."""
        self._widths = [max(10, len(column) + 2) for column in columns]
        load = os.getloadavg()[0]
        self.say(f"\n{title} (load average {load:.1f})")
        self.row("", *columns)

    def row(self, name: str, *cells: str) -> None:
        aligned = "".join(f"{cell:>{width}}" for cell, width in zip(cells, self._widths, strict=False))
        self.say(f"  {name:<44}{aligned}".rstrip())

    def say(self, line: str) -> None:
        print(line, flush=True)
        with self._path.open("a") as file:
            file.write(line + "\n")
