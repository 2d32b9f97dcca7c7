"""What live status costs, and whether a stranger with a stopwatch can tell by it who has an account.

    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.live
    .venv/bin/python -m harness.postgres .venv/bin/python -m benchmarks.live --streams 500 --pairs 50    # sooner

The production server as `make serve` starts it, one worker, on PostgreSQL. First so many streams are opened, each from
a client of its own; what the worker's memory has grown by is divided by their number, and its CPU is read while
nothing happens. Then resets of known and unknown addresses are watched, in random order, and a wrong code is sent for
each: timed is how long after the answer to that the stream tells of one try less, and how long after the request it
tells of SENT. AUC as in benchmarks/timing.py: 0.5 tells nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import defaultdict
from contextlib import suppress

import psutil

from benchmarks.auc import compare
from benchmarks.sites import HEADERS, Site, address, prepare, say, serving
from benchmarks.smtp_sink import sink
from benchmarks.timing import COLUMNS, Times, postgresql, row

WATCH = "subscription Watch($id: ID!) { passwordResetStatusChanged(requestId: $id) { status attemptsLeft } }"
QUIET_SECONDS = 10.0
HANDLES = 200
"""Resets that the idle streams share: many tabs watch one."""


async def open_stream(port: int, handle: str, client: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    body = json.dumps({"query": WATCH, "variables": {"id": handle}}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    headers = {**HEADERS, "Host": "127.0.0.1", "Accept": "text/event-stream", "X-Forwarded-For": client}
    lines = ["POST /graphql/ HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    await writer.drain()
    return reader, writer


async def event(reader: asyncio.StreamReader) -> dict[str, object]:
    """The next result that a stream tells of."""
    while True:
        line = await reader.readline()
        if not line:
            raise SystemExit("a stream ended")
        if line.startswith(b"data: {"):
            result = json.loads(line[6:])
            if "errors" in result:
                raise SystemExit(str(result))
            return dict(result["data"]["passwordResetStatusChanged"])


async def hold(port: int, worker: psutil.Process, handles: list[str], number: int) -> list[str]:
    """Open idle streams; what they cost."""
    streams = []
    before = worker.memory_info().rss
    began = time.perf_counter()
    for start in range(0, number, 100):
        some = range(start, min(start + 100, number))
        opened = await asyncio.gather(*(open_stream(port, handles[n % len(handles)], client_of(n)) for n in some))
        await asyncio.gather(*(event(reader) for reader, _ in opened))
        streams += opened
    took = time.perf_counter() - began
    worker.cpu_percent()
    await asyncio.sleep(QUIET_SECONDS)
    cpu, rss = worker.cpu_percent(), worker.memory_info().rss
    for _, writer in streams:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    await asyncio.sleep(2)
    return [
        f"{number} idle streams in one process: {(rss - before) / number / 1024:.1f} KiB each, {cpu:.1f} % of a core, "
        f"opened in {took:.1f} s; {(worker.memory_info().rss - before) / 1024 / 1024:.0f} MiB more once all are closed"
    ]


async def watch(site: Site, port: int, number: int, group: str, times: Times) -> None:
    began = time.perf_counter()
    handle, _ = await asyncio.to_thread(site.request, address(number))
    reader, writer = await open_stream(port, handle, client_of(number))
    while (await event(reader))["status"] != "SENT":
        pass
    times["SENT after the request"][group].append(1000 * (time.perf_counter() - began))
    await asyncio.sleep(random.random())  # noqa: S311  # nosec B311
    await asyncio.to_thread(site.guess, handle)
    began = time.perf_counter()
    while (await event(reader))["attemptsLeft"] != 4:
        pass
    times["a try less after a wrong code"][group].append(1000 * (time.perf_counter() - began))
    writer.close()


def client_of(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


async def measure(streams: int, pairs: int) -> None:
    groups = ["known", "unknown"] * pairs
    random.shuffle(groups)
    environment = {"DATABASE_URL": postgresql(), "TRUSTED_PROXIES": "1"}
    prepare(environment["DATABASE_URL"], [address(n) for n, group in enumerate(groups) if group == "known"])
    with sink(mail=20) as smtp_port, serving(environment, smtp_port, workers=1) as site:
        port = site.http.port
        worker = serving_process(port)
        handles = [site.request(address(-1 - n))[0] for n in range(HANDLES)]
        for _ in range(2 if streams else 0):
            say("\n".join(await hold(port, worker, handles, streams)))
        times: Times = defaultdict(lambda: defaultdict(list))
        for number, group in enumerate(groups):
            await watch(site, port, number, group, times)
    say("\n".join([COLUMNS, "|---|---|---|---|---|---|---|---|"]))
    for name, by_group in times.items():
        compared = compare(by_group["known"], by_group["unknown"])
        say(row(name, "known, unknown", compared, f"95th: {percentile(by_group['known']):.0f} ms"))


def percentile(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def serving_process(port: int) -> psutil.Process:
    """The one worker of the server at this port."""
    for process in psutil.process_iter(["cmdline"]):
        if f"--port {port}" in " ".join(process.info["cmdline"] or ()) and (children := process.children()):
            return max(children, key=lambda child: child.memory_info().rss)
    raise SystemExit("there is no server")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=3000)
    parser.add_argument("--pairs", type=int, default=150, help="known addresses, and unknown ones, to watch")
    options = parser.parse_args()
    asyncio.run(measure(options.streams, options.pairs))


if __name__ == "__main__":
    main()
