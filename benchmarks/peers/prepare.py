"""Make a peer's tables, and an account for each address on the standard input."""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.peers.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402 (needs the apps to be ready)
from django.core.management import call_command  # noqa: E402

from .models import Bare  # noqa: E402

call_command("migrate", verbosity=0, run_syncdb=True)
password = User(username="any")
password.set_password("umbrella-cactus-violin-91")
User.objects.bulk_create(
    User(username=email, email=email, password=password.password) for email in sys.stdin.read().split()
)
Bare.objects.bulk_create(Bare(email=f"person{number}@example.com") for number in range(1000))
