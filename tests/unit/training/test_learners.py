"""Recipes with other learners: deterministic, honest inside the fold, exact in ONNX."""

from __future__ import annotations

import importlib.abc
import io
import json
import math
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.domain.canonical import content_hash
from assay.errors import ConfigurationError, ContractViolation, DefinitionError
from assay.training import (
    Baseline,
    Boosting,
    Calibration,
    EarlyStopping,
    LabelDeclaration,
    LightGBM,
    Recipe,
    Regression,
    RiseProbability,
    SklearnEstimator,
    TrainingResult,
    VarianceCorrection,
    WalkForward,
    train,
)
from assay.training.calibration import Isotonic, Platt, append_map, fit_map
from assay.training.onnx_checks import run_onnx

FEATURES = ("ewm_vol", "driver", "noise_1", "noise_2")
LEAVES = LightGBM(rounds=15, min_rows=20, learning_rate=0.15, leaves=5)
SMALL = Boosting(rounds=15, depth=3, learning_rate=0.15, min_child_weight=10.0, bins=32)
RIDGE = SklearnEstimator("sklearn.linear_model.Ridge", {"alpha": 2.0})
LOGIT = SklearnEstimator(
    "sklearn.linear_model.LogisticRegression",
    {"C": 0.5},
    before=(SklearnEstimator("sklearn.preprocessing.StandardScaler"),),
)
FOREST = SklearnEstimator(
    "sklearn.ensemble.RandomForestClassifier", {"n_estimators": 6, "max_depth": 4}
)
WHOLE = EarlyStopping(patience=3, share=0.3)


def recipe(estimator: Any, **given: Any) -> Recipe:
    return Recipe(
        name="tried",
        kind="alpha_weights",
        view="daily",
        label=LabelDeclaration("log_return", entry=1),
        estimator=estimator,
        description="A test.",
        walk_forward=WalkForward(folds=2, initial_share=0.5),
        **given,
    )


CASES = {
    "lightgbm variance": recipe(VarianceCorrection("ewm_vol", LEAVES)),
    "lightgbm rise, stopped": recipe(RiseProbability(LEAVES), early_stopping=WHOLE),
    "lightgbm rise, isotonic": recipe(
        RiseProbability(LEAVES), calibration=Calibration("isotonic", folds=3)
    ),
    "lightgbm level": recipe(Regression(LEAVES, "huber")),
    "xgboost level": recipe(Regression(SMALL)),
    "xgboost variance, stopped": recipe(VarianceCorrection("ewm_vol", SMALL), early_stopping=WHOLE),
    "xgboost rise, stopped, platt": recipe(
        RiseProbability(SMALL), early_stopping=WHOLE, calibration=Calibration("platt", folds=3)
    ),
    "ridge": recipe(Regression(RIDGE)),
    "scaled logit": recipe(RiseProbability(LOGIT)),
    "forest, platt": recipe(RiseProbability(FOREST), calibration=Calibration("platt", folds=3)),
}


def frame_of(case: Recipe, vol: pl.DataFrame, direction: pl.DataFrame) -> pl.DataFrame:
    return vol if isinstance(case.estimator, VarianceCorrection) else direction


@pytest.fixture(scope="module")
def trained(vol_frame: pl.DataFrame, direction_frame: pl.DataFrame) -> dict[str, TrainingResult]:
    return {
        name: train(case, frame_of(case, vol_frame, direction_frame), features=FEATURES)
        for name, case in CASES.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_the_served_file_is_the_trained_model(
    name: str, trained: dict[str, TrainingResult]
) -> None:
    result = trained[name]
    assert result.parity["largest_difference"] <= 1e-6
    if "xgboost" not in name:
        assert result.parity["largest_difference"] <= 1e-14
    if name not in {"ridge", "scaled logit"}:
        assert result.parity["threshold_rows"] > 50
        assert len(result.probes) > 20
    assert result.predictions["prediction"].is_finite().all()
    assert all(math.isfinite(value) for value in result.metrics.values())


@pytest.mark.parametrize(
    "name", ["lightgbm variance", "xgboost rise, stopped, platt", "forest, platt"]
)
def test_neither_threads_nor_the_order_of_rows_change_a_bit_of_any_learner(
    name: str,
    trained: dict[str, TrainingResult],
    vol_frame: pl.DataFrame,
    direction_frame: pl.DataFrame,
) -> None:
    frame = frame_of(CASES[name], vol_frame, direction_frame)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=1)
    again = train(CASES[name], shuffled, features=FEATURES, threads=1)
    result = trained[name]
    assert again.model_bytes == result.model_bytes
    assert again.onnx_bytes == result.onnx_bytes
    assert again.predictions.equals(result.predictions)
    assert again.config == result.config


@pytest.mark.parametrize("name", ["lightgbm rise, isotonic", "xgboost rise, stopped, platt"])
def test_what_comes_after_a_fold_changes_nothing_of_it(
    name: str, trained: dict[str, TrainingResult], direction_frame: pl.DataFrame
) -> None:
    """Stopping and calibrating see the training rows of the fold, and no others."""
    first = trained[name].predictions.filter(pl.col("fold") == 0)
    end = int(first["as_of"].max())  # type: ignore[arg-type]
    # The labels of the tested rows and of everything later are turned over.
    other = direction_frame.with_columns(
        label=pl.when(pl.col("as_of") >= first["as_of"].min())
        .then(-pl.col("label"))
        .otherwise("label")
    )
    again = train(CASES[name], other, features=FEATURES).predictions.filter(pl.col("fold") == 0)
    assert again["prediction"].equals(first["prediction"])
    assert end == again["as_of"].max()


def test_stopping_early_says_how_many_rounds_each_seed_took(
    trained: dict[str, TrainingResult],
) -> None:
    rounds = trained["xgboost variance, stopped"].config["rounds"]
    assert len(rounds["final"]) == 2
    assert len(rounds["folds"]) == 2
    chosen = [*rounds["final"], *(count for fold in rounds["folds"] for count in fold)]
    assert all(1 <= count <= SMALL.rounds for count in chosen)
    with zipfile.ZipFile(io.BytesIO(trained["xgboost variance, stopped"].model_bytes)) as archive:
        import xgboost

        for seed, count in zip((1, 2), rounds["final"], strict=True):
            booster = xgboost.Booster()
            booster.load_model(bytearray(archive.read(f"seed_{seed}.ubj")))
            assert booster.num_boosted_rounds() == count
    assert "rounds" not in trained["xgboost level"].config


def test_noise_stops_earlier_than_signal(long_direction_frame: pl.DataFrame) -> None:
    many = replace(SMALL, rounds=60)
    case = recipe(RiseProbability(many), early_stopping=EarlyStopping(patience=10, share=0.3))
    noise = long_direction_frame.with_columns(pl.col("label").shuffle(seed=5))
    signal = train(case, long_direction_frame, features=FEATURES).config["rounds"]["final"]
    nothing = train(case, noise, features=FEATURES).config["rounds"]["final"]
    assert max(nothing) < min(signal)


def test_files_of_other_learners_say_what_was_fitted_and_hold_no_pickle(
    trained: dict[str, TrainingResult],
) -> None:
    text = trained["lightgbm variance"]
    with zipfile.ZipFile(io.BytesIO(text.model_bytes)) as archive:
        assert archive.namelist() == ["ensemble.json", "seed_1.txt", "seed_2.txt"]
        assert archive.read("seed_1.txt").startswith(b"tree\n")
    assert text.model_file == "model.zip"
    ridge = trained["ridge"]
    assert ridge.model_file == "model.json"
    assert json.loads(ridge.model_bytes)["estimator"]["learner"]["path"].endswith("Ridge")
    with zipfile.ZipFile(io.BytesIO(trained["lightgbm rise, isotonic"].model_bytes)) as archive:
        assert archive.namelist() == ["calibration.json", "model.zip"]


def test_seeds_are_averaged_by_scikit_learn_as_well(direction_frame: pl.DataFrame) -> None:
    def predicted(*seeds: int) -> np.ndarray:
        case = replace(recipe(RiseProbability(FOREST)), seeds=seeds)
        return train(case, direction_frame, features=FEATURES).predictions["prediction"].to_numpy()

    both = predicted(3, 4)
    assert not np.array_equal(predicted(3), predicted(4))
    assert np.allclose(both, (predicted(3) + predicted(4)) / 2, rtol=0, atol=1e-15)


def log_loss(probabilities: np.ndarray, rises: np.ndarray) -> float:
    return float(-np.log(np.where(rises, probabilities, 1 - probabilities)).mean())


def test_platt_finds_the_curve_that_the_labels_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    odds = 2.0 * rng.standard_normal(40_000)
    rises = rng.random(len(odds)) < 1 / (1 + np.exp(-(0.5 * odds - 0.3)))
    found = fit_map(Calibration("platt"), 1 / (1 + np.exp(-odds)), rises)
    assert isinstance(found, Platt)
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.intercept == pytest.approx(-0.3, abs=0.03)


def test_isotonic_rises_and_is_closer_to_the_truth_than_what_it_was_given() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(40_000)
    rises = rng.random(len(truth)) < truth
    given = truth**3  # in order, and far from the truth
    found = fit_map(Calibration("isotonic"), given, rises)
    assert isinstance(found, Isotonic)
    assert list(found.outputs) == sorted(set(found.outputs))
    assert list(found.inputs) == sorted(set(found.inputs))
    inside = (truth > 0.02) & (truth < 0.98)
    assert np.abs(found.apply(given) - truth)[inside].max() < 0.1
    assert log_loss(found.apply(given), rises) < log_loss(np.clip(given, 1e-9, 1 - 1e-9), rises)
    by_hand = np.interp(given[:500], found.inputs, found.outputs)
    assert np.allclose(found.apply(given[:500]), by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "fitted",
    [Platt(0.7, 0.2), Isotonic((0.3, 0.4, 0.6), (0.2, 0.5, 0.9)), Isotonic((0.5,), (0.4,))],
)
def test_a_map_in_onnx_is_the_map(
    fitted: Any, trained: dict[str, TrainingResult], direction_frame: pl.DataFrame
) -> None:
    inputs = direction_frame.select(FEATURES).to_numpy().astype(np.float32)
    data = trained["scaled logit"].onnx_bytes
    raw = run_onnx(data, inputs)
    assert np.allclose(
        run_onnx(append_map(data, fitted), inputs), fitted.apply(raw), rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_certainty_and_one_kind_of_label_are_handled(method: Any) -> None:
    probabilities = np.asarray([0.0, 0.0, 1.0, 1.0, 0.5, 0.5])
    rises = np.asarray([False, False, True, True, True, False])
    applied = fit_map(Calibration(method), probabilities, rises).apply(probabilities)
    assert ((applied > 0) & (applied < 1)).all()
    assert applied[0] < applied[4] < applied[2]
    with pytest.raises(ContractViolation, match="expected both kinds"):
        fit_map(Calibration(method), probabilities, np.ones(6, dtype=bool))


def test_recipes_without_the_new_parts_keep_their_hash() -> None:
    """A recipe's hash names it in versions that are registered already."""
    document = recipe(RiseProbability(SMALL)).to_json()
    assert set(document["estimator"]) == {"name", "boosting"}
    assert not {"early_stopping", "calibration", "learner"} & set(document)
    assert recipe(RiseProbability(SMALL)).hash == content_hash(document)


def test_every_part_of_a_declaration_counts_in_the_hash() -> None:
    hashes = {case.hash for case in CASES.values()}
    changed = [
        recipe(RiseProbability(LEAVES)),
        recipe(RiseProbability(replace(LEAVES, leaves=6))),
        recipe(RiseProbability(LEAVES), early_stopping=EarlyStopping(patience=4, share=0.3)),
        recipe(RiseProbability(LEAVES), calibration=Calibration("platt", folds=3)),
        recipe(Regression(LEAVES)),
        recipe(Regression(replace(RIDGE, settings={"alpha": 3.0}))),
        recipe(RiseProbability(replace(LOGIT, before=()))),
    ]
    hashes |= {case.hash for case in changed}
    assert len(hashes) == len(CASES) + len(changed)
    twice = SklearnEstimator("sklearn.linear_model.Ridge", (("alpha", 2.0),))
    assert hash(twice) == hash(RIDGE)
    assert recipe(Regression(twice)).hash == CASES["ridge"].hash


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LightGBM(rounds=0), "rounds=0"),
        (lambda: LightGBM(leaves=1, depth=0), "leaves=1, depth=0"),
        (lambda: LightGBM(l2=float("nan")), "l2=nan"),
        (lambda: EarlyStopping(patience=0), "patience=0"),
        (lambda: EarlyStopping(share=1.0), "share=1.0"),
        (lambda: Calibration("beta"), "'beta'"),  # type: ignore[arg-type]
        (lambda: Calibration(folds=1), "folds|at least 2"),
        (lambda: SklearnEstimator("os.system"), "expected a class of scikit-learn"),
        (lambda: SklearnEstimator("sklearn.linear_model"), "expected a class of scikit-learn"),
        (lambda: SklearnEstimator("sklearn.svm.SVR", {"n_jobs": 2}), "one thread"),
        (lambda: SklearnEstimator("sklearn.svm.SVR", {"random_state": 2}), "recipe's"),
        (lambda: SklearnEstimator("sklearn.svm.SVR", {"kernel": print}), "kernel is builtin"),
        (lambda: VarianceCorrection("ewm_vol", RIDGE), "expected Boosting or LightGBM"),  # type: ignore[arg-type]
        (lambda: Regression(LEAVES, "squared"), "squared_error"),  # type: ignore[arg-type]
        (lambda: Regression(RIDGE, "huber"), "setting of the estimator"),
        (lambda: recipe(Regression(RIDGE), early_stopping=WHOLE), "no learner that does"),
        (lambda: recipe(Baseline("ewm_vol"), early_stopping=WHOLE), "no learner that does"),
        (lambda: recipe(Regression(LEAVES), calibration=Calibration()), "gives none"),
        (lambda: recipe(RiseProbability(LEAVES), calibration="platt"), "calibration is 'platt'"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(make: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (Regression(SklearnEstimator("sklearn.linear_model.Rigde")), "no class"),
        (Regression(SklearnEstimator("sklearn.linear.Ridge")), "no module sklearn.linear"),
        (Regression(SklearnEstimator("sklearn.linear_model.Ridge", {"alfa": 1.0})), "alfa"),
        (Regression(LOGIT), "expected a regressor"),
        (RiseProbability(RIDGE), "expected a classifier"),
    ],
)
def test_an_estimator_that_is_not_there_or_does_not_fit_is_named(
    estimator: Any, message: str, direction_frame: pl.DataFrame
) -> None:
    with pytest.raises(DefinitionError, match=message):
        train(recipe(estimator), direction_frame, features=FEATURES)


class _Absent(importlib.abc.MetaPathFinder):
    """Imports as they go where a package was not installed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        if name.split(".", maxsplit=1)[0] == self._name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self._name)


@pytest.mark.parametrize(
    ("package", "estimator", "extra"),
    [
        ("lightgbm", Regression(LEAVES), "assay\\[lightgbm\\]"),
        ("sklearn", Regression(RIDGE), "assay\\[sklearn\\]"),
    ],
)
def test_a_library_that_is_not_installed_says_what_to_install(
    package: str,
    estimator: Any,
    extra: str,
    direction_frame: pl.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [one for one in sys.modules if one.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Absent(package), *sys.meta_path])
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        train(recipe(estimator), direction_frame, features=FEATURES)
    assert caught.value.hint is not None
    assert caught.value.hint == f"pip install '{extra.replace(chr(92), '')}'"
