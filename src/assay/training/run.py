"""From a recipe and a training set to everything that a version of a model is made of.

1. Take the usable rows (``dataset``).
2. Cut them into purged walk-forward folds (``splits``).
3. Fit each fold's ensemble and predict its test block; fit the final ensemble on all rows. Where
   the recipe asks for robustness, also fit every split of a combinatorial scheme.
4. Export the final ensemble to ONNX; check it against the native one; time it.

Nothing here reads a clock, a file or the environment: the same recipe and the same rows give the
same model bytes, ONNX bytes and predictions, in any row order and on any number of threads. Only
the bench document differs, because it is a measurement of this machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import Instant, render
from assay.domain.versions import InputSchema
from assay.errors import DefinitionError
from assay.training.dataset import TrainingRows, read_rows
from assay.training.estimators import BaselineForecast, Predictions, offsets
from assay.training.fitting import FittedModel, fit_rows
from assay.training.onnx_checks import Inputs, bench_onnx, check_parity, probe_rows
from assay.training.onnx_export import Model, export_onnx
from assay.training.recipe import Baseline, Recipe, Regression, RiseProbability, VarianceCorrection
from assay.training.sklearn_ensemble import one_thread
from assay.training.splits import (
    CombinatorialPurged,
    Split,
    assemble_paths,
    combinatorial_purged,
    describe,
    walk_forward,
)

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what was done, how many steps are done, and how many there are."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """A trained model with its out-of-sample record.

    Attributes
    ----------
    recipe: what was declared.
    schema: names, order and type of the inputs.
    model_file: file name for ``model_bytes``: ``model.zip`` or ``model.json``.
    model_bytes: the native model, a safe format.
    onnx_bytes: the served model; input ``X``, output ``prediction``.
    predictions: out of sample, one row per tested row: instrument, as_of, label, prediction, fold,
        label_start, label_end; ordered by as_of and instrument.
    paths: the same columns with ``path`` instead of ``fold``, every row once on each path of the
        recipe's robustness scheme; None where it has none.
    parity, bench: contents of ``parity.json`` and ``bench.json``.
    probes: a few inputs that sit on split thresholds and beside them, float32; none without trees.
    metrics: finite numbers by name: row counts and losses over ``predictions``.
    config: what determined the model besides the rows, as a JSON object.
    """

    recipe: Recipe
    schema: InputSchema
    model_file: str
    model_bytes: bytes
    onnx_bytes: bytes
    predictions: pl.DataFrame
    paths: pl.DataFrame | None
    parity: dict[str, Any]
    bench: dict[str, Any]
    probes: Inputs
    metrics: dict[str, float]
    config: dict[str, Any]


def train(
    recipe: Recipe,
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    cut_off: Instant | None = None,
    threads: int = 2,
    progress: Progress | None = None,
    timer: Callable[[], int] = time.perf_counter_ns,
) -> TrainingResult:
    """Train a recipe; :func:`train_baseline` where its estimator is a baseline.

    Parameters
    ----------
    frame: the training set; see :mod:`assay.training.dataset` for its columns.
    features: the view's feature names in order, out of which the recipe selects.
    cut_off: use only labels known by this moment; None uses all.
    threads: folds fitted at once. It changes how long this takes, and no bit of the outcome.
    progress: called after each step, from this thread.
    timer: stopwatch for the bench document.

    Raises
    ------
    DefinitionError: the recipe does not fit the features.
    ContractViolation: the frame breaks its contract, or is too short for the walk-forward.
    LookAhead: a label is not after its decision.
    """
    estimator = recipe.estimator
    if isinstance(estimator, Baseline):
        return train_baseline(
            recipe, frame, features=features, cut_off=cut_off, progress=progress, timer=timer
        )
    if threads < 1:
        raise DefinitionError(f"threads={threads}: expected at least 1")
    rows = read_rows(frame, recipe.select_features(features), cut_off=cut_off)
    splits = walk_forward(rows.times, recipe.walk_forward)
    scheme = recipe.robustness
    crossed = () if scheme is None else combinatorial_purged(rows.times, scheme)
    steps = _Steps(progress, len(splits) + len(crossed) + 4)
    with one_thread(estimator):
        folds, final = _fit_all(recipe, rows, splits, threads, steps, final=True)
        assert final is not None
        paths = None
        if scheme is not None:
            others, _ = _fit_all(recipe, rows, crossed, threads, steps, final=False)
            answers = {number: answer for number, (answer, _) in others.items()}
            paths = _paths(rows, scheme, crossed, answers)
        out_of_sample = {number: answer for number, (answer, _) in folds.items()}
        made = _assemble(
            recipe, rows, splits, out_of_sample, final.model, cut_off, steps, timer, paths=paths
        )
    chosen = _chosen(recipe, final, [fold for _, fold in folds.values()])
    return replace(made, config={**made.config, **chosen})


def train_baseline(
    recipe: Recipe,
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    cut_off: Instant | None = None,
    progress: Progress | None = None,
    timer: Callable[[], int] = time.perf_counter_ns,
) -> TrainingResult:
    """Train a baseline: nothing is fitted; it is judged on the same folds as its challengers.

    Parameters and errors are those of :func:`train`.
    """
    if not isinstance(recipe.estimator, Baseline):
        raise DefinitionError(
            f"recipe {recipe.name} has estimator {recipe.estimator.name}: expected baseline",
            hint="train it with train()",
        )
    rows = read_rows(frame, recipe.select_features(features), cut_off=cut_off)
    splits = walk_forward(rows.times, recipe.walk_forward)
    model = BaselineForecast(recipe.estimator, rows.features)
    steps = _Steps(progress, 3)
    out_of_sample = {split.fold: model.predict(rows.inputs[split.test_index]) for split in splits}
    return _assemble(recipe, rows, splits, out_of_sample, model, cut_off, steps, timer)


class _Steps:
    """Counts finished steps and reports them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def finish(self, what: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(what, self._done, self._total)


def _fit_all(
    recipe: Recipe,
    rows: TrainingRows,
    splits: Sequence[Split],
    threads: int,
    steps: _Steps,
    *,
    final: bool,
) -> tuple[dict[int, tuple[Predictions, FittedModel]], FittedModel | None]:
    """By split what was predicted and by what, and where it is wanted the model over all rows."""

    def fitted(index: NDArray[np.int64]) -> FittedModel:
        return fit_rows(recipe, rows, index)

    def fold(split: Split) -> tuple[Predictions, FittedModel]:
        made = fitted(split.train_index)
        return made.model.predict(rows.inputs[split.test_index]), made

    with ThreadPoolExecutor(max_workers=threads) as pool:
        # The largest first, so that the last worker to finish has the least left to do. XGBoost
        # lets go of the interpreter lock while it works.
        whole = pool.submit(fitted, np.arange(len(rows))) if final else None
        folds = {
            split.fold: pool.submit(fold, split)
            for split in sorted(splits, key=lambda split: -len(split.train_index))
        }
        what = "fold" if final else "split"
        names: dict[Future[Any], str] = {
            future: f"{what} {number}" for number, future in folds.items()
        }
        if whole is not None:
            names[whole] = "final model"
        try:
            for future in as_completed(names):
                future.result()
                steps.finish(f"{recipe.name}: {names[future]} fitted")
        except BaseException:
            # Without this, leaving the pool would first fit every fold that still waits.
            pool.shutdown(cancel_futures=True)
            raise
    done = {number: future.result() for number, future in sorted(folds.items())}
    return done, None if whole is None else whole.result()


def _chosen(recipe: Recipe, final: FittedModel, folds: Sequence[FittedModel]) -> dict[str, Any]:
    """What fitting chose by itself, for the record of the run."""
    chosen: dict[str, Any] = {}
    if recipe.early_stopping is not None:
        chosen["rounds"] = {
            "final": list(final.rounds),
            "folds": [list(made.rounds) for made in folds],
        }
    if recipe.calibration is not None:
        chosen["calibration"] = final.calibration
    return chosen


def _assemble(
    recipe: Recipe,
    rows: TrainingRows,
    splits: Sequence[Split],
    out_of_sample: dict[int, Predictions],
    model: Model,
    cut_off: Instant | None,
    steps: _Steps,
    timer: Callable[[], int],
    *,
    paths: pl.DataFrame | None = None,
) -> TrainingResult:
    onnx = export_onnx(model)
    steps.finish(f"{recipe.name}: ONNX exported")
    parity = check_parity(model, onnx, rows.inputs)
    steps.finish(f"{recipe.name}: ONNX checked on {parity['rows'] + parity['threshold_rows']} rows")
    bench = bench_onnx(onnx, rows.inputs, timer)
    steps.finish(f"{recipe.name}: ONNX timed")
    tested = np.concatenate([split.test_index for split in splits])
    predicted = np.concatenate([out_of_sample[split.fold] for split in splits])
    schema = InputSchema.of(rows.features)
    return TrainingResult(
        recipe=recipe,
        schema=schema,
        model_file=model.model_file,
        model_bytes=model.to_bytes(),
        onnx_bytes=onnx,
        predictions=_predictions(rows, splits, tested, predicted),
        paths=paths,
        parity=parity,
        bench=bench,
        probes=probe_rows(model, rows.inputs),
        metrics={
            "rows": float(len(rows)),
            **{f"rows_dropped_{reason}": float(count) for reason, count in rows.dropped.items()},
            "rows_out_of_sample": float(len(tested)),
            **_losses(recipe, rows, tested, predicted),
        },
        config={
            "recipe": recipe.to_json(),
            "recipe_hash": recipe.hash,
            "inputs": schema.to_json(),
            "cut_off": None if cut_off is None else render(cut_off),
            "rows": len(rows),
            "dropped": rows.dropped,
            "not_finite": rows.not_finite,
            "folds": describe(splits, rows.times),
        },
    )


def _predictions(
    rows: TrainingRows,
    splits: Sequence[Split],
    tested: NDArray[np.int64],
    predicted: Predictions,
) -> pl.DataFrame:
    folds = np.repeat([s.fold for s in splits], [len(s.test_index) for s in splits])
    return pl.DataFrame(
        {
            "instrument": rows.instruments.gather(tested),
            "as_of": rows.times.as_of[tested],
            "label": rows.labels[tested],
            "prediction": predicted,
            "fold": folds.astype(np.int64),
            "label_start": rows.times.label_start[tested],
            "label_end": rows.times.label_end[tested],
        }
    )


def _paths(
    rows: TrainingRows,
    scheme: CombinatorialPurged,
    splits: Sequence[Split],
    made: dict[int, Predictions],
) -> pl.DataFrame:
    paths = assemble_paths(rows.times, scheme, splits, made)
    times = rows.times
    return pl.concat(
        pl.DataFrame(
            {
                "instrument": rows.instruments,
                "as_of": times.as_of,
                "label": rows.labels,
                "prediction": predicted,
                "path": np.full(len(rows), number, dtype=np.int64),
                "label_start": times.label_start,
                "label_end": times.label_end,
            }
        )
        for number, predicted in enumerate(paths)
    )


def _losses(
    recipe: Recipe, rows: TrainingRows, tested: NDArray[np.int64], predicted: Predictions
) -> dict[str, float]:
    """Mean out-of-sample losses; for people and trackers, gates take their own measurements.

    ``qlike`` is log(h) + y/h, which needs no positive y and ranks forecasts as QLIKE does;
    ``qlike_offset`` is that of the forecast which the trees correct.
    """
    labels = rows.labels[tested]
    match recipe.estimator:
        case Baseline():
            return {"qlike": _qlike(labels, predicted)}
        case VarianceCorrection() as estimator:
            start = offsets(rows.inputs[tested], rows.features, estimator.offset, estimator.floor)
            return {"qlike": _qlike(labels, predicted), "qlike_offset": _qlike(labels, start)}
        case Regression():
            return {
                "squared_error": float(((labels - predicted) ** 2).mean()),
                "absolute_error": float(np.abs(labels - predicted).mean()),
            }
        case RiseProbability():
            moved = labels != 0.0
            chance = np.where(labels > 0.0, predicted, 1.0 - predicted)[moved]
            # A forest can be certain, and wrong.
            chance = np.maximum(chance, np.finfo(np.float64).eps)
            if not len(chance):
                return {}
            return {
                "log_loss": float(-np.log(chance).mean()),
                "hit_rate": float((chance > 0.5).mean()),
            }


def _qlike(labels: NDArray[np.float64], volatility: Predictions) -> float:
    variance = volatility**2
    return float((np.log(variance) + labels / variance).mean())
