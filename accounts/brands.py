"""Whose page and mails these are: the one brand of most sites, and those of BRANDS beside it.

A frontend names its brand by a key in `requestPasswordReset`, and the record keeps it. A brand changes what people see
and where links lead, and nothing else: accounts, limits and rules for passwords are the site's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from . import colors
from .conf import conf, own_page, parse_route, parse_web_url

KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
NAME_LENGTH = 60
"""Characters of a name, which stands in subjects."""
GROUND, DARK_CARD = "#f3f4f6", "#181c20"
"""What a brand's color is read on: the light ground around the card, and the card in the dark."""
DARK_CONTRAST = 7
"""Of the tone that a color has in the dark, where the default one has as much: WCAG 2.2, criterion 1.4.6."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The colors of links and buttons, and of the words on a button."""

    accent: str = "#0b57a4"
    hover: str = "#084582"
    on_accent: str = "#ffffff"
    dark_accent: str = "#8ab8f0"
    dark_hover: str = "#a9cbf5"
    dark_on_accent: str = "#0c1116"

    @classmethod
    def of(cls, color: str) -> Palette:
        """What comes of one color, which is dark enough for the light ground; in the dark it is lightened."""
        if not color:
            return cls()
        dark = colors.readable_on(DARK_CARD, color, colors.WHITE, DARK_CONTRAST)
        return cls(
            accent=color,
            hover=colors.mix(color, colors.BLACK, 0.2),
            dark_accent=dark,
            dark_hover=colors.mix(dark, colors.WHITE, 0.3),
        )


@dataclass(frozen=True, slots=True)
class Brand:
    """What people are shown of a service. Empty texts are left out of what they see."""

    key: str
    """How frontends name it; empty: the default one."""
    name: str
    reset_url: str
    """The page that links open, with its route if that is in the fragment (`#/reset`)."""
    sender: str
    logo: str = ""
    color: str = ""
    support_email: str = ""
    sign_in_url: str = ""

    @property
    def host(self) -> str:
        """What a code is bound to, and all that it may be typed into."""
        return urlsplit(self.reset_url).hostname or ""

    @property
    def palette(self) -> Palette:
        return Palette.of(self.color)

    def link(self, kind: str, secret: str) -> str:
        """The page with a `token` or a `report` in its fragment, which no server sees.

        Behind a route in the fragment, such as `#/reset`, it stands as routers of that kind read it: `?token=…`.
        """
        return f"{self.reset_url}{'?' if '#' in self.reset_url else '#'}{kind}={secret}"


def default() -> Brand:
    """The brand of the single variables, which suffices for most sites."""
    return Brand(
        key="",
        name=conf.BRAND_NAME or urlsplit(conf.PUBLIC_URL).hostname or "",
        reset_url=conf.FRONTEND_RESET_URL or f"{conf.PUBLIC_URL}{own_page()}",
        sender=str(settings.DEFAULT_FROM_EMAIL),
        logo=conf.BRAND_LOGO,
        color=conf.BRAND_COLOR.lower(),
        support_email=conf.SUPPORT_EMAIL,
        sign_in_url=conf.SIGN_IN_URL,
    )


def find(key: str) -> Brand | None:
    """The brand of a key, which is empty for the default one; None where there is none."""
    if not key:
        return default()
    given = conf.BRANDS.get(key)
    return _made(key, **given) if given is not None else None


def of(key: str) -> Brand:
    """The brand of a key, or the default one: a reset outlives a brand that is taken out."""
    return find(key) or default()


def every() -> list[Brand]:
    """All brands, the default one first."""
    return [default(), *(of(key) for key in conf.BRANDS)]


def _made(key: str, **given: str) -> Brand:
    if "reset_url" not in given:
        given["reset_url"] = f"{conf.PUBLIC_URL}{own_page(key)}"
    if "sender" not in given:
        given["sender"] = _renamed(str(settings.DEFAULT_FROM_EMAIL), given["name"])
    if "color" in given:
        given["color"] = given["color"].lower()
    return Brand(key=key, **given)


@lru_cache(256)
def _renamed(sender: str, name: str) -> str:
    """The address of a sender by another name."""
    address = re.search(r"<([^<>]*)>\s*$", sender)
    return f'"{name}" <{address[1] if address else sender.strip()}>'


def parse(given: Any, parse_sender: Callable[[str], Any]) -> None:
    """Check BRANDS, such as `{"shop": {"name": "Example Shop", "color": "#7a1f5c"}}`.

    Raises ValueError with all that is wrong, one line each, and what to write instead.
    """
    if not isinstance(given, Mapping) or not all(isinstance(each, Mapping) for each in given.values()):
        raise ValueError('An object of objects, such as {"shop": {"name": "Example Shop"}}.')
    rules = _RULES | {"sender": parse_sender}
    problems = [f"{key}: {problem}" for key, brand in given.items() for problem in _wrong(key, brand, rules)]
    if problems:
        raise ValueError("\n".join(problems))


def _wrong(key: Any, given: Mapping[str, Any], rules: Mapping[str, Callable[[str], Any]]) -> list[str]:
    found = []
    if not isinstance(key, str) or not KEY.fullmatch(key):
        found.append("a key has 1 to 40 lower-case letters, digits and hyphens.")
    if unknown := given.keys() - rules.keys():
        found.append(f"there is no {', '.join(sorted(map(str, unknown)))}; there are {', '.join(sorted(rules))}.")
    if "name" not in given:
        found.append("name is missing.")
    for field in sorted(given.keys() & rules.keys()):
        text = given[field]
        if not isinstance(text, str) or not text:
            found.append(f"{field} is a text, or left out.")
            continue
        try:
            rules[field](text)
        except ValueError as error:
            found.append(f"{field}: {error}")
    return found


def parse_name(text: str) -> str:
    """A name such as Example & Sons. Raises ValueError."""
    if len(text) > NAME_LENGTH or not text.isprintable() or set(text) & set('<>"\\'):
        raise ValueError(f'A name of {NAME_LENGTH} letters at most, without < > " and \\.')
    return text


def parse_address(text: str) -> str:
    """An email address, such as help@example.com. Raises ValueError."""
    if not re.fullmatch(r"[^\s@<>\"]+@[^\s@<>\"]+", text):
        raise ValueError("Not an email address, such as help@example.com.")
    return text


def parse_color(text: str) -> str:
    """A color that links can have on a light ground; in the dark it is lightened. Raises ValueError."""
    color = text.lower()
    if not colors.COLOR.fullmatch(color):
        raise ValueError("Not a color, such as #0b57a4.")
    if (found := colors.contrast(color, GROUND)) < colors.READABLE:
        darker = colors.readable_on(GROUND, color, colors.BLACK)
        raise ValueError(
            f"{text} can hardly be read: its contrast to the light ground {GROUND} is {found:.1f}, and text needs "
            f"{colors.READABLE}. Take a darker one, such as {darker}."
        )
    return color


def parse_page(text: str) -> str:
    """A web address, with a route in its fragment if it likes, behind which a token fits. Raises ValueError."""
    parse_web_url(parse_route(text))
    return text


_RULES: dict[str, Callable[[str], Any]] = {
    "name": parse_name,
    "logo": parse_web_url,
    "color": parse_color,
    "support_email": parse_address,
    "sign_in_url": parse_page,
    "reset_url": parse_page,
}
"""What the fields of a brand may hold."""
