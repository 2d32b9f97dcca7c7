"""Letters as bytes: what goes over the wire must be a mail by the standards, whoever's name or language is in it."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage, Message
from email.policy import compat32
from typing import Any

import pytest

from accounts.letters import MAX_LINE, Letter, UnmailableAddress
from accounts.smtp import Failure, classify

MESSAGE_ID = "<0b5e.code.1@example.com>"


def letter(text: str = "Your code:\n\n123456\n", *, to: str = "ada@example.com", **more: Any) -> Letter:
    made = Letter(
        more.get("subject", "Your code"),
        text,
        more.get("sender", "Recovery <no-reply@example.com>"),
        [to],
        headers={"Message-ID": MESSAGE_ID, "Auto-Submitted": "auto-generated"},
    )
    made.attach_alternative(f"<p>{text}</p>", "text/html")
    return made


def wire(made: Letter) -> bytes:
    return bytes(made.message().as_bytes())


def read(made: Letter) -> EmailMessage:
    message = email.message_from_bytes(wire(made), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def body(made: Letter) -> str:
    part = read(made).get_body(("plain",))
    assert isinstance(part, EmailMessage)
    return str(part.get_content()).replace("\r\n", "\n")


def test_every_line_ends_as_smtp_wants() -> None:
    assert wire(letter()).replace(b"\r\n", b"").count(b"\n") == 0
    assert wire(letter("Gruß\nund Kuss\n")).replace(b"\r\n", b"").count(b"\n") == 0


@pytest.mark.parametrize("text", ["plain\nFrom here on\n.\n", "Grüße, 您好\n\n  eingerückt\n", "a" * 3000 + "\n"])
def test_a_text_arrives_as_it_was_written_in_ascii(text: str) -> None:
    sent = wire(letter(text))
    assert sent.isascii()
    assert max(map(len, sent.splitlines())) <= MAX_LINE
    assert body(letter(text)) == text


def test_a_subject_in_any_script_arrives() -> None:
    subject = "비밀번호를 다시 설정하는 데 필요한 코드입니다, 아무에게도 알려주지 마십시오 " * 2 + "!"
    assert read(letter(subject=subject))["Subject"] == subject


def test_a_domain_in_any_script_is_written_in_ascii() -> None:
    assert read(letter(to="ada@bücher.example"))["To"] == "ada@xn--bcher-kva.example"


def test_a_sender_may_have_a_name_in_any_script() -> None:
    sender = read(letter(sender="Wiederherstellung für alle <no-reply@example.com>"))["From"]
    assert sender.addresses[0].display_name == "Wiederherstellung für alle"
    assert sender.addresses[0].addr_spec == "no-reply@example.com"


@pytest.mark.parametrize(
    "address", ["ada@example.com\r\nBcc: eve@evil.example", "josé@example.com", "ada", "", "ada\0@example.com"]
)
def test_an_address_that_cannot_stand_in_a_header_is_refused_once_and_for_all(address: str) -> None:
    with pytest.raises(UnmailableAddress) as refused:
        wire(letter(to=address))
    assert classify(refused.value) == Failure("address", permanent=True)


def test_the_same_letter_has_the_same_boundary_each_time() -> None:
    """A boundary out of the air is searched for in the whole text each time; ours cannot stand there."""
    assert read(letter()).get_boundary() == read(letter()).get_boundary() == "=0b5e.code.1="


def test_a_header_is_written_as_the_standard_library_would_write_it_long_or_short() -> None:
    for name in ("Recovery", "Recovery of Accounts " * 6):
        made = letter(sender=f"{name.strip()} <no-reply@example.com>").message()
        assert bytes(made.as_bytes()) == Message.as_bytes(made, policy=compat32.clone(linesep="\r\n"))
