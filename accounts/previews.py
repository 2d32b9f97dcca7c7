"""The mails for the list of previews in the development inbox; `?lang=de` shows one in German."""

from __future__ import annotations

from django.core.mail import EmailMessage
from django.utils import translation
from django_mail_preview import EmailPreview

from .mailing.samples import SAMPLES


class Recovery(EmailPreview):
    def code(self) -> EmailMessage:
        """Code and link, for an address with one account."""
        return self._sample("code")

    def link(self) -> EmailMessage:
        """The link alone: no code can be typed just now."""
        return self._sample("link")

    def several_links(self) -> EmailMessage:
        """A link for each of the accounts that share an address."""
        return self._sample("several_links")

    def fresh_link(self) -> EmailMessage:
        """After a report: the password is one that nobody knows."""
        return self._sample("fresh_link")

    def by_support(self) -> EmailMessage:
        """Support has started the reset: `manage.py start_reset`, or the admin."""
        return self._sample("by_support")

    def changed(self) -> EmailMessage:
        """The news that the password was changed."""
        return self._sample("changed")

    def without_password(self) -> EmailMessage:
        """MAIL_WITHOUT_PASSWORD=explain: to somebody who signs in another way."""
        return self._sample("without_password")

    def unknown(self) -> EmailMessage:
        """MAIL_UNKNOWN=on: to an address that has no account."""
        return self._sample("unknown")

    def _sample(self, kind: str) -> EmailMessage:
        return SAMPLES[kind](self.params.get("lang") or translation.get_language() or "")
