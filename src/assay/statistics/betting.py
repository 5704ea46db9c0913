"""Whether the mean of bounded observations has left a limit, judged at any time, by betting.

Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", Journal
of the Royal Statistical Society B 86. For observations in [0, 1] whose mean given the past is at
most m, somebody who stakes the share lambda of what they have on more than m holds

    K = product over observations of (1 + lambda (x - m)),   0 <= lambda < 1 / m,

a supermartingale that starts at 1 and exceeds 1/alpha at any time with probability alpha at most.
So does a mixture over several stakes. Nothing is assumed about the distribution, nor that the
observations are independent: only that the mean given the past keeps the limit. A mean that is at
least m is the same with 1 - x and 1 - m.

After a long stretch within the limit a single product is so small that a later breach would take as
long to be seen. Therefore the stakes begin anew after each era of :data:`ERA` observations; era k
has the level 6 alpha / (pi^2 k^2), which sum to alpha.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from assay.errors import ContractViolation
from assay.statistics.sequential import Side

ERA = 500
STAKES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Shares of the largest stake that could never lose everything."""
_BASEL = math.log(math.pi**2 / 6)


@dataclass(frozen=True, slots=True)
class BettingTest:
    """The state of one test of a bounded mean, between observations; begins empty.

    Attributes
    ----------
    limit: the mean at the border of the null hypothesis, within (0, 1).
    side: ``above`` looks for a mean above the limit, ``below`` for one below it.
    eras: whether the stakes begin anew after each era; without, a mean that lies barely beyond the
        limit is found, but a late change is not found soon.
    count, total: observations, and their sum.
    logs: log capital of each stake in this era. era, in_era: its number from 1, and observations.
    largest: the largest log evidence so far, each era's at its level.
    """

    limit: float
    side: Side
    eras: bool = True
    count: int = 0
    total: float = 0.0
    logs: tuple[float, ...] = field(default=(0.0,) * len(STAKES))
    era: int = 1
    in_era: int = 0
    largest: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.limit < 1.0 or self.side is Side.EITHER:
            raise ContractViolation(
                f"bet on a mean {self.side} {self.limit}: expected one side of a limit in (0, 1)"
            )

    @property
    def mean(self) -> float | None:
        """Of the observations; None before the first."""
        return self.total / self.count if self.count else None

    @property
    def p_value(self) -> float:
        """Valid whenever one looks."""
        return math.exp(-max(self.largest, 0.0))

    def rejects(self, alpha: float) -> bool:
        """Whether the mean has left the limit, wrongly said with probability alpha at most."""
        return self.p_value <= alpha


def bet(state: BettingTest, observations: Iterable[float]) -> BettingTest:
    """The state after observations in order of time, each in [0, 1].

    Raises
    ------
    ContractViolation: an observation is not within [0, 1].
    """
    above = state.side is Side.ABOVE
    limit = state.limit if above else 1.0 - state.limit
    stakes = [share / limit for share in STAKES]
    logs, era, in_era = list(state.logs), state.era, state.in_era
    count, total, largest = state.count, state.total, state.largest
    for value in observations:
        if not 0.0 <= value <= 1.0:
            raise ContractViolation(f"observation {value}: expected a number in [0, 1]")
        if state.eras and in_era == ERA:
            logs, era, in_era = [0.0] * len(STAKES), era + 1, 0
        gain = (value if above else 1.0 - value) - limit
        logs = [one + math.log1p(stake * gain) for one, stake in zip(logs, stakes, strict=True)]
        in_era, count, total = in_era + 1, count + 1, total + value
        highest = max(logs)
        mixed = highest + math.log(sum(math.exp(one - highest) for one in logs) / len(logs))
        level = _BASEL + 2 * math.log(era) if state.eras else 0.0
        largest = max(largest, mixed - level)
    return replace(
        state, count=count, total=total, logs=tuple(logs), era=era, in_era=in_era, largest=largest
    )
