"""A batch of rows as the arguments of the write script, and what its answer means."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from assay.adapters.redis.keys import ViewKeys
from assay.adapters.redis.scripts import CONFLICT, FOREIGN_LAYOUT
from assay.domain.clock import Clock
from assay.domain.instants import NANOS_PER_SECOND, Instant
from assay.errors import AssayError, ContractViolation, IncompatibleVersion, Tampered
from assay.features.online.store import StoredRow, conflicting, pack_row

MOST_ROWS = 100_000
MOST_BYTES = 64 * 2**20
"""What one batch may hold: a server does nothing else while it takes it, a second or two."""

LEAST_LIFE = 3_600 * NANOS_PER_SECOND
"""How long a row is kept that was older than its retention when it was written."""

_NANOS_PER_MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Expiry:
    """When the rows of a view end: so long after the event, as the clock of the store tells it.

    A replay has a clock of its own, so what it writes lives as long as it did then. What is past
    its retention already (a backfill) stays for :data:`LEAST_LIFE`: long enough to be proven, and
    not for ever.
    """

    retention: int
    clock: Clock

    def life(self, event_time: Instant) -> int:
        """Milliseconds from now, rounded up."""
        left = max(event_time + self.retention - self.clock.now(), LEAST_LIFE)
        return -(-left // _NANOS_PER_MILLISECOND)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one view, by entity and in ascending order, each place once."""

    view: str
    rows: Sequence[StoredRow]
    keys: Sequence[bytes]
    arguments: Sequence[Any]

    @classmethod
    def of(
        cls,
        view: str,
        rows: Iterable[StoredRow],
        keys: ViewKeys,
        *,
        max_versions: int,
        expiry: Expiry | None,
    ) -> Batch:
        """Pack rows.

        Raises
        ------
        ContractViolation: a row is malformed, or there are more than :data:`MOST_ROWS` rows or
            :data:`MOST_BYTES` bytes.
        Conflict: two of them have one place and different content.
        """
        by_entity = _by_entity(view, rows)
        ordered: list[StoredRow] = []
        packed: list[bytes] = []
        names: list[bytes] = [keys.marker, keys.nothing]
        shape: list[int] = []
        newest, earlier = keys.newest, keys.earlier
        for entity, places in by_entity.items():
            encoded = entity.encode()
            names += (newest + encoded, earlier + encoded)
            versions = sorted(places) if len(places) > 1 else list(places)
            shape += (len(versions), -1 if expiry is None else expiry.life(versions[-1][0]))
            for key in versions:
                row, data = places[key]
                ordered.append(row)
                packed.append(data)
        size = sum(map(len, packed))
        if len(packed) > MOST_ROWS or size > MOST_BYTES:
            raise ContractViolation(
                f"view {view}: a batch of {len(packed):,} rows with {size:,} bytes, expected at "
                f"most {MOST_ROWS:,} rows with {MOST_BYTES:,} bytes",
                hint="write several batches; each is written whole or not at all",
            )
        layout = packed[0][:2] if packed else b""  # the one that this build packs
        shapes = struct.pack("<" + "id" * len(by_entity), *shape)
        lengths = struct.pack(f"<{len(packed)}i", *map(len, packed))
        arguments = (max_versions - 1, layout, shapes, lengths, b"".join(packed))
        return cls(view, ordered, names, arguments)

    def refusal(self, reason: int, number: int, where: str) -> AssayError:
        """The error for what the script refused; ``number`` is the row's place in the batch."""
        row = self.rows[number]
        if reason == CONFLICT:
            return conflicting(self.view, row)
        if reason == FOREIGN_LAYOUT:
            return IncompatibleVersion(
                f"{where}: rows of {row.entity!r} in view {self.view} have another layout",
                hint="another build wrote them: use that one, or another namespace",
            )
        return Tampered(f"{where}: stored row of {row.entity!r} in view {self.view} is cut short")


_Places: TypeAlias = "dict[tuple[int, int, int, int], tuple[StoredRow, bytes]]"


def _by_entity(view: str, rows: Iterable[StoredRow]) -> dict[str, _Places]:
    found: dict[str, _Places] = {}
    for row in rows:
        packed = pack_row(view, row)
        place = row[1:5]
        places = found.get(row.entity)
        if places is None:
            found[row.entity] = {place: (row, packed)}
        elif places.setdefault(place, (row, packed))[1] != packed:
            raise conflicting(view, row)
    return found
