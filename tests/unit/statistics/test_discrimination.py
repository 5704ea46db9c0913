"""AUC with DeLong's interval, against scikit-learn and the definition."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from assay.statistics.discrimination import auc


def scores(seed=1, size=120):
    generator = np.random.default_rng(seed)
    y = (generator.random(size) < 0.4).astype(float)
    return y, np.round(generator.standard_normal(size) + 0.7 * y, 1)


def delong(y, x):
    """The area and its standard error from every pair, as defined, in plain Python."""
    ones = [b for a, b in zip(y, x, strict=True) if a == 1]
    zeros = [b for a, b in zip(y, x, strict=True) if a == 0]

    def wins(a, b):
        return 1.0 if a > b else 0.5 if a == b else 0.0

    above = [sum(wins(a, b) for b in zeros) / len(zeros) for a in ones]
    below = [sum(wins(a, b) for a in ones) / len(ones) for b in zeros]
    area = sum(above) / len(above)

    def spread(values):
        return sum((v - area) ** 2 for v in values) / (len(values) - 1)

    return area, math.sqrt(spread(above) / len(above) + spread(below) / len(below))


@pytest.mark.parametrize("seed", range(4))
def test_area_and_error_are_those_of_all_pairs(seed):
    y, x = scores(seed)
    found = auc(y, x)
    area, error = delong(y.tolist(), x.tolist())
    assert found.value == pytest.approx(area, rel=1e-12)
    assert found.value == pytest.approx(roc_auc_score(y, x), rel=1e-12)
    assert found.details["standard_error"] == pytest.approx(error, rel=1e-10)
    half = stats.norm.ppf(0.975) * error
    assert found.interval == pytest.approx((area - half, min(1, area + half)), rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(area - 0.5) / error), rel=1e-9)


def test_complete_separation_has_an_area_but_no_interval():
    found = auc([0.0] * 6 + [1.0] * 6, range(12))
    assert found.value == 1.0
    assert found.interval is None
    assert found.p_value is None
    assert found.warnings


def test_scores_without_order_say_why():
    y, x = scores()
    for outcome, score, word in (
        ([], [], "0 events"),
        (y, np.full(120, 0.3), "never varies"),
        (y, np.full(120, np.nan), "0 events"),
        (np.ones(120), x, "0 others"),
        (y * 2, x, "0 or 1"),
    ):
        found = auc(outcome, score)
        assert found.value is None
        assert word in found.undefined


def test_infinite_scores_have_their_place_and_missing_ones_none():
    y, x = scores()
    moved = x.copy()
    moved[x.argmax()] = np.inf
    assert auc(y, np.append(moved, np.nan)[:120]).value is not None
    x[0] = np.nan
    assert auc(y, x).value == auc(y[1:], x[1:]).value
    assert auc(y, x).details["rows_left_out"] == 1
