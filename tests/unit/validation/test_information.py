"""IC and rank IC against correlations written out by hand."""

import math

import numpy as np
import pytest

from assay.statistics.information import average_ranks, daily_correlation
from assay.validation.information import ic, rank_ic


def pearson(x, y):
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    vx, vy = sum((a - mx) ** 2 for a in x), sum((b - my) ** 2 for b in y)
    return cov / math.sqrt(vx * vy)


def ranks(x):
    return [sum(b < a for b in x) + (sum(b == a for b in x) + 1) / 2 for a in x]


def panel(seed=2, days=40, names=9):
    generator = np.random.default_rng(seed)
    label = np.round(generator.standard_normal((days, names)), 1)
    score = np.round(0.4 * label + generator.standard_normal((days, names)), 1)
    return np.repeat(np.arange(days, dtype=np.int64), names), score.ravel(), label.ravel()


def by_date(dates, score, label, transform=list):
    found = []
    for day in sorted(set(dates.tolist())):
        pairs = [
            (s, v)
            for d, s, v in zip(dates, score, label, strict=True)
            if d == day and math.isfinite(s) and math.isfinite(v)
        ]
        x, y = [p[0] for p in pairs], [p[1] for p in pairs]
        if len(pairs) >= 5 and len(set(x)) > 1 and len(set(y)) > 1:
            found.append(pearson(transform(x), transform(y)))
    return found


@pytest.mark.parametrize(("measure", "transform"), [(ic, list), (rank_ic, ranks)])
def test_the_value_is_the_mean_over_dates_of_the_correlation_across_names(measure, transform):
    dates, score, label = panel()
    score[[3, 50, 51, 200]] = np.nan
    label[[4, 300]] = np.inf
    expected = by_date(dates, score, label, transform)
    found = measure(dates, label=label, prediction=score)
    assert found.value == pytest.approx(sum(expected) / len(expected), rel=1e-10)
    assert found.sample_size == len(expected) == 40
    spread = math.sqrt(sum((v - found.value) ** 2 for v in expected) / (len(expected) - 1))
    assert found.details["icir"] == pytest.approx(found.value / spread, rel=1e-9)
    assert found.details["rows_incomplete"] == 6


def test_the_t_statistic_is_newey_west_with_lags_for_overlapping_labels():
    dates, score, label = panel(days=60)
    series = by_date(dates, score, label)
    n, mean = len(series), sum(series) / len(series)
    found = ic(dates, label=label, prediction=score, horizon=11)
    lag = 10
    variance = 0.0
    for j in range(lag + 1):
        gamma = sum((series[t] - mean) * (series[t - j] - mean) for t in range(j, n)) / n
        variance += gamma if j == 0 else 2 * (1 - j / (lag + 1)) * gamma
    assert found.details["lag"] == lag
    assert found.details["t_newey_west"] == pytest.approx(mean / math.sqrt(variance / n), rel=1e-9)


def test_ties_share_the_average_rank():
    # scipy.stats.spearmanr([1, 2, 2, 4, 5], [3, 1, 4, 4, 9]) = 0.763157894736842
    assert average_ranks(np.array([1.0, 2, 2, 4, 5])).tolist() == [1, 2.5, 2.5, 4, 5]
    x, y = np.array([1.0, 2, 2, 4, 5]), np.array([3.0, 1, 4, 4, 9])
    series, _, _ = daily_correlation(np.zeros(5, dtype=np.int64), x, y, ranked=True)
    assert series[0] == pytest.approx(0.763157894736842, rel=1e-12)


def test_a_perfect_order_is_one_and_its_reverse_minus_one():
    dates = np.repeat(np.arange(20, dtype=np.int64), 6)
    label = np.tile([1.0, 2, 3, 4, 5, 60], 20)
    series, _, _ = daily_correlation(dates, label**3, label, ranked=True)
    assert np.allclose(series, 1.0, atol=1e-12)
    series, _, _ = daily_correlation(dates, -label, label, ranked=False)
    assert np.allclose(series, -1.0, atol=1e-12)
    assert (np.abs(series) <= 1.0).all()


def test_dates_without_names_or_without_variation_are_dropped_and_counted():
    dates, score, label = panel(days=40, names=6)
    score[dates == 3] = 0.5
    label[dates == 4] = 0.0
    score[(dates == 5).nonzero()[0][:2]] = np.nan
    score[dates == 6] = np.nan
    series, when, counts = daily_correlation(dates, score, label, ranked=False)
    assert not {3, 4, 5, 6} & set(when.tolist())
    assert len(series) == 36
    assert counts["dates_constant"] == 2
    assert counts["dates_too_few_names"] == 2


def test_dates_are_never_pooled():
    # Within each date the order is perfectly wrong; across dates the levels agree. Pooling would
    # report a high correlation.
    dates = np.repeat(np.arange(30, dtype=np.int64), 5)
    level = np.repeat(np.arange(30.0) * 100, 5)
    inside = np.tile(np.arange(5.0), 30) + np.repeat(np.linspace(0, 1e-3, 30), 5) ** 2
    series, _, _ = daily_correlation(dates, level - inside, level + inside, ranked=False)
    assert np.allclose(series, -1.0)
    assert np.corrcoef(level - inside, level + inside)[0, 1] > 0.99


def test_rows_in_any_order_give_the_same_number():
    dates, score, label = panel()
    shuffled = np.random.default_rng(1).permutation(len(dates))
    plain = rank_ic(dates, label=label, prediction=score)
    mixed = rank_ic(dates[shuffled], label=label[shuffled], prediction=score[shuffled])
    assert mixed.value == pytest.approx(plain.value, rel=1e-12)


def test_tiny_and_huge_values_do_not_lose_the_correlation():
    dates, score, label = panel()
    plain = ic(dates, label=label, prediction=score)
    scaled = ic(dates, label=label * 1e-200, prediction=score * 1e200)
    assert scaled.value == pytest.approx(plain.value, rel=1e-9)


@pytest.mark.parametrize("measure", [ic, rank_ic])
def test_data_that_cannot_be_measured_says_why(measure):
    dates, score, label = panel()
    empty = np.array([], dtype=np.int64)
    for found, word in (
        (measure(empty, label=[], prediction=[]), "no date"),
        (measure(dates, label=label, prediction=np.full(len(dates), 0.5)), "no date"),
        (measure(dates, label=label, prediction=np.full(len(dates), np.nan)), "no date"),
        (measure(dates[:45], label=label[:45], prediction=score[:45]), "5 dates"),
        (measure(dates, label=label, prediction=label), "never varies"),
    ):
        assert found.value is None
        assert word in found.details["undefined"]
