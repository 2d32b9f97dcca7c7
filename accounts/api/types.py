"""The GraphQL types but for the expected failures: see errors.py."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated

import strawberry
import strawberry_django
from django.utils import timezone
from strawberry import ID, auto

from .. import models
from ..recovery import verbs
from .errors import (
    InvalidCodeError,
    InvalidInputError,
    InvalidResetTokenError,
    PasswordRejectedError,
    RateLimitedError,
    UnknownRequestError,
)
from .threads import InAThread


@strawberry.enum(description="Where a reset stands. It moves alike for every address, with an account or without.")
class PasswordResetStatus(enum.Enum):
    QUEUED = strawberry.enum_value("QUEUED", description="Accepted; the mailer has not looked at it yet.")
    SENT = strawberry.enum_value("SENT", description="If there is an account, its email is on the way.")
    VERIFIED = strawberry.enum_value("VERIFIED", description="The code was right; its token waits for the password.")
    COMPLETED = strawberry.enum_value("COMPLETED", description="The new password is set.")
    EXPIRED = strawberry.enum_value(
        "EXPIRED", description="The time shown is over; a late email's code may still work, and a resend may help."
    )
    LOCKED = strawberry.enum_value("LOCKED", description="Too many wrong codes; an emailed link goes on working.")
    CANCELLED = strawberry.enum_value("CANCELLED", description="Given up; an emailed link goes on working.")


Record = strawberry.Parent[models.ForgetPassword]


@strawberry_django.type(
    models.ForgetPassword, name="PasswordReset", description="One reset, as the client that asked for it may see it."
)
class PasswordReset:
    created_at: auto
    is_user_password_updated: auto

    @strawberry.field(
        description="Opaque, 128 bits that nobody can guess, known only to the client that asked. Derived, never "
        "stored."
    )
    def request_id(self, record: Record) -> ID:
        return ID(record.handle)

    @strawberry.field(description="Where the reset stands now.", extensions=[InAThread()])
    def status(self, record: Record) -> PasswordResetStatus:
        now = timezone.now()
        return PasswordResetStatus[record.status(verbs.attempts_left(record, now), now)]

    @strawberry.field(
        description="Two words shown on the page and printed in the email: they tell your email from one that "
        "somebody else asked for."
    )
    def match_phrase(self, record: Record) -> str:
        return record.match_phrase

    @strawberry.field(description="How many codes may still be tried.", extensions=[InAThread()])
    def attempts_left(self, record: Record) -> int:
        return verbs.attempts_left(record, timezone.now())

    @strawberry.field(
        description="The newest code works until then at least, a late email's longer; null while queued."
    )
    def expires_at(self, record: Record) -> datetime | None:
        return record.expires_at

    @strawberry.field(description="When another email may be requested.")
    def resend_available_at(self, record: Record) -> datetime:
        return record.resend_available_at

    @strawberry.field(description="How long a waiting page should let pass before it asks for the status again.")
    def poll_after_seconds(self, record: Record) -> int:
        return int(record.poll_after(timezone.now()).total_seconds())


@strawberry.type(description="One rule of the policy, for a list that is ticked off while somebody types.")
class PasswordRule:
    text: str = strawberry.field(description="The rule in a sentence.")
    codes: list[str] = strawberry.field(
        description="The codes of the violations that break it; none where a validator of the site's own says nothing."
    )


@strawberry.type(description="What a new password must satisfy and how codes look, for forms that say so up front.")
class PasswordPolicy:
    code_length: int = strawberry.field(description="Digits of a code.")
    code_lifetime_seconds: int = strawberry.field(
        description="How long a code works, from the email that first brings it."
    )
    link_lifetime_seconds: int = strawberry.field(
        description="How long a link works, from the last email that brings it."
    )
    token_lifetime_seconds: int = strawberry.field(description="How long a proven code waits for the new password.")
    cooldown_seconds: int = strawberry.field(description="The least pause between two emails.")
    min_password_length: int = strawberry.field(description="Code points, after NFC.")
    max_password_length: int = strawberry.field(description="Code points, after NFC.")
    rules: list[str] = strawberry.field(description="The policy in sentences, to show beside the field.")
    checklist: list[PasswordRule] = strawberry.field(
        description="The same sentences, with the codes of what breaks them."
    )


# --- Inputs ----------------------------------------------------------------------------------------------------------


@strawberry.input(description="Whose password to reset.")
class RequestPasswordResetInput:
    email: str = strawberry.field(description="The address as the person typed it.")
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="A random string of 22 characters or more, made by the client for this one intention. Repeating it "
        "within an hour answers with the same reset and emails nothing.",
    )
    locale: str | None = strawberry.field(
        default=None, description="The language of the emails, such as en or pt-BR; otherwise Accept-Language decides."
    )
    app: ID | None = strawberry.field(
        default=None,
        description="Which of the configured brands and frontends asks, by its key (never a URL). Null: the default "
        "one. An unknown key is an InvalidInputError.",
    )


@strawberry.input(description="Which reset to email again.")
class ResendPasswordResetCodeInput:
    request_id: ID = strawberry.field(description="From requestPasswordReset.")


@strawberry.input(description="The code, and the reset it belongs to.")
class VerifyPasswordResetCodeInput:
    request_id: ID = strawberry.field(description="From requestPasswordReset.")
    code: str = strawberry.field(description="As the person typed it; spaces and dashes do not matter.")


@strawberry.input(description="The new password, and the right to set it.")
class ResetPasswordInput:
    reset_token: str = strawberry.field(description="From verifyPasswordResetCode, or out of the emailed link.")
    new_password: str = strawberry.field(description="As typed: nothing is trimmed or cut.")


@strawberry.input(description="A token to ask about.")
class CheckResetTokenInput:
    reset_token: str = strawberry.field(description="From verifyPasswordResetCode, or out of the emailed link.")


@strawberry.input(description="A password to try.")
class CheckPasswordInput:
    new_password: str = strawberry.field(description="As typed: nothing is trimmed or cut.")
    reset_token: str | None = strawberry.field(
        default=None, description="With it, the account's own words count too, exactly as resetPassword will."
    )


@strawberry.input(description="Which reset to give up.")
class CancelPasswordResetInput:
    request_id: ID = strawberry.field(description="From requestPasswordReset.")


@strawberry.input(description="The report token of an email.")
class ReportPasswordResetInput:
    report_token: str = strawberry.field(
        description='Out of the email\'s "this was not me" link. It works once: for seven days after the change of the '
        "password, or else after the last email that could lead to one."
    )


# --- Successes and payloads ------------------------------------------------------------------------------------------


@strawberry.type(description="The reset has begun, whether or not the address has an account.")
class RequestPasswordResetSuccess:
    reset: PasswordReset = strawberry.field(description="Keep its requestId: nobody else has it.")


@strawberry.type(description="The email is on its way again, if there is anybody to email.")
class ResendPasswordResetCodeSuccess:
    reset: PasswordReset = strawberry.field(description="The reset, as it stands now.")


@strawberry.type(description="The code was right.")
class VerifyPasswordResetCodeSuccess:
    reset_token: str = strawberry.field(description="Buys one resetPassword. Keep it in memory only.")
    expires_at: datetime = strawberry.field(description="When the token stops working.")
    reset: PasswordReset = strawberry.field(description="The reset, as it stands now.")


@strawberry.type(description="The password is changed, every session of the account is over, and nobody is signed in.")
class ResetPasswordSuccess:
    reset: PasswordReset = strawberry.field(description="The reset, as it stands now.")


@strawberry.type(description="The token is good.")
class CheckResetTokenSuccess:
    expires_at: datetime = strawberry.field(description="When it stops working.")


@strawberry.type(description="The password would be accepted.")
class CheckPasswordSuccess:
    score: int = strawberry.field(description="0 to 4.")


@strawberry.type(description="The reset is over; a link that was emailed stays the mailbox owner's.")
class CancelPasswordResetSuccess:
    reset: PasswordReset = strawberry.field(description="The reset, as it stands now.")


@strawberry.type(description="The owner has been heard.")
class ReportPasswordResetSuccess:
    cancelled: int = strawberry.field(description="How many open resets have been ended.")
    fresh_link: bool = strawberry.field(
        description="Whether the account's password is now one that nobody knows, and a fresh link on its way to the "
        "owner."
    )


RequestPasswordResetPayload = Annotated[
    RequestPasswordResetSuccess | InvalidInputError | RateLimitedError,
    strawberry.union("RequestPasswordResetPayload", description="What requestPasswordReset may answer."),
]
ResendPasswordResetCodePayload = Annotated[
    ResendPasswordResetCodeSuccess | UnknownRequestError | InvalidInputError | RateLimitedError,
    strawberry.union("ResendPasswordResetCodePayload", description="What resendPasswordResetCode may answer."),
]
VerifyPasswordResetCodePayload = Annotated[
    VerifyPasswordResetCodeSuccess | InvalidCodeError | UnknownRequestError | InvalidInputError | RateLimitedError,
    strawberry.union("VerifyPasswordResetCodePayload", description="What verifyPasswordResetCode may answer."),
]
ResetPasswordPayload = Annotated[
    ResetPasswordSuccess | InvalidResetTokenError | PasswordRejectedError | InvalidInputError | RateLimitedError,
    strawberry.union("ResetPasswordPayload", description="What resetPassword may answer."),
]
CheckResetTokenPayload = Annotated[
    CheckResetTokenSuccess | InvalidResetTokenError | InvalidInputError | RateLimitedError,
    strawberry.union("CheckResetTokenPayload", description="What checkResetToken may answer."),
]
CheckPasswordPayload = Annotated[
    CheckPasswordSuccess | PasswordRejectedError | InvalidResetTokenError | InvalidInputError | RateLimitedError,
    strawberry.union("CheckPasswordPayload", description="What checkPassword may answer."),
]
CancelPasswordResetPayload = Annotated[
    CancelPasswordResetSuccess | UnknownRequestError | InvalidInputError | RateLimitedError,
    strawberry.union("CancelPasswordResetPayload", description="What cancelPasswordReset may answer."),
]
ReportPasswordResetPayload = Annotated[
    ReportPasswordResetSuccess | InvalidResetTokenError | InvalidInputError | RateLimitedError,
    strawberry.union("ReportPasswordResetPayload", description="What reportPasswordReset may answer."),
]
