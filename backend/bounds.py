"""What a request may be at most, and how one that is more is refused before anything reads it.

`restrain` stands before Django under every server, and the front (`backend/front.py`) refuses by the same table. The
refusal travels in the environ and is answered by `backend.middleware.Refusals`, so that it has the headers and the line
in the log that every answer has.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from django.conf import settings

from accounts.conf import MAX_BODY

MAX_CONTENT_TYPE = 256
"""Characters; Django reads parameters in quadratic time, for every request, before any middleware."""
MAX_COOKIE = 4096
"""Characters; a session and a CSRF token have 200."""
BODY_SECONDS = 10.0
"""How long a body may take to arrive."""

ADMIN = "/admin/"
INBOX = "/inbox/"

REFUSAL = "account_recovery.refusal"
"""The key of the environ that holds a `Refusal`. No header is spelled like it."""


class Refusal(NamedTuple):
    """Why a request is not read any further; the status says so to machines, the message to people."""

    status: int
    message: str


TWO_LENGTHS = Refusal(400, "A body comes in chunks or with a Content-Length, and not with both.")
BROKEN_OFF = Refusal(400, "The body broke off.")
TOO_SLOW = Refusal(408, f"The body did not arrive within {BODY_SECONDS:g} seconds.")
TOO_LONG = Refusal(413, f"The body may have {MAX_BODY} bytes at most.")
NO_LENGTH = Refusal(411, "This server reads no body without a Content-Length.")
UNREADABLE_TYPE = Refusal(415, f"The Content-Type may have {MAX_CONTENT_TYPE} characters at most.")
TOO_MANY_COOKIES = Refusal(431, f"Cookies may have {MAX_COOKIE} characters at most.")
BUSY = Refusal(503, "Too much is being asked at once: try again in a moment.")


def restrain(environ: dict[str, Any]) -> None:
    """Take out of a WSGI environ what Django must not read; note why, if that makes it a request to refuse.

    Cookies stay only where they are read: the admin, and the inbox of development. Elsewhere a browser may bring as
    many as its other sites have left with it. Quoted ones stay nowhere: none of ours is quoted, and older Pythons read
    them in quadratic time, 35 ms for four kilobytes.
    """
    if len(environ.get("CONTENT_TYPE", "")) > MAX_CONTENT_TYPE:
        _refuse(environ, "CONTENT_TYPE", UNREADABLE_TYPE)
    if not _reads_cookies(environ.get("PATH_INFO", "")):
        environ.pop("HTTP_COOKIE", None)
    elif len(environ.get("HTTP_COOKIE", "")) > MAX_COOKIE:
        _refuse(environ, "HTTP_COOKIE", TOO_MANY_COOKIES)
    elif '"' in environ.get("HTTP_COOKIE", ""):
        environ["HTTP_COOKIE"] = ";".join(each for each in environ["HTTP_COOKIE"].split(";") if '"' not in each)
    if announced_length(environ) > MAX_BODY:
        _refuse(environ, "CONTENT_LENGTH", TOO_LONG)
    elif _has_unmeasured_body(environ) and REFUSAL not in environ:
        _take_chunks(environ)


def _has_unmeasured_body(environ: dict[str, Any]) -> bool:
    """Whether a body may follow that Django takes for empty. HTTP/2 announces neither a length nor chunks."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return True
    ended = environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH")
    return bool(ended) and environ["REQUEST_METHOD"] not in {"GET", "HEAD"}


def _take_chunks(environ: dict[str, Any]) -> None:
    """Read a body that comes in chunks, as CDNs send it, and say how long it is: Django takes it for empty otherwise.

    The server has to undo the chunks, and says that it does by `wsgi.input_terminated`. Where a length is announced as
    well, the two may not agree, and what one server takes for the end is another request to the next.
    """
    if environ.get("CONTENT_LENGTH") and not environ.get("wsgi.input_terminated"):
        return _refuse(environ, "HTTP_TRANSFER_ENCODING", TWO_LENGTHS)
    if not environ.get("wsgi.input_terminated"):
        return _refuse(environ, "HTTP_TRANSFER_ENCODING", NO_LENGTH)
    try:
        body = environ["wsgi.input"].read(MAX_BODY + 1)
    except Exception:  # noqa: BLE001 (each server has errors of its own for chunks that are none)
        return _refuse(environ, "HTTP_TRANSFER_ENCODING", BROKEN_OFF)
    if len(body) > MAX_BODY:
        return _refuse(environ, "HTTP_TRANSFER_ENCODING", TOO_LONG)
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
    return None


def announced_length(environ: dict[str, Any]) -> int:
    """The number of bytes that the body is said to have; 0 where nothing is said that is a number."""
    said = environ.get("CONTENT_LENGTH") or ""
    if not (said.isascii() and said.isdecimal()):
        return 0
    # Python reads no number of more than 4300 digits, and raises instead.
    return int(said) if len(said) < 20 else MAX_BODY + 1


def _refuse(environ: dict[str, Any], key: str, refusal: Refusal) -> None:
    environ.pop(key, None)
    environ.setdefault(REFUSAL, refusal)


def _reads_cookies(path: str) -> bool:
    return path.startswith((ADMIN, INBOX) if settings.DEBUG else ADMIN)
