"""Envelopes that go out in one write (RFC 2920), and servers that promise to read them so and do not."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from accounts.mailing import smtp, smtp_backend
from accounts.mailing.smtp import Connection, classify
from accounts.mailing.smtp_backend import OutOfStep, Session
from harness.smtp_server import SMTPServer, point_mail_at

from .test_smtp import mail

Answer = Callable[[list[bytes], bytes], bytes | None]
"""What a server answers to a command, given those before it; nothing, where it hangs up."""


class Scripted:
    """A server that offers PIPELINING, notes each piece as it arrives, and answers as it is told."""

    def __init__(self, answer: Answer, *, drops: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.texts: list[bytes] = []
        self._answer, self._drops = answer, drops
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        before: list[bytes] = []
        waiting, is_text = b"", False
        with client, suppress(OSError):
            client.sendall(b"220 here\r\n")
            while piece := client.recv(65536):
                self.pieces.append(piece)
                waiting += piece
                while (end := b"\r\n.\r\n" if is_text and waiting != b".\r\n" else b"\r\n") in waiting:
                    line, _, waiting = waiting.partition(end)
                    if is_text:
                        self.texts.append(line)
                    said = b"250 taken" if is_text else self._say(before, line.upper())
                    if said is None:
                        return
                    is_text = not is_text and said.startswith(b"354")
                    before.append(line)
                    client.sendall(said + b"\r\n")
                    if self._drops:
                        waiting = b""  # what came together with the command is lost

    def _say(self, before: list[bytes], line: bytes) -> bytes | None:
        if line.startswith(b"EHLO"):
            return b"250-here\r\n250 PIPELINING"
        if line.startswith(b"QUIT"):
            return b"221 bye"
        return self._answer(before, line)


def polite(before: list[bytes], line: bytes) -> bytes | None:
    return b"354 go on" if line == b"DATA" else b"250 ok"


def refusing(before: list[bytes], line: bytes) -> bytes | None:
    return b"550 5.1.1 nobody" if line.startswith(b"RCPT") else polite(before, line)


def out_of_step(before: list[bytes], line: bytes) -> bytes | None:
    return b"354 go on" if line.startswith(b"MAIL") else polite(before, line)


def hanging_up(before: list[bytes], line: bytes) -> bytes | None:
    return None if line.startswith(b"RCPT") else polite(before, line)


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_no_pipelining_before", 0.0)


@pytest.fixture
def scripted(settings: Any) -> Iterator[Callable[..., Scripted]]:
    made: list[Scripted] = []

    def make(answer: Answer, **options: Any) -> Scripted:
        made.append(Scripted(answer, **options))
        point_mail_at(settings, made[-1].port, timeout=0.5)
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def wire() -> Iterator[Connection]:
    connection = Connection()
    yield connection
    connection.close()


def test_an_envelope_is_one_write_and_a_mail_two(scripted: Callable[..., Scripted], wire: Connection) -> None:
    server = scripted(polite)
    wire.send(mail())
    wire.send(mail())
    envelopes = [piece for piece in server.pieces if piece.startswith(b"MAIL")]
    assert len(envelopes) == 2
    assert all(piece.count(b"\r\n") == 3 and piece.endswith(b"DATA\r\n") for piece in envelopes)
    assert len(server.texts) == 2


def test_a_server_that_does_not_offer_it_is_asked_one_by_one(
    settings: Any, wire: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Session, "_burst")
    with SMTPServer() as server:
        server.pipelining = False
        point_mail_at(settings, server.port)
        wire.send(mail())
        wire.rehearse(mail())
        assert len(server.letters) == 1
        assert server.stages["NOOP"] == 4


def test_a_decoy_is_rehearsed_in_bursts_of_the_same_shape(scripted: Callable[..., Scripted], wire: Connection) -> None:
    server = scripted(polite)
    wire.send(mail())
    server.pieces.clear()
    wire.rehearse(mail())
    assert server.pieces == [b"RSET\r\nRSET\r\nNOOP\r\n", b"NOOP\r\n"]


def test_a_refused_recipient_is_sent_no_text(scripted: Callable[..., Scripted], wire: Connection) -> None:
    server = scripted(refusing)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        wire.send(mail())
    assert classify(refused.value) == smtp.Failure("smtp_550 5.1.1", permanent=True)
    assert server.texts == [b"."]  # the end, and nothing before it


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("pipelining", [True, False])
def test_no_address_smuggles_a_command_in(settings: Any, wire: Connection, pipelining: bool, end: str) -> None:
    with SMTPServer() as server:
        server.pipelining = pipelining
        point_mail_at(settings, server.port)
        wire.rehearse(mail())
        session = wire._backend.connection
        with pytest.raises(ValueError, match="line"):
            session.sendmail("a@example.com", f"[{end}RCPT TO:<eve@example.com>{end}", b"Hello.\r\n")
        assert server.letters == []
        assert server.stages["RCPT"] == 0


def test_the_second_of_two_may_be_refused_and_the_first_is_taken(settings: Any, wire: Connection) -> None:
    with SMTPServer() as server:
        point_mail_at(settings, server.port)
        wire.send(mail("ada@example.com"))
        server.refused["bob@example.com"] = "550 5.1.1 Nobody here"
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            wire.send(mail("bob@example.com"))
        wire.send(mail("eve@example.com"))
        assert [letter.recipients for letter in server.letters] == [("ada@example.com",), ("eve@example.com",)]


@pytest.mark.parametrize(
    ("answer", "drops"), [(polite, True), (out_of_step, False), (hanging_up, False)], ids=["drops", "odd", "hangs up"]
)
def test_a_server_that_cannot_is_tried_without_it_and_loses_no_mail(
    scripted: Callable[..., Scripted], wire: Connection, answer: Answer, drops: bool
) -> None:
    server = scripted(answer, drops=drops)
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)) as failure:
        wire.send(mail())
    assert not classify(failure.value).permanent
    assert server.texts == []
    server._answer = polite
    wire.send(mail())
    assert len(server.texts) == 1
    assert [piece for piece in server.pieces if piece.upper().startswith(b"MAIL")][-1].count(b"\r\n") == 1


def test_a_connection_that_died_while_idle_says_nothing_about_pipelining(
    scripted: Callable[..., Scripted], wire: Connection
) -> None:
    server = scripted(polite)
    wire.send(mail())
    wire._backend.connection.sock.shutdown(socket.SHUT_RDWR)
    wire.send(mail())
    assert len(server.texts) == 2
    assert Session._no_pipelining_before == 0.0


def test_what_is_out_of_step_is_a_lost_connection_to_whoever_names_it() -> None:
    assert classify(OutOfStep("odd")) == smtp.Failure("disconnected")
    assert smtp_backend.NO_PIPELINING_SECONDS >= 60
