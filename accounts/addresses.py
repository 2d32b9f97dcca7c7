"""E-mail addresses as typed, as stored and as compared."""

import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _

from accounts.exceptions import InvalidInput

MAX_LENGTH = 254
"""Characters: RFC 5321 section 4.5.3.1.3, less the angle brackets."""


def clean_address(typed: str) -> str:
    """What a person typed, trimmed and in NFC, ready to be stored.

    The folded form is what must be a valid address: an input method may well type full-width letters, and those fold
    to the plain ones. Raises InvalidInput.
    """
    if len(typed) > 4 * MAX_LENGTH:
        raise InvalidInput("email", _("That is too long for an e-mail address."))
    address = unicodedata.normalize("NFC", typed.strip())
    if len(address) > MAX_LENGTH:
        raise InvalidInput("email", _("That is too long for an e-mail address."))
    try:
        validate_email(fold(address))
    except ValidationError:
        raise InvalidInput("email", _("That does not look like an e-mail address.")) from None
    return address


def fold(address: str) -> str:
    """The form in which two spellings of one address are equal: NFKC, then caseless (Unicode 3.13, D146)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address).casefold())


def is_blank(address: str) -> bool:
    """Whether it is no address at all: accounts that have none are many, and no two of them are the same one's."""
    return not fold(address).strip()


def ascii_fold(address: str) -> str:
    """Equal for stored addresses that differ only in the case of ASCII letters, and so are one mailbox to all of us."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in address)
