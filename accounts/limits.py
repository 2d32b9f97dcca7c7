"""How often a client or an address may ask; the limits library counts, in Redis or in this process's memory."""

from __future__ import annotations

import ipaddress
import time
from functools import lru_cache
from typing import cast

from django.utils.translation import gettext_lazy as _
from limits import RateLimitItem, RateLimitItemPerSecond, parse
from limits.storage import Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from accounts.conf import conf
from accounts.exceptions import RateLimited, Text

_SLOW_DOWN = _("Too many requests from your network. Please wait a little.")


def check_client_may_request(client_ip: str) -> None:
    """Count a request or a resend of this client. Raises RateLimited."""
    _hit(parse(conf.THROTTLE_REQUEST_PER_IP), _SLOW_DOWN, "request", _network(client_ip))


def check_client_may_verify(client_ip: str) -> None:
    """Count an operation of this client that checks a secret. Raises RateLimited."""
    _hit(parse(conf.THROTTLE_VERIFY_PER_IP), _SLOW_DOWN, "verify", _network(client_ip))


def check_address_may_request(email_digest: str) -> None:
    """Hold a request against the cooldown and then the address's own limit. Raises RateLimited."""
    if conf.PASSWORD_RESET_COOLDOWN:
        cooldown = RateLimitItemPerSecond(1, conf.PASSWORD_RESET_COOLDOWN)
        _hit(cooldown, _("A reset for this address was requested a moment ago."), "cooldown", email_digest)
    check_address_may_be_mailed(email_digest)


def check_address_may_be_mailed(email_digest: str) -> None:
    """Count a mail to this address, whether it is the first or a resend. Raises RateLimited."""
    message = _("Enough mails for this address for now: please use the link in the newest one.")
    _hit(parse(conf.THROTTLE_REQUEST_PER_EMAIL), message, "address", email_digest)


def reset() -> None:
    """Forget every count that this process keeps; for tests."""
    _storage(conf.REDIS_URL).reset()


def _hit(rate: RateLimitItem, message: Text, *key: str) -> None:
    limiter = MovingWindowRateLimiter(_storage(conf.REDIS_URL))
    if not limiter.hit(rate, *key):
        raise RateLimited(limiter.get_window_stats(rate, *key).reset_time - time.time(), message)


@lru_cache
def _storage(url: str) -> Storage:
    return cast(Storage, storage_from_string(url or "memory://"))


def _network(address: str) -> str:
    """An IPv4 address, or the /64 that a single IPv6 customer commonly has all to itself."""
    ip = ipaddress.ip_address(address)
    if ip.version == 6 and ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))
