"""How often a client or an address may ask. What is counted where, and what is not, stands in docs/limits.md."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Callable
from functools import partial

from django.utils.translation import gettext_lazy as _
from limits import parse

from accounts import windows
from accounts.conf import conf
from accounts.exceptions import RateLimited, Text
from accounts.windows import Taken, Window

USES_OF_A_RECORD = "60/hour"
"""How often one record's good tokens may be used: each use may score or hash a password."""

_SLOW_DOWN = _("Too many requests from your network. Please wait a little.")
_COOLDOWN = _("A reset for this address was requested a moment ago.")
_ENOUGH = _("Enough mails for this address for now: please use the link in the newest one.")
_GUESSED = _(
    "Too many codes from your network. The link in the newest mail works all the same; if it is too old, start a "
    "new reset."
)
_REFUSED = _(
    "Too many links from your network did not work. A good one works all the same: please use that of the newest mail, "
    "or start a new reset."
)
_USED = _("This link or token was used too often in the last hour. Please wait, or start a new reset.")
_ASKED = _("You are asking about this reset too often. Please wait a little.")


def check_client_may_request(client_ip: str) -> None:
    """Count a request or a resend of this client. Raises RateLimited."""
    _take([(_requests_of(client_ip), _SLOW_DOWN)])


def check_client_may_verify(client_ip: str) -> Callable[[], None]:
    """Count a code of this client, before it is compared. Returns what takes the count back, for a right one.

    Raises RateLimited.
    """
    counted = _client_windows("verify", conf.THROTTLE_VERIFY_PER_IP, client_ip)
    taken = _take([(window, _GUESSED) for window in counted])
    return partial(windows.give_back, counted, taken, 1)


def count_refused_token(client_ip: str) -> None:
    """Count a token of this client that was not believed. Raises RateLimited, in place of saying so once more.

    It bounds nothing that a good token does, so whoever shares an address with others cannot be kept out by them.
    """
    asked = _client_windows("token", conf.THROTTLE_VERIFY_PER_IP, client_ip)
    _take([(window, _REFUSED) for window in asked])


def check_token_may_be_used(record_id: uuid.UUID) -> None:
    """Count a use of a good token of this record. Raises RateLimited."""
    _take([(_window(USES_OF_A_RECORD, "uses", str(record_id)), _USED)])


def check_client_may_try_passwords(client_ip: str) -> None:
    """Count a password that this client has scored without a token. Raises RateLimited."""
    asked = _client_windows("password", conf.THROTTLE_VERIFY_PER_IP, client_ip)
    _take([(window, _SLOW_DOWN) for window in asked])


def check_client_may_log_in(client_ip: str) -> None:
    """Count a login of this client to the admin. Raises RateLimited."""
    asked = _client_windows("login", conf.THROTTLE_VERIFY_PER_IP, client_ip)
    _take([(window, _SLOW_DOWN) for window in asked])


def check_client_may_use_handle(client_ip: str, record_id: uuid.UUID | None) -> None:
    """Count a question about a reset, or a change to it, of this client and by this handle. Raises RateLimited.

    `record_id` is None for a handle that was not believed: those that are made up must not fill any memory.
    """
    asked = _client_windows("status", conf.THROTTLE_STATUS_PER_IP, client_ip)
    if record_id is not None:
        asked.append(_window(conf.THROTTLE_STATUS_PER_HANDLE, "handle", str(record_id)))
    _take([(window, _ASKED) for window in asked])


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


def _take(asked: list[tuple[Window, Text]], *also: tuple[Window, Text]) -> Taken:
    """Count in all of these windows or in none, and say what binds the longest, among the others too.

    Whoever comes back after so many seconds, and finds that nobody else has come before, passes.
    """
    taken = windows.take([window for window, _ in asked])
    if taken.count:
        return taken
    waits = (*taken.waits, *(windows.take([window], 0).wait for window, _ in also))
    wait, (window, message) = max(zip(waits, (*asked, *also), strict=True), key=lambda pair: pair[0])
    raise RateLimited(wait, message, limit=window.kind)


def _requests_of(client_ip: str) -> Window:
    return _window(conf.THROTTLE_REQUEST_PER_IP, "request", _network(client_ip))


def _mails_to(email_digest: str) -> Window:
    return _window(conf.THROTTLE_REQUEST_PER_EMAIL, "address", email_digest)


def _client_windows(kind: str, rate: str, client_ip: str) -> list[Window]:
    return [_window(rate, kind, _network(client_ip))]


def _window(rate: str, kind: str, whose: str) -> Window:
    parsed = parse(rate)
    return Window(f"{kind}:{whose}", parsed.amount, parsed.get_expiry())


def _network(address: str) -> str:
    """An IPv4 address, or the /64 that a single IPv6 customer commonly has all to itself."""
    ip = ipaddress.ip_address(address)
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))
