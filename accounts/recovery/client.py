"""Who asks: the client's address, behind whatever proxies, and what it calls itself."""

from __future__ import annotations

import ipaddress
import logging
import re
from dataclasses import dataclass
from functools import cache, lru_cache

from django.http import HttpRequest

from ..conf import conf
from ..networks import embedded

logger = logging.getLogger(__name__)

NOWHERE = "0.0.0.0"  # nosec B104 # noqa: S104 (a UNIX socket has no address; nothing is bound here)
_WITH_PORT = re.compile(r"\[(.+)\](?::\d+)?|([^:]+):\d+")


def client_address(request: HttpRequest) -> str:
    """The client's IP address: what the outermost of TRUSTED_PROXIES proxies saw, or the peer where there is none.

    Each proxy appends the address it was called from, so only the entries counted from the right are its word; whatever
    stands further left was written by the client. Where there are fewer entries than proxies, or none that is an
    address, the peer counts, which nobody can make up.
    """
    proxies = conf.TRUSTED_PROXIES
    hops = request.headers.get("X-Forwarded-For", "").split(",")
    claimed = ""
    if proxies and len(hops) >= proxies:
        claimed = _address(hops[-proxies])
    if not claimed and any(hops):
        _warn_of_proxies(proxies)
    return claimed or _address(str(request.META.get("REMOTE_ADDR", ""))) or NOWHERE


@lru_cache(1024)
def _address(text: str) -> str:
    """The address without the port, brackets or zone that a proxy may put around it; empty where it is none."""
    text = text.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(embedded(ip) or ip) if ip.version == 6 else str(ip)


@cache
def _warn_of_proxies(proxies: int) -> None:
    """Say once that the proxies are not as configured: all their clients would share one client's limits."""
    logger.warning(
        "TRUSTED_PROXIES is %s, but the X-Forwarded-For of a request does not fit that: "
        "if proxies stand in front, say how many, or all clients share one limit",
        proxies,
    )


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, as far as the network tells."""

    ip: str
    user_agent: str = ""


def printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())
