"""Why a recovery was refused: facts that a caller may be told. The GraphQL types of the same names add `Error`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.functional import Promise

Text = str | Promise


class RecoveryError(Exception):
    """The base of every expected failure; `message` is for people, in their language."""

    def __init__(self, message: Text) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(RecoveryError):
    """An argument that no reset could ever accept; `field` names it as the schema spells it."""

    def __init__(self, field: str, message: Text) -> None:
        super().__init__(message)
        self.field = field


class RateLimited(RecoveryError):
    """Too many, too fast; `retry_after` is in seconds, at least one. `limit` names the limit, for the log."""

    def __init__(self, retry_after: float, message: Text, *, limit: str = "") -> None:
        super().__init__(message)
        self.limit = limit
        self.retry_after = max(1, int(-(-retry_after // 1)))


class InvalidCode(RecoveryError):
    """Not the code, or not any more."""

    def __init__(self, attempts_left: int, message: Text) -> None:
        super().__init__(message)
        self.attempts_left = attempts_left


class InvalidResetToken(RecoveryError):
    """A token that is forged, spent, outlived, or made worthless by a changed password: which one is not told."""


class UnknownRequest(RecoveryError):
    """A handle that was never issued, or whose reset is over."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that a password breaks: the validator's own code and message."""

    code: str
    message: str


class PasswordRejected(RecoveryError):
    """A password that breaks the policy; nothing has been spent by trying it."""

    def __init__(self, violations: Sequence[Violation], message: Text) -> None:
        super().__init__(message)
        self.violations = tuple(violations)
