"""The mails themselves: one function for each, from record to message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.functional import Promise
from django.utils.translation import get_supported_language_variant
from django.utils.translation import gettext_lazy as _

from accounts import codes
from accounts.conf import conf
from accounts.models import ForgetPassword, account_of

SHOWN_NAME = 40
"""Characters of a username that a mail repeats; a name must not be able to carry a message."""

_LINK_LIKE = re.compile(r"\S*(//|www\.|mailto:|\.\w+/)\S*", re.IGNORECASE)
"""What a mail program may make a link of."""

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


def reset_mail(
    record: ForgetPassword, address: str, users: Sequence[Any], *, with_code: bool
) -> EmailMultiAlternatives:
    """The way back in: a link for each account of the mailbox, and the code where there is exactly one."""
    code = ""
    if with_code and len(users) == 1:
        code = codes.code(record.pk, record.seed, account_of(users[0]), record.generation)
    links = [
        {
            "name": _shown_name(user) or f"#{number}",
            "url": f"{conf.reset_page}#token={codes.link_token(record.pk, record.seed, account_of(user))}",
        }
        for number, user in enumerate(users, start=1)
    ]
    context = {
        "code": code,
        "links": links,
        "code_minutes": conf.PASSWORD_RESET_CODE_LIFETIME // 60,
        "link_minutes": conf.PASSWORD_RESET_LINK_LIFETIME // 60,
        "phrase": record.match_phrase,
        "asked_at": record.created_at,
        "asked_from": describe_client(record.user_agent),
    }
    subject = _("Your code to reset the password") if code else _("Your link to reset the password")
    return _message("reset", subject, address, record, context)


def changed_mail(record: ForgetPassword, address: str) -> EmailMultiAlternatives:
    """The news that the password is another one now. No code and no link to set a password is in it."""
    return _message("changed", _("Your password was changed"), address, record, {"changed_at": record.completed_at})


def describe_client(user_agent: str) -> str:
    """A browser and a system out of a fixed list, such as "Firefox, Linux"; empty where neither is known."""
    found = (next((name for mark, name in names.items() if mark in user_agent), "") for names in (_BROWSERS, _SYSTEMS))
    return ", ".join(name for name in found if name)


def _message(
    template: str, subject: Promise, address: str, record: ForgetPassword, context: dict[str, Any]
) -> EmailMultiAlternatives:
    host = urlsplit(conf.reset_page).hostname or ""
    with translation.override(_language(record.locale)):
        context = {"host": host, "reset_page": conf.reset_page, **context}
        spoken_subject = str(subject)
        # The origin-bound code must be the very last line.
        text = render_to_string(f"accounts/mail/{template}.txt", context).strip() + "\n"
        html = render_to_string(f"accounts/mail/{template}.html", context)
    sender_host = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or host
    headers = {
        # The same for every try: a server that has it already can tell, and so can a reader of two.
        "Message-ID": f"<{record.pk}.{record.mail_due.lower()}.{record.generation}@{sender_host}>",
        "Auto-Submitted": "auto-generated",
    }
    message = EmailMultiAlternatives(spoken_subject, text, settings.DEFAULT_FROM_EMAIL, [address], headers=headers)
    message.attach_alternative(html, "text/html")
    return message


def _language(locale: str) -> str:
    try:
        return get_supported_language_variant(locale.replace("_", "-")) if locale else settings.LANGUAGE_CODE
    except LookupError:
        return settings.LANGUAGE_CODE


def _shown_name(user: Any) -> str:
    printable = "".join(letter for letter in user.get_username() if letter.isprintable())
    return _LINK_LIKE.sub("", printable).strip()[:SHOWN_NAME]
