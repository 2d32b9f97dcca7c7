"""The WSGI application, for granian (`make serve`), gunicorn or any other server."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings")

application = get_wsgi_application()

from accounts import dispatch  # noqa: E402 (needs the apps to be ready)

dispatch.start()
