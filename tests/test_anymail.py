"""Mail by a provider's API: the real Anymail, and an HTTP server that answers as Postmark does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import django
import pytest
from django.core.mail import EmailMessage

from accounts.mailing import mailer, smtp
from accounts.mailing.smtp import Connection, Failure, classify
from accounts.models import PasswordResetEvent
from tests.conftest import API, record_of

BACKEND = "anymail.backends.postmark.EmailBackend"
TAKEN = (200, {"ErrorCode": 0, "Message": "OK", "MessageID": "b7bc2f4a-e38e-4336-af7d-e6c392c2f817"})
INACTIVE = (
    422,
    {
        "ErrorCode": 406,
        "Message": "You tried to send to a recipient that has been marked as inactive. Found inactive addresses: "
        "ada@example.com. Inactive recipients are ones that have generated a hard bounce.",
    },
)


class Provider(ThreadingHTTPServer):
    """What it was asked, and how it answers a mail, and the probe."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mails: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.answer: tuple[int, dict[str, Any]] = TAKEN
        self.page = 404


class Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.mails.append(body)
        status, answer = self.server.answer
        self._say(status, {"To": body["To"], **answer} if status == 200 else answer)

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self._say(self.server.page, {})

    def _say(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest shows what failed."""


@pytest.fixture
def provider(settings: Any) -> Iterator[Provider]:
    server = Provider()
    Thread(target=server.serve_forever, daemon=True).start()
    settings.ANYMAIL = {"POSTMARK_SERVER_TOKEN": "token", "POSTMARK_API_URL": f"http://127.0.0.1:{server.server_port}/"}
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": BACKEND}}
    else:
        settings.EMAIL_BACKEND = BACKEND
    yield server
    server.shutdown()
    server.server_close()


def mail() -> EmailMessage:
    return EmailMessage("Hello", "Hello.\n", "no-reply@example.com", ["ada@example.com"])


@pytest.mark.django_db
def test_a_mail_leaves_by_the_api_and_its_id_is_kept(api: API, user: Any, provider: Provider) -> None:
    record = record_of(api.request()["requestId"])
    api.request("nobody@example.com")
    mailer.look()
    assert mailer.send_due(Connection(), 10) == 2
    (sent,) = provider.mails
    assert (sent["To"], sent["Headers"][0]["Name"]) == ("ada@example.com", "Message-ID")
    mailed = PasswordResetEvent.objects.exclude(provider_id="").get()
    assert (mailed.record_id, mailed.kind, mailed.provider_id) == (record.pk, "MAILED", TAKEN[1]["MessageID"])


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (INACTIVE, Failure("suppressed", permanent=True)),
        ((401, {"ErrorCode": 10, "Message": "Bad or missing API token"}), Failure("api_401")),
        ((429, {"Message": "Slow down"}), Failure("api_429")),
        ((500, {"Message": "Oh"}), Failure("api_500")),
        ((503, {"Message": "Busy"}), Failure("api_503")),
    ],
)
def test_what_the_provider_says_of_the_recipient_is_final_and_what_it_says_of_us_is_named(
    provider: Provider, answer: Any, failure: Failure
) -> None:
    provider.answer = answer
    with pytest.raises(Exception) as caught:  # noqa: PT011 (which error it is, is what the test asks)
        Connection().send(mail())
    assert isinstance(caught.value, Exception)
    assert classify(caught.value) == failure


def test_the_probe_asks_the_api_and_sends_nothing(provider: Provider) -> None:
    assert smtp.why_down() == ""
    provider.page = 503
    assert smtp.why_down() == "api_503"
    assert (provider.asked, provider.mails) == (["/", "/"], [])
    provider.shutdown()
    provider.server_close()
    assert smtp.why_down() == "network"


def test_a_rehearsal_takes_as_long_and_asks_for_nothing(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection()
    smtp.forget()
    slept: list[float] = []
    monkeypatch.setattr("accounts.mailing.smtp.time.sleep", slept.append)
    connection.send(mail())
    (model,) = smtp._latest
    model.took = 5.0
    connection.rehearse(mail())
    assert len(provider.mails) == 1
    assert 4.5 < slept[-1] <= 5.0
