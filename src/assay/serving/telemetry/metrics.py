"""Counters and latencies in the Prometheus text format, kept by hand: a few dictionaries.

Several processes of one service tell their figures together: each writes its own down, and
whichever is asked adds them up (:mod:`~assay.serving.telemetry.worker_board`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds of latency buckets in seconds."""
_BUCKETS = tuple(round(bound * 1e9) for bound in BUCKETS)
_GAUGE = "gauge"

Sample = tuple[str, str, str, Mapping[str, str], float]
"""Name, type, help, labels and value of one figure that is asked for when it is needed."""


class Family(msgspec.Struct):
    """A metric: ``values`` by the text that stands before them, such as ``a_total{route="/x"}``."""

    kind: str
    what: str
    values: dict[str, float]


Families = dict[str, Family]


def merged(several: Iterable[Families]) -> Families:
    """The figures of several processes as one: counters and histograms are added, and a gauge is
    the largest of them.
    """
    found: Families = {}
    for families in several:
        for name, one in families.items():
            into = found.setdefault(name, Family(one.kind, one.what, {}))
            for key, value in one.values.items():
                before = into.values.get(key)
                if before is None:
                    into.values[key] = value
                else:
                    into.values[key] = max(before, value) if one.kind == _GAUGE else before + value
    return found


def without_gauges(families: Families) -> Families:
    """What remains of the figures of a process that has ended."""
    return {name: one for name, one in families.items() if one.kind != _GAUGE}


def to_text(families: Families) -> str:
    """Figures in the text format."""
    lines = []
    for name, one in families.items():
        lines += [f"# HELP {name} {one.what}", f"# TYPE {name} {one.kind}"]
        lines += [f"{key} {value}" for key, value in one.values.items()]
    return "\n".join(lines) + "\n"


class Metrics:
    """What a service counts. Increments are single operations on a dictionary, under the GIL."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.predictions: Counter[tuple[str, str]] = Counter()
        self.canary: Counter[tuple[str, str]] = Counter()
        self.reloads: Counter[str] = Counter()
        self.feedback: Counter[str] = Counter()
        self.mismatches: Counter[str] = Counter()
        self.neutral = 0
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

    def latency(self, route: str) -> tuple[int, ...]:
        """How many requests of a route took how long so far, by :data:`BUCKETS` and beyond."""
        return tuple(self._latency.get(route, ()))

    def text(self) -> str:
        """Everything, in the text format."""
        return to_text(self.families())

    def families(self) -> Families:
        """Everything, by the names of the metrics."""
        found: Families = {}
        for name, what, counter, labels in (
            ("assay_requests_total", "Requests answered.", self.requests, ("route", "status")),
            ("assay_predictions_total", "Predictions made.", self.predictions,
             ("model", "version")),
            ("assay_canary_answers_total", "Answers by a canary, or in its place.", self.canary,
             ("model", "route")),
        ):  # fmt: skip
            found[name] = Family("counter", what, {
                _key(name, dict(zip(labels, map(str, key), strict=True))): value
                for key, value in sorted(counter.items())
            })  # fmt: skip
        for name, what, label, plain in (
            ("assay_reloads_total", "Reloads by outcome.", "outcome", self.reloads),
            ("assay_feedback_total", "Realised outcomes reported.", "outcome", self.feedback),
            ("assay_feature_manifest_mismatch_total",
             "Requests refused for the manifest they follow.", "route", self.mismatches),
        ):  # fmt: skip
            found[name] = Family("counter", what, {
                _key(name, {label: key}): value for key, value in sorted(plain.items())
            })  # fmt: skip
        name = "assay_neutral_answers_total"
        what = "Answers that mean nothing, given while predictions were switched off."
        found[name] = Family("counter", what, {name: self.neutral})
        found["assay_request_seconds"] = self._histogram()
        for source in self._sources:
            for name, kind, what, labels_of, value in source():
                family = found.setdefault(name, Family(kind, what, {}))
                family.values[_key(name, labels_of)] = value
        return found

    def _histogram(self) -> Family:
        name = "assay_request_seconds"
        values: dict[str, float] = {}
        for route, buckets in sorted(self._latency.items()):
            total = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
                total += count
                values[_key(f"{name}_bucket", {"route": route, "le": bound})] = total
            values[_key(f"{name}_sum", {"route": route})] = self._seconds[route] / 1e9
            values[_key(f"{name}_count", {"route": route})] = total
        return Family("histogram", "Time to answer a request, in seconds.", values)


def _key(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}}" if inside else name


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
