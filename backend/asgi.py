"""The ASGI application: the front, with the very handler of `backend.wsgi` behind it. `make serve` runs it."""

import gc

from django.conf import settings
from django.urls import get_resolver

from backend.front import Front
from backend.wsgi import application as handler

application = Front(handler, settings.THREADS)

# The schema is made now, and not while the first client waits.
_ = get_resolver().url_patterns
# All that there is by now stays: the collector need not go through it again and again.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 20)
