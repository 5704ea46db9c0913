"""The schemes as scikit-learn knows them: objects with ``split`` and ``get_n_splits``.

scikit-learn asks nothing more of a cross-validator and is not needed here. Its own ones know rows
and no times; these are made with the times of the rows that will be split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import ContractViolation
from assay.training.splits import (
    CombinatorialPurged,
    Index,
    RowTimes,
    Split,
    WalkForward,
    combinatorial_purged,
    walk_forward,
)

Scheme: TypeAlias = WalkForward | CombinatorialPurged


def splits_of(times: RowTimes, scheme: Scheme) -> tuple[Split, ...]:
    """The splits of any scheme; errors as the schemes' own functions."""
    if isinstance(scheme, WalkForward):
        return walk_forward(times, scheme)
    return combinatorial_purged(times, scheme)


@dataclass(frozen=True, slots=True, eq=False)
class Splitter:
    """A scheme over given rows, for ``cross_val_score``, ``GridSearchCV`` and the like (``cv=``).

    ``CombinatorialPurged(groups=k, tested=1)`` is the purged k-fold. A walk-forward does not test
    its first rows and a combinatorial scheme tests rows several times: ``cross_val_predict``, which
    wants each row once, takes a k-fold only.

    Attributes
    ----------
    times: of the rows of X, in their order.
    scheme: how they are split.
    """

    times: RowTimes
    scheme: Scheme

    def split(
        self,
        X: Any,
        y: Any = None,
        groups: Any = None,
    ) -> Iterator[tuple[Index, Index]]:
        """Row numbers to train on and to test on, ascending, split by split.

        Raises
        ------
        ContractViolation: X has another number of rows than the times; or as the scheme.
        """
        rows = X.shape[0] if hasattr(X, "shape") else len(X)
        if rows != len(self.times):
            raise ContractViolation(
                f"X has {rows} rows, the times of the splitter {len(self.times)}: expected the "
                "same rows in the same order",
                hint="for a part of them: splitter.take(rows)",
            )
        for one in splits_of(self.times, self.scheme):
            yield one.train_index, one.test_index

    def get_n_splits(
        self,
        X: Any = None,
        y: Any = None,
        groups: Any = None,
    ) -> int:
        """How many splits there are."""
        scheme = self.scheme
        return scheme.folds if isinstance(scheme, WalkForward) else scheme.splits

    def take(self, rows: ArrayLike) -> Splitter:
        """The same scheme over some of the rows, by number: for a search inside one fold."""
        chosen = np.asarray(rows, dtype=np.int64)
        times = self.times
        return Splitter(
            RowTimes(
                times.as_of[chosen],
                times.label_start[chosen],
                times.label_end[chosen],
                times.label_known[chosen],
            ),
            self.scheme,
        )
