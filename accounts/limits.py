"""How often a client or an address may ask. What is counted where, and what is not, stands in docs/limits.md."""

from __future__ import annotations

import ipaddress

from django.utils.translation import gettext_lazy as _
from limits import parse

from accounts import windows
from accounts.conf import conf
from accounts.exceptions import RateLimited, Text
from accounts.windows import Window

_SLOW_DOWN = _("Too many requests from your network. Please wait a little.")
_COOLDOWN = _("A reset for this address was requested a moment ago.")
_ENOUGH = _("Enough mails for this address for now: please use the link in the newest one.")


def check_client_may_request(client_ip: str) -> None:
    """Count a request or a resend of this client. Raises RateLimited."""
    _take([(_requests_of(client_ip), _SLOW_DOWN)])


def check_client_may_verify(client_ip: str) -> None:
    """Count an operation of this client that checks a secret. Raises RateLimited."""
    _take([(_window(conf.THROTTLE_VERIFY_PER_IP, "verify", _network(client_ip)), _SLOW_DOWN)])


def check_address_may_request(email_digest: str, client_ip: str) -> None:
    """Count a request against the cooldown and the address's own limit: against both or, if refused, neither.

    Raises RateLimited; the wait covers the client's limit as well, which `check_client_may_request` has counted.
    """
    cooldown = Window(f"cooldown:{email_digest}", 1, conf.PASSWORD_RESET_COOLDOWN)
    asked = [(cooldown, _COOLDOWN)] if conf.PASSWORD_RESET_COOLDOWN else []
    _take([*asked, (_mails_to(email_digest), _ENOUGH)], (_requests_of(client_ip), _SLOW_DOWN))


def check_address_may_be_mailed(email_digest: str, client_ip: str) -> None:
    """Count a mail to this address: a resend, which its own row holds to the cooldown. Raises RateLimited as above."""
    _take([(_mails_to(email_digest), _ENOUGH)], (_requests_of(client_ip), _SLOW_DOWN))


def wait_for_mail(email_digest: str, client_ip: str) -> float:
    """Seconds until the limits of client and address both have room for another mail; counts nothing."""
    return windows.take([_mails_to(email_digest), _requests_of(client_ip)], 0).wait


def reset() -> None:
    """Forget every count that this process keeps; for tests."""
    windows.reset()


def _take(asked: list[tuple[Window, Text]], *also: tuple[Window, Text]) -> None:
    """Count in all of these windows or in none, and say what binds the longest, among the others too.

    Whoever comes back after so many seconds, and finds that nobody else has come before, passes.
    """
    taken = windows.take([window for window, _ in asked])
    if taken.count:
        return
    waits = (*taken.waits, *(windows.take([window], 0).wait for window, _ in also))
    wait, (window, message) = max(zip(waits, (*asked, *also), strict=True), key=lambda pair: pair[0])
    raise RateLimited(wait, message, limit=window.kind)


def _requests_of(client_ip: str) -> Window:
    return _window(conf.THROTTLE_REQUEST_PER_IP, "request", _network(client_ip))


def _mails_to(email_digest: str) -> Window:
    return _window(conf.THROTTLE_REQUEST_PER_EMAIL, "address", email_digest)


def _window(rate: str, kind: str, whose: str) -> Window:
    parsed = parse(rate)
    return Window(f"{kind}:{whose}", parsed.amount, parsed.get_expiry())


def _network(address: str) -> str:
    """An IPv4 address, or the /64 that a single IPv6 customer commonly has all to itself."""
    ip = ipaddress.ip_address(address)
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))
