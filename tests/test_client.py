"""Whom a request is counted against: what proxies append is believed, and nothing that a client writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory

from accounts.recovery import client
from harness.deployment import HOST, REQUEST, site_in
from harness.valkey import Valkey

PEER = "10.1.1.1"


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> Iterator[None]:
    client._warn_of_proxies.cache_clear()
    yield
    client._warn_of_proxies.cache_clear()


def seen(header: str | None, peer: str = PEER) -> str:
    """Whom a request is taken to come from."""
    headers = {} if header is None else {"X-Forwarded-For": header}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)
    return client.client_address(request)


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("203.0.113.1", "203.0.113.1"),
        ("203.0.113.1:5678", "203.0.113.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("[::ffff:203.0.113.1]:80", "203.0.113.1"),
        ("64:ff9b::203.0.113.1", "203.0.113.1"),
        ("2002:cb00:7101::1", "203.0.113.1"),
        ("2002:cb00:7101:ffff:1:2:3:4", "203.0.113.1"),
        ("2001:0:c633:6401:8000:63bf:34ff:8efe", "203.0.113.1"),
        ("2001:0:c633:6402:0:1:34ff:8efe", "203.0.113.1"),
    ],
)
def test_an_entry_is_read_however_a_proxy_writes_it(settings: Any, entry: str, address: str) -> None:
    settings.TRUSTED_PROXIES = 1
    assert seen(f"6.6.6.6,  {entry} ") == address
    settings.TRUSTED_PROXIES = 0
    assert seen(None, peer=entry) == address


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        "unknown",
        "_hidden",
        "203.0.113",
        "203.0.113.1.5",
        "[",
        "[]:80",
        "1.2.3.4:port",
        "1.2.3.4\n5",
        "\0",
        "::g",
    ],
)
def test_an_entry_that_is_no_address_counts_as_the_peer(settings: Any, entry: str) -> None:
    settings.TRUSTED_PROXIES = 1
    assert seen(f"6.6.6.6, {entry}") == PEER


def test_what_a_client_puts_in_front_changes_nothing(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 2
    for spoofed in ("", "6.6.6.6, ", "6.6.6.6, 7.7.7.7, ", ", , ,", "x" * 4000 + ", "):
        assert seen(f"{spoofed}203.0.113.1, 10.0.0.7") == "203.0.113.1", spoofed


def test_with_fewer_entries_than_proxies_the_peer_counts(settings: Any) -> None:
    """Somebody came past a proxy. What is there may be made up; whom the server spoke with is not."""
    settings.TRUSTED_PROXIES = 3
    assert seen("203.0.113.1, 10.0.0.7") == PEER
    assert seen(None) == PEER


def test_a_peer_without_an_address_is_one_client(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 0
    assert seen(None, peer="") == "0.0.0.0"  # noqa: S104


def test_without_proxies_the_header_is_never_believed(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 0
    assert seen("203.0.113.1") == PEER


@pytest.mark.parametrize(("proxies", "header"), [(0, "203.0.113.1"), (2, "203.0.113.1"), (1, "nobody")])
def test_a_header_that_does_not_fit_the_configuration_is_told_once_and_not_repeated(
    settings: Any, caplog: pytest.LogCaptureFixture, proxies: int, header: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    for _ in range(3):
        seen(header)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"TRUSTED_PROXIES is {proxies}" in record.getMessage()
    assert header not in record.getMessage()


@pytest.mark.parametrize(("proxies", "header"), [(0, None), (1, None), (1, "203.0.113.1"), (1, "6.6.6.6, 203.0.113.1")])
def test_a_header_that_fits_is_no_news(
    settings: Any, caplog: pytest.LogCaptureFixture, proxies: int, header: str | None
) -> None:
    settings.TRUSTED_PROXIES = proxies
    seen(header)
    assert caplog.records == []


@pytest.mark.processes
def test_a_header_sent_twice_is_read_in_order_by_the_real_server_and_counted_over_its_workers(
    tmp_path: Path, prepared: Path, valkey: Valkey
) -> None:
    """A proxy may add a line of its own instead of appending to the client's; its word is the last one all the same."""
    strict = {"THROTTLE_REQUEST_PER_IP": "2/hour", "REDIS_URL": valkey.url, "TRUSTED_PROXIES": "1"}
    with site_in(tmp_path, prepared, **strict) as site, site.serving() as server:
        answers = [_request(server.port, spoofed=f"6.6.6.{number}", seen="203.0.113.7") for number in range(6)]
    assert ["requestId" in answer for answer in answers] == [True] * 2 + [False] * 4


def _request(port: int, spoofed: str, seen: str) -> str:
    """Ask for a reset with two lines of the header, as the client and as the proxy wrote them."""
    body = json.dumps({"query": REQUEST, "variables": {"input": {"email": f"user{spoofed}@example.com"}}}).encode()
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", "/graphql/", skip_host=True)
    lines = {"Host": HOST, "X-Forwarded-Proto": "https", "Content-Type": "application/json"}
    for name, value in (*lines.items(), ("Content-Length", str(len(body)))):
        connection.putheader(name, value)
    connection.putheader("X-Forwarded-For", spoofed)
    connection.putheader("X-Forwarded-For", seen)
    connection.endheaders(body)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer
