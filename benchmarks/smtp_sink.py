"""A mail server that keeps nothing, cheap enough not to be what a benchmark measures.

    python -m benchmarks.smtp_sink [milliseconds for each command] [--mail MS] [--refuse half|all] [--port PORT]

It prints its port and, once its input is closed, the number of mails it took.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager


class Sink(asyncio.Protocol):
    """One connection: answers each line in order, after the delay, and counts what ends a DATA."""

    taken = 0
    delay = 0.0
    delay_of_mail = 0.0
    refuse = "none"

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
            self._command(line)

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if self.in_data:
            self.in_data = False
            Sink.taken += 1
            self._answer(b"250 taken\r\n", after=self.delay_of_mail)
        elif verb == b"RCPT" and self._refuses(line):
            self._answer(b"550 5.1.1 nobody here\r\n")
        elif verb == b"DATA":
            self.in_data = True
            self._answer(b"354 go on\r\n")
        elif verb == b"QUIT":
            self._answer(b"221 bye\r\n", close=True)
        else:
            self._answer(b"250 ok\r\n")

    def _refuses(self, line: bytes) -> bool:
        """All recipients, or a half of them that is the same each time."""
        return self.refuse == "all" or (self.refuse == "half" and zlib.crc32(line) % 2 == 0)

    def _answer(self, text: bytes, *, after: float = 0.0, close: bool = False) -> None:
        if after or self.delay:
            asyncio.get_running_loop().call_later(after or self.delay, self._write, text, close)
        else:
            self._write(text, close)

    def _write(self, text: bytes, close: bool) -> None:
        self.transport.write(text)
        if close:
            self.transport.close()


@contextmanager
def sink(milliseconds: float = 0, *, mail: float = 0, refuse: str = "none", port: int = 0) -> Iterator[int]:
    """A mail server in a process of its own; yields its port."""
    command = [sys.executable, "-m", "benchmarks.smtp_sink", str(milliseconds)]
    command += ["--mail", str(mail), "--refuse", refuse, "--port", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline())
        process.communicate()


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("milliseconds", nargs="?", type=float, default=0.0, help="before each answer")
    parser.add_argument("--mail", type=float, default=0.0, help="milliseconds before a mail is taken")
    parser.add_argument("--refuse", choices=("none", "half", "all"), default="none", help="which recipients")
    parser.add_argument("--port", type=int, default=0, help="by default a free one")
    options = parser.parse_args()
    Sink.delay, Sink.delay_of_mail = options.milliseconds / 1000, options.mail / 1000
    Sink.refuse = options.refuse
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", options.port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(Sink.taken, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
