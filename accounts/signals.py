"""The signals that other code may connect to; docs/signals.md shows how.

They are sent once the facts are committed, and for requests not before the mailer has looked, in a thread of its own:
so a slow receiver holds up no answer, and its slowness tells nobody whether an account exists.
"""

from django.dispatch import Signal

password_reset_requested = Signal()
"""Arguments: record. Sent for every request once it has been looked up; `record.user` may be None."""

password_reset_sent = Signal()
"""Arguments: record, mail (CODE, LINK or CHANGED). The mail server has accepted a mail."""

password_reset_verified = Signal()
"""Arguments: record. The code was right."""

password_reset_completed = Signal()
"""Arguments: record, user. The password has been replaced: revoke here what sessions do not cover."""

password_reset_reported = Signal()
"""Arguments: record. The owner says that it was somebody else."""

mail_due = Signal()
"""Arguments: pk. A record owes a mail; the mailer's doorbell, and of no use to anybody else."""
