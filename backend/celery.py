"""The Celery application, for `celery -A backend worker`; it is needed where MAIL_DISPATCH is celery."""

import os
from typing import Any

from celery import Celery, Task
from celery.signals import setup_logging, worker_init
from celery.worker.request import Request

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")


class PatientRequest(Request):  # type: ignore[misc]
    """A message whose own word on how long its task may take is not heard.

    Celery kills the worker's process when that is over: in the midst of a mail, as often as somebody who holds the
    queue likes, so that it is mailed again and again.
    """

    @property
    def time_limits(self) -> tuple[None, None]:
        return None, None

    @time_limits.setter
    def time_limits(self, told: Any) -> None:
        """Celery notes here what the message says."""


class PatientTask(Task):  # type: ignore[misc]
    Request = PatientRequest


app = Celery("backend", task_cls=PatientTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect(dispatch_uid="backend.celery.leave_logging_alone")
def leave_logging_alone(**kwargs: Any) -> None:
    """Celery sets up logging of its own only where nobody listens to this; Django's is in force already."""


@worker_init.connect(dispatch_uid="backend.celery.keep_to_itself")
def keep_to_itself(sender: Any, **kwargs: Any) -> None:
    """Switch off what a worker says to others and hears from them; it needs nothing but its queue.

    Celery has command-line switches for this, and no settings.
    """
    sender.options.update(without_gossip=True, without_mingle=True, without_heartbeat=True)
