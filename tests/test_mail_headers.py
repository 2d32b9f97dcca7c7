"""The header lines of a mail: short, in ASCII, and read by each parser as what they were written from."""

from __future__ import annotations

import email
import email.policy
import re
from email.header import decode_header, make_header
from email.policy import compat32
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accounts.mailing.headers import LONGEST_NAME, BadSender, Sender, fold, parse_sender, phrase, unstructured
from accounts.mailing.mime import MAX_LINE, Letter
from accounts.mailing.smtp import Connection, classify
from harness.smtp_server import mail_server

ADDRESS = "no-reply@example.com"
KOREAN = "비밀번호를 다시 설정하는 데 필요한 코드입니다, 아무에게도 알려주지 마십시오 "
LONG = {
    "umlauts": "Wiederherstellung für alle Bürger und Bürgerinnen der Stadt Übersee, größte Behörde für Identität",
    "korean": KOREAN * 3,
    "emoji": "🔑🧑‍💻" * 30,
    "one long word": "x" * 200,
    "ascii": "Recovery of Accounts " * 8,
    "quoted": 'The "Recovery" of Accounts, by Example Inc. ' * 4,
    "blanks": "  two  blanks   here " * 6,
    "looks encoded": "=?utf-8?q?Eve?= and =?us-ascii?b?RXZl?=",
}

letters = st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"))
texts = st.one_of(st.text(letters, max_size=200), st.text('ab =?_"\\.,;:<>@()ü한🔑', max_size=200))


def letter(subject: str = "Your code", sender: str = ADDRESS, to: str = "ada@example.com") -> Letter:
    return Letter(subject, "123456\n", sender, [to], headers={"Message-ID": "<0b5e.code.1.0@example.com>"})


def quoted(name: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + f'" <{ADDRESS}>'


def head(made: Letter) -> list[bytes]:
    return bytes(made.message().as_bytes()).partition(b"\r\n\r\n")[0].split(b"\r\n")


def by_the_older_parser(made: Letter, name: str) -> str:
    value = str(email.message_from_bytes(made.message().as_bytes(), policy=compat32)[name])
    return re.sub(r"\r?\n(?=[ \t])", "", value)


def by_the_newer_parser(made: Letter) -> Any:
    message = email.message_from_bytes(made.message().as_bytes(), policy=email.policy.default)
    assert not message.defects
    assert not any(header.defects for header in message.values())
    return message


def named(name: str) -> Letter:
    made = letter()
    made.from_email = Sender(name, ADDRESS).mailbox
    return made


def name_by_the_older_parser(made: Letter) -> str:
    read, address = parseaddr(by_the_older_parser(made, "From"))
    assert address == ADDRESS
    return str(make_header(decode_header(read)))


def name_by_the_newer_parser(made: Letter) -> str:
    (mailbox,) = by_the_newer_parser(made)["From"].addresses
    assert mailbox.addr_spec == ADDRESS
    return str(mailbox.display_name)


def is_alike(read: str, written: str) -> bool:
    """Equal but for blanks: in names the newer parser keeps those between encoded words, against RFC 2047 section 6.2.

    So it does with what its own generator has written.
    """
    return re.sub(r"\s", "", read) == re.sub(r"\s", "", written)


def is_proper(made: Letter) -> bool:
    lines = head(made)
    assert all(len(line) <= 78 for line in lines)
    assert all(line.isascii() and line.strip() for line in lines)
    assert all(re.match(rb"[ \t]+\S|[\w-]+: \S", line) for line in lines), "a line that holds nothing"
    words = re.findall(rb"=\?[^?]+\?([bq])\?([^?]*)\?=", b"\r\n".join(lines))
    assert all(len(text) + 12 <= 75 for _, text in words)
    return True


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_subject_is_short_lines_that_are_read_as_it_was_written(text: str) -> None:
    made = letter(subject=text)
    assert is_proper(made)
    assert by_the_newer_parser(made)["Subject"] == text
    assert str(make_header(decode_header(by_the_older_parser(made, "Subject")))) == text


@pytest.mark.parametrize("name", LONG.values(), ids=LONG)
def test_a_long_name_of_a_sender_is_short_lines_that_are_read_as_it_was_written(name: str) -> None:
    assert is_proper(named(name))
    assert name_by_the_older_parser(named(name)) == name
    assert is_alike(name_by_the_newer_parser(named(name)), name)


@pytest.mark.parametrize("name", [name for name in LONG.values() if "=?" not in name and len(name) <= LONGEST_NAME])
def test_a_long_name_that_is_set_makes_short_lines_and_no_empty_one(name: str) -> None:
    assert is_proper(letter(sender=quoted(name)))
    assert name_by_the_older_parser(letter(sender=quoted(name))) == name


@pytest.mark.parametrize(
    "name",
    [
        "Kontowiederherstellung für alle Bürger und Bürgerinnen der Stadt Übersee am schönen See",
        "Café",
        "Größe, Maß & Co.",
        KOREAN[:12].strip(),
        'Der "größte" Hund',
    ],
)
def test_a_name_in_which_no_two_encoded_words_meet_is_read_as_it_was_written_by_each_parser(name: str) -> None:
    assert name_by_the_newer_parser(named(name)) == name_by_the_older_parser(named(name)) == name


@given(texts)
@example("a" * 69 + "  b")
@example(" ")
def test_any_subject_is_read_as_it_was_written(text: str) -> None:
    made = letter(subject=text or "x")
    assert is_proper(made)
    assert by_the_newer_parser(made)["Subject"] == (text or "x")
    assert str(make_header(decode_header(by_the_older_parser(made, "Subject")))) == (text or "x")


@given(texts)
def test_any_name_of_a_sender_is_read_as_it_was_written(name: str) -> None:
    assert is_proper(named(name))
    assert name_by_the_older_parser(named(name)) == name
    assert is_alike(name_by_the_newer_parser(named(name)), name)


@pytest.mark.parametrize("text", ["한" * 100, "🔑" * 100, "é" * 200, "aé" * 100])
def test_no_letter_is_split_between_two_encoded_words(text: str) -> None:
    words = unstructured(text).split(" ")
    assert len(words) > 1
    assert "".join(str(make_header(decode_header(word))) for word in words) == text


@pytest.mark.parametrize("text", ["a\r\nBcc: eve@evil.example", "a\nb", "a\0b", "a\x85b", "a\u2028b", "a\ud800b"])
def test_what_no_header_can_hold_becomes_a_blank(text: str) -> None:
    made = letter(subject=text)
    assert is_proper(made)
    assert by_the_newer_parser(made).keys() == by_the_newer_parser(letter()).keys()
    assert re.fullmatch("a +b|a +Bcc: eve@evil.example", by_the_newer_parser(made)["Subject"])


def test_a_long_address_stands_behind_the_name_or_on_a_line_of_its_own() -> None:
    long = "a" * 64 + "@" + ".".join(["b" * 60] * 3)
    lines = head(letter(to=long, sender=f"Recovery <{long}>"))
    assert f"To: {long}".encode() in lines
    assert [b"From: Recovery", f" <{long}>".encode()] == lines[lines.index(b"From: Recovery") :][:2]
    assert max(map(len, lines)) <= MAX_LINE


def test_a_line_with_what_cannot_stand_in_it_is_refused() -> None:
    for line in ("Subject: é", "Subject: a\r\nBcc: eve@evil.example", "Subject: \0"):
        with pytest.raises(ValueError, match="header"):
            fold(line)


# --- Whom mails come from --------------------------------------------------------------------------------------------

GOOD = {
    "support@example.com": ("", "support@example.com"),
    "<support@example.com>": ("", "support@example.com"),
    "Support <support@example.com>": ("Support", "support@example.com"),
    "  Support<support@example.com>  ": ("Support", "support@example.com"),
    '"Foo: bar" <a@example.com>': ("Foo: bar", "a@example.com"),
    '"a@example.com" <a@example.com>': ("a@example.com", "a@example.com"),
    r'"The \"best\", \\ever" <a@example.com>': (r'The "best", \ever', "a@example.com"),
    "Example Inc. <a@example.com>": ("Example Inc.", "a@example.com"),
    "Wiederherstellung für alle <a@example.com>": ("Wiederherstellung für alle", "a@example.com"),
    "Récupération\u00a0! <a@example.com>": ("Récupération\u00a0!", "a@example.com"),
    "Bücher <a@faß.example>": ("Bücher", "a@xn--fa-hia.example"),
    "a@BÜCHER.example": ("", "a@xn--bcher-kva.example"),
    '"Ada L" <"ada l"@example.com>': ("Ada L", '"ada l"@example.com'),
    "webmaster@localhost": ("", "webmaster@localhost"),
    "no-reply@[127.0.0.1]": ("", "no-reply@[127.0.0.1]"),
    "no-reply@[IPv6:::1]": ("", "no-reply@[IPv6:::1]"),
    quoted(LONG["umlauts"]): (LONG["umlauts"], ADDRESS),
    f"{'한' * LONGEST_NAME} <a@example.com>": ("한" * LONGEST_NAME, "a@example.com"),
}
BAD = {
    "a@example.com <a@example.com>": 'quote the name, as in "a@example.com" <a@example.com>',
    "Foo: bar <a@example.com>": 'quote the name, as in "Foo: bar" <a@example.com>',
    "Smith, Ada <a@example.com>": 'quote the name, as in "Smith, Ada" <a@example.com>',
    "Foo (Bar) <a@example.com>": 'quote the name, as in "Foo (Bar)" <a@example.com>',
    "[Staging] Foo <a@example.com>": 'quote the name, as in "[Staging] Foo" <a@example.com>',
    '"Foo <a@example.com>': 'quote the name, as in "Foo" <a@example.com>',
    'The "best" <a@example.com>': r'quote the name, as in "The \"best" <a@example.com>',
    "a@example.com, b@example.com": "several addresses",
    "a@example.com;b@example.com": "several addresses",
    "A <a@example.com>, B <b@example.com>": "several addresses",
    "": "no address",
    "Support": "no address",
    "Support <>": "no address",
    "Support <@example.com>": "no address",
    "Support <support@>": "no address",
    "Support <a@example.com> or so": "nothing after it",
    "Support <a@example.com": "Close the address",
    "Support a@example.com>": "no <",
    "Support a@example.com": "write an address as support@example.com",
    "mailto:a@example.com": "write an address as support@example.com",
    "a b@example.com": "write an address as support@example.com",
    "=?utf-8?q?ada?=@example.com": "write an address as support@example.com",
    "ada@exam_ple..com": "write an address as support@example.com",
    "a@\u2764..example": "write an address as support@example.com",
    "josé@example.com": "not ASCII",
    "Support <support@example>": "in full",
    "=?utf-8?q?Caf=C3=A9?= <a@example.com>": "as people read it",
    '"=?utf-8?q?Caf=C3=A9?=" <a@example.com>': "as people read it",
    "Support\r\nBcc: eve@evil.example <a@example.com>": "control character",
    "Sup\tport <a@example.com>": "control character",
    "a@example.com\0": "control character",
    "Caf\udce9 <a@example.com>": "not in UTF-8",
    f"{'x' * (LONGEST_NAME + 1)} <a@example.com>": "longer than 256",
    f"{'x' * 65}@example.com": "too long",
    f"a@{'x' * 64}.example": "too long",
    f"a@{'x.' * 150}example": "too long",
}


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_a_good_sender_is_read_and_is_the_same_in_header_and_envelope(
    settings: Any, text: str, expected: tuple[str, str]
) -> None:
    sender = parse_sender(text)
    assert (sender.name, sender.address) == expected
    with mail_server(settings) as server:
        connection = Connection()
        connection.send(letter(sender=text))
        connection.close()
        (taken,) = server.letters
    assert taken.sender == sender.address
    (mailbox,) = taken.message["From"].addresses
    assert is_alike(mailbox.display_name, sender.name)
    assert mailbox.addr_spec == sender.address


@pytest.mark.parametrize(("text", "told"), BAD.items())
def test_a_bad_sender_is_told_what_to_write_and_costs_nobody_a_mail(text: str, told: str) -> None:
    with pytest.raises(BadSender) as caught:
        parse_sender(text)
    assert told in str(caught.value)
    with pytest.raises(BadSender) as refused:
        letter(sender=text)
    assert not classify(refused.value).permanent


def test_a_mend_can_be_taken_as_it_stands() -> None:
    mended = [re.search("(?<=as in ).*", said) for said in BAD.values()]
    assert [parse_sender(each[0]).address for each in mended if each] == ["a@example.com"] * 7


def test_a_name_of_plain_words_stays_as_it_is() -> None:
    assert phrase("Account Recovery") == "Account Recovery"
    assert phrase("Example Inc.") == '"Example Inc."'
