"""Email addresses as typed, as stored, as compared, and as written on an envelope."""

import re
import unicodedata
from functools import lru_cache

import idna
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _

from .exceptions import InvalidInput

MAX_LENGTH = 254
"""Characters: RFC 5321 section 4.5.3.1.3, less the angle brackets."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(\.{_ATOM})*|\"[ !#-\[\]-~]+\"")
"""A dot-atom, or a quoted string without escapes: RFC 5321 section 4.1.2."""
_DOMAIN = re.compile(r"(?!.*\.\.)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f.:IPv]+\]")
_ENCODED_WORD = re.compile(r"=\?.*\?=")
_JOINERS = "\u200c\u200d"
"""Invisible, and letters of a domain all the same: without them it may be somebody else's (RFC 5892, appendix A)."""


class UnmailableAddress(ValueError):
    """An address that no mail can be sent to, such as one of two lines, or one that needs SMTPUTF8."""


def clean_address(typed: str) -> str:
    """What a person typed, trimmed, in NFC and without what cannot be seen, ready to be stored.

    The folded form is what must be a valid address: an input method may well type full-width letters, and those fold
    to the plain ones. Raises InvalidInput.
    """
    if len(typed) > 4 * MAX_LENGTH:
        raise InvalidInput("email", _("That is too long for an email address."))
    local, at, domain = unicodedata.normalize("NFC", typed).rpartition("@")
    address = (without_invisible(local) + at + without_invisible(domain, keep=_JOINERS)).strip()
    if len(address) > MAX_LENGTH:
        raise InvalidInput("email", _("That is too long for an email address."))
    try:
        validate_email(fold(address))
    except ValidationError:
        raise InvalidInput("email", _("That is not a valid email address.")) from None
    return address


def without_invisible(text: str, *, keep: str = "") -> str:
    """The text without format characters (category Cf), such as U+200B and direction marks: copying brings them."""
    if text.isascii():
        return text
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf" or letter in keep)


def fold(address: str) -> str:
    """The form in which two spellings of one address are equal.

    The local part in NFKC, then caseless (Unicode 3.13, D146); the domain in ASCII, as its name servers know it.
    """
    local, at, domain = unicodedata.normalize("NFKC", address).rpartition("@")
    return _caseless(local) + at + (ascii_domain(domain) or _caseless(domain))


def spellings(address: str) -> set[str]:
    """Ways to write a folded address that differ in the script of its domain."""
    local, at, domain = address.rpartition("@")
    if "xn--" not in domain:
        return {address}
    try:
        return {address, f"{local}{at}{idna.decode(domain)}"}
    except idna.IDNAError:
        return {address}


def ascii_address(address: str) -> str:
    """The address as header and envelope write it, each of them the same. Raises UnmailableAddress.

    A local part stays as it is, to the letter. What looks like an encoded word is refused (RFC 2047 section 5): whoever
    decodes it sends the mail to somebody else.
    """
    local, _at, domain = address.rpartition("@")
    in_ascii = domain if domain.isascii() else ascii_domain(domain)
    if not _LOCAL.fullmatch(local) or _ENCODED_WORD.search(local) or not _DOMAIN.fullmatch(in_ascii):
        raise UnmailableAddress("The address cannot stand in a header.")
    return f"{local}@{in_ascii}"


@lru_cache(1024)
def ascii_domain(domain: str) -> str:
    """A domain in ASCII and lower case, or empty if it has no such form: IDNA 2008, mapped by UTS 46, not transitional.

    IDNA 2003, which Django and Python's own codec go by, makes fass.example of faß.example: another person's domain.
    """
    if domain.isascii() and "xn--" not in domain.lower():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError):
        return ""


def is_blank(address: str) -> bool:
    """Whether it is no address at all: accounts that have none are many, and no two of them are the same one's."""
    return not fold(address).strip()


def mailbox_of(address: str) -> str:
    """Equal for stored addresses that reach one mailbox for all we know: alike but for the case of ASCII letters.

    Of the domain its ASCII form counts, for there mails go.
    """
    local, at, domain = address.rpartition("@")
    return _ascii_lower(local) + at + (ascii_domain(domain) or _ascii_lower(domain))


def _ascii_lower(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _caseless(text: str) -> str:
    return unicodedata.normalize("NFKC", text.casefold())
