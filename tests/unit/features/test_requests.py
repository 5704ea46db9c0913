"""What a request brings joins stored features, with equal bits in history and for one request."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import ContractViolation, DefinitionError
from assay.features import (
    FeatureView,
    RequestFeatures,
    RequestView,
    Sessions,
    col,
    day_of_week,
    where,
)

MID = col("mid")
DAILY = FeatureView(
    "fx_daily",
    "market",
    "instrument",
    {"ret_1": MID.simple_return(1), "vol_20": MID.simple_return(1).rolling_std(20)},
    Sessions(3),
)
SIZE, QUOTE, VOL, RETURN = (col(name) for name in ("order_size", "quote", "vol_20", "ret_1"))
FEATURES = {
    "risk": SIZE * VOL,
    "log_size": SIZE.log(),
    "edge": where(QUOTE > 1.0, (QUOTE - 1.0) / VOL, -RETURN),
    "capped": (SIZE.abs() ** 0.5).clip(upper=100.0) + RETURN.fill_missing(0.0),
}
VIEW = RequestView("order", (DAILY,), ("order_size", "quote"), FEATURES)
NUMBER = st.one_of(st.none(), st.just(math.nan), st.floats(), st.integers(-5, 5).map(float))
NAMES = ("order_size", "quote", "vol_20", "ret_1")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), min_size=1, max_size=40))
def test_a_request_has_the_bits_of_its_row_in_history(rows: list[tuple]) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(NAMES, pl.Float64), orient="row")
    features = RequestFeatures(VIEW)
    history = features.with_features(frame)
    assert history.select(NAMES).equals(frame)
    for row, values in enumerate(rows):
        alone = features.compute(dict(zip(NAMES, values, strict=True)))
        together = np.array(history.row(row)[len(NAMES) :])
        assert alone.tobytes() == together.tobytes()


def test_values_are_what_the_expressions_say() -> None:
    given_ = {"order_size": 4.0, "quote": 1.5, "vol_20": 0.25, "ret_1": None, "unused": 7.0}
    found = RequestFeatures(VIEW).compute(given_)
    assert found.tolist() == [1.0, math.log(4.0), 2.0, 2.0]
    assert VIEW.feature_names == ("risk", "log_size", "edge", "capped")
    assert VIEW.columns == tuple(sorted(NAMES))


def test_what_a_view_reads_has_to_be_there_and_a_number() -> None:
    features = RequestFeatures(VIEW)
    with pytest.raises(ContractViolation, match="quote is not there, an input"):
        features.compute({"order_size": 1.0, "vol_20": 1.0, "ret_1": 0.0})
    frame = pl.DataFrame({"order_size": [1.0], "quote": ["x"], "vol_20": [1.0], "ret_1": [0.0]})
    with pytest.raises(ContractViolation, match="column quote is String"):
        features.with_features(frame)
    with pytest.raises(ContractViolation, match=r"quote is '1\.5', expected a number"):
        features.compute({"order_size": 1.0, "vol_20": 1.0, "ret_1": 0.0, "quote": "1.5"})
    with pytest.raises(ContractViolation, match="vol_20 is not there, a stored feature"):
        features.with_features(frame.select("order_size", "quote", "ret_1"))
    with pytest.raises(ContractViolation, match="column risk is there already"):
        features.with_features(frame.with_columns(quote=pl.lit(1.0), risk=pl.lit(1.0)))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"f": VOL.rolling_mean(3)}, "rolling_mean, which needs other rows"),
        ({"f": SIZE.lag(1)}, "lag, which needs other rows"),
        ({"f": SIZE.cs_rank()}, "cs_rank, which needs other rows"),
        ({"f": SIZE * day_of_week()}, "calendar, which needs other rows"),
        ({"f": col("vol_2")}, "'vol_2', which is no input and no stored feature"),
        ({"vol_20": SIZE * 2}, "vol_20 is read already"),
        ({"f": 3}, "feature f is int"),
        ({}, "no features"),
    ],
)
def test_what_one_row_cannot_give_is_refused(features: dict, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        RequestView("order", (DAILY,), ("order_size",), features)


@pytest.mark.parametrize(
    ("stored", "inputs", "features", "words"),
    [
        (DAILY, ("order_size",), FEATURES, "expected the views that it reads"),
        (("fx_daily",), ("order_size",), FEATURES, "expected the views that it reads"),
        ((DAILY,), "order_size", FEATURES, "inputs 'order_size', expected their names"),
        ((DAILY,), ("order_size",), [SIZE], "expected expressions by name"),
    ],
)
def test_one_where_several_are_expected_is_refused(stored, inputs, features, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        RequestView("order", stored, inputs, features)


def test_a_value_that_is_read_twice_at_every_step_of_a_chain_is_looked_at_once() -> None:
    chain = SIZE
    for _ in range(64):  # 2**64 ways from the end to the beginning
        chain = chain * 0.5 + chain
    assert RequestView("order", (DAILY,), ("order_size",), {"f": chain}).columns == ("order_size",)


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(DefinitionError, match="ret_1 is there 2 times"):
        RequestView("order", (DAILY,), ("ret_1",), {"f": RETURN + 1})


@pytest.mark.parametrize("name", ["as_of", "instrument", "known_time"])
def test_a_name_that_a_table_of_past_requests_has_for_its_keys_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"{name} is the name of a key column"):
        RequestView("order", (DAILY,), (name,), {"f": col(name) + 1})
    with pytest.raises(DefinitionError, match="key column"):
        RequestView("order", (DAILY,), ("order_size",), {name: SIZE + 1})


def test_the_manifest_covers_inputs_program_and_the_stored_views() -> None:
    same = RequestView("order", (DAILY,), ("order_size", "quote"), FEATURES)
    assert same.manifest_hash == VIEW.manifest_hash
    other = FeatureView(
        "fx_daily", "market", "instrument",
        {"ret_1": MID.simple_return(1), "vol_20": MID.simple_return(1).rolling_std(21)},
        Sessions(3),
    )  # fmt: skip
    changed = [
        RequestView("order", (other,), ("order_size", "quote"), FEATURES),
        RequestView("order", (DAILY,), ("order_size", "quote", "spread"), FEATURES),
        RequestView("order", (DAILY,), ("order_size", "quote"), {**FEATURES, "risk": SIZE / VOL}),
    ]
    assert len({VIEW.manifest_hash, *(view.manifest_hash for view in changed)}) == 4
