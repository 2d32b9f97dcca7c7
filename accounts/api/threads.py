"""Lets synchronous resolvers be called by an asynchronous view."""

from __future__ import annotations

import os
from typing import Any

import strawberry
from asgiref.sync import sync_to_async
from strawberry.extensions import FieldExtension
from strawberry.utils.inspect import in_async_context


class InAThread(FieldExtension):
    """Has a field that asks the database resolved in a thread, where Django would refuse it: beside an event loop."""

    def resolve(self, next_: Any, source: Any, info: strawberry.Info, **kwargs: Any) -> Any:
        # What was read together with the record needs no thread: a live status has it all.
        if getattr(source, "spent", None) is not None:
            return next_(source, info, **kwargs)
        # A loop may also run where nobody can await: in a notebook, or in a test that drives a browser.
        if in_async_context() and not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
            return sync_to_async(next_)(source, info, **kwargs)
        return next_(source, info, **kwargs)
