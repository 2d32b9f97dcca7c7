"""The WSGI application, for gunicorn or any other WSGI server; `make serve` runs it behind `backend.asgi`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

django.setup(set_prefix=False)

from accounts.mailing import dispatch  # noqa: E402 (needs the apps to be ready)
from backend.handlers import Handler  # noqa: E402
from backend.postgresql.base import bound_waits  # noqa: E402

bound_waits()
application = Handler()

dispatch.start()
