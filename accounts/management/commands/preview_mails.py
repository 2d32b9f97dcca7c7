"""`manage.py preview_mails`: write every mail in every language to files, to be looked at, tested or translated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from ...conf import conf
from ...mailing.samples import SAMPLES


class Command(BaseCommand):
    help = "Write a sample of every mail in every language: as HTML, as text, and as it is sent."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--out", type=Path, required=True, help="the folder; one in it for each language")
        parser.add_argument(
            "--language", action="append", choices=[code for code, _ in settings.LANGUAGES], help="only this one"
        )
        parser.add_argument("--brand", default="", choices=["", *conf.BRANDS], help="one of BRANDS, not the default")

    def handle(self, *args: Any, out: Path, language: list[str] | None, brand: str, **options: Any) -> None:
        languages = language or [code for code, _ in settings.LANGUAGES]
        for each in languages:
            folder = out / each
            folder.mkdir(parents=True, exist_ok=True)
            for kind, write in SAMPLES.items():
                letter = write(each, brand)
                (folder / f"{kind}.txt").write_text(f"{letter.subject}\n\n{letter.body}", encoding="utf-8")
                (folder / f"{kind}.html").write_text(str(letter.alternatives[0][0]), encoding="utf-8")
                (folder / f"{kind}.eml").write_bytes(letter.message().as_bytes())
        self.stdout.write(f"{len(SAMPLES)} mails in {len(languages)} languages: {out}")
