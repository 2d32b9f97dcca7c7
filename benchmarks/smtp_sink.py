"""A mail server that takes everything and keeps nothing, cheap enough not to be what a benchmark measures.

    python -m benchmarks.smtp_sink [milliseconds for each command]

It prints its port and, once its input is closed, the number of mails it took.
"""

from __future__ import annotations

import asyncio
import sys


class Sink(asyncio.Protocol):
    """One connection: answers each line in order, after the delay, and counts what ends a DATA."""

    taken = 0
    delay = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.in_data = False
        self._answer(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            line, found, rest = self.buffer.partition(b"\r\n.\r\n" if self.in_data else b"\r\n")
            if not found:
                return
            self.buffer = rest
            self._command(line[:4].upper())

    def _command(self, verb: bytes) -> None:
        if self.in_data:
            self.in_data = False
            Sink.taken += 1
            self._answer(b"250 taken\r\n")
        elif verb == b"DATA":
            self.in_data = True
            self._answer(b"354 go on\r\n")
        elif verb == b"QUIT":
            self._answer(b"221 bye\r\n", close=True)
        else:
            self._answer(b"250 ok\r\n")

    def _answer(self, text: bytes, *, close: bool = False) -> None:
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self._write, text, close)
        else:
            self._write(text, close)

    def _write(self, text: bytes, close: bool) -> None:
        self.transport.write(text)
        if close:
            self.transport.close()


async def main() -> None:
    Sink.delay = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(Sink.taken, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
