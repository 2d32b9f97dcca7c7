"""GraphQL over server-sent events: the protocol's "distinct connections mode", one request for one operation.

https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md. Strawberry writes the events; this is about how long
a stream lives, and on which servers.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import translation
from strawberry.http.streaming import SSETransport

EVENT_STREAM = "text/event-stream"
HEARTBEAT = 15.0
"""Seconds after which a stream that has nothing to say says so, or proxies would take it for dead."""
LIFE = 900.0
"""Seconds that a stream lives. Its end is no `complete`, so a client that still waits opens another one."""

_events = SSETransport()
BEAT = _events.encode_comment("still here").encode()


class EventStream(StreamingHttpResponse):
    """A stream as Django sends it. Our own front sends `chunks` by itself, with `beat` in between: that keeps less."""

    beat, heartbeat, life = BEAT, HEARTBEAT, LIFE

    def __init__(self, results: AsyncGenerator[dict[str, Any]], request: HttpRequest) -> None:
        self.chunks = _chunks(results, contextvars.copy_context(), translation.get_language())
        content: Any = (
            _beating(self.chunks) if isinstance(request, ASGIRequest) else _in_this_thread(_beating(self.chunks))
        )
        super().__init__(content, content_type=EVENT_STREAM)
        # Proxies keep events back otherwise: nginx by itself, others where they compress.
        self["Cache-Control"] = "no-store, no-transform"
        self["X-Accel-Buffering"] = "no"


def once(body: dict[str, Any]) -> str:
    """The whole stream of an operation that has one result."""
    return _events.encode_next(body, json.dumps) + _events.encode_complete()  # type: ignore[arg-type]


async def _chunks(
    results: AsyncGenerator[dict[str, Any]], context: contextvars.Context, language: str | None
) -> AsyncGenerator[bytes]:
    """The events of a subscription. It begins in the context of the request, which has its id for the log.

    Its language does not come along by itself: Django keeps that to the thread which has chosen it.
    """

    async def begin() -> Any:
        with translation.override(language):
            return await _next(results)

    first = asyncio.get_running_loop().create_task(begin(), context=context)
    try:
        result = await first
        del first, context
        while result is not None:
            yield _events.encode_next(result, json.dumps).encode()
            result = await _next(results)
        yield _events.encode_complete().encode()
    finally:
        await results.aclose()


async def _beating(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same with a beat where nothing happens, until it has lived for LIFE."""
    loop = asyncio.get_running_loop()
    ends, step = loop.time() + LIFE, None
    try:
        while True:
            step = loop.create_task(_next(chunks))
            while not (await asyncio.wait({step}, timeout=HEARTBEAT))[0]:
                if loop.time() >= ends:
                    return
                yield BEAT
            if (chunk := step.result()) is None:
                return
            yield chunk
    finally:
        if step is not None and not step.done():
            step.cancel()
            await asyncio.wait({step})
        await chunks.aclose()


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, None)


def _in_this_thread(chunks: AsyncGenerator[bytes]) -> Iterator[bytes]:
    """The same from a synchronous server, which has a thread for each stream: for development."""
    loop = asyncio.new_event_loop()
    try:
        while (chunk := loop.run_until_complete(_next(chunks))) is not None:
            yield chunk
    finally:
        loop.run_until_complete(chunks.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
