"""The bytes of what an online driver, or a feed, remembers.

Layout: a mark of eight letters, the length of the header (8 bytes, little endian), the header
(canonical JSON), the words of all arrays (little endian). The header names the manifest, the layout
and the shapes of the arrays; the SHA-256 of everything before it stands at the end.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.domain.canonical import canonical_bytes
from assay.errors import IncompatibleVersion, Tampered
from assay.features.kernel.layout import LAYOUT_VERSION

_DRIVER = b"ASSAYCKP"
_FEED = b"ASSAYFED"
_FEED_LAYOUT = 1
_BARS = b"ASSAYBAR"
_BARS_LAYOUT = 1
_DIGEST = 32


@dataclass(frozen=True)
class Checkpoint:
    """Everything that an online driver remembers.

    Attributes
    ----------
    manifest: the hash of the view's manifest.
    entities, last_times: per state, whose it is and the event time of its last row.
    closed: the last event time that was closed, None before the first.
    waiting: per open row, (event time, entity, source rank, sequence).
    states: one row per entity.
    open_rows: one row per waiting one: the first stage's output.
    latest_times, latest_values: the latest rows of the entities that the view names: int64 event
        times, and one row per value handed on, one column per entity.
    """

    manifest: str
    entities: tuple[str, ...]
    last_times: tuple[int, ...]
    closed: int | None
    waiting: tuple[tuple[int, str, int, int], ...]
    states: NDArray[np.float64]
    open_rows: NDArray[np.float64]
    latest_times: NDArray[np.int64]
    latest_values: NDArray[np.float64]

    def to_bytes(self) -> bytes:
        """The file content."""
        header = {
            "layout": LAYOUT_VERSION,
            "manifest": self.manifest,
            "entities": self.entities,
            "last_times": self.last_times,
            "closed": self.closed,
            "waiting": self.waiting,
        }
        latest = (self.latest_times.view(np.float64), self.latest_values)
        return _seal(_DRIVER, header, self.states, self.open_rows, *latest)

    @classmethod
    def from_bytes(cls, data: bytes, *, manifest: str) -> Checkpoint:
        """Read a checkpoint that was written under the same manifest.

        Raises
        ------
        Tampered: the bytes are not what was written.
        IncompatibleVersion: another manifest, or another layout of the state.
        """
        header, arrays = _open(_DRIVER, data, LAYOUT_VERSION, manifest)
        return cls(
            manifest=header["manifest"],
            entities=tuple(header["entities"]),
            last_times=tuple(header["last_times"]),
            closed=header["closed"],
            waiting=tuple((t, e, r, s) for t, e, r, s in header["waiting"]),
            states=arrays[0],
            open_rows=arrays[1],
            latest_times=arrays[2].view(np.int64),
            latest_values=arrays[3],
        )


@dataclass(frozen=True)
class FeedCheckpoint:
    """Everything that a feed remembers; the driver's states follow from the facts.

    Attributes
    ----------
    manifest: the hash of the view's manifest.
    margin: event times back to which rows are issued again.
    position: arrivals consumed.
    latest, is_open: the latest event time seen (None before the first), and whether it is open.
    times: the last event times that were closed, at most ``margin``.
    entities: names; ``facts`` and ``issued`` say how many rows each has in the arrays below.
    fact_keys, fact_values: per fact its place in the total order (int64), and its columns.
    issued_keys, issued_values: per row issued its event and known time (int64), and its features.
    """

    manifest: str
    margin: int
    position: int
    latest: int | None
    is_open: bool
    times: tuple[int, ...]
    entities: tuple[str, ...]
    facts: tuple[int, ...]
    issued: tuple[int, ...]
    fact_keys: NDArray[np.int64]
    fact_values: NDArray[np.float64]
    issued_keys: NDArray[np.int64]
    issued_values: NDArray[np.float64]

    def to_bytes(self) -> bytes:
        """The file content."""
        header = {
            "layout": _FEED_LAYOUT,
            "manifest": self.manifest,
            "margin": self.margin,
            "position": self.position,
            "latest": self.latest,
            "is_open": self.is_open,
            "times": self.times,
            "entities": self.entities,
            "facts": self.facts,
            "issued": self.issued,
        }
        return _seal(
            _FEED,
            header,
            self.fact_keys.view(np.float64),
            self.fact_values,
            self.issued_keys.view(np.float64),
            self.issued_values,
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, manifest: str, margin: int) -> FeedCheckpoint:
        """Read a checkpoint that was written under the same manifest and margin.

        Raises
        ------
        Tampered: the bytes are not what was written.
        IncompatibleVersion: another manifest, margin or layout.
        """
        header, arrays = _open(_FEED, data, _FEED_LAYOUT, manifest)
        if header["margin"] != margin:
            raise IncompatibleVersion(
                f"checkpoint with a margin of {header['margin']} event times, expected {margin}",
                hint="open the feed with the same margin, or warm up from history",
            )
        return cls(
            manifest=manifest,
            margin=margin,
            position=header["position"],
            latest=header["latest"],
            is_open=header["is_open"],
            times=tuple(header["times"]),
            entities=tuple(header["entities"]),
            facts=tuple(header["facts"]),
            issued=tuple(header["issued"]),
            fact_keys=arrays[0].view(np.int64),
            fact_values=arrays[1],
            issued_keys=arrays[2].view(np.int64),
            issued_values=arrays[3],
        )


@dataclass(frozen=True)
class BarCheckpoint:
    """Everything that a feed of bars remembers.

    Attributes
    ----------
    bars: the digest of the declaration.
    clock, counts, outside: how far the feed has come, and what became of the ticks.
    entities, ends, ticks: per bar whose it is, when it ends, and how many ticks it has.
    heads: per bar its versions, when it is due, and the values last issued (words).
    records: the ticks of all bars (words).
    """

    bars: str
    clock: int
    counts: tuple[int, ...]
    outside: int
    entities: tuple[str, ...]
    ends: tuple[int, ...]
    ticks: tuple[int, ...]
    heads: NDArray[np.int64]
    records: NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """The file content."""
        header = {
            "layout": _BARS_LAYOUT,
            "manifest": self.bars,
            "clock": self.clock,
            "counts": self.counts,
            "outside": self.outside,
            "entities": self.entities,
            "ends": self.ends,
            "ticks": self.ticks,
        }
        arrays = (self.heads.view(np.float64), self.records.view(np.float64))
        return _seal(_BARS, header, *arrays)

    @classmethod
    def from_bytes(cls, data: bytes, *, bars: str) -> BarCheckpoint:
        """Read a checkpoint that was written under the same declaration.

        Raises
        ------
        Tampered: the bytes are not what was written.
        IncompatibleVersion: another declaration or layout.
        """
        header, (heads, records) = _open(_BARS, data, _BARS_LAYOUT, bars, "declaration of bars")
        return cls(
            bars=bars,
            clock=header["clock"],
            counts=tuple(header["counts"]),
            outside=header["outside"],
            entities=tuple(header["entities"]),
            ends=tuple(header["ends"]),
            ticks=tuple(header["ticks"]),
            heads=heads.view(np.int64),
            records=records.view(np.int64),
        )


def _seal(mark: bytes, header: dict[str, Any], *arrays: NDArray[np.float64]) -> bytes:
    head = canonical_bytes({**header, "shapes": [array.shape for array in arrays]})
    parts = [mark, len(head).to_bytes(8, "little"), head]
    parts += [array.astype("<f8", copy=False).tobytes() for array in arrays]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def _open(
    mark: bytes, data: bytes, layout: int, manifest: str, noun: str = "view"
) -> tuple[dict[str, Any], list[NDArray[np.float64]]]:
    body = memoryview(data)[:-_DIGEST]
    if data[: len(mark)] != mark or hashlib.sha256(body).digest() != data[-_DIGEST:]:
        raise Tampered("checkpoint is damaged or is not one")
    length = int.from_bytes(body[8:16], "little")
    header: dict[str, Any] = json.loads(bytes(body[16 : 16 + length]))
    if header["layout"] != layout:
        raise IncompatibleVersion(
            f"checkpoint has layout {header['layout']}, this build reads {layout}",
            hint="warm up from history instead",
        )
    if header["manifest"] != manifest:
        raise IncompatibleVersion(
            f"checkpoint of manifest {header['manifest'][:12]}, this {noun} is {manifest[:12]}",
            hint=f"warm up from history, or restore it into the {noun} that it was taken from",
        )
    words = np.frombuffer(bytes(body[16 + length :]), dtype="<f8")
    arrays, start = [], 0
    for shape in header["shapes"]:
        stop = start + int(np.prod(shape))
        arrays.append(np.array(words[start:stop].reshape(shape), dtype=np.float64))
        start = stop
    return header, arrays
