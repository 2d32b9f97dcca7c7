"""A user model of the project's own, with no name of a field as Django's has it."""

from common import *

INSTALLED_APPS = [name for name in INSTALLED_APPS if name != "django.contrib.admin"] + ["people", *OURS]
AUTH_USER_MODEL = "people.Person"
RECOVERY_DIRECTORY = "people.directory.People"
