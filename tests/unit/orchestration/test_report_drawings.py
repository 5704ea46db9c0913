"""Series, axes and words of the report, against oracles in plain Python."""

import math
import random
import statistics

import numpy as np
import polars as pl
import pytest

from assay.orchestration.report.charts import (
    Axis,
    Level,
    Line,
    bar_chart,
    line_chart,
    number_axis,
    time_axis,
)
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.series import (
    AHEAD,
    WINDOW,
    YEAR,
    direction_picture,
    volatility_picture,
)
from assay.orchestration.report.values import Curve
from assay.orchestration.report.words import duration, figure, listed, moment, prettier, share
from assay.validation.backtest import Costs, Market, simulate

DAY = 86_400 * 10**9
NAMES = ("A_B", "C_D", "E_F", "G_H", "I_J", "K_L")
DATES = 320


def make_table(seed=3):
    """Returns with a known volatility per instrument; the champion forecasts 20 % too much."""
    draw = random.Random(seed)
    rows = []
    for t in range(DATES):
        for k, name in enumerate(NAMES):
            sigma = 0.002 * (k + 1)
            change = draw.gauss(0.0, sigma)
            rows.append((name, t * DAY, change**2, sigma, 1.2 * sigma, change))
    columns = ["instrument", "as_of", "label", "prediction", "champion", "realised_return"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def picture(table, champion="1.0.0"):
    return volatility_picture(table, candidate="1.1.0", champion=champion, horizon=1, level=0.05)


def test_exceedances_are_the_share_of_returns_below_the_quantile_in_a_rolling_year():
    table = make_table()
    quantile = statistics.NormalDist().inv_cdf(0.05)
    shares = []
    for t in range(DATES):
        rows = table.filter(pl.col("as_of") == t * DAY).rows(named=True)
        hits = [row["realised_return"] < quantile * row["prediction"] for row in rows]
        shares.append(100 * sum(hits) / len(hits))
    curve = picture(table).exceedances[0]
    assert curve.x == tuple(float(t * DAY) for t in range(WINDOW - 1, DATES))
    assert curve.y[0] == pytest.approx(statistics.fmean(shares[:WINDOW]))
    assert curve.y[-1] == pytest.approx(statistics.fmean(shares[-WINDOW:]))


def test_the_loss_difference_adds_up_to_the_sum_over_dates_of_the_mean_difference():
    table = make_table()
    total = 0.0
    for t in range(DATES):
        rows = table.filter(pl.col("as_of") == t * DAY).rows(named=True)
        losses = [
            math.log(row["prediction"] ** 2) + row["label"] / row["prediction"] ** 2
            - math.log(row["champion"] ** 2) - row["label"] / row["champion"] ** 2
            for row in rows
        ]  # fmt: skip
        total += statistics.fmean(losses)
    assert picture(table).loss_difference.y[-1] == pytest.approx(total)
    assert total < 0  # the candidate knows the volatility, the champion does not


def test_calibration_is_one_for_the_true_volatility_and_below_for_a_forecast_too_high():
    candidate, champion = picture(make_table()).calibration
    assert statistics.fmean(candidate.y) == pytest.approx(1.0, abs=0.05)
    assert statistics.fmean(champion.y) == pytest.approx(1 / 1.2, abs=0.05)
    assert candidate.x == tuple(float(k) for k in range(1, 11))


def test_forecasts_are_drawn_from_the_calmest_to_the_wildest_beside_what_followed():
    table = make_table()
    drawn = picture(table).forecasts
    assert [one.instrument for one in drawn] == ["A_B", "E_F", "G_H", "K_L"]
    labels = table.filter(pl.col("instrument") == "A_B")["label"].to_list()
    expected = 100 * math.sqrt(YEAR * statistics.fmean(labels[:AHEAD]))
    assert drawn[0].outcome.y[0] == pytest.approx(expected)
    assert len(drawn[0].outcome.x) == DATES - AHEAD + 1
    assert drawn[0].forecasts[0].y[0] == pytest.approx(100 * 0.002 * math.sqrt(YEAR))


def test_what_followed_is_not_measured_across_a_gap():
    table = make_table().filter(~pl.col("as_of").is_between(100 * DAY, 200 * DAY))
    outcome = picture(table).forecasts[0].outcome
    assert not [x for x in outcome.x if 85 * DAY < x < 200 * DAY]


def test_a_model_without_a_champion_has_no_comparison():
    alone = picture(make_table().drop("champion"), champion=None)
    assert alone.loss_difference is None
    assert len(alone.exceedances) == 1


def make_scores(seed=5):
    draw = random.Random(seed)
    rows = [
        (name, t * DAY, change, 0.5 * change + draw.gauss(0.0, 0.005), change)
        for t in range(DATES)
        for name in NAMES
        for change in [draw.gauss(0.0, 0.005)]
    ]
    columns = ["instrument", "as_of", "label", "prediction", "next_return"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_equity_starts_from_one_hundred_and_costs_take_from_it():
    drawn = direction_picture(
        make_scores(), candidate="1.0.0", costs=Costs(), horizon=1, ic_required=0.02
    )
    ends = [curve.y[-1] for curve in drawn.equity]
    assert ends == sorted(ends, reverse=True)
    assert drawn.equity[0].y[0] == pytest.approx(100, rel=0.05)
    assert all(y <= 0 for curve in drawn.drawdown for y in curve.y)


def test_the_rolling_information_coefficient_is_the_mean_of_a_year_of_correlations():
    table = make_scores()
    series = []
    for t in range(DATES):
        rows = table.filter(pl.col("as_of") == t * DAY)
        series.append(statistics.correlation(rows["prediction"].to_list(), rows["label"].to_list()))
    drawn = direction_picture(table, candidate="1", costs=Costs(), horizon=1, ic_required=None)
    mean, low, high = drawn.ic
    assert mean.y[0] == pytest.approx(statistics.fmean(series[:WINDOW]))
    assert all(a < b < c for a, b, c in zip(low.y, mean.y, high.y, strict=True))


def test_thinning_a_line_keeps_its_extremes_and_its_end():
    table = make_scores()
    long = pl.concat(table.with_columns(as_of=pl.col("as_of") + k * DATES * DAY) for k in range(8))
    drawn = direction_picture(long, candidate="1", costs=Costs(), horizon=1, ic_required=None)
    ordered = long.sort("as_of", "instrument")
    market = Market.of(
        ordered["as_of"].to_numpy(), ordered["instrument"].to_numpy(),
        score=ordered["prediction"].to_numpy(), next_return=ordered["next_return"].to_numpy(),
    )  # fmt: skip
    book = simulate(market, Costs())
    curve = drawn.drawdown[0]
    assert len(curve.x) < len(book.dates) / 2
    assert min(curve.y) == pytest.approx(-100 * book.max_drawdown())
    assert curve.x[-1] == book.dates[-1]


def test_too_few_dates_draw_nothing_and_do_not_fail():
    few = make_table().filter(pl.col("as_of") < 10 * DAY)
    drawn = picture(few)
    assert drawn.exceedances[0].y == ()
    assert drawn.forecasts == ()


@pytest.mark.parametrize("seed", range(40))
def test_an_axis_holds_every_value_and_has_few_distinct_ticks(seed):
    draw = random.Random(seed)
    scale = 10 ** draw.uniform(-6, 6)
    values = [draw.uniform(-1, 1) * scale for _ in range(draw.randint(1, 9))]
    axis = number_axis(values)
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert all(-1e-9 <= axis.place(at) <= 1 + 1e-9 for at, _ in axis.ticks)
    labels = [label for _, label in axis.ticks]
    assert 2 <= len(labels) <= 8
    assert len(set(labels)) == len(labels)
    sizes = [abs(value) + 1e-6 for value in values]
    logarithmic = number_axis(sizes, logarithmic=True)
    assert logarithmic.low <= min(sizes) * (1 + 1e-9)
    assert max(sizes) <= logarithmic.high * (1 + 1e-9)


@pytest.mark.parametrize("days", [0, 1, 40, 700, 1500, 9_000, 40_000])
def test_a_time_axis_has_few_ticks_inside_its_range(days):
    axis = time_axis(10**18, 10**18 + days * DAY)
    assert 1 <= len(axis.ticks) <= 7
    assert all(axis.low <= at <= axis.high for at, _ in axis.ticks)


def test_a_line_is_broken_where_nothing_was_known_for_long():
    curve = Curve("a", (0, 1, 2, 3, 50, 51, 52), (1, 2, 1, 2, 1, 2, 1))
    drawing = line_chart(title="t", description="d", lines=[Line(curve, "s1", filled=True)],
                         x_axis=Axis(0, 52, ()), levels=[Level(1.5, "half")])  # fmt: skip
    paths = [part.split('"')[0] for part in drawing.split(' d="')[1:]]
    assert paths[-1].count("M") == 2
    assert paths[0].count("Z") == 2


def test_bars_say_their_numbers_and_mark_their_part():
    drawing = bar_chart(title="t", description="d", labels=["2024", "2025"], values=[5, 7],
                        marked=[0, 2], say=lambda k: f"bar {k}")  # fmt: skip
    assert drawing.count("<rect") == 3
    assert "<title>bar 1</title>" in drawing
    assert 'class="empty"' in bar_chart(title="t", description="d", labels=[], values=[], say=str)


def test_a_level_lies_inside_the_picture_of_bars_that_do_not_reach_it():
    drawing = bar_chart(title="t", description="d", labels=["1", "2", "3"], values=[0, 0, 0],
                        levels=[Level(0.02, "limit")], every=2, say=lambda _: "bar")  # fmt: skip
    assert drawing.count('class="level"') == 1
    assert ">0.020<" in drawing
    assert (">1<" in drawing, ">2<" in drawing, ">3<" in drawing) == (True, False, True)


def test_markup_escapes_children_and_attributes_but_not_itself():
    inner = element("b", "a<b", title='"x"&')
    assert inner == '<b title="&quot;x&quot;&amp;">a&lt;b</b>'
    assert element("p", inner, None, ["c", 1], class_="k", hidden=True, lang=None) == (
        f'<p class="k" hidden="hidden">{inner}c1</p>'
    )
    assert isinstance(join("x", inner), Markup)
    assert element("p", "\ud800\x00") == "<p>\ufffd\ufffd</p>"


def test_numbers_and_times_are_written_for_people():
    space = "\N{NO-BREAK SPACE}"
    assert figure(4.362e-11) == f"4.4{space}\N{MULTIPLICATION SIGN}{space}10⁻¹¹"
    assert figure(1e-5) == f"1{space}\N{MULTIPLICATION SIGN}{space}10⁻⁵"
    assert figure(-0.525861) == "\N{MINUS SIGN}0.5259"
    assert figure(0.0) == "0"
    assert figure(313473.0) == "313,473"
    assert figure(float("nan")) == "not a number"
    assert share(0.0412) == "4.12%"
    assert share(-0.00001) == "0.00%"
    assert prettier("a mean of -6.92e-05 a day, 0.59 before") == (
        f"a mean of \N{MINUS SIGN}6.9{space}\N{MULTIPLICATION SIGN}{space}10⁻⁵ a day, 0.59 before"
    )
    assert moment(1_795_221_485 * 10**9) == "21 Nov 2026, 00:38:05 UTC"
    assert [duration(int(s * 1e9)) for s in (0.018, 45, 600, 7_200, 9e5)] == [
        "18 ms", "45.0 s", "10 minutes", "2 hours", "10 days",
    ]  # fmt: skip
    assert [listed(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_series_do_not_depend_on_the_order_of_rows():
    table = make_table()
    shuffled = table[np.random.default_rng(1).permutation(len(table)).tolist()]
    assert picture(shuffled) == picture(table)
