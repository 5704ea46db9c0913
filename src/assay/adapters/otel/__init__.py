"""Spans of prediction requests for OpenTelemetry: ``pip install 'assay[otel]'``.

1. :mod:`~assay.adapters.otel.environment` tells from its ``OTEL_`` variables whether spans are
   wanted; it needs no other package.
2. :mod:`~assay.adapters.otel.tracing` makes a span of each request, in the trace that its headers
   name, and has them sent to a collector in the background: where that cannot keep up spans are
   dropped, never requests delayed.

Sampling, limits and further headers are what the variables say.
"""
