"""Features over history.

1. :mod:`~assay.features.offline.driver` - runs a view over all rows of a source with the one
   kernel, at once or stretch by stretch.
2. :mod:`~assay.features.offline.arrivals` - all versions of all rows, as a live feed issues them.
3. :mod:`~assay.features.offline.bars` - bars of a history of ticks, as known and as corrected.
4. :mod:`~assay.features.offline.store` - the port of stores that keep all versions of all rows, and
   every earlier state of a table; :mod:`~assay.features.offline.parquet` is the embedded one.
5. :mod:`~assay.features.offline.point_in_time` - joins rows to moments as they were known then;
   :mod:`~assay.features.offline.stored_table` does it while the rows stay in a store.
6. :mod:`~assay.features.offline.training_sets` - many views and a label beside a spine, in memory
   or in a file larger than it, pinned to what was read.
7. :mod:`~assay.features.offline.cache` - what was computed once, on disk, for several processes.
"""
