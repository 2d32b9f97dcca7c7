"""Expected failures as GraphQL types, made from exceptions of the same names."""

from __future__ import annotations

import dataclasses
from typing import Any

import strawberry
from strawberry.types.field import StrawberryField

from .. import exceptions

# --- Failures --------------------------------------------------------------------------------------------------------


@strawberry.interface(
    description="Every expected failure: the type name is the stable code, the message is for people, in their "
    "language."
)
class Error:
    message: str = strawberry.field(description="For people, in their language.")


@strawberry.type(description="An argument that no reset could ever accept.")
class InvalidInputError(Error):
    field: str = strawberry.field(description="The argument's name, such as email.")


@strawberry.type(description="Too many, too fast; known and unknown addresses are limited alike.")
class RateLimitedError(Error):
    retry_after: int = strawberry.field(description="Seconds.")


@strawberry.type(description="Not the code, or not any more.")
class InvalidCodeError(Error):
    attempts_left: int = strawberry.field(description="How many codes may still be tried.")


@strawberry.type(description="A token that is forged, spent, outlived, or made worthless by a changed password.")
class InvalidResetTokenError(Error):
    pass


@strawberry.type(description="One rule that a password breaks.")
class PasswordViolation:
    code: str = strawberry.field(description="Stable, such as password_too_short.")
    message: str = strawberry.field(description="For people, in their language.")


@strawberry.type(description="A password that breaks the policy; nothing has been spent by trying it.")
class PasswordRejectedError(Error):
    violations: list[PasswordViolation] = strawberry.field(description="Every rule that it breaks.")


@strawberry.type(description="A handle that was never issued, or whose reset is over.")
class UnknownRequestError(Error):
    pass


class RefusalHandler:
    """Answers an exception by the error that has its name; each field of the error is an attribute of the exception.

    A `strawberry.ExceptionHandler`.
    """

    def __init__(self, exception_type: type[exceptions.RecoveryError], error_type: type[Error]) -> None:
        self.exception_type = exception_type
        self.error_type = error_type

    def handle(self, exception: exceptions.RecoveryError, *, field: StrawberryField, info: strawberry.Info) -> Error:
        facts = {each.name: getattr(exception, each.name) for each in dataclasses.fields(self.error_type)}
        return self.error_type(**{**facts, "message": str(exception.message)})


EXCEPTION_HANDLERS: tuple[strawberry.ExceptionHandler[Any, Any], ...] = (
    RefusalHandler(exceptions.InvalidInput, InvalidInputError),
    RefusalHandler(exceptions.RateLimited, RateLimitedError),
    RefusalHandler(exceptions.InvalidCode, InvalidCodeError),
    RefusalHandler(exceptions.InvalidResetToken, InvalidResetTokenError),
    RefusalHandler(exceptions.PasswordRejected, PasswordRejectedError),
    RefusalHandler(exceptions.UnknownRequest, UnknownRequestError),
)
