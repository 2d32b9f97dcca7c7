"""How a due mail is hurried along: by this process's threads, by a queue, at once in tests, or by another process."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from ..conf import conf
from . import mailer, smtp, threads


def hurry(pk: uuid.UUID, *, new: bool) -> None:
    """Ring for one row, the way MAIL_DISPATCH says. Nothing depends on it but speed: the row itself is the message.

    A new row is looked up first, and sent when that has found somebody.
    """
    if conf.MAIL_DISPATCH == "inline":
        _mail_now(pk)
    elif make_crew := _crew():
        threads.ring(make_crew, None if new else pk)


def start() -> None:
    """Let a serving process see to what an earlier one has left, without waiting for a first request."""
    if make_crew := _crew():
        threads.ring(make_crew)


def _crew() -> Callable[[], threads.Crew] | None:
    """What mails in this process; None where that is another process's business."""
    if conf.MAIL_DISPATCH == "thread":
        return lambda: threads.SendingCrew(conf.MAIL_SENDERS)
    if conf.MAIL_DISPATCH == "celery":
        from . import tasks  # only here is Celery needed

        return tasks.PublishingCrew
    return None


def _mail_now(pk: uuid.UUID) -> None:
    connection = smtp.Connection()
    mailer.look()
    mailer.send(pk, connection)
    connection.close()
