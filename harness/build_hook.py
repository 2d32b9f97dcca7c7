"""What a build of the wheel does first: compile the translations, which the repository holds as text alone."""

from __future__ import annotations

from typing import Any

from babel.messages.frontend import CommandLineInterface
from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # type: ignore[import-not-found]


class CompileTexts(BuildHookInterface):  # type: ignore[misc]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = f"{self.root}/accounts/locale"
        command = ["pybabel", "--quiet", "compile", "--directory", folder, "--domain", "django"]
        CommandLineInterface().run(command)  # type: ignore[no-untyped-call]
