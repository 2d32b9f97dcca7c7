"""Sends spans to an OpenTelemetry collector; the variables are OpenTelemetry's own, and its SDK reads them."""

from __future__ import annotations

import os
from importlib.util import find_spec

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Either of them switches tracing on."""
PACKAGES = "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"


def endpoint() -> str:
    """The variable that names a collector; empty where none does."""
    return next((name for name in ENDPOINTS if os.environ.get(name)), "")


def is_installed() -> bool:
    """Whether the packages are there that tracing needs."""
    try:
        return bool(find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec("opentelemetry.sdk"))
    except ImportError:
        return False


def start() -> None:
    """Begin to send this process's spans, in batches and from a thread of their own, if a collector is named."""
    if not endpoint():
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = os.environ.get("OTEL_SERVICE_NAME", "account-recovery")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
