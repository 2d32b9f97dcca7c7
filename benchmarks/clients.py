"""HTTP clients that cost little, so that the server is what is measured: one thread, and a connection for each."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PATIENCE = 60.0
"""Seconds without any answer after which a run has failed."""


@dataclass
class Served:
    """What came of asking: the milliseconds of each answer, and the seconds that all took together."""

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)

    @property
    def pace(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds


@dataclass
class _Client:
    socket: socket.socket
    begun: float = 0.0
    answer: bytes = b""


def post(path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Forwarded-Proto: https\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask(
    port: int, request: Callable[[int], bytes], expected: bytes, *, clients: int, seconds: float = 0.0, most: int = 0
) -> Served:
    """Have so many clients ask, each as soon as it was answered, for some seconds or so many times in all.

    Raises SystemExit on an answer that does not hold what is expected.
    """
    selector, served, asked = selectors.DefaultSelector(), Served(), 0
    began = time.perf_counter()
    ends = began + seconds if seconds else float("inf")

    def send(client: _Client) -> bool:
        nonlocal asked
        if time.perf_counter() >= ends or (most and asked >= most):
            selector.unregister(client.socket)
            client.socket.close()
            return False
        asked += 1
        client.begun, client.answer = time.perf_counter(), b""
        client.socket.sendall(request(asked))
        return True

    working = 0
    for _ in range(clients):
        client = _Client(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client.socket, selectors.EVENT_READ, client)
        working += send(client)
    while working:
        if not (ready := selector.select(PATIENCE)):
            raise SystemExit("no answer")
        for key, _ in ready:
            client = key.data
            piece = client.socket.recv(65536)
            client.answer += piece
            if not piece:
                raise SystemExit(f"the server has hung up: {client.answer!r}")
            if _is_whole(client.answer):
                if expected not in client.answer:
                    raise SystemExit(f"unexpected: {client.answer!r}")
                served.milliseconds.append((time.perf_counter() - client.begun) * 1000)
                working -= not send(client)
    served.seconds = time.perf_counter() - began
    return served


def _is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    _, told, rest = head.lower().partition(b"\r\ncontent-length:")
    if told:
        return len(body) >= int(rest.partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")
