"""Nothing can be learnt from shuffled labels, except by whoever has seen them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from assay.errors import ContractViolation
from assay.training import Recipe, train, train_on_shuffled_labels

FEATURES = ("ewm_vol", "driver", "noise_1", "noise_2")


def test_an_honest_recipe_learns_nothing_from_shuffled_labels_and_something_from_real_ones(
    direction_recipe: Recipe, direction_frame: pl.DataFrame
) -> None:
    def run(frame: pl.DataFrame) -> pl.DataFrame:
        return train(direction_recipe, frame, features=FEATURES).predictions

    found = train_on_shuffled_labels(run, direction_frame, shuffles=2)
    assert found.holds
    assert found.rows == run(direction_frame).height
    assert len(found.scores) == len(set(found.scores)) == 2
    real = run(direction_frame)
    correlation = real.select(pl.corr(pl.col("prediction").rank(), pl.col("label").rank())).item()
    assert correlation * found.rows**0.5 > 4.0


def test_a_recipe_of_volatility_learns_nothing_from_shuffled_labels(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    found = train_on_shuffled_labels(
        lambda frame: train(vol_recipe, frame, features=FEATURES).predictions, vol_frame, shuffles=1
    )
    assert found.holds


def labelled(rows: int = 800) -> pl.DataFrame:
    generator = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "group": generator.integers(0, 40, rows),
            "x": generator.normal(size=rows),
            "label": generator.normal(size=rows),
        }
    )


def folds(frame: pl.DataFrame, prediction: pl.Expr) -> pl.DataFrame:
    fold = (pl.int_range(pl.len()) * 4 // pl.len()).alias("fold")
    return frame.select("label", prediction.alias("prediction"), fold)


def nearest(frame: pl.DataFrame, *, own: bool) -> pl.DataFrame:
    """The mean label of the rows near in x: with the row itself, it knows what it is tested on."""
    distance = np.abs(frame["x"].to_numpy()[:, None] - frame["x"].to_numpy()[None, :])
    if not own:
        np.fill_diagonal(distance, np.inf)
    chosen = np.argpartition(distance, 5, axis=1)[:, :5]
    means = frame["label"].to_numpy()[chosen].mean(axis=1)
    return folds(frame, pl.lit(pl.Series(means)))


def test_rows_that_are_tested_on_what_they_were_trained_on_are_found() -> None:
    found = train_on_shuffled_labels(lambda frame: nearest(frame, own=True), labelled())
    assert not found.holds
    assert all(score > 4.0 for score in found.scores)


def test_a_target_that_is_encoded_before_the_split_is_found() -> None:
    found = train_on_shuffled_labels(
        lambda frame: folds(frame, pl.col("label").mean().over("group")), labelled()
    )
    assert not found.holds
    assert found.to_json()["holds"] is False


def test_rows_without_a_label_stay_without_one() -> None:
    frame = labelled().with_columns(
        label=pl.when(pl.col("group") == 7).then(None).otherwise(pl.col("label"))
    )
    seen = []

    def run(shuffled: pl.DataFrame) -> pl.DataFrame:
        seen.append(shuffled)
        return folds(shuffled, pl.lit(1.0)).filter(pl.col("label").is_not_null())

    assert train_on_shuffled_labels(run, frame, shuffles=1).scores == (0.0,)
    (shuffled,) = seen
    assert shuffled["label"].is_nan().equals(frame["label"].is_null())
    known = frame["label"].drop_nulls()
    assert shuffled["label"].drop_nans().sort().equals(known.sort())
    assert not shuffled["label"].drop_nans().equals(known)


def test_what_cannot_be_shuffled_or_scored_is_refused() -> None:
    with pytest.raises(ContractViolation, match="no column 'label'"):
        train_on_shuffled_labels(lambda frame: frame, labelled().drop("label"))
    with pytest.raises(ContractViolation, match="none of 800 rows has a label"):
        train_on_shuffled_labels(lambda frame: frame, labelled().with_columns(label=float("nan")))
    with pytest.raises(ContractViolation, match="no fold has three predictions"):
        train_on_shuffled_labels(lambda frame: folds(frame, pl.lit(1.0)).head(2), labelled())
