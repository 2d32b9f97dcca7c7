"""Django's own defaults, with what each peer's documentation asks for."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

PEER = os.environ["PEER"]
DEBUG = False
SECRET_KEY = "for-benchmarks-only-" + "0123456789abcdefghijklmnopqrstuvwxyz" * 2  # nosec B105
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "benchmarks.peers.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
BARE = PEER in {"floor", "read"}

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    *(["rest_framework", "djoser"] if PEER == "djoser" else []),
    *(["allauth", "allauth.account", "allauth.headless"] if PEER == "allauth" else []),
    "benchmarks.peers",
]
MIDDLEWARE = (
    []
    if BARE
    else [
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        *(["allauth.account.middleware.AccountMiddleware"] if PEER == "allauth" else []),
    ]
)
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

_url = urlsplit(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path.lstrip("/"),
        "USER": _url.username or "",
        "PASSWORD": _url.password or "",
        "HOST": _url.hostname or parse_qs(_url.query).get("host", [""])[0],
        "PORT": _url.port or "",
        "CONN_MAX_AGE": 60,
    }
}

EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ.get("EMAIL_PORT", "25"))
EMAIL_USE_TLS = os.environ.get("EMAIL_USE_TLS") == "1"
DEFAULT_FROM_EMAIL = "no-reply@example.com"

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    *(["allauth.account.auth_backends.AuthenticationBackend"] if PEER == "allauth" else []),
]
DJOSER = {"PASSWORD_RESET_CONFIRM_URL": "reset/{uid}/{token}"}  # nosec B105
REST_FRAMEWORK = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}
HEADLESS_ONLY = True
HEADLESS_CLIENTS = ("app",)
HEADLESS_FRONTEND_URLS = {"account_reset_password_from_key": "https://example.com/reset/{key}"}  # nosec B105
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_RATE_LIMITS = False
