"""GraphQL documents, parsed, measured and validated once, and then remembered.

A frontend sends the same few documents over and over; without the cache, parsing and validating them is most of what a
request costs. Everything that is bounded is bounded here, before anything executes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OverlappingFieldsCanBeMergedRule,
    SelectionSetNode,
    parse,
    specified_rules,
    validate,
)
from graphql import ExecutionResult as GraphQLExecutionResult
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionResult

from ..conf import conf
from .fields import handle_taking_fields, secret_checking_fields
from .trusted import REFUSAL, is_trusted

MAX_TOKENS = 1000
MAX_DEPTH = 15
"""Levels of selection; the introspection that tools send needs thirteen."""
MAX_FIELDS = 500
"""Fields with every fragment spelled out; the introspection that tools send has about a hundred and fifty."""
MAX_OPERATIONS = 20
MAX_ALIASES = 15
MAX_DIRECTIVES = 20
MAX_REPEATS = 20
"""Times that one field may stand at one place of the answer, through fragments too: validation compares every two of
them. Clients that put `__typename` or `message` into each member of a union repeat it seven times."""
MAX_ALIAS = 100
"""Characters. An answer repeats an alias wherever its fragment stands: 55 kB of document were answered with 385 kB."""
MAX_ERRORS = 5
"""What is wrong with a document or with its variables; one more says that there are others."""
MAX_MESSAGE = 300
"""Characters. An error quotes what it is about: 52 kB of document were answered with 5 MB of errors, and 60 kB of
variables with 169 kB."""
REMEMBERED = 256
"""Documents; distinct ones beyond it push the least used out, so that no client can grow the memory."""


@dataclass(slots=True)
class Measure:
    """What a selection amounts to once its fragments are spelled out."""

    depth: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0
    longest_alias: int = 0
    names: dict[str, int] = field(default_factory=dict)
    """How often each field name stands at the top of the selection."""

    def add(self, other: Measure, *, below: bool) -> None:
        self.depth = max(self.depth, other.depth + below)
        self.fields += other.fields
        self.aliases += other.aliases
        self.directives += other.directives
        self.longest_alias = max(self.longest_alias, other.longest_alias)
        if not below:
            for name, count in other.names.items():
                self.names[name] = self.names.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A good document with the measure of each of its operations, or what is wrong with a bad one."""

    document: DocumentNode | None
    errors: tuple[GraphQLError, ...]
    operations: tuple[tuple[OperationDefinitionNode, Measure], ...] = ()

    def operation(self, name: str | None) -> OperationDefinitionNode | None:
        """The operation to run: the one of that name, or the only one; None where that is nobody or not clear."""
        if name is None:
            return self.operations[0][0] if len(self.operations) == 1 else None
        return next((node for node, _ in self.operations if node.name and node.name.value == name), None)

    def count(self, names: frozenset[str]) -> int:
        """How often fields of these names stand at the top of all the operations together."""
        return sum(measure.names.get(name, 0) for _, measure in self.operations for name in names)

    def asks_too_much(self, schema: object) -> str:
        """Why a document of several guesses, or of several handles, is not run; empty where it is none."""
        return next((reason for fields, reason in ONE_AT_A_TIME if self.count(fields(schema)) > 1), "")


ONE_AT_A_TIME = (
    (secret_checking_fields, "At most one field that checks a secret may be sent at a time."),
    (handle_taking_fields, "At most one field that takes a requestId may be sent at a time."),
)


def prepare(schema: object, query: str) -> PreparedDocument:
    """Parse, measure and validate a document, or remember having done so."""
    return _prepare(schema, query, conf.GRAPHQL_INTROSPECTION)


class PreparedDocuments(SchemaExtension):
    """Hands Strawberry the remembered document and its errors in place of parsing and validating again.

    What else goes wrong is told as shortly as what is wrong with a document, whoever has the schema execute it.
    """

    def on_operation(self) -> Iterator[None]:
        yield
        result = self.execution_context.result
        if isinstance(result, GraphQLExecutionResult | ExecutionResult) and result.errors:
            result.errors = [_short(error) for error in result.errors]

    def on_parse(self) -> Iterator[None]:
        context = self.execution_context
        if not is_trusted(context.query or ""):
            raise GraphQLError(REFUSAL)
        prepared = prepare(context.schema, context.query or "")
        if prepared.document is None:
            raise prepared.errors[0]
        if reason := prepared.asks_too_much(context.schema):
            raise GraphQLError(reason)
        context.graphql_document = prepared.document
        yield

    def on_validate(self) -> Iterator[None]:
        self.execution_context.validation_rules = ()
        yield


@lru_cache(REMEMBERED)
def _prepare(schema: object, query: str, introspection: bool) -> PreparedDocument:
    try:
        document = parse(query, max_tokens=MAX_TOKENS)
        operations = _measure_operations(document)
        errors = _over_bounds(operations)
        if not errors:
            errors = _invalid(schema, document, introspection)
    except GraphQLError as error:
        errors = [error]
    except RecursionError:
        errors = [GraphQLError("The document is nested too deeply.")]
    if errors:
        return PreparedDocument(None, tuple(_short(error) for error in errors))
    return PreparedDocument(document, (), operations)


def _short(error: GraphQLError) -> GraphQLError:
    """The error without the tree it points into, and with a message that repeats little of what was sent."""
    message = error.message if len(error.message) <= MAX_MESSAGE else f"{error.message[:MAX_MESSAGE]}…"
    return GraphQLError(
        message, source=error.source, positions=error.positions, path=error.path, extensions=error.extensions
    )


# Whether fields can be merged is the one question whose cost grows with the square of the document: 198 times the same
# field took 190 ms; MAX_REPEATS of it take 15. It comes last, when no fragment holds itself any more.
_LINEAR_RULES = tuple(rule for rule in specified_rules if rule is not OverlappingFieldsCanBeMergedRule)


def _invalid(schema: object, document: DocumentNode, introspection: bool) -> list[GraphQLError]:
    core_schema = schema._schema  # type: ignore[attr-defined]
    rules = [*_LINEAR_RULES, *([] if introspection else [NoSchemaIntrospectionCustomRule])]
    return (
        validate(core_schema, document, rules, MAX_ERRORS, hide_suggestions=not introspection)
        or _too_often(document)
        or validate(core_schema, document, [OverlappingFieldsCanBeMergedRule], MAX_ERRORS)
    )


def _too_often(document: DocumentNode) -> list[GraphQLError]:
    fragments = _fragments(document)
    for operation in document.definitions:
        if isinstance(operation, OperationDefinitionNode):
            places: Counter[tuple[str, ...]] = Counter()
            _count_places(operation.selection_set, fragments, (), places, set())
            place, found = places.most_common(1)[0]
            if found > MAX_REPEATS:
                message = f"The document has {found} times {place[-1]} in one place; {MAX_REPEATS} are allowed."
                return [GraphQLError(message)]
    return []


def _count_places(
    selection_set: SelectionSetNode,
    fragments: dict[str, FragmentDefinitionNode],
    above: tuple[str, ...],
    places: Counter[tuple[str, ...]],
    seen: set[tuple[tuple[str, ...], str]],
) -> None:
    """Count how often each place of the answer is asked for. A fragment counts once at a place, as in validation."""
    for node in selection_set.selections:
        if isinstance(node, FieldNode):
            place = (*above, (node.alias or node.name).value)
            places[place] += 1
            if node.selection_set:
                _count_places(node.selection_set, fragments, place, places, seen)
        elif isinstance(node, InlineFragmentNode):
            _count_places(node.selection_set, fragments, above, places, seen)
        elif isinstance(node, FragmentSpreadNode) and (above, node.name.value) not in seen:
            seen.add((above, node.name.value))
            _count_places(fragments[node.name.value].selection_set, fragments, above, places, seen)


def _over_bounds(operations: tuple[tuple[OperationDefinitionNode, Measure], ...]) -> list[GraphQLError]:
    total = Measure()
    for _, measure in operations:
        total.add(measure, below=False)
    bounds = (
        ("operations", len(operations), MAX_OPERATIONS),
        ("levels deep", total.depth, MAX_DEPTH),
        ("fields", total.fields, MAX_FIELDS),
        ("aliases", total.aliases, MAX_ALIASES),
        ("directives", total.directives, MAX_DIRECTIVES),
        ("characters in an alias", total.longest_alias, MAX_ALIAS),
    )
    return [
        GraphQLError(f"The document has {found} {what}; {most} are allowed.")
        for what, found, most in bounds
        if found > most
    ]


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}


def _measure_operations(document: DocumentNode) -> tuple[tuple[OperationDefinitionNode, Measure], ...]:
    fragments = _fragments(document)
    measured: dict[str, Measure] = {}
    return tuple(
        (node, _measure(node.selection_set, fragments, measured))
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    )


def _measure(
    selection_set: SelectionSetNode | None, fragments: dict[str, FragmentDefinitionNode], measured: dict[str, Measure]
) -> Measure:
    """Measure a selection. Each fragment is measured once, or a short document could ask for an endless sum."""
    total = Measure()
    for node in selection_set.selections if selection_set else ():
        total.directives += len(node.directives or ())
        if isinstance(node, FragmentSpreadNode):
            name = node.name.value
            if name not in measured:
                measured[name] = Measure()  # a fragment within itself adds nothing here; validation will refuse it
                fragment = fragments.get(name)
                measured[name] = _measure(fragment.selection_set if fragment else None, fragments, measured)
            total.add(measured[name], below=False)
        elif isinstance(node, FieldNode):
            total.fields += 1
            total.aliases += node.alias is not None
            total.longest_alias = max(total.longest_alias, len(node.alias.value) if node.alias else 0)
            total.names[node.name.value] = total.names.get(node.name.value, 0) + 1
            total.add(_measure(node.selection_set, fragments, measured), below=True)
        elif isinstance(node, InlineFragmentNode):
            total.add(_measure(node.selection_set, fragments, measured), below=False)
    return total
