"""The asynchronous front: reads each request whole, within bounds, before a thread is given to it.

An ASGI application around a WSGI one. A client that is slow, silent or gone costs a socket and some memory of the event
loop; the threads, which hold a database connection each, see only requests that can be answered at once. It has no
part in what is answered: `backend.handlers.Handler` is called as a WSGI server would call it, and a request that the
front refuses goes through the same handler, marked as refused (`backend.bounds`).

    granian --interface asgi backend.asgi:application
"""

from __future__ import annotations

import asyncio
import io
import logging
import resource
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from accounts.conf import MAX_BODY, STREAMS
from backend.bounds import BODY_SECONDS, BROKEN_OFF, BUSY, REFUSAL, TOO_LONG, TOO_SLOW, Refusal, announced_length

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]

FREE_BODY = 8 * 1024
"""Bytes of a body that count against nothing: no honest one is longer, so a siege of long ones is not in its way."""
BODIES = 16 * 1024 * 1024
"""Bytes that all bodies of a process may have together beyond those."""
MAX_PIECES = 256
"""Pieces that a body may come in, for each costs a turn of the event loop. Small packets make 120 of the longest."""
MAX_WAITING = 512
"""Whole requests that may wait for a thread: about a second's worth of work."""
WAITING_SECONDS = 10.0
"""How long a whole request waits for a thread before it is asked to come again."""
LINGER_PIECES = 64
LINGER_SECONDS = 1.0
"""How much more of a body that is too long is thrown away: who is cut off while sending cannot read the answer."""
BODILESS = {"GET", "HEAD"}
"""Methods whose requests commonly have no body: it is waited for where a header says that there is one."""
LIVEZ = "/livez"
BLOCK = 16 * 1024
"""Bytes of a file that are read, and kept for a slow reader, at a time."""

logger = logging.getLogger(__name__)


class Refused(Exception):
    """This request takes no thread."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class ClientGone(Exception):
    """There is nobody left to answer."""


class Answer(NamedTuple):
    """What the handler said; `rest` is the file whose first block the body is, if there is more of it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    rest: Blocks | None = None
    stream: Stream | None = None

    @property
    def start(self) -> Message:
        return {"type": "http.response.start", "status": self.status, "headers": self.headers}


class Stream(NamedTuple):
    """An answer that goes on for long. Its chunks come when there is something to say, and a beat in between."""

    chunks: AsyncGenerator[bytes]
    beat: bytes
    heartbeat: float
    life: float
    """Seconds without a chunk until a beat, and until its end."""

    @classmethod
    def of(cls, response: Any) -> Stream | None:
        """What an EventStream of `accounts.api.streams` has still to say; None of any other response."""
        if (chunks := getattr(response, "chunks", None)) is None:
            return None
        stream = cls(chunks, response.beat, response.heartbeat, response.life)
        response.close()  # for Django the request is over, and nothing else of it is kept
        return stream


class Blocks:
    """A file to send, as WSGI's `wsgi.file_wrapper`, in blocks that are worth a turn of the event loop each."""

    def __init__(self, file: Any, block_size: int = BLOCK) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def read(self) -> bytes:
        return bytes(self._file.read(BLOCK))

    def close(self) -> None:
        self._file.close()


class Front:
    """The ASGI application: `handler` answers in `threads` threads what has arrived whole."""

    def __init__(self, handler: WSGIApplication, threads: int) -> None:
        self._handler = handler
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        # Requests wait here and not in the pool, which would keep those whose clients have left.
        self._free = asyncio.Semaphore(threads)
        self._in_hand = 0
        self._left_for_bodies = BODIES
        self._stopping = False
        self._streams: set[asyncio.Task[None]] = set()
        """For each stream what waits for its client to leave; cancelled, it ends the stream as well."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _live(self, receive: Receive, send: Send) -> None:
        """Prepare the process, and end the threads when the server has answered all that it had accepted.

        The mailer's threads end after that: what the last request has left due is theirs.
        """
        await receive()
        raise_descriptor_limit()
        self._end_streams_when_told_to_stop()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._pool.shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    def _end_streams_when_told_to_stop(self) -> None:
        """Have streams end at the signal. The server waits for all that it answers, and tells of its end after that."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):  # in another thread than the main one no signal ever arrives
                former = signal.getsignal(number)

                def stop(number: int, frame: Any, former: Any = former) -> None:
                    loop.call_soon_threadsafe(self.end_streams)
                    if callable(former):
                        former(number, frame)

                signal.signal(number, stop)

    def end_streams(self) -> None:
        """End every stream. Its client opens another one, which another process will have."""
        self._stopping = True
        for over in self._streams:
            over.cancel()

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        environ = environ_of(scope)
        body = bytearray()
        try:
            await self._read(environ, body, receive)
            # What only asks whether this process lives must not wait for a thread, which may hang.
            is_alive = environ["PATH_INFO"].removesuffix("/") == LIVEZ
            answer = self._answer(environ) if is_alive else await self._in_a_thread(environ, receive)
        except ClientGone:
            return
        except Refused as refused:
            environ[REFUSAL] = refused.refusal
            answer = self._answer(environ)
            answer.headers.append((b"connection", b"close"))
        finally:
            self._left_for_bodies += beyond_free(len(body))
        if answer.stream:
            stream, start = answer.stream, answer.start
            del environ, body, answer  # a stream lives for long, and there may be thousands
            await self._stream(stream, start, receive, send)
            return
        await self._send(answer, receive, send)
        if environ.get(REFUSAL) is TOO_LONG:
            await linger(receive)

    async def _read(self, environ: dict[str, Any], body: bytearray, receive: Receive) -> None:
        """Read a whole body and put it into the environ, with its true length.

        Raises Refused.
        """
        coded = environ.pop("HTTP_TRANSFER_ENCODING", "")
        announced = announced_length(environ)
        if announced > MAX_BODY:
            raise Refused(TOO_LONG)
        if announced or coded or environ["REQUEST_METHOD"] not in BODILESS:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    await self._collect(announced if announced and not coded else -1, body, receive)
            except TimeoutError:
                raise Refused(TOO_SLOW) from None
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)

    async def _collect(self, expected: int, body: bytearray, receive: Receive) -> None:
        for _ in range(MAX_PIECES):
            message = await receive()
            if message["type"] != "http.request":
                raise Refused(BROKEN_OFF)
            piece = message.get("body", b"")
            length = len(body) + len(piece)
            if length > MAX_BODY:
                raise Refused(TOO_LONG)
            needed = beyond_free(length) - beyond_free(len(body))
            if needed > self._left_for_bodies:
                raise Refused(BUSY)
            self._left_for_bodies -= needed
            body += piece
            # Where the length is known, the server need not be asked once more whether that was all.
            if length == expected or not message.get("more_body"):
                return
        raise Refused(TOO_SLOW)

    async def _in_a_thread(self, environ: dict[str, Any], receive: Receive) -> Answer:
        """Have the request answered by the next thread that is free.

        Raises Refused where too many are waiting, or this one for too long, and ClientGone where the client has left
        before its turn.
        """
        if self._in_hand >= self._threads + MAX_WAITING:
            raise Refused(BUSY)
        self._in_hand += 1
        try:
            await self._turn(receive)
            try:
                return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, environ)
            finally:
                self._free.release()
        finally:
            self._in_hand -= 1

    async def _turn(self, receive: Receive) -> None:
        """Wait for a free thread, as long as there is somebody to answer; raises as above.

        Not without an end: a client that has sent more than its request can leave unnoticed.
        """
        if not self._free.locked():
            await self._free.acquire()
            return
        turn = asyncio.ensure_future(self._free.acquire())
        leaving = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({turn, leaving}, timeout=WAITING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._give_up(turn)
            raise
        finally:
            leaving.cancel()
        if not turn.done():
            self._give_up(turn)
            raise ClientGone if leaving.done() else Refused(BUSY)

    def _give_up(self, turn: asyncio.Future[Any]) -> None:
        """Do not wait for a thread any more; one that has just become free is another's."""
        if not turn.cancel():
            self._free.release()

    def _answer(self, environ: dict[str, Any]) -> Answer:
        """What the handler answers; a thread waits for it, or the event loop where there is nothing to wait for."""
        started: list[tuple[str, list[tuple[str, str]]]] = []
        try:
            response = self._handler(environ, lambda *start: started.append(start[:2]))
            stream = Stream.of(response)
            body, rest = (b"", None) if stream else read_out(response)
            ((status, headers),) = started
            coded = [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in headers]
        except Exception:
            logger.exception("a request failed outside of Django")
            return Answer(500, [], b"")
        return Answer(int(status[:3]), coded, body, rest, stream)

    async def _send(self, answer: Answer, receive: Receive, send: Send) -> None:
        if answer.rest is None:
            await send(answer.start)
            await send({"type": "http.response.body", "body": answer.body})
            return
        block, read = answer.body, answer.rest.read
        leaving = asyncio.create_task(disconnected(receive))
        try:
            await send(answer.start)
            while block and not leaving.done():
                # For a client that takes no more, the server waits here, and the next block stays on the disk.
                await send({"type": "http.response.body", "body": block, "more_body": True})
                block = await asyncio.get_running_loop().run_in_executor(self._pool, read)
            await send({"type": "http.response.body", "body": b""})
        finally:
            leaving.cancel()
            answer.rest.close()

    async def _stream(self, stream: Stream, start: Message, receive: Receive, send: Send) -> None:
        """Send the chunks of a stream as they come, until it ends, its client leaves, or the server stops."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + stream.life
        over = asyncio.create_task(disconnected(receive))
        self._streams.add(over)
        if self._stopping:
            over.cancel()
        chunk: asyncio.Future[bytes | None] | None = None
        try:
            await send(start)
            del start
            while loop.time() < ends:
                if chunk is None:
                    chunk = asyncio.ensure_future(anext(stream.chunks, None))
                waiting: set[asyncio.Future[Any]] = {chunk, over}
                await asyncio.wait(waiting, timeout=stream.heartbeat, return_when=asyncio.FIRST_COMPLETED)
                if over.done():
                    break
                block: bytes | None = stream.beat
                if chunk.done():
                    if failure := chunk.exception():
                        logger.error("a stream failed", exc_info=failure)
                        break
                    block, chunk = chunk.result(), None
                if block is None:
                    break
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._streams.discard(over)
            over.cancel()
            if chunk is not None and not chunk.done():
                chunk.cancel()
                await asyncio.wait({chunk})
            await stream.chunks.aclose()


def environ_of(scope: Message) -> dict[str, Any]:
    """The environ of PEP 3333 for an HTTP scope, as yet without a body.

    A header with an underscore in its name is left out: WSGI could not tell `X_Forwarded_For`, which a client made up,
    from the `X-Forwarded-For` of a proxy.
    """
    server, client = scope.get("server") or ("", ""), scope.get("client") or ("", "")
    root = scope.get("root_path", "").encode()
    # Without the raw path, which is optional in ASGI, there is the decoded one; that must not be decoded again.
    path = unquote_to_bytes(raw) if (raw := scope.get("raw_path")) else scope["path"].encode()
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root.decode("latin-1"),
        "PATH_INFO": path.removeprefix(root).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": str(client[0]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.file_wrapper": Blocks,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        STREAMS: True,
    }
    for raw_name, value in scope["headers"]:
        if b"_" not in raw_name:
            name = raw_name.decode("latin-1").upper().replace("-", "_")
            key = name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"
            text = value.decode("latin-1")
            if key in environ:
                # RFC 9110 section 5.3, and RFC 9113 section 8.2.3 for cookies.
                text = f"{environ[key]}{'; ' if name == 'COOKIE' else ','}{text}"
            environ[key] = text
    return environ


def read_out(response: Iterable[bytes]) -> tuple[bytes, Blocks | None]:
    """All of a response's body; of a file no more than its first block, and the file where there is more."""
    if isinstance(response, Blocks):
        block = response.read()
        if len(block) == BLOCK:
            return block, response
        response.close()
        return block, None
    try:
        return b"".join(response), None
    finally:
        if close := getattr(response, "close", None):
            close()


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def linger(receive: Receive) -> None:
    """Throw away what a client goes on sending after it was refused, for a moment."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            for _ in range(LINGER_PIECES):
                if not (await receive()).get("more_body"):
                    return


def beyond_free(length: int) -> int:
    return max(0, length - FREE_BODY)


def raise_descriptor_limit() -> None:
    """Let this process hold as many connections as the system allows it, and not the few of a shell's soft limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
