"""How often a client or an address may ask. docs/limits.md says what is counted where, and why."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..conf import conf, parse_rate
from ..exceptions import RateLimited, Text
from . import counter
from .window import Taken, Window

USES_OF_A_RECORD = "60/hour"
"""How often one record's good tokens may be used: each use may score or hash a password."""

logger = logging.getLogger(__name__)

IPV6_GROWTH = {64: 1, 56: 3, 48: 10}
"""Of an IPv6 client: its networks, by their length in bits, and by how much more each may ask for than a single client.

A customer commonly has all of a /64, a /56 or a /48 (RFC 6177), and a /48 holds 65,536 of the first.
"""
Told = Text | Callable[[float], str]
"""What a refusal says, or how it is made of the wait in seconds."""

_SLOW_DOWN = _("Too many requests from your network. Please wait a little.")
_GUESSED = _(
    "Too many codes from your network. The link in the newest email works all the same; if it is too old, start a "
    "new reset."
)
_REFUSED = _(
    "Too many links from your network did not work. A good one works all the same: please use that of the newest "
    "email, or start a new reset."
)
_USED = _("This link or token was used too often in the last hour. Please wait, or start a new reset.")
_ASKED = _("You are asking about this reset too often. Please wait a little.")


def check_client_may_request(client_ip: str) -> int:
    """Count a request or a resend of this client, and return its rank: 1 for the client's first within the window.

    For IPv6 each network's count is divided by what it may ask for more than a single client, rounded up; the largest
    is the rank. Raises RateLimited.
    """
    mine = _requests_of(client_ip)
    return _rank(_take(_saying(_SLOW_DOWN, mine)), mine)


def check_may_request(client_ip: str, email_digest: str) -> int:
    """`check_client_may_request` and then `check_address_may_request`, by one question to Redis; returns the rank.

    Raises RateLimited.
    """
    mine, asked = _requests_of(client_ip), _requests_for(email_digest)
    taken, more = counter.take_in_turn(mine, [window for window, _ in asked])
    if not taken.count:
        raise _refusal(taken, _saying(_SLOW_DOWN, mine))
    if not more.count:
        raise _refusal(more, asked, *_saying(_SLOW_DOWN, mine))
    return _rank(taken, mine)


def check_client_may_verify(client_ip: str) -> Callable[[], None]:
    """Count a code of this client before it is compared. Returns what takes the count back, for a right code.

    Raises RateLimited.
    """
    counted = _client_windows("verify", conf.THROTTLE_VERIFY_PER_IP, client_ip)
    taken = _take(_saying(_GUESSED, counted))
    return partial(counter.give_back, counted, taken, 1)


def count_refused_token(client_ip: str) -> None:
    """Count a refused token of this client. Raises RateLimited.

    Good tokens are not counted here, so nobody behind a shared address can keep the others out.
    """
    _take(_saying(_REFUSED, _client_windows("token", conf.THROTTLE_VERIFY_PER_IP, client_ip)))


def check_token_may_be_used(record_id: uuid.UUID) -> None:
    """Count a use of a good token of this record. Raises RateLimited."""
    _take([(_window(USES_OF_A_RECORD, "uses", str(record_id)), _USED)])


def check_client_may_try_passwords(client_ip: str) -> None:
    """Count a password that this client has scored without a token. Raises RateLimited."""
    _take(_saying(_SLOW_DOWN, _client_windows("password", conf.THROTTLE_VERIFY_PER_IP, client_ip)))


def check_client_may_log_in(client_ip: str) -> None:
    """Count a login of this client to the admin. Raises RateLimited."""
    _take(_saying(_SLOW_DOWN, _client_windows("login", conf.THROTTLE_VERIFY_PER_IP, client_ip)))


def check_client_may_use_handle(client_ip: str, record_id: uuid.UUID | None) -> None:
    """Count a question about a reset, or a change to it, of this client and by this handle. Raises RateLimited.

    `record_id` is None for a forged handle. Those are counted apart, so that they neither fill the memory nor keep out
    the good handles of others behind the same address.
    """
    if record_id is None:
        asked = _client_windows("made-up", conf.THROTTLE_STATUS_PER_IP, client_ip)
    else:
        asked = _client_windows("status", conf.THROTTLE_STATUS_PER_IP, client_ip)
        asked.append(_window(conf.THROTTLE_STATUS_PER_HANDLE, "handle", str(record_id)))
    _take(_saying(_ASKED, asked))


def check_address_may_request(email_digest: str, client_ip: str = "") -> None:
    """Count a request against the cooldown and the address's own limit: against both or, if refused, neither.

    Raises RateLimited; the wait covers the client's limit as well, which `check_client_may_request` has counted. What
    support starts has no client.
    """
    _take(_requests_for(email_digest), *_saying(_SLOW_DOWN, _requests_of(client_ip)))


def check_address_may_be_mailed(email_digest: str, client_ip: str = "") -> None:
    """Count a resend to this address; its record enforces the cooldown. Raises RateLimited as above.

    One mail of the address's limit is left to requests: resends of a reset that has ended mail nobody, and must not
    use up what the owner needs.
    """
    asked = _saying(_enough(), _resends_to(email_digest))
    _take(asked, *_saying(_SLOW_DOWN, _requests_of(client_ip)))


def wait_for_mail(email_digest: str, client_ip: str = "") -> float:
    """Seconds until the limits of client and address both have room for another resend; counts nothing."""
    return counter.take([*_resends_to(email_digest), *_requests_of(client_ip)], 0).wait


def window_of_address() -> int:
    """Seconds over which the mails to an address are counted."""
    return parse_rate(conf.THROTTLE_REQUEST_PER_EMAIL).seconds


def count_guess() -> Taken:
    """Count a wrong code for the whole site before it is compared. Raises RateLimited at the limit.

    Whoever finds that it was right, or does not compare it after all, gives it back with `give_guess_back`.
    """
    taken = counter.take([_wrong_codes()])
    _alarm.note(taken)
    if not taken.count:
        message = " ".join((str(_("Codes are not accepted just now.")), link_instead()))
        raise RateLimited(taken.wait, message, limit=_wrong_codes().kind)
    return taken


def give_guess_back(taken: Taken) -> None:
    """Take back what `count_guess` has counted. Never raises."""
    counter.give_back([_wrong_codes()], taken, 1)


def codes_are_served() -> bool:
    """Whether codes are mailed and compared; if not, mails carry the link alone. Counts nothing, never raises."""
    found = counter.take([_wrong_codes()], 0)
    _alarm.note(found)
    return not found.wait


def may_tell_a_stranger(email_digest: str) -> bool:
    """Count a mail that says "no account", and say whether it may be sent: one a day to an address, and few at all.

    Whoever makes this service mail strangers harms its name with those who filter mail. Never raises.
    """
    site = _window(conf.THROTTLE_MAIL_UNKNOWN, "no account", "site")
    return counter.take([Window(f"no account:{email_digest}", 1, 86_400), site]).count == 1


def link_instead() -> str:
    """Say that the link works where codes do not, and for how long."""
    minutes = conf.PASSWORD_RESET_LINK_LIFETIME // 60
    told = ngettext(
        "The link in the email works instead, for %(n)d minute.",
        "The link in the email works instead, for %(n)d minutes.",
        minutes,
    )
    return told % {"n": minutes}


def reset() -> None:
    """Forget all counts of this process; for tests."""
    global _alarm
    counter.reset()
    _alarm = _Alarm()


class _Alarm:
    """Tells the operator, once for this process, that codes have stopped, and once that it is over.

    Over is when the window is half empty: at its brink it fills again with each guess that leaves it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_on = False

    def note(self, found: Taken) -> None:
        stopped = found.wait > 0
        with self._lock:
            if stopped and not self._is_on:
                self._is_on = True
                logger.warning(
                    "wrong codes on the whole site have reached THROTTLE_WRONG_CODES (%s): "
                    "while they do, codes are refused and mails carry the link alone",
                    conf.THROTTLE_WRONG_CODES,
                )
            elif self._is_on and not stopped and 2 * max(found.standing) <= _wrong_codes().most:
                self._is_on = False
                logger.warning("wrong codes on the whole site are below half of THROTTLE_WRONG_CODES again")


def _take(asked: Sequence[tuple[Window, Told]], *also: tuple[Window, Told]) -> Taken:
    """Count in all of these windows or in none, and say what binds the longest, among the others too.

    Whoever comes back after so many seconds, and finds that nobody else has come before, passes.
    """
    taken = counter.take([window for window, _ in asked])
    if not taken.count:
        raise _refusal(taken, asked, *also)
    return taken


def _refusal(taken: Taken, asked: Sequence[tuple[Window, Told]], *also: tuple[Window, Told]) -> RateLimited:
    others = counter.take([window for window, _ in also], 0).waits if also else ()
    waits = zip((*taken.waits, *others), (*asked, *also), strict=True)
    wait, (window, told) = max(waits, key=lambda pair: pair[0])
    return RateLimited(wait, told(wait) if callable(told) else told, limit=window.kind)


def _rank(taken: Taken, mine: Sequence[Window]) -> int:
    single = mine[0].most
    return max(-(-count * single // window.most) for count, window in zip(taken.standing, mine, strict=True))


def asked_lately(wait: float) -> str:
    """The message of the cooldown: the first email may be on its way, and when another can be requested."""
    seconds = max(1, math.ceil(wait))
    told = ngettext(
        "An email for this address was requested a moment ago and may already be on its way. You can request another "
        "in %(n)d second.",
        "An email for this address was requested a moment ago and may already be on its way. You can request another "
        "in %(n)d seconds.",
        seconds,
    )
    return told % {"n": seconds}


def _enough(wait: float = 0.0) -> str:
    """The message of an address at its limit. It is true for every address, whatever has happened to it."""
    minutes = conf.PASSWORD_RESET_LINK_LIFETIME // 60
    told = ngettext(
        "No more emails to this address for now. If one has come: the link in the newest works for %(n)d minute, "
        "unless the account was changed or an email was reported since.",
        "No more emails to this address for now. If one has come: the link in the newest works for %(n)d minutes, "
        "unless the account was changed or an email was reported since.",
        minutes,
    )
    return told % {"n": minutes}


def _saying(message: Text, counted: Iterable[Window]) -> list[tuple[Window, Told]]:
    return [(window, message) for window in counted]


def _wrong_codes() -> Window:
    return _window(conf.THROTTLE_WRONG_CODES, "codes", "site")


def _requests_for(email_digest: str) -> list[tuple[Window, Told]]:
    """The windows of an address, and what each of them says where it refuses."""
    cooldown = Window(f"cooldown:{email_digest}", 1, conf.PASSWORD_RESET_COOLDOWN)
    asked: list[tuple[Window, Told]] = [(cooldown, asked_lately)] if conf.PASSWORD_RESET_COOLDOWN else []
    return [*asked, (_mails_to(email_digest), _enough)]


def _requests_of(client_ip: str) -> list[Window]:
    """The windows of a client's requests; support, which has no address here, has none."""
    return [] if not client_ip else _client_windows("request", conf.THROTTLE_REQUEST_PER_IP, client_ip)


def _mails_to(email_digest: str) -> Window:
    return _window(conf.THROTTLE_REQUEST_PER_EMAIL, "address", email_digest)


def _resends_to(email_digest: str) -> list[Window]:
    """The windows of a resend: the address's mails, of which one is left to requests."""
    mails = _mails_to(email_digest)
    return [mails, Window(f"address:again:{email_digest}", max(1, mails.most - 1), mails.seconds)]


def _client_windows(kind: str, rate: str, ip: str) -> list[Window]:
    """The windows of a client: one for an IPv4 address, one for each network of an IPv6 address."""
    return [_window(rate, kind, network, growth) for network, growth in networks(ip)]


@lru_cache(1024)
def networks(ip: str) -> tuple[tuple[str, int], ...]:
    """Whom a client is counted as, each with how much more that may have than a single client: see IPV6_GROWTH."""
    address = ipaddress.ip_address(ip)
    if address.version == 4:
        return ((ip, 1),)
    networks = {ipaddress.ip_network((address, bits), strict=False): growth for bits, growth in IPV6_GROWTH.items()}
    return tuple((str(network), growth) for network, growth in networks.items())


def _window(rate: str, kind: str, whose: str, growth: int = 1) -> Window:
    most, seconds = parse_rate(rate)
    return Window(f"{kind}:{whose}", most * growth, seconds)


def _start_again_after_fork() -> None:
    """Renew the lock after a fork: another thread may have held it in the parent."""
    global _alarm
    _alarm = _Alarm()


_alarm = _Alarm()
os.register_at_fork(after_in_child=_start_again_after_fork)
