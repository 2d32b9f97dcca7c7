"""Support starts a reset for somebody: the owner gets a link, nobody else anything (OWASP ASVS 5.0 section 6.4.6)."""

from __future__ import annotations

from django.db import transaction

from .. import brands, codes
from ..addresses import clean_address, fold
from ..choices import EventKind, Mail
from ..exceptions import InvalidInput
from ..limits import rules
from ..lookup import find_mailbox
from ..models import ForgetPassword, PasswordResetEvent


def start(email: str, by: str, brand: str = "") -> ForgetPassword:
    """Mail the owner of an address a link, and say that support has started it; `by` is noted on the timeline.

    Nobody gets a handle or a code, so whoever starts a reset can neither follow it nor finish it. Each account that
    shares the address gets a link of its own, as with every reset. Raises InvalidInput where no account can be
    recovered by a mail to the address, with the reason for support, and RateLimited at the address's limits.
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
        PasswordResetEvent.write(record.pk, EventKind.STARTED, by[:40])
    return record
