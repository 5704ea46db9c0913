"""The offline driver: a view over history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from assay.domain.instants import MIN_INSTANT, render
from assay.errors import ContractViolation, OutOfOrder
from assay.features.definition.views import FeatureView
from assay.features.kernel.frames import check_order, check_rows, last_rows, result_frame
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

    def run_stretches(
        self, stretches: Iterable[pl.DataFrame], *, workers: int = 1
    ) -> Iterator[pl.DataFrame]:
        """The features of a history that is too long for memory, one stretch of time at a time.

        What is remembered between two stretches are the last rows of each entity,
        ``view.remembered`` of them: values depend on no others, so the bits are those of
        :meth:`run` over all rows at once, also of features across entities.

        Parameters
        ----------
        stretches: frames as for :meth:`run`, each of later event times than the one before.
        workers: as for :meth:`run`.

        Returns
        -------
        For each stretch its rows, as :meth:`run` gives them.

        Raises
        ------
        ContractViolation: a frame breaks its contract.
        OutOfOrder: a stretch begins before the one before it has ended.
        """
        view, time = self.view, pl.col("event_time")
        remembered: pl.DataFrame | None = None
        latest = MIN_INSTANT
        for stretch in stretches:
            view.check(stretch.columns)
            rows = stretch.select(*view.key_columns, *view.columns)
            first, last = rows["event_time"].min(), rows["event_time"].max()
            if remembered is not None and isinstance(first, int) and first <= latest:
                raise OutOfOrder(
                    f"view {view.name}: a stretch of history begins at {render(first)}, expected "
                    f"after {render(latest)}",
                    hint="cut history by event time, for all entities at once",
                )
            if remembered is None:
                yield self.run(rows, workers=workers)
            else:
                check_order(view, rows.select(view.key_columns))
                rows = pl.concat([remembered, rows]).sort(view.entity, maintain_order=True)
                yield self.run(rows, workers=workers).filter(time > latest)
            remembered = last_rows(rows, view.entity, view.remembered)
            latest = last if isinstance(last, int) else latest
