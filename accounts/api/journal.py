"""Writes a line for every verb that is asked for, whatever becomes of it: docs/logging.md lists its fields.

All verbs pass here, and use cases need not think of it. What is written is chosen, never what was sent: a record's
primary key and a short digest of the address stand for handle, token and address. Known and unknown addresses leave
the same line.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.schema.schema_converter import field_contains_type
from strawberry.types import get_object_definition
from strawberry.types.field import StrawberryField

from .. import codes, traces
from ..addresses import clean_address, fold
from ..exceptions import (
    InvalidCode,
    InvalidInput,
    InvalidResetToken,
    PasswordRejected,
    RateLimited,
    RecoveryError,
    UnknownRequest,
)
from ..metrics import OPERATIONS, REFUSALS
from .errors import RateLimitedError
from .failures import limited, unexpected
from .threads import InAThread

logger = logging.getLogger(__name__)

T = TypeVar("T")

DIGITS_OF_DIGEST = 12
"""Hexadecimal digits: enough to find the lines of one address again, and keyed, so that nobody can try addresses."""
QUESTIONS = {"passwordResetStatus", "passwordResetStatusChanged", "passwordPolicy"}
IMPATIENCE = {"cooldown", "resends"}
"""Limits that an honest person meets."""


class Journal(FieldExtension):
    """Notes each call of a root field, and tells the client what is no member of the field's type."""

    def apply(self, field: StrawberryField) -> None:
        self._tells_of_limits = field_contains_type(field, RateLimitedError)

    def resolve(self, next_: Any, source: Any, info: strawberry.Info, **kwargs: Any) -> Any:
        return note(info, kwargs, lambda: next_(source, info, **kwargs), tells_of_limits=self._tells_of_limits)


def note(info: strawberry.Info, arguments: dict[str, Any], call: Callable[[], T], *, tells_of_limits: bool) -> T:
    """What the call of a root field returns, noted. Raises what the client is told."""
    with traces.verb(info.field_name, info.context.request.headers):
        facts = {"verb": info.field_name, **_asked(arguments)}
        try:
            result = call()
        except RecoveryError as refused:
            _refused(facts, refused)
            if isinstance(refused, RateLimited) and not tells_of_limits:
                raise limited(refused) from None
            raise
        except Exception as error:  # noqa: BLE001 (told to the client by an id)
            # What it was, and the way to it, stands in the line that has its errorId.
            logger.error({"event": "verb failed", **facts, "outcome": type(error).__name__})  # noqa: TRY400
            _count(facts, "failed")
            raise unexpected(error, info.field_name) from None
        _done(facts, result)
        return result


def keep(*roots: type) -> None:
    """Have every field of these root types noted."""
    for root in roots:
        for field in get_object_definition(root, strict=True).fields:
            # The last one is called first: what the journal notes is done in the thread as well.
            field.extensions = [*field.extensions, Journal(), InAThread()]


def _asked(arguments: dict[str, Any]) -> dict[str, Any]:
    """Whom a call is about, as far as it says so itself: nobody has believed it yet."""
    given = vars(arguments["input"]) if "input" in arguments else arguments
    if "email" in given:
        return {"address": _digest(given["email"])}
    if handle := given.get("request_id"):
        parsed = codes.parse_handle(handle)
        return {"claimed": parsed[0] if parsed else None}
    for name, parse in (("reset_token", codes.parse_token), ("report_token", codes.parse_report_token)):
        if text := given.get(name):
            token = parse(text)
            return {"claimed": token.record_id if token else None}
    return {}


def _digest(typed: str) -> str | None:
    try:
        return codes.address_digest(fold(clean_address(typed)))[:DIGITS_OF_DIGEST]
    except InvalidInput:
        return None


def _done(facts: dict[str, Any], result: Any) -> None:
    record = getattr(result, "reset", result)
    if "claimed" in facts:
        claimed = facts.pop("claimed")
        facts |= {"record": claimed} if result is not None else {"claimed": claimed}
    elif isinstance(pk := getattr(record, "pk", None), uuid.UUID):
        facts |= {"record": pk}
    _count(facts, "done" if result is not None else UnknownRequest.__name__)
    if result is None:
        logger.warning({"event": "verb refused", **facts, "outcome": UnknownRequest.__name__})
    else:
        # A waiting page asks every few seconds.
        level = logging.DEBUG if facts["verb"] in QUESTIONS else logging.INFO
        logger.log(level, {"event": "verb done", **facts, "outcome": "done"})


def _refused(facts: dict[str, Any], refused: RecoveryError) -> None:
    if isinstance(refused, InvalidCode | PasswordRejected) and facts.get("claimed"):
        # Neither is said before handle or token have been believed.
        facts["record"] = facts.pop("claimed")
    _count(facts, type(refused).__name__)
    if isinstance(refused, RateLimited):
        REFUSALS.labels(refused.limit).inc()
    level = logging.WARNING if _is_suspicious(refused) else logging.INFO
    logger.log(level, {"event": "verb refused", **facts, "outcome": type(refused).__name__, **_reason(refused)})


def _count(facts: dict[str, Any], outcome: str) -> None:
    OPERATIONS.labels(facts["verb"], outcome).inc()
    traces.note(outcome=outcome, record=facts.get("record"))


def _reason(refused: RecoveryError) -> dict[str, Any]:
    if isinstance(refused, InvalidInput):
        return {"field": refused.field}
    if isinstance(refused, RateLimited):
        return {"limit": refused.limit, "retry_after": refused.retry_after}
    if isinstance(refused, InvalidCode):
        return {"attempts_left": refused.attempts_left}
    if isinstance(refused, PasswordRejected):
        return {"violations": [each.code for each in refused.violations]}
    return {}


def _is_suspicious(refused: RecoveryError) -> bool:
    """Whether it is what somebody who tries things out would meet."""
    if isinstance(refused, RateLimited):
        return refused.limit not in IMPATIENCE
    if isinstance(refused, InvalidCode):
        return refused.attempts_left == 0
    return isinstance(refused, UnknownRequest | InvalidResetToken)
