"""Features over history.

1. :mod:`~assay.features.offline.driver` - runs a view over all rows of a source with the one
   kernel.
"""
