"""Limits: exact under a crowd, honest about the wait, and still there while Redis is not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import exceptions

from accounts.conf import parse_rate
from accounts.exceptions import RateLimited
from accounts.limits import counter, redis, rules
from accounts.limits.counter import FALLEN_BACK
from accounts.limits.memory import Memory
from accounts.limits.window import Window
from harness.deployment import free_port, wait_until
from harness.valkey import Valkey, answering
from tests.conftest import API, PostOffice

ADA, EVE = "198.51.100.1", "198.51.100.2"
CROWD = 32
HIT = Window("somebody", 3, 60)


def passes(check: Callable[..., Any], *arguments: str) -> bool:
    try:
        check(*arguments)
    except RateLimited:
        return False
    return True


def waits(check: Callable[..., object], *arguments: str) -> RateLimited:
    """The refusal of a check that must refuse."""
    with pytest.raises(RateLimited) as caught:
        check(*arguments)
    return caught.value


def crowd(call: Callable[[int], bool]) -> int:
    """How many of a crowd passed, all let go together."""
    gate = threading.Barrier(CROWD)

    def run(number: int) -> bool:
        gate.wait(timeout=30)
        return call(number)

    with ThreadPoolExecutor(CROWD) as pool:
        return sum(pool.map(run, range(CROWD)))


# --- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0/second", (0, 1)),
        ("60/minute", (60, 60)),
        ("20/hour", (20, 3600)),
        ("20/hours", (20, 3600)),
        ("5/10minutes", (5, 600)),
        ("10/2 hours", (10, 7200)),
        ("999999999/day", (999_999_999, 86_400)),
    ],
)
def test_a_rate_is_a_number_and_a_unit(text: str, rate: tuple[int, int]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "20", "/hour", "-1/hour", "1.5/hour", "20/Hour", "20 / hour", "20/0 hours", "9999999999/day"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 20/hour"):
        parse_rate(text)


# --- exact -----------------------------------------------------------------------------------------------------------


def test_of_a_crowd_of_one_client_exactly_its_limit_may_request(counting: str) -> None:
    assert crowd(lambda _: passes(rules.check_client_may_request, ADA)) == 20
    assert passes(rules.check_client_may_request, EVE)


def test_of_a_crowd_of_one_client_exactly_its_limit_may_check_secrets(counting: str, settings: Any) -> None:
    settings.THROTTLE_VERIFY_PER_IP = "7/hour"
    assert crowd(lambda _: passes(rules.check_client_may_verify, ADA)) == 7


def test_of_a_crowd_for_one_address_the_cooldown_lets_one_through(counting: str) -> None:
    assert crowd(lambda number: passes(rules.check_address_may_request, "digest", f"10.0.0.{number}")) == 1


def test_of_a_crowd_for_one_address_exactly_its_limit_passes(counting: str, settings: Any) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    assert crowd(lambda number: passes(rules.check_address_may_request, "digest", f"10.0.0.{number}")) == 5


def test_requests_and_resends_share_the_limit_of_the_address_also_side_by_side(counting: str, settings: Any) -> None:
    settings.PASSWORD_RESET_COOLDOWN = 0
    checks = (rules.check_address_may_request, rules.check_address_may_be_mailed)
    assert crowd(lambda number: passes(checks[number % 2], "digest", ADA)) == 5


def test_of_an_address_mails_one_is_left_to_requests(counting: str, settings: Any, later: Callable[..., None]) -> None:
    """A resend may be one that mails nobody; a request always brings the owner a link."""
    resend, request = rules.check_address_may_be_mailed, rules.check_address_may_request
    assert [passes(resend, "digest", ADA) for _ in range(5)] == [True] * 4 + [False]
    assert [passes(request, "digest", ADA) for _ in range(2)] == [True, False]
    later(minutes=1)
    assert "60 minutes" in str(waits(request, "digest", ADA).message)
    settings.THROTTLE_REQUEST_PER_EMAIL = "1/hour"
    assert [passes(resend, "other", ADA) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(("seconds", "told"), [(60, "1 minute,"), (119, "1 minute,"), (1980, "33 minutes,")])
def test_a_full_address_is_told_how_long_a_link_works(settings: Any, seconds: int, told: str) -> None:
    settings.PASSWORD_RESET_LINK_LIFETIME, settings.PASSWORD_RESET_COOLDOWN = seconds, 0
    settings.THROTTLE_REQUEST_PER_EMAIL = "1/minute"
    rules.check_address_may_request("digest", ADA)
    message = str(waits(rules.check_address_may_request, "digest", ADA).message)
    assert f"the link in the newest works for {told} unless" in message


def test_the_three_limits_do_not_count_for_each_other(counting: str, settings: Any) -> None:
    settings.THROTTLE_REQUEST_PER_IP = settings.THROTTLE_VERIFY_PER_IP = "1/hour"
    settings.THROTTLE_REQUEST_PER_EMAIL = "1/hour"
    assert passes(rules.check_client_may_request, ADA)
    assert passes(rules.check_client_may_verify, ADA)
    assert passes(rules.check_address_may_request, ADA, ADA)


# --- honest ----------------------------------------------------------------------------------------------------------


def test_whoever_waits_as_long_as_told_passes_and_not_a_second_sooner(
    counting: str, settings: Any, later: Callable[..., None]
) -> None:
    settings.THROTTLE_REQUEST_PER_IP = "3/hour"
    for seconds in (0, 100, 7.25):
        later(seconds=seconds)
        rules.check_client_may_request(ADA)
    for expected in (3493, 100, 7):
        refusal = waits(rules.check_client_may_request, ADA)
        assert refusal.retry_after == expected
        later(seconds=refusal.retry_after - 1)
        assert not passes(rules.check_client_may_request, ADA)
        later(seconds=1)
        assert passes(rules.check_client_may_request, ADA)


def test_asking_in_vain_puts_nothing_off(counting: str, later: Callable[..., None]) -> None:
    rules.check_address_may_request("digest", ADA)
    for _ in range(59):
        later(seconds=1)
        assert not passes(rules.check_address_may_request, "digest", ADA)
    later(seconds=1)
    assert passes(rules.check_address_may_request, "digest", ADA)


def test_a_full_address_does_not_spend_the_cooldown(counting: str, settings: Any, later: Callable[..., None]) -> None:
    """Or whoever came back just when told to would meet the cooldown of an earlier try."""
    settings.THROTTLE_REQUEST_PER_EMAIL = "1/hour"
    rules.check_address_may_request("digest", ADA)
    later(minutes=59, seconds=50)
    refusal = waits(rules.check_address_may_request, "digest", ADA)
    assert refusal.retry_after == 10
    assert "the link in the newest works for 60 minutes" in str(refusal.message)
    later(seconds=10)
    assert passes(rules.check_address_may_request, "digest", ADA)


def test_the_longest_of_several_waits_is_told_with_its_reason(
    counting: str, settings: Any, later: Callable[..., None]
) -> None:
    settings.THROTTLE_REQUEST_PER_EMAIL, settings.THROTTLE_REQUEST_PER_IP = "1/hour", "2/day"
    rules.check_address_may_request("digest", ADA)
    assert waits(rules.check_address_may_request, "digest", ADA).retry_after == 3600
    for _ in range(2):
        rules.check_client_may_request(ADA)
    refusal = waits(rules.check_address_may_request, "digest", ADA)
    assert (refusal.retry_after, str(refusal.message).split(".")[0]) == (
        86_400,
        "Too many requests from your network",
    )


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_a_client_is_told_the_same_for_known_and_unknown(
    api: API, user: Any, later: Callable[..., None], email: str
) -> None:
    told = []
    for _ in range(7):
        answer = api.mutate("requestPasswordReset", email=email)
        told.append((answer["__typename"], answer.get("retryAfter"), answer.get("message")))
        later(seconds=answer.get("retryAfter", 20.5))
    words = "An email for this address was requested a moment ago and may already be on its way."
    cooling = ("RateLimitedError", 40, f"{words} You can request another in 40 seconds.")
    fine = ("RequestPasswordResetSuccess", None, None)
    assert told == [fine, cooling, fine, cooling, fine, cooling, fine]


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_a_resend_too_soon_is_told_to_wait_for_all_that_stands_in_its_way(
    api: API, user: Any, settings: Any, later: Callable[..., None], email: str
) -> None:
    settings.THROTTLE_REQUEST_PER_EMAIL = "1/minute"
    settings.PASSWORD_RESET_COOLDOWN = 20
    handle = api.request(email)["requestId"]
    PostOffice().deliver()
    later(seconds=10)
    answer = api.mutate("resendPasswordResetCode", requestId=handle)
    assert (answer["__typename"], answer["retryAfter"]) == ("RateLimitedError", 50)
    assert answer["message"].endswith("may already be on its way. You can request another in 50 seconds.")
    later(seconds=50)
    assert api.mutate("resendPasswordResetCode", requestId=handle)["__typename"] == "ResendPasswordResetCodeSuccess"


def test_a_lowered_limit_holds_at_once_and_tells_an_honest_wait(
    counting: str, settings: Any, later: Callable[..., None]
) -> None:
    for _ in range(4):
        rules.check_client_may_request(ADA)
        later(seconds=100)
    settings.THROTTLE_REQUEST_PER_IP = "2/hour"
    refusal = waits(rules.check_client_may_request, ADA)
    assert refusal.retry_after == 3600 - 200
    later(seconds=refusal.retry_after)
    assert passes(rules.check_client_may_request, ADA)


def test_a_limit_of_none_refuses(counting: str, settings: Any) -> None:
    settings.THROTTLE_REQUEST_PER_IP = "0/hour"
    assert waits(rules.check_client_may_request, ADA).retry_after == 3600


def test_a_refused_request_still_counts_for_its_client(api: API, settings: Any) -> None:
    """Or the cooldowns of others could be asked about for nothing, without an end."""
    settings.THROTTLE_REQUEST_PER_IP = "2/hour"
    api.request()
    messages = [api.mutate("requestPasswordReset", email="ada@example.com")["message"] for _ in range(2)]
    assert messages[1] == "Too many requests from your network. Please wait a little."


# --- the networks of IPv6 ---------------------------------------------------------------------------------------------


def ipv6(site: int, network: int, host: int = 1) -> str:
    return f"2001:db8:{site:x}:{network:x}::{host:x}"


@pytest.mark.parametrize("check", [rules.check_client_may_request, rules.check_client_may_verify])
def test_every_limit_of_a_client_counts_the_networks_of_ipv6(
    counting: str, settings: Any, check: Callable[[str], object]
) -> None:
    settings.THROTTLE_REQUEST_PER_IP = settings.THROTTLE_VERIFY_PER_IP = "2/hour"
    assert sum(passes(check, ipv6(1, 0x100, host)) for host in range(1, 9)) == 2
    assert sum(passes(check, ipv6(1, network)) for network in range(0x100, 0x200)) == 6 - 2
    assert sum(passes(check, ipv6(1, network)) for network in range(0x200, 0x10000, 0x80)) == 20 - 6
    assert sum(passes(check, ipv6(2, network)) for network in range(0, 0x10000, 0x80)) == 20


def test_of_a_crowd_of_one_ipv6_site_exactly_its_limit_may_request(counting: str, settings: Any) -> None:
    settings.THROTTLE_REQUEST_PER_IP = "2/hour"
    assert crowd(lambda number: passes(rules.check_client_may_request, ipv6(1, number << 8))) == 20


def test_what_a_wider_network_refuses_is_not_counted_in_the_narrower_ones(
    counting: str, settings: Any, later: Callable[..., None]
) -> None:
    settings.THROTTLE_REQUEST_PER_IP = "1/hour"
    for network in range(3):
        rules.check_client_may_request(ipv6(1, network))
        later(minutes=10)
    assert waits(rules.check_client_may_request, ipv6(1, 3)).retry_after == 30 * 60
    later(minutes=30)
    assert passes(rules.check_client_may_request, ipv6(1, 3))


@pytest.mark.parametrize("addresses", [[ADA] * 20, [ipv6(1, 0, host) for host in range(20)]], ids=["IPv4", "IPv6"])
def test_a_requests_rank_is_how_many_its_client_has_made(counting: str, addresses: list[str]) -> None:
    assert [rules.check_client_may_request(address) for address in addresses] == list(range(1, 21))


def test_the_rank_in_a_wider_network_grows_as_slowly_as_its_limit_is_wide(
    counting: str, later: Callable[..., None]
) -> None:
    of_56 = [rules.check_client_may_request(ipv6(1, network)) for network in range(9)]
    assert of_56 == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    of_48 = [rules.check_client_may_request(ipv6(2, network << 8)) for network in range(21)]
    assert of_48 == [1] * 10 + [2] * 10 + [3]
    later(hours=1)
    assert rules.check_client_may_request(ipv6(1, 0)) == 1


def test_all_the_networks_of_one_site_leave_a_bounded_number_of_keys(
    counting: str, request: pytest.FixtureRequest
) -> None:
    step = 1 if counting == "memory" else 7  # all of them, where they need no server
    assert sum(passes(rules.check_client_may_request, ipv6(1, network)) for network in range(0, 65_536, step)) == 200
    keys = len(request.getfixturevalue("valkey").client().keys()) if counting == "valkey" else len(counter._memory)
    assert keys <= 200 + 200 + 1


# --- in memory -------------------------------------------------------------------------------------------------------


class Interrupted(Window):
    """One in the midst of whose counting another thread always gets its turn."""

    @property
    def seconds(self) -> int:
        time.sleep(0)
        return 60


def test_memory_is_exact_even_where_threads_come_in_between() -> None:
    memory, window = Memory(), Interrupted("somebody", 3, 60)
    assert crowd(lambda _: bool(memory.take([window], 1, now=1.0)[0].count)) == 3


def test_memory_forgets_what_is_over() -> None:
    memory = Memory()
    for number in range(1000):
        memory.take([Window(str(number), 1, 60)], 1, now=0.0)
    for number in range(1000):
        memory.take([Window("one", 1, 60)], 1, now=61.0 + number)
    assert len(memory) <= 2


def test_memory_forgets_faster_than_clients_of_many_networks_can_fill_it() -> None:
    memory = Memory()
    for number in range(3000):
        memory.take([Window(f"{kind}{number}", 1, 60) for kind in range(3)], 1, now=float(number))
    assert len(memory) <= 2 * 3 * 60


def test_memory_keeps_what_is_not_over() -> None:
    memory = Memory()
    for number in range(100):
        assert memory.take([Window(str(number), 1, 60)], 1, now=0.0)[0].count == 1
    for number in range(100):
        assert memory.take([Window(str(number), 1, 60)], 1, now=59.0)[0].count == 0


def test_what_is_refused_leaves_no_trace_in_memory() -> None:
    memory = Memory()
    memory.take([Window("a", 1, 60)], 1, now=0.0)
    memory.take([Window("a", 1, 60), Window("b", 1, 60)], 1, now=0.0)
    assert len(memory) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_held_by_another_thread_does_not_stop_a_forked_child() -> None:
    with counter._memory._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if passes(rules.check_client_may_request, ADA) else 1)
        assert os.waitpid(child, 0)[1] == 0


# --- in Redis --------------------------------------------------------------------------------------------------------


def test_counts_in_redis_outlive_the_process_and_end_by_themselves(valkey: Valkey) -> None:
    rules.check_address_may_request("digest", ADA)
    rules.reset()
    assert not passes(rules.check_address_may_request, "digest", ADA)
    client = valkey.client()
    keys = sorted(client.keys())
    assert keys == [b"{recovery}:address:digest", b"{recovery}:cooldown:digest"]
    assert [client.ttl(key) for key in keys] == [3600, 60]


def test_redis_keeps_no_more_entries_than_the_limit(valkey: Valkey, later: Callable[..., None]) -> None:
    for _ in range(50):
        passes(rules.check_address_may_be_mailed, "digest", ADA)
        later(minutes=5)
    assert valkey.client().llen("{recovery}:address:digest") <= 5


# --- without Redis ---------------------------------------------------------------------------------------------------


@pytest.fixture
def own_valkey(settings: Any) -> Iterator[Valkey]:
    """One that a test may stop."""
    server = Valkey()
    server.start()
    settings.REDIS_URL = server.url
    yield server
    server.stop()


@pytest.fixture
def probing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause until Redis is asked again is over at once; it goes by a clock that no test moves."""
    monkeypatch.setattr(counter, "PROBE_SECONDS", 0.0)


def changes(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [record.getMessage() for record in caplog.records if record.name == counter.__name__]
    return [message.split(":")[0].split(" (")[0] for message in ours]


def hits(number: int) -> int:
    return sum(counter.take([HIT]).count for _ in range(number))


def test_a_redis_that_dies_and_comes_back_is_told_once_each(
    own_valkey: Valkey, probing_at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert hits(2) == 2
    assert counter.backend_in_use() == "redis"
    own_valkey.stop()
    assert hits(10) == HIT.most, "counted by this process, from nothing"
    assert counter.backend_in_use() == FALLEN_BACK
    own_valkey.start()
    assert hits(10) == HIT.most, "counted by the new server, from nothing"
    assert counter.backend_in_use() == "redis"
    assert changes(caplog) == ["Redis does not answer", "Redis answers again"]


def test_a_redis_that_was_restarted_in_between_is_no_failure(
    own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    hits(1)
    own_valkey.stop()
    own_valkey.start()
    assert hits(10) == HIT.most
    assert counter.backend_in_use() == "redis"
    assert changes(caplog) == []


def test_a_redis_that_is_down_is_not_asked_again_before_its_time(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_valkey.stop()
    hits(1)
    own_valkey.start()
    asked: list[str] = []
    monkeypatch.setattr(counter, "_redis", asked.append)
    now = time.monotonic()
    hits(5)
    assert counter.backend_in_use() == FALLEN_BACK
    assert asked == []
    monkeypatch.setattr(time, "monotonic", lambda: now + counter.PROBE_SECONDS)
    hits(5)
    assert len(asked) == 1


def test_a_crowd_that_meets_a_dead_redis_gets_exactly_the_limit_and_one_line(
    own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    own_valkey.stop()
    assert crowd(lambda _: bool(counter.take([HIT]).count)) == HIT.most
    assert changes(caplog) == ["Redis does not answer"]


def test_an_answer_that_was_under_way_when_redis_died_is_no_recovery(caplog: pytest.LogCaptureFixture) -> None:
    breaker = counter.Breaker()
    closed = []
    for error, was_closed in ((ConnectionError(), True), (None, True), (None, False)):
        breaker.note(error, was_closed=was_closed)
        closed.append(breaker.is_closed)
    assert closed == [False, False, True]
    assert changes(caplog) == ["Redis does not answer", "Redis answers again"]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"-NOAUTH Authentication required.\r\n",
        b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-MISCONF Redis is configured to save RDB snapshots\r\n",
        b"-ERR max number of clients reached\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n" * 9,
        b"$100\r\nhalf an ans",
        b"\xff\xfe\x00",
    ],
)
def test_whatever_else_answers_in_its_place_memory_counts(
    settings: Any, probing_at_once: None, answer: bytes | None
) -> None:
    with pytest.MonkeyPatch.context() as quick, answering(answer) as url:
        quick.setattr(redis, "TIMEOUT_SECONDS", 0.05)
        settings.REDIS_URL = url
        assert hits(6) == HIT.most
        assert counter.backend_in_use() == FALLEN_BACK


def test_a_silent_redis_holds_up_one_call_and_no_other(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(None) as url:
        settings.REDIS_URL = url
        hits(1)
        monkeypatch.setattr(counter, "_redis", lambda _: pytest.fail("asked again"))
        assert hits(10) == HIT.most - 1


@pytest.mark.parametrize("url", ["redis://no-such-host.invalid:6379/0", "redis://127.0.0.1:1/0", "unix:///nowhere"])
def test_a_redis_that_is_not_there_is_no_error(settings: Any, url: str) -> None:
    settings.REDIS_URL = url
    assert hits(6) == HIT.most


@pytest.fixture
def cluster() -> Iterator[list[Valkey]]:
    """Two nodes of a Redis Cluster, of which the second has all keys."""
    nodes = [Valkey(**{"cluster-enabled": "yes", "cluster-port": free_port()}) for _ in range(2)]
    for node in nodes:
        node.start()
    _, second = (node.client() for node in nodes)
    second.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    second.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].config["cluster-port"])
    wait_until(lambda: all(is_up(node) for node in nodes))
    yield nodes
    for node in nodes:
        node.stop()


def is_up(node: Valkey) -> bool:
    return b"cluster_state:ok" in node.client().execute_command("CLUSTER", "INFO")


def test_in_a_cluster_all_keys_are_at_one_node_which_is_found(cluster: list[Valkey]) -> None:
    first, second = cluster
    counted = redis.RedisCounter(first.url)
    windows = [Window("cooldown:digest", 1, 60), Window("address:digest", 5, 3600)]
    taken = counted.take(windows, 1, 1000.0)
    assert taken[0].count == 1
    counted.give_back(windows, 1000.0, 1)
    assert counted.take(windows, 1, 1001.0)[0].count == 1
    assert counted.take(windows, 1, 1002.0)[0].count == 0
    counted.check()
    assert second.client().llen("{recovery}:cooldown:digest") == 1


def test_when_the_node_with_the_keys_dies_the_one_in_the_url_is_asked_again(cluster: list[Valkey]) -> None:
    first, second = cluster
    counted = redis.RedisCounter(first.url)
    counted.check()
    second.stop()
    with pytest.raises(exceptions.ConnectionError):
        counted.check()
    # What a failover does: another node has the keys now.
    first.client().execute_command("CLUSTER", "RESET", "SOFT")
    first.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: is_up(first))
    counted.check()
    assert counted.take([Window("address:digest", 5, 3600)], 1, 1000.0)[0].count == 1


def test_a_redis_that_wants_a_password_is_no_error(own_valkey: Valkey) -> None:
    own_valkey.client().config_set("requirepass", "hunter2")
    assert hits(6) == HIT.most
    assert counter.backend_in_use() == FALLEN_BACK


def test_a_full_redis_and_a_read_only_one_are_taken_for_down_until_they_can_write(
    own_valkey: Valkey, probing_at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    client = own_valkey.client()
    hits(5)
    for sick, cured in (
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    ):
        client.execute_command(*sick)
        caplog.clear()
        counter.take([Window(f"other {sick}", 3, 60)])
        # What is full already is refused without a write; that must not be taken for a recovery.
        hits(6)
        assert counter.backend_in_use() == FALLEN_BACK
        client.execute_command(*cured)
        assert counter.backend_in_use() == "redis"
        assert changes(caplog) == ["Redis does not answer", "Redis answers again"]


def test_a_request_is_served_and_limited_while_redis_is_down(
    api: API, settings: Any, own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    settings.THROTTLE_REQUEST_PER_IP = "3/hour"
    own_valkey.stop()
    kinds = [api.mutate("requestPasswordReset", email=f"user{number}@example.com")["__typename"] for number in range(5)]
    assert kinds == ["RequestPasswordResetSuccess"] * 3 + ["RateLimitedError"] * 2
    assert changes(caplog) == ["Redis does not answer"]
    assert str(own_valkey.port) not in caplog.text
