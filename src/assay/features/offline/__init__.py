"""Features over history.

1. :mod:`~assay.features.offline.driver` - runs a view over all rows of a source with the one
   kernel, at once or stretch by stretch.
2. :mod:`~assay.features.offline.arrivals` - all versions of all rows, as a live feed issues them.
3. :mod:`~assay.features.offline.bars` - bars of a history of ticks, as known and as corrected.
4. :mod:`~assay.features.offline.cache` - what was computed once, on disk, for several processes.
"""
