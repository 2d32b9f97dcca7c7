"""Pwned Passwords is asked if it is there, learns next to nothing, and holds up nobody."""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from accounts.passwords import policy, pwned
from tests.conftest import API, NEW_PASSWORD, PostOffice

DIGEST = hashlib.sha1(NEW_PASSWORD.encode(), usedforsecurity=False).hexdigest().upper()
PADDING = "".join(f"{number:035X}:{number % 3 * 17}\r\n" for number in range(900)).encode()
SEEN = f"{DIGEST[5:]}:4711\r\n".encode()
VALIDATOR = {"NAME": "accounts.passwords.pwned.PwnedPasswordValidator"}


class Mirror(ThreadingHTTPServer):
    """The service on this machine; what it says next is a test's to choose."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.done = threading.Event()
        self.answer: Callable[[Answering], None] = Answering.say_unseen
        super().__init__(("127.0.0.1", 0), Answering)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/range/"

    def handle_error(self, *arguments: Any) -> None:
        """A client that gives up half way is what is tested."""


class Answering(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.server.answer(self)

    def log_message(self, *arguments: Any) -> None:
        pass

    def say(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def say_unseen(self) -> None:
        self.say(PADDING)

    def say_seen(self) -> None:
        self.say(PADDING + SEEN)

    def say_padding(self) -> None:
        self.say(PADDING + SEEN.replace(b"4711", b"0"))

    def hang(self) -> None:
        self.server.done.wait(20)

    def hang_in_the_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self.server.done.wait(20)

    def drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.done.wait(0.2):
            self.wfile.write(b"0")

    def talk_on(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.done.is_set():
            self.wfile.write(PADDING)

    def say_too_much(self) -> None:
        self.say(PADDING * 20)

    def say_garbage(self) -> None:
        self.say(b"<html><body>Please sign in to this network.</body></html>")

    def say_bytes(self) -> None:
        self.say(bytes(range(256)) * 10)

    def say_nothing(self) -> None:
        self.say(b"")

    def say_a_wrong_line(self) -> None:
        self.say(SEEN + b"rubbish\r\n")

    def break_off(self) -> None:
        self.say(PADDING, headers={"Content-Length": "9999999"})

    def speak_another_language(self) -> None:
        self.wfile.write(b"SSH-2.0-server\r\n")

    def be_broken(self) -> None:
        self.say(b"", 503)

    def refuse(self) -> None:
        self.say(b"", 429)

    def send_away(self) -> None:
        self.say(b"", 302, {"Location": self.server.url + "elsewhere"})


@pytest.fixture
def mirror(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(pwned, "service", pwned.Service())
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        settings.PWNED_PASSWORDS_URL = server.url
        settings.AUTH_PASSWORD_VALIDATORS = [*settings.AUTH_PASSWORD_VALIDATORS, VALIDATOR]
        yield server
        server.done.set()
        server.shutdown()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwned, "TIMEOUT", 0.2)


@pytest.fixture
def token(api: API, post: PostOffice, user: Any) -> str:
    api.request()
    return post.deliver_one().token


def test_it_is_off_unless_it_is_switched_on(settings: Any) -> None:
    assert VALIDATOR not in settings.AUTH_PASSWORD_VALIDATORS
    assert not any("breach" in rule.text for rule in policy.rules())


def test_a_password_that_was_seen_is_refused_by_both_verbs_and_spends_nothing(
    api: API, mirror: Mirror, token: str
) -> None:
    mirror.answer = Answering.say_seen
    tried = api.mutate("checkPassword", newPassword=NEW_PASSWORD, resetToken=token)
    done = api.reset(token)
    assert tried["violations"] == done["violations"] == [{"code": "password_pwned"}]
    mirror.answer = Answering.say_unseen
    assert api.reset(token)["__typename"] == "ResetPasswordSuccess"


def test_the_rule_is_told_where_it_holds(mirror: Mirror) -> None:
    assert any("breach" in rule.text for rule in policy.rules())


def test_five_digits_of_the_hash_are_all_that_leaves(mirror: Mirror, token: str, api: API) -> None:
    api.reset(token)
    ((path, headers),) = mirror.asked
    assert path == f"/range/{DIGEST[:5]}"
    assert headers.pop("Host") == f"127.0.0.1:{mirror.server_port}"
    assert headers == {
        "Accept-Encoding": "identity",
        "User-Agent": "account-recovery",
        "Connection": "close",
        "Add-Padding": "true",
    }


def test_an_entry_of_padding_is_nobody_s_password(api: API, mirror: Mirror, token: str) -> None:
    mirror.answer = Answering.say_padding
    assert api.reset(token)["__typename"] == "ResetPasswordSuccess"


def test_a_stranger_s_keystrokes_are_not_passed_on(api: API, mirror: Mirror, db: None) -> None:
    """Without a good token, checkPassword would let anybody ask in our name."""
    mirror.answer = Answering.say_seen
    assert api.mutate("checkPassword", newPassword=NEW_PASSWORD)["__typename"] == "CheckPasswordSuccess"
    answer = api.mutate("checkPassword", newPassword=NEW_PASSWORD, resetToken="x")
    assert answer["__typename"] == "InvalidResetTokenError"
    assert api.reset("x")["__typename"] == "InvalidResetTokenError"
    assert mirror.asked == []


def test_what_is_refused_here_is_not_asked_about(api: API, mirror: Mirror, token: str) -> None:
    for password in ("short", "password password", "a" * 40, "ada@example.com 1234", "x" * 2000):
        assert api.reset(token, password)["__typename"] == "PasswordRejectedError"
        api.mutate("checkPassword", newPassword=password, resetToken=token)
    assert mirror.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        Answering.hang,
        Answering.hang_in_the_headers,
        Answering.drip,
        Answering.talk_on,
        Answering.say_too_much,
        Answering.say_garbage,
        Answering.say_bytes,
        Answering.say_nothing,
        Answering.say_a_wrong_line,
        Answering.break_off,
        Answering.speak_another_language,
        Answering.be_broken,
        Answering.refuse,
        Answering.send_away,
    ],
    ids=lambda answer: answer.__name__,
)
def test_a_service_that_is_out_of_order_blocks_nobody_and_is_left_alone(
    api: API,
    mirror: Mirror,
    token: str,
    impatient: None,
    caplog: pytest.LogCaptureFixture,
    answer: Callable[[Answering], None],
) -> None:
    mirror.answer = answer
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert pwned.service.knows(NEW_PASSWORD) is False
        assert api.reset(token)["__typename"] == "ResetPasswordSuccess"
    assert len(mirror.asked) == 1
    warned = [record.getMessage() for record in caplog.records if record.name == "accounts.passwords.pwned"]
    assert len(warned) == 1
    assert "accepted without it for 60 seconds" in warned[0]
    assert not any(secret in caplog.text for secret in (NEW_PASSWORD, DIGEST, DIGEST[:5], token))


def test_a_service_that_is_not_there_blocks_nobody(
    api: API, mirror: Mirror, token: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.PWNED_PASSWORDS_URL = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert api.reset(token)["__typename"] == "ResetPasswordSuccess"
    assert "cannot be asked" in caplog.text


def test_a_name_that_is_looked_up_for_ever_blocks_nobody(
    mirror: Mirror, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timeout of a socket covers the resolver."""

    ended: list[bool] = []

    def look_up(*arguments: Any, **more: Any) -> Any:
        ended.append(mirror.done.wait(20))
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert pwned.service.knows(NEW_PASSWORD) is False
    assert ended == []


def test_the_service_is_asked_again_after_a_minute(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.answer = Answering.be_broken
    assert pwned.service.knows(NEW_PASSWORD) is False
    mirror.answer = Answering.say_seen
    now = time.monotonic()
    monkeypatch.setattr(pwned, "time", SimpleNamespace(monotonic=lambda: now + 59))
    assert pwned.service.knows(NEW_PASSWORD) is False
    monkeypatch.setattr(pwned, "time", SimpleNamespace(monotonic=lambda: now + 61))
    assert pwned.service.knows(NEW_PASSWORD) is True
    assert len(mirror.asked) == 2


def test_no_more_than_a_few_threads_ever_wait_for_it(
    mirror: Mirror, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds all of them waiting is not made to wait as well."""
    monkeypatch.setattr(pwned, "MAX_ASKING", 2)
    monkeypatch.setattr(pwned, "PAUSE", 0)
    monkeypatch.setattr(pwned, "service", pwned.Service())
    waiting: list[str] = []

    def fetch(prefix: str) -> bytes:
        waiting.append(prefix)
        mirror.done.wait(20)
        return SEEN

    monkeypatch.setattr(pwned, "_fetch", fetch)
    assert [pwned.service.knows(NEW_PASSWORD) for _ in range(5)] == [False] * 5
    assert len(waiting) == 2
