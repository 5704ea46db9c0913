"""Tables of predictions as series to draw. Sums run over sorted rows, so the same desk gives the
same page.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.special import ndtri

from assay.orchestration.report.values import (
    Curve,
    DirectionPicture,
    ForecastPicture,
    VolatilityPicture,
)
from assay.statistics.hac import mean_test
from assay.statistics.information import daily_correlation
from assay.statistics.panel import FloatArray, IntArray, group_by_date
from assay.validation.backtest import Backtest, Costs, Market, simulate

YEAR = 252
WINDOW = 250
"""Dates in a rolling mean: about a year."""
AHEAD = 20
"""Sessions over which "what followed" is measured."""
POINTS = 500
"""Points of a drawn line at most, about."""
LATEST = 1250
"""Sessions of one instrument that are drawn: about five years."""


def volatility_picture(
    frame: pl.DataFrame, *, candidate: str, champion: str | None, horizon: int, level: float
) -> VolatilityPicture:
    """The record of a risk model.

    Parameters
    ----------
    frame: ``instrument``, ``as_of`` (one per session), ``label`` (squared log return over the
        label's interval), ``prediction``, ``realised_return`` and, with a champion, ``champion``.
    horizon: sessions that a label spans.
    level: share of exceedances that the VaR allows.
    """
    needed = ["label", "prediction", "realised_return", *(["champion"] if champion else [])]
    table = frame.sort("as_of", "instrument").drop_nulls(needed)
    table = table.filter(pl.all_horizontal(pl.col(name).is_finite() for name in needed))
    forecasts = {candidate: _floats(table, "prediction")}
    if champion is not None:
        forecasts[champion] = _floats(table, "champion")
    dates, realised = table["as_of"].to_numpy(), _floats(table, "label")
    returns = _floats(table, "realised_return")
    quantile = float(ndtri(level))
    return VolatilityPicture(
        candidate=candidate,
        champion=champion,
        rows=len(table),
        dates=table["as_of"].n_unique(),
        forecasts=_forecasts(table, forecasts, YEAR / horizon),
        calibration=tuple(
            _calibration(name, forecast, realised) for name, forecast in forecasts.items()
        ),
        exceedances=tuple(
            _rolling(name, *_by_date(dates, np.where(returns < quantile * forecast, 100.0, 0.0)))
            for name, forecast in forecasts.items()
        ),
        level=level,
        loss_difference=(
            None
            if champion is None
            else _running_difference(dates, realised, forecasts[candidate], forecasts[champion])
        ),
    )


def direction_picture(
    frame: pl.DataFrame, *, candidate: str, costs: Costs, horizon: int, ic_required: float | None
) -> DirectionPicture:
    """The record of a model of returns.

    ``frame`` has ``instrument``, ``as_of`` (one per session), ``label`` (forward log return),
    ``prediction`` (a score) and ``next_return`` (log return that could have been traded).
    """
    table = frame.sort("as_of", "instrument")
    dates, score = table["as_of"].to_numpy(), _floats(table, "prediction")
    market = Market.of(
        dates,
        table["instrument"].rank("dense").to_numpy(),
        score=score,
        next_return=_floats(table, "next_return"),
    )
    book = simulate(market, costs)
    names = {
        0.0: "before costs",
        1.0: "after costs",
        2.0: "twice the costs",
        3.0: "three times the costs",
    }
    return DirectionPicture(
        candidate=candidate,
        basis_points=costs.basis_points,
        equity=tuple(_equity(name, book, multiple) for multiple, name in names.items()),
        drawdown=tuple(_drawdown(name, book, k) for k, name in names.items() if k in {1.0, 3.0}),
        ic=_rolling_ic(dates, score, _floats(table, "label"), horizon),
        ic_required=ic_required,
    )


def _floats(table: pl.DataFrame, name: str) -> FloatArray:
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _curve(name: str, x: IntArray | FloatArray, y: FloatArray, points: int = POINTS) -> Curve:
    """At most about ``points`` points; the last one and both extremes are always among them."""
    if len(x) == 0:
        return Curve(name, (), ())
    kept = [len(x) - 1, int(y.argmin()), int(y.argmax())]
    chosen = np.unique(np.append(np.arange(0, len(x), max(1, len(x) // points)), kept))
    return Curve(name, tuple(float(v) for v in x[chosen]), tuple(float(v) for v in y[chosen]))


def _by_date(dates: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    keep = np.isfinite(values)
    panel = group_by_date(dates, [values], keep)
    return panel.dates, panel.means(panel.columns[0])


def _rolling(name: str, dates: IntArray, values: FloatArray) -> Curve:
    if len(values) < WINDOW:
        return Curve(name, (), ())
    sums = np.cumsum(np.concatenate(([0.0], values)))
    return _curve(name, dates[WINDOW - 1 :], (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW)


def _forecasts(
    table: pl.DataFrame, forecasts: dict[str, FloatArray], year: float
) -> tuple[ForecastPicture, ...]:
    """Four instruments with a long record, from the calmest to the wildest."""
    first = next(iter(forecasts))
    held = table.select("instrument", "as_of", "label").with_columns(
        *(pl.Series(name, values) for name, values in forecasts.items())
    )
    sizes = held.group_by("instrument").agg(pl.len(), level=pl.col(first).mean())
    if sizes.is_empty():
        return ()
    longest = max(sizes["len"].to_list())
    names = (
        sizes.filter(pl.col("len") >= 0.8 * longest)
        .with_columns(pl.col("level").round_sig_figs(6))
        .sort("level", "instrument")["instrument"]
        .to_list()
    )
    places = np.linspace(0, len(names) - 1, min(4, len(names))).round().astype(int)
    pictures = []
    for place in places:
        rows = held.filter(pl.col("instrument") == names[place]).tail(LATEST)
        if len(rows) <= AHEAD:
            continue
        dates, outcome = rows["as_of"].to_numpy(), _ahead(rows, year)
        pictures.append(
            ForecastPicture(
                instrument=names[place],
                outcome=outcome,
                forecasts=tuple(
                    _curve(name, dates, 100 * np.sqrt(year) * rows[name].to_numpy())
                    for name in forecasts
                ),
            )
        )
    return tuple(pictures)


def _ahead(rows: pl.DataFrame, year: float) -> Curve:
    """Root mean square of the next sessions' returns, where the sessions follow each other."""
    dates = rows["as_of"].to_numpy()
    squares = np.lib.stride_tricks.sliding_window_view(rows["label"].to_numpy(), AHEAD).mean(axis=1)
    spans = dates[AHEAD - 1 :] - dates[: len(squares)]
    # A price that never moved has no place on a logarithmic scale.
    keep = (spans <= 2 * np.median(spans)) & (squares > 0.0)
    values = 100 * np.sqrt(squares[keep] * year)
    return _curve("what followed", dates[: len(squares)][keep], values)


def _calibration(name: str, forecast: FloatArray, realised: FloatArray) -> Curve:
    order = np.argsort(forecast, kind="stable")
    tenths = [part for part in np.array_split(order, 10) if len(part)]
    ratios = [
        float(np.sqrt(realised[part].mean() / (forecast[part] ** 2).mean())) for part in tenths
    ]
    return Curve(name, tuple(float(k + 1) for k in range(len(ratios))), tuple(ratios))


def _running_difference(
    dates: IntArray, realised: FloatArray, candidate: FloatArray, champion: FloatArray
) -> Curve:
    loss = [np.log(h) + realised / h for h in (candidate**2, champion**2)]
    distinct, difference = _by_date(dates, loss[0] - loss[1])
    return _curve("candidate minus champion", distinct, np.cumsum(difference))


def _equity(name: str, book: Backtest, multiple: float) -> Curve:
    return _curve(name, book.dates, 100 * book.equity(multiple)[1:])


def _drawdown(name: str, book: Backtest, multiple: float) -> Curve:
    equity = book.equity(multiple)
    fall = 100 * (equity / np.maximum.accumulate(equity) - 1.0)
    return _curve(name, book.dates, fall[1:])


def _rolling_ic(
    dates: IntArray, score: FloatArray, label: FloatArray, horizon: int
) -> tuple[Curve, Curve, Curve] | None:
    series, days, _ = daily_correlation(dates, score, label, ranked=False)
    found: list[tuple[float, float, float, float]] = []
    for end in range(WINDOW, len(series) + 1, max(1, len(series) // (POINTS // 2))):
        test = mean_test(series[end - WINDOW : end], horizon=horizon)
        if not isinstance(test, str):
            found.append((float(days[end - 1]), test.mean, *test.interval))
    if not found:
        return None
    x, mean, low, high = (tuple(column) for column in zip(*found, strict=True))
    return Curve("mean of 250 dates", x, mean), Curve("low", x, low), Curve("high", x, high)
