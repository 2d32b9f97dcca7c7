"""The production settings, with what a test run needs instead of an operator."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("SECRET_KEY", "for-tests-only-" + "0123456789abcdefghijklmnopqrstuvwxyz" * 2)
os.environ.setdefault("PUBLIC_URL", "https://accounts.example.com")
os.environ.setdefault("GRAPHQL_INTROSPECTION", "1")
os.environ.setdefault("GRAPHIQL", "1")
os.environ.setdefault("SECURE_SSL_REDIRECT", "0")
os.environ.setdefault("CORS_ALLOWED_ORIGINS", "https://app.example.com")
# Tests mail by hand, step by step; those of the threads start them.
os.environ.setdefault("MAIL_DISPATCH", "none")

from django.conf import global_settings

from backend.settings import *  # noqa: F403
from backend.settings import ALLOWED_HOSTS, DATABASES, PASSWORD_HASHERS

ALLOWED_HOSTS += ["testserver", "localhost", "127.0.0.1"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False

# A password is hashed in most tests and is the subject of few.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *PASSWORD_HASHERS]

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, for threads that share a database in memory share its one connection, too.
    DATABASES["default"]["TEST"] = {"NAME": str(Path(tempfile.mkdtemp(prefix="recovery-tests-")) / "test.sqlite3")}

# Static files straight from their sources: nothing is collected for a test.
STORAGES = global_settings.STORAGES
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
