"""A user's own step gives what plain Python gives, with pure bits, or is refused with a reason."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import DefinitionError
from assay.features import (
    FeatureView,
    Manifest,
    OfflineDriver,
    OnlineDriver,
    Sessions,
    StepFunction,
    TimeWindow,
    col,
    step_function,
)

X, Y = col("x"), col("y")
SCALE = 2.0


@step_function
def half_range(window):
    return (window.max() - window.min()) / 2.0


@step_function
def path_length(window):
    total = 0.0
    for i in range(1, len(window)):
        total += abs(window[i] - window[i - 1])
    return total


@step_function
def weighted_by(values, weights):
    total, weight = 0.0, 0.0
    for i in range(len(values)):
        if not (np.isnan(values[i]) or np.isnan(weights[i])):
            total += values[i] * weights[i]
            weight += weights[i]
    values[:] = 1e9  # a copy: the next row must not see this
    return total / weight


@step_function
def beyond_its_window(window):
    return window[len(window)]


SHORT = TimeWindow(9, max_rows=4)
VIEW = FeatureView(
    "own",
    "source",
    "entity",
    {
        "range": half_range(X, window=5),
        "path": path_length(X, window=SHORT, min_count=1),
        "weighted": weighted_by(X, Y.abs() + 1.0, window=3, min_count=1),
        "range_again": half_range(X.diff(), window=5),
        "beyond": beyond_its_window(X, window=2),
    },
    Sessions(1),
)
NAN = math.nan
VALUE = st.one_of(st.just(NAN), st.floats(-100, 100))
ROWS = st.lists(st.tuples(st.integers(1, 6), VALUE, VALUE), min_size=1, max_size=30)


def frame(rows: list[tuple[int, float, float]]) -> pl.DataFrame:
    times = np.cumsum([gap for gap, _, _ in rows])
    return pl.DataFrame(
        {
            "entity": ["e"] * len(rows),
            "event_time": times,
            "known_time": times + 1,
            "source_rank": np.zeros(len(rows), dtype=np.int64),
            "sequence": np.arange(len(rows)),
            "x": [x for _, x, _ in rows],
            "y": [y for _, _, y in rows],
        }
    )


def expected(name: str, rows: list[tuple[int, float, float]], row: int) -> float:
    times = np.cumsum([gap for gap, _, _ in rows]).tolist()
    x = [value for _, value, _ in rows]
    if name == "range":
        held = x[max(0, row - 4) : row + 1]
        whole = len(held) == 5 and not any(map(math.isnan, held))
        return (max(held) - min(held)) / 2.0 if whole else NAN
    if name == "path":
        held = [v for t, v in zip(times, x, strict=True) if times[row] - 9 < t <= times[row]]
        if len(held) > 4 or all(map(math.isnan, held)):
            return NAN
        total = 0.0
        for before, after in pairwise(held):
            total += abs(after - before)
        return total
    pairs = [(x, abs(y) + 1.0) for _, x, y in rows[max(0, row - 2) : row + 1]]
    valid = [(v, w) for v, w in pairs if not (math.isnan(v) or math.isnan(w))]
    if not valid:
        return NAN
    total = weight = 0.0
    for v, w in valid:
        total += v * w
        weight += w
    return total / weight


def same(found: float, wanted: float) -> bool:
    return (math.isnan(found) and math.isnan(wanted)) or found == wanted


@settings(max_examples=50)
@given(ROWS)
def test_a_step_function_gives_what_plain_python_gives(rows) -> None:
    found = OfflineDriver(VIEW, chunk=7).run(frame(rows))
    for name in ("range", "path", "weighted"):
        for row, value in enumerate(found[name].to_list()):
            assert same(value, expected(name, rows, row)), (name, row)
    assert found["beyond"].is_nan().all()


@settings(max_examples=50)
@given(ROWS, st.integers(0, 29), st.integers(1, 9))
def test_step_functions_have_equal_bits_in_both_drivers_and_after_warming_up(rows, cut, chunk):
    table = frame(rows)
    offline = OfflineDriver(VIEW, chunk=chunk).run(table)
    online = OnlineDriver(VIEW).replay(table)
    start = min(cut, table.height)
    driver = OnlineDriver(VIEW)
    if start:
        driver.warm_up(table[max(0, start - VIEW.look_back) : start])
    rest = driver.replay(table[start:])
    for name in VIEW.feature_names:
        bits = offline[name].to_numpy().view(np.int64)
        assert (bits == online[name].to_numpy().view(np.int64)).all(), name
        assert (bits[start:] == rest[name].to_numpy().view(np.int64)).all(), name


def test_the_text_of_a_step_function_is_part_of_the_manifest_and_travels_with_the_view() -> None:
    other = StepFunction(half_range.source.replace("2.0", "4.0"))
    hashes = {
        Manifest.of(FeatureView("v", "s", "e", {"f": step(X, window=5)}, Sessions(1))).hash
        for step in (half_range, other, StepFunction(half_range.source))
    }
    assert len(hashes) == 2
    assert Manifest.of(pickle.loads(pickle.dumps(VIEW))).hash == Manifest.of(VIEW).hash


def uses_scale(window):
    return window.sum() * SCALE


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("def f(window):\n    return window.sum() * SCALE\n", "uses SCALE from outside"),
        ("def f(window):\n    import os\n    return 1.0\n", "imports something"),
        ("def f(*windows):\n    return 1.0\n", "plain arguments"),
        ("def f(a, b, c, d):\n    return 1.0\n", "1 to 3 plain arguments"),
        ("x = 1\n", "one def"),
    ],
)
def test_what_its_text_does_not_say_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(DefinitionError, match=complaint):
        StepFunction(source)


def test_a_function_that_reads_its_module_is_refused_where_it_is_declared() -> None:
    with pytest.raises(DefinitionError, match="uses SCALE from outside"):
        step_function(uses_scale)


def test_a_step_function_that_cannot_be_compiled_is_refused_with_the_compilers_reason() -> None:
    step = StepFunction("def f(window):\n    return {'a': window}['a'].no_such_method()\n")
    view = FeatureView("v", "s", "entity", {"f": step(X, window=3)}, Sessions(1))
    with pytest.raises(DefinitionError, match="step function f cannot be compiled"):
        OfflineDriver(view)


def test_the_number_of_inputs_is_checked() -> None:
    with pytest.raises(DefinitionError, match="1 inputs, expected 2"):
        weighted_by(X, window=3)
