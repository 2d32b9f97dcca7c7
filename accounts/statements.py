"""Statements that Django writes once and that are executed many times, each time with other values.

For each call of `filter`, `update` or `save`, Django builds the query anew and writes it out: with thirty columns that
is most of what a request costs. Here the ORM writes a statement when it is first needed on a database; its text is
kept, and where its values go. So no SQL is written by hand, and every database gets its own.

A statement is made by a function of its values. The function is called once, with stand-ins for them, and must pass
them on as they are: what it computed from them would be kept. docs/decisions says what that gains.
"""

from __future__ import annotations

import inspect
import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import django
from django.db import connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query import get_related_populators
from django.db.models.sql import InsertQuery, Query, UpdateQuery
from django.utils.functional import cached_property

_numbers = itertools.count(1)
STAND_INS: dict[str, Callable[[], Any]] = {
    "uuid.UUID": uuid.uuid4,
    "datetime": lambda: datetime(1901, 2, 3, tzinfo=UTC) + timedelta(microseconds=next(_numbers)),
    "str": lambda: f"stand-in {next(_numbers)}",
    "int": lambda: 2_000_000_000 + next(_numbers),
}
"""What stands in for a parameter while a statement is written, by its annotation, alone or in a list."""
STRUCTURE = "Structure"
"""The annotation of a parameter that is no value but part of the text, such as a LIMIT: there is a text for each."""
Structure = int


class _Statement:
    """What all kinds have in common: a text for each database, and for each length of their lists."""

    def __init__(self, model: type[models.Model], make: Callable[..., Any], **kinds: str) -> None:
        """`kinds` are annotations that are known only now."""
        self.__doc__ = make.__doc__
        self._model = model
        self._make = make
        parameters = inspect.signature(make).parameters
        self._kinds = {name: str(parameter.annotation) for name, parameter in parameters.items()} | kinds
        self._lists = [name for name, kind in self._kinds.items() if kind.startswith("list")]
        self._structure = [name for name, kind in self._kinds.items() if kind == STRUCTURE]
        self._texts: dict[Any, Any] = {}

    def _prepare(self, values: dict[str, Any]) -> tuple[BaseDatabaseWrapper, Any, Sequence[Any]]:
        """The connection, the text, and the values in its order."""
        connection = connections[router.db_for_write(self._model)]
        for name in self._lists:
            # Filled up to a power of two, by repetition, so that there are few texts.
            given = list(values[name])
            values[name] = given + given[-1:] * ((1 << (len(given) - 1).bit_length()) - len(given))
        shape = {name: len(values[name]) for name in self._lists} | {name: values[name] for name in self._structure}
        key = (connection.alias, *shape.values())
        if (text := self._texts.get(key)) is None:
            text = self._texts[key] = self._write(connection, shape)
        return connection, text, text.params(connection, values)

    def _write(self, connection: BaseDatabaseWrapper, shape: dict[str, int]) -> Any:
        stand_ins = {name: self._stand_in(kind, shape.get(name, 0)) for name, kind in self._kinds.items()}
        made = self._make(**stand_ins)
        return self._text(connection, made, {name: stand_ins[name] for name in stand_ins.keys() - self._structure})

    def _stand_in(self, kind: str, size: int) -> Any:
        if kind == STRUCTURE:
            return size
        make = STAND_INS[kind.removeprefix("list[").removesuffix("]")]
        return [make() for _ in range(size)] if kind.startswith("list") else make()

    def _text(self, connection: BaseDatabaseWrapper, made: Any, stand_ins: dict[str, Any]) -> Any:
        raise NotImplementedError


class _Text:
    """The text of a statement for one database, and where its values go."""

    def __init__(self, connection: BaseDatabaseWrapper, query: Query, stand_ins: dict[str, Any]) -> None:
        self.compiler = query.get_compiler(connection=connection)
        self.sql, params = self.compiler.as_sql()
        self._params = list(params)
        self._places: list[tuple[int, str, int | None]] = []
        for name, stand_in in stand_ins.items():
            several = isinstance(stand_in, list)
            for number, each in enumerate(stand_in if several else [stand_in]):
                adapted = _adapted(connection, each)
                places = [place for place, param in enumerate(params) if param == adapted]
                if not places:
                    raise TypeError(f"{name} is not in the statement as it was given")
                self._places += [(place, name, number if several else None) for place in places]

    def params(self, connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Sequence[Any]:
        params = self._params.copy()
        for place, name, number in self._places:
            params[place] = _adapted(connection, values[name] if number is None else values[name][number])
        return params


def _adapted(connection: BaseDatabaseWrapper, value: Any) -> Any:
    """The value as Django's fields hand it to this database."""
    if isinstance(value, uuid.UUID):
        return value if connection.features.has_native_uuid_field else value.hex
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return value


class Select(_Statement):
    """A query: calling it returns a list of records, or of tuples. Made by a function that returns a QuerySet.

    Columns that were not asked for are deferred, annotations become attributes, and `select_related` works, as with
    the QuerySet itself.
    """

    def __call__(self, **values: Any) -> list[Any]:
        connection, text, params = self._prepare(values)
        with connection.cursor() as cursor:
            cursor.execute(text.sql, params)
            rows = cursor.fetchall()
        return list(text.records(connection, rows)) if rows else []

    def _text(self, connection: BaseDatabaseWrapper, made: Any, stand_ins: dict[str, Any]) -> _Reading:
        # `_fields` are those of values_list.
        return _Reading(connection, made.query, stand_ins, as_records=made._fields is None)


class _Reading(_Text):
    """A SELECT, and how its rows are made into records."""

    def __init__(
        self, connection: BaseDatabaseWrapper, query: Query, stand_ins: dict[str, Any], *, as_records: bool
    ) -> None:
        super().__init__(connection, query, stand_ins)
        select, info = self.compiler.select, self.compiler.klass_info
        self._converters = list(self.compiler.get_converters([column[0] for column in select]).items())
        self._model = info["model"] if as_records else None
        if not as_records:
            return
        fields = info["select_fields"]
        self._first, self._end = fields[0], fields[-1] + 1
        self._names = [column[0].target.attname for column in select[self._first : self._end]]
        self._related = _populators(info, select, connection.alias)
        self._annotations = list(self.compiler.annotation_col_map.items())

    def records(self, connection: BaseDatabaseWrapper, rows: list[Any]) -> Iterator[Any]:
        for row in rows:
            values = list(row)
            for place, (converters, expression) in self._converters:
                for convert in converters:
                    values[place] = convert(values[place], expression, connection)
            if self._model is None:
                yield tuple(values)
                continue
            record = self._model.from_db(connection.alias, self._names, values[self._first : self._end])
            for related in self._related:
                related.populate(values, record)
            for name, place in self._annotations:
                setattr(record, name, values[place])
            yield record


def _populators(info: Any, select: Any, alias: str) -> list[Any]:
    """What makes the records that `select_related` has asked for, by the API of the Django at hand."""
    more: dict[str, Any] = {"fetch_mode": models.FETCH_ONE} if django.VERSION >= (6, 1) else {}
    return list(get_related_populators(info, select, alias, **more))


class Update(_Statement):
    """An UPDATE: calling it returns the number of rows. Made by a function that returns a QuerySet and the changes."""

    def __call__(self, **values: Any) -> int:
        connection, text, params = self._prepare(values)
        with transaction.mark_for_rollback_on_error(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(text.sql, params)
            return int(cursor.rowcount)

    def _text(self, connection: BaseDatabaseWrapper, made: Any, stand_ins: dict[str, Any]) -> _Text:
        rows, changes = made
        query = rows.query.chain(UpdateQuery)
        query.add_update_values(changes)
        return _Text(connection, query, stand_ins)


SIMPLE: dict[type, type] = {
    models.CharField: str,
    models.BooleanField: bool,
    models.PositiveSmallIntegerField: int,
    models.PositiveIntegerField: int,
    models.DateTimeField: datetime,
    models.UUIDField: uuid.UUID,
}
"""Fields that do no more to a value of just this type than `_adapted` does."""


def _prepared(field: Any, value: Any, connection: BaseDatabaseWrapper) -> Any:
    """The value as its field hands it to this database. A naive time goes by the field, which warns of it."""
    if value is None:
        return None
    kind = type(value)
    if kind is SIMPLE.get(type(field)) and (kind is not datetime or value.tzinfo):
        return _adapted(connection, value)
    return field.get_db_prep_save(value, connection)


class Insert:
    """The INSERT of one or more new rows of a model, with all of its columns."""

    def __init__(self, model: type[models.Model]) -> None:
        self._model = model
        self._texts: dict[tuple[str, int], tuple[str, bool]] = {}

    def __call__(self, records: Sequence[models.Model], *, using: str | None = None) -> None:
        if not records:
            return
        connection = connections[using or router.db_for_write(self._model)]
        fields = self._fields
        rows = [
            [_prepared(field, getattr(record, field.attname), connection) for field in fields] for record in records
        ]
        key = connection.alias, len(records)
        if (text := self._texts.get(key)) is None:
            query = InsertQuery(self._model)
            query.insert_values(fields, list(records))
            (sql, params), *_ = query.get_compiler(connection=connection).as_sql()
            # PostgreSQL is given an array for each column, where there are several rows.
            text = self._texts[key] = sql, len(rows) > 1 and len(params) == len(fields)
        sql, by_column = text
        values = [list(column) for column in zip(*rows, strict=True)] if by_column else list(chain.from_iterable(rows))
        with transaction.mark_for_rollback_on_error(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(sql, values)

    @cached_property
    def _fields(self) -> list[Any]:
        meta = self._model._meta
        return [each for each in meta.local_concrete_fields if not (each is meta.auto_field or each.generated)]
