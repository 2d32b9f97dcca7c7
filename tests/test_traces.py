"""A trace follows a reset from the client's request to its mail, and says nothing that it must not."""

from __future__ import annotations

import json
import logging
import smtplib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from accounts import traces
from accounts.models import ForgetPassword
from backend import logs, tracing
from harness.deployment import CROWD, PROXIED, REQUEST, ask, site_in
from tests.conftest import API, PostOffice
from tests.test_environment import PRODUCTION, load, problems

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM_A_CLIENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where spans go, in place of a collector."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "tracer", provider.get_tracer("test"))
    return exporter


def request(api: API, email: str = "ada@example.com", **headers: str) -> str:
    """Ask for a reset, with these headers; returns its handle."""
    answer = api.post({"query": REQUEST, "variables": {"input": {"email": email}}}, **headers).json()
    return str(answer["data"]["requestPasswordReset"]["reset"]["requestId"])


def facts(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("recovery."): value for name, value in (span.attributes or {}).items()}


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    found = {span.name: span for span in exporter.get_finished_spans()}
    assert len(found) == len(exporter.get_finished_spans())
    return found


@pytest.mark.parametrize(
    ("email", "found", "outcome", "reason"),
    [("ada@example.com", "found", "mailed", "CODE"), ("bob@example.com", "unknown", "not_mailed", "unknown")],
)
def test_request_look_up_and_mail_are_one_trace(
    user: Any,
    api: API,
    post: PostOffice,
    spans: InMemorySpanExporter,
    email: str,
    found: str,
    outcome: str,
    reason: str,
) -> None:
    request(api, email, **FROM_A_CLIENT)
    post.deliver()
    asked, looked, mailed = (by_name(spans)[f"recovery {name}"] for name in ("requestPasswordReset", "look up", "mail"))
    pk = str(ForgetPassword.objects.get().pk)
    assert {format(span.context.trace_id, "032x") for span in (asked, looked, mailed)} == {TRACE}
    assert asked.parent is not None
    assert format(asked.parent.span_id, "016x") == SPAN
    assert {span.parent.span_id for span in (looked, mailed) if span.parent} == {asked.context.span_id}
    assert facts(asked) == {"outcome": "done", "record": pk}
    assert facts(looked) == {"outcome": found, "record": pk}
    assert facts(mailed) == {"outcome": outcome, "record": pk, "mail": "CODE", "reason": reason}
    assert mailed.start_time is not None
    assert looked.end_time is not None
    assert mailed.start_time >= looked.end_time


def test_a_mail_that_fails_says_so(
    user: Any, api: API, post: PostOffice, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise smtplib.SMTPDataError(451, b"hunter2")

    request(api, **FROM_A_CLIENT)
    monkeypatch.setattr("accounts.mailing.smtp.Connection.send", refuse)
    post.deliver()
    told = facts(by_name(spans)["recovery mail"])
    assert (told["mail"], told["outcome"], told["reason"]) == ("CODE", "mail_failed", "smtp_451")


def test_a_client_without_a_trace_begins_one(user: Any, api: API, spans: InMemorySpanExporter) -> None:
    request(api)
    assert by_name(spans)["recovery requestPasswordReset"].parent is None
    assert ForgetPassword.objects.get().traceparent.startswith("00-")


@pytest.mark.parametrize("nonsense", ["00-x", "hunter2" * 100, f"00-{'0' * 32}-{SPAN}-01"])
def test_a_trace_that_is_none_is_not_kept(user: Any, api: API, spans: InMemorySpanExporter, nonsense: str) -> None:
    request(api, traceparent=nonsense)
    assert nonsense not in ForgetPassword.objects.get().traceparent


def test_a_client_may_say_that_it_is_not_to_be_sampled(
    user: Any, api: API, post: PostOffice, spans: InMemorySpanExporter
) -> None:
    request(api, traceparent=f"00-{TRACE}-{SPAN}-00")
    post.deliver()
    assert spans.get_finished_spans() == ()


def test_inside_a_trace_of_the_hosts_own_that_one_goes_on(user: Any, api: API, spans: InMemorySpanExporter) -> None:
    assert traces.tracer
    with traces.tracer.start_as_current_span("host") as host:
        request(api, **FROM_A_CLIENT)
    parent = by_name(spans)["recovery requestPasswordReset"].parent
    assert parent is not None
    assert parent.span_id == host.get_span_context().span_id


def test_a_refusal_is_told_by_its_name(api: API, db: None, spans: InMemorySpanExporter) -> None:
    api.verify("made-up", "123456")
    assert facts(by_name(spans)["recovery verifyPasswordResetCode"]) == {"outcome": "UnknownRequest"}


def test_what_fails_unexpectedly_leaves_no_word_of_its_exception(
    api: API, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("accounts.recovery.verbs.request", fail)
    api.post({"query": REQUEST, "variables": {"input": {"email": "ada@example.com"}}})
    (span,) = spans.get_finished_spans()
    assert facts(span) == {"outcome": "failed"}
    assert "hunter2" not in span.to_json()
    assert span.events == ()


def test_no_span_has_an_address_a_handle_or_a_code(
    user: Any, api: API, post: PostOffice, spans: InMemorySpanExporter
) -> None:
    handle = request(api, **FROM_A_CLIENT)
    letter = post.deliver_one()
    api.verify(handle, "000000")
    text = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert "InvalidCode" in text
    assert not [secret for secret in ("ada@", handle, "000000", letter.code) if secret in text]


def test_lines_of_a_verb_name_its_trace(user: Any, api: API, spans: InMemorySpanExporter) -> None:
    lines: list[dict[str, Any]] = []
    handler = logging.StreamHandler()
    handler.setFormatter(logs.Formatter())
    handler.emit = lambda record: lines.append(json.loads(handler.format(record)))  # type: ignore[method-assign]
    logger = logging.getLogger("accounts.api.journal")
    logger.addHandler(handler)
    try:
        request(api, **FROM_A_CLIENT)
    finally:
        logger.removeHandler(handler)
    assert [line["trace"] for line in lines] == [TRACE]


@pytest.mark.usefixtures("user")
def test_without_the_packages_nothing_is_kept_and_all_works(
    api: API, post: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "tracer", None)
    request(api, **FROM_A_CLIENT)
    post.deliver_one()
    assert ForgetPassword.objects.get().traceparent == ""


# --- To a collector --------------------------------------------------------------------------------------------------


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.traces: dict[str, list[str]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.server.traces.setdefault(span.trace_id.hex(), []).append(span.name)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing to standard error."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.processes
def test_web_server_and_mailer_send_one_trace_to_a_collector(
    tmp_path: Path, prepared: Path, collector: Collector
) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "MAIL_DISPATCH": "none",
    }
    with site_in(tmp_path, prepared, **variables) as site, site.serving() as web, site.mailing():
        body = {"query": REQUEST, "variables": {"input": {"email": CROWD[0]}}}
        requests.post(
            f"{web.url}/graphql/", json=body, headers={**PROXIED, **FROM_A_CLIENT}, timeout=30
        ).raise_for_status()
        site.mail.wait_until(lambda: len(collector.traces.get(TRACE, ())) == 3)
        ask(web, REQUEST, input={"email": CROWD[1]})
        # What a server still has when it is told to stop is not lost.
    assert sorted(collector.traces[TRACE]) == ["recovery look up", "recovery mail", "recovery requestPasswordReset"]
    assert len(collector.traces) == 2


def test_a_collector_without_the_packages_is_a_problem_at_start() -> None:
    variables = {**PRODUCTION, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}
    load(**variables)
    with patch.object(tracing, "is_installed", return_value=False):
        said = problems(**variables)
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: Tracing needs packages that are not installed" in said
