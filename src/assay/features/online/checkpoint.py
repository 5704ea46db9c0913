"""The bytes of an online driver's memory.

Layout: the mark ``ASSAYCKP``, the length of the header (8 bytes, little endian), the header
(canonical JSON), the words of all states and of all open rows (little endian). The header names the
manifest and the layout; the SHA-256 of header and words together stands at the end.
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

_MARK = b"ASSAYCKP"
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
    """

    manifest: str
    entities: tuple[str, ...]
    last_times: tuple[int, ...]
    closed: int | None
    waiting: tuple[tuple[int, str, int, int], ...]
    states: NDArray[np.float64]
    open_rows: NDArray[np.float64]

    def to_bytes(self) -> bytes:
        """The file content."""
        header = canonical_bytes(
            {
                "layout": LAYOUT_VERSION,
                "manifest": self.manifest,
                "entities": self.entities,
                "last_times": self.last_times,
                "closed": self.closed,
                "waiting": self.waiting,
                "states": self.states.shape,
                "open_rows": self.open_rows.shape,
            }
        )
        body = b"".join(
            (
                _MARK,
                len(header).to_bytes(8, "little"),
                header,
                self.states.astype("<f8", copy=False).tobytes(),
                self.open_rows.astype("<f8", copy=False).tobytes(),
            )
        )
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes, *, manifest: str) -> Checkpoint:
        """Read a checkpoint that was written under the same manifest.

        Raises
        ------
        Tampered: the bytes are not what was written.
        IncompatibleVersion: another manifest, or another layout of the state.
        """
        body = memoryview(data)[:-_DIGEST]
        if data[: len(_MARK)] != _MARK or hashlib.sha256(body).digest() != data[-_DIGEST:]:
            raise Tampered("checkpoint is damaged or is not one")
        length = int.from_bytes(body[8:16], "little")
        header: dict[str, Any] = json.loads(bytes(body[16 : 16 + length]))
        if header["layout"] != LAYOUT_VERSION:
            raise IncompatibleVersion(
                f"checkpoint has layout {header['layout']}, this build reads {LAYOUT_VERSION}",
                hint="warm up from history instead",
            )
        if header["manifest"] != manifest:
            raise IncompatibleVersion(
                f"checkpoint of manifest {header['manifest'][:12]}, this view is {manifest[:12]}",
                hint="warm up from history, or restore it into the view that it was taken from",
            )
        words = np.frombuffer(bytes(body[16 + length :]), dtype="<f8")
        states = words[: int(np.prod(header["states"]))].reshape(header["states"])
        open_rows = words[states.size :].reshape(header["open_rows"])
        return cls(
            manifest=header["manifest"],
            entities=tuple(header["entities"]),
            last_times=tuple(header["last_times"]),
            closed=header["closed"],
            waiting=tuple((t, e, r, s) for t, e, r, s in header["waiting"]),
            states=np.array(states, dtype=np.float64),
            open_rows=np.array(open_rows, dtype=np.float64),
        )
