"""A mail server that takes everything and keeps nothing, cheap enough not to be what a benchmark measures.

    python -m benchmarks.smtp_sink [milliseconds for each command] [--mail MS [--vary PART]] [--refuse half|all]
                                   [--port PORT] [--certificate FILE] [--log FILE]

It offers PIPELINING. Each answer is late by itself, as on the way from a distant server: three commands that come
together are answered together. It offers STARTTLS where it has a certificate (with its key, in one file), and writes a
line for each mail into the log: the recipient, and the time at which it took the mail. It prints its port; after that,
for each line of its input, the number of mails taken so far; and it ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import subprocess  # nosec B404 # it runs our own modules
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class Running:
    """A sink in a process of its own, which tells how many mails it has taken."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._line())

    def taken(self) -> int:
        """How many mails it has taken so far."""
        assert self._process.stdin  # nosec B101 # noqa: S101 (for the type checker)
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout  # nosec B101 # noqa: S101 (for the type checker)
        return self._process.stdout.readline()


@contextmanager
def counting_sink(milliseconds: float = 0, **options: object) -> Iterator[Running]:
    """A mail server for as long as the context lasts; `options` are those of the command."""
    command = [sys.executable, "-m", "benchmarks.smtp_sink", str(milliseconds)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # nosec B603 # noqa: S603 (our own module)
        try:
            yield Running(process)
        finally:
            process.communicate()


@contextmanager
def sink(milliseconds: float = 0, *, mail: float = 0, refuse: str = "none", port: int = 0) -> Iterator[int]:
    """A mail server in a process of its own; yields its port."""
    with counting_sink(milliseconds, mail=mail, refuse=refuse, port=port) as running:
        yield running.port


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, and its key, in one file. Needs OpenSSL's command."""
    path = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path), "-out", str(folder / "public.pem")]
    subprocess.run(command, check=True, capture_output=True)  # nosec B603 # noqa: S603 (openssl, with our own words)
    path.write_text(path.read_text() + (folder / "public.pem").read_text())
    return path


class _Session(asyncio.Protocol):
    """One connection: answers each line in order, after the delay, and counts what ends a DATA."""

    taken = 0
    delay = 0.0
    delay_of_mail = 0.0
    vary = 0.0
    refuse = "none"
    tls: ssl.SSLContext | None = None
    log: TextIO | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # nosec B101 # noqa: S101 (for the type checker)
        self.transport = transport
        self.buffer = b""
        self.in_data = self.upgrading = False
        self.recipient = b""
        self._answer(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self.upgrading:
            line, found, rest = self.buffer.partition(b"\r\n.\r\n" if self.in_data else b"\r\n")
            if not found:
                return
            self.buffer = rest
            self._command(line)

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if self.in_data:
            self.in_data = False
            varied = random.uniform(1 - self.vary, 1 + self.vary)  # nosec B311 # noqa: S311 (a benchmark)
            self._later(self._take, after=self.delay_of_mail * varied)
        elif verb == b"RCPT" and self._refuses(line):
            self._answer(b"550 5.1.1 nobody here\r\n")
        elif verb == b"DATA":
            self.in_data = True
            self._answer(b"354 go on\r\n")
        elif verb == b"EHLO":
            self._answer(
                b"250-sink\r\n250-PIPELINING\r\n250 STARTTLS\r\n" if self.tls else b"250-sink\r\n250 PIPELINING\r\n"
            )
        elif verb == b"STAR":
            self._later(self._start_tls)
        elif verb == b"QUIT":
            self._later(self._bid_farewell)
        else:
            if verb == b"RCPT":
                self.recipient = line.partition(b"<")[2].partition(b">")[0]
            self._answer(b"250 ok\r\n")

    def _answer(self, text: bytes) -> None:
        self._later(lambda: self.transport.write(text))

    def _refuses(self, line: bytes) -> bool:
        """All recipients, or a half of them that is the same each time."""
        return self.refuse == "all" or (self.refuse == "half" and zlib.crc32(line) % 2 == 0)

    def _later(self, act: Callable[[], None], *, after: float = 0.0) -> None:
        if after or self.delay:
            asyncio.get_running_loop().call_later(after or self.delay, act)
        else:
            act()

    def _take(self) -> None:
        _Session.taken += 1
        if self.log:
            self.log.write(f"{self.recipient.decode()} {time.time()}\n")
        self.transport.write(b"250 taken\r\n")

    def _bid_farewell(self) -> None:
        self.transport.write(b"221 bye\r\n")
        self.transport.close()

    def _start_tls(self) -> None:
        self.upgrading = True
        self.transport.pause_reading()  # what comes next is for the other layer
        self.transport.write(b"220 go on\r\n")
        self._upgrade = asyncio.ensure_future(self._use_tls())

    async def _use_tls(self) -> None:
        assert self.tls  # nosec B101 # noqa: S101 (for the type checker)
        upgraded = await asyncio.get_running_loop().start_tls(self.transport, self, self.tls, server_side=True)
        assert upgraded  # nosec B101 # noqa: S101 (for the type checker)
        self.transport, self.upgrading = upgraded, False
        self._go_on()  # something may have come before the new transport was known here


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("milliseconds", nargs="?", type=float, default=0.0, help="before each answer")
    parser.add_argument("--mail", type=float, default=0.0, help="milliseconds before a mail is taken")
    parser.add_argument("--vary", type=float, default=0.0, help="by what part of that a mail takes longer or shorter")
    parser.add_argument("--refuse", choices=("none", "half", "all"), default="none", help="which recipients")
    parser.add_argument("--port", type=int, default=0, help="by default a free one")
    parser.add_argument("--certificate", help="a file with certificate and key, to offer STARTTLS")
    parser.add_argument("--log", help="a file for the recipient and the time of each mail")
    options = parser.parse_args()
    _Session.delay, _Session.delay_of_mail = options.milliseconds / 1000, options.mail / 1000
    _Session.refuse, _Session.vary = options.refuse, options.vary
    if options.certificate:
        _Session.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _Session.tls.load_cert_chain(options.certificate)
    if options.log:
        _Session.log = Path(options.log).open("w", buffering=1)  # noqa: SIM115 (until the process ends)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Session, "127.0.0.1", options.port)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(_Session.taken, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
