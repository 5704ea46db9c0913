"""Brier, log loss and the calibration line, against loops, scikit-learn and statsmodels."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from assay.errors import ContractViolation
from assay.statistics.calibration import binned, brier, calibration_line, log_loss


def forecasts(size=400, seed=1, bend=1.0):
    generator = np.random.default_rng(seed)
    p = generator.beta(2, 3, size)
    odds = bend * np.log(p / (1 - p))
    return (generator.random(size) < 1 / (1 + np.exp(-odds))).astype(float), p


def murphy(y, p):
    """Reliability, resolution, uncertainty by grouping equal forecasts, in plain Python."""
    groups = {}
    for outcome, forecast in zip(y, p, strict=True):
        groups.setdefault(forecast, []).append(outcome)
    n, base = len(y), sum(y) / len(y)
    rel = sum(len(g) * (f - sum(g) / len(g)) ** 2 for f, g in groups.items()) / n
    res = sum(len(g) * (sum(g) / len(g) - base) ** 2 for g in groups.values()) / n
    return rel, res, base * (1 - base)


def test_brier_splits_exactly_when_one_group_is_one_forecast():
    y, p = forecasts()
    p = np.round(p, 1)
    found = brier(y, p)
    rel, res, unc = murphy(y.tolist(), p.tolist())
    assert found.value == pytest.approx(brier_score_loss(y, p), rel=1e-12)
    assert found.details["reliability"] == pytest.approx(rel, rel=1e-10)
    assert found.details["resolution"] == pytest.approx(res, rel=1e-10)
    assert found.details["uncertainty"] == pytest.approx(unc, rel=1e-12)
    assert found.value == pytest.approx(rel - res + unc, rel=1e-12)
    assert found.details["within_bin_variance"] == pytest.approx(0, abs=1e-15)
    assert found.details["skill"] == pytest.approx(1 - found.value / unc, rel=1e-12)


@pytest.mark.parametrize("scheme", ["mass", "width"])
def test_with_bins_two_more_components_make_it_add_up(scheme):
    y, p = forecasts()
    found = brier(y, p, bins=5, scheme=scheme)
    parts = found.details
    three = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
    five = three + parts["within_bin_variance"] - parts["within_bin_covariance"]
    assert found.value == pytest.approx(five, rel=1e-12)
    assert abs(found.value - three) > 1e-5


def test_an_edge_belongs_to_the_bin_below_it():
    p = np.array([0.0, 0.2, 0.2000001, 0.4, 1.0])
    places, edges = binned(p, 5, "width")
    assert places.tolist() == [0, 0, 1, 1, 2]
    assert edges.tolist() == [0.2, 0.4, 1.0]


def test_equal_forecasts_are_never_split_between_bins_of_equal_mass():
    p = np.repeat([0.1, 0.3, 0.5], [70, 20, 10])
    places, _ = binned(p, 10, "mass")
    assert len(np.unique(places)) == 3
    assert all(len(set(places[p == value].tolist())) == 1 for value in (0.1, 0.3, 0.5))


def test_log_loss_equals_scikit_learn_and_states_its_clip():
    y, p = forecasts()
    found = log_loss(y, p)
    assert found.value == pytest.approx(sklearn_log_loss(y, p), rel=1e-12)
    base = y.mean()
    entropy = -(base * math.log(base) + (1 - base) * math.log(1 - base))
    assert found.details["skill"] == pytest.approx(1 - found.value / entropy, rel=1e-10)
    p[0], y[0] = 1.0, 0.0
    wrong = log_loss(y, p, clip=1e-6)
    rest = sum(
        -math.log(q if o else 1 - q) for o, q in zip(y[1:].tolist(), p[1:].tolist(), strict=True)
    )
    assert wrong.value == pytest.approx((rest - math.log(1e-6)) / 400, rel=1e-9)
    assert wrong.warnings
    assert "1e-06" in wrong.convention


@pytest.mark.parametrize("bend", [0.5, 1.0, 1.8])
def test_the_calibration_line_equals_statsmodels(bend):
    y, p = forecasts(bend=bend)
    found = calibration_line(y, p)
    odds = np.log(p / (1 - p))
    fit = sm.Logit(y, sm.add_constant(odds)).fit(disp=0, tol=1e-12)
    assert found.value == pytest.approx(fit.params[1], rel=1e-8)
    assert found.details["intercept"] == pytest.approx(fit.params[0], rel=1e-7)
    assert found.details["standard_error"] == pytest.approx(fit.bse[1], rel=1e-7)
    said = (y * np.log(p) + (1 - y) * np.log(1 - p)).sum()
    assert found.p_value == pytest.approx(stats.chi2.sf(2 * (fit.llf - said), 2), rel=1e-6)


def test_an_overconfident_forecast_has_a_slope_below_one():
    y, p = forecasts(size=3000, bend=0.5)
    found = calibration_line(y, p)
    assert found.interval[1] < 1
    assert found.p_value < 1e-6


def test_a_forecast_that_separates_the_outcomes_has_no_line():
    y = np.repeat([0.0, 1.0], 20)
    p = np.concatenate((np.linspace(0.1, 0.4, 20), np.linspace(0.6, 0.9, 20)))
    found = calibration_line(y, p)
    assert found.value is None
    assert "separated" in found.undefined
    flat = calibration_line(y, np.full(40, 0.5))
    assert "never varies" in flat.undefined


def test_rows_without_an_outcome_are_left_out_and_counted():
    y, p = forecasts()
    y[:7] = np.nan
    p[3] = np.nan
    found = brier(y, p)
    assert found.sample_size == 393
    assert found.details["rows_without_outcome"] == 7
    assert found.value == pytest.approx(((y[7:] - p[7:]) ** 2).mean(), rel=1e-12)


@pytest.mark.parametrize("measure", [brier, log_loss, calibration_line])
def test_probabilities_that_cannot_be_judged_say_why(measure):
    y, p = forecasts(100)
    silent = p.copy()
    silent[:2] = np.nan
    for outcome, probability, word in (
        ([], [], "no row"),
        (y[:9], p[:9], "9 rows"),
        (np.full(100, np.nan), p, "no row"),
        (np.ones(100), p, "every outcome is 1"),
        (y + 0.5, p, "0 or 1"),
        (y, p + 0.5, "between 0 and 1"),
        (y, np.full(100, -np.inf), "between 0 and 1"),
        (y, silent, "2 of 100 rows"),
    ):
        found = measure(outcome, probability)
        assert found.value is None
        assert word in found.undefined
        assert found.p_value is None


def test_wrong_shapes_and_settings_are_refused():
    y, p = forecasts(20)
    with pytest.raises(ContractViolation, match="differ in length"):
        brier(y, p[1:])
    with pytest.raises(ContractViolation, match="bins"):
        brier(y, p, bins=0)
    with pytest.raises(ContractViolation, match="scheme"):
        brier(y, p, bins=3, scheme="equal")
    with pytest.raises(ContractViolation, match="clip"):
        log_loss(y, p, clip=0.5)
