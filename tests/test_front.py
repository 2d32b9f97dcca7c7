"""The front by itself, message by message: what it reads, what it refuses, and what a thread is given."""

from __future__ import annotations

import asyncio
import io
import resource
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from accounts.conf import MAX_BODY
from backend import front
from backend.bounds import REFUSAL
from backend.front import BLOCK, BODIES, FREE_BODY, MAX_PIECES, MAX_WAITING, Blocks, Front, environ_of

WAIT = 30
"""Seconds until a test gives up on something that takes milliseconds."""
POST = [(b"content-type", b"application/json")]


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answers with the body, as a thread reads it; a refused request with why it was refused."""
    if refusal := environ.get(REFUSAL):
        start_response(f"{refusal.status} Refused", [])
        return [refusal.message.encode()]
    start_response("200 OK", [("X-Thread", threading.current_thread().name)])
    return [environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH", "0")))]


@dataclass
class Exchange:
    """One request, as an ASGI server would hand it over, and what came back."""

    pieces: list[bytes] = field(default_factory=lambda: [b""])
    method: str = "POST"
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: list(POST))
    path: bytes = b"/"
    query: bytes = b""
    then: Callable[[], Awaitable[Any]] | None = None
    """What happens after the pieces, if they are not all of the body: the client waits, or leaves."""
    status: int = 0
    answered: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    received: int = 0

    @property
    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": "/",
            "raw_path": self.path,
            "query_string": self.query,
            "root_path": "",
            "headers": self.headers,
            "server": ("127.0.0.1", "8000"),
            "client": ("203.0.113.9", "4711"),
        }

    async def receive(self) -> dict[str, Any]:
        if self.received < len(self.pieces):
            self.received += 1
            more = self.received < len(self.pieces) or self.then is not None
            return {"type": "http.request", "body": self.pieces[self.received - 1], "more_body": more}
        await (self.then or wait_for_ever)()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.answered = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]

    async def through(self, application: Front) -> Exchange:
        await application(self.scope, self.receive, self.send)
        return self


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def leave() -> None:
    """The client is gone."""


def with_length(length: int) -> list[tuple[bytes, bytes]]:
    return [*POST, (b"content-length", str(length).encode())]


def ask(exchange: Exchange, handler: Any = echo, threads: int = 2) -> Exchange:
    application = Front(handler, threads)
    try:
        return asyncio.run(asyncio.wait_for(exchange.through(application), WAIT))
    finally:
        application._pool.shutdown()


# --- Bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, FREE_BODY, MAX_BODY])
def test_a_body_is_handed_over_whole_and_with_its_length(length: int) -> None:
    body = b"x" * length
    pieces = [body[: length // 3], body[length // 3 :]]
    for headers in (with_length(length), [*POST, (b"transfer-encoding", b"chunked")], POST):
        exchange = ask(Exchange(pieces, headers=headers))
        assert (exchange.status, exchange.body) == (200, body)
        assert exchange.answered[b"X-Thread"].startswith(b"request")


def test_a_body_whose_length_is_known_is_over_when_that_has_arrived() -> None:
    exchange = ask(Exchange([b"four"], headers=with_length(4), then=wait_for_ever))
    assert exchange.body == b"four"


def test_a_length_beside_chunks_is_not_believed() -> None:
    headers = [*with_length(4), (b"transfer-encoding", b"chunked")]
    exchange = ask(Exchange([b"four", b" and more"], headers=headers))
    assert exchange.body == b"four and more"


def test_a_get_without_a_body_is_not_asked_for_one() -> None:
    exchange = ask(Exchange([], method="GET", headers=[], then=wait_for_ever))
    assert (exchange.status, exchange.received) == (200, 0)


def no_thread(exchange: Exchange, status: int) -> None:
    """The request is refused, the connection ends, and no thread is ever taken."""
    application = Front(echo, 1)
    asyncio.run(asyncio.wait_for(exchange.through(application), WAIT))
    assert exchange.status == status
    assert exchange.answered[b"connection"] == b"close"
    assert list(application._pool._threads) == []
    assert application._left_for_bodies == BODIES


@pytest.mark.parametrize("said", [b"65537", b"1" + b"0" * 18, b"9" * 5000], ids=len)
def test_a_body_that_is_announced_as_too_long_is_refused_unread(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LINGER_SECONDS", 0.0)
    exchange = Exchange([b"x"], headers=[*POST, (b"content-length", said)], then=wait_for_ever)
    no_thread(exchange, 413)


def test_a_body_that_grows_too_long_is_refused_and_what_follows_is_thrown_away() -> None:
    exchange = Exchange([b"x" * MAX_BODY, b"x", b"x", b"x"], headers=[(b"transfer-encoding", b"chunked")])
    no_thread(exchange, 413)
    assert exchange.received == 4


def test_a_body_that_does_not_arrive_in_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "BODY_SECONDS", 0.01)
    no_thread(Exchange([b"x"], headers=with_length(2), then=wait_for_ever), 408)


def test_a_body_in_crumbs_is_refused_before_it_costs() -> None:
    crumbs = Exchange([b"x"] * (MAX_PIECES + 1), headers=[(b"transfer-encoding", b"chunked")])
    no_thread(crumbs, 408)
    assert crumbs.received == MAX_PIECES


def test_a_body_that_breaks_off_is_no_request() -> None:
    no_thread(Exchange([b"x"], headers=with_length(2), then=leave), 400)


def test_what_many_long_bodies_may_hold_is_bounded_and_short_ones_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The siege holds all there is for bodies beyond their first kilobytes."""
    monkeypatch.setattr(front, "BODIES", 2 * (MAX_BODY - FREE_BODY))
    application = Front(echo, 1)

    async def besiege() -> tuple[Exchange, Exchange, Exchange]:
        half = [Exchange([b"x" * (MAX_BODY - 1)], headers=with_length(MAX_BODY), then=wait_for_ever) for _ in range(2)]
        siege = [asyncio.create_task(exchange.through(application)) for exchange in half]
        while application._left_for_bodies > 2:
            await asyncio.sleep(0)
        short = await Exchange([b"x" * FREE_BODY]).through(application)
        long = await Exchange([b"x" * (FREE_BODY + 3)]).through(application)
        for task in siege:
            task.cancel()
        await asyncio.gather(*siege, return_exceptions=True)
        return short, long, await Exchange([b"x" * MAX_BODY]).through(application)

    short, long, afterwards = asyncio.run(asyncio.wait_for(besiege(), WAIT))
    assert (short.status, long.status, afterwards.status) == (200, 503, 200)


# --- Threads ---------------------------------------------------------------------------------------------------------


@dataclass
class Busy:
    """A handler whose threads are all taken until they are released; it counts what it was asked."""

    asked: int = 0
    taken: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if REFUSAL not in environ:
            self.asked += 1
            self.taken.release()
            assert self.released.wait(WAIT)
        return echo(environ, start_response)


def test_more_than_may_wait_for_a_thread_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MAX_WAITING", 3)
    busy = Busy()
    application = Front(busy, 1)

    async def crowd() -> tuple[Exchange, list[Exchange]]:
        waiting = [asyncio.create_task(Exchange([b"x"]).through(application)) for _ in range(4)]
        await asyncio.to_thread(busy.taken.acquire)
        refused = await Exchange([b"x"]).through(application)
        busy.released.set()
        return refused, await asyncio.gather(*waiting)

    refused, answered = asyncio.run(asyncio.wait_for(crowd(), WAIT))
    assert refused.status == 503
    assert [exchange.status for exchange in answered] == [200] * 4
    assert application._in_hand == 0
    assert MAX_WAITING > 100


def test_a_request_whose_client_has_left_while_it_waited_is_not_run(caplog: pytest.LogCaptureFixture) -> None:
    busy = Busy()
    application = Front(busy, 1)

    async def crowd() -> tuple[Exchange, Exchange]:
        first = asyncio.create_task(Exchange([b"x"]).through(application))
        await asyncio.to_thread(busy.taken.acquire)
        gone = await Exchange([b"x"], headers=with_length(1), then=leave).through(application)
        busy.released.set()
        return gone, await first

    gone, first = asyncio.run(asyncio.wait_for(crowd(), WAIT))
    assert (gone.status, first.status, busy.asked) == (0, 200, 1)
    assert application._in_hand == 0
    assert caplog.records == []


def test_nothing_is_kept_of_requests_whose_clients_have_left() -> None:
    busy = Busy()
    application = Front(busy, 1)

    async def crowd() -> int:
        first = asyncio.create_task(Exchange([b"x"]).through(application))
        await asyncio.to_thread(busy.taken.acquire)
        for _ in range(50):
            await Exchange([b"x"], headers=with_length(1), then=leave).through(application)
        kept = application._pool._work_queue.qsize()
        busy.released.set()
        await first
        return kept

    assert asyncio.run(asyncio.wait_for(crowd(), WAIT)) == 0
    assert not application._free.locked()


def test_nobody_waits_for_a_thread_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has sent more than its request can leave unnoticed."""
    monkeypatch.setattr(front, "WAITING_SECONDS", 0.01)
    busy = Busy()
    application = Front(busy, 1)

    async def crowd() -> tuple[Exchange, Exchange, Exchange]:
        first = asyncio.create_task(Exchange([b"x"]).through(application))
        await asyncio.to_thread(busy.taken.acquire)
        late = await Exchange([b"x"]).through(application)
        busy.released.set()
        return await first, late, await Exchange([b"x"]).through(application)

    first, late, next_one = asyncio.run(asyncio.wait_for(crowd(), WAIT))
    assert (first.status, late.status, next_one.status, busy.asked) == (200, 503, 200, 2)


def test_a_request_whose_client_waits_is_run_when_its_turn_comes() -> None:
    busy = Busy()
    application = Front(busy, 1)

    async def crowd() -> list[Exchange]:
        both = [asyncio.create_task(Exchange([b"x"], then=wait_for_ever, headers=with_length(1)).through(application))]
        await asyncio.to_thread(busy.taken.acquire)
        both.append(asyncio.create_task(Exchange([b"y"]).through(application)))
        await asyncio.sleep(0)
        busy.released.set()
        return await asyncio.gather(*both)

    assert [exchange.body for exchange in asyncio.run(asyncio.wait_for(crowd(), WAIT))] == [b"x", b"y"]


def test_a_handler_that_fails_is_a_500_and_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise ZeroDivisionError

    exchange = ask(Exchange(), broken)
    assert (exchange.status, exchange.body) == (500, b"")
    assert [(line.name, line.levelname) for line in caplog.records] == [("backend.front", "ERROR")]


# --- The environ -----------------------------------------------------------------------------------------------------


def test_a_header_with_an_underscore_is_not_one_with_a_hyphen() -> None:
    headers = [(b"x_forwarded_for", b"198.51.100.1"), (b"x-forwarded_proto", b"https"), (b"content_length", b"9")]
    environ = environ_of(Exchange(headers=[(b"x-forwarded-for", b"203.0.113.7"), *headers]).scope)
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.7"
    assert "HTTP_X_FORWARDED_PROTO" not in environ
    assert "CONTENT_LENGTH" not in environ


def test_headers_that_come_twice_are_joined() -> None:
    headers = [(b"x-forwarded-for", b"a"), (b"cookie", b"a=1"), (b"x-forwarded-for", b"b, c"), (b"cookie", b"b=2")]
    environ = environ_of(Exchange(headers=headers).scope)
    assert (environ["HTTP_X_FORWARDED_FOR"], environ["HTTP_COOKIE"]) == ("a,b, c", "a=1; b=2")


def test_bytes_are_handed_over_as_wsgi_wants_them() -> None:
    environ = environ_of(Exchange(path=b"/a%20b/%C3%A9%ff%zz%", query=b"q=%C3%A9", headers=[(b"x", b"\xe9")]).scope)
    assert environ["PATH_INFO"] == "/a b/\xc3\xa9\xff%zz%"
    assert (environ["QUERY_STRING"], environ["HTTP_X"]) == ("q=%C3%A9", "\xe9")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]) == (
        "127.0.0.1",
        "8000",
        "203.0.113.9",
    )


def test_a_server_that_tells_no_raw_path_and_no_client_is_understood() -> None:
    scope = Exchange().scope | {
        "raw_path": None,
        "path": "/api/é%41",
        "root_path": "/api",
        "client": None,
        "server": None,
    }
    environ = environ_of(scope)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/api", "/\xc3\xa9%41")
    assert environ["REMOTE_ADDR"] == ""


# --- Files -----------------------------------------------------------------------------------------------------------


class File(io.BytesIO):
    """A file that knows how far it was read."""

    furthest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        File.furthest = self.tell()
        return data


def served(file: File) -> Callable[..., Iterable[bytes]]:
    def handler(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        wrapped: Blocks = environ["wsgi.file_wrapper"](file, 4096)
        return wrapped

    return handler


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_file_is_sent_whole_and_closed(length: int) -> None:
    file = File(b"x" * length)
    exchange = ask(Exchange([], method="GET"), served(file))
    assert (exchange.status, len(exchange.body)) == (200, length)
    assert file.closed


def test_a_file_is_read_no_further_than_its_reader_takes_it() -> None:
    file = File(b"x" * 100 * BLOCK)

    class Slow(Exchange):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if self.body:
                await wait_for_ever()

    exchange = Slow([], method="GET")
    application = Front(served(file), 1)

    async def wait_for_the_first_block() -> int:
        sending = asyncio.create_task(exchange.through(application))
        while not exchange.body:
            await asyncio.sleep(0)
        read = File.furthest
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        return read

    assert asyncio.run(asyncio.wait_for(wait_for_the_first_block(), WAIT)) == BLOCK
    assert file.closed


def test_a_file_is_not_read_for_a_reader_who_has_left() -> None:
    file = File(b"x" * 100 * BLOCK)
    ask(Exchange([], method="GET", then=leave), served(file))
    assert File.furthest < 10 * BLOCK
    assert file.closed


# --- The process -----------------------------------------------------------------------------------------------------


@pytest.fixture
def descriptors() -> Iterator[list[tuple[int, int]]]:
    """The limits that were asked for; the test's own stay as they are."""
    asked: list[tuple[int, int]] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(resource, "getrlimit", lambda _: (1024, 20000))
    patch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    yield asked
    patch.undo()


def test_the_process_may_hold_as_many_connections_as_the_system_allows_and_ends_its_threads(
    descriptors: list[tuple[int, int]],
) -> None:
    application = Front(echo, 2)
    events = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(events)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(application({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert descriptors == [(20000, 20000)]
    assert application._pool._shutdown


def test_a_websocket_is_turned_away() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Front(echo, 1)({"type": "websocket"}, wait_for_ever, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close"}]


# --- Streams ---------------------------------------------------------------------------------------------------------


class Streaming:
    """A response that goes on: what it says, and whether it was closed."""

    beat, heartbeat, life = b": beat\n", 0.01, 5.0

    def __init__(self, says: Callable[[], AsyncGenerator[bytes, None]], **facts: float) -> None:
        vars(self).update(facts)
        self.closed: list[str] = []
        self.chunks = self._noted(says())

    async def _noted(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            self.closed.append("chunks")

    def close(self) -> None:
        self.closed.append("response")


def streaming(response: Streaming) -> Any:
    def handler(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return response

    return handler


async def says_two() -> AsyncGenerator[bytes, None]:
    yield b"one\n"
    yield b"two\n"


async def says_one_and_waits() -> AsyncGenerator[bytes, None]:
    yield b"one\n"
    await wait_for_ever()


async def fails() -> AsyncGenerator[bytes, None]:
    yield b"one\n"
    raise ValueError("hunter2")


def test_a_stream_is_sent_to_its_end_and_its_request_is_over_before() -> None:
    response = Streaming(says_two)
    assert ask(Exchange(), streaming(response)).body == b"one\ntwo\n"
    assert response.closed == ["response", "chunks"]


def test_a_stream_that_says_nothing_beats_and_does_not_live_for_ever() -> None:
    response = Streaming(says_one_and_waits, life=0.1)
    first, *beats = ask(Exchange(), streaming(response)).body.splitlines()
    assert first == b"one"
    assert set(beats) == {b": beat"}
    assert response.closed == ["response", "chunks"]


def test_a_stream_ends_when_its_client_leaves() -> None:
    response = Streaming(says_one_and_waits, heartbeat=WAIT, life=WAIT)
    exchange = Exchange(method="GET", headers=[], pieces=[], then=leave)
    assert ask(exchange, streaming(response)).status == 200
    assert response.closed == ["response", "chunks"]


def test_all_streams_end_when_the_server_stops() -> None:
    responses = [Streaming(says_one_and_waits, heartbeat=WAIT, life=WAIT) for _ in range(3)]

    async def stop() -> None:
        application = Front(
            lambda environ, start: streaming(responses[int(environ["QUERY_STRING"])])(environ, start), 2
        )
        exchanges = [Exchange(query=str(number).encode()) for number in range(3)]
        serving = [asyncio.create_task(each.through(application)) for each in exchanges]
        while not all(each.body for each in exchanges):
            await asyncio.sleep(0.01)
        application.end_streams()
        await asyncio.wait_for(asyncio.gather(*serving), WAIT)
        assert not application._streams
        application._pool.shutdown()

    asyncio.run(stop())
    assert [each.closed for each in responses] == [["response", "chunks"]] * 3


def test_a_stream_that_begins_after_the_signal_ends_at_once() -> None:
    response = Streaming(says_one_and_waits, heartbeat=WAIT, life=WAIT)

    async def stop() -> None:
        application = Front(streaming(response), 1)
        application.end_streams()
        await asyncio.wait_for(Exchange().through(application), WAIT)
        application._pool.shutdown()

    asyncio.run(stop())
    assert response.closed == ["response", "chunks"]


def test_a_stream_that_fails_ends_and_leaves_a_line(caplog: pytest.LogCaptureFixture) -> None:
    response = Streaming(fails)
    assert ask(Exchange(), streaming(response)).body == b"one\n"
    assert [record.getMessage() for record in caplog.records if record.name == "backend.front"] == ["a stream failed"]
