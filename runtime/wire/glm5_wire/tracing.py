"""W3C trace context in and out of metadata, spans, and OTLP over HTTP where it is configured."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from glm5_spec.settings import RoleSettings

_PROPAGATOR = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None


def start_tracing(settings: RoleSettings) -> TracerProvider | None:
    """Send spans to the configured collector; without one, spans cost nothing and contexts still pass through.

    Returns:
        The provider, whose `shutdown` sends what is left; None without a collector.
    """
    global _tracer
    endpoint = settings.telemetry.otlp_endpoint
    if endpoint is None:
        return None
    resource = Resource.create(
        {
            "service.name": f"glm5-{settings.role}",
            "service.namespace": settings.deployment,
            "service.instance.id": settings.name,
        }
    )
    sampler = ParentBased(TraceIdRatioBased(settings.telemetry.sample_ratio))
    provider = TracerProvider(sampler=sampler, resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("glm5")
    return provider


@contextlib.contextmanager
def span_below(traceparent: str, name: str, **attributes: str | int | float) -> Iterator[Span]:
    """Open a span for the `with` block below a sampled one elsewhere; none where `traceparent` is empty."""
    if not traceparent:
        yield trace.INVALID_SPAN
        return
    with _entered(name, extract(traceparent), SpanKind.INTERNAL, attributes) as current:
        yield current


def inject(span: Span | None = None) -> str:
    """Return the W3C traceparent of `span` or of the current one; empty where there is none or it is not sampled."""
    current = span or trace.get_current_span()
    if not current.get_span_context().trace_flags.sampled:
        return ""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(current))
    return carrier.get("traceparent", "")


def extract(traceparent: str) -> Context:
    """Return the context that `traceparent` names; the empty context where it is empty or wrong."""
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {})


def metadata() -> tuple[tuple[str, str], ...]:
    """Return gRPC metadata that carries the current trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return tuple(carrier.items())


@contextlib.contextmanager
def continued_span(
    name: str, carrier: Sequence[tuple[str, Any]] | Mapping[str, str] | None, begins: bool = True
) -> Iterator[Span]:
    """Open a server span below the trace context in metadata or HTTP headers.

    Args:
        name: of the call.
        carrier: metadata or headers.
        begins: where they hold no context, the call begins a trace; else it has no span.
    """
    pairs = carrier.items() if isinstance(carrier, Mapping) else carrier or ()
    context = _PROPAGATOR.extract({key: value for key, value in pairs if key in ("traceparent", "tracestate")})
    if not begins and not trace.get_current_span(context).get_span_context().is_valid:
        yield trace.INVALID_SPAN
        return
    with _entered(name.lstrip("/"), context, SpanKind.SERVER, {}) as current:
        yield current


@contextlib.contextmanager
def _entered(
    name: str, context: Context | None, kind: SpanKind, attributes: Mapping[str, str | int | float]
) -> Iterator[Span]:
    """Open a span; without a collector only make `context` current, so that a caller's trace passes through us."""
    if _tracer is not None:
        with _tracer.start_as_current_span(name, context, kind, attributes=attributes) as current:
            yield current
        return
    token = attach(context) if context is not None else None
    try:
        yield trace.get_current_span()
    finally:
        if token is not None:
            detach(token)
