"""Counters and latencies in the Prometheus text format, kept by hand: a few dictionaries."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of latency buckets in seconds."""
_BUCKETS = tuple(round(bound * 1e9) for bound in BUCKETS)

Sample = tuple[str, str, str, Mapping[str, str], float]
"""Name, type, help, labels and value of one figure that is asked for when it is needed."""


class Metrics:
    """What a service counts. Increments are single operations on a dictionary, under the GIL."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.predictions: Counter[tuple[str, str]] = Counter()
        self.canary: Counter[tuple[str, str]] = Counter()
        self.reloads: Counter[str] = Counter()
        self.feedback: Counter[str] = Counter()
        self.mismatches: Counter[str] = Counter()
        self._latency: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self._sources: list[Callable[[], Iterable[Sample]]] = []

    def observe(self, route: str, status: int, nanos: int) -> None:
        """Count one answered request."""
        self.requests[route, status] += 1
        buckets = self._latency.get(route)
        if buckets is None:
            buckets = self._latency.setdefault(route, [0] * (len(BUCKETS) + 1))
        buckets[bisect_left(_BUCKETS, nanos)] += 1
        self._seconds[route] += nanos

    def ask(self, source: Callable[[], Iterable[Sample]]) -> None:
        """Ask ``source`` for further figures whenever the text is made."""
        self._sources.append(source)

    def text(self) -> str:
        """Everything, in the text format."""
        lines: list[str] = []
        for name, what, counter, labels in (
            ("requests", "Requests answered.", self.requests, ("route", "status")),
            ("predictions", "Predictions made.", self.predictions, ("model", "version")),
            ("canary_answers", "Answers by a canary, or in its place.", self.canary,
             ("model", "route")),
        ):  # fmt: skip
            lines += _head(f"assay_{name}_total", "counter", what)
            lines += [
                _line(f"assay_{name}_total", dict(zip(labels, map(str, key), strict=True)), value)
                for key, value in sorted(counter.items())
            ]
        for name, what, plain in (
            ("reloads", "Reloads by outcome.", self.reloads),
            ("feedback", "Realised outcomes reported.", self.feedback),
        ):
            lines += _head(f"assay_{name}_total", "counter", what)
            lines += [
                _line(f"assay_{name}_total", {"outcome": key}, value)
                for key, value in sorted(plain.items())
            ]
        name = "assay_feature_manifest_mismatch_total"
        lines += _head(name, "counter", "Requests refused for the manifest they follow.")
        lines += [_line(name, {"route": key}, n) for key, n in sorted(self.mismatches.items())]
        lines += self._histogram()
        seen: set[str] = set()
        for source in self._sources:
            for name, kind, what, labels_of, value in source():
                if name not in seen:
                    seen.add(name)
                    lines += _head(name, kind, what)
                lines.append(_line(name, labels_of, value))
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        name = "assay_request_seconds"
        lines = _head(name, "histogram", "Time to answer a request, in seconds.")
        for route, buckets in sorted(self._latency.items()):
            total = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
                total += count
                lines.append(_line(f"{name}_bucket", {"route": route, "le": bound}, total))
            lines.append(_line(f"{name}_sum", {"route": route}, self._seconds[route] / 1e9))
            lines.append(_line(f"{name}_count", {"route": route}, total))
        return lines


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
