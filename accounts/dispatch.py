"""How a due mail is hurried along: by this process's threads, by a queue, at once in tests, or by another process."""

from __future__ import annotations

import uuid

from accounts import mailer, smtp, workers
from accounts.conf import conf


def hurry(pk: uuid.UUID, *, new: bool) -> None:
    """Ring for one row, the way MAIL_DISPATCH says. Nothing depends on it but speed: the row itself is the message.

    A new row is looked up first, and sent when that has found somebody.
    """
    match conf.MAIL_DISPATCH:
        case "thread":
            workers.ring(_sending_crew, None if new else pk)
        case "celery":
            from accounts import tasks

            workers.ring(tasks.PublishingCrew, None if new else pk)
        case "inline":
            _mail_now(pk)
        case _:
            pass  # another process sweeps


def _sending_crew() -> workers.Crew:
    return workers.SendingCrew(conf.MAIL_THREADS)


def _mail_now(pk: uuid.UUID) -> None:
    connection = smtp.Connection()
    mailer.look()
    mailer.send_due(connection, only=pk)
    connection.close()
