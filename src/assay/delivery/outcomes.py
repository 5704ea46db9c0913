"""What became of paired predictions: the daily difference of IC and of a unit portfolio's return.

Both series are tested one-sided for harm, at any time, with a variance that is frozen on the pairs
that were made before the canary began (:mod:`assay.statistics.sequential`). A canary without such a
shadow has no variance, and its outcomes decide nothing. With daily dates such a test needs weeks to
months; it stops harm and cannot show that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from assay.domain.instants import NANOS_PER_SECOND, Instant, parse
from assay.errors import AssayError
from assay.serving.challengers.pairs import Pair
from assay.statistics.information import MIN_NAMES, daily_correlation
from assay.statistics.sequential import SequentialTest, Side, advance, begin, frozen_variance

_DAY = 86_400 * NANOS_PER_SECOND
EXPECTED_DATES = 40
"""Dates after which the tests are tightest; any other number is valid as well."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Differences:
    """By UTC day of the moment asked about: canary less champion, shape (T,) each.

    ``ic`` is of Spearman correlations across instruments with what was realised; ``pnl`` of the
    return of a portfolio with sum of absolute weights 1 that stands on the predictions.
    """

    days: npt.NDArray[np.int64]
    ic: FloatArray
    pnl: FloatArray


@dataclass(frozen=True, slots=True)
class OutcomeMeans:
    """Mean daily differences, challenger less champion, over ``dates``.

    ``*_error`` is the standard error with days taken as independent; None below two dates. ``pnl``
    is None for a version whose predictions are no positions. They are for reading and are no tests.
    """

    dates: int
    ic: float
    ic_error: float | None
    pnl: float | None
    pnl_error: float | None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def mean_differences(found: Differences, *, pnl: bool) -> OutcomeMeans | None:
    """The means of daily differences; None without a date.

    Parameters
    ----------
    pnl: whether predictions are positions.
    """
    if not len(found.days):
        return None
    return OutcomeMeans(
        len(found.days),
        float(found.ic.mean()),
        _standard_error(found.ic),
        float(found.pnl.mean()) if pnl else None,
        _standard_error(found.pnl) if pnl else None,
    )


class _Feedback(msgspec.Struct):
    instrument: str
    timestamp: str
    realized_value: float | None = None


def realised_values(path: Path) -> dict[tuple[str, Instant], float]:
    """Instrument and moment -> what was realised, the last report of each; no file: none."""
    found: dict[tuple[str, Instant], float] = {}
    for line in _lines(path):
        try:
            one = msgspec.json.decode(line, type=_Feedback)
            if one.realized_value is not None:
                found[one.instrument, parse(one.timestamp)] = one.realized_value
        except (msgspec.DecodeError, AssayError):
            continue  # torn by a crash
    return found


def differences(
    pairs: Iterable[Pair], realised: Mapping[tuple[str, Instant], float], *, centre: float
) -> Differences:
    """Daily differences over pairs whose outcome is known; a day needs five instruments.

    Parameters
    ----------
    centre: the prediction that stands for no position: 0, or one half for probabilities.
    """
    known = [
        (pair.at // _DAY, pair.prediction, pair.shadow, realised[pair.instrument, pair.at])
        for pair in pairs
        if pair.instrument is not None
        and pair.prediction is not None
        and pair.shadow is not None
        and (pair.instrument, pair.at) in realised
    ]
    if not known:
        none = np.empty(0)
        return Differences(np.empty(0, np.int64), none, none)
    days = np.array([one[0] for one in known], dtype=np.int64)
    old, new, outcome = np.array([one[1:] for one in known], dtype=np.float64).T
    theirs, their_days, _ = daily_correlation(days, old, outcome, ranked=True)
    ours, our_days, _ = daily_correlation(days, new, outcome, ranked=True)
    common = np.intersect1d(our_days, their_days)
    ic = ours[np.isin(our_days, common)] - theirs[np.isin(their_days, common)]
    pnl = [
        _return(new[days == day] - centre, outcome[days == day])
        - _return(old[days == day] - centre, outcome[days == day])
        for day in common
    ]
    return Differences(common, ic, np.array(pnl))


def harm_tests(history: Differences, live: Differences, *, pnl: bool) -> dict[str, SequentialTest]:
    """One test of each series that history is long enough for, advanced over the live dates.

    Parameters
    ----------
    history: of the shadow, before the canary began. pnl: whether predictions are positions, which
        those of a risk model are not.
    """
    tests: dict[str, SequentialTest] = {}
    for name, past, now in (("ic", history.ic, live.ic), ("pnl", history.pnl, live.pnl)):
        variance = frozen_variance(past).value if name == "ic" or pnl else None
        if variance is not None and variance > 0:
            state = begin(null=0.0, variance=variance, expected=EXPECTED_DATES, side=Side.BELOW)
            tests[name] = advance(state, now)
    return tests


def _standard_error(values: FloatArray) -> float | None:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None


def _return(weights: FloatArray, outcome: FloatArray) -> float:
    gross = float(np.abs(weights).sum())
    return float(weights @ outcome) / gross if gross and len(weights) >= MIN_NAMES else 0.0


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as handle:
            yield from handle
