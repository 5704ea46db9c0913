"""Probabilities are judged as such: calibrated ones have no excess error, boasts have."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from assay.validation.probabilities import diagram, probability_evidence

DAY = 86_400 * 10**9


def table(boast=1.0, days=500, names=10, seed=1):
    generator = np.random.default_rng(seed)
    true = 0.5 + 0.2 * (generator.random(days * names) - 0.5)
    rose = generator.random(days * names) < true
    stated = np.clip(0.5 + boast * (true - 0.5), 0.0, 1.0)
    return pl.DataFrame(
        {
            "as_of": np.repeat(np.arange(days, dtype=np.int64) * DAY, names),
            "label": np.where(rose, 0.01, -0.01),
            "prediction": stated,
        }
    )


def measured(frame):
    return {
        one.name: one for one in probability_evidence(frame, generator=np.random.default_rng(3))
    }


def test_dates_are_the_sample_and_rows_are_told_beside():
    for piece in measured(table()).values():
        assert piece.sample_size == 500
        assert piece.details["rows"] == 5_000


def test_calibrated_probabilities_have_no_excess_and_boasts_have():
    honest, boast = (measured(table(boast=by))["ece"] for by in (1.0, 6.0))
    assert abs(honest.value) < 0.01
    assert boast.value > 0.1
    assert boast.details["plain"] > boast.value


def test_a_price_that_did_not_move_neither_rose_nor_fell():
    frame = table()
    still = pl.DataFrame({"as_of": [0], "label": [0.0], "prediction": [0.9]})
    longer = pl.concat([frame, still])
    assert measured(longer)["brier"].value == measured(frame)["brier"].value


def test_the_brier_score_is_the_mean_squared_error():
    frame = table()
    rose = (frame["label"] > 0).cast(pl.Float64)
    assert measured(frame)["brier"].value == pytest.approx(
        ((rose - frame["prediction"]) ** 2).mean()
    )


@pytest.mark.parametrize(
    "prediction", [pl.lit(None, pl.Float64), pl.lit(float("nan")), pl.lit(1.5), pl.lit(-0.1)]
)
def test_what_is_no_probability_gives_no_value(prediction):
    for piece in measured(table().with_columns(prediction=prediction)).values():
        assert piece.value is None
        assert piece.details["undefined"]


def test_the_diagram_has_a_band_in_which_calibrated_groups_lie():
    found = diagram(table(), generator=np.random.default_rng(3))
    assert len(found.forecast) == len(found.low) == 10
    inside = (found.low <= found.observed) & (found.observed <= found.high)
    assert inside.sum() >= 8
