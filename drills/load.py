"""The load of a drill: people who have forgotten their passwords, with an account or without, asking all at once."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests

from harness.deployment import PROXIED, REQUEST, wait_until

ANSWER_SECONDS = 10.0
"""How long a client waits for an answer."""
RETRY_SECONDS = 0.2
"""How long a client that has a key waits before it asks again."""
GIVE_UP_SECONDS = 60.0


def known(number: int) -> str:
    """The address of an account."""
    return f"user{number}@example.com"


def unknown(number: int) -> str:
    """An address that no account has."""
    return f"nobody{number}@example.com"


@dataclass
class Asked:
    """One person's wish for a reset, each for an address of its own, and what came of asking.

    With an idempotency key the client asks until it is answered. Without one it asks once: what it was not answered
    may have been accepted or not.
    """

    email: str
    key: str | None
    tries: int = 0
    handle: str = ""
    phrase: str = ""
    refused: str = ""

    @property
    def is_known(self) -> bool:
        return self.email.startswith("user")

    @property
    def accepted(self) -> bool:
        """Whether it was answered that the reset has begun."""
        return bool(self.handle)


def crowd(size: int) -> list[Asked]:
    """Two of three have an account, and every second one has a client that asks again."""
    emails = [unknown(number) if number % 3 == 2 else known(number - number // 3) for number in range(size)]
    return [Asked(email, secrets.token_urlsafe(24) if number % 2 else None) for number, email in enumerate(emails)]


class Load:
    """Several clients that work off a crowd at a given pace, for as long as the context lasts."""

    def __init__(self, url: str, crowd: Sequence[Asked], *, clients: int, per_second: float) -> None:
        self.crowd = crowd
        self._url = f"{url}/graphql/"
        self._per_second = per_second
        self._next = 0
        self._bidden = 0.0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._be_a_client, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Wait until everybody has asked."""
        self.bid(1.0)
        for thread in self._threads:
            thread.join()

    def bid(self, share: float) -> None:
        """Let the crowd up to this share ask; the others wait, so that a slow machine has not run out of them."""
        self._bidden = share

    def reach(self, share: float) -> None:
        """Wait until this share of the crowd has asked, or begun to."""
        wait_until(lambda: self._next >= share * len(self.crowd))

    def _be_a_client(self) -> None:
        session = requests.Session()
        while asked := self._take():
            deadline = time.monotonic() + GIVE_UP_SECONDS
            while not self._answered(session, asked) and asked.key and time.monotonic() < deadline:
                session.close()
                time.sleep(RETRY_SECONDS)
        session.close()

    def _take(self) -> Asked | None:
        with self._lock:
            if self._next == len(self.crowd):
                return None
            asked = self.crowd[self._next]
            wait_until(lambda: self._next < self._bidden * len(self.crowd), patience=float("inf"))
            time.sleep(1 / self._per_second)
            self._next += 1
        return asked

    def _answered(self, session: requests.Session, asked: Asked) -> bool:
        asked.tries += 1
        body = {"query": REQUEST, "variables": {"input": {"email": asked.email, "idempotencyKey": asked.key}}}
        try:
            answer: Any = session.post(self._url, json=body, headers=PROXIED, timeout=ANSWER_SECONDS).json()
        except requests.RequestException:
            return False
        payload = (answer.get("data") or {}).get("requestPasswordReset")
        if payload is None:
            return False
        if "reset" in payload:
            asked.handle, asked.phrase = payload["reset"]["requestId"], payload["reset"]["matchPhrase"]
        else:
            asked.refused = payload["message"]
        return True
