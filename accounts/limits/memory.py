"""Counting in the memory of this process."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence

from .window import Taken, Window


class Memory:
    """Counts in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: OrderedDict[str, tuple[int, deque[float]]] = OrderedDict()

    def take(self, windows: Sequence[Window], wanted: int, now: float, then: Sequence[Window] = ()) -> list[Taken]:
        """Count in `windows`, and in `then` if they had room; returns what came of each."""
        with self._lock:
            self._sweep(now, 2 * (len(windows) + len(then)))
            found = [self._take(windows, wanted, now)]
            return [*found, self._take(then, found[0].count, now)] if then else found

    def _take(self, windows: Sequence[Window], wanted: int, now: float) -> Taken:
        waits, lengths, room = [], [], wanted
        for window in windows:
            times = self._current(window, now)
            lengths.append(len(times))
            room = min(room, max(0, window.most - len(times)))
            full = len(times) >= window.most
            leaves = times[-window.most] if window.most and full else now
            waits.append(max(0.0, leaves + window.seconds - now) if full else 0.0)
        for window in windows if room else ():
            self._times.setdefault(window.key, (window.seconds, deque()))[1].extend([now] * room)
        return Taken(room, tuple(waits), now, tuple(length + room for length in lengths))

    def give_back(self, windows: Sequence[Window], stamp: float, count: int) -> None:
        with self._lock:
            for window in windows:
                _, times = self._times.get(window.key, (0, deque()))
                for _ in range(min(count, times.count(stamp))):
                    times.remove(stamp)

    def __len__(self) -> int:
        return len(self._times)

    def _current(self, window: Window, now: float) -> deque[float]:
        _, times = self._times.get(window.key, (0, deque[float]()))
        while times and times[0] + window.seconds <= now:
            times.popleft()
        return times

    def _sweep(self, now: float, keys: int) -> None:
        """Forget what is over, so many keys at a time and in turn: twice as many as may be added, so they get fewer."""
        for _ in range(min(keys, len(self._times))):
            key, (seconds, times) = self._times.popitem(last=False)
            if times and times[-1] + seconds > now:
                self._times[key] = seconds, times
