"""A project whose API gives out tokens of every kind."""

from common import *

INSTALLED_APPS += [
    "rest_framework",
    "rest_framework.authtoken",
    "rest_framework_simplejwt",
    "rest_framework_simplejwt.token_blacklist",
    "knox",
    "oauth2_provider",
    "allauth",
    "allauth.account",
    "allauth.usersessions",
    *OURS,
]
MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware", "allauth.usersessions.middleware.UserSessionsMiddleware"]
REVOKE_TOKENS = ["simplejwt", "knox", "drf", "oauth_toolkit", "allauth"]
