"""Kept connections: whether one that has been asked nothing has anything to say."""

from __future__ import annotations

import select


def has_something_to_read(descriptor: int) -> bool:
    """Whether there is more than silence on a connection that has been asked nothing: its end, or an old answer.

    It asks the operating system alone, so it costs neither a question to the server nor a try to read.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLERR | select.POLLHUP)
    return bool(poll.poll(0))
