"""What is left of a result when all that was tried is counted.

One trial is one column of dated returns after costs; the candidate is among them. Trials without a
series still count where only their number matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from assay.domain.evidence import Evidence
from assay.statistics.deflated import Trials, deflated_sharpe
from assay.statistics.overfitting import probability_of_overfitting
from assay.statistics.panel import FloatArray
from assay.statistics.samples import series_of
from assay.statistics.sharpe import Moments, track_record_2012
from assay.statistics.statistic import LEVEL, Statistic, number, overflow_becomes_undefined
from assay.statistics.superior import superior_ability
from assay.validation.records import evidence_of, undefined

BLOCKS = 16
"""Blocks of the symmetric splits: 12,870 of them."""
MIN_TRIALS: Final = 5
"""Fewer decide nothing. Noise passes 0.2 in 23 % of cases with two trials, 9 % with three, 6 % with
five (150 simulations each)."""
FORM: Final = "2025"
"""Of the deflated ratio. By simulation (docs/explanation/size-and-power.md) noise passes 0.95 in at
most 4 % of cases and a true annual ratio of 2 among 20 trials in 82 %; the form of 2014 lets under
1 % of noise pass and finds 46 %."""


@dataclass(frozen=True, slots=True, eq=False)
class Attempts:
    """Everything that was tried for one line, as its statistics need it.

    Attributes
    ----------
    returns: of the candidate, after costs, on all its dates, shape (T,).
    together: of every trial that has a series, the candidate's among them, on the dates that all of
        them have, shape (D, N).
    count: how many trials there were, at least N and at least 1.
    champion: of the champion on the dates of ``together``, shape (D,); None for none, and then
        cash is the only benchmark.
    """

    returns: FloatArray
    together: FloatArray
    count: int
    champion: FloatArray | None = None


def luck_evidence(
    attempts: Attempts, *, generator: np.random.Generator, horizon: int = 1
) -> list[Evidence]:
    """``deflated_sharpe``, ``min_track_record``, ``pbo`` and ``spa``.

    ``horizon`` is the number of dates that a label spans: halves of the record are purged by one
    less wherever they meet.
    """
    return [
        *luck_of_one(attempts),
        *luck_of_all(attempts, generator=generator, horizon=horizon),
    ]


def luck_of_one(attempts: Attempts) -> list[Evidence]:
    """``deflated_sharpe`` and ``min_track_record``, which are about the candidate."""
    return [_deflated(attempts), _track_record(attempts.returns)]


def luck_of_all(
    attempts: Attempts, *, generator: np.random.Generator, horizon: int = 1
) -> list[Evidence]:
    """``pbo`` and ``spa``, which are the same for every trial of a line."""
    return [
        _overfitting(attempts.together, horizon),
        _superior(attempts, generator),
    ]


def _overfitting(together: FloatArray, horizon: int) -> Evidence:
    found = probability_of_overfitting(together, blocks=BLOCKS, purge=horizon - 1)
    trials = together.shape[1]
    if found.value is not None and trials < MIN_TRIALS:
        # Ranks among two or three: a quarter of noise would pass.
        return undefined(
            "pbo",
            found.convention,
            f"{trials} trials: at least {MIN_TRIALS} are needed to tell a choice from luck",
            sample_size=found.sample_size,
            probability=found.value,
            **found.details,
        )
    return evidence_of("pbo", found)


def _deflated(attempts: Attempts) -> Evidence:
    known = attempts.together.shape[1]
    trials: Trials | str = Trials(attempts.count)
    if known and len(attempts.together):
        trials = Trials.of(attempts.together, count=attempts.count)
    if isinstance(trials, str):
        # Their spread cannot be told; the statistic takes that of noise and says so.
        trials = Trials(attempts.count)
    found = deflated_sharpe(attempts.returns, trials=trials, form=FORM)
    details = dict(found.details)
    if found.value is not None:
        details["in_words"] = (
            f"{attempts.count} trials counted, worth {details['effective_trials']:.3g} independent "
            "ones"
            if attempts.count > 1
            else "1 trial counted"
        )
    # The probability itself is judged; one minus it beside it would be read as a second test.
    return evidence_of("deflated_sharpe", replace(found, p_value=None, details=details))


@overflow_becomes_undefined
def _track_record(returns: FloatArray) -> Evidence:
    convention = (
        f"length of the record over the length at which a Sharpe ratio above 0 reaches {LEVEL:g}: "
        "T / MinTRL, MinTRL = 1 + (1 - g3 SR + (g4-1)/4 SR^2) (Z/SR)^2, per date, raw kurtosis; "
        "Bailey and Lopez de Prado (2012), Journal of Risk 15(2)"
    )
    series = series_of(returns)
    if isinstance(series, str):
        return evidence_of(
            "min_track_record",
            Statistic(
                value=None, sample_size=len(returns), convention=convention, undefined=series
            ),
        )
    moments = Moments.of(series)
    needed = track_record_2012(moments, 0.0, level=LEVEL)
    # A ratio that is not above zero needs for ever, and no record is any share of that.
    share = 0.0 if math.isinf(needed) else moments.size / needed
    return evidence_of(
        "min_track_record",
        Statistic(
            value=number(share),
            sample_size=moments.size,
            convention=convention,
            details={"needed_dates": number(needed), "ratio_per_date": number(moments.ratio)},
        ),
    )


def _superior(attempts: Attempts, generator: np.random.Generator) -> Evidence:
    """Against cash and against the champion; the harder of the two decides."""
    benchmarks = {"cash": attempts.together}
    if attempts.champion is not None:
        benchmarks["champion"] = attempts.together - attempts.champion[:, None]
    found = {
        name: superior_ability(differences, generator=generator)
        for name, differences in benchmarks.items()
    }
    harder = max(found, key=lambda name: _p(found[name]))
    answer = evidence_of("spa", found[harder], judged="p_value")
    details = {
        **answer.details,
        "benchmark": harder,
        **{f"p_against_{name}": one.p_value for name, one in found.items()},
    }
    if answer.value is not None:
        details["in_words"] = (
            f"how likely a best of {attempts.together.shape[1]} like this would be if none were "
            f"better than {harder}"
        )
    return replace(answer, details=details)


def _p(found: Statistic) -> float:
    # What could not be computed is the hardest: it must not be passed over for the other.
    return math.inf if found.p_value is None else found.p_value
