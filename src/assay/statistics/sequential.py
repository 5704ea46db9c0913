"""Tests that may be looked at every day, and stopped on any day, without crying wolf more often.

A test of fixed size that is looked at daily rejects a true null in 32 % of cases within 250 days.
The mixture sequential probability ratio test does not: Johari, Koomen, Pekelis and Walsh (2017),
"Peeking at A/B tests", Proceedings of KDD 23; its inversion is the normal mixture confidence
sequence of Howard, Ramdas, McAuliffe and Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 49, which goes back to Robbins (1970).

With S the sum of n observations less the null, v = n s^2, s^2 their variance and rho > 0 the
weight of the mixture, the likelihood ratio sqrt(rho/(v+rho)) exp(S^2 / (2 (v+rho))) starts at 1 and
is a martingale under the null. It exceeds 1/alpha at any time with probability alpha at most.
In the notation of Johari et al. the mixing variance is tau^2 = s^4 / rho.

The guarantee is exact for normal observations of known variance. Here the variance is frozen on
history that ended before the test began, and raised to the long-run variance where the history is
autocorrelated; the guarantee is then as good as that variance, and the convention says asymptotic.

1. :func:`frozen_variance` measures the variance once.
2. :func:`begin` gives the state before the first observation.
3. :func:`advance` takes a state and observations and gives the next state; a state is a frozen
   value of plain numbers, so that it can be stored and resumed with equal bits.
4. :func:`reading` turns a state into a p-value and a confidence interval.

Missing values: a NaN observation is counted and changes nothing else. An infinite one breaks the
state for good, and its readings have no value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from assay.errors import ContractViolation
from assay.statistics.hac import LAG_RULE, MIN_DATES, constant, long_run_variance, newey_west_lag
from assay.statistics.panel import columns_of
from assay.statistics.statistic import LEVEL, Statistic, overflow_becomes_undefined

BISECTIONS = 200
"""Halvings of a bracket until neighbouring floats."""


class Side(StrEnum):
    """What the test looks for: a mean away from the null, above it, or below it."""

    EITHER = "either"
    ABOVE = "above"
    BELOW = "below"


@overflow_becomes_undefined
def frozen_variance(history: npt.ArrayLike, *, horizon: int = 1) -> Statistic:
    """Variance per observation for a test that has not begun, from earlier observations.

    The larger of the variance (ddof 1) and the long-run variance, which is what a sum of
    autocorrelated observations has. A NaN in the history is left out and counted.

    Parameters
    ----------
    history: observations in order of time, shape (T,).
    horizon: dates that one observation spans.
    """
    convention = (
        f"larger of variance (ddof 1) and long-run variance per observation, {LAG_RULE}, horizon "
        f"{horizon}"
    )
    values = columns_of(history=history)["history"]
    kept = values[~np.isnan(values)]
    size = len(kept)
    problem = None
    if size < MIN_DATES:
        problem = f"{size} observations: at least {MIN_DATES} are needed"
    elif not np.isfinite(kept).all():
        problem = "the history has infinite values"
    elif constant(kept):
        problem = f"the history never varies (it is always {float(kept[0]):.6g})"
    if problem is not None:
        return Statistic(value=None, sample_size=size, convention=convention, undefined=problem)
    lag = newey_west_lag(size, horizon=horizon)
    plain = float(kept.var(ddof=1))
    inflated = long_run_variance(kept, lag)
    return Statistic(
        value=max(plain, inflated),
        sample_size=size,
        convention=convention,
        details={
            "variance": plain,
            "inflation": max(1.0, inflated / plain) if plain > 0 else None,
            "lag": lag,
            "missing": len(values) - size,
        },
    )


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """The state of one test of a mean, between observations.

    Attributes
    ----------
    null: the mean under the null hypothesis, in the units of the observations.
    variance: frozen variance per observation.
    rho: weight of the mixture, in units of the summed variance; see :func:`best_rho`.
    side: what is looked for.
    count, total: observations so far and the sum of (observation - null).
    largest: the largest log likelihood ratio so far; its running maximum makes p only fall.
    missing: NaN observations so far.
    broken: whether an infinite observation came.
    """

    null: float
    variance: float
    rho: float
    side: Side = Side.EITHER
    count: int = 0
    total: float = 0.0
    largest: float = 0.0
    missing: int = 0
    broken: bool = False

    def __post_init__(self) -> None:
        for name in ("variance", "rho"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ContractViolation(
                    f"sequential test with {name} {value}: expected a positive number"
                )
        if not math.isfinite(self.null):
            raise ContractViolation(f"sequential test of the null {self.null}: expected a number")
        object.__setattr__(self, "side", Side(self.side))


def best_rho(variance_sum: float, *, alpha: float = 1 - LEVEL) -> float:
    """The mixture weight whose two-sided boundary is about tightest at v = ``variance_sum``.

    v / (2 log(1/alpha) + log(1 + 2 log(1/alpha))), as Howard et al. (2021) approximate it; the
    boundary is within a part in ten thousand of the tightest. Aim at the sum of variances on the
    day on which a decision is wanted.
    """
    if not (math.isfinite(variance_sum) and variance_sum > 0 and 0 < alpha < 1):
        raise ContractViolation(
            f"best rho for variance {variance_sum} at level {alpha}: expected a positive variance "
            "and a level between 0 and 1"
        )
    twice = -2 * math.log(alpha)
    return variance_sum / (twice + math.log1p(twice))


def begin(
    *,
    null: float,
    variance: float,
    expected: int,
    side: Side = Side.EITHER,
    alpha: float = 1 - LEVEL,
) -> SequentialTest:
    """The state before the first observation of a test that is tightest after ``expected`` of them.

    Parameters
    ----------
    null: mean under the null; variance: of :func:`frozen_variance`.
    expected: observations after which the decision is wanted; any other day is valid as well.
    side, alpha: what is looked for, and at which level the test is tuned (readings at any level
        are valid).

    Raises
    ------
    ContractViolation: a variance that is not positive, or fewer than one expected observation.
    """
    if expected < 1:
        raise ContractViolation(f"{expected} expected observations: expected at least 1")
    two_sided = alpha if side is Side.EITHER else 2 * alpha
    rho = best_rho(variance * expected, alpha=min(two_sided, 0.5))
    return SequentialTest(null=null, variance=variance, rho=rho, side=side)


@overflow_becomes_undefined
def advance(state: SequentialTest, observations: npt.ArrayLike) -> SequentialTest:
    """The state after ``observations``, in order of time, shape (n,).

    One call with all of them and one call for each give equal bits. A NaN is counted and changes
    nothing else; an infinite one breaks the state.
    """
    values = columns_of(observations=observations)["observations"]
    count, total, largest = state.count, state.total, state.largest
    missing, broken = state.missing, state.broken
    for value in values.tolist():
        if math.isnan(value):
            missing += 1
            continue
        total += value - state.null
        count += 1
        if not math.isfinite(total):
            broken, total = True, 0.0
            continue
        found = log_mixture(total, count * state.variance, rho=state.rho, side=state.side)
        largest = max(largest, found)
    broken = broken or not math.isfinite(largest)
    return replace(
        state,
        count=count,
        total=total,
        largest=largest if math.isfinite(largest) else 0.0,
        missing=missing,
        broken=broken,
    )


def log_mixture(total: float, variance_sum: float, *, rho: float, side: Side) -> float:
    """Log of the likelihood ratio of a normal (one side: half normal) mixture at S and v.

    Two-sided: log sqrt(rho/(v+rho)) + S^2 / (2 (v+rho)). One-sided: that plus log(2 Phi(S /
    sqrt(v+rho))), S turned so that what is looked for is positive.
    """
    reach = variance_sum + rho
    plain = 0.5 * (math.log(rho) - math.log(reach)) + (total / reach) * (total / 2)
    if side is Side.EITHER:
        return plain
    turned = total if side is Side.ABOVE else -total
    return math.log(2.0) + plain + float(log_ndtr(turned / math.sqrt(reach)))


def mixture_bound(variance_sum: float, *, rho: float, side: Side, alpha: float) -> float:
    """How far S may go by v = ``variance_sum`` before the test rejects at ``alpha``; positive."""
    reach = variance_sum + rho
    bound = math.sqrt(reach * (math.log(reach) - math.log(rho) - 2 * math.log(alpha)))
    if side is Side.EITHER:
        return bound
    # The half normal mixture has no closed inverse; it rises in S, and S >= 0 at the boundary
    # of any level below one half is bracketed by the two-sided one.
    low, high = -bound, bound
    aim = -math.log(alpha)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if log_mixture(middle, variance_sum, rho=rho, side=Side.ABOVE) < aim:
            low = middle
        else:
            high = middle
    return high


@overflow_becomes_undefined
def reading(state: SequentialTest, *, alpha: float = 1 - LEVEL) -> Statistic:
    """What the test says now: the mean so far, its interval valid at any time, and the p-value.

    ``value`` is the mean of the observations; ``p_value`` is 1 over the largest likelihood ratio
    so far, valid whenever one chooses to look; ``interval`` is two-sided at 1 - alpha, of this
    observation alone (not intersected with earlier ones), for a two-sided test. For a one-sided
    test ``details["bound"]`` is the one-sided limit of the mean. A broken state and one without
    observations have no value.
    """
    if not 0.0 < alpha < 1.0:
        raise ContractViolation(f"level {alpha}: expected a rate between 0 and 1")
    looked_for = {Side.EITHER: "not", Side.ABOVE: "above", Side.BELOW: "below"}[state.side]
    convention = (
        f"mean of the observations; p-value valid at any time that the true mean is {looked_for} "
        f"{state.null:g}, normal mixture of weight {state.rho:.6g}, variance frozen at "
        f"{state.variance:.6g}; asymptotic unless that is known"
    )
    problem = None
    if state.broken:
        problem = "an observation was infinite, or their sum left the range of numbers"
    elif state.count == 0:
        problem = "there are no observations yet"
    if problem is not None:
        return Statistic(
            value=None,
            sample_size=state.count,
            convention=convention,
            undefined=problem,
            details={"missing": state.missing},
        )
    v = state.count * state.variance
    reach = mixture_bound(v, rho=state.rho, side=state.side, alpha=alpha) / state.count
    mean = state.total / state.count
    details = {
        "missing": state.missing,
        "log_likelihood_ratio": log_mixture(state.total, v, rho=state.rho, side=state.side),
        "largest_log_likelihood_ratio": state.largest,
        "alpha": alpha,
    }
    if state.side is not Side.EITHER:
        details["bound"] = state.null + mean + (reach if state.side is Side.BELOW else -reach)
    return Statistic(
        value=state.null + mean,
        sample_size=state.count,
        convention=convention,
        interval=(state.null + mean - reach, state.null + mean + reach)
        if state.side is Side.EITHER
        else None,
        p_value=math.exp(-max(state.largest, 0.0)),
        details=details,
    )
