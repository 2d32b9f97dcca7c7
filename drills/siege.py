"""A siege of connections: what a stranger can open, and leave open, with a few bytes each. Others must be answered.

Each siege stands while honest clients ask; what the server ends is opened again at once.
"""

from __future__ import annotations

import selectors
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from backend.front import raise_descriptor_limit
from drills.verdict import markdown
from harness.deployment import HOST, PROXIED, REQUEST, STATUS, Running, site_in

ANSWER_SECONDS = 10.0
"""How long an honest client waits for an answer."""
CLIENTS = 2
"""Honest clients; each keeps its connection while the server does."""
SILENT = 1200
HALF_SENT = 400
BOMBERS = 32
FLOODERS = 8
JSON_POST = b"Content-Type: application/json"


def head(method: bytes, target: bytes, *lines: bytes, host: bool = True) -> bytes:
    """The beginning of a request that a proxy which speaks TLS would pass on, without the blank line."""
    proxied = [f"{name}: {value}".encode() for name, value in PROXIED.items() if host or name != "Host"]
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *proxied, *lines, b""])


def post(*lines: bytes) -> bytes:
    """The head of a request to the API."""
    return head(b"POST", b"/graphql/", JSON_POST, *lines) + b"\r\n"


def half_sent() -> bytes:
    return post(b"Content-Length: 200") + b'{"query": "'


def half_sent_chunks() -> bytes:
    return post(b"Transfer-Encoding: chunked") + b'400\r\n{"query": "'


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2: RFC 9113 section 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header of HTTP/2 that is in no table: RFC 7541 section 6.2.2."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


STREAM_HEAD = b"".join(
    literal(name, value)
    for name, value in (
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/graphql/"), (b":authority", HOST.encode())),
        *((b"content-type", b"application/json"), (b"x-forwarded-proto", b"https")),
    )
)
HALF_STREAMS = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(4, 0, 0, b"")
    + b"".join(frame(1, 4, 1 + 2 * number, STREAM_HEAD) for number in range(12))
)
"""A connection of cleartext HTTP/2 with a dozen requests whose bodies never come."""


def cookie_bomb(length: int = 60_000) -> bytes:
    """Cookies that older Pythons read in quadratic time."""
    line = b'Cookie: a="' + b"\\1" * (length // 2) + b'"'
    return head(b"GET", b"/admin/login/", line, b"Connection: close") + b"\r\n"


def content_type_bomb(length: int = 60_000) -> bytes:
    """A type that Django reads in quadratic time."""
    line = b'Content-Type: x/y; a="' + b";" * length + b'"'
    return head(b"GET", b"/admin/login/", line, b"Connection: close") + b"\r\n"


def form_with_a_file(path: bytes = b"/health/", length: int = 3_000_000) -> bytes:
    """A form that Django reads before it refuses it, to find the token that goes with the cookie."""
    lines = [
        f"Cookie: __Host-csrftoken={'a' * 32}; csrftoken={'a' * 32}".encode(),
        b"Content-Type: multipart/form-data; boundary=b",
        b"Content-Length: %d" % length,
    ]
    part = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    return head(b"POST", path, *lines) + b"\r\n" + part + b"x" * (length - len(part))


class Connection:
    """One connection, and what comes back on it; `room` bounds the bytes that it lets come unread."""

    def __init__(self, port: int, sent: bytes = b"", room: int = 0) -> None:
        self.socket = socket.socket()
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", port))
        self._came = b""
        # Who is refused early may be cut off while sending.
        with suppress(ConnectionError):
            self.socket.sendall(sent)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *raised: object) -> None:
        self.socket.close()

    def status(self) -> int:
        """The status of the answer, once it begins; 0 where the connection ends without one."""
        while b"\r\n" not in self._came and self._receive():
            pass
        return int(self._came.split(b" ", 2)[1]) if self._came else 0

    def interim(self) -> int:
        """The status of an answer that is not the last one, which is forgotten."""
        status = self.status()
        while b"\r\n\r\n" not in self._came and self._receive():
            pass
        self._came = self._came.partition(b"\r\n\r\n")[2]
        return status

    def ended(self) -> bool:
        """Wait until the server has ended the connection."""
        while self._receive():
            pass
        return True

    def answer(self) -> str:
        """All that comes until the server ends the connection."""
        self.ended()
        return self._came.decode("latin-1")

    def _receive(self) -> bool:
        try:
            came = self.socket.recv(65536)
        except ConnectionError:
            came = b""
        self._came += came
        return bool(came)


@contextmanager
def standing(port: int, sent: bytes, count: int) -> Iterator[None]:
    """Keep so many connections open, each with these bytes sent, and open anew what the server ends."""
    with selectors.DefaultSelector() as selector:

        def begin() -> None:
            connection = Connection(port, sent)
            selector.register(connection.socket, selectors.EVENT_READ, connection)

        def renew() -> None:
            while not over.is_set():
                for key, _ in selector.select(0.1):
                    if not key.data._receive():
                        selector.unregister(key.fileobj)
                        key.data.socket.close()
                        begin()

        over, thread = threading.Event(), threading.Thread(target=renew)
        for _ in range(count):
            begin()
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            for key in list(selector.get_map().values()):
                key.data.socket.close()


@contextmanager
def flood(port: int, sent: bytes, clients: int) -> Iterator[set[int]]:
    """Send this again and again, by so many clients; the set fills with the statuses that come back."""
    over, statuses = threading.Event(), set()

    def send() -> None:
        while not over.is_set():
            with Connection(port, sent) as connection:
                statuses.add(connection.status())

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


Besiege = Callable[[int], AbstractContextManager[Any]]

SIEGES: dict[str, Besiege] = {
    "none": lambda port: nullcontext(),  # noqa: ARG005 (nobody besieges it)
    "HTTP/2, half-sent streams": lambda port: standing(port, HALF_STREAMS, 8),
    "silent connections": lambda port: standing(port, b"", SILENT),
    "half-sent heads": lambda port: standing(port, b"GET / HTTP/1.1\r\nHost: ", HALF_SENT),
    "half-sent bodies": lambda port: standing(port, half_sent(), HALF_SENT),
    "half-sent chunks": lambda port: standing(port, half_sent_chunks(), HALF_SENT),
    "Cookie bombs": lambda port: flood(port, cookie_bomb(), BOMBERS),
    "Content-Type bombs": lambda port: flood(port, content_type_bomb(), BOMBERS),
    "Cookie bombs, 8 kB": lambda port: flood(port, cookie_bomb(8000), BOMBERS),
    "Content-Type bombs, 8 kB": lambda port: flood(port, content_type_bomb(8000), BOMBERS),
    "forms with files": lambda port: flood(port, form_with_a_file(), FLOODERS),
}


@dataclass
class Stand:
    """How honest clients fared while a siege stood."""

    name: str
    asked: int = 0
    seconds: list[float] = field(default_factory=list)
    """What each answered request took."""

    @property
    def unanswered(self) -> int:
        return self.asked - len(self.seconds)

    def percentile(self, percent: int) -> str:
        if len(self.seconds) < 2:
            return "-"
        return f"{statistics.quantiles(self.seconds, n=100, method='inclusive')[percent - 1] * 1000:.1f} ms"


class HonestClient:
    """Asks for a page, for a reset, and where that stands, in turn."""

    def __init__(self, server: Running, name: str) -> None:
        self._url, self._name = server.url, name
        self._session = requests.Session()
        self._handle = ""

    def ask(self, number: int) -> bool:
        """Whether the answer came, and was one."""
        try:
            return (self._asks_for_health, self._asks_for_a_reset, self._asks_for_the_status)[number % 3](number)
        except requests.RequestException:
            self._session.close()
            return False

    def _asks_for_health(self, number: int) -> bool:
        return self._session.get(f"{self._url}/health/", headers=PROXIED, timeout=ANSWER_SECONDS).status_code == 200

    def _asks_for_a_reset(self, number: int) -> bool:
        payload = self._query(REQUEST, input={"email": f"{self._name}-{number}@example.com"})
        self._handle = payload["reset"]["requestId"] if "reset" in payload else ""
        return bool(self._handle)

    def _asks_for_the_status(self, number: int) -> bool:
        return "status" in self._query(STATUS, id=self._handle)

    def _query(self, query: str, **variables: Any) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        answer = self._session.post(f"{self._url}/graphql/", json=body, headers=PROXIED, timeout=ANSWER_SECONDS)
        (payload,) = (answer.json().get("data") or {"": None}).values()
        return payload or {}


def stand(server: Running, name: str, requests_each: int, clients: int = CLIENTS) -> Stand:
    """Besiege the server, and ask honestly meanwhile."""
    found = Stand(name)

    def be_honest(client: HonestClient) -> None:
        for number in range(requests_each):
            begun = time.perf_counter()
            answered = client.ask(number)
            found.asked += 1
            if answered:
                found.seconds.append(time.perf_counter() - begun)

    with SIEGES[name](server.port):
        honest = [HonestClient(server, f"{list(SIEGES).index(name)}-{number}") for number in range(clients)]
        threads = [threading.Thread(target=be_honest, args=(client,)) for client in honest]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


def besiege(folder: Path, prepared: Path, requests_each: int, **environment: str) -> Iterator[Stand]:
    """One siege after the other, all of the same server."""
    raise_descriptor_limit()
    limits = {"THROTTLE_REQUEST_PER_IP": "1000000/hour", "THROTTLE_VERIFY_PER_IP": "1000000/hour"}
    with site_in(folder, prepared, **limits, **environment) as site, site.serving() as server:
        for name in SIEGES:
            yield stand(server, name, requests_each)


def table(stands: Sequence[Stand]) -> str:
    lines = [("siege", "asked", "answered", "median", "p99")]
    for each in stands:
        counts = (str(each.asked), str(each.asked - each.unanswered))
        lines.append((each.name, *counts, each.percentile(50), each.percentile(99)))
    return markdown(lines)
