"""The pace of mails: how many may be sent in a minute, over all processes that share a Redis.

The sender asks before it claims. Nobody is refused for the pace: a mail that may not go yet stays due. Look is not
paced, so that what a holder is shown never depends on how many owners are mailed. Without REDIS_URL, and while Redis
does not answer, each process keeps the pace for itself.
"""

from __future__ import annotations

from ..conf import conf
from ..limits import counter
from ..limits.window import Taken, Window


def take(wanted: int) -> Taken:
    """Count up to `wanted` mails towards the last minute; `count` may be claimed now.

    Where that is 0, `wait` says after how many seconds one may. Without MAIL_PER_MINUTE all may be. Never raises, and
    returns within about a second even where Redis is silent.
    """
    if not conf.MAIL_PER_MINUTE:
        return Taken(wanted, (0.0,), 0.0)
    return counter.take([_minute()], wanted)


def is_half_used(taken: Taken) -> bool:
    """Whether, with what was taken, half of the minute's mails are gone; never without MAIL_PER_MINUTE."""
    return bool(conf.MAIL_PER_MINUTE) and 2 * taken.standing[0] > conf.MAIL_PER_MINUTE


def give_back(taken: Taken, unused: int) -> None:
    """Hand back what was taken and not sent, because less was due than had been asked for. Never raises."""
    if conf.MAIL_PER_MINUTE:
        counter.give_back([_minute()], taken, unused)


def _minute() -> Window:
    return Window("pace", conf.MAIL_PER_MINUTE, 60)
