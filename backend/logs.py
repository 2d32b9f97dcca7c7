"""How a log line is written: one JSON object, or, for a developer, a line to read.

Every logger, Django's and Celery's included, ends in `Formatter`. It lets through what docs/logging.md lists, and it is
the last line of defence: whatever a message holds, no letter of it can end the line, colour it or turn it around, and
of an exception only the types and the way to it are written, for its text may hold what a client has sent.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog
from django.http import HttpRequest
from structlog.dev import ConsoleRenderer
from structlog.processors import JSONRenderer
from structlog.stdlib import ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMATS = ("json", "console")

FIRST = ("time", "level", "logger", "event", "request_id", "client")
MAX_TEXT = 500
"""Characters of any one text; a client can make a path as long as it likes."""
MAX_FRAMES = 30
MAX_CAUSES = 5
ROOT = f"{Path(__file__).resolve().parent.parent}{os.sep}"


def logging_settings(level: str, form: str) -> dict[str, Any]:
    """Django's LOGGING, for a least level out of LEVELS and a form out of FORMATS."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            add_logger_name,
            add_log_level,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    if form == "json":
        logging.captureWarnings(True)  # they would be lines of their own kind
    to_the_root: dict[str, Any] = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "backend.logs.Formatter", "form": form}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            # Django's own handlers would say everything a second time.
            "django": to_the_root,
            "django.server": to_the_root,
            # At DEBUG it repeats statements with their parameters: addresses, seeds, password hashes.
            "django.db.backends": {"level": "INFO"},
        },
    }


class Formatter(ProcessorFormatter):
    """Writes one line for each record, in JSON unless told `console`."""

    def __init__(self, form: str = "json") -> None:
        super().__init__(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars, add_logger_name, add_log_level, _of_django],
            processors=[_timed, _without_text_of_exceptions, _in_order, *_renderers(form)],
        )

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001 (the logging module would print the arguments of what it cannot write)
            lost = {"level": "error", "logger": record.name, "event": "a line could not be written"}
            return json.dumps({**lost, "error": type(error).__name__})


def describe(error: BaseException) -> list[dict[str, Any]]:
    """The types of an exception and of what led to it, each with the way to it; never its text."""
    return [
        {"type": _name_of(type(each)), "frames": list(_frames(each.__traceback__))[-MAX_FRAMES:]}
        for each, _ in zip(_causes(error), range(MAX_CAUSES), strict=False)
    ]


def _renderers(form: str) -> tuple[Any, ...]:
    if form == "console":
        colours = os.name == "posix" and sys.stderr.isatty()
        return _printable, _trace_to_read, ConsoleRenderer(colors=colours, sort_keys=False, timestamp_key="time")
    return _printable, JSONRenderer()


def _of_django(_: Any, __: str, event: EventDict) -> EventDict:
    """What Django knows of an answer that it logs: the status, and what was asked for, without the query string."""
    record = event["_record"]
    request = getattr(record, "request", None)
    if isinstance(request, HttpRequest):
        event.update(method=request.method, path=request.path)
    if isinstance(status := getattr(record, "status_code", None), int):
        event["status"] = status
    return event


def _timed(_: Any, __: str, event: EventDict) -> EventDict:
    event["time"] = datetime.fromtimestamp(event["_record"].created, UTC).isoformat(timespec="milliseconds")
    return event


def _without_text_of_exceptions(_: Any, __: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given is True else given
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    event.pop("stack_info", None)
    return event


def _in_order(_: Any, __: str, event: EventDict) -> EventDict:
    del event["_record"], event["_from_structlog"]
    return {**{name: event.pop(name) for name in FIRST if name in event}, **event}


def _printable(_: Any, __: str, event: EventDict) -> EventDict:
    return {name: _escaped(value) for name, value in event.items()}


def _escaped(value: Any) -> Any:
    """The value with every letter that moves a cursor, breaks a line or turns the reading around spelled out."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_escaped(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _escaped(each) for name, each in value.items()}
    text = str(value)
    text = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _trace_to_read(_: Any, __: str, event: EventDict) -> EventDict:
    if chain := event.get("exception"):
        event["exception"] = "\n".join(line for each in chain for line in (each["type"], *_indented(each["frames"])))
    return event


def _indented(frames: list[str]) -> Iterator[str]:
    return (f"    {frame}" for frame in frames)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"{code.co_filename.removeprefix(ROOT)}:{trace.tb_lineno} in {code.co_qualname}"
        trace = trace.tb_next


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
