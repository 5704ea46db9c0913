"""Request-time features: the same program for a table of requests and for one."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.errors import ContractViolation, did_you_mean
from assay.features.definition.requests import RequestView
from assay.features.kernel.frames import TIMES
from assay.features.kernel.layout import Machine

_CHUNK = 512


class RequestFeatures:
    """Computes the features of a :class:`~assay.features.definition.requests.RequestView`.

    There is one method for history and one for a request, and both make the same call of the same
    compiled program: row by row, so their bits are equal. Not to be shared between threads.
    """

    def __init__(self, view: RequestView) -> None:
        self.view = view
        self._one = Machine.build(view.plan.first, 1)
        self._state = self._one.states(1)
        self._segment = np.array([[0, 0, 1, 0]], dtype=np.int64)
        self._input = np.zeros((TIMES + len(view.columns), 1))
        self._output = np.empty((len(view.plan.first.outputs), 1))
        # Checks once that the arrays fit. They stay where they are, and so does what the compiled
        # code is called with.
        self._one.run(self._state, self._segment, self._input, self._output)
        self._call = self._one.call(self._state, self._segment, self._input, self._output)
        self._function, self._address = self._one.function, self._call.ctypes.data
        # A third of the time that numpy takes to read a list and to give one.
        self._write = partial(
            struct.Struct(f"{len(view.columns)}d").pack_into, self._input[TIMES:].data.cast("B"), 0
        )
        self._answer: Any = self._output[1:].reshape(-1).data
        self._many: Machine | None = None

    def compute(self, values: Mapping[str, float | None]) -> NDArray[np.float64]:
        """The features of one request, in the order of ``view.feature_names``.

        Parameters
        ----------
        values: inputs and stored features by name; None or NaN is missing, more names do no harm.

        Raises
        ------
        ContractViolation: a name that the view reads is not there, or is no number.
        """
        row = []
        for name in self.view.columns:
            if name not in values:
                raise self._missing(name, list(values))
            value = values[name]
            if not isinstance(value, int | float | np.number | None):
                raise ContractViolation(
                    f"view {self.view.name}: {name} is {value!r}, expected a number or None"
                )
            row.append(math.nan if value is None else float(value))
        return np.array(self.compute_row(row))

    def compute_row(self, values: Sequence[float]) -> list[float]:
        """:meth:`compute` for a caller that has put the values into the order of ``view.columns``:
        the same bits in less time. NaN is missing.
        """
        self._write(*values)
        self._function(self._address)
        features: list[float] = self._answer.tolist()
        return features

    def with_features(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A table with the features of every row added, in the table's order.

        Parameters
        ----------
        frame: one row per request: its inputs, and the stored features as of its moment, such as
            :func:`~assay.features.offline.training_sets.get_training_set` gives them. Nulls are
            missing.

        Raises
        ------
        ContractViolation: a column is missing, is no number, or a feature's name is taken.
        """
        for name in self.view.columns:
            if name not in frame.columns:
                raise self._missing(name, frame.columns)
        for name in self.view.columns:
            kind = frame.schema[name]
            if not kind.is_numeric() and kind != pl.Boolean:
                raise ContractViolation(
                    f"view {self.view.name}: column {name} is {kind}, expected numbers"
                )
        taken = [name for name in self.view.feature_names if name in frame.columns]
        if taken:
            raise ContractViolation(f"view {self.view.name}: column {taken[0]} is there already")
        inputs = np.zeros((TIMES + len(self.view.columns), frame.height))
        for row, name in enumerate(self.view.columns, start=TIMES):
            inputs[row] = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        outputs = np.empty((len(self.view.plan.first.outputs), frame.height))
        if self._many is None:
            self._many = Machine.build(self.view.plan.first, _CHUNK)
        segment = np.array([[0, 0, frame.height, 1]], dtype=np.int64)
        self._many.run(self._many.states(1), segment, inputs, outputs)
        made: dict[str, Any] = dict(zip(self.view.feature_names, outputs[1:], strict=True))
        return frame.with_columns(pl.Series(name, values) for name, values in made.items())

    def _missing(self, name: str, present: list[str]) -> ContractViolation:
        kind = "an input" if name in self.view.inputs else "a stored feature"
        return ContractViolation(
            f"view {self.view.name}: {name} is not there, {kind} that it reads",
            hint=did_you_mean(name, present) if present else None,
        )
