"""The mails themselves: one function for each, from record to message."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time, get_datetime_format
from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.html import escape
from django.utils.translation import get_supported_language_variant, ngettext
from django.utils.translation import gettext_lazy as _

from .. import brands, codes
from ..brands import Brand
from ..conf import REPORT_LIFETIME, conf
from ..directory import directory
from ..models import ForgetPassword
from .headers import parse_sender
from .mime import Letter

SHOWN_NAME = 40
"""Characters of a username that a mail repeats; a name must not be able to carry a message."""


NOBODY: Any = codes.Account("0", "!", "nobody@example.com")
"""The account of a mail that is written and never sent."""

_NOT_SHOWN = re.compile(r"[.@/\\\u3002]|mailto:|(\d[\W_]*){5}|\d-\d{3}-", re.IGNORECASE)
"""What mail programs make links of, and numbers to call: five digits, whatever signs and blanks stand between them.

For text in NFKC, in which full-width letters, digits and dots are plain ones.
"""


class _Kind(Enum):
    """A mail's subject, and the name of its templates."""

    CODE = _("Your code to reset the password"), "reset"
    LINK = _("Your link to reset the password"), "reset"
    FRESH_LINK = _("After your report: your link to choose another password"), "reset"
    CHANGED = _("Your password was changed"), "changed"
    WITHOUT_PASSWORD = _("How you sign in"), "without_password"
    UNKNOWN = _("No account with this address"), "unknown"


# Only these words are ever printed: a header that the asker wrote must not speak in a mail that we sign.
_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
_SYSTEMS = {
    "Windows": "Windows",
    "Android": "Android",
    "iPhone": "iOS",
    "iPad": "iPadOS",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def reset_mail(record: ForgetPassword, address: str, users: Sequence[Any], *, with_code: bool) -> Letter:
    """The way back in: a link for each account of the mailbox, and the code where there is exactly one."""
    code = ""
    if with_code and len(users) == 1:
        code = codes.code(record.pk, record.seed, _bound(users[0], record), record.generation)
    language = _language(record, users[0])
    words = {
        "code": code,
        "phrase": record.match_phrase,
        **_asked(record, language),
        "username": _whole_name(users[0]) if len(users) == 1 else "",
    }
    for number, user in enumerate(users, start=1):
        words[f"name{number}"] = _shown_name(user) or f"#{number}"
        token = codes.link_token(record.pk, record.seed, _bound(user, record))
        words[f"url{number}"] = brands.of(record.brand).link("token", token)
    kind = _Kind.FRESH_LINK if record.fresh_link_for_id else _Kind.CODE if code else _Kind.LINK
    return _message(kind, address, record, words, language, links=len(users))


def changed_mail(record: ForgetPassword, address: str) -> Letter:
    """The news that the password is another one now. Its only secret is the report token, which sets no password."""
    language = _language(record, record.user)
    words = {"changed_at": _moment(record.completed_at or record.updated_at, language)}
    return _message(_Kind.CHANGED, address, record, words, language)


def without_password_mail(record: ForgetPassword, address: str, user: Any) -> Letter:
    """To somebody who signs in another way: which, so that nobody waits for a code in vain. It has no secret."""
    ways = ", ".join(("Google", "Apple") if user is NOBODY else directory().sign_in_ways(user))
    language = _language(record, user)
    return _message(_Kind.WITHOUT_PASSWORD, address, record, {**_asked(record, language), "ways": ways}, language)


def unknown_mail(record: ForgetPassword, address: str) -> Letter:
    """To an address that has no account: so, and that another may have one. It has no secret."""
    language = _language(record)
    return _message(_Kind.UNKNOWN, address, record, _asked(record, language), language)


def describe_client(user_agent: str) -> str:
    """A browser and a system out of a fixed list, such as "Firefox, Linux"; empty where neither is known."""
    found = (next((name for mark, name in names.items() if mark in user_agent), "") for names in (_BROWSERS, _SYSTEMS))
    return ", ".join(name for name in found if name)


@dataclass(frozen=True, slots=True)
class _Form:
    """A mail of one kind in one language, rendered with blanks where each mail has words of its own.

    Rendering takes longer than all else that is done for a mail, and most mails differ in a few words only.
    """

    subject: str
    text: str
    html: str

    def fill(self, words: Mapping[str, str]) -> tuple[str, str]:
        """Text and HTML with the words in the blanks; in one pass, so that no word can bring a blank."""
        text = _BLANK.sub(lambda blank: words[blank[1]], self.text)
        return text, _BLANK.sub(lambda blank: escape(words[blank[1]]), self.html)


_BLANK = re.compile("\ue000(\\w+)\ue001")


@lru_cache(1024)
def _form(
    kind: _Kind, language: str, brand: Brand, blanks: tuple[str, ...], links: int, facts: tuple[tuple[str, Any], ...]
) -> _Form:
    """Render a form. Whatever it depends on is an argument, for forms are remembered by their arguments."""
    words = {name: f"\ue000{name}\ue001" for name in blanks}
    listed = [{"name": words[f"name{number}"], "url": words[f"url{number}"]} for number in range(1, links + 1)]
    shown = {
        "brand": brand.name,
        "logo": brand.logo,
        "palette": brand.palette,
        "host": brand.host,
        "reset_page": brand.reset_url,
        "support_email": brand.support_email,
        "sign_in_url": brand.sign_in_url,
    }
    optional = {"code": "", "asked_from": "", "username": "", "ways": ""}
    context = {**optional, **shown, **dict(facts), **words, "links": listed}
    sentence, template = kind.value
    with translation.override(language):
        context["subject"] = subject = f"{brand.name}: {sentence}"
        context |= {f"{what}_lasts": _lasting(context[f"{what}_seconds"]) for what in ("code", "link")}
        # The origin-bound code must be the very last line.
        text = render_to_string(f"account_recovery/mail/{template}.txt", context).strip() + "\n"
        html = render_to_string(f"account_recovery/mail/{template}.html", context)
        return _Form(subject, text, html)


def _message(
    kind: _Kind, address: str, record: ForgetPassword, words: Mapping[str, str], language: str, *, links: int = 0
) -> Letter:
    brand = brands.of(record.brand)
    facts = {
        "is_fresh_link": record.fresh_link_for_id is not None,
        "by_support": record.by_support,
        "report_days": REPORT_LIFETIME.days,
        "code_seconds": conf.PASSWORD_RESET_CODE_LIFETIME,
        "link_seconds": conf.PASSWORD_RESET_LINK_LIFETIME,
    }
    words = {**words, "report_url": brand.link("report", codes.report_token(record.pk, record.seed))}
    blanks = tuple(name for name, word in words.items() if word)
    form = _form(kind, language, brand, blanks, links, tuple(facts.items()))
    text, html = form.fill(words)
    sender = parse_sender(brand.sender)
    headers = {
        # The same for every try: a server that has it already can tell, and so can a reader of two. Another for each
        # mail that a person asks for: where the former one has been deleted, stores would hide a second of its name.
        "Message-ID": f"<{record.pk}.{record.mail_due.lower()}.{record.generation}.{record.resends}@{sender.domain}>",
        "Auto-Submitted": "auto-generated",
    }
    message = Letter(form.subject, text, brand.sender, [address], headers=headers)
    message.attach_alternative(html, "text/html")
    return message


def _lasting(seconds: int) -> str:
    """A lifetime as people say it: in hours or days where that is a whole number of them, in minutes otherwise."""
    minutes = seconds // 60
    if minutes % (24 * 60) == 0:
        days = minutes // (24 * 60)
        return ngettext("%(n)d day", "%(n)d days", days) % {"n": days}
    if minutes % 60 == 0:
        hours = minutes // 60
        return ngettext("%(n)d hour", "%(n)d hours", hours) % {"n": hours}
    return ngettext("%(n)d minute", "%(n)d minutes", minutes) % {"n": minutes}


def _asked(record: ForgetPassword, language: str) -> dict[str, str]:
    """When a reset was asked for, and by which browser."""
    return {"asked_at": _moment(record.created_at, language), "asked_from": describe_client(record.user_agent)}


def _moment(at: datetime, language: str) -> str:
    """A time as people of this language write it, such as `March 1, 2026, 12:00 PM UTC`."""
    try:
        locale = Locale.parse(language, sep="-")
    except UnknownLocaleError:
        locale = Locale("en")
    at = at.astimezone(UTC)
    both = str(get_datetime_format("medium", locale=locale)).replace("'", "")
    both = both.format(format_time(at, "short", UTC, locale), format_date(at, "long", locale))
    # A space that not every mail program knows, and that would keep an English mail from being plain ASCII.
    return both.replace("\u202f", " ") + " UTC"


def _language(record: ForgetPassword, user: Any = None) -> str:
    """The language that was asked in; where nobody has asked, as when support has begun, the account's own."""
    tag = record.locale or ("" if user is None or user is NOBODY else directory().language_of(user))
    try:
        return get_supported_language_variant(tag.replace("_", "-")) if tag else settings.LANGUAGE_CODE
    except LookupError:
        return settings.LANGUAGE_CODE


def _bound(user: Any, record: ForgetPassword) -> codes.Account:
    """What the codes of a mail are bound to. For nobody's it takes as long."""
    if user is not NOBODY:
        return directory().bound(user, record.email)
    return codes.Account(NOBODY.key, NOBODY.password, directory().address_of(None, NOBODY.address, record.email))


def _shown_name(user: Any) -> str:
    """The name as a mail may repeat it: empty where it holds what might lead the reader somewhere."""
    name = unicodedata.normalize("NFKC", "".join(letter for letter in _name_of(user) if letter.isprintable()))
    return "" if _NOT_SHOWN.search(name) else name.strip()[:SHOWN_NAME]


def _whole_name(user: Any) -> str:
    """The username, for those who have forgotten it; empty where a mail may not repeat it letter by letter."""
    name = _shown_name(user)
    return name if name == _name_of(user) else ""


def _name_of(user: Any) -> str:
    return "nobody" if user is NOBODY else directory().name_of(user)
