"""How much of the slow work a process does at once: whoever finds no place in time is asked to come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from django.utils.translation import gettext_lazy as _

from ..exceptions import RateLimited

RETRY_AFTER = 2
"""Seconds; the same for everybody, for it says how busy the process is and nothing about who asked."""


class Slots:
    """Places for slow work; `patience` is how many seconds the next in line waits for one."""

    def __init__(self, places: int, patience: float) -> None:
        self.patience = patience
        self._free = BoundedSemaphore(places)

    @contextmanager
    def one(self, patience: float | None = None) -> Iterator[None]:
        """Hold a place for as long as the block runs. Raises RateLimited if none gets free in time.

        `patience` is in seconds, where it is another than that of the places.
        """
        if not self._free.acquire(timeout=self.patience if patience is None else patience):
            raise RateLimited(
                RETRY_AFTER, _("There is a lot to do just now. Please try again in a moment."), limit="busy"
            )
        try:
            yield
        finally:
            self._free.release()
