"""How passwords are hashed, and how many of them at once."""

from __future__ import annotations

from functools import lru_cache

from django.contrib.auth.hashers import Argon2PasswordHasher

from ..conf import conf
from ..directory import directory
from ..metrics import HASHING
from .slots import Slots

PATIENCE = 2.0
"""Seconds that a reset waits for its turn: two dozen hashes, so a place is missed by an overloaded machine alone."""


class OneLaneArgon2Hasher(Argon2PasswordHasher):
    """argon2id with three passes over 64 MiB in one lane.

    The OWASP Password Storage Cheat Sheet asks for 19 MiB, two passes and one lane at least. Passes and memory are the
    second recommended option of RFC 9106 section 4, and together about as much work as Django's default, 2 passes over
    100 MiB. Its eight lanes would be eight threads for each hash: a few resets at a time would take every core from
    all other requests. With one lane a hash takes one core and 64 MiB, for 0.15 s of a current server's core.
    """

    time_cost = 3
    memory_cost = 64 * 1024
    parallelism = 1


def hash_password(password: str) -> str:
    """The hash to store, made by the directory's `hash` when its turn has come.

    Raises RateLimited if the process is too busy.

    Each hash in the making holds its memory and a core: this process makes HASH_CONCURRENCY of them at once at most.
    """
    with slots(conf.HASH_CONCURRENCY).one(), HASHING.track_inprogress():
        return directory().hash(password)


@lru_cache
def slots(places: int) -> Slots:
    """This process's places for hashing."""
    return Slots(places, PATIENCE)
