"""Whether a color can be read, as WCAG 2.2 counts it, and what to make of one where it cannot."""

from __future__ import annotations

import re

COLOR = re.compile(r"#[0-9a-f]{6}")
READABLE = 4.5
"""The least contrast of text: WCAG 2.2, success criterion 1.4.3."""
WHITE, BLACK = "#ffffff", "#000000"
_STEPS = 20


def contrast(one: str, other: str) -> float:
    """The contrast of two colors such as `#0b57a4`, from 1 to 21: WCAG 2.2, "contrast ratio"."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def mix(color: str, other: str, share: float) -> str:
    """A color with a share, from 0 to 1, of another one in it."""
    both = zip(_parts(color), _parts(other), strict=True)
    return "#" + "".join(f"{round(255 * (a * (1 - share) + b * share)):02x}" for a, b in both)


def readable_on(ground: str, color: str, toward: str, least: float = READABLE) -> str:
    """The color, with as much of `toward` in it, white or black, as it takes to be read on the ground."""
    tones = (mix(color, toward, step / _STEPS) for step in range(_STEPS + 1))
    return next((tone for tone in tones if contrast(tone, ground) >= least), toward)


def _luminance(color: str) -> float:
    """Relative luminance: WCAG 2.2, where the numbers are from."""
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _parts(color))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _parts(color: str) -> list[float]:
    return [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
