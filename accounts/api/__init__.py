"""Telling: the GraphQL side, for a root schema to take in.

from account_recovery.api import EXCEPTION_HANDLERS, EXTENSIONS, GraphQLView, Mutation, Query, Schema, Subscription
"""

from .errors import EXCEPTION_HANDLERS
from .guards import EXTENSIONS, Schema
from .schema import Mutation, Query, Subscription
from .view import GraphQLView

__all__ = ["EXCEPTION_HANDLERS", "EXTENSIONS", "GraphQLView", "Mutation", "Query", "Schema", "Subscription"]
