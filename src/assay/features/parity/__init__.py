"""The proof that both drivers agree.

1. Take what the offline and the online driver computed for the same rows.
2. :func:`compare` matches rows by key and compares every value by its bits.
3. The :class:`ParityReport` counts, per feature and in all, and shows the first rows that differ.

:func:`detect_look_ahead` uses the same comparison to see whether a value knew the future.
"""

from assay.features.parity.comparison import (
    Difference,
    FeatureParity,
    ParityReport,
    compare,
)
from assay.features.parity.look_ahead import LookAheadReport, detect_look_ahead

__all__ = [
    "Difference",
    "FeatureParity",
    "LookAheadReport",
    "ParityReport",
    "compare",
    "detect_look_ahead",
]
