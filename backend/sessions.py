"""Sessions in the database, which keeps only a hash of their keys: whoever has stolen it cannot sign in with one."""

from __future__ import annotations

import hashlib
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.utils import timezone


def at_rest(key: str) -> str:
    """What is stored of a key: SHA-256, cut to the 160 bits that the column holds as text.

    Neither salted nor slow: a key has 165 random bits, so nobody can try them, and no two are alike.
    """
    return hashlib.sha256(key.encode()).hexdigest()[:40]


class SessionStore(db.SessionStore):
    """Django's, but for what is a key's name in the table. Sessions of another store have simply ended."""

    def _get_session_from_db(self) -> AbstractBaseSession | None:
        stored = self.model.objects.filter(session_key=at_rest(str(self.session_key)), expire_date__gt=timezone.now())
        if (session := stored.first()) is None:
            self._session_key = None
        return session

    def exists(self, session_key: str) -> bool:
        return self.model.objects.filter(session_key=at_rest(session_key)).exists()

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        session = super().create_model_instance(data)
        session.session_key = at_rest(session.session_key)
        return session

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            self.model.objects.filter(session_key=at_rest(key)).delete()

    async def _aget_session_from_db(self) -> AbstractBaseSession | None:
        return await sync_to_async(self._get_session_from_db)()

    async def aexists(self, session_key: str) -> bool:
        return await sync_to_async(self.exists)(session_key)

    async def acreate_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return await sync_to_async(self.create_model_instance)(data)

    async def adelete(self, session_key: str | None = None) -> None:
        await sync_to_async(self.delete)(session_key)
