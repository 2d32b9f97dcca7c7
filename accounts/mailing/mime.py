"""A letter: text and the same in HTML, made into MIME by the quicker half of the standard library."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import Compat32
from email.utils import format_datetime
from typing import Any

from django.core.mail import EmailMultiAlternatives
from django.utils import timezone

from ..addresses import ascii_address
from .headers import SHORT_LINE, fold, parse_sender, unstructured

MAX_LINE = 998
"""Characters of a line: RFC 5322 section 2.1.1."""


class _Policy(Compat32):
    """Writes each header as `headers` would have it, without taking it apart first: that is half of what MIME costs."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        return f"{fold(f'{name}: {value}')}{self.linesep}".encode()


_POLICY = _Policy(linesep="\r\n", mangle_from_=False, max_line_length=SHORT_LINE)


class Letter(EmailMultiAlternatives):
    """Django's message with its own way to MIME.

    Django 6 parses each header by the grammar of RFC 5322, which is most of what a mail costs. Ours are all written
    here and of one shape, so the older classes of the standard library do, and make the same bytes on every Django.

    Addresses are put into ASCII once, here. So header and envelope name the same mailbox, whatever writes the envelope.
    Raises UnmailableAddress and BadSender.
    """

    def __init__(self, subject: str, text: str, sender: str, to: Sequence[str], *, headers: Mapping[str, str]) -> None:
        super().__init__(
            subject, text, parse_sender(sender).mailbox, [ascii_address(each) for each in to], headers=dict(headers)
        )

    def message(self, **options: Any) -> Any:
        """The MIME message.

        `options` is the policy that Django 6 asks for; the one for SMTP is the only one in use here.
        """
        headers = {str(name): str(value) for name, value in self.extra_headers.items()}
        mime = _Mime("alternative", boundary=f"={headers['Message-ID'].strip('<>').partition('@')[0]}=", policy=_POLICY)
        mime["Subject"] = unstructured(str(self.subject))
        mime["From"] = self.from_email
        mime["To"] = ", ".join(self.to)
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
        # Quoted-printable would break long lines, and so links; not every reader joins them.
        part["Content-Transfer-Encoding"] = "base64"
        part.set_payload(base64.encodebytes("\r\n".join(text.split("\n")).encode()).decode())
    return part
