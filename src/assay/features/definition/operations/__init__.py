"""What can be written after an expression's dot, one family of operators per module.

1. :mod:`~assay.features.definition.operations.tree` - the tree itself, and checks of arguments.
2. :mod:`~assay.features.definition.operations.arithmetic` - arithmetic, comparison, logic.
3. :mod:`~assay.features.definition.operations.earlier` - earlier rows.
4. :mod:`~assay.features.definition.operations.rolling` - counts, moments and extremes of windows.
5. :mod:`~assay.features.definition.operations.pairs` - covariance, correlation, slope;
   :mod:`~assay.features.definition.operations.ordered` - medians, quantiles, ranks.
6. :mod:`~assay.features.definition.operations.weighted` - exponentially weighted windows.
7. :mod:`~assay.features.definition.operations.across` - other entities at the same event time.
"""
