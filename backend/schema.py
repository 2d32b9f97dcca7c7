"""The root schema: the apps' queries and mutations under one roof."""

from __future__ import annotations

from strawberry.schema.config import StrawberryConfig

from accounts.api.errors import EXCEPTION_HANDLERS
from accounts.api.guards import EXTENSIONS, Schema
from accounts.api.schema import Mutation, Query, Subscription

schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    exception_handlers=EXCEPTION_HANDLERS,
    extensions=EXTENSIONS,
    config=StrawberryConfig(auto_camel_case=True),
)
