"""How a log line is written: one JSON object, or, for a developer, a line to read.

Every logger, Django's and Celery's included, ends in `Formatter`. It lets through what docs/logging.md lists, and it is
the last line of defence: whatever a message holds, no letter of it can end the line, colour it or turn it around. Of an
exception only the types and the way to it are written, and of a request only the route that it matched, for texts and
paths may hold what a client has sent: mail programs that encode `#` put a live token into a path.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from copy import copy
from datetime import UTC, datetime
from http import HTTPMethod, HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from django.http import HttpRequest
from django.urls import Resolver404, resolve
from structlog.dev import ConsoleRenderer

from accounts.tracebacks import describe, name_of
from accounts.traces import trace_id

Event = dict[str, Any]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FORMATS = ("json", "console")

FIRST = ("time", "level", "logger", "event", "request_id", "client")
MAX_TEXT = 500
"""Characters of any one text; a client can make a header as long as it likes."""


def logging_settings(level: str, form: str) -> dict[str, Any]:
    """Django's LOGGING, for a least level out of LEVELS and a form out of FORMATS."""
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


context: ContextVar[Event] = ContextVar("context", default={})  # noqa: B039 (it is never changed, only replaced)
"""What is known of the request that is being answered, for every line that is logged meanwhile."""


class Formatter(logging.Formatter):
    """Writes one line for each record, in JSON unless told `console`. A message that is a dictionary is the line."""

    def __init__(self, form: str = "json") -> None:
        super().__init__()
        self._write = _to_read() if form == "console" else _JSON.encode

    def format(self, record: logging.LogRecord) -> str:
        try:
            return self._write(_event_of(_without_exceptions(record)))
        except Exception as error:  # noqa: BLE001 (the logging module would print the arguments of what it cannot write)
            lost = {"level": "error", "logger": record.name, "event": "a line could not be written"}
            return json.dumps({**lost, "error": type(error).__name__})


_JSON = json.JSONEncoder()


def _to_read() -> Callable[[Event], str]:
    render = ConsoleRenderer(colors=os.name == "posix" and sys.stderr.isatty(), sort_keys=False, timestamp_key="time")

    def write(event: Event) -> str:
        if chain := event.get("exception"):
            lines = (line for each in chain for line in (each["type"], *_indented(each["frames"])))
            event["exception"] = "\n".join(lines)
        return str(render(None, "", event))

    return write


def _event_of(record: logging.LogRecord) -> Event:
    """What the line says, in its order: FIRST, then the facts."""
    facts = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
    facts |= context.get()
    if trace := trace_id():
        facts["trace"] = trace
    _tell_of_django(record, facts)
    if record.exc_info and (error := record.exc_info[1]):
        facts["exception"] = describe(error)
    facts["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    facts["level"], facts["logger"] = record.levelname.lower(), record.name
    event = {name: facts.pop(name) for name in FIRST if name in facts}
    return {name: _escaped(value) for name, value in (event | facts).items()}


def _without_exceptions(record: logging.LogRecord) -> logging.LogRecord:
    """The record with the types of exceptions in place of those that its message would quote."""
    args: Any = record.args
    if isinstance(args, tuple) and any(isinstance(each, BaseException) for each in args):
        args = tuple(name_of(type(each)) if isinstance(each, BaseException) else each for each in args)
    elif isinstance(args, dict) and "exc" in args:  # Celery's, of a task that failed: a text already
        kind = record.exc_info[0] if record.exc_info else None
        args = {**args, "exc": name_of(kind) if kind else "?"}
    else:
        return record
    cleaned = copy(record)
    cleaned.args = args
    return cleaned


def _tell_of_django(record: logging.LogRecord, event: Event) -> None:
    """Add what Django knows of an answer that it logs: method, route and status.

    Its own words are replaced. They repeat the path, the request line, a Referer or what else was refused.
    """
    status, request = getattr(record, "status_code", None), getattr(record, "request", None)
    if record.name == "django.server":
        event.update(event="answered", **_of_development_server(record.args))
    elif isinstance(request, HttpRequest):
        event.update(_of_request(request))
    if record.name.startswith(("django.request", "django.security")):
        event["event"] = _refusal(event["event"], record.args, record.name, status)
    if isinstance(status, int):
        event["status"] = status


def _of_request(request: HttpRequest) -> Event:
    return {"method": _method(request.method), "route": request.resolver_match and request.resolver_match.route}


def _refusal(message: str, said: Any, logger: str, status: Any) -> str:
    if logger == "django.security.DisallowedHost":
        return message  # the host alone, which is what an operator has to know
    if logger == "django.security.csrf" and isinstance(said, tuple) and said:
        # Django's reason, up to where it begins to quote an Origin or a Referer.
        return f"Forbidden ({str(said[0]).partition(' - ')[0]})"
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "refused"


def _of_development_server(said: Any) -> dict[str, Any]:
    """Method and route out of the request line that runserver logs: `"GET /reset/ HTTP/1.1" 200 1543`."""
    line = said[0].split() if isinstance(said, tuple) and said and isinstance(said[0], str) else []
    if len(line) != 3:
        return {}
    try:
        route = resolve(unquote(urlsplit(line[1]).path)).route
    except (Resolver404, ValueError):
        route = None
    return {"method": _method(line[0]), "route": route}


def _method(told: str | None) -> str | None:
    """A method by its name, and None for a word that somebody has made up."""
    return told if told in set(HTTPMethod) else None


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


def _indented(frames: list[str]) -> Iterator[str]:
    return (f"    {frame}" for frame in frames)
