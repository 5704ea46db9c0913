"""From arrays to numbers that can be trusted with money: pure functions, no files, no clocks.

1. :mod:`~assay.statistics.statistic` is what each of them answers: a value, its interval or
   p-value, the sample size, the convention by name, and warnings.
2. :mod:`~assay.statistics.panel` groups rows by date: dates are the sample, rows are not.
3. :mod:`~assay.statistics.hac` tests the mean of an autocorrelated dated series; the only place
   where a long-run variance is estimated.

Poor data gives a value of None and says why; it never gives NaN and never raises. Arguments of the
wrong shape raise :class:`~assay.errors.ContractViolation`.
"""

from assay.statistics.statistic import LEVEL, Statistic

__all__ = ["LEVEL", "Statistic"]
