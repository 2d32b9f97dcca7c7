"""The catalogues of texts: `python -m harness.messages` brings each up to date with the code; see docs/languages.md.

GNU gettext is not needed: Babel reads, merges and compiles catalogues, and Django turns templates into what it reads.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "accounts" / "locale"
SOURCES = ("accounts", "backend")
KEYWORDS = DEFAULT_KEYWORDS | {"gettext_lazy": None, "ngettext_lazy": (1, 2)}


def texts() -> Catalog:
    """Every text of page, mails and answers, as it stands in the code."""
    catalog = Catalog(domain="django", charset="utf-8")
    for path in _sources():
        text = path.read_text(encoding="utf-8")
        code = text if path.suffix == ".py" else templatize(text)
        for _, text_id, notes, context in extract("python", io.BytesIO(code.encode()), KEYWORDS, ("Translators:",)):
            name = path.relative_to(ROOT).as_posix()
            catalog.add(text_id, locations=[(name, None)], auto_comments=notes, context=context)  # type: ignore[list-item]
    return catalog


def catalogues() -> dict[str, Catalog]:
    """Every translation that there is, by the name of its folder, such as `pt_BR`."""
    found = {}
    for path in sorted(LOCALE.glob("*/LC_MESSAGES/django.po")):
        with path.open("rb") as file:
            found[path.parts[-3]] = read_po(file, locale=path.parts[-3], domain="django")
    return found


def path_of(name: str) -> Path:
    return LOCALE / name / "LC_MESSAGES" / "django.po"


def forms(message: Message) -> list[str]:
    """The translations of a text: one, or one for each plural form."""
    return list(message.string) if isinstance(message.string, (list, tuple)) else [message.string or ""]


def write(catalog: Catalog) -> None:
    """Write a catalogue as it is kept: in the code's order, without line numbers or times that change by themselves."""
    lines = io.BytesIO()
    write_po(lines, catalog, omit_header=True, include_lineno=False, ignore_obsolete=True, width=120)
    facts: dict[str, Any] = {
        "Language": catalog.locale,
        "Content-Type": "text/plain; charset=UTF-8",
        "Plural-Forms": catalog.plural_forms,
    }
    head = ['msgid ""', 'msgstr ""', *(f'"{name}: {fact}\\n"' for name, fact in facts.items()), "", ""]
    path = path_of(str(catalog.locale))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(head).encode() + lines.getvalue().strip(b"\n") + b"\n")


def main(new: Sequence[str] = ()) -> None:
    template = texts()
    for name, catalog in (catalogues() | {each: Catalog(locale=each, domain="django") for each in new}).items():
        catalog.update(template, no_fuzzy_matching=True)
        write(catalog)
        missing = sum(not all(forms(message)) for message in catalog if message.id)
        sys.stdout.write(f"{name}: {len(catalog) - missing} of {len(template)} texts\n")


def _sources() -> Iterator[Path]:
    for source in SOURCES:
        yield from sorted(path for path in (ROOT / source).rglob("*") if path.suffix in (".py", ".html", ".txt"))


if __name__ == "__main__":
    main(sys.argv[1:])
