"""The project's schema: its own fields, and the app's among them."""

import strawberry
from account_recovery.api import EXCEPTION_HANDLERS, EXTENSIONS, Mutation, Query


@strawberry.type
class RootQuery(Query):
    @strawberry.field
    def ping(self) -> str:
        return "pong"

    @strawberry.field
    def broken(self) -> str:
        raise ValueError("the host's own")


@strawberry.type
class RootMutation(Mutation):
    @strawberry.mutation
    def echo(self, text: str) -> str:
        return text


schema = strawberry.Schema(
    query=RootQuery, mutation=RootMutation, extensions=[*EXTENSIONS], exception_handlers=EXCEPTION_HANDLERS
)
