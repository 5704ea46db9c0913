"""Every statistic over arbitrary data: finite or with a reason, never an exception or a warning."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from assay.domain.canonical import canonical_bytes
from assay.errors import ContractViolation
from assay.statistics.calibration import brier, calibration_line, log_loss
from assay.statistics.coverage import christoffersen, kupiec, value_at_risk_coverage
from assay.statistics.deflated import Trials, deflated_sharpe
from assay.statistics.difference import mean_difference, sharpe_difference
from assay.statistics.discrimination import auc
from assay.statistics.distances import kolmogorov_smirnov, missing_difference, scaled_wasserstein
from assay.statistics.effective import autocorrelation_time
from assay.statistics.forecasts import diebold_mariano, mincer_zarnowitz, qlike_difference
from assay.statistics.information import information_coefficient, paired_information_difference
from assay.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm
from assay.statistics.overfitting import probability_of_overfitting
from assay.statistics.performance import (
    annualised_return,
    annualised_volatility,
    calmar,
    hit_rate,
    max_drawdown,
    time_under_water,
    turnover,
)
from assay.statistics.profile import Profile, drift, profile
from assay.statistics.reliability import calibration_error, reliability_curve
from assay.statistics.sequential import Side, advance, begin, frozen_variance, reading
from assay.statistics.sharpe import annualised_sharpe, minimum_track_record, psr, sharpe
from assay.statistics.stability import population_stability
from assay.statistics.statistic import Statistic
from assay.statistics.superior import superior_ability
from assay.validation.records import evidence_of

ANYTHING = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, -1.0, 0.5, math.nan, math.inf, -math.inf, 1e-308, 1e308, 0.25]),
)
ORDINARY = st.floats(-3, 3).map(lambda x: round(x, 2))
SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0, math.nan])
FLAGS = st.sampled_from([0.0, 1.0])


def column(values, size):
    return arrays.arrays(np.float64, size, elements=values)


@st.composite
def several(draw, count=3):
    values = draw(st.sampled_from([ANYTHING, ORDINARY, SHARES, FLAGS]))
    size = draw(st.integers(0, 40))
    return [draw(column(values, size)) for _ in range(count)]


def check(found):
    assert isinstance(found, Statistic)
    assert (found.value is None) == (found.undefined is not None)
    assert found.value is None or math.isfinite(found.value)
    assert found.p_value is None or 0.0 <= found.p_value <= 1.0
    assert found.convention
    assert found.sample_size >= 0
    if found.value is None:
        assert found.p_value is None
        assert found.interval is None
    # Canonical JSON refuses NaN and infinity wherever they hide.
    assert canonical_bytes(evidence_of("anything", found).to_json())
    for one in dataclasses.fields(found):
        held = getattr(found, one.name)
        if isinstance(held, np.ndarray):
            assert np.isfinite(held).all()


@given(several(), st.integers(1, 3))
def test_dated_statistics(columns, names):
    a, b, c = columns
    dates = np.arange(len(a), dtype=np.int64) // names
    check(information_coefficient(dates, label=a, prediction=b, min_names=2, periods_per_year=252))
    check(information_coefficient(dates, label=a, prediction=b, ranked=True, min_names=2))
    check(paired_information_difference(dates, label=a, prediction=b, champion=c, min_names=2))
    squares = np.where(a < 0, np.nan, a)
    check(qlike_difference(dates, realised=squares, forecast=b, champion=c))
    check(mincer_zarnowitz(dates, realised=squares, forecast=b))
    check(value_at_risk_coverage(dates, realised=squares, forecast=b, returns=c))
    check(diebold_mariano(a, b, horizon=names))


@given(several())
def test_statistics_of_probabilities_and_scores(columns):
    a, b, _ = columns
    for outcome in (a, np.arange(len(b)) % 2):
        check(brier(outcome, b))
        check(brier(outcome, b, bins=4, scheme="width"))
        check(log_loss(outcome, b))
        check(calibration_line(outcome, b))
        check(auc(outcome, b))
        generator = np.random.default_rng(0)
        check(calibration_error(outcome, b, bins=4, generator=generator, simulations=9))
        check(reliability_curve(outcome, b, bins=4, generator=generator, simulations=9))
    check(kupiec(a, level=0.05))
    check(christoffersen(a, level=0.05))


@given(several())
def test_statistics_of_distributions(columns):
    a, b, c = columns
    check(kolmogorov_smirnov(a, b))
    check(scaled_wasserstein(a, b))
    check(population_stability(a, b))
    check(autocorrelation_time(a))
    kept = profile(a, cells=20)
    assert Profile.from_json(kept.to_json()).to_json() == kept.to_json()
    found = drift(kept, np.concatenate((b, c)))
    for one in dataclasses.fields(found):
        check(getattr(found, one.name))


@given(several())
def test_statistics_of_returns_and_families(columns):
    a, b, c = columns
    for measure in (max_drawdown, time_under_water, hit_rate):
        check(measure(a))
    for measure in (annualised_return, annualised_volatility, calmar):
        check(measure(a, periods_per_year=252))
    check(turnover(np.stack((a, b), axis=1), np.stack((b, c), axis=1)))
    for family in (benjamini_hochberg, benjamini_yekutieli, holm):
        check(family(a))


@given(several(2), st.sampled_from(list(Side)))
def test_sequential_statistics(columns, side):
    a, b = columns
    variance = frozen_variance(a)
    check(variance)
    usable = variance.value or 1.0
    state = begin(null=0.0, variance=min(usable, 1e300), expected=20, side=side)
    check(reading(advance(state, b)))


@given(column(ORDINARY, st.integers(2, 40)), column(ORDINARY, st.integers(2, 40)))
def test_distances_do_not_depend_on_units_and_a_sample_is_at_none_from_itself(a, b):
    for measure in (kolmogorov_smirnov, scaled_wasserstein, population_stability):
        plain, scaled = measure(a, b), measure(a * 4.0, b * 4.0)
        if plain.value is None:
            assert scaled.value is None
            continue
        assert scaled.value == pytest.approx(plain.value, rel=1e-9, abs=1e-12)
        assert measure(a, a).value == pytest.approx(0.0, abs=1e-12)
        assert plain.value >= 0.0


@given(column(SHARES.filter(math.isfinite), st.integers(1, 30)))
def test_stricter_procedures_never_reject_more(p):
    hochberg, yekutieli, family = benjamini_hochberg(p), benjamini_yekutieli(p), holm(p)
    assert (yekutieli.adjusted >= hochberg.adjusted - 1e-12).all()
    assert (family.adjusted >= hochberg.adjusted - 1e-12).all()
    assert (hochberg.adjusted >= p - 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(hochberg.adjusted[order]) >= 0).all()


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_shares_of_missing_rows(m1, n1, m2, n2):
    check(
        missing_difference(
            reference_missing=m1,
            reference_rows=m1 + n1,
            current_missing=m2,
            current_rows=m2 + n2,
        )
    )


FOREIGN = {
    "text": ["a"] * 40,
    "numbers as text": ["0.1"] * 40,
    "a text among objects": np.array([0.1] * 39 + ["0.1"], dtype=object),
    "ragged": [[1.0, 2.0], [3.0]],
    "complex": np.ones(40) + 1j,
    "beyond floats": [10**400] * 40,
    "times": np.arange(40).astype("datetime64[ns]"),
    "durations": np.arange(40).astype("timedelta64[ns]"),
    "masked": np.ma.masked_array(np.arange(40.0), mask=np.arange(40) % 2 == 0),
    "nothing": None,
    "a generator": (x for x in [1.0, 2.0]),
}
ONE_COLUMN = {
    "sharpe": sharpe,
    "annualised_sharpe": lambda x: annualised_sharpe(x, periods_per_year=252),
    "psr": psr,
    "minimum_track_record": minimum_track_record,
    "deflated_sharpe": lambda x: deflated_sharpe(x, trials=Trials(5)),
    "sharpe_difference": lambda x: sharpe_difference(x, x, generator=np.random.default_rng(0)),
    "mean_difference": lambda x: mean_difference(x, x, generator=np.random.default_rng(0)),
    "probability_of_overfitting": probability_of_overfitting,
    "superior_ability": lambda x: superior_ability(x, generator=np.random.default_rng(0)),
    "brier": lambda x: brier(x, x),
    "auc": lambda x: auc(x, x),
    "kupiec": lambda x: kupiec(x, level=0.05),
    "value_at_risk_coverage": lambda x: value_at_risk_coverage(
        np.arange(40), realised=x, forecast=x
    ),
    "diebold_mariano": lambda x: diebold_mariano(x, x),
    "information_coefficient": lambda x: information_coefficient(
        np.arange(40), label=x, prediction=x
    ),
    "kolmogorov_smirnov": lambda x: kolmogorov_smirnov(x, x),
    "population_stability": lambda x: population_stability(x, x),
    "profile": profile,
    "max_drawdown": max_drawdown,
    "turnover": lambda x: turnover(x, x),
    "holm": holm,
    "frozen_variance": frozen_variance,
    "autocorrelation_time": autocorrelation_time,
}


@pytest.mark.parametrize("values", FOREIGN.values(), ids=list(FOREIGN))
@pytest.mark.parametrize("measure", ONE_COLUMN.values(), ids=list(ONE_COLUMN))
def test_what_is_no_column_of_numbers_is_refused_and_never_guessed(measure, values):
    with pytest.raises(ContractViolation):
        measure(values)


@pytest.mark.parametrize("scale", [1e-150, 1e-162, 1e-200, 5e-324])
def test_returns_whose_squares_vanish_have_no_ratio(scale):
    tiny = np.random.default_rng(1).normal(0, 0.01, 300) * scale
    plain = np.random.default_rng(2).normal(0, 0.01, 300)
    for found in (
        sharpe(tiny),
        annualised_sharpe(tiny, periods_per_year=252),
        psr(tiny),
        minimum_track_record(tiny),
        deflated_sharpe(tiny, trials=Trials(5)),
        sharpe_difference(plain, tiny, generator=np.random.default_rng(0), resamples=9),
    ):
        check(found)
        assert found.value is None
