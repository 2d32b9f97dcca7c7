"""One mail of each kind about an invented reset, for those who design or translate mails. No database is asked."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from ..choices import Mail
from ..models import ForgetPassword
from . import mails
from .mime import Letter

ADDRESS = "ada@example.com"
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"


def code(language: str, brand: str = "") -> Letter:
    """Code and link, for an address with one account."""
    return _reset(language, brand, with_code=True)


def link(language: str, brand: str = "") -> Letter:
    """The link alone: no code can be typed just now."""
    return _reset(language, brand)


def several_links(language: str, brand: str = "") -> Letter:
    """A link for each of the accounts that share an address."""
    return _reset(language, brand, accounts=2, with_code=True)


def fresh_link(language: str, brand: str = "") -> Letter:
    """After a report: the password is one that nobody knows."""
    return _reset(language, brand, fresh_link_for_id=uuid.uuid4())


def by_support(language: str, brand: str = "") -> Letter:
    """Support has started the reset: `manage.py start_reset`, or the admin."""
    return _reset(language, brand, by_support=True)


def changed(language: str, brand: str = "") -> Letter:
    """The news that the password was changed."""
    return mails.changed_mail(_record(language, brand, mail_due=Mail.CHANGED), ADDRESS)


def without_password(language: str, brand: str = "") -> Letter:
    """MAIL_WITHOUT_PASSWORD=explain: to somebody who signs in another way."""
    return mails.without_password_mail(_record(language, brand), ADDRESS, mails.NOBODY)


def unknown(language: str, brand: str = "") -> Letter:
    """MAIL_UNKNOWN=on: to an address that has no account."""
    return mails.unknown_mail(_record(language, brand), ADDRESS)


def _reset(language: str, brand: str, *, accounts: int = 1, with_code: bool = False, **fields: Any) -> Letter:
    record = _record(language, brand, **fields)
    return mails.reset_mail(record, ADDRESS, [mails.NOBODY] * accounts, with_code=with_code)


def _record(language: str, brand: str, **fields: Any) -> ForgetPassword:
    return ForgetPassword(email=ADDRESS, locale=language, brand=brand, generation=1, user_agent=_BROWSER, **fields)


SAMPLES: dict[str, Callable[..., Letter]] = {
    write.__name__: write
    for write in (code, link, several_links, fresh_link, by_support, changed, without_password, unknown)
}
"""For each kind of mail what writes one in a language, such as `de`, and for one of BRANDS."""
