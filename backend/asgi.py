"""The ASGI application, for hosts that speak nothing else; docs/decisions/ says why WSGI is the one to choose."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

django.setup(set_prefix=False)

from accounts import dispatch  # noqa: E402 (needs the apps to be ready)
from backend.handlers import AsyncHandler  # noqa: E402

application = AsyncHandler()

dispatch.start()
