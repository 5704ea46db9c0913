"""The proof that both drivers agree, and that a store holds what history says.

1. Take what the offline and the online side computed for the same rows.
2. :func:`compare` matches rows by key and compares every value by its bits; the
   :class:`ParityReport` counts, measures distances and names the worst rows.
3. A :class:`ParityPolicy` judges it: by bits, or by the distance of distributions.
4. :func:`read_stored` and :func:`compare_store` do the same for an online store, and put every day
   under a :class:`MerkleTree`'s root, by which two parties compare without showing rows.
   :func:`check_answers` asks the store as a service does, at every moment at which answers change.
5. :class:`OfflineStoreValidator` does that on a schedule.

:func:`detect_look_ahead` uses the same comparison to see whether a value knew the future, and
:func:`measure_look_back` to find how much of the past it needs.
"""

from assay.features.parity.answers import Answers, WrongAnswer, check_answers
from assay.features.parity.comparison import (
    Difference,
    DifferenceKind,
    FeatureParity,
    ParityReport,
    compare,
)
from assay.features.parity.days import (
    DayRoots,
    DayTree,
    chained_root,
    compare_days,
    day_trees,
    row_leaf,
)
from assay.features.parity.horizon import Horizon
from assay.features.parity.look_ahead import LookAheadReport, detect_look_ahead, measure_look_back
from assay.features.parity.merkle import (
    Blocks,
    InclusionProof,
    MerkleTree,
    first_difference,
    proves_inclusion,
)
from assay.features.parity.policy import Judgement, ParityPolicy, ParityRule
from assay.features.parity.stored import (
    RefusedRow,
    StoreComparison,
    Stored,
    compare_store,
    complete_since,
    read_stored,
)
from assay.features.parity.validator import Authority, OfflineStoreValidator, StoreValidation

__all__ = [
    "Answers",
    "Authority",
    "Blocks",
    "DayRoots",
    "DayTree",
    "Difference",
    "DifferenceKind",
    "FeatureParity",
    "Horizon",
    "InclusionProof",
    "Judgement",
    "LookAheadReport",
    "MerkleTree",
    "OfflineStoreValidator",
    "ParityPolicy",
    "ParityReport",
    "ParityRule",
    "RefusedRow",
    "StoreComparison",
    "StoreValidation",
    "Stored",
    "WrongAnswer",
    "chained_root",
    "check_answers",
    "compare",
    "compare_days",
    "compare_store",
    "complete_since",
    "day_trees",
    "detect_look_ahead",
    "first_difference",
    "measure_look_back",
    "proves_inclusion",
    "read_stored",
    "row_leaf",
]
