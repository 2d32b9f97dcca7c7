"""Header lines as every mail program reads them: in ASCII, short, and read back as what they were written from."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from email.charset import Charset
from functools import lru_cache
from itertools import groupby, repeat

from ..addresses import MAX_LENGTH, UnmailableAddress, ascii_address

SHORT_LINE = 78
"""Characters of a line, where there is a blank to break it at: RFC 5322 section 2.1.1."""
LONGEST_WORD = SHORT_LINE - len("Subject: ")
"""Characters of a word that fits behind each name. An encoded one may have 75: RFC 2047 section 2."""
LONGEST_NAME = 256
"""Characters of a sender's name; mail programs and servers cut longer ones, or take them for an attack."""
LONGEST_LOCAL_PART = 64
"""Characters before the @: RFC 5321 section 4.5.3.1.1."""
LONGEST_SHOWN = 200
"""Characters of a value that a message about it repeats."""

_UTF8 = Charset("utf-8")
_PIECE = re.compile(" *[^ ]+")
_ATOMS = re.compile(r"[\w!#$%&'*+/=?^`{|}~ -]*")
_SPECIALS = re.compile(r'[()<>@,:;\\"\[\]]')
"""What an unquoted name may not hold (RFC 5322 section 3.2.3), but for the dot, which everybody reads."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NEVER_PRINTED = {"Cc", "Cs", "Zl", "Zp"}


class BadSender(ValueError):
    """A sender that no mail can come from. The message is for an operator, and says what to write instead."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom mails come from: a name, or none, and an address in ASCII."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2].lower()

    @property
    def mailbox(self) -> str:
        """Both as a header writes them."""
        return f"{phrase(self.name)} <{self.address}>" if self.name else self.address


@lru_cache(16)
def parse_sender(text: str) -> Sender:
    """Read `Support <support@example.com>`, or an address alone. Raises BadSender.

    There are more lenient readers, and each of them makes something else of `Foo: bar <a@example.com>`.
    """
    text = text.strip()
    kinds = {unicodedata.category(each) for each in text}
    if "Cs" in kinds:  # what Python makes of bytes of the environment that it cannot read
        raise BadSender("It is not in UTF-8.")
    if kinds & _NEVER_PRINTED:
        raise BadSender("It holds a line end or another control character: take it out.")
    if not text.endswith(">"):
        return Sender("", _plain_address(text))
    name, bracket, address = text[:-1].rpartition("<")
    if not bracket:
        raise BadSender("It ends with > but has no <: write it as Support <support@example.com>.")
    return Sender(_name(name.strip(), address), _address(address))


@lru_cache(256)
def unstructured(text: str) -> str:
    """A text such as a subject, as a header holds it. A letter that no header can hold becomes a blank."""
    text = "".join(" " if unicodedata.category(each) in _NEVER_PRINTED else each for each in text)
    return text if _is_plain(text) else _encoded(text)


def phrase(name: str) -> str:
    """A name that stands before an address, as a header holds it."""
    written = name if _ATOMS.fullmatch(name) else '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    if _is_plain(written):
        return written
    if " ".join(words := name.split()) != name:
        return _encoded(name)
    # As few encoded words next to each other as can be: Python's newer parser leaves the blank between them standing.
    runs = groupby(words, key=lambda word: bool(_ATOMS.fullmatch(word)) and _is_plain(word))
    return " ".join(text if is_plain else _encoded(text) for is_plain, run in runs for text in [" ".join(run)])


def fold(line: str) -> str:
    """A header line, broken at blanks as far as it is too long; never right after its name, where some stop to read.

    Raises ValueError where it holds what cannot stand in a header.
    """
    if not (line.isascii() and line.isprintable()):
        raise ValueError("A header holds letters that must be encoded, or control characters.")
    if len(line) <= SHORT_LINE:
        return line
    name, *pieces = _PIECE.findall(line)
    lines = [name + "".join(pieces[:1])]
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) > SHORT_LINE:
            lines.append("")
        lines[-1] += piece
    return "\r\n".join(lines)


def _is_plain(text: str) -> bool:
    """Whether a header may hold it as it stands: each reader then reads the same, wherever the line is broken."""
    return (
        text.isascii()
        and text.isprintable()
        and "=?" not in text
        and " ".join(words := text.split()) == text
        and all(len(word) <= LONGEST_WORD for word in words)
    )


def _encoded(text: str) -> str:
    """In encoded words, each of whole letters; readers drop the blanks between them (RFC 2047 section 6.2)."""
    return " ".join(word for word in _UTF8.header_encode_lines(text, repeat(LONGEST_WORD)) if word)


def _plain_address(text: str) -> str:
    if "<" in text:
        raise BadSender("Close the address with a >, and write nothing after it.")
    if text.count("@") > 1 and re.search("[,;]", text):
        raise BadSender("It names several addresses: give one.")
    return _address(text)


def _name(name: str, address: str) -> str:
    quoted = _QUOTED.fullmatch(name)
    if quoted:
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    elif "@" in name and re.search("[,;]", name):
        raise BadSender("It names several addresses: give one.")
    elif _SPECIALS.search(name):
        inner = re.sub(r'(["\\])', r"\\\1", name.strip('"'))
        mended = _shown(f'"{inner}" <{address}>')
        raise BadSender(f'Its name has one of ()<>@,:;\\"[] in it: quote the name, as in {mended}')
    if "=?" in name:
        raise BadSender("Its name is encoded already: write it as people read it, in UTF-8.")
    if len(name) > LONGEST_NAME:
        raise BadSender(f"Its name is longer than {LONGEST_NAME} characters.")
    return name


def _address(address: str) -> str:
    """The address in ASCII; what is wrong with it is told with what to write instead."""
    local, at, domain = address.rpartition("@")
    if not (at and local and domain):
        raise BadSender("It has no address: write it as Support <support@example.com>.")
    if not local.isascii():
        raise BadSender("Its address has letters before the @ that are not ASCII: not every mail server takes them.")
    try:
        in_ascii = ascii_address(address)
    except UnmailableAddress:
        raise BadSender(f"No mail can come from {_shown(address)}: write an address as support@example.com.") from None
    domain = in_ascii.rpartition("@")[2]
    if len(local) > LONGEST_LOCAL_PART or len(in_ascii) > MAX_LENGTH or max(map(len, domain.split("."))) > 63:
        raise BadSender(
            f"Its address is too long: {LONGEST_LOCAL_PART} characters before the @ at the most, 63 between two dots "
            f"of the domain, and {MAX_LENGTH} in all."
        )
    if "." not in domain and domain.lower() != "localhost" and not domain.startswith("["):
        raise BadSender(
            "Its domain is incomplete: write it in full, such as mail.example.com (RFC 5321 section 2.3.5)."
        )
    return in_ascii


def _shown(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else "…"
