"""One trace from the request to its mail, where OpenTelemetry's packages are installed: docs/operations.md.

The record carries the trace to whoever looks it up and mails it, minutes later and on another machine perhaps. Spans
hold primary keys, verbs and reason codes; never an address, a handle, or the text of an exception, which may repeat
what a client has sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

try:
    from opentelemetry import propagate, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    tracer = None
else:
    tracer = trace.get_tracer("account_recovery")
    _row = TraceContextTextMapPropagator()

TRACEPARENT = "traceparent"
"""What W3C Trace Context calls a span that others go on from: 55 characters of version, trace, span and flags."""

now = time.time_ns
"""The clock of spans, in nanoseconds."""


@contextmanager
def verb(name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Make what happens meanwhile a span: of the host's own trace where it has one, or else of the client's."""
    if tracer is None:
        yield
        return
    parent = None if trace.get_current_span().get_span_context().is_valid else propagate.extract(headers)
    with tracer.start_as_current_span(
        f"recovery {name}", parent, kind=trace.SpanKind.SERVER, record_exception=False, set_status_on_exception=False
    ):
        yield


def note(**facts: object) -> None:
    """Add facts to the span of the verb; None stands for what is not known."""
    if tracer is not None:
        trace.get_current_span().set_attributes(_attributes(facts))


def current() -> str:
    """The present span, for a record to carry; empty where there is none."""
    carrier: dict[str, str] = {}
    if tracer is not None:
        _row.inject(carrier)
    return carrier.get(TRACEPARENT, "")


def trace_id() -> str:
    """The present trace, as 32 hexadecimal digits; empty where there is none."""
    return current()[3:35]


def step(name: str, traceparent: str, began: int, **facts: object) -> None:
    """Tell of a step that a record has taken since `began`; nothing where its request was not traced."""
    if tracer is None or not traceparent:
        return
    parent = _row.extract({TRACEPARENT: traceparent})
    span = tracer.start_span(
        f"recovery {name}",
        parent,
        kind=trace.SpanKind.CONSUMER,
        attributes=_attributes(facts),
        start_time=began,
    )
    span.end()


def _attributes(facts: dict[str, object]) -> dict[str, str]:
    return {f"recovery.{name}": str(value) for name, value in facts.items() if value is not None}
