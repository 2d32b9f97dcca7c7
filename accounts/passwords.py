"""What a new password must satisfy: two validators of our own, and the policy as one question."""

from __future__ import annotations

import unicodedata
from typing import Any

from django.contrib.auth.password_validation import get_default_password_validators, validate_password
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from zxcvbn import zxcvbn

from accounts.conf import MAX_PASSWORD_LENGTH
from accounts.exceptions import PasswordRejected, Violation

STRENGTH_INPUT = 72
"""Code points that zxcvbn looks at: its work grows faster than its input, and whoever passes here passes in full."""
MIN_SCORE = 3
"""zxcvbn's "safely unguessable" against online and moderately against offline guessing."""


def normalize(password: str) -> str:
    """NFC, so that one keyboard's é is the other's (NIST SP 800-63B-4 section 3.1.1.2). Nothing is trimmed or cut."""
    return unicodedata.normalize("NFC", password)


def check(password: str, user: Any = None) -> int:
    """Hold a normalized password against the policy and return its strength, 0 to 4.

    With a user, the account's own words count too. Raises PasswordRejected with every rule that is broken.
    """
    try:
        validate_password(password, user)
    except ValidationError as error:
        violations = [Violation(each.code or "invalid", " ".join(each.messages)) for each in error.error_list]
        raise PasswordRejected(violations, _("That password will not do.")) from None
    return strength(password, user)


def strength(password: str, user: Any = None) -> int:
    """zxcvbn's score, 0 to 4, the account's own words counted as guesses."""
    return int(zxcvbn(password[:STRENGTH_INPUT], user_inputs=_own_words(user))["score"]) if password else 0


def rules() -> list[str]:
    """The policy in sentences, one for each validator."""
    return [str(validator.get_help_text()) for validator in get_default_password_validators()]


class MaximumLengthValidator:
    """Bounds the work of hashing; far above any length that a person or a password manager would choose."""

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) > MAX_PASSWORD_LENGTH:
            raise ValidationError(self.get_help_text(), code="password_too_long")

    def get_help_text(self) -> str:
        return ngettext(
            "Your password can have %(max)d character at most.",
            "Your password can have %(max)d characters at most.",
            MAX_PASSWORD_LENGTH,
        ) % {"max": MAX_PASSWORD_LENGTH}


class StrengthValidator:
    """Refuses what a guesser would try early: names, dates, keyboard rows, repetitions, and common words in a row."""

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) <= MAX_PASSWORD_LENGTH and strength(password, user) < MIN_SCORE:
            raise ValidationError(
                _("This password is easy to guess. Several unrelated words make a better one."),
                code="password_too_weak",
            )

    def get_help_text(self) -> str:
        return _("Your password should be hard to guess: several unrelated words do well.")


def _own_words(user: Any) -> list[str]:
    if user is None:
        return []
    name, email = user.get_username(), str(getattr(user, user.get_email_field_name(), ""))
    return [word for word in (name, email, *email.replace("@", ".").split(".")) if word]
