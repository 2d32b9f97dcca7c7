"""What the asynchronous front costs beside granian's own WSGI, and what it is good for.

    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.front            # some five minutes
    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.front --short

Two servers of the same code, with the same processes and threads, on one database: one as `make serve` starts it, one
with `--interface wsgi`. They are asked in turns, round by round, by as many clients as one of them has threads, first
idle and then while half-sent bodies stand: as many as are told by `--siege`. Nothing is mailed. CPU is user and system
time of the server's processes, without the database and the clients.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.front import raise_descriptor_limit
from benchmarks import sites
from benchmarks.report import Report
from drills.siege import HALF_SENT, half_sent, standing
from harness.deployment import HOST, free_port, recipe

WORKERS, THREADS = 2, 8
PATIENCE = 5.0
"""Seconds after which a client in a siege gives up."""


@dataclass
class Server:
    """One of the two; `pid` is the one process of it that has started the others."""

    name: str
    port: int
    pid: int
    handle: str = ""


@dataclass
class Kind:
    """Something to ask for."""

    method: str
    path: str
    body: Callable[[Server, int], bytes]


def health(server: Server, number: int) -> bytes:
    return b""


def status(server: Server, number: int) -> bytes:
    return json.dumps({"query": sites.STATUS, "variables": {"id": server.handle}}).encode()


def request(server: Server, number: int) -> bytes:
    return json.dumps({"query": sites.REQUEST, "variables": {"email": sites.address(number)}}).encode()


KINDS = {
    "GET /health/": Kind("GET", "/health/", health),
    "passwordResetStatus": Kind("POST", "/graphql/", status),
    "requestPasswordReset": Kind("POST", "/graphql/", request),
}


@dataclass
class Round:
    """What came of asking one server for one kind of thing, for some seconds."""

    milliseconds: list[float]
    seconds: float
    cpu: float
    failed: int = 0

    @property
    def pace(self) -> float:
        return len(self.milliseconds) / self.seconds

    @property
    def cost(self) -> float:
        """CPU milliseconds for each request."""
        return self.cpu / max(1, len(self.milliseconds))


class Clients:
    """As many as there are threads, each with a connection that is kept."""

    def __init__(self) -> None:
        self._number = 0
        self._lock = threading.Lock()

    def ask(self, server: Server, kind: Kind, seconds: float, clients: int = THREADS) -> Round:
        found: list[float] = []
        failed: list[int] = []
        began, cpu = time.perf_counter(), sites.cpu_milliseconds(server.pid)

        def work() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
            while time.perf_counter() < began + seconds:
                body = kind.body(server, self._next())
                begun = time.perf_counter()
                try:
                    connection.request(kind.method, kind.path, body or None, sites.HEADERS)
                    answer = connection.getresponse()
                    content = answer.read()
                except (OSError, http.client.HTTPException):
                    failed.append(1)
                    connection.close()
                    continue
                if answer.status != 200 or b'"errors"' in content:
                    raise SystemExit(f"{server.name}: HTTP {answer.status}: {content!r}")
                found.append((time.perf_counter() - begun) * 1000)
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, used = time.perf_counter() - began, sites.cpu_milliseconds(server.pid) - cpu
        return Round(found, took, used, len(failed))

    def _next(self) -> int:
        with self._lock:
            self._number += 1
            return self._number


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is told")
    parser.add_argument("--seconds", type=float, default=4, help="of each round")
    parser.add_argument("--siege", type=int, default=HALF_SENT, help="half-sent bodies")
    parser.add_argument("--short", action="store_true", help="three rounds of two seconds")
    options = parser.parse_args()
    rounds, seconds = (3, 2.0) if options.short else (options.rounds, options.seconds)
    raise_descriptor_limit()
    report = Report("front")
    with ExitStack() as stack:
        servers = list(stack.enter_context(both()))
        clients = Clients()
        for server in servers:
            server.handle = sites.handle_of(server.port)
        idle(report, clients, servers, rounds, seconds)
        besieged(report, clients, servers, options.siege, seconds)


def idle(report: Report, clients: Clients, servers: list[Server], rounds: int, seconds: float) -> None:
    title = f"{WORKERS} processes with {THREADS} threads, {THREADS} clients, medians of {rounds} rounds"
    report.table(title, "requests/s", "CPU ms", "p50 ms", "p99 ms", "rate ratio", "CPU ratio")
    for name, kind in KINDS.items():
        found: dict[str, list[Round]] = defaultdict(list)
        for number in range(rounds + 1):
            # Neither always goes first; the first round imports, compiles and fills caches.
            for server in servers if number % 2 else reversed(servers):
                found[server.name].append(clients.ask(server, kind, seconds))
        paces = {key: statistics.median(each.pace for each in rounds_[1:]) for key, rounds_ in found.items()}
        costs = {key: statistics.median(each.cost for each in rounds_[1:]) for key, rounds_ in found.items()}
        base = servers[0].name
        for key, rounds_ in found.items():
            times = sorted(one for each in rounds_[1:] for one in each.milliseconds)
            ratios = (f"{paces[key] / paces[base]:.2f}", f"{costs[key] / costs[base]:.2f}")
            report.row(
                f"{name}, {key}",
                f"{paces[key]:.0f}",
                f"{costs[key]:.2f}",
                f"{times[len(times) // 2]:.1f}",
                f"{times[len(times) * 99 // 100]:.1f}",
                *ratios,
            )


def besieged(report: Report, clients: Clients, servers: list[Server], siege: int, seconds: float) -> None:
    """One client, while so many bodies stay half-sent; the server without the front comes last, and may not recover."""
    report.table(f"one client, {siege} half-sent bodies", "answered", "failed", "p50 ms", "max ms")
    for server in reversed(servers):
        with standing(server.port, half_sent(), siege):
            for name, kind in KINDS.items():
                found = clients.ask(server, kind, seconds, clients=1)
                times = found.milliseconds
                shown = (f"{statistics.median(times):.1f}", f"{max(times):.1f}") if times else ("-", "-")
                report.row(f"{name}, {server.name}", str(len(times)), str(found.failed), *shown)


@contextmanager
def both() -> Iterator[Iterator[Server]]:
    """The server without the front, and then the one with it."""
    with tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder, ExitStack() as stack:
        database = os.environ.get("DATABASE_URL", f"sqlite:///{Path(folder) / 'db.sqlite3'}")
        sites.prepare(database, [sites.address(number) for number in range(0, 2000, 2)])

        def start(name: str, command: Callable[[int], list[str]]) -> Server:
            port = free_port()
            variables = sites.site_environment(port) | {"DATABASE_URL": database, "LOG_LEVEL": "WARNING"}
            variables |= {"MAIL_DISPATCH": "none", "EMAIL_HOST": "127.0.0.1", "THREADS": str(THREADS)}
            # The siege names that host; a request for a wrong one would be refused without its body.
            variables["ALLOWED_HOSTS"] = f"127.0.0.1,{HOST}"
            server = stack.enter_context(sites.running(command(port), variables, port))
            return Server(name, port, server.process.pid)

        yield iter([start("plain WSGI", without_front), start("the front", lambda port: recipe(port, WORKERS)[-1])])


def without_front(port: int) -> list[str]:
    """What `make serve` would be without it; HTTP/1 alone, or the siege would be another."""
    command = [*recipe(port, WORKERS)[-1][:-1], "backend.wsgi:application", "--blocking-threads", str(THREADS)]
    command[command.index("--interface") + 1] = "wsgi"
    return command


if __name__ == "__main__":
    main()
