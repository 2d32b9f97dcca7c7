"""Settings, all read from the environment; the README's table explains each variable."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
from corsheaders.defaults import default_headers
from django.conf import global_settings
from django.core.management.utils import get_random_secret_key

from accounts.conf import MAX_BODY
from backend import logs, tracing
from backend.environment import Environment, mail_domain

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"

env = Environment()

# --- Who and where ---------------------------------------------------------------------------------------------------

DEBUG = env.flag("DEBUG", default=False)

SECRET_KEY = env.str("SECRET_KEY", "") or ""
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")
DIGEST_KEY = env.str("DIGEST_KEY", "") or ""
if not SECRET_KEY and DEBUG:
    # Kept between restarts, so that a developer's session and the links already mailed survive a reload.
    VAR_DIR.mkdir(exist_ok=True)
    key_file = VAR_DIR / "development-secret-key"
    if not key_file.exists():
        key_file.write_text(get_random_secret_key())
        key_file.chmod(0o600)
    SECRET_KEY = key_file.read_text()
elif not SECRET_KEY:
    env.problem("SECRET_KEY", "Required unless DEBUG is on: every handle, code and link is derived from it.")
elif not DEBUG:
    env.check_keys("SECRET_KEY", [SECRET_KEY])
    env.check_keys("SECRET_KEY_FALLBACKS", SECRET_KEY_FALLBACKS)
    env.check_keys("DIGEST_KEY", [DIGEST_KEY] if DIGEST_KEY else [])

PORT = env.number("PORT", 8000, least=1, most=65535)
WORKERS = env.number("WORKERS", 2, least=1, most=256)
THREADS = env.number("THREADS", 8, least=1, most=256)
PUBLIC_URL = env.origin("PUBLIC_URL")
if not PUBLIC_URL:
    PUBLIC_URL = f"http://127.0.0.1:{PORT}"
    if not DEBUG:
        env.problem(
            "PUBLIC_URL", "Required unless DEBUG is on: mailed links are built from it, never from a Host header."
        )
FRONTEND_RESET_URL = env.page("FRONTEND_RESET_URL")
BRAND_NAME = env.name("BRAND_NAME")
BRAND_LOGO = env.web_url("BRAND_LOGO")
BRAND_COLOR = env.color("BRAND_COLOR")
SIGN_IN_URL = env.page("SIGN_IN_URL")
SUPPORT_EMAIL = env.address("SUPPORT_EMAIL")
BRANDS = env.brands("BRANDS")

ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", [urlsplit(PUBLIC_URL).hostname or ""])
if DEBUG:
    ALLOWED_HOSTS += ["127.0.0.1", "localhost", "[::1]"]
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS")
CORS_EXPOSE_HEADERS = ["X-Request-ID", "Retry-After"]
CORS_ALLOW_HEADERS = [
    *default_headers,
    # What Apollo's clients call themselves, and how they get past its own CSRF check.
    "apollographql-client-name",
    "apollographql-client-version",
    "apollo-require-preflight",
    # W3C Trace Context and Baggage, and Sentry's own.
    "traceparent",
    "tracestate",
    "baggage",
    "sentry-trace",
]
TRUSTED_PROXIES = env.number("TRUSTED_PROXIES", 0, least=0, most=10)

# --- Application -----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "backend.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "strawberry_django",
    "accounts",
]
if DEBUG:
    INSTALLED_APPS.append("django_mail_preview")

ADMIN_ENABLED = env.flag("ADMIN_ENABLED", default=True)

MIDDLEWARE = [
    "backend.middleware.RequestId",
    "backend.middleware.SecurityHeaders",
    "backend.middleware.Refusals",
    "backend.middleware.Probes",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "backend.middleware.Sessions",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "backend.middleware.Users",
    "backend.middleware.Messages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "backend.urls"
WSGI_APPLICATION = "backend.wsgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "backend" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Nothing is uploaded here, but Django's check of forms reads a stranger's multipart body before it refuses it. Without
# a handler no file of it is kept, in memory or on disk.
FILE_UPLOAD_HANDLERS: list[str] = []
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY

GRAPHIQL = env.flag("GRAPHIQL", default=DEBUG)
TRUSTED_DOCUMENTS = env.documents("TRUSTED_DOCUMENTS")
GRAPHQL_INTROSPECTION = env.flag("GRAPHQL_INTROSPECTION", default=DEBUG)
STRAWBERRY_DJANGO = {"FIELD_DESCRIPTION_FROM_HELP_TEXT": True}

# --- Data ------------------------------------------------------------------------------------------------------------

DATABASES = {"default": env.database("DATABASE_URL", f"sqlite:///{VAR_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    VAR_DIR.mkdir(exist_ok=True)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = False
    # Threads share the file: WAL lets readers pass the writer, IMMEDIATE takes the write lock up front instead of
    # failing half way through a transaction, and the timeout lets a second writer wait its turn.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;",
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"]["ENGINE"] = "backend.postgresql"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.redis("REDIS_URL")

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [("graphiql", BASE_DIR / "web" / "dist")] if (BASE_DIR / "web" / "dist").is_dir() else []
if not DEBUG:
    STORAGES = {**global_settings.STORAGES, "staticfiles": {"BACKEND": "backend.static.StaticFiles"}}
# Files whose names hold the hash of their content.
WHITENOISE_IMMUTABLE_FILE_TEST = r"^/static/(graphiql/assets/.+|.+\.[0-9a-f]{12}\.\w+)$"
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_ALLOW_ALL_ORIGINS = False

# --- Passwords -------------------------------------------------------------------------------------------------------

PASSWORD_HASHERS = [
    "accounts.passwords.hashing.OneLaneArgon2Hasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
HASH_CONCURRENCY = env.number("HASH_CONCURRENCY", 2, least=1, most=64)
PASSWORD_MIN_LENGTH = env.number("PASSWORD_MIN_LENGTH", 15, least=8, most=64)
PASSWORD_CONTEXT_WORDS = env.words("PASSWORD_CONTEXT_WORDS")
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {
        "NAME": "accounts.passwords.policy.MinimumLengthValidator",
        "OPTIONS": {"min_length": PASSWORD_MIN_LENGTH},
    },
    {"NAME": "accounts.passwords.policy.MaximumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "accounts.passwords.policy.CommonPasswordValidator"},
    {"NAME": "accounts.passwords.policy.ContextValidator"},
    {"NAME": "accounts.passwords.policy.StrengthValidator"},
]
PWNED_PASSWORDS_URL = env.web_url("PWNED_PASSWORDS_URL", "https://api.pwnedpasswords.com/range/")
if env.flag("PASSWORD_CHECK_PWNED", default=False):
    AUTH_PASSWORD_VALIDATORS.append({"NAME": "accounts.passwords.pwned.PwnedPasswordValidator"})

PASSWORD_RESET_COOLDOWN = env.number("PASSWORD_RESET_COOLDOWN", 60, least=0, most=3600)
PASSWORD_RESET_CODE_LENGTH = env.number("PASSWORD_RESET_CODE_LENGTH", 6, least=6, most=8)
TEST_CODES = env.codes("TEST_CODES", PASSWORD_RESET_CODE_LENGTH)
PASSWORD_RESET_CODE_LIFETIME = env.number("PASSWORD_RESET_CODE_LIFETIME", 600, least=60, most=86_400)
PASSWORD_RESET_LINK_LIFETIME = env.number("PASSWORD_RESET_LINK_LIFETIME", 3600, least=60, most=86_400)

# --- Limits ----------------------------------------------------------------------------------------------------------

THROTTLE_REQUEST_PER_IP = env.rate("THROTTLE_REQUEST_PER_IP", "20/hour")
THROTTLE_REQUEST_PER_EMAIL = env.rate("THROTTLE_REQUEST_PER_EMAIL", "5/hour")
THROTTLE_VERIFY_PER_IP = env.rate("THROTTLE_VERIFY_PER_IP", "60/hour")
THROTTLE_MAIL_UNKNOWN = env.rate("THROTTLE_MAIL_UNKNOWN", "100/hour")
THROTTLE_WRONG_CODES = env.rate("THROTTLE_WRONG_CODES", "500/hour")
THROTTLE_STATUS_PER_HANDLE = env.rate("THROTTLE_STATUS_PER_HANDLE", "60/minute")
THROTTLE_STATUS_PER_IP = env.rate("THROTTLE_STATUS_PER_IP", "300/minute")

# --- Mail ------------------------------------------------------------------------------------------------------------

NO_REPLY = f"no-reply@{mail_domain(urlsplit(PUBLIC_URL).hostname or '')}"
DEFAULT_FROM_EMAIL = env.sender("DEFAULT_FROM_EMAIL", f'"{BRAND_NAME}" <{NO_REPLY}>' if BRAND_NAME else NO_REPLY)
EMAIL_HOST_GIVEN = env.str("EMAIL_HOST", "") or ""
SMTP: dict[str, Any] = {
    "host": EMAIL_HOST_GIVEN or "localhost",
    "port": env.number("EMAIL_PORT", 25, least=1, most=65535),
    "username": env.str("EMAIL_HOST_USER", ""),
    "password": env.str("EMAIL_HOST_PASSWORD", ""),
    "use_tls": env.flag("EMAIL_USE_TLS", default=False),
    "use_ssl": env.flag("EMAIL_USE_SSL", default=False),
    "timeout": env.number("EMAIL_TIMEOUT", 10, least=1, most=100),
}
if SMTP["use_tls"] and SMTP["use_ssl"]:
    env.problem("EMAIL_USE_SSL", "EMAIL_USE_TLS and EMAIL_USE_SSL exclude each other: switch one off.")
MAIL_HELO = env.host("MAIL_HELO")
MAIL_BACKEND = env.importable("MAIL_BACKEND")
ANYMAIL = env.json_of("ANYMAIL", dict)
if MAIL_BACKEND:
    SMTP = {}  # a provider's API
elif DEBUG and not EMAIL_HOST_GIVEN:
    MAIL_BACKEND, SMTP = "django_mail_preview.backends.EmailBackend", {}
    MAIL_PREVIEW_ROOT = VAR_DIR / "inbox"
else:
    MAIL_BACKEND = "accounts.mailing.smtp_backend.EmailBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": MAIL_BACKEND, "OPTIONS": SMTP}}
else:
    EMAIL_BACKEND = MAIL_BACKEND
    EMAIL_HOST, EMAIL_PORT = SMTP.get("host"), SMTP.get("port")
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = SMTP.get("username"), SMTP.get("password")
    EMAIL_USE_TLS, EMAIL_USE_SSL = SMTP.get("use_tls"), SMTP.get("use_ssl")
    EMAIL_TIMEOUT = SMTP.get("timeout")

MAIL_DISPATCH = env.choice("MAIL_DISPATCH", "thread", ("thread", "celery", "inline", "none"))
# MAIL_THREADS is its former name.
MAIL_SENDERS = env.number("MAIL_SENDERS", env.number("MAIL_THREADS", 32, least=1, most=256), least=1, most=256)
MAIL_SWEEP_SECONDS = env.number("MAIL_SWEEP_SECONDS", 10, least=1, most=3600)
MAIL_LEASE_SECONDS = env.number("MAIL_LEASE_SECONDS", 120, least=1, most=3600)
MAIL_RETRY_SECONDS = env.number("MAIL_RETRY_SECONDS", 10, least=1, most=3600)
MAIL_OVERDUE_SECONDS = env.number("MAIL_OVERDUE_SECONDS", 30, least=1, most=3600)
MAIL_MAX_ATTEMPTS = env.number("MAIL_MAX_ATTEMPTS", 10, least=1, most=100)
MAIL_MAX_AGE = env.number("MAIL_MAX_AGE", 86_400, least=600, most=604_800)
MAIL_WITHOUT_PASSWORD = env.choice("MAIL_WITHOUT_PASSWORD", "silent", ("silent", "explain"))
MAIL_UNKNOWN = env.choice("MAIL_UNKNOWN", "off", ("off", "on"))
MAIL_PER_MINUTE = env.number("MAIL_PER_MINUTE", 0, least=0, most=100_000)

METRICS_TOKEN = env.str("METRICS_TOKEN", "") or ""
if METRICS_TOKEN:
    env.check_token("METRICS_TOKEN", METRICS_TOKEN)
    # Read when the library is loaded: where the processes of this machine count.
    counts = Path(os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(VAR_DIR / "metrics")))
    counts.mkdir(parents=True, exist_ok=True)

if (variable := tracing.endpoint()) and not tracing.is_installed():
    env.problem(variable, f"Tracing needs packages that are not installed: {tracing.PACKAGES}.")

RETENTION_DAYS = env.number("RETENTION_DAYS", 90, least=0, most=36_500)
RETENTION_PERSONAL_DAYS = env.number("RETENTION_PERSONAL_DAYS", 30, least=8, most=36_500)

RECOVERY_DIRECTORY = env.importable("RECOVERY_DIRECTORY")
REVOKE_TOKENS = env.words("REVOKE_TOKENS")
WEBHOOKS = env.webhooks("WEBHOOKS")

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "") or ""
if MAIL_DISPATCH == "celery" and not CELERY_BROKER_URL:
    env.problem("CELERY_BROKER_URL", "Required with MAIL_DISPATCH=celery, such as amqp://user:password@host:5672//.")
CELERY_TASK_DEFAULT_QUEUE = env.str("CELERY_QUEUE", "account-recovery")
CELERY_TASK_IGNORE_RESULT = True
CELERY_ACCEPT_CONTENT = ["json"]
# Whoever can write to the broker could ask a worker for all of these settings, and shut it down.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A publisher gives a broker that is down or silent two seconds and no second try: the sweep is the second try.
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}
if CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS |= {
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
        # A killed worker's message comes back after this long; the sweep is sooner.
        "visibility_timeout": 300,
    }
else:
    CELERY_BROKER_TRANSPORT_OPTIONS |= {"confirm_publish": True, "read_timeout": 2, "write_timeout": 2}

# --- Language and time -----------------------------------------------------------------------------------------------

SPOKEN = (
    *("en", "de", "fr", "es", "pt", "pt-br", "it", "nl", "pl", "cs", "sv", "da", "fi", "nb", "tr", "ro", "hu"),
    *("uk", "el", "ar", "he", "hi", "id", "vi", "ja", "ko", "zh-hans", "zh-hant"),
)
"""The languages that there are translations for: those of accounts/locale, and the texts' own."""

spoken = env.some_of("LANGUAGES", SPOKEN)
LANGUAGE_CODE = env.choice("LANGUAGE_CODE", "en" if "en" in spoken else spoken[0], spoken)
LANGUAGES = [(code, name) for code, name in global_settings.LANGUAGES if code in spoken]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- HTTP security ---------------------------------------------------------------------------------------------------

SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", default=not DEBUG)
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
CSRF_COOKIE_HTTPONLY = True
SESSION_ENGINE = "backend.sessions"
# The other place for messages is a cookie of their own.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
if not DEBUG:
    # A browser takes a __Host- cookie from this host alone, over HTTPS: OWASP ASVS 5.0 section 3.3.1.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    # A year, as OWASP ASVS 5.0 section 3.4.1 asks.
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
SECURE_REFERRER_POLICY = "no-referrer"
X_FRAME_OPTIONS = "DENY"

# --- Logging ---------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", logs.LEVELS)
LOG_FORMAT = env.choice("LOG_FORMAT", "console" if DEBUG else "json", logs.FORMATS)
LOGGING = logs.logging_settings(LOG_LEVEL, LOG_FORMAT)

env.seal()
