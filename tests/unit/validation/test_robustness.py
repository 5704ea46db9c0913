"""Evidence over the paths of combinatorial cross-validation."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from assay.validation import alpha_evidence, path_evidence

DAY = 86_400 * 10**9


def frame(paths: int = 5, days: int = 60, names: int = 6, skill: float = 0.3) -> pl.DataFrame:
    generator = np.random.default_rng(2)
    returns = 0.01 * generator.standard_normal((days, names))
    made = []
    for path in range(paths):
        scores = skill * returns / 0.01 + generator.standard_normal((days, names))
        made.append(
            pl.DataFrame(
                {
                    "path": np.full(days * names, path),
                    "instrument": np.tile([f"I{i}" for i in range(names)], days),
                    "as_of": np.repeat(np.arange(days, dtype=np.int64) * DAY, names),
                    "label": returns.ravel(),
                    "prediction": scores.ravel(),
                    "next_return": returns.ravel(),
                }
            )
        )
    return pl.concat(made)


def test_the_value_is_the_median_of_what_each_path_would_be_alone() -> None:
    table = frame()
    alone = [
        {
            one.name: one.value
            for one in alpha_evidence(
                table.filter(pl.col("path") == path).drop("path"),
                generator=np.random.default_rng(0),
            )
        }
        for path in range(5)
    ]
    for found, name in zip(path_evidence(table), ("rank_ic", "sharpe_after_costs"), strict=True):
        expected = [one[name] for one in alone]
        assert found.details["paths"] == pytest.approx(expected, rel=1e-12)
        assert found.value == pytest.approx(sorted(expected)[2], rel=1e-12)
        assert found.details["worst"] == pytest.approx(min(expected), rel=1e-12)
        assert found.details["share_above_zero"] == sum(x > 0 for x in expected) / 5
        assert found.sample_size == 60
        assert "median over the paths" in found.convention


def test_one_path_without_a_value_makes_all_of_it_undefined() -> None:
    table = frame().with_columns(
        prediction=pl.when(pl.col("path") == 3).then(0.5).otherwise(pl.col("prediction"))
    )
    for found in path_evidence(table):
        assert found.value is None
        assert found.details["undefined"].startswith("1 of 5 paths have no value: ")


def test_no_path_at_all_is_undefined() -> None:
    for found in path_evidence(frame().clear()):
        assert found.value is None
        assert found.details["undefined"] == "there is no path"


def test_absurd_returns_are_undefined_and_never_raise() -> None:
    for wrong in (math.inf, 800.0, math.nan):
        table = frame().with_columns(next_return=pl.lit(wrong))
        assert path_evidence(table)[1].value is None
