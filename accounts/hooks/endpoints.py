"""Who is told of events by HTTP: what WEBHOOKS says, checked."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..choices import WebhookEvent
from ..conf import conf

logger = logging.getLogger(__name__)

SECRET_PREFIX = "whsec_"  # nosec B105 # noqa: S105 (the prefix of secrets)
SECRET_BYTES = range(24, 65)
"""How long a secret is: Standard Webhooks, "Signature scheme"."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_KEYS = {"name", "url", "secrets", "events", "private"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver: its name, which rows and logs know it by, and what it is sent where, signed with what."""

    name: str
    url: str
    secrets: tuple[str, ...]
    """One, or two while receivers change from the old one to the new one. No row and no log holds them."""
    events: frozenset[str]
    private: bool = False
    """Whether it may have an address of a private network."""


def parse(given: Any) -> tuple[Endpoint, ...]:
    """The endpoints of a list such as `[{"name": "crm", "url": "https://…", "secrets": ["whsec_…"]}]`.

    Raises ValueError with all that is wrong, one line each, without any secret.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(each, dict) for each in given):
        raise ValueError('A list of objects, such as [{"name": "crm", "url": "https://…", "secrets": ["whsec_…"]}].')
    problems = [
        f"{each.get('name', number)}: {problem}" for number, each in enumerate(given) for problem in _wrong(each)
    ]
    names = [each.get("name") for each in given]
    if len(set(map(str, names))) < len(names):
        problems.append("Two have the same name.")
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(
        Endpoint(
            each["name"],
            each["url"],
            tuple(each["secrets"]),
            frozenset(each.get("events", WebhookEvent.values)),
            each.get("private", False),
        )
        for each in given
    )


def _wrong(given: dict[str, Any]) -> list[str]:
    found = []
    if unknown := given.keys() - _KEYS:
        found.append(f"there is no {', '.join(sorted(map(str, unknown)))}; there are {', '.join(sorted(_KEYS))}.")
    if not isinstance(given.get("name"), str) or not _NAME.fullmatch(given["name"]):
        found.append("name has 1 to 40 lower-case letters, digits, - or _.")
    if not _is_https(given.get("url")):
        found.append("url is an https:// address, without a user or a fragment.")
    secrets = given.get("secrets")
    if not isinstance(secrets, list | tuple) or not 1 <= len(secrets) <= 2 or not all(map(_is_secret, secrets)):
        found.append("secrets are one or two of whsec_ and 24 to 64 random bytes in base64.")
    events = given.get("events", WebhookEvent.values)
    if not isinstance(events, list | tuple) or not events or not set(events) <= set(WebhookEvent.values):
        found.append(f"events are some of {', '.join(WebhookEvent.values)}.")
    if not isinstance(given.get("private", False), bool):
        found.append("private is true or false.")
    return found


def _is_https(url: Any) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except (ValueError, TypeError, AttributeError):
        return False
    return parts.scheme == "https" and bool(parts.hostname) and not (parts.username or parts.fragment)


def _is_secret(secret: Any) -> bool:
    if not isinstance(secret, str) or not secret.startswith(SECRET_PREFIX):
        return False
    try:
        return len(base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)) in SECRET_BYTES
    except binascii.Error:
        return False


def endpoints() -> tuple[Endpoint, ...]:
    """The endpoints of this project; none where WEBHOOKS is wrong, of which a check tells, for mails must go out."""
    try:
        return parse(conf.WEBHOOKS) if conf.WEBHOOKS else ()
    except ValueError:
        logger.error("WEBHOOKS cannot be used: `manage.py check` says why")  # noqa: TRY400 (in full, and once)
        return ()
