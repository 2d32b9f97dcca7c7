"""Ours beside what people use instead, and beside the least that a view can cost.

    make bench                                                     # with all the other benchmarks
    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.comparison

Ours is what `make serve` starts with its defaults, every defence on and only the limits raised; the others are Django
projects under granian with as many processes and threads: see benchmarks/peers/. All are asked by the same clients, for
the same accounts, one after the other in each round. CPU is user and system time of the server's whole process tree,
mails included, without the database, the mail server and the clients. `floor` is a bare view that inserts one row, and
`read` one that reads one. docs/benchmarks.md tells how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess  # nosec B404 # it runs our own modules
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks import clients, sites
from benchmarks.report import FOLDER, Report
from benchmarks.smtp_sink import Running as Sink
from benchmarks.smtp_sink import counting_sink, make_certificate
from harness.deployment import free_port, recipe, running, wait_until
from harness.smtp_server import environment as mailing_to
from harness.valkey import Valkey

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers"
WORKERS, THREADS, CLIENTS = 2, 8, 16
KNOWN = 2000
"""Accounts, which are asked for in turns."""
WARM_UP = 200
"""Requests before the clock counts: the first ones import, compile and fill caches."""
PATIENCE = 120.0
"""Seconds for the mails that are still due when the clients are done."""


@dataclass(frozen=True)
class Asked:
    """What a server is asked for, and what its answer must hold."""

    path: str
    body: str
    expected: bytes

    def __call__(self, number: int) -> bytes:
        body = self.body.replace("ADDRESS", sites.address(number % KNOWN)).replace("NUMBER", str(number % 1000 + 1))
        return clients.post(self.path, body.encode())


OURS_REQUEST = Asked(
    "/graphql/", json.dumps({"query": sites.REQUEST, "variables": {"email": "ADDRESS"}}), b'"requestId"'
)
PEER_REQUESTS = {
    "floor": Asked("/floor/", '{"email": "ADDRESS"}', b'"id"'),
    "article": Asked(
        "/article/", '{"query": "mutation { forgetPassword(email: \\"ADDRESS\\") }"}', b'"forgetPassword"'
    ),
    "djoser": Asked("/auth/users/reset_password/", '{"email": "ADDRESS"}', b" 204 "),
    "allauth": Asked("/_allauth/app/v1/auth/password/request", '{"email": "ADDRESS"}', b"password_reset_by_code"),
}
READ = Asked("/read/", '{"id": NUMBER}', b'"createdAt"')


@dataclass
class Server:
    """One that is running: its port, and the one process of it that has started the others."""

    port: int
    pid: int


@dataclass
class Line:
    """What one run found: answers and mails a second, milliseconds of CPU and of waiting for each request."""

    pace: float
    cpu: float
    median: float
    mails: float = 0.0


@dataclass
class Found:
    """The lines of a table by the name of who was asked, one for each round."""

    lines: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))

    def median(self, name: str, what: str) -> float:
        return float(statistics.median(getattr(line, what) for line in self.lines[name]))


@contextmanager
def ours(database: str, redis: str, mail: dict[str, str]) -> Iterator[Server]:
    """What `make serve` starts."""
    port = free_port()
    variables = {**sites.site_environment(port), "DATABASE_URL": database, "REDIS_URL": redis, **mail}
    variables |= {"LOG_LEVEL": "INFO", "THREADS": str(THREADS), "WORKERS": str(WORKERS)}
    with started(recipe(port, WORKERS)[-1], port, variables) as server:
        yield server


@contextmanager
def peer(name: str, database: str, mail: dict[str, str]) -> Iterator[Server]:
    """One of the others, under granian as well."""
    port = free_port()
    command = [str(PEERS / "bin" / "granian"), "--interface", "wsgi", "--http", "1", "--no-ws"]
    command += ["--port", str(port), "--workers", str(WORKERS), "--blocking-threads", str(THREADS)]
    variables = {**os.environ, "PEER": name, "DATABASE_URL": database, **mail}
    with started([*command, "benchmarks.peers.wsgi:application"], port, variables) as server:
        yield server


@contextmanager
def started(command: list[str], port: int, variables: dict[str, str]) -> Iterator[Server]:
    """Start a granian, and wait for all of its processes: one that still imports would count as busy."""
    with (
        tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder,
        running(command, port, variables, Path(folder, "server.log")) as server,
    ):
        wait_until(lambda: server.started == WORKERS)
        yield Server(port, server.process.pid)


def without_mail(server: Server, asked: Asked, seconds: float) -> Line:
    cpu = sites.cpu_milliseconds(server.pid)
    served = clients.ask(server.port, asked, asked.expected, clients=CLIENTS, seconds=seconds)
    cpu = sites.cpu_milliseconds(server.pid) - cpu
    return Line(served.pace, cpu / len(served.milliseconds), statistics.median(served.milliseconds))


def with_mail(server: Server, asked: Asked, sink: Sink, seconds: float) -> Line:
    """Ask for some seconds, count the mails of that time, and then wait for the others: CPU is of all of them."""
    before, cpu = sink.taken(), sites.cpu_milliseconds(server.pid)
    served = clients.ask(server.port, asked, asked.expected, clients=CLIENTS, seconds=seconds)
    in_time, requests = sink.taken() - before, len(served.milliseconds)
    wait_for(sink, before + requests)
    cpu = sites.cpu_milliseconds(server.pid) - cpu
    return Line(served.pace, cpu / requests, statistics.median(served.milliseconds), in_time / served.seconds)


def compare_requests(report: Report, databases: dict[str, str], redis: str, rounds: int, seconds: float) -> Found:
    """Requests and reads without any mail: what the API itself costs."""
    found = Found()
    nowhere = {**mailing_to(free_port()), "MAIL_DISPATCH": "none"}
    with ExitStack() as stack:
        floor = stack.enter_context(peer("floor", databases["floor"], nowhere))
        our = stack.enter_context(ours(databases["ours"], redis, nowhere))
        lines = {
            "floor": (floor, PEER_REQUESTS["floor"]),
            "read": (floor, READ),
            "request": (our, OURS_REQUEST),
            "status": (our, status_of(our)),
        }
        for server, asked in lines.values():
            clients.ask(server.port, asked, asked.expected, clients=CLIENTS, most=WARM_UP)
        for number in range(rounds):
            for name in lines if number % 2 else reversed(lines):
                found.lines[name].append(without_mail(*lines[name], seconds))
    report.table("without mail", "requests/s", "CPU ms", "p50 ms", "CPU ratio")
    for name, base in (("floor", "floor"), ("request", "floor"), ("read", "read"), ("status", "read")):
        ratio = found.median(name, "cpu") / found.median(base, "cpu")
        row(report, name, found, f"{ratio:.2f}", mails=False)
    return found


def compare_mails(
    report: Report,
    databases: dict[str, str],
    redis: str,
    certificate: Path | None,
    delay: float,
    rounds: int,
    seconds: float,
) -> Found:
    """Requests that mail, with a server at this many milliseconds a round trip."""
    found = Found()
    tls = {"EMAIL_USE_TLS": "1" if certificate else "0"}
    options = {"certificate": certificate} if certificate else {}
    for number in range(rounds):
        for name in databases if number % 2 else reversed(databases):
            if name == "floor":
                continue
            with counting_sink(delay, **options) as sink:
                mail = {**mailing_to(sink.port), **tls}
                asked = PEER_REQUESTS.get(name, OURS_REQUEST)
                start = ours(databases[name], redis, mail) if name == "ours" else peer(name, databases[name], mail)
                with start as server:
                    clients.ask(server.port, asked, asked.expected, clients=CLIENTS, most=WARM_UP // 4)
                    wait_for(sink, WARM_UP // 4)
                    found.lines[name].append(with_mail(server, asked, sink, seconds))
    how = f"{'STARTTLS' if certificate else 'in the clear'}, {delay:g} ms a round trip"
    report.table(how, "requests/s", "mails/s", "CPU ms", "p50 ms", "CPU/djoser", "mails/best")
    best = max(found.median(name, "mails") for name in found.lines if name != "ours")
    for name in databases:
        if name in found.lines:
            cpu = found.median(name, "cpu") / found.median("djoser", "cpu")
            row(report, name, found, f"{cpu:.2f}", f"{found.median(name, 'mails') / best:.2f}")
    return found


def wait_for(sink: Sink, mails: int) -> None:
    """Wait until the server has taken so many mails. Raises SystemExit if it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while (taken := sink.taken()) < mails:
        if time.monotonic() > deadline:
            raise SystemExit(f"{taken} mails of {mails}")
        time.sleep(0.05)


def row(report: Report, name: str, found: Found, *ratios: str, mails: bool = True) -> None:
    cells = [f"{found.median(name, 'pace'):.0f}", *([f"{found.median(name, 'mails'):.0f}"] if mails else [])]
    report.row(name, *cells, f"{found.median(name, 'cpu'):.2f}", f"{found.median(name, 'median'):.1f}", *ratios)


def status_of(server: Server) -> Asked:
    """The status of a reset that has just been requested, as a waiting page asks for it."""
    body = json.dumps({"query": sites.STATUS, "variables": {"id": sites.handle_of(server.port)}})
    return Asked("/graphql/", body, b'"createdAt"')


def databases_for(names: list[str]) -> dict[str, str]:
    """A database for each, with the same accounts."""
    url = os.environ["DATABASE_URL"]
    emails = [sites.address(number) for number in range(KNOWN)]
    found = {}
    for name in names:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "bench_{name}"')
            connection.execute(f'CREATE DATABASE "bench_{name}"')
        found[name] = url.replace("/postgres?", f"/bench_{name}?")
        if name == "ours":
            sites.prepare(found[name], emails)
            continue
        variables = {**os.environ, "PEER": name, "DATABASE_URL": found[name]}
        command = [str(PEERS / "bin" / "python"), "-m", "benchmarks.peers.prepare"]
        subprocess.run(command, cwd=ROOT, env=variables, input="\n".join(emails), text=True, check=True)  # nosec B603 # noqa: S603 (our own module)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is told")
    parser.add_argument("--seconds", type=float, default=5, help="of each line")
    parser.add_argument("--only", choices=("requests", "mails"), help="one half of it")
    parser.add_argument("--peers", default="floor,article,djoser,allauth", help="whom to compare with")
    parser.add_argument("--delays", default="clear,0,20,50", help="clear, or milliseconds a round trip over STARTTLS")
    options = parser.parse_args()
    if not (PEERS / "bin" / "granian").exists():
        sys.exit("The others are not installed: run `make bench`, which does it")
    report = Report("comparison")
    valkey = Valkey()
    valkey.start()
    with tempfile.TemporaryDirectory(prefix="recovery-benchmark-") as folder:
        certificate = make_certificate(Path(folder))
        os.environ["SSL_CERT_FILE"] = str(certificate)
        databases = databases_for([*options.peers.split(","), "ours"])
        results: dict[str, Found] = {}
        if options.only != "mails":
            results["without mail"] = compare_requests(report, databases, valkey.url, options.rounds, options.seconds)
        for delay in options.delays.split(",") if options.only != "requests" else ():
            tls = None if delay == "clear" else certificate
            milliseconds = 0.0 if delay == "clear" else float(delay)
            results[delay] = compare_mails(
                report, databases, valkey.url, tls, milliseconds, options.rounds, options.seconds
            )
    valkey.stop()
    kept = {
        name: {who: [vars(line) for line in lines] for who, lines in found.lines.items()}
        for name, found in results.items()
    }
    (FOLDER / "comparison.json").write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
