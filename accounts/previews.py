"""The mails for the list of previews in the development inbox; `?lang=de` shows one in German,
`?brand=shop` that of one of BRANDS."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.mail import EmailMessage
from django.utils import translation
from django_mail_preview import EmailPreview

from .mailing.samples import SAMPLES


class Recovery(EmailPreview):
    """Has a method for each sample, which is how previews are found."""


def _preview(write: Callable[..., EmailMessage]) -> Callable[[Any], EmailMessage]:
    @wraps(write)
    def preview(self: EmailPreview) -> EmailMessage:
        return write(self.params.get("lang") or translation.get_language() or "", self.params.get("brand", ""))

    return preview


for _kind, _write in SAMPLES.items():
    setattr(Recovery, _kind, _preview(_write))
