"""The 99th percentile of about the last minute, read from the histograms that are kept anyway."""

from __future__ import annotations

from assay.serving.telemetry.latency_target import LatencyTarget
from assay.serving.telemetry.metrics import Metrics

SECOND = 10**9


def test_the_percentile_is_of_the_last_minute_and_of_these_routes() -> None:
    metrics, now = Metrics(), [0]
    target = LatencyTarget(metrics, ("/predict",), milliseconds=5.0, ticks=lambda: now[0])
    target.look()
    assert target.p99_ms() is None
    assert target.to_json()["ok"]
    for _ in range(1_000):
        metrics.observe("/predict", 200, 40_000_000)
        metrics.observe("/health", 200, 900_000_000)
    assert target.p99_ms() == 50.0
    assert not target.to_json()["ok"]
    for _ in range(30):
        now[0] += 5 * SECOND
        target.look()
    assert target.p99_ms() is None  # nothing was asked for more than a minute
    for milliseconds in [2] * 99 + [30]:
        metrics.observe("/predict", 200, milliseconds * 1_000_000)
    assert target.p99_ms() == 2.5
    assert target.to_json()["ok"]
    metrics.observe("/predict", 504, 3 * SECOND)
    assert target.p99_ms() == 50.0
    for _ in range(100):
        metrics.observe("/predict", 504, 3 * SECOND)
    assert target.p99_ms() == 10_000.0
    assert "assay_p99_seconds 10.0" in metrics.text()
