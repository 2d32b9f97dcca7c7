"""A letter: text and the same in HTML, made into MIME by the quicker half of the standard library."""

from __future__ import annotations

import binascii
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import Compat32
from email.utils import format_datetime, formataddr, parseaddr
from typing import Any

from django.core.mail import EmailMultiAlternatives
from django.utils import timezone
from django.utils.encoding import punycode

MAX_LINE = 998
"""Characters of a line: RFC 5322 section 2.1.1."""

SHORT_LINE = 78
"""Characters of a line that need no folding: the same section."""


class _Policy(Compat32):
    """Writes a header that fits its line as it stands; taking it apart to fold it is half of what MIME costs."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        line = f"{name}: {value}"
        if isinstance(value, str) and len(line) <= SHORT_LINE and line.isascii() and line.isprintable():
            return f"{line}{self.linesep}".encode()
        return super().fold_binary(name, value)


_POLICY = _Policy(linesep="\r\n", mangle_from_=False, max_line_length=SHORT_LINE)


class UnmailableAddress(ValueError):
    """An address that no mail can be sent to, such as one of two lines, or one that needs SMTPUTF8."""


class Letter(EmailMultiAlternatives):
    """Django's message with its own way to MIME.

    Django 6 parses each header by the grammar of RFC 5322, which is most of what a mail costs. Ours are all written
    here and of one shape, so the older classes of the standard library do, and make the same bytes on every Django.
    """

    def message(self, **options: Any) -> Any:
        """The MIME message. Raises UnmailableAddress where a recipient's address could not stand in a header.

        `options` is the policy that Django 6 asks for; the one for SMTP is the only one in use here.
        """
        headers = {str(name): str(value) for name, value in self.extra_headers.items()}
        mime = _Mime("alternative", boundary=f"={headers['Message-ID'].strip('<>').partition('@')[0]}=", policy=_POLICY)
        mime["Subject"] = Header(str(self.subject), header_name="Subject").encode()
        mime["From"] = _address(self.from_email)
        mime["To"] = ", ".join(_address(address) for address in self.to)
        mime["Date"] = format_datetime(timezone.now())
        for name, value in headers.items():
            mime[name] = value
        mime.attach(_part("plain", str(self.body)))
        for html, _ in self.alternatives:
            mime.attach(_part("html", str(html)))
        return mime


class _Mime(MIMEMultipart):
    def as_bytes(self, *args: Any, **options: Any) -> bytes:
        # Each Django asks for line ends in a way of its own; they are what SMTP wants in any case.
        return super().as_bytes(policy=_POLICY)


def _part(kind: str, text: str) -> MIMENonMultipart:
    part = MIMENonMultipart("text", kind, policy=_POLICY, charset="utf-8")
    if text.isascii() and all(len(line) <= MAX_LINE for line in text.splitlines()):
        part["Content-Transfer-Encoding"] = "7bit"
        part.set_payload(text)
    else:
        part["Content-Transfer-Encoding"] = "quoted-printable"
        part.set_payload(binascii.b2a_qp(text.encode(), istext=True).decode())
    return part


def _address(address: str) -> str:
    """An address as a header may hold it, its domain in ASCII (RFC 5890)."""
    name, plain = parseaddr(address)
    local, _, domain = plain.rpartition("@")
    if not local.isascii() or not (local and domain) or any(letter in address for letter in "\r\n\0"):
        raise UnmailableAddress("The address cannot stand in a header.")
    return formataddr((name, f"{local}@{domain if domain.isascii() else punycode(domain)}"))
