"""Size and power of the controls of a backtest, by simulation."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_controls_pass_noise_as_often_as_their_level_and_edges_more_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("benchmarks", None)
    from benchmarks.size_and_power.portfolio import LEVEL, rows

    found = {(row["test"], row["data"]): row for row in rows(120, np.random.default_rng(7))}
    for (test, data), row in found.items():
        band = 3.5 * np.sqrt(LEVEL * (1 - LEVEL) / row["repetitions"])
        if data.startswith("noise"):
            assert row["pass_rate"] <= LEVEL + band, (test, data, row)
        if data == "edge, daily IC 0.08":
            assert row["pass_rate"] > 0.6, (test, data, row)
