"""A project with an app called `accounts` of its own, the default user, and a transaction around each request."""

from common import *

INSTALLED_APPS += ["accounts", *OURS]
DATABASES["default"]["ATOMIC_REQUESTS"] = True
