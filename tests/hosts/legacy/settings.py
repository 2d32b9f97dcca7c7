"""Accounts in a table that another system owns; Django's own users are staff alone."""

from common import *

INSTALLED_APPS += ["people", *OURS]
RECOVERY_USER_MODEL = "people.Person"
RECOVERY_DIRECTORY = "people.directory.People"
