"""The signals that other code may connect to; docs/signals.md shows how.

They are sent once the facts are committed. `password_reset_requested` and `password_reset_sent` come from the mailer,
so that a slow receiver cannot tell by an answer's time whether an account exists; the others come from the request
that proved a code, set a password or reported a reset, and a slow receiver of theirs holds up that one answer.
"""

import logging
from typing import Any

from django.dispatch import Signal

logger = logging.getLogger(__name__)

password_reset_requested = Signal()
"""Arguments: record. Sent for every request once it has been looked up; `record.user` may be None."""

password_reset_sent = Signal()
"""Arguments: record, mail (CODE, LINK or CHANGED). The mail server has accepted a mail."""

password_reset_verified = Signal()
"""Arguments: record. The code was right."""

password_reset_completed = Signal()
"""Arguments: record, user. The password has been replaced: revoke here what sessions do not cover."""

password_reset_reported = Signal()
"""Arguments: record, user. The owner says that it was somebody else. With a user, that account's password has been
replaced by one that nobody knows: revoke here, too, what sessions do not cover. Otherwise it is None."""


def announce(signal: Signal, **facts: Any) -> None:
    """Send a signal whose receivers can fail without undoing, or even holding up, what it tells of."""
    try:
        signal.send_robust(**facts)
    except Exception as error:  # noqa: BLE001 (Django itself stumbles over a failing receiver that has no name)
        logger.error("a receiver failed: %s", type(error).__name__)  # noqa: TRY400 (its text may hold anything)


mail_due = Signal()
"""Arguments: pk. A record owes a mail; the mailer's doorbell, and of no use to anybody else."""
