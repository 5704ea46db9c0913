"""Training on shuffled labels: whoever predicts them out of sample has seen them.

Which label a row gets is decided by chance, so nothing in its inputs says anything about it. Given
everything that a fold was trained on, the labels of its tested rows are exchangeable, and the rank
correlation between them and the predictions has expectation 0 and variance 1 / (n - 1) whatever the
predictions are (the permutation distribution of a correlation; E. J. G. Pitman, "Significance tests
which may be applied to samples from any populations II", 1937). Folds that test rows which they
were trained on, a target encoded before the split and a label among the inputs that is taken from
the frame are found; a feature that was computed from the label beforehand is not, for it does not
change with the shuffle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from assay.errors import ContractViolation

Training: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]
"""From a training set to out-of-sample predictions: label, prediction, fold."""

SUSPICIOUS: Final = 4.0
"""Standard deviations from no correlation: one shuffle of 16,000 goes further by chance."""


@dataclass(frozen=True, slots=True)
class ShuffledLabels:
    """What was learnt from shuffled labels.

    Attributes
    ----------
    scores: one per shuffle: how many standard deviations the rank correlation out of sample, over
        all folds, is away from 0.
    rows: predictions per shuffle.
    """

    scores: tuple[float, ...]
    rows: int

    @property
    def holds(self) -> bool:
        """Whether no shuffle was predicted."""
        return all(abs(score) < SUSPICIOUS for score in self.scores)

    def to_json(self) -> dict[str, Any]:
        return {"holds": self.holds, "rows": self.rows, "scores": list(self.scores)}


def train_on_shuffled_labels(
    run: Training, frame: pl.DataFrame, *, shuffles: int = 3, seed: int = 0
) -> ShuffledLabels:
    """Train on labels that were permuted over the rows which have one.

    Parameters
    ----------
    run: trains on a frame like this one and gives its predictions out of sample.
    frame: the training set, with the column ``label``.
    shuffles: how often. seed: of the permutations.

    Raises
    ------
    ContractViolation: there is no label, or no fold with at least three predictions.
    """
    if "label" not in frame.columns:
        raise ContractViolation("label shuffle: the training set has no column 'label'")
    generator = np.random.default_rng(seed)
    labels = frame["label"].to_numpy().copy()
    known = np.flatnonzero(np.isfinite(labels))
    if not known.size:
        raise ContractViolation(f"label shuffle: none of {frame.height} rows has a label")
    scores, rows = [], 0
    for _ in range(shuffles):
        shuffled = labels.copy()
        shuffled[known] = labels[generator.permutation(known)]
        made = run(frame.with_columns(pl.Series("label", shuffled)))
        scores.append(_score(made))
        rows = made.height
    return ShuffledLabels(tuple(scores), rows)


def _score(predictions: pl.DataFrame) -> float:
    """The folds' rank correlations, each in its standard deviations, added up and scaled by it."""
    finite = predictions.filter(pl.col("prediction").is_finite() & pl.col("label").is_finite())
    by_fold = finite.group_by("fold", maintain_order=True).agg(
        pl.len().alias("rows"),
        pl.corr(pl.col("prediction").rank(), pl.col("label").rank()).alias("correlation"),
    )
    large = by_fold.filter(pl.col("rows") > 2)
    if large.is_empty():
        raise ContractViolation("label shuffle: no fold has three predictions")
    # A fold whose predictions are all the same has learnt nothing.
    deviations = large.select(
        pl.col("correlation").fill_nan(0.0).fill_null(0.0) * (pl.col("rows") - 1).sqrt()
    )
    return float(deviations.to_series().sum() / np.sqrt(large.height))
