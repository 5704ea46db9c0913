"""QLIKE with Diebold-Mariano, VaR coverage and the calibration slope."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from assay.errors import ContractViolation
from assay.statistics.coverage import christoffersen_independence, kupiec_ratio
from assay.validation.volatility import calibration_slope, qlike_vs_champion, var_coverage

DATES, NAMES = 120, 4


def table(seed=5):
    """Dates, squared returns, returns, a good forecast and a worse one; rows date by date."""
    generator = np.random.default_rng(seed)
    sigma = 0.006 * np.exp(0.5 * np.sin(np.arange(DATES) / 9))[:, None] * np.array([1, 2, 0.5, 1.5])
    common = generator.standard_normal((DATES, 1))
    returns = sigma * (0.7 * common + math.sqrt(0.51) * generator.standard_normal((DATES, NAMES)))
    worse = sigma * np.exp(0.5 * generator.standard_normal((DATES, NAMES)))
    dates = np.repeat(np.arange(DATES, dtype=np.int64), NAMES)
    return dates, (returns**2).ravel(), returns.ravel(), sigma.ravel(), worse.ravel()


def qlike_by_loops(dates, realised, ours, theirs):
    """Mean difference, HLN-corrected Diebold-Mariano statistic and p-value, in plain Python."""
    by_date = {}
    for date, r2, a, b in zip(dates, realised, ours, theirs, strict=True):
        loss = (math.log(a * a) + r2 / (a * a)) - (math.log(b * b) + r2 / (b * b))
        by_date.setdefault(int(date), []).append(loss)
    series = [sum(values) / len(values) for _, values in sorted(by_date.items())]
    n = len(series)
    mean = sum(series) / n
    lag = int(4 * (n / 100) ** (2 / 9))
    variance = 0.0
    for j in range(lag + 1):
        gamma = sum((series[t] - mean) * (series[t - j] - mean) for t in range(j, n)) / n
        variance += gamma if j == 0 else 2 * (1 - j / (lag + 1)) * gamma
    h = lag + 1
    statistic = mean / math.sqrt(variance / n) * math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    return mean, statistic, stats.t.cdf(statistic, n - 1)


def test_qlike_is_the_diebold_mariano_test_of_the_dated_loss_difference():
    dates, realised, _, good, worse = table()
    found = qlike_vs_champion(dates, realised=realised, forecast=good, champion=worse)
    mean, statistic, p = qlike_by_loops(dates, realised, good, worse)
    assert found.details["mean_difference"] == pytest.approx(mean, rel=1e-9)
    assert found.details["statistic"] == pytest.approx(statistic, rel=1e-9)
    assert found.value == pytest.approx(p, rel=1e-9)
    assert found.value < 0.10
    assert found.sample_size == DATES


def test_a_worse_candidate_has_a_p_value_near_one_and_the_two_sides_mirror():
    dates, realised, _, good, worse = table()
    better = qlike_vs_champion(dates, realised=realised, forecast=good, champion=worse)
    reverse = qlike_vs_champion(dates, realised=realised, forecast=worse, champion=good)
    assert reverse.value == pytest.approx(1 - better.value, abs=1e-12)
    assert reverse.details["mean_difference"] > 0


def test_a_date_with_many_instruments_weighs_as_much_as_one_with_few():
    dates, realised, _, good, worse = table()
    many = np.repeat(np.arange(len(dates)), np.where(dates == 7, 50, 1))
    plain = qlike_vs_champion(dates, realised=realised, forecast=good, champion=worse)
    doubled = qlike_vs_champion(
        dates[many], realised=realised[many], forecast=good[many], champion=worse[many]
    )
    assert doubled.value == pytest.approx(plain.value, rel=1e-9)
    assert doubled.sample_size == plain.sample_size


def test_one_date_that_outweighs_all_others_is_named():
    dates, realised, _, good, worse = table()
    burst = realised.copy()
    burst[dates == 40] = 4.0
    found = qlike_vs_champion(dates * 86_400 * 10**9, realised=burst, forecast=good, champion=worse)
    assert found.details["largest_date"] == "1970-02-10T00:00:00Z"
    assert found.details["largest_date_share"] > 0.9
    quiet = qlike_vs_champion(dates, realised=realised, forecast=good, champion=worse)
    assert quiet.details["largest_date_share"] < 0.5


def test_forecasts_equal_up_to_float32_give_no_verdict():
    dates, realised, _, good, _ = table()
    same = good.astype(np.float32).astype(np.float64)
    found = qlike_vs_champion(dates, realised=realised, forecast=same, champion=good)
    assert found.value is None
    assert "same numbers" in found.details["undefined"]


def test_without_a_champion_there_is_nothing_to_compare():
    dates, realised, _, good, _ = table()
    found = qlike_vs_champion(dates, realised=realised, forecast=good, champion=None)
    assert found.value is None
    assert "no champion" in found.details["undefined"]


def test_rows_that_the_candidate_leaves_out_do_not_make_it_better():
    dates, realised, _, good, worse = table()
    hardest = np.argsort(realised / worse**2)[-30:]
    shy = worse.copy()
    shy[hardest] = np.nan
    found = qlike_vs_champion(dates, realised=realised, forecast=shy, champion=worse * 1.01)
    assert found.value is None
    assert "30 of 480 rows" in found.details["undefined"]
    few = good.copy()
    few[:2] = np.nan
    assert qlike_vs_champion(dates, realised=realised, forecast=few, champion=worse).value < 0.1


@pytest.mark.parametrize("bad", [0.0, -0.01, math.inf])
def test_a_forecast_that_is_no_standard_deviation_is_never_dropped_quietly(bad):
    dates, realised, returns, good, worse = table()
    broken = good.copy()
    broken[17] = bad
    for found in (
        qlike_vs_champion(dates, realised=realised, forecast=broken, champion=worse),
        var_coverage(dates, realised=realised, forecast=broken, returns=returns),
        calibration_slope(dates, realised=realised, forecast=broken),
    ):
        assert found.value is None
        assert "1 forecasts are zero, negative or infinite" in found.details["undefined"]


def test_rows_without_an_outcome_or_a_champion_are_left_out_and_counted():
    dates, realised, _, good, worse = table()
    realised, worse = realised.copy(), worse.copy()
    realised[:3], worse[10:14] = np.nan, np.nan
    found = qlike_vs_champion(dates, realised=realised, forecast=good, champion=worse)
    assert found.details["rows_without_outcome"] == 3
    assert found.details["rows_without_champion"] == 4
    keep = np.isfinite(realised) & np.isfinite(worse)
    _, _, p = qlike_by_loops(dates[keep], realised[keep], good[keep], worse[keep])
    assert found.value == pytest.approx(p, rel=1e-9)


# Non-rejection regions of the proportion-of-failures test at 95 % confidence, as printed in
# Kupiec (1995) and in Jorion, "Value at Risk": observations, failure rate, first and last count
# of failures that is not rejected.
KUPIEC_REGIONS = [
    (255, 0.05, 7, 20),
    (510, 0.05, 17, 35),
    (1000, 0.05, 38, 64),
    (510, 0.01, 2, 10),
    (1000, 0.01, 5, 16),
    (1000, 0.025, 16, 35),
]


@pytest.mark.parametrize(("size", "level", "first", "last"), KUPIEC_REGIONS)
def test_kupiec_rejects_where_the_published_table_says(size, level, first, last):
    kept = [
        count
        for count in range(size // 5)
        if stats.chi2.sf(kupiec_ratio(count / size, size, level), 1) > 0.05
    ]
    assert (kept[0], kept[-1]) == (first, last)
    assert kept == list(range(first, last + 1))


def test_kupiec_at_the_ends_of_the_range_is_finite():
    assert kupiec_ratio(0.0, 250, 0.05) == pytest.approx(-2 * 250 * math.log(0.95))
    assert kupiec_ratio(1.0, 250, 0.05) == pytest.approx(-2 * 250 * math.log(0.05))
    assert kupiec_ratio(0.05, 250, 0.05) == 0.0


def coverage_by_loops(dates, exceeded, level=0.05):
    by_date = {}
    for date, hit in zip(dates, exceeded, strict=True):
        by_date.setdefault(int(date), []).append(float(hit))
    share = [sum(hits) / len(hits) for _, hits in sorted(by_date.items())]
    n = len(share)
    rate = sum(share) / n
    lag = int(4 * (n / 100) ** (2 / 9))
    variance = 0.0
    for j in range(lag + 1):
        gamma = sum((share[t] - rate) * (share[t - j] - rate) for t in range(j, n)) / n
        variance += gamma if j == 0 else 2 * (1 - j / (lag + 1)) * gamma
    effective = min(rate * (1 - rate) / (variance / n), len(dates))
    ratio = (
        2
        * effective
        * (rate * math.log(rate / level) + (1 - rate) * math.log((1 - rate) / (1 - level)))
    )
    return rate, effective, stats.chi2.sf(ratio, 1)


@pytest.mark.parametrize("signed", [True, False])
def test_coverage_is_kupiec_at_the_effective_sample_size_of_the_dates(signed):
    dates, realised, returns, good, _ = table()
    forecast = good * 0.9
    quantile = stats.norm.ppf(0.05) if signed else stats.norm.ppf(0.975)
    exceeded = [
        r < quantile * s if signed else abs(r) > quantile * s
        for r, s in zip(returns, forecast, strict=True)
    ]
    found = var_coverage(
        dates, realised=realised, forecast=forecast, returns=returns if signed else None
    )
    rate, effective, p = coverage_by_loops(dates, exceeded)
    assert found.details["exceedance_rate"] == pytest.approx(rate, rel=1e-12)
    assert found.details["effective_sample_size"] == pytest.approx(effective, rel=1e-9)
    assert found.value == pytest.approx(p, rel=1e-9)
    assert ("lower-tail" in found.convention) is signed


def test_a_date_with_few_instruments_counts_as_much_as_one_with_many():
    dates, realised, returns, good, _ = table()
    forecast = good * 0.9
    keep = np.random.default_rng(3).random(len(dates)) < np.where(dates % 3 == 0, 0.3, 0.95)
    dates, realised, returns, forecast = (x[keep] for x in (dates, realised, returns, forecast))
    exceeded = returns < stats.norm.ppf(0.05) * forecast
    found = var_coverage(dates, realised=realised, forecast=forecast, returns=returns)
    rate, effective, p = coverage_by_loops(dates, exceeded)
    assert found.details["exceedance_rate"] == pytest.approx(rate, rel=1e-12)
    assert found.details["naive_rate"] == pytest.approx(exceeded.mean(), rel=1e-12)
    assert found.details["effective_sample_size"] == pytest.approx(effective, rel=1e-9)
    assert found.value == pytest.approx(p, rel=1e-9)
    assert found.details["naive_rate"] != pytest.approx(rate, rel=1e-3)


def test_instruments_that_move_as_one_count_as_one():
    # Calm and wild spells, so that even one instrument alone counts for less than its rows.
    generator = np.random.default_rng(11)
    one = generator.standard_normal(400) * np.where(np.arange(400) // 25 % 2, 0.3, 1.3)
    dates = np.arange(400, dtype=np.int64)
    alone = var_coverage(dates, realised=one**2, forecast=np.full(400, 0.9), returns=one)
    copies = var_coverage(
        np.repeat(dates, 25),
        realised=np.repeat(one**2, 25),
        forecast=np.full(10_000, 0.9),
        returns=np.repeat(one, 25),
    )
    assert copies.value == pytest.approx(alone.value, rel=1e-9)
    assert copies.details["naive_p_value"] < alone.value
    assert copies.details["effective_sample_size"] < 400
    assert copies.details["design_effect"] > 25


def test_never_exceeding_is_judged_as_one_row_per_date():
    dates = np.repeat(np.arange(250, dtype=np.int64), 10)
    calm = np.full(2500, 1e-6)
    found = var_coverage(dates, realised=calm**2, forecast=np.full(2500, 1.0), returns=calm)
    assert found.details["effective_sample_size"] == 250
    assert found.value == pytest.approx(stats.chi2.sf(-2 * 250 * math.log(0.95), 1), rel=1e-9)
    assert found.details["independence"]["p_value"] is None


def test_independence_is_christoffersens_ratio_of_markov_chains():
    hits = [0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    n = {(a, b): 0 for a in (0, 1) for b in (0, 1)}
    for a, b in itertools.pairwise(hits):
        n[a, b] += 1
    p01 = n[0, 1] / (n[0, 0] + n[0, 1])
    p11 = n[1, 1] / (n[1, 0] + n[1, 1])
    p = (n[0, 1] + n[1, 1]) / sum(n.values())
    free = (1 - p01) ** n[0, 0] * p01 ** n[0, 1] * (1 - p11) ** n[1, 0] * p11 ** n[1, 1]
    tied = (1 - p) ** (n[0, 0] + n[1, 0]) * p ** (n[0, 1] + n[1, 1])
    expected = -2 * math.log(tied / free)
    found = christoffersen_independence(np.array(hits, dtype=bool))
    assert found["statistic"] == pytest.approx(expected, rel=1e-10)
    assert found["p_value"] == pytest.approx(stats.chi2.sf(expected, 1), rel=1e-10)


@pytest.mark.parametrize("hits", [[], [True], [True, True], [False] * 9, [False] * 9 + [True]])
def test_independence_of_a_series_without_both_states_is_undefined(hits):
    found = christoffersen_independence(np.array(hits, dtype=bool))
    assert found["p_value"] is None
    assert found["undefined"]


@pytest.mark.parametrize("level", [0.0, 0.5, -1.0, math.nan])
def test_a_var_level_that_is_no_tail_is_refused(level):
    dates, realised, _, good, _ = table()
    with pytest.raises(ContractViolation, match="VaR level"):
        var_coverage(dates, realised=realised, forecast=good, level=level)


def test_the_calibration_slope_equals_statsmodels():
    # statsmodels 0.15: WLS(y, [1, h], weights=1/h^2).fit(cov_type="hac-groupsum",
    # cov_kwds={"time": dates, "maxlags": 3, "use_correction": False}).
    h = np.array([1e-4 * (1 + 0.5 * math.sin(1.3 * i)) for i in range(120)])
    y = np.array([h[i] * (1 + 0.8 * math.cos(0.7 * i * i)) for i in range(120)])
    found = calibration_slope(np.repeat(np.arange(40), 3), realised=y, forecast=np.sqrt(h))
    assert found.value == pytest.approx(0.8772935867815808, rel=1e-10)
    assert found.details["standard_error"] == pytest.approx(0.13366868033343732, rel=1e-10)
    half = stats.t.ppf(0.975, 39) * 0.13366868033343732
    assert found.interval == pytest.approx(
        (0.8772935867815808 - half, 0.8772935867815808 + half), rel=1e-9
    )
    assert found.details["lag"] == 3


def test_a_forecast_that_doubles_the_variance_has_half_the_slope():
    dates, realised, _, good, _ = table()
    plain = calibration_slope(dates, realised=realised, forecast=good)
    doubled = calibration_slope(dates, realised=realised, forecast=good * math.sqrt(2))
    assert doubled.value == pytest.approx(plain.value / 2, rel=1e-9)


def test_a_constant_forecast_has_no_slope():
    dates, realised, _, _, _ = table()
    found = calibration_slope(dates, realised=realised, forecast=np.full(len(dates), 0.01))
    assert found.value is None
    assert "never varies" in found.details["undefined"]


def test_outcomes_without_any_movement_have_no_slope():
    dates, _, _, good, _ = table()
    found = calibration_slope(dates, realised=np.zeros(len(dates)), forecast=good)
    assert found.value is None


def measurements(dates, realised, forecast, champion):
    return (
        qlike_vs_champion(dates, realised=realised, forecast=forecast, champion=champion),
        var_coverage(dates, realised=realised, forecast=forecast),
        calibration_slope(dates, realised=realised, forecast=forecast),
    )


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_short_data_is_undefined_and_says_so(rows):
    dates = np.arange(rows, dtype=np.int64)
    ones = np.linspace(1, 2, rows)
    for found in measurements(dates, ones, ones, ones * 2):
        assert found.value is None
        assert found.details["undefined"]


def test_forecasts_of_absurd_size_are_undefined_not_infinite():
    dates, realised, _, good, worse = table()
    absurd = good.copy()
    absurd[::2] = 1e-200
    for found in (
        qlike_vs_champion(dates, realised=realised, forecast=absurd, champion=worse),
        calibration_slope(dates, realised=realised, forecast=absurd),
    ):
        assert found.value is None


def test_a_negative_squared_return_is_a_wrong_column():
    dates, _, returns, good, worse = table()
    for measure in (
        lambda: qlike_vs_champion(dates, realised=returns, forecast=good, champion=worse),
        lambda: var_coverage(dates, realised=returns, forecast=good),
        lambda: calibration_slope(dates, realised=returns, forecast=good),
    ):
        with pytest.raises(ContractViolation, match="never negative"):
            measure()


def test_columns_of_different_length_or_shape_are_refused():
    with pytest.raises(ContractViolation, match="differ in length"):
        calibration_slope(np.arange(3), realised=np.ones(3), forecast=np.ones(2))
    with pytest.raises(ContractViolation, match="expected \\(3,\\)"):
        calibration_slope(np.arange(4), realised=np.ones(3), forecast=np.ones(3))
    with pytest.raises(ContractViolation, match="expected \\(rows,\\)"):
        calibration_slope(np.arange(4), realised=np.ones((2, 2)), forecast=np.ones(4))
    with pytest.raises(ContractViolation, match="int64"):
        calibration_slope(np.arange(3.0), realised=np.ones(3), forecast=np.ones(3))


def test_exactly_as_many_exceedances_as_expected_is_not_more_than_expected():
    dates = np.repeat(np.arange(60, dtype=np.int64), 20)
    returns = np.tile([-3.0] + [0.1] * 19, 60)
    found = var_coverage(dates, realised=returns**2, forecast=np.ones(1200), returns=returns)
    assert found.details["exceedance_rate"] == pytest.approx(0.05, rel=1e-12)
    assert found.value == pytest.approx(1.0)
    assert found.details["independence"]["p_value"] is None
