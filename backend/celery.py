"""The Celery application, for `celery -A backend worker`; it is needed where MAIL_DISPATCH is celery."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

app = Celery("backend")
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
