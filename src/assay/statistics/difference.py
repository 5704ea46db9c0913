"""Challenger against champion on the same dates: differences of paired series.

The two series are correlated, often strongly; the difference is far better known than either. The
gate is a studentised circular block bootstrap that resamples both sides together. Larger is better
and the difference is challenger minus champion. A missing or infinite value on either side gives
no value: pair the dates first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from assay.errors import ContractViolation
from assay.statistics.hac import MeanTest, long_run_variance, mean_test, newey_west_lag
from assay.statistics.panel import FloatArray, numbers_of
from assay.statistics.resampling import block_lengths, circular_indices
from assay.statistics.samples import ROUNDING, matrix_of, varying
from assay.statistics.sharpe import sharpe_influence
from assay.statistics.statistic import LEVEL, Statistic, number, overflow_becomes_undefined

RESAMPLES = 1000
CHUNK = 250
FEWEST_BLOCKS = 10
"""A variance of block sums needs some; longer blocks are shortened to leave this many."""

Resampled = Callable[[npt.NDArray[np.int64]], tuple[FloatArray, FloatArray]]
"""From drawn dates (B, T) to the estimates (B,) and what each date adds to them (B, T)."""


@overflow_becomes_undefined
def sharpe_difference(
    challenger: npt.ArrayLike,
    champion: npt.ArrayLike,
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    block_length: int | None = None,
) -> Statistic:
    """Sharpe ratio per period of the challenger minus that of the champion, both of shape (T,).

    Ledoit and Wolf (2008), "Robust performance hypothesis testing with the Sharpe ratio", Journal
    of Empirical Finance 15: studentised circular block bootstrap, HAC error of the sample
    (Bartlett here), error of each resample from its block sums. ``p_value`` is one-sided, against
    the challenger being no better, (1 + #)/(B + 1); the interval is two-sided and symmetric. The
    details hold the two-sided p-value and the test of Jobson and Korkie (1981) as corrected by
    Memmel (2003), "Performance hypothesis testing with the Sharpe ratio", Finance Letters 1, which
    holds for independent normal returns only.

    Raises
    ------
    ContractViolation: shapes differ or are not (T,), no resamples, or a block length outside 1..T.
    """
    convention = (
        "Sharpe ratio per period of challenger minus champion; one-sided p-value of the studentised"
        f" circular block bootstrap of Ledoit and Wolf (2008), {resamples} resamples, (1 + #)/"
        "(B + 1)"
    )
    pair = _pair(challenger, champion, "returns")
    if not isinstance(pair, str) and not varying(np.stack(pair, axis=1)).all():
        pair = "the returns of one side never vary: it has no Sharpe ratio"
    if isinstance(pair, str):
        return Statistic(
            value=None, sample_size=np.size(champion), convention=convention, undefined=pair
        )
    one, two = pair
    size = len(one)
    ratios = [float(side.mean() / side.std(ddof=1)) for side in pair]
    value = ratios[0] - ratios[1]
    influence = _distinct(sharpe_influence(one), sharpe_influence(two))
    # The ratios of the resamples have ddof 0, as Ledoit and Wolf have them: scaled to ddof 1 they
    # are centred on the value.
    scale = math.sqrt((size - 1) / size)

    def resampled(dates: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        first, first_influence = _ratios(one[dates])
        second, second_influence = _ratios(two[dates])
        return scale * (first - second), scale * (first_influence - second_influence)

    found = _studentised(value, influence, resampled, generator, resamples, block_length)
    if isinstance(found, str):
        return Statistic(value=None, sample_size=size, convention=convention, undefined=found)
    correlation = float(np.corrcoef(one, two)[0, 1])
    memmel = memmel_variance(ratios[0], ratios[1], correlation)
    z = value / math.sqrt(memmel / size) if memmel > 0 else math.nan
    details = {
        "challenger": number(ratios[0]),
        "champion": number(ratios[1]),
        "correlation": number(correlation),
        "jobson_korkie_memmel_z": number(z),
        "jobson_korkie_memmel_p_value": number(ndtr(-z)),
    }
    return _answer(value, convention, size, found, details)


@overflow_becomes_undefined
def mean_difference(
    challenger: npt.ArrayLike,
    champion: npt.ArrayLike,
    *,
    generator: np.random.Generator,
    horizon: int = 1,
    what: str = "daily values",
    resamples: int = RESAMPLES,
    block_length: int | None = None,
) -> Statistic:
    """Mean of challenger minus champion: daily returns, daily ICs, daily negative losses.

    Both have shape (T,), one value per date; ``horizon`` is how many dates a label spans, and
    blocks are at least that long. Studentised circular block bootstrap as in
    :func:`sharpe_difference` (Gotze and Kunsch 1996, "Second-order correctness of the blockwise
    bootstrap", Annals of Statistics 24); the Newey-West t-test stands beside it in the details.

    Raises
    ------
    ContractViolation: shapes differ or are not (T,), no resamples, or a block length outside 1..T.
    """
    convention = (
        f"mean over dates of challenger minus champion of {what}; one-sided p-value of the "
        f"studentised circular block bootstrap, {resamples} resamples, (1 + #)/(B + 1), blocks of "
        f"at least {horizon} dates"
    )
    pair = _pair(challenger, champion, what)
    if isinstance(pair, str):
        return Statistic(
            value=None, sample_size=np.size(champion), convention=convention, undefined=pair
        )
    series = pair[0] - pair[1]
    centred = _distinct(pair[0] - pair[0].mean(), pair[1] - pair[1].mean())

    def resampled(dates: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
        drawn = centred[dates]
        means = drawn.mean(axis=1)
        return means + series.mean(), drawn - means[:, None]

    found = _studentised(
        float(series.mean()), centred, resampled, generator, resamples, block_length, horizon
    )
    if isinstance(found, str):
        return Statistic(
            value=None, sample_size=len(series), convention=convention, undefined=found
        )
    beside = mean_test(series, horizon=horizon)
    hac = beside.p_greater if isinstance(beside, MeanTest) else None
    details = {
        "challenger": number(pair[0].mean()),
        "champion": number(pair[1].mean()),
        "newey_west_p_value": number(hac),
    }
    return _answer(float(series.mean()), convention, len(series), found, details)


def memmel_variance(one: float, two: float, correlation: float) -> float:
    """T times the variance of SR_1 - SR_2 for independent normal returns.

    2 (1 - rho) + (SR_1^2 + SR_2^2 - 2 SR_1 SR_2 rho^2)/2: Memmel (2003).
    """
    return 2 * (1 - correlation) + (one * one + two * two - 2 * one * two * correlation**2) / 2


@dataclass(frozen=True, slots=True)
class _Bootstrap:
    """What a studentised bootstrap found; ``half`` is half of the interval's width."""

    error: float
    lag: int
    length: int
    blocks: int
    resamples: int
    p_greater: float
    p_two_sided: float
    half: float


def _studentised(
    value: float,
    influence: FloatArray,
    resampled: Resampled,
    generator: np.random.Generator,
    resamples: int,
    block_length: int | None,
    horizon: int = 1,
) -> _Bootstrap | str:
    size = len(influence)
    if resamples < 1:
        raise ContractViolation(f"{resamples} resamples: expected at least 1")
    if block_length is not None and not 1 <= block_length <= size:
        raise ContractViolation(f"block length {block_length}: expected 1 to {size}")
    if not influence.any():
        return "the two series never differ by more than a constant"
    lag = newey_west_lag(size, horizon=horizon)
    error = math.sqrt(long_run_variance(influence, lag) / size)
    if not error > 0:
        return f"the standard error of the difference is {error:.6g}"
    length = block_length or _automatic(influence, horizon)
    blocks = size // length
    statistics = []
    for done in range(0, resamples, CHUNK):
        dates = circular_indices(size, length, min(CHUNK, resamples - done), generator)
        estimates, added = resampled(dates)
        whole = added[:, : blocks * length].reshape(len(dates), blocks, length)
        sums = whole.sum(axis=2)
        spread = np.sqrt(np.square(sums).mean(axis=1) / length / size)
        statistics.append((estimates - value) / spread)
    drawn = np.concatenate(statistics)
    # A resample that happens to have no spread says nothing against the null: it counts for it.
    drawn = np.where(np.isfinite(drawn), drawn, np.inf)
    observed = value / error
    return _Bootstrap(
        error=error,
        lag=lag,
        length=length,
        blocks=blocks,
        resamples=resamples,
        p_greater=(1 + int((drawn >= observed).sum())) / (resamples + 1),
        p_two_sided=(1 + int((np.abs(drawn) >= abs(observed)).sum())) / (resamples + 1),
        half=error * float(np.quantile(np.abs(drawn), LEVEL, method="higher")),
    )


def _distinct(one: FloatArray, two: FloatArray) -> FloatArray:
    """One minus two; all zeros when they differ by rounding only (a levered copy, say)."""
    difference = one - two
    size = max(float(np.abs(one).max()), float(np.abs(two).max()))
    small = float(np.abs(difference).max()) <= ROUNDING * size
    return np.zeros_like(difference) if small else difference


def _automatic(influence: FloatArray, horizon: int) -> int:
    chosen = math.ceil(float(block_lengths(influence[:, None], scheme="circular")[0]))
    most = max(len(influence) // FEWEST_BLOCKS, 1)
    return max(1, min(max(chosen, horizon), most))


def _ratios(drawn: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ratios (ddof 0) of resamples of shape (B, T) and what each date adds to them."""
    means = drawn.mean(axis=1, keepdims=True)
    centred = drawn - means
    spread = np.sqrt(np.square(centred).mean(axis=1, keepdims=True))
    ratios = means / spread
    standard = centred / spread
    return ratios[:, 0], standard - ratios / 2 * (np.square(standard) - 1)


def _pair(
    challenger: npt.ArrayLike, champion: npt.ArrayLike, what: str
) -> tuple[FloatArray, FloatArray] | str:
    """Both sides as float64 of shape (T,), or why they cannot be compared. Either may be still."""
    sides = numbers_of(challenger, what=what), numbers_of(champion, what=what)
    if sides[0].shape != sides[1].shape or sides[0].ndim != 1:
        raise ContractViolation(
            f"challenger {sides[0].shape} and champion {sides[1].shape}: expected (T,) twice"
        )
    pair = matrix_of(np.stack(sides, axis=1), what=what)
    return pair if isinstance(pair, str) else sides


def _answer(
    value: float,
    convention: str,
    size: int,
    found: _Bootstrap,
    details: dict[str, float | None],
) -> Statistic:
    warnings = []
    if found.blocks < 2 * FEWEST_BLOCKS:
        warnings.append(
            f"Only {found.blocks} blocks of {found.length} dates: the p-value is rough."
        )
    return Statistic(
        value=value,
        sample_size=size,
        convention=convention,
        interval=(value - found.half, value + found.half),
        p_value=found.p_greater,
        warnings=tuple(warnings),
        details={
            **details,
            "statistic": number(value / found.error),
            "standard_error": number(found.error),
            "p_value_two_sided": number(found.p_two_sided),
            "block_length": found.length,
            "blocks": found.blocks,
            "lag": found.lag,
            "resamples": found.resamples,
            "level": LEVEL,
        },
    )
