"""What stored rows are to a model: made once for a row, however many requests read it.

A prediction is a function of the version's bytes and the row's. As long as the store gives the same
row, the columns taken from it, their JSON and the model's answer are what they were, bit for bit;
making them again is most of what an answer costs. The store is still asked by every request.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

_ENTITIES = 10_000
_encode = msgspec.json.Encoder().encode


class ReadRow(msgspec.Struct, frozen=True, gc=False):
    """A stored row as a model reads it, and what the model answers to it.

    Attributes
    ----------
    source: the row's own array. features: the model's columns of it. value: the answer.
    by_name, in_order: the features as JSON, an object and an array.
    """

    source: NDArray[np.float64]
    features: tuple[float, ...]
    value: float
    by_name: msgspec.Raw
    in_order: msgspec.Raw


class ReadRows:
    """The last row of each entity that one model has read; all are forgotten when they are many."""

    def __init__(self) -> None:
        self._rows: dict[str, ReadRow] = {}

    def find(self, entity: str, source: NDArray[np.float64] | None) -> ReadRow | None:
        """What was kept of the row with this very array; None if it was another row."""
        row = self._rows.get(entity)
        return row if row is not None and row.source is source else None

    def keep(
        self,
        entity: str,
        source: NDArray[np.float64] | None,
        names: tuple[str, ...],
        features: list[float],
        value: float,
    ) -> ReadRow | None:
        """Have a row found as long as the entity has no other; None, and nothing is kept, where it
        cannot be told from another one by its array, or somebody could write to it.
        """
        if source is None or source.flags.writeable:
            return None
        named = dict(zip(names, features, strict=True))
        row = ReadRow(
            source,
            tuple(features),
            value,
            msgspec.Raw(_encode(named)),
            msgspec.Raw(_encode(features)),
        )
        if len(self._rows) >= _ENTITIES:
            self._rows.clear()
        self._rows[entity] = row
        return row
