"""The ASGI application: the front, with the very handler of `backend.wsgi` behind it. `make serve` runs it."""

from django.conf import settings

from backend.front import Front
from backend.wsgi import application as handler

application = Front(handler, settings.THREADS)
