"""The project: settings, the root schema, the HTTP view, and the servers' entry points."""

from backend.celery import app as celery_app

__all__ = ["celery_app"]
