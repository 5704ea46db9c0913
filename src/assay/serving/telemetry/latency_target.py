"""The 99th percentile of the last minute against its target: a soft one, that only tells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from assay.serving.telemetry.metrics import BUCKETS, Metrics, Sample

_EVERY = 5_000_000_000
_KEPT = 13  # so many looks are about a minute
_SHARE = 0.99
_BEYOND = 10.0


class LatencyTarget:
    """Reads percentiles from the histograms that are kept anyway.

    A percentile is known up to its bucket: what is told is the bucket's upper bound, in which at
    least 99 % of the answers of about the last minute lie.

    Parameters
    ----------
    routes: whose requests count, together.
    milliseconds: the target. ticks: nanoseconds on a clock that never goes back.
    """

    def __init__(
        self,
        metrics: Metrics,
        routes: Sequence[str],
        *,
        milliseconds: float,
        ticks: Callable[[], int],
    ) -> None:
        self._metrics = metrics
        self._routes = routes
        self._ticks = ticks
        self.milliseconds = milliseconds
        self._looks: deque[tuple[int, tuple[int, ...]]] = deque(maxlen=_KEPT)
        metrics.ask(self._samples)

    def look(self) -> None:
        """Remember the histograms, if it is time; to be called more often than every 5 seconds."""
        now = self._ticks()
        if not self._looks or now - self._looks[-1][0] >= _EVERY:
            self._looks.append((now, self._counts()))

    def p99_ms(self) -> float | None:
        """The 99th percentile in milliseconds; None without an answer, 10 s where over one."""
        before = self._looks[0][1] if self._looks else ()
        now = self._counts()
        recent = [n - m for n, m in zip(now, before or [0] * len(now), strict=True)]
        total = sum(recent)
        if not total:
            return None
        seen = 0
        for bound, count in zip((*BUCKETS, _BEYOND), recent, strict=True):
            seen += count
            if seen >= _SHARE * total:
                return bound * 1e3
        return None

    def to_json(self) -> dict[str, Any]:
        """For ``GET /health``."""
        found = self.p99_ms()
        return {
            "ok": found is None or found <= self.milliseconds,
            "detail": {
                "p99_ms_at_most": found,
                "target_ms": self.milliseconds,
            },
        }

    def _counts(self) -> tuple[int, ...]:
        total = [0] * (len(BUCKETS) + 1)
        for route in self._routes:
            for place, count in enumerate(self._metrics.latency(route)):
                total[place] += count
        return tuple(total)

    def _samples(self) -> Iterable[Sample]:
        found = self.p99_ms()
        what = "Target of the 99th percentile of predictions, in seconds."
        yield "assay_p99_target_seconds", "gauge", what, {}, self.milliseconds / 1e3
        if found is not None:
            what = "Bucket of the 99th percentile of the last minute's predictions, in seconds."
            yield "assay_p99_seconds", "gauge", what, {}, found / 1e3
