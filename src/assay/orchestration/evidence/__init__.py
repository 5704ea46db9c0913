"""Evidence about a version: measured, traced to what it came from, and measured again.

1. ``tables`` puts a run's out-of-sample predictions beside the returns that followed, and beside
   the champion's predictions.
2. ``measuring`` measures what a policy asks for, and says of each number what it came from.
3. ``surroundings`` measures what is around the version: the parity proof, the data sets, nights.
4. ``features`` trains again without each group of features; it takes as long as training does.
5. ``recomputing`` measures recorded evidence again and compares every bit.

What measures is imported when it is first asked for: a running server records which code it has,
and measures nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.orchestration.evidence.measuring import Measured, measure
    from assay.orchestration.evidence.recomputing import (
        Recomputation,
        Recomputed,
        recompute_evidence,
    )
    from assay.orchestration.evidence.tables import one_date_per_session

_LATER = {
    "Measured": "assay.orchestration.evidence.measuring",
    "Recomputation": "assay.orchestration.evidence.recomputing",
    "Recomputed": "assay.orchestration.evidence.recomputing",
    "measure": "assay.orchestration.evidence.measuring",
    "one_date_per_session": "assay.orchestration.evidence.tables",
    "recompute_evidence": "assay.orchestration.evidence.recomputing",
}

__all__ = [
    "Measured",
    "Recomputation",
    "Recomputed",
    "measure",
    "one_date_per_session",
    "recompute_evidence",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
