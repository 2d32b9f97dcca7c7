"""Webhooks: what leaves, signed how, and what becomes of it where a receiver fails, redirects, hangs or lies."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
import trustme
from django.db import transaction
from django.test import Client
from django.utils import timezone
from standardwebhooks import Webhook

from accounts.addresses import UnmailableAddress
from accounts.choices import WebhookEvent
from accounts.hooks import delivery, webhooks
from accounts.hooks.endpoints import endpoints, parse
from accounts.mailing import mailer, smtp
from accounts.models import ForgetPassword, WebhookDelivery
from accounts.networks import is_public
from tests.conftest import API, PostOffice, record_of

SECRET, OLD_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQt"
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver:
    """A real HTTPS server that notes what it is sent, and answers as a test says."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[Callable[[socket.socket], None] | bytes] = []
        self.go_on = threading.Event()
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}/hook?from=us"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(plain,), daemon=True).start()

    def _answer(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as session:
                head, _, body = self._read(session)
                line, *fields = head.decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
                self.seen.append((line, headers, body))
                answer = self.answers.pop(0) if self.answers else OK
                if callable(answer):
                    answer(session)
                else:
                    session.sendall(answer)
        except OSError:
            return

    def _read(self, session: ssl.SSLSocket) -> tuple[bytes, bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += session.recv(65536)
        head, found, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += session.recv(65536)
        return head, found, body

    def close(self) -> None:
        self.go_on.set()
        self._listener.close()


@pytest.fixture
def receiver(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    made = Receiver(context)
    yield made
    made.close()


@pytest.fixture
def hooked(settings: Any, receiver: Receiver) -> Receiver:
    settings.WEBHOOKS = [{"name": "crm", "url": receiver.url, "secrets": [SECRET, OLD_SECRET], "private": True}]
    return receiver


def deliver() -> None:
    while delivery.deliver_due("crm"):
        pass


def told(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(body) for *_, body in receiver.seen]


# --- What leaves -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_reset_is_told_of_from_the_request_to_the_report(
    api: API, post: PostOffice, user: Any, hooked: Receiver
) -> None:
    record = record_of(api.request("Ada@Example.com")["requestId"])
    api.reset(post.deliver_one().token)
    api.report(post.deliver_one().report)
    deliver()
    reset, account = str(record.pk), str(user.pk)
    assert [(event["type"], event["data"]) for event in told(hooked)] == [
        ("recovery.requested", {"reset": reset}),
        ("recovery.completed", {"reset": reset, "account": account}),
        ("recovery.reported", {"reset": reset, "account": account, "locked": True}),
    ]
    assert {line for line, *_ in hooked.seen} == {"POST /hook?from=us HTTP/1.1"}
    assert set(WebhookDelivery.objects.values_list("attempts", "next_at", "error")) == {(1, None, "")}


@pytest.mark.django_db
def test_known_and_unknown_addresses_are_told_of_alike(
    api: API, post: PostOffice, user: Any, hooked: Receiver, django_assert_num_queries: Any
) -> None:
    for email in ("ada@example.com", "nobody@example.com"):
        api.request(email)
        mailer.look()
    deliver()
    known, unknown = told(hooked)
    assert known["type"] == unknown["type"] == "recovery.requested"
    assert known["data"].keys() == unknown["data"].keys() == {"reset"}


@pytest.mark.django_db
def test_a_mail_that_is_given_up_is_told_of(
    api: API, user: Any, hooked: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: smtp.Connection, message: Any, **_: Any) -> str:
        raise UnmailableAddress

    monkeypatch.setattr(smtp.Connection, "send", refuse)
    record = record_of(api.request()["requestId"])
    mailer.look()
    mailer.send_due(smtp.Connection(), 10)
    deliver()
    assert [event["data"] for event in told(hooked)][-1] == {
        "reset": str(record.pk),
        "mail": "CODE",
        "reason": "address",
    }


@pytest.mark.django_db
def test_nothing_that_leaves_is_secret_or_was_typed(api: API, post: PostOffice, user: Any, hooked: Receiver) -> None:
    handle = api.request("Ada@Example.com")["requestId"]
    letter = post.deliver_one()
    token = api.verify(handle, letter.code)["resetToken"]
    api.reset(token)
    report = post.deliver_one().report
    api.report(report)
    deliver()
    sent = " ".join(body.decode() for *_, body in hooked.seen)
    rows = " ".join(str(row) for row in WebhookDelivery.objects.values_list())
    for text in (sent, rows):
        for secret in (handle, letter.code, letter.token, token, report, SECRET, OLD_SECRET, "ada@example.com"):
            assert secret.lower() not in text.lower()


@pytest.mark.django_db
def test_what_did_not_happen_is_not_told(
    api: API, post: PostOffice, user: Any, hooked: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.request()
    letter = post.deliver_one()
    WebhookDelivery.objects.all().delete()
    monkeypatch.setattr(type(user), "save", lambda *_, **__: 1 / 0)
    with pytest.raises(AssertionError):
        api.reset(letter.token)
    assert not WebhookDelivery.objects.exists()


@pytest.mark.django_db
def test_a_receiver_is_told_what_it_asks_for(api: API, user: Any, hooked: Receiver, settings: Any) -> None:
    settings.WEBHOOKS = [{**settings.WEBHOOKS[0], "events": ["recovery.completed"]}]
    api.request()
    mailer.look()
    assert not WebhookDelivery.objects.exists()


# --- Signed ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def event(api: API, user: Any, hooked: Receiver) -> WebhookDelivery:
    """One that is due."""
    api.request()
    mailer.look()
    return WebhookDelivery.objects.get()


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_both_secrets_verify_while_they_are_changed(event: WebhookDelivery, hooked: Receiver, secret: str) -> None:
    deliver()
    ((_, headers, body),) = hooked.seen
    assert Webhook(secret).verify(body, headers)["type"] == "recovery.requested"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(secret).verify(body.replace(b"requested", b"completed"), headers)


def test_each_try_has_the_same_id_and_a_time_of_its_own(event: WebhookDelivery, hooked: Receiver) -> None:
    hooked.answers = [b"HTTP/1.1 500 Oh\r\n\r\n"]
    with time_machine.travel(timezone.now(), tick=False) as clock:
        deliver()
        clock.shift(60)
        deliver()
    first, second = [headers for _, headers, _ in hooked.seen]
    assert first["webhook-id"] == second["webhook-id"] == f"msg_{event.pk.hex}"
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 60


# --- Receivers that fail ---------------------------------------------------------------------------------------------


def hang(session: socket.socket) -> None:
    threading.Event().wait(1)


def drip(session: socket.socket) -> None:
    session.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(1000):
        session.sendall(b"x: y\r\n")
        threading.Event().wait(0.05)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 500 Oh\r\n\r\n", "http_500"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://localhost/\r\n\r\n", "http_302"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "http_404"),
        (b"200 is what I would say\r\n\r\n", "answer"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "answer"),
        (b"HTTP/1.1 200 OK\r\n" + 200 * b"a: b\r\n", "answer"),
        (b"", "answer"),
        (hang, "timeout"),
        (drip, "timeout"),
    ],
    ids=["fails", "redirects", "is elsewhere", "lies", "lies in numbers", "talks", "hangs up", "hangs", "drips"],
)
def test_a_receiver_that_fails_is_tried_again_later(
    event: WebhookDelivery, hooked: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: Any, answer: Any, error: str
) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT", 0.3)
    hooked.answers = [answer]
    with caplog.at_level(logging.WARNING, "accounts.hooks.delivery"):
        deliver()
    event.refresh_from_db()
    assert (event.error, event.attempts, event.delivered_at) == (error, 1, None)
    assert event.next_at
    assert timedelta(seconds=3) < event.next_at - timezone.now() < timedelta(seconds=7)
    assert SECRET not in caplog.text
    with time_machine.travel(event.next_at):
        deliver()
    event.refresh_from_db()
    assert (event.error, event.attempts) == ("", 2)
    assert event.delivered_at
    assert len(hooked.seen) == 2


def test_it_is_tried_for_a_day_and_then_given_up(event: WebhookDelivery, hooked: Receiver) -> None:
    hooked.answers = [b"HTTP/1.1 503 Busy\r\n\r\n"] * 100
    began = event.created_at
    while event.next_at:
        with time_machine.travel(event.next_at, tick=False):
            deliver()
            gave_up = timezone.now()
        event.refresh_from_db()
    assert timedelta(hours=18) < gave_up - began <= timedelta(days=1)
    assert 10 <= event.attempts == len(hooked.seen) <= 20
    assert event.error == "http_503"


def test_who_says_gone_is_not_asked_again(event: WebhookDelivery, hooked: Receiver) -> None:
    hooked.answers = [b"HTTP/1.1 410 Gone\r\n\r\n"]
    deliver()
    event.refresh_from_db()
    assert (event.next_at, event.error) == (None, "http_410")


def test_a_private_address_is_refused_unless_allowed(event: WebhookDelivery, hooked: Receiver, settings: Any) -> None:
    settings.WEBHOOKS = [{**settings.WEBHOOKS[0], "private": False}]
    deliver()
    event.refresh_from_db()
    assert event.error == "private_address"
    assert hooked.seen == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.1",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ],
)
def test_these_addresses_are_private(address: str) -> None:
    assert not is_public(address)


def test_a_name_is_looked_up_once_for_the_check_and_the_connection(
    event: WebhookDelivery, hooked: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it could mean a public address to the check, and this machine a moment later."""
    settings.WEBHOOKS = [{**settings.WEBHOOKS[0], "private": False}]
    asked: list[str] = []

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]

    connected: list[Any] = []

    def connect(address: Any, *_: Any) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(delivery, "is_public", lambda address: address == "192.0.2.1")
    delivery.deliver_due("crm")
    assert asked == ["localhost"]
    assert connected == ["192.0.2.1"]


def test_a_certificate_of_nobody_is_refused(
    event: WebhookDelivery, hooked: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    deliver()
    event.refresh_from_db()
    assert event.error == "tls"
    assert hooked.seen == []


# --- Claims ----------------------------------------------------------------------------------------------------------


def test_what_is_claimed_is_left_alone_until_its_lease_ends(event: WebhookDelivery, hooked: Receiver) -> None:
    assert delivery._claim("crm", timezone.now())
    assert delivery.deliver_due("crm") == 0
    with time_machine.travel(timezone.now() + delivery.LEASE + timedelta(seconds=1)):
        assert delivery.deliver_due("crm") == 1
    assert len(hooked.seen) == 1


def test_a_claim_that_was_lost_marks_nothing(event: WebhookDelivery, hooked: Receiver) -> None:
    (row,) = delivery._claim("crm", timezone.now())
    WebhookDelivery.objects.update(claimed_at=timezone.now() + timedelta(seconds=1))
    delivery._settle(row, timezone.now(), "")
    event.refresh_from_db()
    assert event.delivered_at is None


def test_a_stopping_process_gives_back_what_it_has_not_tried(event: WebhookDelivery, hooked: Receiver) -> None:
    stopping = threading.Event()
    stopping.set()
    assert delivery.deliver_due("crm", stopping) == 1
    event.refresh_from_db()
    assert (event.attempts, event.claimed_at) == (0, None)


def test_what_a_slow_receiver_leaves_untried_is_given_back(
    event: WebhookDelivery, hooked: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = WebhookDelivery.objects.create(record=event.record, endpoint="crm", event=event.event, body=event.body)
    with time_machine.travel(timezone.now()) as clock:

        def slow(*_: Any) -> int:
            clock.shift(delivery.LEASE / 2 + timedelta(seconds=1))
            return 204

        monkeypatch.setattr(delivery, "_post", slow)
        assert delivery.deliver_due("crm") == 2
    tried, untried = WebhookDelivery.objects.filter(pk__in=[event.pk, second.pk]).order_by("-attempts")
    assert tried.delivered_at
    assert (untried.attempts, untried.claimed_at, untried.delivered_at) == (0, None, None)


@pytest.mark.django_db(transaction=True)
def test_a_thread_delivers_as_soon_as_it_is_committed(api: API, user: Any, hooked: Receiver, settings: Any) -> None:
    settings.MAIL_SWEEP_SECONDS = 3600
    stopping = threading.Event()
    ((name, job),) = delivery.jobs(stopping)
    assert name == "webhook-crm"
    thread = threading.Thread(target=job)
    thread.start()
    with transaction.atomic():
        record = ForgetPassword.objects.create(email="ada@example.com", email_digest="0" * 64)
        webhooks.tell(WebhookEvent.REQUESTED, record.pk)
        assert hooked.seen == []
    for _ in range(500):
        if hooked.seen and not WebhookDelivery.objects.filter(delivered_at=None).exists():
            break
        threading.Event().wait(0.02)
    assert [event["data"] for event in told(hooked)] == [{"reset": str(record.pk)}]
    stopping.set()
    delivery.retire()
    thread.join(10)
    assert not thread.is_alive()


# --- Settings --------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"name": "crm", "url": "https://crm.example.com/hook", "secrets": [SECRET]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "http://crm.example.com/"}, "https"),
        ({"url": "https://user:password@crm.example.com/"}, "https"),
        ({"url": "https://crm.example.com:port/"}, "https"),
        ({"url": None}, "https"),
        ({"secrets": []}, "whsec_"),
        ({"secrets": [SECRET] * 3}, "whsec_"),
        ({"secrets": ["whsec_short"]}, "whsec_"),
        ({"secrets": SECRET}, "whsec_"),
        ({"name": "C R M"}, "lower-case"),
        ({"events": ["recovery.everything"]}, "events"),
        ({"events": []}, "events"),
        ({"private": "yes"}, "private"),
        ({"secret": SECRET}, "there is no secret"),
    ],
)
def test_a_mistake_is_named_and_no_secret_with_it(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse([{**GOOD, **given}])
    assert SECRET not in str(caught.value)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("given", ["text", {"name": "crm"}, [1], [GOOD, GOOD]])
def test_what_is_no_list_of_receivers_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"list of objects|same name"):
        parse(given)


def test_there_are_none_as_it_comes() -> None:
    assert endpoints() == ()


@pytest.mark.django_db
def test_a_mistake_stops_no_mail(api: API, post: PostOffice, user: Any, settings: Any, caplog: Any) -> None:
    settings.WEBHOOKS = [{**GOOD, "url": "http://crm.example.com/"}]
    api.request()
    assert post.deliver_one().code
    assert "WEBHOOKS cannot be used" in caplog.text
    assert delivery.jobs(threading.Event()) == []


# --- In the admin ----------------------------------------------------------------------------------------------------


def test_support_sees_what_was_given_up_and_tries_it_again(
    event: WebhookDelivery, hooked: Receiver, make_user: Callable[..., Any]
) -> None:
    hooked.answers = [b"HTTP/1.1 410 Gone\r\n\r\n"]
    deliver()
    client = Client()
    client.force_login(make_user("support@example.com", "support", is_staff=True, is_superuser=True))
    page = client.get("/admin/account_recovery/webhookdelivery/")
    assert b"http_410" in page.content
    action = {"action": "deliver_again", "_selected_action": [str(event.pk)]}
    answer = client.post("/admin/account_recovery/webhookdelivery/", action, follow=True)
    assert b"tried again: 1." in answer.content
    deliver()
    event.refresh_from_db()
    assert event.delivered_at
