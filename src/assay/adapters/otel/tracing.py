"""Requests as spans of the OpenTelemetry SDK."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from assay.domain.clock import Clock
from assay.serving.telemetry.tracing import Attribute

_CARRIED = ("traceparent", "tracestate")
_NAMELESS = "unknown_service"
_FAREWELL_SECONDS = 3.0
_PATH = "/v1/traces"


class OpenTelemetryTracing:
    """Makes spans with a provider; see :class:`assay.serving.telemetry.tracing.Tracing`.

    Parameters
    ----------
    provider: keeps the spans, and is shut down at the end.
    version: of the package.
    """

    def __init__(self, provider: TracerProvider, clock: Clock, *, version: str) -> None:
        self._provider = provider
        self._clock = clock
        self._tracer = provider.get_tracer("assay.serving", version)
        self._reader = TraceContextTextMapPropagator()

    def begin(
        self,
        name: str,
        headers: Mapping[bytes, bytes],
        attributes: Mapping[str, Attribute],
        age: int,
    ) -> RequestSpan:
        """A request has come, ``age`` nanoseconds ago; see W3C Trace Context for its headers."""
        carrier = {
            key: headers[key.encode()].decode("latin-1")
            for key in _CARRIED
            if key.encode() in headers
        }
        started = self._tracer.start_span(
            name,
            self._reader.extract(carrier, Context()) if carrier else Context(),
            SpanKind.SERVER,
            attributes,
            start_time=self._clock.now() - age,
        )
        return RequestSpan(started, self._clock)

    def close(self) -> None:
        """Send what waits. A collector that does not answer is not waited for."""
        # Its own time limit does not bound an attempt that is under way.
        last = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        last.start()
        last.join(_FAREWELL_SECONDS)


class RequestSpan:
    """One request; see :class:`assay.serving.telemetry.tracing.Span`."""

    def __init__(self, span: Span, clock: Clock) -> None:
        self._span = span
        self._clock = clock
        self._kept = True

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to: 32 hexadecimal digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        """Say more about it."""
        self._span.set_attributes(attributes)

    def fail(self, what: str) -> None:
        """It went wrong, and not by the caller's fault."""
        self._span.set_status(Status(StatusCode.ERROR, what))

    def forget(self) -> None:
        """There was nothing to keep: a span that does not end is not sent."""
        self._kept = False

    def end(self) -> None:
        """It has been answered, or never will be."""
        if self._kept:
            self._span.end(self._clock.now())


def over_http(url: str | None, clock: Clock, *, version: str) -> OpenTelemetryTracing:
    """Tracing whose spans are sent by OTLP over HTTP.

    Parameters
    ----------
    url: of the collector, such as ``http://localhost:4318``; None for what the environment says.
    """
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith(_NAMELESS):
        resource = resource.merge(Resource({SERVICE_NAME: "assay", SERVICE_VERSION: version}))
    endpoint = None if url is None else url.rstrip("/").removesuffix(_PATH) + _PATH
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return OpenTelemetryTracing(provider, clock, version=version)
