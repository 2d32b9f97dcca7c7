"""The development inbox as JSON, for tests of frontends: what was mailed to whom, with code and links read out."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_mail_preview.storage import get_storage
from django_mail_preview.views import allowed

MOST = 100
"""Mails of an answer, the newest first."""


@allowed
@never_cache
@require_safe
def inbox(request: HttpRequest) -> JsonResponse:
    """The mails to `to`, or to anybody, the newest first. A test that waits for one asks until there is one."""
    wanted = request.GET.get("to", "").strip().lower()
    found = [each for each in get_storage().list() if not wanted or wanted in map(str.lower, each.meta.to)]
    mails = [_read(each.meta, each.raw or b"") for each in found[:MOST]]
    return JsonResponse({"mails": mails})


def _read(meta: Any, raw: bytes) -> dict[str, Any]:
    body: Any = message_from_bytes(raw, policy=policy.default).get_body(("plain",))
    text = body.get_content() if body else ""
    links = re.findall(r"https?://\S+[#?]token=[\w-]+", text)
    report = re.search(r"https?://\S+[#?]report=([\w-]+)", text)
    code = re.search(r"^@\S+ #(\d+)\s*$", text, re.MULTILINE)
    return {
        "to": list(meta.to),
        "subject": meta.subject,
        "at": meta.date.isoformat(),
        "code": code and code[1],
        "link": links[0] if links else None,
        "links": links,
        "token": links[0].rpartition("token=")[2] if links else None,
        "report": report and report[0],
        "reportToken": report and report[1],
        "text": text,
    }
