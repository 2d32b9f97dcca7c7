"""Letters as bytes: what goes over the wire must be a mail by the standards, whoever's name or language is in it."""

from __future__ import annotations

import base64
import email
import email.policy
from email.message import EmailMessage, Message
from email.policy import compat32
from typing import Any

import pytest

from accounts.addresses import UnmailableAddress, ascii_address
from accounts.mailing.mime import MAX_LINE, Letter
from accounts.mailing.smtp import Connection, Failure, classify
from harness.smtp_server import mail_server

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


@pytest.mark.parametrize("page", ["accounts.example.com/reset/#token=", "app.example.com/#/reset?token="])
@pytest.mark.parametrize("words", ["Öffnen Sie", "打开", "افتح"])
def test_no_link_is_broken_whatever_language_stands_around_it(words: str, page: str) -> None:
    """Read back by three parsers: two of the standard library, and one that only joins what base64 has cut."""
    link = f"https://{page}{'a' * 86}"
    made = letter(f"{words}:\n\n{link}\n")
    assert link in body(made).split("\n")
    plain: Any = email.message_from_bytes(wire(made), policy=compat32).get_payload(0)
    assert link in plain.get_payload(decode=True).decode().split("\r\n")
    raw = wire(made).decode().partition("Content-Transfer-Encoding: base64\r\n\r\n")[2].partition("\r\n\r\n")[0]
    assert link in base64.b64decode(raw.partition("--=")[0]).decode().split("\r\n")


def test_a_subject_in_any_script_arrives() -> None:
    subject = "비밀번호를 다시 설정하는 데 필요한 코드입니다, 아무에게도 알려주지 마십시오 " * 2 + "!"
    assert read(letter(subject=subject))["Subject"] == subject


def test_a_domain_in_any_script_is_written_in_ascii() -> None:
    assert read(letter(to="ada@bücher.example"))["To"] == "ada@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("domain", "in_ascii"),
    [
        ("fa\u00df.example", "xn--fa-hia.example"),
        ("\u03b2\u03cc\u03bb\u03bf\u03c2.example", "xn--nxasmm1c.example"),
        ("a\u200db.example", None),
        ("B\u00dcCHER.example", "xn--bcher-kva.example"),
        ("xn--fa-hia.example", "xn--fa-hia.example"),
        ("\u4f8b\u5b50\u3002example", "xn--fsqu00a.example"),
    ],
)
def test_a_domain_is_nobody_elses_for_being_written_in_ascii(domain: str, in_ascii: str | None) -> None:
    """IDNA 2003 makes fass.example of the first, and drops the joiner of the third."""
    if in_ascii is None:
        with pytest.raises(UnmailableAddress):
            letter(to=f"ada@{domain}")
    else:
        assert letter(to=f"ada@{domain}").to == [f"ada@{in_ascii}"]


@pytest.mark.parametrize(
    "address",
    [
        "ada@fa\u00df.example",
        "ada@b\u00fccher.example",
        "Ada.Love+lace_1815@Example.COM",
        '"ada lovelace"@example.com',
        '"a@b"@example.com',
        "a!#$%&'*+/=?^`{|}~@example.com",
        "ada@[127.0.0.1]",
    ],
)
def test_header_and_envelope_name_the_same_mailbox(settings: Any, address: str) -> None:
    with mail_server(settings) as server:
        connection = Connection()
        connection.send(letter(to=address))
        connection.close()
        (taken,) = server.letters
    assert taken.recipients == (taken.message["To"].replace("\n", ""),)
    assert address.isascii() is (taken.recipients == (address,))
    assert taken.recipients == (ascii_address(address),)
    assert taken.recipients[0].rpartition("@")[0] == address.rpartition("@")[0]


def test_a_sender_may_have_a_name_in_any_script() -> None:
    sender = read(letter(sender="Wiederherstellung für alle <no-reply@example.com>"))["From"]
    assert sender.addresses[0].display_name == "Wiederherstellung für alle"
    assert sender.addresses[0].addr_spec == "no-reply@example.com"


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com\r\nBcc: eve@evil.example",
        "josé@example.com",
        "ada",
        "",
        "@example.com",
        "ada@",
        "ada\0@example.com",
        "=?utf-8?b?dmljdGlt?=@corp.example",
        "=?utf-8?q?a=00b?=@corp.example",
        "a=?utf-8?q?b?=c@corp.example",
        '"=?utf-8?b?dmljdGlt?="@corp.example',
        "ada..l@example.com",
        "ada@exam ple.com",
        "ada@example..com",
        "ada@-.example\u2764.com",
        '"ada\\"@example.com',
        " ada@example.com",
        "ada@example.com,eve@example.com",
        "<ada@example.com>",
    ],
)
def test_an_address_that_cannot_stand_in_a_header_is_refused_once_and_for_all(address: str) -> None:
    with pytest.raises(UnmailableAddress) as refused:
        letter(to=address)
    assert classify(refused.value) == Failure("address", permanent=True)


def test_the_same_letter_has_the_same_boundary_each_time() -> None:
    """A boundary out of the air is searched for in the whole text each time; ours cannot stand there."""
    assert read(letter()).get_boundary() == read(letter()).get_boundary() == "=0b5e.code.1="


def test_a_header_is_written_as_the_standard_library_would_write_it_long_or_short() -> None:
    for name in ("Recovery", "Recovery of Accounts " * 6):
        made = letter(sender=f"{name.strip()} <no-reply@example.com>").message()
        assert bytes(made.as_bytes()) == Message.as_bytes(made, policy=compat32.clone(linesep="\r\n"))


def test_a_message_id_stands_on_its_line_however_long_it_is() -> None:
    long = f"<{'0' * 90}@example.com>"
    made = Letter("Your code", "123456\n", "no-reply@example.com", ["ada@example.com"], headers={"Message-ID": long})
    assert f"\r\nMessage-ID: {long}\r\n".encode() in wire(made)
