"""What each group of features is worth, and what each feature is: training again without it.

Both questions are asked out of sample, over the recipe's own purged folds, with its own seeds, on
the rows that the whole model can use; so every difference is paired row by row. Losses are QLIKE
(log h + y/h) for volatilities and log loss for probabilities; they are averaged by session first,
because instruments move together, and sessions are the sample.

Sources: F. X. Diebold and R. S. Mariano, "Comparing predictive accuracy" (1995, Journal of Business
and Economic Statistics 13), for the paired difference; L. Breiman, "Random forests" (2001, Machine
Learning 45), for permutation importance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import Instant
from assay.errors import DefinitionError
from assay.statistics.hac import LAG_RULE, MeanTest, mean_test
from assay.statistics.information import average_ranks
from assay.statistics.panel import group_by_date
from assay.statistics.statistic import Statistic, number
from assay.training.dataset import TrainingRows, read_rows
from assay.training.estimators import Predictions
from assay.training.fitting import fit_rows
from assay.training.recipe import (
    Baseline,
    Learned,
    Recipe,
    Regression,
    RiseProbability,
    VarianceCorrection,
)
from assay.training.splits import Split, walk_forward

MIN_COMMON: Final = 5
"""Features that two models must share before their order means anything."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation(Statistic):
    """What leaving out each group does.

    ``value`` and ``p_value`` are the adjusted p-value of the most harmful group. ``groups`` holds
    by name the mean rise of the loss without the group (positive: the group is of use), its
    interval, and the p-value that the group does harm; ``kept`` why a group was not left out.
    """

    groups: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


def ablate(
    recipe: Recipe,
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    cut_off: Instant | None = None,
    threads: int = 2,
    step: Step | None = None,
) -> Ablation:
    """Train again without each group of features, and test whether one does harm.

    NaN policy: rows with a missing input or label are left out, as training leaves them out; a
    group whose absence changes nothing has p = 1. Too few or constant sessions give no value.

    Parameters
    ----------
    frame, features, cut_off, threads: as for :func:`assay.training.train`.
    groups: name -> features. A feature that the estimator itself needs stays in whatever group.
    step: called with what was fitted.

    Raises
    ------
    DefinitionError: the recipe learns nothing. ContractViolation: the frame breaks its contract.
    """
    folds = _Folds.of(recipe, frame, features, cut_off, threads)
    chosen, convention = folds.rows.features, _convention(recipe)
    sizes: dict[str, tuple[str, ...]] = {}
    kept: dict[str, str] = {}
    for name, members in groups.items():
        out = tuple(one for one in chosen if one in members and one != folds.anchor)
        if not out:
            kept[name] = "none of its features can be left out"
        elif len(out) == len(chosen):
            kept[name] = "it is all that the model has"
        else:
            sizes[name] = out
    if not sizes:
        return Ablation(
            value=None,
            sample_size=0,
            convention=convention,
            undefined="no group of features can be left out: declare groups in the recipe",
            kept=kept,
        )
    whole = folds.losses(chosen)
    found: dict[str, Mapping[str, object]] = {}
    p_values: dict[str, float] = {}
    sessions = 0
    for name, out in sizes.items():
        if step is not None:
            step(f"{recipe.name} without {name}")
        without = folds.losses(tuple(one for one in chosen if one not in out))
        tested = _rise(folds, whole, without, recipe.label.horizon)
        if isinstance(tested, str):
            reason = f"without {name}: {tested}"
            return Ablation(
                value=None, sample_size=0, convention=convention, undefined=reason, kept=kept
            )
        found[name] = {"features": list(out), **tested.to_json()}
        p_values[name] = tested.p_harmful
        sessions = tested.sessions
    worst = min(p_values, key=lambda name: (p_values[name], name))
    adjusted = min(1.0, len(p_values) * p_values[worst])
    return Ablation(
        value=adjusted,
        p_value=adjusted,
        sample_size=sessions,
        convention=convention,
        groups=found,
        kept=kept,
        details={
            "in_words": f"the least useful of {len(found)} groups is {worst}",
            "groups": found,
            "kept": kept,
        },
    )


def permutation_importance(
    recipe: Recipe,
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    seed: int,
    repeats: int = 2,
    cut_off: Instant | None = None,
    threads: int = 2,
) -> dict[str, float]:
    """By feature, the mean rise of the out-of-sample loss when its column is permuted.

    Each column is permuted within the tested rows of each fold, ``repeats`` times, by a generator
    of ``seed``, the fold and the feature: one more feature changes nobody else's number.

    Raises
    ------
    DefinitionError: the recipe learns nothing. ContractViolation: the frame breaks its contract.
    """
    folds = _Folds.of(recipe, frame, features, cut_off, threads)
    rows, names = folds.rows, folds.rows.features
    total = np.zeros(len(names))
    count = 0
    for split, model in folds.fitted(names):
        inputs, labels = rows.inputs[split.test_index], rows.labels[split.test_index]
        before = _row_losses(folds.estimator, labels, model(inputs))
        count += int(np.isfinite(before).sum())
        for column, name in enumerate(names):
            generator = np.random.default_rng([seed, split.fold, *name.encode()])
            for _ in range(repeats):
                shuffled = inputs.copy()
                shuffled[:, column] = inputs[generator.permutation(len(inputs)), column]
                after = _row_losses(folds.estimator, labels, model(shuffled))
                total[column] += float(np.nansum(after - before)) / repeats
    return {name: float(one) / max(count, 1) for name, one in zip(names, total, strict=True)}


def importance_consistency(mine: Mapping[str, float], theirs: Mapping[str, float]) -> Statistic:
    """Spearman correlation of two models' importances, over the features that both have.

    NaN policy: a feature whose importance is not finite in either is left out. Fewer than
    :data:`MIN_COMMON` features, or constant importances, give no value.
    """
    convention = (
        "Spearman correlation of permutation importances out of sample, over the features that "
        "both models use, ties get mean ranks"
    )
    common = [n for n in mine if n in theirs and np.isfinite([mine[n], theirs[n]]).all()]

    def none(reason: str) -> Statistic:
        return Statistic(
            value=None, sample_size=len(common), convention=convention, undefined=reason
        )

    if len(common) < MIN_COMMON:
        return none(f"{len(common)} features in common: at least {MIN_COMMON} are needed")
    ranks = [average_ranks(np.array([one[name] for name in common])) for one in (mine, theirs)]
    spreads = [float(np.ptp(one)) for one in ranks]
    if min(spreads) == 0.0:
        return none("all features are equally important")
    value = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return Statistic(
        value=value,
        sample_size=len(common),
        convention=convention,
        details={
            "importances": {name: number(one) for name, one in mine.items()},
            "champion": {name: number(one) for name, one in theirs.items()},
        },
    )


@dataclass(frozen=True, slots=True)
class _Rise:
    """The mean rise of the loss without a group, and how likely the group does harm."""

    mean: float
    interval: tuple[float, float] | None
    p_harmful: float
    sessions: int

    def to_json(self) -> dict[str, object]:
        return {
            "loss_rise": number(self.mean),
            "interval": None if self.interval is None else list(self.interval),
            "p_harmful": self.p_harmful,
            "sessions": self.sessions,
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Folds:
    """The rows and folds that every question is asked over."""

    recipe: Recipe
    estimator: Learned
    rows: TrainingRows
    splits: tuple[Split, ...]
    threads: int

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        frame: pl.DataFrame,
        features: Sequence[str],
        cut_off: Instant | None,
        threads: int,
    ) -> _Folds:
        if isinstance(recipe.estimator, Baseline):
            raise DefinitionError(
                f"recipe {recipe.name} is a baseline: it learns nothing that could be left out"
            )
        rows = read_rows(frame, recipe.select_features(features), cut_off=cut_off)
        splits = tuple(walk_forward(rows.times, recipe.walk_forward))
        return cls(recipe, recipe.estimator, rows, splits, threads)

    @property
    def anchor(self) -> str | None:
        """The feature without which the estimator is none."""
        return self.estimator.offset if isinstance(self.estimator, VarianceCorrection) else None

    def fitted(
        self, names: tuple[str, ...]
    ) -> list[tuple[Split, Callable[[NDArray[np.float32]], Predictions]]]:
        """Each fold with the model that was fitted on these features alone."""
        columns = [self.rows.features.index(name) for name in names]
        inputs = np.ascontiguousarray(self.rows.inputs[:, columns])
        rows = replace(self.rows, features=names, inputs=inputs)

        def one(split: Split) -> Callable[[NDArray[np.float32]], Predictions]:
            return fit_rows(self.recipe, rows, split.train_index).model.predict

        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            return list(zip(self.splits, pool.map(one, self.splits), strict=True))

    def losses(self, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Out-of-sample losses of the tested rows in order of fold; NaN where a row has none."""
        columns = [self.rows.features.index(name) for name in names]
        return np.concatenate(
            [
                _row_losses(
                    self.estimator,
                    self.rows.labels[split.test_index],
                    predict(np.ascontiguousarray(self.rows.inputs[split.test_index][:, columns])),
                )
                for split, predict in self.fitted(names)
            ]
        )

    @property
    def sessions(self) -> NDArray[np.int64]:
        """The session of each tested row: where its label starts."""
        tested = np.concatenate([split.test_index for split in self.splits])
        starts: NDArray[np.int64] = self.rows.times.label_start[tested]
        return starts


def _rise(
    folds: _Folds, whole: NDArray[np.float64], without: NDArray[np.float64], horizon: int
) -> _Rise | str:
    difference = without - whole
    panel = group_by_date(folds.sessions, [difference], np.isfinite(difference))
    if not len(panel.dates):
        return "no tested row has a loss"
    series = panel.means(panel.columns[0])
    if not series.any():
        return _Rise(0.0, None, 1.0, len(series))
    test = mean_test(-series, horizon=horizon)
    if not isinstance(test, MeanTest):
        return test
    low, high = test.interval
    return _Rise(-test.mean, (-high, -low), test.p_greater, len(series))


def _row_losses(
    estimator: Learned, labels: NDArray[np.float64], predicted: Predictions
) -> NDArray[np.float64]:
    """QLIKE, log loss or the regression's loss; NaN where the label says nothing."""
    with np.errstate(all="ignore"):
        if isinstance(estimator, RiseProbability):
            chance = np.where(labels > 0.0, predicted, 1.0 - predicted)
            loss = np.where(labels != 0.0, -np.log(chance), np.nan)
        elif isinstance(estimator, Regression):
            error = np.abs(labels - predicted)
            loss = error if estimator.loss == "absolute_error" else error**2
        else:
            variance = predicted**2
            loss = np.log(variance) + labels / variance
    return np.where(np.isfinite(loss), loss, np.nan)


def _convention(recipe: Recipe) -> str:
    loss = "QLIKE"
    if isinstance(recipe.estimator, RiseProbability):
        loss = "log loss"
    elif isinstance(recipe.estimator, Regression):
        absolute = recipe.estimator.loss == "absolute_error"
        loss = "absolute error" if absolute else "squared error"
    return (
        "smallest p-value over the groups that the model loses less without it, times the number "
        f"of groups, at most 1: {loss} out of sample, refitted over the same purged folds and "
        f"seeds, averaged by session, Newey-West t, {LAG_RULE}"
    )
