"""The compiled steps: the only implementation of every operator.

1. :mod:`~assay.features.kernel.words` - memory and machine words as the steps need them.
2. :mod:`~assay.features.kernel.elementwise`, :mod:`~assay.features.kernel.logarithm` - one row, or
   one row and one earlier row.
3. :mod:`~assay.features.kernel.moments` - rolling sum, mean and variance by exact accumulators;
   :mod:`~assay.features.kernel.pairs` - covariance, correlation, slope by the same;
   :mod:`~assay.features.kernel.trend` - the slope over rows;
   :mod:`~assay.features.kernel.shape` - skewness and kurtosis.
4. :mod:`~assay.features.kernel.ordered` - quantiles and ranks of windows;
   :mod:`~assay.features.kernel.recency` - how long ago something was;
   :mod:`~assay.features.kernel.weighted`, :mod:`~assay.features.kernel.decay` - weights that fall
   off exponentially.
5. :mod:`~assay.features.kernel.cross_section` - rank, demean, z-score across entities.
6. :mod:`~assay.features.kernel.engine` - ``run``, the one function that executes a program with
   them.
7. :mod:`~assay.features.kernel.layout` - a program as arrays, and the state of an entity.
8. :mod:`~assay.features.kernel.calendar`, :mod:`~assay.features.kernel.frames` and
   :mod:`~assay.features.kernel.requests` - the edges: dates, tables, requests.
9. :mod:`~assay.features.kernel.fingerprint` - which build it was, and its golden bits.

Law: the bits of a value depend on the rows that it may look at and on nothing else.
"""
