"""Who sends a mail that is due: threads of this process, a queue's workers, this very call in tests, or others."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from ..conf import conf
from . import mailer, smtp, threads


def wake(pk: uuid.UUID, *, new: bool) -> None:
    """Have the mail of one row sent now, the way MAIL_DISPATCH says.

    Only speed depends on it: a sweep finds every row that has a mail due. A `new` row is looked up first.
    """
    if conf.MAIL_DISPATCH == "inline":
        _mail_now(pk)
    elif make := _how_to_mail():
        threads.wake(make, None if new else pk)


def start() -> None:
    """Have a serving process send what an earlier one has left, before any request comes."""
    if make := _how_to_mail():
        threads.wake(make)


def _how_to_mail() -> Callable[[], threads.MailerThreads] | None:
    """What makes this process's mailer threads; None where another process mails."""
    if conf.MAIL_DISPATCH == "thread":
        return lambda: threads.SendingThreads(conf.MAIL_SENDERS)
    if conf.MAIL_DISPATCH == "celery":
        from . import tasks  # only here is Celery needed

        return tasks.PublishingThreads
    return None


def _mail_now(pk: uuid.UUID) -> None:
    connection = smtp.Connection()
    mailer.look()
    mailer.send(pk, connection)
    connection.close()
