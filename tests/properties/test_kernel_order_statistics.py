"""Order statistics over windows of time that hold up to hundreds of rows, and often too many."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import polars as pl
import pytest

from assay.features import FeatureView, OfflineDriver, OnlineDriver, Sessions, TimeWindow, col

X = col("x")
NAN = math.nan
MOST, LENGTH = 300, 400
LONG = TimeWindow(LENGTH, max_rows=MOST)
VIEW = FeatureView(
    "long_windows_of_time",
    "source",
    "entity",
    {
        "median": X.rolling_median(LONG, min_count=1),
        "lower": X.rolling_quantile(LONG, 0.25, interpolation="lower", min_count=1),
        "rank": X.rolling_rank(LONG, min_count=1),
        "percent": X.rolling_rank(LONG, percent=True, min_count=1),
        "min": X.rolling_min(LONG, min_count=1),
        "max": X.rolling_max(LONG, min_count=1),
    },
    Sessions(1),
)


def table(times: list[int], values: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "entity": ["e"] * len(times),
            "event_time": times,
            "known_time": [time + 1 for time in times],
            "source_rank": np.zeros(len(times), dtype=np.int64),
            "sequence": np.arange(len(times)),
            "x": values,
        }
    )


def expected(held: list[float], value: float) -> dict[str, float]:
    """Every feature by counting, without an interpolation in floats."""
    ordered = sorted(item for item in held if not math.isnan(item))
    if len(held) > MOST or not ordered:
        return dict.fromkeys(VIEW.feature_names, NAN)
    n = len(ordered)
    middle = (Fraction(ordered[(n - 1) // 2]) + Fraction(ordered[n // 2])) / 2
    place, share = NAN, NAN
    if not math.isnan(value):
        smaller = sum(item < value for item in ordered)
        equal = sum(item == value for item in ordered)
        place = smaller + (equal + 1) / 2
        share = place / n
    return {
        "median": float(middle),
        "lower": ordered[(n - 1) // 4],
        "rank": place,
        "percent": share,
        "min": ordered[0],
        "max": ordered[-1],
    }


@pytest.mark.parametrize("seed", range(4))
def test_windows_that_grow_shrink_and_overflow_hold_exactly_their_own_rows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Bursts overfill the window, pauses empty it to a single row.
    pace = np.repeat([1] * 5 + generator.choice([1, 2, 9, 150, 500], 11).tolist(), 90)
    times = np.cumsum(generator.integers(1, pace + 1)).tolist()
    numbers = generator.normal(size=len(times)).round(int(seed))
    numbers[generator.random(len(times)) < 0.1] = NAN
    values = numbers.tolist()
    frame = table(times, values)
    offline = OfflineDriver(VIEW, chunk=37).run(frame)
    overfull, first = 0, 0
    for row, time in enumerate(times):
        while times[first] <= time - LENGTH:
            first += 1
        held = values[first : row + 1]
        overfull += len(held) > MOST
        for name, wanted in expected(held, values[row]).items():
            found = offline[name][row]
            same = found == wanted or (math.isnan(found) and math.isnan(wanted))
            assert same, (name, row, found, wanted)
    assert overfull
    start = len(times) // 2
    driver = OnlineDriver(VIEW)
    driver.warm_up(frame[max(0, start - VIEW.look_back) : start])
    rest = driver.replay(frame[start:])
    whole = OnlineDriver(VIEW).replay(frame)
    for name in VIEW.feature_names:
        bits = offline[name].to_numpy().view(np.int64)
        assert (bits == whole[name].to_numpy().view(np.int64)).all(), name
        assert (bits[start:] == rest[name].to_numpy().view(np.int64)).all(), name


@pytest.mark.parametrize("size", [5e-324, 1.5e-323, 1e-310, 1e300, 1.7e308])
def test_the_median_of_equal_values_is_that_value_at_either_end_of_the_range(size: float) -> None:
    view = FeatureView("e", "s", "entity", {"m": X.rolling_median(2)}, Sessions(1))
    found = OfflineDriver(view).run(table([1, 2, 3], [size, size, -size]))["m"].to_list()
    assert found[1:] == [size, 0.0]
