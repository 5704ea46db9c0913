"""The offline driver: a view over history."""

from __future__ import annotations

import numpy as np
import polars as pl

from assay.errors import ContractViolation
from assay.features.definition.views import FeatureView
from assay.features.kernel.frames import check_rows, result_frame
from assay.features.kernel.layout import Machine, features_of
from assay.features.kernel.sections import Sections, run_shares, shares

DEFAULT_CHUNK = 256


class OfflineDriver:
    """Computes every row of a history.

    The kernel runs entity by entity, ``chunk`` rows at a time; features across entities follow,
    event time by event time. Neither the chunk nor the number of workers changes a bit of the
    result.

    Parameters
    ----------
    view: what to compute.
    chunk: rows per call of an instruction; a matter of speed and memory only.
    """

    def __init__(self, view: FeatureView, *, chunk: int = DEFAULT_CHUNK) -> None:
        if chunk < 1:
            raise ContractViolation(f"chunk {chunk}: expected at least one row")
        self.view = view
        self._first = Machine.build(view.plan.first, chunk)

    def run(self, frame: pl.DataFrame, *, workers: int = 1) -> pl.DataFrame:
        """The features of every row, in the order of the rows.

        Parameters
        ----------
        frame: the source, see :func:`~assay.features.kernel.frames.check_rows` for its contract.
        workers: threads among which entities, and then event times, are divided; the kernel runs
            without Python's lock.

        Returns
        -------
        entity, event_time, known_time, source_rank, sequence, then the features (Float64).
        ``known_time`` is the latest of all rows that the row depends on; a missing value is NaN.

        Raises
        ------
        ContractViolation: the frame breaks its contract.
        """
        if workers < 1:
            raise ContractViolation(f"workers {workers}: expected at least one")
        rows = check_rows(self.view, frame)
        first = np.empty((len(self._first.program.outputs), rows.count))
        run_shares(self._first, shares(rows.starts, workers, fresh=1), rows.inputs, first)
        second = None
        if self.view.has_barrier:
            second = Sections(self.view).of_history(rows, first, workers=workers)
        return result_frame(self.view, rows, features_of(self.view, first, second))
