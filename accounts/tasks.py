"""The Celery task, where `autodiscover_tasks` looks for it."""

from .mailing.tasks import send_mail

__all__ = ["send_mail"]
