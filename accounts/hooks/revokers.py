"""Ends the tokens that other packages have given out for an account, when its password changes.

Django's sessions hold a hash of the password and end by themselves; tokens do not. REVOKE_TOKENS names the packages
whose tokens are ended, in the transaction that sets the password: both happen, or neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps

from ..conf import conf


def revoke_all(account: Any) -> None:
    """End what the packages of REVOKE_TOKENS have given out. Whatever one of them raises undoes the reset."""
    for name in conf.REVOKE_TOKENS:
        REVOKERS[name].revoke(account)


def _simplejwt(account: Any) -> None:
    """Puts the refresh tokens on the blacklist. Access tokens are looked up nowhere: they live for their minutes."""
    from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

    live = OutstandingToken._default_manager.filter(user=account, blacklistedtoken=None)
    BlacklistedToken._default_manager.bulk_create(
        [BlacklistedToken(token=token) for token in live], ignore_conflicts=True
    )


def _knox(account: Any) -> None:
    from knox.models import get_token_model

    get_token_model().objects.filter(user=account).delete()


def _drf(account: Any) -> None:
    from rest_framework.authtoken.models import Token

    Token.objects.filter(user=account).delete()


def _oauth_toolkit(account: Any) -> None:
    """Grants that have not been redeemed, access, ID and refresh tokens; applications keep their own credentials."""
    from oauth2_provider import models

    models.get_grant_model().objects.filter(user=account).delete()
    # Refresh tokens first: revoked ones are kept, as the package does, so that their reuse is seen.
    for token in models.get_refresh_token_model().objects.filter(user=account, revoked=None):
        token.revoke()
    models.get_access_token_model().objects.filter(user=account).delete()
    models.get_id_token_model().objects.filter(user=account).delete()


def _allauth(account: Any) -> None:
    """Ends the sessions that allauth's usersessions lists, those of other devices and of apps included."""
    from allauth.usersessions.models import UserSession

    for session in UserSession.objects.filter(user=account):
        session.end()


class Revoker:
    """How the tokens of one package are ended, and the app that must be installed for it."""

    def __init__(self, app: str, revoke: Callable[[Any], None]) -> None:
        self.app = app
        self.revoke = revoke

    @property
    def is_installed(self) -> bool:
        return apps.is_installed(self.app)


REVOKERS = {
    "simplejwt": Revoker("rest_framework_simplejwt.token_blacklist", _simplejwt),
    "knox": Revoker("knox", _knox),
    "drf": Revoker("rest_framework.authtoken", _drf),
    "oauth_toolkit": Revoker("oauth2_provider", _oauth_toolkit),
    "allauth": Revoker("allauth.usersessions", _allauth),
}
"""What REVOKE_TOKENS may name."""
