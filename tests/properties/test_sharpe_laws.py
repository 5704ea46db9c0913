"""Laws of the Sharpe family, of overfitting and of data snooping, over all inputs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from assay.domain.canonical import canonical_bytes
from assay.statistics.deflated import Trials, deflated_sharpe, effective_trials_by_eigenvalues
from assay.statistics.difference import mean_difference, sharpe_difference
from assay.statistics.overfitting import probability_of_overfitting
from assay.statistics.resampling import block_lengths, stationary_indices, stationary_variance
from assay.statistics.sharpe import annualised_sharpe, minimum_track_record, psr, sharpe
from assay.statistics.superior import reality_check, stepwise_superior, superior_ability
from assay.validation.records import evidence_of

anything = st.floats(allow_nan=True, allow_infinity=True, width=64)
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
few = st.sampled_from([0.0, 0.01, -0.01, 0.02])
ordinary = st.floats(-1.0, 1.0, allow_subnormal=False).map(lambda x: round(x, 4))
KINDS = st.sampled_from([anything, finite, few, ordinary])


SIZES = st.one_of(st.integers(0, 11), st.just(32))
SERIES = st.tuples(KINDS, SIZES).flatmap(lambda k: arrays.arrays(np.float64, k[1], elements=k[0]))


def tables(columns):
    return st.tuples(KINDS, SIZES, columns).flatmap(
        lambda k: arrays.arrays(np.float64, (k[1], k[2]), elements=k[0])
    )


TABLES = tables(st.integers(0, 5))


def rng():
    return np.random.default_rng(0)


def check(found):
    assert (found.value is None) == (found.undefined is not None)
    assert found.value is None or math.isfinite(found.value)
    assert found.p_value is None or 0.0 <= found.p_value <= 1.0
    if found.value is None:
        assert found.p_value is None
        assert found.interval is None
    if found.interval is not None:
        assert found.interval[0] <= found.interval[1]
    assert found.convention
    assert canonical_bytes(evidence_of("ic", found).to_json())


@given(SERIES)
def test_whatever_the_returns_one_series_answers_or_says_why(values):
    check(sharpe(values))
    check(annualised_sharpe(values, periods_per_year=252))
    for form in ("2012", "2025", "hac"):
        check(psr(values, form=form))
    for form in ("2012", "2025"):
        check(minimum_track_record(values, form=form))
    for trials in (Trials(1), Trials(50), Trials(50, effective=3.0, variance=1e300)):
        for form in ("2014", "2025"):
            check(deflated_sharpe(values, trials=trials, form=form))


@given(TABLES)
def test_whatever_the_trials_overfitting_answers_or_says_why(values):
    for purge in (0, 1):
        found = probability_of_overfitting(values, blocks=4, purge=purge)
        check(found)
        if found.value is not None:
            assert 0.0 <= found.value <= 1.0
            assert np.isfinite(found.logits).all()
            assert np.isfinite(found.in_sample).all()
            assert np.isfinite(found.out_of_sample).all()
    trials = Trials.of(values)
    assert isinstance(trials, str) or 1.0 <= trials.effective <= trials.count


@settings(max_examples=60)
@given(TABLES)
def test_whatever_the_differences_the_tests_of_many_models_answer_or_say_why(values):
    for test in (superior_ability, reality_check, stepwise_superior):
        check(test(values, generator=rng(), resamples=19))
    found = superior_ability(values, generator=rng(), resamples=19)
    if found.value is not None:
        assert 0.0 < found.lower <= found.consistent <= found.upper <= 1.0


@settings(max_examples=60)
@given(tables(st.just(2)))
def test_whatever_the_pair_a_difference_answers_or_says_why(values):
    for compare in (sharpe_difference, mean_difference):
        check(compare(values[:, 0], values[:, 1], generator=rng(), resamples=19))


varied = arrays.arrays(np.float64, 30, elements=ordinary)


@given(varied, st.sampled_from([0.25, 2.0, 1024.0]))
def test_leverage_changes_no_ratio_and_the_sign_turns_it(values, leverage):
    plain, levered, turned = sharpe(values), sharpe(leverage * values), sharpe(-values)
    assert plain.value == levered.value
    if plain.value is not None:
        assert turned.value == -plain.value
        assert psr(values).value == pytest.approx(1 - psr(-values).value, abs=1e-12)


@given(varied, st.floats(-0.5, 0.5), st.floats(0.0, 0.5))
def test_a_higher_benchmark_is_never_easier_to_beat(values, benchmark, more):
    for form in ("2012", "hac"):
        low, high = (psr(values, benchmark=b, form=form) for b in (benchmark, benchmark + more))
        if low.value is not None and high.value is not None:
            assert high.value <= low.value


@given(varied, st.integers(1, 1000), st.integers(0, 1000))
def test_more_trials_never_help(values, trials, more):
    few_trials, many = (
        deflated_sharpe(values, trials=Trials(count)) for count in (trials, trials + more)
    )
    if few_trials.value is not None:
        assert many.value <= few_trials.value + 1e-12
        assert few_trials.value <= few_trials.details["dsr_2014_effective"] + 1e-12


@settings(max_examples=40)
@given(arrays.arrays(np.float64, (40, 4), elements=ordinary), st.permutations(range(4)))
def test_the_order_of_models_does_not_matter(values, order):
    one = superior_ability(values, generator=rng(), resamples=49, block_length=2.0)
    two = superior_ability(values[:, order], generator=rng(), resamples=49, block_length=2.0)
    assert (one.value is None) == (two.value is None)
    if one.value is not None:
        assert one.value == pytest.approx(two.value)
        assert one.p_value == pytest.approx(two.p_value, abs=0.021)
    first, second = Trials.of(values), Trials.of(values[:, order])
    assert first.effective == pytest.approx(second.effective)


@settings(max_examples=40)
@given(arrays.arrays(np.float64, (40, 3), elements=ordinary))
def test_a_worse_model_more_never_makes_the_upper_p_value_smaller(values):
    worse = np.concatenate((values, values[:, :1] - 0.5), axis=1)
    one = superior_ability(values, generator=rng(), resamples=49, block_length=2.0)
    two = superior_ability(worse, generator=rng(), resamples=49, block_length=2.0)
    if one.value is not None and two.value is not None:
        assert two.upper >= one.upper - 1e-12


@given(st.integers(1, 60), st.floats(1.0, 100.0), st.integers(1, 5), st.integers(0, 9))
def test_resampled_dates_exist(size, length, resamples, seed):
    drawn = stationary_indices(size, length, resamples, np.random.default_rng(seed))
    assert drawn.shape == (resamples, size)
    assert drawn.min() >= 0
    assert drawn.max() < size


@settings(max_examples=40)
@given(arrays.arrays(np.float64, (40, 3), elements=ordinary), st.floats(1.0, 40.0))
def test_lengths_and_variances_are_finite_and_never_negative(values, length):
    assert (stationary_variance(values, length) >= -1e-12).all()
    for scheme in ("stationary", "circular"):
        found = block_lengths(values, scheme=scheme)
        assert ((found >= 1.0) & (found <= 20.0)).all()
    assert 1.0 <= effective_trials_by_eigenvalues(values) <= 3.0 + 1e-9
