"""The ASGI application, for hosts that speak nothing else; docs/decisions/ says why WSGI is the one to choose."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

application = get_asgi_application()

from accounts import dispatch  # noqa: E402 (needs the apps to be ready)

dispatch.start()
