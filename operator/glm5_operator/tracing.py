"""Spans of the operator's passes and writes; nothing is recorded until `start` was called."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_TRACER = "glm5_operator"


def start(endpoint: str) -> None:
    """Send spans to the collector at `endpoint` (base URL of OTLP over HTTP); an empty one switches traces off."""
    if not endpoint:
        return
    provider = TracerProvider(resource=Resource.create({"service.name": "glm5-operator"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, **attributes: str) -> Iterator[None]:
    """Record a span around the block."""
    with trace.get_tracer(_TRACER).start_as_current_span(name, attributes=attributes):
        yield
