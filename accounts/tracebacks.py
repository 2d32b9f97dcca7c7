"""What may be written of an exception: its types and the way to it, never its text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

MAX_FRAMES = 30
MAX_CAUSES = 5
ROOT = f"{Path(__file__).resolve().parent.parent}{os.sep}"


def describe(error: BaseException) -> list[dict[str, Any]]:
    """The types of an exception and of what led to it, each with the way to it; never its text."""
    return [
        {"type": name_of(type(each)), "frames": list(_frames(each.__traceback__))[-MAX_FRAMES:]}
        for each, _ in zip(_causes(error), range(MAX_CAUSES), strict=False)
    ]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"{code.co_filename.removeprefix(ROOT)}:{trace.tb_lineno} in {code.co_qualname}"
        trace = trace.tb_next


def name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
