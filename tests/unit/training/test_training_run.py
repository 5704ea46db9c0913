"""Training on generated rows: determinism, no look-ahead, honest skill, precise refusals."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from assay.domain.canonical import canonical_bytes
from assay.errors import ContractViolation, DefinitionError, LookAhead
from assay.training import (
    Baseline,
    Boosting,
    CombinatorialPurged,
    Recipe,
    TrainingResult,
    VarianceCorrection,
    WalkForward,
    train,
    train_baseline,
)
from assay.training.estimators import read_ensemble
from assay.training.onnx_checks import run_onnx

FEATURES = ("ewm_vol", "driver", "noise_1", "noise_2")


def inputs_of(frame: pl.DataFrame) -> np.ndarray:
    return frame.select(FEATURES).to_numpy().astype(np.float32)


@pytest.fixture(scope="module")
def vol(vol_recipe: Recipe, vol_frame: pl.DataFrame) -> TrainingResult:
    return train(vol_recipe, vol_frame, features=FEATURES)


@pytest.fixture(scope="module")
def direction(direction_recipe: Recipe, direction_frame: pl.DataFrame) -> TrainingResult:
    return train(direction_recipe, direction_frame, features=FEATURES)


def same(one: TrainingResult, other: TrainingResult) -> bool:
    return (
        one.model_bytes == other.model_bytes
        and one.onnx_bytes == other.onnx_bytes
        and one.predictions.equals(other.predictions)
        and one.config == other.config
        and one.metrics == other.metrics
        and one.parity == other.parity
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_neither_threads_nor_the_order_of_rows_change_a_bit(
    vol: TrainingResult, vol_recipe: Recipe, vol_frame: pl.DataFrame, threads: int
) -> None:
    shuffled = vol_frame.sample(fraction=1.0, shuffle=True, seed=threads)
    assert same(train(vol_recipe, shuffled, features=FEATURES, threads=threads), vol)


def test_another_seed_gives_another_model(
    vol: TrainingResult, vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    other = train(replace(vol_recipe, seeds=(1, 9)), vol_frame, features=FEATURES)
    assert other.onnx_bytes != vol.onnx_bytes
    assert not other.predictions["prediction"].equals(vol.predictions["prediction"])


def test_a_cut_off_is_the_same_as_never_having_seen_what_came_after(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    cut_off = int(vol_frame["label_known"].sort()[400])
    history = vol_frame.filter(pl.col("label_known") <= cut_off)
    cut = train(vol_recipe, vol_frame, features=FEATURES, cut_off=cut_off)
    plain = train(vol_recipe, history, features=FEATURES)
    assert cut.model_bytes == plain.model_bytes
    assert cut.predictions.equals(plain.predictions)
    assert cut.config["dropped"]["label_after_cut_off"] == len(vol_frame) - len(history)


def test_what_was_not_known_at_a_folds_cut_off_cannot_change_its_predictions(
    vol: TrainingResult, vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    first = vol.predictions.filter(pl.col("fold") == 0)
    decision = int(first["as_of"].min())  # type: ignore[arg-type]
    later = pl.col("as_of") > first["as_of"].max()
    rewritten = vol_frame.with_columns(
        pl.when(pl.col("label_known") > decision)
        .then(pl.col("label") * 37 + 1e-3)
        .otherwise("label"),
        *(pl.when(later).then(pl.col(name) * -3).otherwise(name) for name in FEATURES[1:]),
    )
    again = train(vol_recipe, rewritten, features=FEATURES).predictions
    assert again.filter(pl.col("fold") == 0)["prediction"].equals(first["prediction"])
    assert not again["prediction"].equals(vol.predictions["prediction"])


def test_every_row_after_the_first_dates_is_predicted_once_with_its_own_label(
    vol: TrainingResult, vol_frame: pl.DataFrame
) -> None:
    assert vol.predictions.columns == [
        "instrument",
        "as_of",
        "label",
        "prediction",
        "fold",
        "label_start",
        "label_end",
    ]
    calendar = vol_frame["as_of"].unique().sort()
    tested = vol_frame.filter(pl.col("as_of") >= calendar[48]).sort("as_of", "instrument")
    keys = ["instrument", "as_of", "label", "label_start", "label_end"]
    assert vol.predictions.select(keys).equals(tested.select(keys))
    assert vol.predictions["fold"].n_unique() == 3
    assert vol.metrics["rows_out_of_sample"] == len(tested)


def test_a_driver_of_volatility_is_found_and_a_shuffled_label_is_not(
    vol_recipe: Recipe, long_vol_frame: pl.DataFrame
) -> None:
    found = train(vol_recipe, long_vol_frame, features=FEATURES)
    assert found.metrics["qlike"] < found.metrics["qlike_offset"] - 0.05
    # Shuffle what the offset leaves over, so that the offset stays as good as it was.
    shuffled = long_vol_frame.with_columns(
        label=(pl.col("label") / pl.col("ewm_vol") ** 2).shuffle(seed=3) * pl.col("ewm_vol") ** 2
    )
    noise = train(vol_recipe, shuffled, features=FEATURES)
    # The level of the leftovers is still learnable: the yardstick is the offset at that level.
    known = shuffled.filter(pl.col("as_of") < noise.predictions["as_of"].min())
    level = float((known["label"] / known["ewm_vol"] ** 2).mean())  # type: ignore[arg-type]
    tested = noise.predictions.join(shuffled, on=["instrument", "as_of"])
    scaled = level * tested["ewm_vol"] ** 2
    yardstick = float((scaled.log() + tested["label"] / scaled).mean())  # type: ignore[arg-type]
    assert noise.metrics["qlike"] > yardstick - 0.01


def test_a_driver_of_direction_is_found_and_a_shuffled_label_is_not(
    direction_recipe: Recipe, long_direction_frame: pl.DataFrame
) -> None:
    found = train(direction_recipe, long_direction_frame, features=FEATURES)
    assert found.metrics["hit_rate"] > 0.6
    assert found.metrics["log_loss"] < np.log(2) - 0.04
    shuffled = long_direction_frame.with_columns(pl.col("label").shuffle(seed=5))
    noise = train(direction_recipe, shuffled, features=FEATURES)
    three_standard_errors = 3 * 0.5 / np.sqrt(noise.metrics["rows_out_of_sample"])
    assert abs(noise.metrics["hit_rate"] - 0.5) < three_standard_errors
    assert noise.metrics["log_loss"] > np.log(2) - 0.002


def test_probabilities_are_probabilities_and_unchanged_prices_teach_nothing(
    direction: TrainingResult, direction_recipe: Recipe, direction_frame: pl.DataFrame
) -> None:
    assert direction.predictions["prediction"].is_between(0, 1, closed="none").all()
    still = direction_frame.with_columns(
        label=pl.when(pl.col("instrument") == "I0").then(0.0).otherwise("label")
    )
    moving = direction_frame.filter(pl.col("instrument") != "I0")
    with_still = train(direction_recipe, still, features=FEATURES)
    assert with_still.model_bytes == train(direction_recipe, moving, features=FEATURES).model_bytes
    assert "I0" in with_still.predictions["instrument"]


def test_rows_with_any_input_that_is_not_finite_are_left_out_and_counted(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    holes = vol_frame.with_row_index().with_columns(
        driver=pl.when(pl.col("index") < 7).then(float("nan")).otherwise("driver"),
        # Finite as float64, infinite as the float32 that the model takes.
        noise_1=pl.when(pl.col("index") == 20).then(1e300).otherwise("noise_1"),
        noise_2=pl.when(pl.col("index").is_in([3, 500])).then(None).otherwise("noise_2"),
        label=pl.when(pl.col("index") == 599).then(None).otherwise("label"),
    )
    result = train(vol_recipe, holes, features=FEATURES)
    assert result.config["dropped"] == {
        "label_unknown": 1,
        "label_after_cut_off": 0,
        "input_not_finite": 9,
    }
    assert result.config["not_finite"] == {"driver": 7, "noise_1": 1, "noise_2": 2}
    clean = holes.filter(~pl.col("index").is_in([*range(7), 20, 500, 599]))
    assert result.model_bytes == train(vol_recipe, clean, features=FEATURES).model_bytes
    assert result.predictions["prediction"].is_finite().all()


def test_a_native_model_reads_back_to_the_same_predictions_and_bytes(
    vol: TrainingResult, direction: TrainingResult, vol_frame: pl.DataFrame
) -> None:
    rows = inputs_of(vol_frame)
    for result in (vol, direction):
        ensemble = read_ensemble(result.model_bytes)
        assert ensemble.to_bytes() == result.model_bytes
        assert np.abs(ensemble.predict(rows) - run_onnx(result.onnx_bytes, rows)).max() < 1e-6
    with zipfile.ZipFile(io.BytesIO(direction.model_bytes)) as archive:
        assert archive.namelist() == ["ensemble.json", "seed_1.ubj", "seed_2.ubj", "seed_3.ubj"]


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 18])
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(ContractViolation, match="not a readable"):
        read_ensemble(data)


def test_a_baseline_forecasts_its_feature_on_the_same_rows_as_its_challenger(
    vol: TrainingResult, vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    baseline = replace(vol_recipe, name="base", model="vol", estimator=Baseline("ewm_vol"))
    result = train_baseline(baseline, vol_frame, features=FEATURES)
    keys = ["instrument", "as_of", "fold", "label"]
    assert result.predictions.select(keys).equals(vol.predictions.select(keys))
    expected = result.predictions.join(vol_frame, on=["instrument", "as_of"])["ewm_vol"]
    assert (
        result.predictions["prediction"]
        .cast(pl.Float32)
        .equals(expected.cast(pl.Float32).alias("prediction"))
    )
    assert result.schema.names == ("ewm_vol",)
    assert result.metrics["qlike"] == pytest.approx(vol.metrics["qlike_offset"], rel=1e-12)
    assert json.loads(result.model_bytes)["estimator"]["feature"] == "ewm_vol"
    assert same(train(baseline, vol_frame, features=FEATURES), result)


def test_a_learned_recipe_is_not_trained_as_a_baseline(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    with pytest.raises(DefinitionError, match="expected baseline"):
        train_baseline(vol_recipe, vol_frame, features=FEATURES)


def test_the_record_of_a_training_is_canonical_and_names_recipe_and_inputs(
    vol: TrainingResult, vol_recipe: Recipe
) -> None:
    for document in (vol.config, vol.parity, vol.bench, vol.metrics):
        canonical_bytes(document)
    assert vol.config["recipe_hash"] == vol_recipe.hash
    assert vol.config["inputs"]["names"] == list(FEATURES)
    assert vol.schema.names == FEATURES
    assert [fold["fold"] for fold in vol.config["folds"]] == [0, 1, 2]


def test_progress_counts_up_to_its_total(vol_recipe: Recipe, vol_frame: pl.DataFrame) -> None:
    seen: list[tuple[int, int]] = []
    train(
        vol_recipe,
        vol_frame,
        features=FEATURES,
        progress=lambda _what, done, total: seen.append((done, total)),
    )
    assert seen == [(step, 7) for step in range(1, 8)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (pl.col("label").alias("labels"), ContractViolation, "no column 'label'"),
        (pl.col("driver").cast(pl.Float32), ContractViolation, "'driver' is Float32, expected"),
        (pl.col("as_of").cast(pl.Datetime("ns")), ContractViolation, "'as_of' is Datetime"),
        (pl.lit(0, pl.Int64).alias("as_of"), ContractViolation, "more than once"),
        (pl.lit(None, pl.Int64).alias("as_of"), ContractViolation, "null instrument or as_of"),
        (pl.lit(None, pl.Float64).alias("label"), ContractViolation, "none of 600 rows is usable"),
        (pl.lit(float("nan")).alias("driver"), ContractViolation, "'driver' is not finite in 600"),
        (-pl.col("label"), ContractViolation, "expects squared returns"),
        (pl.col("as_of").alias("label_known"), LookAhead, "it is no forecast"),
    ],
)
def test_a_frame_that_breaks_its_contract_is_refused_by_name(
    vol_recipe: Recipe,
    vol_frame: pl.DataFrame,
    change: pl.Expr,
    error: type[Exception],
    message: str,
) -> None:
    frame = vol_frame.with_columns(change)
    if "labels" in frame.columns:
        frame = frame.drop("label")
    with pytest.raises(error, match=message):
        train(vol_recipe, frame, features=FEATURES)


def test_a_zero_offset_is_floored_and_stays_a_volatility(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    estimator = VarianceCorrection("ewm_vol", Boosting(rounds=3, min_child_weight=5), floor=1e-4)
    frame = vol_frame.with_columns(
        ewm_vol=pl.when(pl.col("instrument") == "I0").then(0.0).otherwise("ewm_vol")
    )
    result = train(replace(vol_recipe, estimator=estimator), frame, features=FEATURES)
    assert (result.predictions["prediction"] > 0).all()
    assert result.parity["within_limit"]


def test_too_short_a_history_says_so(vol_recipe: Recipe, vol_frame: pl.DataFrame) -> None:
    recipe = replace(vol_recipe, walk_forward=WalkForward(folds=4, embargo_days=90))
    with pytest.raises(ContractViolation, match="no training row left"):
        train(recipe, vol_frame, features=FEATURES)


def test_a_robustness_scheme_predicts_every_row_once_a_path_and_changes_nothing_else(
    direction: TrainingResult, direction_recipe: Recipe, direction_frame: pl.DataFrame
) -> None:
    recipe = replace(direction_recipe, robustness=CombinatorialPurged(4, 2, embargo_days=1))
    made = train(recipe, direction_frame, features=FEATURES)
    assert direction.paths is None
    assert made.model_bytes == direction.model_bytes
    assert made.predictions.equals(direction.predictions)
    paths = made.paths
    assert paths is not None
    assert paths["path"].unique().sort().to_list() == [0, 1, 2]
    assert not paths.select("path", "instrument", "as_of").is_duplicated().any()
    assert len(paths) == 3 * int(made.metrics["rows"])
    # Real skill: it shows on every path, out of sample.
    for path in paths.partition_by("path"):
        correlation = path.select(
            pl.corr(pl.col("label"), pl.col("prediction"), method="spearman")
        ).item()
        assert correlation > 0.2
    assert recipe.hash != direction_recipe.hash
    assert "robustness" not in direction_recipe.to_json()
    again = train(
        recipe, direction_frame.sample(fraction=1.0, shuffle=True, seed=1), features=FEATURES
    )
    assert again.paths is not None
    assert again.paths.equals(paths)


def test_a_baseline_has_no_robustness_to_measure(vol_recipe: Recipe) -> None:
    with pytest.raises(DefinitionError, match="not trained"):
        replace(vol_recipe, estimator=Baseline("ewm_vol"), robustness=CombinatorialPurged())
