"""Whether a password has been in a data breach, asked of Pwned Passwords by k-anonymity. Off by default.

Five hexadecimal digits of the password's SHA-1 leave this machine, padded answers come back, and the rest is compared
here. A service that does not answer, or not like itself, blocks nobody: the password is accepted, and for a minute the
service is not asked again.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from http.client import HTTPException
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from ..conf import conf

TIMEOUT = 1.0
"""Seconds that a password waits for an answer, from the look-up of the service's name to the last byte."""
PAUSE = 60.0
"""Seconds for which a service that has failed is left alone, so that its being down costs one password a second."""
MAX_ANSWER = 512 * 1024
"""Bytes; a padded answer has some 80,000."""
MAX_ASKING = 16
"""Threads that wait for the service at once. One that never gets its answer keeps its place."""

_LINE = re.compile(r"([0-9A-F]{35}):([0-9]{1,12})")

logger = logging.getLogger(__name__)


class PwnedPasswordValidator:
    """Refuses what has been seen in a data breach, as long as the service can be asked."""

    codes = ("password_pwned",)

    def validate(self, password: str, user: Any = None) -> None:
        if service.knows(password):
            raise ValidationError(
                _("This password has appeared in a data breach: whoever guesses passwords has it on a list."),
                code="password_pwned",
            )

    def get_help_text(self) -> str:
        return _("Your password should not have appeared in a data breach.")


class Service:
    """The service as this process has found it: to be asked, or to be left alone for a while."""

    def __init__(self) -> None:
        self._asking = BoundedSemaphore(MAX_ASKING)
        self._ask_again_at = 0.0

    def knows(self, password: str) -> bool:
        """Whether the service lists a password; False if it cannot be asked."""
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        if time.monotonic() < self._ask_again_at or not self._asking.acquire(blocking=False):
            return False
        answer = self._within_the_timeout(digest[:5])
        if isinstance(answer, Exception):
            self._leave_alone(answer)
            return False
        return digest[5:] in answer

    def _leave_alone(self, error: Exception) -> None:
        now = time.monotonic()
        first, self._ask_again_at = now >= self._ask_again_at, now + PAUSE
        if first:  # of those who were asking at the same time
            logger.warning(
                "Pwned Passwords cannot be asked (%s): passwords are accepted without it for %d seconds.",
                type(error).__name__,
                PAUSE,
            )

    def _within_the_timeout(self, prefix: str) -> frozenset[str] | Exception:
        """What is known below a prefix, or why that cannot be told in time.

        A thread of its own, for a socket's timeout bounds neither the look-up of a name nor an answer that drips.
        """
        answers: SimpleQueue[frozenset[str] | Exception] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(_parse(_fetch(prefix)))
            except (OSError, HTTPException, ValueError) as error:
                answers.put(error)
            finally:
                self._asking.release()

        Thread(target=ask, name="pwned-passwords", daemon=True).start()
        try:
            return answers.get(timeout=TIMEOUT)
        except Empty:
            return TimeoutError()


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        """Nowhere but where the operator has pointed us."""


def _fetch(prefix: str) -> bytes:
    """The raw answer for a prefix. Raises OSError, HTTPException or ValueError, whatever is wrong with it."""
    url = f"{conf.PWNED_PASSWORDS_URL.rstrip('/')}/{prefix}"
    # The setting is checked to be an http(s) address when the server starts.
    request = Request(url, headers={"Add-Padding": "true", "User-Agent": "account-recovery"})  # noqa: S310
    give_up_at = time.monotonic() + 5 * TIMEOUT
    body = b""
    try:
        with build_opener(_NoRedirects).open(request, timeout=TIMEOUT) as response:
            while chunk := response.read1(65_536):
                body += chunk
                if len(body) > MAX_ANSWER or time.monotonic() > give_up_at:
                    raise ValueError("too much")
            if response.length:
                raise ValueError("broken off")
    except HTTPError as error:
        error.close()
        raise
    return body


def _parse(body: bytes) -> frozenset[str]:
    """The suffixes that have been seen; those seen 0 times are padding. Raises ValueError for anything else."""
    lines = [_LINE.fullmatch(line.strip()) for line in body.decode("ascii").splitlines()]
    if not lines or None in lines:
        raise ValueError("no list of suffixes")
    return frozenset(line[1] for line in lines if line and int(line[2]))


service = Service()
