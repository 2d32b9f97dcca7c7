"""Live status: what a subscription tells of, when it ends, and what bounds it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import requests
from django.db import OperationalError, connections
from django.test import AsyncClient
from django.utils import timezone

from accounts.api import streams
from accounts.exceptions import RateLimited
from accounts.models import ForgetPassword, GuessBudget
from accounts.records import WATCHED, watched
from accounts.recovery import live, verbs
from accounts.recovery.client import Client as Asker
from harness.deployment import PROXIED, REQUEST, VERIFY, Running, Site, ask, site_in, wait_until
from tests.conftest import API, PostOffice

WATCH = "subscription W($id: ID!) { passwordResetStatusChanged(requestId: $id) { status attemptsLeft } }"
IP = "192.0.2.1"


@pytest.fixture(scope="module", autouse=True)
def threads_let_go() -> Iterator[None]:
    """At the end the threads of live status close their connections, so that the test database can be dropped."""
    yield
    for pool in (live._beginning, live._looking):
        together = threading.Barrier(len(pool._threads) or 1)

        def let_go(together: threading.Barrier = together) -> None:
            together.wait(30)
            connections.close_all()

        wait([pool.submit(let_go) for _ in range(len(pool._threads))], 30)


def told(text: str) -> list[Any]:
    """What the events of a stream say; `complete` where it says that it is over."""
    blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if block.startswith("event: ")]
    parts = [dict(line.split(": ", 1) for line in block.split("\n") if ": " in line) for block in blocks]
    return [json.loads(each["data"]) if each["event"] == "next" else each["event"] for each in parts]


def shown(event: Any) -> tuple[str, int]:
    reset = event["data"]["passwordResetStatusChanged"]
    return reset["status"], reset["attemptsLeft"]


# --- The watchers of a process ---------------------------------------------------------------------------------------


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch, clock: Any) -> None:
    """No look but those that a test makes."""
    monkeypatch.setattr(live, "TICK", 3600.0)


def watch(record: ForgetPassword, *steps: Callable[[], object]) -> list[Any]:
    """What a watcher is told: at the beginning, and where there is news after each step."""
    seen: list[Any] = []

    async def note() -> None:
        async for changed in live.changes(record, IP):
            now = timezone.now()
            left = verbs.attempts_left(changed, now)
            seen.append((str(changed.status(left, now)), left))
        seen.append("over")

    async def look(rows: Any) -> None:
        watchers = live.Watchers.of_this_loop()
        watchers.look(rows, watchers.watching())
        for _ in range(3):
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    noting = loop.create_task(note())
    for step in (lambda: None, *steps):
        loop.run_until_complete(asyncio.sleep(0))
        step()
        loop.run_until_complete(look(watched([record.pk])))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.wait({noting}))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    return seen


def update(record: ForgetPassword, **values: Any) -> Callable[[], object]:
    return lambda: ForgetPassword.objects.filter(pk=record.pk).update(**values)


@pytest.fixture
def asked(api: API, by_hand: None) -> ForgetPassword:
    """A reset that nobody has looked at yet, as the subscription reads it."""
    record = verbs.status(api.request("nobody@example.com")["requestId"], Asker(IP))
    assert record
    return record


def test_each_change_is_told_once(asked: ForgetPassword, post: PostOffice, api: API) -> None:
    wrong = lambda: api.verify(asked.handle, "000000")  # noqa: E731
    cancel = lambda: api.mutate("cancelPasswordReset", requestId=asked.handle)  # noqa: E731
    seen = watch(asked, lambda: None, post.deliver, lambda: None, wrong, lambda: None, cancel, lambda: None)
    assert seen == [("QUEUED", 5), ("SENT", 5), ("SENT", 4), ("CANCELLED", 4), "over"]


def test_known_and_unknown_are_told_the_same_by_the_same_statement(
    api: API, post: PostOffice, user: Any, by_hand: None, django_assert_num_queries: Any
) -> None:
    seen = []
    for email in ("ada@example.com", "nobody@example.com"):
        record = verbs.status(api.request(email)["requestId"], Asker(IP))
        assert record
        with django_assert_num_queries(1):
            rows = watched([record.pk])
        assert len(rows[0]) == 1 + len(WATCHED) + 3
        seen.append(watch(record, post.deliver, partial(api.verify, record.handle, "000000")))
    assert seen[0] == seen[1] == [("QUEUED", 5), ("SENT", 5), ("SENT", 4)]


def test_what_the_clock_changes_is_told_as_well(asked: ForgetPassword, post: PostOffice, later: Any) -> None:
    seen = watch(asked, post.deliver, lambda: later(minutes=9), lambda: later(minutes=2))
    assert seen == [("QUEUED", 5), ("SENT", 5), ("EXPIRED", 5)]


def test_the_guesses_of_another_reset_of_the_address_are_told(asked: ForgetPassword, post: PostOffice) -> None:
    day = timezone.now().date()
    guess = lambda: GuessBudget.objects.create(email_digest=asked.email_digest, day=day, used_today=8)  # noqa: E731
    assert watch(asked, post.deliver, guess) == [("QUEUED", 5), ("SENT", 5), ("SENT", 2)]


def test_a_completed_reset_is_the_last_that_is_told(asked: ForgetPassword) -> None:
    now = timezone.now()
    facts = {"looked_at": now, "sent_at": now, "completed_at": now, "is_user_password_updated": True}
    done = update(asked, state="COMPLETED", mail_due="", mail_next_at=None, mail_turn_at=None, **facts)
    assert watch(asked, done) == [("QUEUED", 5), ("COMPLETED", 5), "over"]


def test_a_reset_that_was_erased_is_over(asked: ForgetPassword) -> None:
    assert watch(asked, ForgetPassword.objects.all().delete) == [("QUEUED", 5), ("QUEUED", 5), "over"]


def test_all_watchers_are_served_by_one_statement_a_tick(
    api: API, by_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[Any, ...]] = []

    def look(pks: tuple[Any, ...]) -> list[Any]:
        looks.append(pks)
        return []

    monkeypatch.setattr(live, "TICK", 0.0)
    monkeypatch.setattr(live, "watched", look)
    records = [verbs.status(api.request(f"n{n}@example.com")["requestId"], Asker(IP)) for n in range(3)]

    async def hold() -> None:
        changes = [live.changes(record, f"192.0.2.{n}") for n, record in enumerate(records) for _ in range(2) if record]
        for each in changes:
            await anext(each)
        while not looks:
            await asyncio.sleep(0)
        for each in changes:
            await each.aclose()  # type: ignore[attr-defined]

    asyncio.run(hold())
    assert {len(pks) for pks in looks} == {3}


def test_a_database_that_is_away_ends_nothing(
    asked: ForgetPassword, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    answers: list[Any] = [OperationalError("hunter2"), OperationalError("hunter2"), None]

    def look(pks: Any) -> Any:
        if answers and (answer := answers.pop(0)):
            raise answer
        return [(asked.pk, "CANCELLED", 0, 0, False, None, None, None, asked.mail_asked_at, None, None, None)]

    monkeypatch.setattr(live, "TICK", 0.0)
    monkeypatch.setattr(live, "watched", look)

    async def hold() -> list[str]:
        return [str(record.state) async for record in live.changes(asked, IP)]

    assert asyncio.run(hold()) == ["QUEUED", "CANCELLED"]
    assert [each.getMessage() for each in caplog.records if "cannot look" in each.getMessage()] == [
        "live status cannot look: OperationalError"
    ]


@pytest.mark.parametrize(
    ("clients", "most"),
    [
        (lambda _: IP, live.MOST_PER_CLIENT),
        (lambda n: f"2001:db8::{n:x}", live.MOST_PER_CLIENT),
        (lambda n: f"10.0.{n >> 8}.{n & 255}", 40),
    ],
)
def test_there_is_room_for_so_many(
    asked: ForgetPassword, monkeypatch: pytest.MonkeyPatch, clients: Callable[[int], str], most: int
) -> None:
    monkeypatch.setattr(live, "MOST", 40)

    async def fill() -> None:
        watchers = live.Watchers()
        held = [watchers.enter(asked, clients(n)) for n in range(most)]
        with pytest.raises(RateLimited):
            watchers.enter(asked, clients(most))
        watchers.leave(held[0], clients(0))
        watchers.enter(asked, clients(0))

    asyncio.run(fill())


def test_who_comes_while_the_database_is_asked_is_not_told_that_it_is_over(
    asked: ForgetPassword, api: API, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = verbs.status(api.request("late@example.com")["requestId"], Asker(IP))
    assert other
    looks: list[Any] = []

    async def hold() -> bool:
        loop, waiting = asyncio.get_running_loop(), []
        first, second = live.changes(asked, IP), live.changes(other, IP)

        async def come() -> None:
            await anext(second)
            waiting.append(asyncio.ensure_future(anext(second, "over")))
            await asyncio.sleep(0)

        def look(pks: Any) -> Any:
            if not looks:
                asyncio.run_coroutine_threadsafe(come(), loop).result(5)
            looks.append(pks)
            return [(pk, "QUEUED", 0, 0, False, None, None, None, other.mail_asked_at, None, None, None) for pk in pks]

        monkeypatch.setattr(live, "TICK", 0.0)
        monkeypatch.setattr(live, "close_old_connections", lambda: None)
        monkeypatch.setattr(live, "watched", look)
        await anext(first)
        while len(looks) < 3:
            await asyncio.sleep(0.01)
        told = bool(waiting[0].done())
        waiting[0].cancel()
        await asyncio.wait(waiting)
        await first.aclose()  # type: ignore[attr-defined]
        return told

    assert asyncio.run(hold()) is False
    assert (len(looks[0]), len(looks[1])) == (1, 2)


def test_few_may_wait_for_their_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "close_old_connections", lambda: None)
    gate = threading.Event()

    async def crowd() -> list[Any]:
        calls = [asyncio.create_task(live.begin(lambda: gate.wait(10))) for _ in range(live.MOST_BEGINNERS + 5)]
        await asyncio.sleep(0.05)
        refused = [call.exception() for call in calls if call.done()]
        gate.set()
        await asyncio.wait(calls)
        return refused

    refused = asyncio.run(crowd())
    assert len(refused) == 5
    assert all(isinstance(each, RateLimited) for each in refused)
    assert live._beginners == 0


def test_an_ipv6_customer_cannot_take_all_the_room(asked: ForgetPassword) -> None:
    async def fill() -> int:
        watchers = live.Watchers()
        for taken in range(live.MOST):
            try:
                watchers.enter(asked, f"2001:db8:0:{taken % 256:x}::1")
            except RateLimited:
                return taken
        return live.MOST

    assert asyncio.run(fill()) == 3 * live.MOST_PER_CLIENT


@pytest.mark.parametrize("language", ["de", "en"])
def test_a_refusal_is_in_the_language_of_the_request_and_logged_with_its_id(
    api: API, settings: Any, caplog: Any, language: str, transactional_db: None
) -> None:
    settings.DEBUG = True
    settings.THROTTLE_STATUS_PER_HANDLE = "1/hour"
    handle = api.request()["requestId"]
    api.status(handle)
    body = {"query": WATCH, "variables": {"id": handle}}
    answer = api.post(body, accept="text/event-stream", **{"accept-language": language})
    event, _ = told(b"".join(answer.streaming_content).decode())
    assert ("Too" in event["errors"][0]["message"] or "You" in event["errors"][0]["message"]) is (language == "en")
    line = next(each for each in caplog.records if "passwordResetStatusChanged" in str(each.msg))
    assert line.levelname == "WARNING"


# --- Over HTTP -------------------------------------------------------------------------------------------------------


def test_what_is_no_stream_is_refused_in_plain_words(api: API, asked: ForgetPassword) -> None:
    body = {"query": WATCH, "variables": {"id": asked.handle}}
    plain = api.post(body)
    assert (plain.status_code, plain.json()["errors"][0]["message"]) == (
        406,
        "A subscription is answered as text/event-stream (GraphQL over SSE).",
    )
    nowhere = api.post(body, accept="text/event-stream")
    assert nowhere.status_code == 406
    assert "ask for passwordResetStatus" in nowhere.json()["errors"][0]["message"]
    in_the_url = api.http.get("/graphql/", {"query": WATCH}, headers={"accept": "text/event-stream"})
    assert in_the_url.status_code == 405


def test_an_operation_with_one_result_is_told_as_events_as_well(api: API, db: None) -> None:
    answer = api.post({"query": "{ passwordPolicy { codeLength } }"}, accept="text/event-stream")
    assert answer["Content-Type"].startswith("text/event-stream")
    assert told(answer.text) == [{"data": {"passwordPolicy": {"codeLength": 6}}}, "complete"]


def test_a_document_that_is_not_valid_is_a_400_in_json(api: API, db: None) -> None:
    answer = api.post({"query": "subscription { nothing }"}, accept="text/event-stream")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/graphql-response+json; charset=utf-8")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "TICK", 0.02)


@pytest.mark.django_db(transaction=True)
def test_under_a_server_of_threads_development_has_it(api: API, settings: Any, quick: None) -> None:
    settings.DEBUG = True
    handle = api.request()["requestId"]
    answer = api.post({"query": WATCH, "variables": {"id": handle}}, accept="text/event-stream")
    chunks = iter(answer.streaming_content)
    assert shown(*told(next(chunks).decode())) == ("QUEUED", 5)
    api.mutate("cancelPasswordReset", requestId=handle)
    rest = b"".join(chunks).decode()
    assert shown(told(rest)[0]) == ("CANCELLED", 5)
    assert told(rest)[1:] == ["complete"]
    assert (answer["Cache-Control"], answer["X-Accel-Buffering"]) == ("no-store, no-transform", "no")


@pytest.mark.django_db(transaction=True)
def test_under_djangos_own_asynchronous_handler_it_works_too(api: API, quick: None) -> None:
    handle = api.request()["requestId"]
    api.mutate("cancelPasswordReset", requestId=handle)

    async def read() -> str:
        body = json.dumps({"query": WATCH, "variables": {"id": handle}})
        answer: Any = await AsyncClient().post(
            "/graphql/", body, content_type="application/json", headers={"accept": "text/event-stream"}
        )
        return b"".join([chunk async for chunk in answer.streaming_content]).decode()

    events = told(asyncio.run(read()))
    assert [shown(events[0]), events[1]] == [("CANCELLED", 5), "complete"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("language", "words"), [("en", "There is no such reset"), ("de", "gibt es nicht")])
def test_a_handle_that_was_never_issued_is_told_so_in_ones_language(
    api: API, settings: Any, language: str, words: str
) -> None:
    settings.DEBUG = True
    body = {"query": WATCH, "variables": {"id": "A" * 43}}
    answer = api.post(body, accept="text/event-stream", **{"accept-language": language})
    event, end = told(b"".join(answer.streaming_content).decode())
    assert event["errors"][0]["extensions"] == {"code": "UNKNOWN_REQUEST"}
    assert words in event["errors"][0]["message"]
    assert end == "complete"


@pytest.mark.django_db(transaction=True)
def test_asking_for_streams_too_often_is_told_as_asking_for_the_status_is(api: API, settings: Any) -> None:
    settings.DEBUG = True
    settings.THROTTLE_STATUS_PER_HANDLE = "1/hour"
    handle = api.request()["requestId"]
    api.status(handle)
    answer = api.post({"query": WATCH, "variables": {"id": handle}}, accept="text/event-stream")
    event, _ = told(b"".join(answer.streaming_content).decode())
    assert event["errors"][0]["extensions"]["code"] == "RATE_LIMITED"
    assert event["errors"][0]["extensions"]["retryAfter"] > 0


def test_a_stream_says_now_and_then_that_it_lives_and_ends_without_a_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.01)
    monkeypatch.setattr(streams, "LIFE", 0.05)

    async def silent() -> Any:
        yield b"event: next"
        await asyncio.get_running_loop().create_future()

    async def read() -> list[bytes]:
        return [chunk async for chunk in streams._beating(silent())]

    first, *beats = asyncio.run(read())
    assert first == b"event: next"
    assert set(beats) == {b": still here\r\n\r\n"}


# --- Under the production server -------------------------------------------------------------------------------------

processes = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Any, prepared: Any) -> Iterator[Site]:
    with site_in(tmp_path, prepared) as site:
        yield site


class Stream:
    """A stream of a running server, read by a thread."""

    def __init__(self, server: Running, handle: str) -> None:
        headers = {**PROXIED, "Accept": "text/event-stream"}
        body = {"query": WATCH, "variables": {"id": handle}}
        self.answer = requests.post(f"{server.url}/graphql/", json=body, headers=headers, stream=True, timeout=30)
        self.text = ""
        self.reading = threading.Thread(target=self._read)
        self.reading.start()

    def _read(self) -> None:
        with suppress(Exception):  # a test may close it meanwhile
            for chunk in self.answer.iter_content(None):
                self.text += chunk.decode()

    def tells(self, *expected: Any) -> bool:
        return [shown(each) if isinstance(each, dict) else each for each in told(self.text)][-len(expected) :] == [
            *expected
        ]


@processes
def test_streams_keep_no_thread_and_end_with_the_server(site: Site) -> None:
    with site.serving(workers=1) as server:
        handle = ask(server, REQUEST, input={"email": "user0@example.com"})["reset"]["requestId"]
        open_ones = [Stream(server, handle) for _ in range(12)]  # there are eight threads
        wait_until(lambda: all(each.tells(("SENT", 5)) for each in open_ones))
        assert ask(server, VERIFY, input={"requestId": handle, "code": "000000"})["message"]
        wait_until(lambda: all(each.tells(("SENT", 5), ("SENT", 4)) for each in open_ones))
        assert server.stop() == 0
        for each in open_ones:
            each.reading.join(10)
            assert not each.reading.is_alive()
            assert not each.tells("complete")


@processes
def test_a_refusal_of_a_stream_is_in_the_language_of_its_client(site: Site) -> None:
    with site.serving(workers=1) as server:
        headers = {**PROXIED, "Accept": "text/event-stream", "Accept-Language": "de"}
        body = {"query": WATCH, "variables": {"id": "A" * 43}}
        answer = requests.post(f"{server.url}/graphql/", json=body, headers=headers, timeout=30)
        assert "gibt es nicht" in told(answer.content.decode())[0]["errors"][0]["message"]
        line = next(each for each in server.log.read_text().splitlines() if "passwordResetStatusChanged" in each)
        assert json.loads(line)["request_id"] == answer.headers["X-Request-ID"]
        assert json.loads(line)["client"] == "203.0.113.7"


@processes
def test_whoever_leaves_makes_room(site: Site) -> None:
    with site.serving(workers=1) as server:
        handle = ask(server, REQUEST, input={"email": "user0@example.com"})["reset"]["requestId"]
        held = [Stream(server, handle) for _ in range(live.MOST_PER_CLIENT)]
        wait_until(lambda: all(each.tells(("SENT", 5)) for each in held))
        refused = Stream(server, handle)
        refused.reading.join(10)
        event, end = told(refused.text)
        assert (event["errors"][0]["extensions"]["code"], end) == ("RATE_LIMITED", "complete")
        held[0].answer.close()

        def there_is_room() -> bool:
            again = Stream(server, handle)
            wait_until(lambda: again.text != "")
            return "RATE_LIMITED" not in again.text

        wait_until(there_is_room)
