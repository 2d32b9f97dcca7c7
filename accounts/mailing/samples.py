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


def _reset(language: str, *, accounts: int = 1, with_code: bool = True, **fields: Any) -> Letter:
    record = _record(language, **fields)
    return mails.reset_mail(record, ADDRESS, [mails.NOBODY] * accounts, with_code=with_code)


def _record(language: str, **fields: Any) -> ForgetPassword:
    return ForgetPassword(email=ADDRESS, locale=language, generation=1, user_agent=_BROWSER, **fields)


SAMPLES: dict[str, Callable[[str], Letter]] = {
    "code": _reset,
    "link": lambda language: _reset(language, with_code=False),
    "several_links": lambda language: _reset(language, accounts=2),
    "fresh_link": lambda language: _reset(language, with_code=False, fresh_link_for_id=uuid.uuid4()),
    "by_support": lambda language: _reset(language, with_code=False, by_support=True),
    "changed": lambda language: mails.changed_mail(_record(language, mail_due=Mail.CHANGED), ADDRESS),
    "without_password": lambda language: mails.without_password_mail(_record(language), ADDRESS, mails.NOBODY),
    "unknown": lambda language: mails.unknown_mail(_record(language), ADDRESS),
}
"""For each kind of mail what writes one in a language, such as `de`."""
