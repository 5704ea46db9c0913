"""Calibration error and reliability diagram, against scikit-learn and a simulated null."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from assay.errors import ContractViolation
from assay.statistics.calibration import binned
from assay.statistics.reliability import _simulated_hits, calibration_error, reliability_curve


def perfect(size, generator):
    p = generator.uniform(0.2, 0.8, size)
    return (generator.random(size) < p).astype(float), p


def test_the_diagram_is_scikit_learns_for_bins_of_equal_width():
    y, p = perfect(500, np.random.default_rng(1))
    found = reliability_curve(y, p, bins=8, scheme="width")
    observed, forecast = calibration_curve(y, p, n_bins=8, strategy="uniform")
    assert found.observed == pytest.approx(observed, rel=1e-12)
    assert found.forecast == pytest.approx(forecast, rel=1e-12)
    assert found.rows.sum() == 500
    assert len(found.low) == 0
    assert found.p_value is None


def errors_by_loops(y, p, bins):
    places, _ = binned(p, bins, "mass")
    plain = debiased = 0.0
    for k in range(max(places) + 1):
        inside = [(a, b) for a, b, place in zip(y, p, places, strict=True) if place == k]
        n = len(inside)
        rate, said = sum(a for a, _ in inside) / n, sum(b for _, b in inside) / n
        plain += n / len(y) * abs(rate - said)
        if n > 1:
            debiased += n / len(y) * ((rate - said) ** 2 - rate * (1 - rate) / (n - 1))
    return plain, debiased


def test_plain_and_debiased_errors_are_those_of_their_definitions():
    y, p = perfect(300, np.random.default_rng(2))
    found = calibration_error(y, p, bins=12)
    plain, debiased = errors_by_loops(y.tolist(), p.tolist(), 12)
    assert found.value == pytest.approx(plain, rel=1e-10)
    assert found.details["debiased_squared"] == pytest.approx(debiased, rel=1e-9)
    assert found.p_value is None
    assert "null_mean" not in found.details


def test_the_null_is_that_of_this_sample_size_and_these_bins():
    # A perfect forecaster near one half: 0.097 over 250 rows and 15 bins, 0.021 over 5,000.
    generator = np.random.default_rng(3)
    for size, expected in ((250, 0.097), (5000, 0.021)):
        p = generator.uniform(0.45, 0.55, size)
        y = (generator.random(size) < p).astype(float)
        found = calibration_error(y, p, generator=generator, simulations=400)
        assert found.details["null_mean"] == pytest.approx(expected, rel=0.06)
        assert found.details["null_quantile"] > found.details["null_mean"]
        assert found.p_value > 0.01
        assert found.details["excess"] == pytest.approx(
            found.value - found.details["null_mean"], rel=1e-12
        )


def test_a_bent_forecast_is_found_and_the_same_seed_gives_the_same_answer():
    y, p = perfect(20_000, np.random.default_rng(4))
    bent = np.clip(p + 0.1, 0, 1)
    one = calibration_error(y, bent, generator=np.random.default_rng(5), simulations=200)
    two = calibration_error(y, bent, generator=np.random.default_rng(5), simulations=200)
    assert one.p_value == two.p_value == 1 / 201
    assert one.details["debiased_squared"] == pytest.approx(0.01, rel=0.15)
    curve = reliability_curve(y, bent, generator=np.random.default_rng(5), simulations=200)
    assert curve.p_value == 1 / 201
    assert curve.details["bins_outside_their_band"] >= 8


def test_the_band_holds_a_perfect_forecaster_bin_by_bin():
    generator = np.random.default_rng(6)
    outside = bins = 0
    for _ in range(40):
        y, p = perfect(400, generator)
        found = reliability_curve(y, p, generator=generator, simulations=200)
        outside += found.details["bins_outside_their_band"]
        bins += len(found.rows)
        assert (found.low <= found.forecast).all()
        assert (found.forecast <= found.high).all()
    assert 0.01 < outside / bins < 0.09


def test_counts_of_large_bins_come_from_their_normal_limit():
    p = np.random.default_rng(7).uniform(0.1, 0.6, 30_000)
    variance = float((p * (1 - p)).sum())
    limit = _simulated_hits(p, variance, np.random.default_rng(8), 4000)
    assert limit.mean() == pytest.approx(p.sum(), abs=4 * np.sqrt(variance / 4000))
    assert limit.std() == pytest.approx(np.sqrt(variance), rel=0.05)
    assert (limit == np.rint(limit)).all()


def test_an_event_that_was_called_impossible_has_no_standard_error():
    y = np.array([0.0] * 9 + [1.0] + [0.0, 1.0] * 10)
    p = np.array([0.0] * 10 + [0.9] * 20)
    found = reliability_curve(y, p, bins=2, scheme="width")
    assert found.value is None
    assert "went wrong" in found.undefined


@pytest.mark.parametrize("measure", [calibration_error, reliability_curve])
def test_rows_that_cannot_be_judged_give_no_diagram(measure):
    found = measure([1.0] * 20, [0.5] * 20, generator=np.random.default_rng(0))
    assert found.value is None
    assert len(found.rows) == 0
    with pytest.raises(ContractViolation, match="simulations"):
        measure([1.0, 0.0] * 10, [0.5] * 20, simulations=0)
