"""From arrays to numbers that can be trusted with money: pure functions, no files, no clocks.

1. :mod:`~assay.statistics.statistic` is what each of them answers: a value, its interval or
   p-value, the sample size, the convention by name, and warnings.
2. :mod:`~assay.statistics.panel` groups rows by date: dates are the sample, rows are not.
3. :mod:`~assay.statistics.hac` tests the mean of an autocorrelated dated series; the only place
   where a long-run variance is estimated.
4. Forecasts: :mod:`~assay.statistics.information` (IC and paired differences),
   :mod:`~assay.statistics.forecasts` (QLIKE, Diebold-Mariano, Mincer-Zarnowitz),
   :mod:`~assay.statistics.coverage` (Kupiec, Christoffersen);
   :mod:`~assay.statistics.calibration`, :mod:`~assay.statistics.reliability` and
   :mod:`~assay.statistics.discrimination` for probabilities.
5. Distributions: :mod:`~assay.statistics.distances` of whole samples,
   :mod:`~assay.statistics.stability` of shares of bins, :mod:`~assay.statistics.profile` of columns
   against what was stored with a model, :mod:`~assay.statistics.effective` for how many independent
   rows a persistent series is worth.
6. :mod:`~assay.statistics.performance` of an account, :mod:`~assay.statistics.multiplicity` for
   many tests at once, :mod:`~assay.statistics.sequential` for tests looked at every day.

Poor data gives a value of None and says why; it never gives NaN and never raises. Arguments of the
wrong shape raise :class:`~assay.errors.ContractViolation`.
"""

from assay.statistics.statistic import LEVEL, Statistic

__all__ = ["LEVEL", "Statistic"]
