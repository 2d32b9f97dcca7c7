"""Which address a request really comes from."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The client's IP address: what the outermost of TRUSTED_PROXIES proxies saw, or the peer where there is none.

    Each proxy appends the address it was called from, so only the entries counted from the right are its word; whatever
    stands further left was written by the client.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    if settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
        if len(hops) >= settings.TRUSTED_PROXIES:
            peer = hops[-settings.TRUSTED_PROXIES]
    try:
        return str(ipaddress.ip_address(peer.strip("[]")))
    except ValueError:
        return "0.0.0.0"  # noqa: S104 (a UNIX socket has no address; nothing is bound here)
