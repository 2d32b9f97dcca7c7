"""What support does for people. Each act is a line of the timeline, with the name of whoever did it.

Nobody gets a handle, a code or a link by it, so whoever acts for somebody can neither follow a reset nor finish it.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from .. import brands, codes, signals, transitions
from ..addresses import clean_address, fold
from ..choices import EventKind, Mail
from ..exceptions import InvalidInput
from ..limits import rules
from ..lookup import find_mailbox
from ..models import ForgetPassword, PasswordResetEvent, insert_events
from . import verbs

NAME_LENGTH = 40
"""Characters of a name on the timeline."""


def start(email: str, by: str, brand: str = "") -> ForgetPassword:
    """Mail the owner of an address a link, and say that support has started it (OWASP ASVS 5.0 section 6.4.6).

    Each account that shares the address gets a link of its own, as with every reset. Raises InvalidInput where no
    account can be recovered by a mail to the address, with the reason for support, and RateLimited at the address's
    limits.
    """
    address = clean_address(email)
    if brands.find(brand) is None:
        raise InvalidInput("brand", f"BRANDS has no {brand}.")
    if reason := find_mailbox(address).reason:
        raise InvalidInput("email", f"No account can be recovered by a mail to this address: {reason}.")
    digest = codes.address_digest(fold(address))
    rules.check_address_may_request(digest)
    with transaction.atomic():
        record = ForgetPassword(email=address, email_digest=digest, brand=brand, mail_due=Mail.LINK, by_support=True)
        record.save(force_insert=True)
        PasswordResetEvent.write(record.pk, EventKind.STARTED, by[:NAME_LENGTH])
    return record


def send_again(record: ForgetPassword, by: str) -> None:
    """Have the mail sent once more, as the holder could. Raises UnknownRequest and RateLimited, as for the holder."""
    verbs.mail_again(record, by=by[:NAME_LENGTH])


def cancel(record: ForgetPassword, by: str) -> bool:
    """End the code, as the holder could; the mailed link goes on working. Returns whether there was one to end."""
    return verbs.give_up(record, by=by[:NAME_LENGTH])


def end(record: ForgetPassword, by: str) -> bool:
    """End a reset for good: neither code nor link works. Its holder is not told. Returns whether it was open."""
    now = timezone.now()
    with transaction.atomic():
        held = transitions.hold(record.pk, record.user_id, record.email_digest, now)
        if not any(row.is_under_way for row in held if row.pk == record.pk):
            return False
        transitions.supersede([record.pk], now)
        PasswordResetEvent.write(record.pk, EventKind.ENDED, by[:NAME_LENGTH])
    return True


def revive(pks: Collection[UUID], by: str) -> int:
    """Have dead mails tried again, once what stopped them is mended. Returns how many of these were dead."""
    with transaction.atomic():
        dead = list(ForgetPassword.objects.dead().filter(pk__in=pks).select_for_update().values_list("pk", flat=True))
        transitions.revive(ForgetPassword.objects.filter(pk__in=dead), timezone.now())
        insert_events(
            [PasswordResetEvent(record_id=pk, kind=EventKind.REVIVED, reason=by[:NAME_LENGTH]) for pk in dead]
        )
    for pk in dead:
        signals.mail_due.send(sender=ForgetPassword, pk=pk)
    return len(dead)
