"""What the paths of combinatorial purged cross-validation earn: one history, several outcomes.

A walk-forward is a single path: one order of events, one accident of luck. On each path of the
combinatorial scheme every row is predicted by a model that did not train on it, so that each path
is a whole history of predictions. Their spread says how much of a result hangs on which years
trained which model; it is no confidence interval, for the paths share all their data, and a path
learns from what came later. Source: M. Lopez de Prado, "Advances in Financial Machine Learning"
(2018), chapter 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from assay.domain.evidence import Evidence
from assay.statistics.hac import MIN_DATES, constant
from assay.statistics.sharpe import sharpe_ratio
from assay.statistics.statistic import number, overflow_becomes_undefined
from assay.validation.backtest import Costs, Market, simulate
from assay.validation.information import rank_ic
from assay.validation.records import undefined
from assay.validation.sharpe import PERIODS_PER_YEAR

PATH_IC, PATH_SHARPE = "path_rank_ic", "path_sharpe"
_SOURCE = "combinatorial purged cross-validation (Lopez de Prado 2018, chapter 12)"


def path_evidence(
    frame: pl.DataFrame,
    *,
    horizon: int = 1,
    costs: Costs | None = None,
    periods_per_year: int = PERIODS_PER_YEAR,
) -> list[Evidence]:
    """``path_rank_ic`` and ``path_sharpe``: the median over paths, and every path's own.

    A path whose number cannot be computed makes the whole evidence undefined: a median over the
    paths that happen to have one would be of a chosen few.

    Parameters
    ----------
    frame: columns ``path`` (Int64), ``instrument``, ``as_of`` (Int64), ``label``, ``prediction``
        and ``next_return``, as :func:`~assay.validation.kinds.alpha_evidence` takes them; each row
        once per path.
    """
    assumed = costs or Costs()

    def ic_of(path: pl.DataFrame) -> float | str:
        found = rank_ic(
            path["as_of"].to_numpy(),
            label=_floats(path, "label"),
            prediction=_floats(path, "prediction"),
            horizon=horizon,
        )
        return str(found.details.get("undefined")) if found.value is None else found.value

    def ratio(path: pl.DataFrame) -> float | str:
        return _sharpe(path, assumed, periods_per_year)

    paths = frame.sort("path", "as_of", "instrument").partition_by("path", maintain_order=True)
    return [
        _over_paths(
            PATH_IC,
            f"median over the paths of {_SOURCE} of the mean daily rank correlation of scores with "
            "labels",
            paths,
            ic_of,
        ),
        _over_paths(
            PATH_SHARPE,
            f"median over the paths of {_SOURCE} of the annualised Sharpe ratio after costs of "
            f"{assumed.basis_points:g} basis points of traded notional, mean / sd (ddof 1) x "
            f"sqrt({periods_per_year})",
            paths,
            ratio,
        ),
    ]


def _over_paths(
    name: str,
    convention: str,
    paths: list[pl.DataFrame],
    measure: Callable[[pl.DataFrame], float | str],
) -> Evidence:
    dates = min((path["as_of"].n_unique() for path in paths), default=0)
    if not paths:
        return undefined(name, convention, "there is no path")
    found = [measure(path) for path in paths]
    values = [value for value in found if not isinstance(value, str)]
    reasons = [value for value in found if isinstance(value, str)]
    if reasons:
        return undefined(
            name,
            convention,
            f"{len(reasons)} of {len(found)} paths have no value: {reasons[0]}",
            sample_size=dates,
            paths=found,
        )
    low, middle, high = min(values), float(np.median(values)), max(values)
    return Evidence(
        name=name,
        value=middle,
        sample_size=dates,
        convention=convention,
        details={
            "in_words": f"{len(values)} paths from {low:.3f} to {high:.3f}",
            "paths": values,
            "worst": low,
            "best": high,
            "standard_deviation": number(np.std(values, ddof=1)) if len(values) > 1 else None,
            "share_above_zero": sum(value > 0.0 for value in values) / len(values),
        },
    )


@overflow_becomes_undefined
def _sharpe(path: pl.DataFrame, costs: Costs, periods_per_year: int) -> float | str:
    market = Market.of(
        path["as_of"].to_numpy(),
        path["instrument"].rank("dense").to_numpy(),
        score=_floats(path, "prediction"),
        next_return=_floats(path, "next_return"),
    )
    backtest = simulate(market, costs)
    net = backtest.net()
    if len(net) < MIN_DATES:
        return f"{len(net)} dates: at least {MIN_DATES} are needed"
    if not np.isfinite(net).all():
        return "returns overflowed"
    if backtest.ruined:
        return "one date lost the whole equity"
    if constant(net) or not net.std(ddof=1) > 0:
        return "the returns never vary"
    ratio = number(sharpe_ratio(net)[0] * math.sqrt(periods_per_year))
    return "the ratio overflowed" if ratio is None else ratio


def _floats(table: pl.DataFrame, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
