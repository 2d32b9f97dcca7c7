"""Makes a host ready to serve, as its engineer would by `manage.py`, in one process: check, migrate, make people."""

import sys

import django

django.setup()
from django.core.management import call_command

call_command("check", fail_level="WARNING")
if sys.argv[1:]:
    call_command("makemigrations", *sys.argv[1:], verbosity=0)
call_command("migrate", verbosity=0)
call_command("makemigrations", "account_recovery", check=True, dry_run=True, verbosity=0)

import fill  # noqa: F401
