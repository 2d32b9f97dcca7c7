"""A real SMTP server that records what it is told and can be told to misbehave.

    with SMTPServer() as server:
        point_mail_at(settings, server.port)
        server.on("RCPT", "451 4.7.1 Greylisted", times=1)
        ...
        server.wait_until(lambda: server.letters)

The stages of a session, in its order: CONNECT (before the greeting), EHLO, AUTH, NOOP, RSET, MAIL, RCPT, DATA (before
the mail is sent), END (all of it is here and will not be kept, unless the usual answer is given), TAKEN (it has been
recorded, the answer is owed) and QUIT. Each can be slowed down, answered otherwise, held up until `release`, or used to
cut the connection. `go_down` makes the whole server refuse connections until `come_back`.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import cache
from typing import Any

import django
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

DROP = "DROP"
"""Cut the connection without a word."""
HOLD = "HOLD"
"""Say nothing until `release`, then go on as if nothing had been."""

CHALLENGE = b"<1896.697170952@mail.example.com>"
"""What CRAM-MD5 asks for a digest of."""
CERTIFICATES = {"server": ["127.0.0.1", "localhost"], "expired": ["127.0.0.1"], "elsewhere": ["mail.example.com"]}
"""Of a private CA, and the names they are for."""
SMTP_BACKEND = "accounts.mailing.smtp_backend.EmailBackend"
SETTINGS_BEFORE_MAILERS = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
    "timeout": "EMAIL_TIMEOUT",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """A mail that the server has taken, the number of the connection that brought it, from 1, and its HELO."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    connection: int
    helo: str

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        return str(part.get_content()) if part else ""


@dataclass(slots=True)
class _Rule:
    answer: str
    times: int | None


class SMTPServer:
    """A server on a free port of the loopback interface; a context manager, run by a thread of its own."""

    def __init__(self) -> None:
        self.port = 0
        self.listening = False
        self.tls: ssl.SSLContext | None = None
        """What STARTTLS is answered with; without it, it is not offered."""
        self.tls_from_start = False
        """Whether every connection begins with TLS instead; it counts from `come_back` on."""
        self.letters: list[Delivery] = []
        self.refused: dict[str, str] = {}
        """Recipients and what they are answered, such as `{"bad@example.com": "550 5.1.1 Nobody here"}`."""
        self.pipelining = True
        """Whether connections to come are offered PIPELINING."""
        self.mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
        """By which to log in; those of connections to come."""
        self.logins: list[tuple[str, bytes, bytes]] = []
        """Mechanism, user, and password or digest; whoever logs in is welcome."""
        self.stages: Counter[str] = Counter()
        """How often each stage was reached; CONNECT counts the connections."""
        self.open_connections = 0
        self._rules: dict[str, _Rule] = {}
        self._delays: dict[str, float] = {}
        self._every_delay = 0.0
        self._changed = threading.Condition()
        self._sessions: set[_Session] = set()
        self._listener: asyncio.Server
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="smtp-server", daemon=True)

    def on(self, stage: str, answer: str, *, times: int | None = None) -> None:
        """Answer a stage like this (an SMTP reply, DROP or HOLD) from now on, or only so many times."""
        with self._changed:
            self._rules[stage] = _Rule(answer, times)

    def release(self, stage: str) -> None:
        """Take back what `on` has said, and let go whoever is held up there."""
        with self._changed:
            self._rules.pop(stage, None)
        self._loop.call_soon_threadsafe(self._let_go)

    def slow(self, seconds: float, *stages: str) -> None:
        """Wait this long before each answer, or before those of some stages only."""
        if stages:
            self._delays.update(dict.fromkeys(stages, seconds))
        else:
            self._every_delay = seconds

    def cut_connections(self) -> None:
        """Close every open connection, as a server does that restarts; returns when they are closed."""
        self._loop.call_soon_threadsafe(self._cut_all)
        self.wait_until(lambda: self.open_connections == 0)

    def go_down(self) -> None:
        """Refuse connections, as a host does whose server has died, and close those that are open."""
        self._in_loop(self._stop_listening)
        self.cut_connections()

    def come_back(self) -> None:
        """Take connections again, on the same port."""
        self._in_loop(self._listen)

    def wait_until(self, condition: Callable[[], Any], timeout: float = 30) -> None:
        """Wait for something to become true of this server; AssertionError where it does not."""
        with self._changed:
            came_true = self._changed.wait_for(condition, timeout)
        assert came_true, f"not in {timeout} s; reached: {dict(self.stages)}, letters: {len(self.letters)}"

    def __enter__(self) -> SMTPServer:
        self._thread.start()
        self.wait_until(lambda: self.listening)
        return self

    def __exit__(self, *raised: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped, self._released = asyncio.Event(), asyncio.Event()
        # Bound and never listened on: it keeps the port for this server while that is down.
        with _bound(0) as keeper:
            self._change(port=int(keeper.getsockname()[1]))
            await self._listen()
            await self._stopped.wait()
            await self._stop_listening()
            self._cut_all()
            await asyncio.sleep(0)  # the cut connections are told so in the next round of the loop

    async def _listen(self) -> None:
        tls = self.tls if self.tls_from_start else None
        self._listener = await self._loop.create_server(lambda: _Session(self), sock=_bound(self.port), ssl=tls)
        self._change(listening=True)

    async def _stop_listening(self) -> None:
        self._listener.close()
        self._change(listening=False)

    def _in_loop(self, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(do(), self._loop).result()

    def _cut_all(self) -> None:
        for session in self._sessions:
            session.cut()

    def _let_go(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    def _change(self, **values: Any) -> None:
        with self._changed:
            for name, value in values.items():
                setattr(self, name, value)
            self._changed.notify_all()

    async def _reached(self, stage: str, session: _Session) -> str:
        """What to answer at this stage; empty for the usual."""
        with self._changed:
            self.stages[stage] += 1
            rule = self._rules.get(stage)
            if rule and rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    del self._rules[stage]
            self._changed.notify_all()
        released = self._released
        if delay := self._delays.get(stage, self._every_delay):
            await asyncio.sleep(delay)
        if rule is None:
            return ""
        if rule.answer == HOLD:
            await released.wait()
            return ""
        if rule.answer == DROP:
            session.cut()
            await asyncio.Event().wait()  # until the loss of the connection cancels this task
        return rule.answer

    def _opened(self, session: _Session) -> None:
        self._sessions.add(session)
        self._change(open_connections=len(self._sessions))

    def _closed(self, session: _Session) -> None:
        self._sessions.discard(session)
        self._change(open_connections=len(self._sessions))


class _Session(SMTP):
    """One connection. Every command passes by the server's rules before aiosmtpd sees it."""

    def __init__(self, server: SMTPServer) -> None:
        super().__init__(
            _Handler(server, self),
            hostname="localhost",
            tls_context=None if server.tls_from_start else server.tls,
            loop=asyncio.get_running_loop(),
            enable_SMTPUTF8=True,
            auth_require_tls=False,
            auth_exclude_mechanism={"PLAIN", "LOGIN", "CRAM-MD5"} - set(server.mechanisms),
            authenticator=self._welcome,
        )
        self._test_server = server
        self.number = 0
        self._smtp_methods = {name: self._ruled(name, method) for name, method in self._smtp_methods.items()}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._test_server._opened(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._test_server._closed(self)

    def cut(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    async def auth_CRAM__MD5(self, _: SMTP, args: list[str]) -> AuthResult:  # noqa: N802 (aiosmtpd's way to name it)
        answer = await self.challenge_auth(CHALLENGE)
        assert isinstance(answer, bytes)
        return self._welcome(self, None, None, "CRAM-MD5", answer.split(b" "))

    def _welcome(self, _: SMTP, session: Any, envelope: Any, mechanism: str, login: Any) -> AuthResult:
        self._test_server.logins.append((mechanism, *login))
        return AuthResult(success=True)

    async def _handle_client(self) -> None:
        answer = await self._test_server._reached("CONNECT", self)
        self.number = self._test_server.stages["CONNECT"]
        if answer:
            await self.push(answer)
            self._writer.close()
        else:
            await super()._handle_client()

    def _ruled(
        self, stage: str, method: Callable[[str], Coroutine[Any, Any, None]]
    ) -> Callable[[str], Coroutine[Any, Any, None]]:
        async def run(argument: str) -> None:
            answer = await self._test_server._reached(stage, self)
            if answer:
                await self.push(answer)
                if answer.startswith("421"):
                    self._writer.close()
            else:
                await method(argument)

        return run


class _Handler:
    """aiosmtpd's hooks: who is refused, and what has been taken."""

    def __init__(self, server: SMTPServer, session: _Session) -> None:
        self._server = server
        self._session = session

    async def handle_EHLO(  # noqa: N802 (aiosmtpd finds its hooks by these names)
        self, _: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], *(["250-PIPELINING"] if self._server.pipelining else []), responses[-1]]

    async def handle_RCPT(  # noqa: N802
        self, _: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if answer := self._server.refused.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if answer := await self._server._reached("END", self._session):
            return answer
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        recipients = tuple(str(recipient) for recipient in envelope.rcpt_tos)
        letter = Delivery(str(envelope.mail_from), recipients, message, self._session.number, session.host_name or "")
        self._server._change(letters=[*self._server.letters, letter])
        return await self._server._reached("TAKEN", self._session) or "250 OK"


def point_mail_at(settings: Any, port: int, **options: Any) -> None:
    """Have Django mail by SMTP to this port, by the settings of the Django at hand; tests otherwise mail to memory.

    `options` are those of Django's MAILERS: username, password, use_tls, use_ssl, timeout.
    """
    options = {"timeout": 30, **options, "host": "127.0.0.1", "port": port}
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": SMTP_BACKEND, "OPTIONS": options}}
        return
    settings.EMAIL_BACKEND = SMTP_BACKEND
    for name, before in SETTINGS_BEFORE_MAILERS.items():
        setattr(settings, before, options.get(name))


@contextmanager
def mail_server(settings: Any, **options: Any) -> Iterator[SMTPServer]:
    """A running server that Django mails to; what a fixture has to yield."""
    with SMTPServer() as server:
        point_mail_at(settings, server.port, **options)
        yield server


@cache
def private_ca() -> trustme.CA:
    """Who signs the certificates of this process's servers; `cert_pem` is for those who shall trust them."""
    return trustme.CA()


def certified(name: str) -> ssl.SSLContext:
    """What a server with one of the CERTIFICATES needs."""
    begin = datetime.now(tz=UTC) - timedelta(days=30)
    end = begin + timedelta(days=1 if name == "expired" else 60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    private_ca().issue_cert(*CERTIFICATES[name], not_before=begin, not_after=end).configure_cert(context)
    return context


def environment(port: int) -> dict[str, str]:
    """What points a process of its own at a server."""
    return {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(port), "EMAIL_USE_TLS": "0", "EMAIL_USE_SSL": "0"}


def _bound(port: int) -> socket.socket:
    """A socket on this port, which others of its kind may share."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
