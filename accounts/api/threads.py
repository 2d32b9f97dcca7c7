"""Lets synchronous resolvers be called by an asynchronous view."""

from __future__ import annotations

from typing import Any

import strawberry
from asgiref.sync import sync_to_async
from strawberry.extensions import FieldExtension
from strawberry.utils.inspect import in_async_context


class InAThread(FieldExtension):
    """Has a field that asks the database resolved in a thread, where an event loop would have to wait for it."""

    def resolve(self, next_: Any, source: Any, info: strawberry.Info, **kwargs: Any) -> Any:
        if in_async_context():
            return sync_to_async(next_)(source, info, **kwargs)
        return next_(source, info, **kwargs)
