"""Spans of prediction requests for OpenTelemetry: ``pip install 'assay[otel]'``.

1. :class:`OpenTelemetryTracing` makes a span of each request, in the trace that its headers name.
2. :func:`over_http` has them sent to a collector, in the background and in batches: where that
   cannot keep up spans are dropped, never requests delayed.

Sampling, limits and further headers are what the ``OTEL_`` variables of the environment say.
"""

from assay.adapters.otel.tracing import OpenTelemetryTracing, over_http

__all__ = ["OpenTelemetryTracing", "over_http"]
