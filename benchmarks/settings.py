"""The production settings, with an operator's answers for a benchmark."""

import os

os.environ.setdefault("SECRET_KEY", "for-benchmarks-only-" + "0123456789abcdefghijklmnopqrstuvwxyz" * 2)
os.environ.setdefault("PUBLIC_URL", "https://accounts.example.com")

from backend.settings import *  # noqa: F403
