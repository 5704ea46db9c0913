"""Rows of a view by UTC day of their event time, each day under one Merkle root.

A leaf is the canonical form of a row::

    u32 length of the entity's UTF-8 | entity
    i64 event time | i64 known time | i64 source rank | i64 sequence
    32 bytes manifest hash
    u32 number of values | the values' float64 bits

all little endian. The leaves of a day stand in the order of entity (by UTF-8 bytes), then of the
four order columns, so that two parties with the same rows have the same root in whatever order they
hold them. Equal roots mean: the same rows, the same bits, computed under the same manifest.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import NANOS_PER_SECOND
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ContractViolation
from assay.features.definition.views import FeatureView
from assay.features.parity.merkle import MerkleTree, first_difference

MANIFEST: Final = "manifest"
"""The column that names the manifest of a row."""
NANOS_PER_DAY: Final = 86_400 * NANOS_PER_SECOND
_EPOCH = date(1970, 1, 1)

RowKey: TypeAlias = tuple[str, int, int, int, int]
"""Entity and the four order columns."""


def row_leaf(key: RowKey, manifest: str, values: NDArray[np.float64]) -> bytes:
    """The canonical bytes of one row.

    Raises
    ------
    ContractViolation: the manifest is not 64 hexadecimal digits.
    """
    place = struct.pack("<4q", *key[1:])
    return _head(key[0]) + place + _middle(manifest, values.size) + values.astype("<f8").tobytes()


@dataclass(frozen=True, slots=True)
class DayTree:
    """The rows of one day: their keys in order and the tree over them."""

    day: str
    keys: tuple[RowKey, ...]
    tree: MerkleTree


@dataclass(frozen=True, slots=True)
class DayRoots:
    """One day on both sides: how many rows and their roots in hexadecimal.

    ``first`` is the first row that differs, in the order of rows, and ``what`` how: ``missing``
    online, ``extra`` online, or ``changed``. Both are None where the roots are equal.
    """

    day: str
    offline_rows: int
    online_rows: int
    offline_root: str
    online_root: str
    first: RowKey | None = None
    what: str | None = None

    @property
    def equal(self) -> bool:
        """Whether both sides hold the same rows, bit for bit."""
        return self.offline_root == self.online_root

    def to_json(self) -> dict[str, Any]:
        return {
            "day": self.day,
            "offline_rows": self.offline_rows,
            "online_rows": self.online_rows,
            "offline_root": self.offline_root,
            "online_root": self.online_root,
            "equal": self.equal,
            "first": None if self.first is None else list(self.first),
            "what": self.what,
        }


def day_trees(view: FeatureView, rows: pl.DataFrame) -> dict[str, DayTree]:
    """A tree per UTC day of event time, by the day's ISO date, in order.

    Parameters
    ----------
    rows: the view's entity, the four order columns, ``manifest``, and the features as Float64
        without nulls; in any order.

    Raises
    ------
    ContractViolation: a column is missing, a value is null or a manifest is no hash.
    """
    wanted = [*view.key_columns, MANIFEST, *view.feature_names]
    absent = [name for name in wanted if name not in rows.columns]
    if absent:
        raise ContractViolation(f"rows of view {view.name} have no column {absent[0]!r}")
    nulls = [name for name in wanted if rows[name].null_count()]
    if nulls:
        raise ContractViolation(
            f"rows of view {view.name}: column {nulls[0]} has nulls, expected NaN for missing"
        )
    days = (pl.col("event_time") // NANOS_PER_DAY).alias("_day")
    ordered = rows.select(days, *wanted).sort("_day", *view.key_columns)
    leaves = _leaves(view, ordered)
    keys: list[RowKey] = ordered.select(view.key_columns).rows()
    numbers = ordered["_day"].to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    found = {}
    for start, stop in pairwise(starts):
        if start < stop:
            day = (_EPOCH + timedelta(days=int(numbers[start]))).isoformat()
            found[day] = DayTree(day, tuple(keys[start:stop]), MerkleTree(leaves[start:stop]))
    return found


def compare_days(
    offline: Mapping[str, DayTree], online: Mapping[str, DayTree]
) -> tuple[DayRoots, ...]:
    """Both sides day by day, the earliest first, with the first row in which a day differs."""
    return tuple(
        _roots(day, offline.get(day), online.get(day)) for day in sorted({*offline, *online})
    )


def chained_root(roots: Sequence[str]) -> str:
    """One root over the roots of days, in their order; hexadecimal."""
    return MerkleTree(bytes.fromhex(root) for root in roots).root.hex()


def _roots(day: str, offline: DayTree | None, online: DayTree | None) -> DayRoots:
    mine = offline or DayTree(day, (), MerkleTree(()))
    theirs = online or DayTree(day, (), MerkleTree(()))
    place = first_difference(mine.tree, theirs.tree)
    first, what = None, None
    if place is not None:
        here = mine.keys[place] if place < len(mine.keys) else None
        there = theirs.keys[place] if place < len(theirs.keys) else None
        if here == there:
            first, what = here, "changed"
        elif there is None or (here is not None and _order(here) < _order(there)):
            first, what = here, "missing"
        else:
            first, what = there, "extra"
    return DayRoots(
        day,
        len(mine.keys),
        len(theirs.keys),
        mine.tree.root.hex(),
        theirs.tree.root.hex(),
        first,
        what,
    )


def _order(key: RowKey) -> tuple[bytes, int, int, int, int]:
    return key[0].encode(), *key[1:]


def _leaves(view: FeatureView, ordered: pl.DataFrame) -> list[bytes]:
    width = 8 * len(view.feature_names)
    values = ordered.select(view.feature_names).to_numpy()
    packed = np.ascontiguousarray(values, dtype="<f8").tobytes()
    places = np.ascontiguousarray(ordered.select(ORDER_COLUMNS).to_numpy(), dtype="<i8").tobytes()
    heads = {name: _head(name) for name in ordered[view.entity].unique().to_list()}
    middles = {one: _middle(one, width // 8) for one in ordered[MANIFEST].unique().to_list()}
    return [
        heads[entity]
        + places[32 * row : 32 * row + 32]
        + middles[manifest]
        + packed[width * row : width * row + width]
        for row, (entity, manifest) in enumerate(
            zip(ordered[view.entity].to_list(), ordered[MANIFEST].to_list(), strict=True)
        )
    ]


def _head(entity: str) -> bytes:
    name = entity.encode()
    return struct.pack("<I", len(name)) + name


def _middle(manifest: str, count: int) -> bytes:
    try:
        hash_bytes = bytes.fromhex(manifest)
    except ValueError:
        hash_bytes = b""
    if len(hash_bytes) != 32:
        raise ContractViolation(f"manifest {manifest!r}: expected 64 hexadecimal digits")
    return hash_bytes + struct.pack("<I", count)
