"""The evidence that each kind of model needs, from one table of out-of-sample predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from assay.domain.evidence import Evidence
from assay.errors import ContractViolation, did_you_mean
from assay.statistics.panel import FloatArray
from assay.validation.backtest import Costs, Market, simulate
from assay.validation.information import ic, rank_ic
from assay.validation.records import undefined
from assay.validation.sharpe import PERIODS_PER_YEAR, sharpe_after_costs, significance
from assay.validation.volatility import calibration_slope, qlike_vs_champion, var_coverage

_KEYS = ("instrument", "as_of")


def risk_evidence(
    frame: pl.DataFrame, *, horizon: int = 1, var_level: float = 0.05
) -> list[Evidence]:
    """``qlike_vs_champion``, ``var_coverage`` and ``calibration_slope`` of a volatility forecast.

    Give out-of-sample rows only: a forecast for a row that the model was trained on proves
    nothing, and nothing here can tell.

    Parameters
    ----------
    frame: one row per instrument and decision time, in any order, with the columns

        * ``instrument`` (String), ``as_of`` (Int64, decision time, ns UTC)
        * ``label``: squared log return that followed; null where not yet known
        * ``prediction``: the candidate's forecast standard deviation of that log return
        * ``champion``, optional: the champion's. Without it the comparison has no value
        * ``realised_return``, optional: the signed log return over the label's interval. With
          it the VaR is of the lower tail, without it two-sided.
    horizon: sessions that a label spans; beyond 1 the label is the sum of their squared returns
        and the forecast is for the whole interval.
    var_level: share of exceedances that the VaR allows.

    Raises
    ------
    ContractViolation: a column is missing or mistyped, a key is null or twice there, a label is
        negative, or (horizon 1) ``realised_return`` squared is not the label.
    """
    table = _checked(
        frame, required=("label", "prediction"), optional=("champion", "realised_return")
    )
    dates = table["as_of"].to_numpy()
    label, prediction = _floats(table, "label"), _floats(table, "prediction")
    champion = _floats(table, "champion") if "champion" in table.columns else None
    returns = _floats(table, "realised_return") if "realised_return" in table.columns else None
    if returns is not None and horizon == 1:
        _check_squares(label, returns)
    return [
        qlike_vs_champion(
            dates, realised=label, forecast=prediction, champion=champion, horizon=horizon
        ),
        var_coverage(
            dates,
            realised=label,
            forecast=prediction,
            returns=returns,
            level=var_level,
            horizon=horizon,
        ),
        calibration_slope(dates, realised=label, forecast=prediction, horizon=horizon),
    ]


def alpha_evidence(
    frame: pl.DataFrame,
    *,
    generator: np.random.Generator,
    horizon: int = 1,
    costs: Costs | None = None,
    periods_per_year: int = PERIODS_PER_YEAR,
) -> list[Evidence]:
    """``ic``, ``rank_ic``, ``sharpe_after_costs`` and ``significance`` of a score of returns.

    Give out-of-sample rows only.

    Parameters
    ----------
    frame: one row per instrument and decision time, in any order, with the columns

        * ``instrument`` (String), ``as_of`` (Int64, decision time, ns UTC)
        * ``label``: forward log return; null where not yet known
        * ``prediction``: a score that should rise with it, such as the probability of a rise;
          null means no opinion, hence no position
        * ``next_return``, optional: log return from the first fix after ``as_of`` (where the
          score can be traded) to the one after it. Without it there is no backtest. It is not
          the label when the label starts at the fix the features were computed from.
    generator: for the label-shuffle control; the same state gives the same evidence.
    horizon: dates that a label spans.
    costs: trading costs and caps; ``Costs()`` when left out.
    periods_per_year: dates in a year.

    Raises
    ------
    ContractViolation: a column is missing or mistyped, or a key is null or twice there.
    """
    table = _checked(frame, required=("label", "prediction"), optional=("next_return",))
    dates = table["as_of"].to_numpy()
    label, prediction = _floats(table, "label"), _floats(table, "prediction")
    measured = [
        ic(dates, label=label, prediction=prediction, horizon=horizon),
        rank_ic(dates, label=label, prediction=prediction, horizon=horizon),
    ]
    if "next_return" not in table.columns:
        reason = "no backtest: the table has no column 'next_return'"
        convention = "dated returns after costs"
        return [
            *measured,
            undefined("sharpe_after_costs", convention, reason),
            undefined("significance", convention, reason),
        ]
    market = Market.of(
        dates,
        table["instrument"].rank("dense").to_numpy(),
        score=prediction,
        next_return=_floats(table, "next_return"),
    )
    backtest = simulate(market, costs or Costs())
    return [
        *measured,
        sharpe_after_costs(
            market, backtest, generator=generator, periods_per_year=periods_per_year
        ),
        significance(backtest),
    ]


def _checked(
    frame: pl.DataFrame, *, required: Sequence[str], optional: Sequence[str]
) -> pl.DataFrame:
    # Sorted by key: the bits of a sum must not depend on the order in which rows arrived.
    for name in (*_KEYS, *required):
        if name not in frame.columns:
            raise ContractViolation(
                f"column {name!r} is missing: found {frame.columns}",
                hint=did_you_mean(name, frame.columns),
            )
    if frame["as_of"].dtype != pl.Int64:
        raise ContractViolation(
            f"column 'as_of' is {frame['as_of'].dtype}: expected Int64 nanoseconds, UTC"
        )
    if frame["instrument"].dtype != pl.String:
        raise ContractViolation(
            f"column 'instrument' is {frame['instrument'].dtype}: expected String"
        )
    values = [*required, *(name for name in optional if name in frame.columns)]
    for name in values:
        if not frame[name].dtype.is_numeric() and frame[name].dtype != pl.Null:
            raise ContractViolation(f"column {name!r} is {frame[name].dtype}: expected Float64")
    for name in _KEYS:
        if frame[name].null_count():
            raise ContractViolation(f"column {name!r} has {frame[name].null_count()} nulls")
    if frame.select(_KEYS).is_duplicated().any():
        twice = frame.filter(frame.select(_KEYS).is_duplicated()).row(0, named=True)
        raise ContractViolation(
            f"instrument {twice['instrument']!r} has two rows at as_of {twice['as_of']}: "
            "expected one"
        )
    return frame.select(*_KEYS, *values).sort("as_of", "instrument")


def _floats(table: pl.DataFrame, name: str) -> FloatArray:
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _check_squares(label: FloatArray, returns: FloatArray) -> None:
    both = np.isfinite(label) & np.isfinite(returns)
    wrong = ~np.isclose(returns[both] ** 2, label[both], rtol=1e-5, atol=1e-14)
    if wrong.any():
        raise ContractViolation(
            f"'realised_return' squared is not 'label' on {int(wrong.sum())} rows: expected both "
            "to be of the same session"
        )
