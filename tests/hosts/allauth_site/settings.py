"""django-allauth: people have several addresses, and some of them have proven to be theirs."""

from common import *

INSTALLED_APPS += [
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.dummy",
    *OURS,
]
MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware"]
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
MAIL_WITHOUT_PASSWORD = "explain"
RECOVERY_DIRECTORY = "account_recovery.allauth.AllauthDirectory"
