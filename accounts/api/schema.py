"""Query and Mutation of the app: each resolver hands over to one use case of `recovery`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, cast

import strawberry
from django.http import HttpRequest
from django.utils import translation
from strawberry import ID

from ..conf import MAX_PASSWORD_LENGTH, TOKEN_LIFETIME, conf
from ..exceptions import RateLimited
from ..models import ForgetPassword
from ..passwords import policy
from ..recovery import live, reporting, verbs
from ..recovery.client import Client, client_address
from . import journal
from .failures import limited, unknown_request
from .types import (
    CancelPasswordResetInput,
    CancelPasswordResetPayload,
    CancelPasswordResetSuccess,
    CheckPasswordInput,
    CheckPasswordPayload,
    CheckPasswordSuccess,
    CheckResetTokenInput,
    CheckResetTokenPayload,
    CheckResetTokenSuccess,
    PasswordPolicy,
    PasswordReset,
    PasswordRule,
    ReportPasswordResetInput,
    ReportPasswordResetPayload,
    ReportPasswordResetSuccess,
    RequestPasswordResetInput,
    RequestPasswordResetPayload,
    RequestPasswordResetSuccess,
    ResendPasswordResetCodeInput,
    ResendPasswordResetCodePayload,
    ResendPasswordResetCodeSuccess,
    ResetPasswordInput,
    ResetPasswordPayload,
    ResetPasswordSuccess,
    VerifyPasswordResetCodeInput,
    VerifyPasswordResetCodePayload,
    VerifyPasswordResetCodeSuccess,
)

_ARGUMENT = strawberry.argument(description="The one argument, so that a client has one variable to send.")


@strawberry.type(description="What can be asked without changing anything.")
class Query:
    @strawberry.field(
        description="Where a reset stands. Null for a handle that was never issued. Same shape and timing whether or "
        "not the account exists."
    )
    def password_reset_status(
        self,
        info: strawberry.Info,
        request_id: Annotated[ID, strawberry.argument(description="From requestPasswordReset.")],
    ) -> PasswordReset | None:
        record = verbs.status(request_id, _client(info))
        return _shown(record) if record else None

    @strawberry.field(
        description="What a new password must satisfy and how codes look, for forms that want to say so up front."
    )
    def password_policy(self) -> PasswordPolicy:
        rules = policy.rules()
        return PasswordPolicy(
            code_length=conf.PASSWORD_RESET_CODE_LENGTH,
            code_lifetime_seconds=conf.PASSWORD_RESET_CODE_LIFETIME,
            link_lifetime_seconds=conf.PASSWORD_RESET_LINK_LIFETIME,
            token_lifetime_seconds=int(TOKEN_LIFETIME.total_seconds()),
            cooldown_seconds=conf.PASSWORD_RESET_COOLDOWN,
            min_password_length=conf.PASSWORD_MIN_LENGTH,
            max_password_length=MAX_PASSWORD_LENGTH,
            rules=[rule.text for rule in rules],
            checklist=[PasswordRule(text=rule.text, codes=list(rule.codes)) for rule in rules],
        )


@strawberry.type(description="The steps of a reset. Each answers with a union: a success, or the failures to expect.")
class Mutation:
    @strawberry.mutation(
        description="Start a reset: creates a ForgetPassword record whose post_save signal dispatches the mailer. "
        "Never says whether the account exists."
    )
    def request_password_reset(
        self, info: strawberry.Info, input: Annotated[RequestPasswordResetInput, _ARGUMENT]
    ) -> RequestPasswordResetPayload:
        record = verbs.request(
            input.email,
            _client(info),
            idempotency_key=input.idempotency_key,
            locale=input.locale or translation.get_language() or "",
            brand=input.app or "",
        )
        return RequestPasswordResetSuccess(reset=_shown(record))

    @strawberry.mutation(description="Email the same code and link again, after the cooldown.")
    def resend_password_reset_code(
        self, info: strawberry.Info, input: Annotated[ResendPasswordResetCodeInput, _ARGUMENT]
    ) -> ResendPasswordResetCodePayload:
        record = verbs.resend(input.request_id, _client(info))
        return ResendPasswordResetCodeSuccess(reset=_shown(record))

    @strawberry.mutation(
        description="Trade the emailed code for a short-lived reset token. Counts an attempt before it compares."
    )
    def verify_password_reset_code(
        self, info: strawberry.Info, input: Annotated[VerifyPasswordResetCodeInput, _ARGUMENT]
    ) -> VerifyPasswordResetCodePayload:
        verified = verbs.verify(input.request_id, input.code, _client(info))
        return VerifyPasswordResetCodeSuccess(
            reset_token=verified.reset_token, expires_at=verified.expires_at, reset=_shown(verified.record)
        )

    @strawberry.mutation(
        description="Set the new password with a reset token (from verifyPasswordResetCode, or out of the emailed "
        "link). Single use. Signs nobody in."
    )
    def reset_password(
        self, info: strawberry.Info, input: Annotated[ResetPasswordInput, _ARGUMENT]
    ) -> ResetPasswordPayload:
        return ResetPasswordSuccess(reset=_shown(verbs.reset(input.reset_token, input.new_password, _client(info))))

    @strawberry.mutation(
        description="Is this token (from a code or an emailed link) still good? Spends nothing; lets a page say "
        '"expired" before anybody types a password.'
    )
    def check_reset_token(
        self, info: strawberry.Info, input: Annotated[CheckResetTokenInput, _ARGUMENT]
    ) -> CheckResetTokenPayload:
        return CheckResetTokenSuccess(expires_at=verbs.check_token(input.reset_token, _client(info)))

    @strawberry.mutation(description="Try a password against the policy without spending anything.")
    def check_password(
        self, info: strawberry.Info, input: Annotated[CheckPasswordInput, _ARGUMENT]
    ) -> CheckPasswordPayload:
        return CheckPasswordSuccess(score=verbs.check_password(input.new_password, input.reset_token, _client(info)))

    @strawberry.mutation(
        description="Give a reset up: its code and code token die; the emailed link stays the mailbox owner's."
    )
    def cancel_password_reset(
        self, info: strawberry.Info, input: Annotated[CancelPasswordResetInput, _ARGUMENT]
    ) -> CancelPasswordResetPayload:
        return CancelPasswordResetSuccess(reset=_shown(verbs.cancel(input.request_id, _client(info))))

    @strawberry.mutation(
        description='"This was not me", from the link in an email: ends every open reset of the account; after a '
        "completed one it also replaces the password by a random one, ends the sessions and emails the owner a fresh "
        "link."
    )
    def report_password_reset(
        self, info: strawberry.Info, input: Annotated[ReportPasswordResetInput, _ARGUMENT]
    ) -> ReportPasswordResetPayload:
        reported = reporting.report(input.report_token, _client(info))
        return ReportPasswordResetSuccess(cancelled=reported.ended, fresh_link=reported.fresh_link)


@strawberry.type(description="What can be watched.")
class Subscription:
    @strawberry.subscription(
        description="The reset now and after each change, until it is over. Over server-sent events; poll "
        "passwordResetStatus where it cannot be had."
    )
    async def password_reset_status_changed(
        self,
        info: strawberry.Info,
        request_id: Annotated[ID, strawberry.argument(description="From requestPasswordReset.")],
    ) -> AsyncGenerator[PasswordReset, None]:
        client = _client(info)

        def find() -> ForgetPassword | None:
            return journal.note(
                info, {"request_id": request_id}, lambda: verbs.status(request_id, client), tells_of_limits=False
            )

        try:
            record = await live.begin(find)
            if record is None:
                raise unknown_request(verbs.unknown())
            with suppress(AttributeError):  # a project's own context may be frozen
                # A stream may live for long, and has no more use for them: they are much of its memory.
                info.context.request = info.context.response = None
            async for changed in live.changes(record, client.ip):
                yield _shown(changed)
        except RateLimited as refused:
            raise limited(refused) from None


journal.keep(Query, Mutation)


def _client(info: strawberry.Info) -> Client:
    request: HttpRequest = info.context.request
    return Client(ip=client_address(request), user_agent=request.headers.get("User-Agent", ""))


def _shown(record: ForgetPassword) -> PasswordReset:
    # strawberry-django resolves the type's fields on the model instance itself.
    return cast(PasswordReset, record)
