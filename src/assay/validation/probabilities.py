"""Whether probabilities of a rise mean what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from assay.domain.evidence import Evidence
from assay.statistics.calibration import brier
from assay.statistics.panel import FloatArray
from assay.statistics.reliability import Reliability, calibration_error, reliability_curve
from assay.statistics.statistic import Statistic
from assay.validation.records import evidence_of

BINS = 15
DIAGRAM_BINS = 10


def outcomes(table: pl.DataFrame) -> tuple[FloatArray, FloatArray]:
    """What happened (1 a rise, 0 a fall) and the probability that was given, both (rows,).

    ``table`` has ``label`` (forward log return) and ``prediction``. An unchanged price is neither
    and is left out, as in training.
    """
    known = table.filter(pl.col("label").is_finite() & (pl.col("label") != 0.0))
    rose = (known["label"] > 0.0).cast(pl.Float64).to_numpy()
    return rose, known["prediction"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def probability_evidence(table: pl.DataFrame, *, generator: np.random.Generator) -> list[Evidence]:
    """``brier`` and ``ece`` of the probabilities in ``prediction``.

    ``ece`` is the calibration error less what a perfect forecaster shows on the same sample. The
    sample size is the number of dates: instruments rise and fall together.
    """
    rose, probability = outcomes(table)
    dates = table["as_of"].n_unique()
    score = brier(rose, probability, bins=BINS)
    error = calibration_error(rose, probability, bins=BINS, generator=generator)
    excess = error.details.get("excess")
    judged: Statistic = error
    if error.value is not None:
        judged = Statistic(
            value=excess,
            sample_size=error.sample_size,
            convention=f"{error.convention}; less the mean of the simulated null",
            undefined=None if excess is not None else "the null could not be simulated",
            warnings=error.warnings,
            details={**error.details, "plain": error.value, "p_value": error.p_value},
        )
    return [
        _on_dates(evidence_of("brier", score), dates),
        _on_dates(evidence_of("ece", judged), dates),
    ]


def diagram(table: pl.DataFrame, *, generator: np.random.Generator) -> Reliability:
    """The reliability diagram with the band in which a perfect forecaster would lie."""
    return reliability_curve(*outcomes(table), bins=DIAGRAM_BINS, generator=generator)


def _on_dates(piece: Evidence, dates: int) -> Evidence:
    if piece.value is None:
        return piece
    return replace(piece, sample_size=dates, details={**piece.details, "rows": piece.sample_size})
