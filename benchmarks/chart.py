"""The comparison as a picture, for the README: `python -m benchmarks.chart` draws the latest run into docs/."""

from __future__ import annotations

import json
import statistics
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.report import FOLDER

PATH = Path(__file__).resolve().parent.parent / "docs" / "comparison.svg"
NAMES = {"ours": "this project", "djoser": "djoser", "allauth": "allauth, by code", "article": "the article's design"}
PANELS = (
    ("20", "mails", "Mails a second", "mail server 20 ms away, STARTTLS"),
    ("50", "median", "Milliseconds until the answer", "mail server 50 ms away, STARTTLS, median; less is better"),
    ("0", "cpu", "CPU milliseconds a request", "with its mail, mail server near, STARTTLS; less is better"),
)
WIDTH, LEFT, BAR, GAP, HEAD, MARGIN = 720, 170, 18, 8, 52, 24
OURS, OTHERS, INK, FAINT = "#2563eb", "#9ca3af", "#1f2937", "#6b7280"


def panel(lines: dict[str, list[dict[str, float]]], what: str, title: str, note: str, top: int) -> str:
    values = {name: statistics.median(line[what] for line in lines[name]) for name in NAMES if name in lines}
    scale = (WIDTH - LEFT - 90) / max(values.values())
    drawn = [
        f'<text x="{MARGIN}" y="{top + 18}" class="title">{escape(title)}</text>',
        f'<text x="{MARGIN}" y="{top + 36}" class="note">{escape(note)}</text>',
    ]
    for number, (name, value) in enumerate(values.items()):
        y, width = top + HEAD + number * (BAR + GAP), max(2.0, value * scale)
        colour = OURS if name == "ours" else OTHERS
        text = f"{value:.0f}" if value >= 20 else f"{value:.1f}"
        drawn += [
            f'<text x="{LEFT - 10}" y="{y + 13}" class="name">{escape(NAMES[name])}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3" fill="{colour}"/>',
            f'<text x="{LEFT + width + 8:.1f}" y="{y + 13}" class="value">{text}</text>',
        ]
    return "\n".join(drawn)


def draw(found: dict[str, Any]) -> str:
    height = HEAD + len(NAMES) * (BAR + GAP) + 18
    panels = [
        panel(found[delay], what, title, note, 12 + number * height)
        for number, (delay, what, title, note) in enumerate(PANELS)
    ]
    total = 12 + len(PANELS) * height
    style = (
        f"text {{ font: 13px system-ui, sans-serif; fill: {INK} }} .title {{ font-weight: 600; font-size: 15px }}"
        f" .note {{ fill: {FAINT}; font-size: 12px }} .name {{ text-anchor: end }} .value {{ font-weight: 600 }}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}"'
    label = "Beside djoser, allauth and the article's design: mails a second, answer times, CPU"
    back = f'<rect width="{WIDTH}" height="{total}" rx="8" fill="#ffffff"/>'
    return "\n".join([f'{head} role="img" aria-label="{escape(label)}">', f"<style>{style}</style>", back, *panels]) + (
        "\n</svg>\n"
    )


if __name__ == "__main__":
    PATH.write_text(draw(json.loads((FOLDER / "comparison.json").read_text())))
