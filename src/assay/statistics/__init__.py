"""From arrays to numbers that can be trusted with money: pure functions, no files, no clocks.

1. :mod:`~assay.statistics.statistic` is what each of them answers: a value, its interval or
   p-value, the sample size, the convention by name, and warnings.
2. :mod:`~assay.statistics.panel` groups rows by date: dates are the sample, rows are not.
3. :mod:`~assay.statistics.hac` tests the mean of an autocorrelated dated series; the only place
   where a long-run variance is estimated.
4. :mod:`~assay.statistics.sharpe` measures one series of returns,
   :mod:`~assay.statistics.deflated` the best of many trials,
   :mod:`~assay.statistics.overfitting` the way in which it was chosen,
   :mod:`~assay.statistics.superior` many models against a benchmark, and
   :mod:`~assay.statistics.difference` a challenger against the champion.
5. :mod:`~assay.statistics.resampling` draws dates in blocks for those that need it;
   :mod:`~assay.statistics.samples` says which arrays can be measured at all.
6. Forecasts: :mod:`~assay.statistics.information` (IC and paired differences),
   :mod:`~assay.statistics.forecasts` (QLIKE, Diebold-Mariano, Mincer-Zarnowitz),
   :mod:`~assay.statistics.coverage` (Kupiec, Christoffersen);
   :mod:`~assay.statistics.calibration`, :mod:`~assay.statistics.reliability` and
   :mod:`~assay.statistics.discrimination` for probabilities.
7. Distributions: :mod:`~assay.statistics.distances` of whole samples,
   :mod:`~assay.statistics.stability` of shares of bins, :mod:`~assay.statistics.profile` of columns
   against what was stored with a model, :mod:`~assay.statistics.effective` for how many independent
   rows a persistent series is worth.
8. :mod:`~assay.statistics.performance` of an account, :mod:`~assay.statistics.multiplicity` for
   many tests at once, :mod:`~assay.statistics.sequential` for tests looked at every day.

Poor data gives a value of None and says why; it never gives NaN and never raises. Arguments of the
wrong shape raise :class:`~assay.errors.ContractViolation`.
"""

from assay.statistics.statistic import LEVEL, Statistic

__all__ = ["LEVEL", "Statistic"]
