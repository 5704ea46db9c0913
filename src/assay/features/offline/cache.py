"""Computed features on disk, under everything that they follow from.

::

    <root>/entries/<k>/<key>.ipc      one frame: a line that describes it, then Arrow IPC bytes
    <root>/locks/<k>/<key>.lock       held while the frame is computed; empty, never removed

The key is the hash of five parts: factor name, as-of date, snapshot id, dataset version ids and
configuration hash. A change in any of them is another key.

1. An entry whose checksum holds and whose time to live has not run out is answered as it is. The
   checksum covers every byte behind it, the description included.
2. Otherwise one process computes, holding the lock of the key; the others wait and then read.
3. A frame is written to a temporary file, synced and renamed: it is there whole, or not at all.
4. What has not been used for longest is removed until all entries fit under the cap.

An entry that is damaged is counted, computed again and never served. A disk that is full costs the
entry, not the answer.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from threading import Lock, local
from typing import Any, Final

import polars as pl

from assay.domain.canonical import canonical_bytes, content_hash
from assay.domain.clock import Clock
from assay.domain.instants import Instant
from assay.errors import Conflict, ContractViolation, Unavailable
from assay.features.definition.windows import Duration
from assay.storage.files import write_atomic
from assay.storage.locks import FileLock

FORMAT: Final = 1
"""Changes when entries of an older build are not to be read any more."""

_DIGEST_SIZE: Final = 64


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What one cache object did, and what is on the disk now.

    Attributes
    ----------
    hits, misses: answers from an entry, and computations.
    expired, corrupted: misses because the time to live had run out, or the entry was damaged.
    evicted: entries removed to keep to the cap.
    unwritten: frames that were answered and could not be kept, or alone exceed the cap.
    entries, bytes: on the disk, by whatever process they were written.
    """

    hits: int
    misses: int
    expired: int
    corrupted: int
    evicted: int
    unwritten: int
    entries: int
    bytes: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


class DiskFeatureCache:
    """Frames by factor, date, snapshot, versions and configuration. For several processes at once.

    Parameters
    ----------
    root: the folder, ``data/cache`` of a desk.
    clock: by which entries age and are used.
    ttl: how long an entry is answered after it was computed, exactly so long included; None: for
        ever.
    max_bytes: the most that all entries together may take on the disk; None: no cap.
    wait_seconds: how long to wait for another process that computes the same frame; None: as long
        as it lives.

    Raises
    ------
    ContractViolation: the cap is below one.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        ttl: Duration | None = None,
        max_bytes: int | None = None,
        wait_seconds: float | None = None,
    ) -> None:
        if max_bytes is not None and max_bytes < 1:
            raise ContractViolation(f"max_bytes {max_bytes}: expected one or more, or None")
        self._entries = root / "entries"
        self._locks = root / "locks"
        self._clock = clock
        self._ttl = None if ttl is None else ttl.nanos
        self._max_bytes = max_bytes
        self._wait_seconds = wait_seconds
        self._counts: Counter[str] = Counter()
        self._counting = Lock()
        self._mine = local()

    def get_or_compute(
        self,
        factor_name: str,
        as_of_date: date | str,
        snapshot_id: str,
        version_ids: Mapping[str, str] | Sequence[str],
        config_hash: str,
        compute_fn: Callable[[], pl.DataFrame],
    ) -> tuple[pl.DataFrame, bool]:
        """The frame of a key, and whether it was there already.

        Parameters
        ----------
        as_of_date: a date, or its ISO form.
        version_ids: of the datasets that were read: by name, or in an order that means something.
        compute_fn: computes the frame; called at most once by all processes that wait for it. What
            it raises is raised here, and nothing is kept.

        Raises
        ------
        ContractViolation: a part of the key has another type, or what was computed is no frame or
            cannot be written down.
        Conflict: ``compute_fn`` asks for the frame that it is computing.
        Unavailable: another process has been computing it for longer than ``wait_seconds``.
        """
        parts = _key_parts(factor_name, as_of_date, snapshot_id, version_ids, config_hash)
        key = content_hash(parts)
        found, _ = self._look(key)
        if found is not None:
            self._count("hits")
            return found, True
        with self._alone(key, factor_name):
            found, reason = self._look(key)
            if found is not None:
                self._count("hits")
                return found, True
            self._count("misses", *([reason] if reason else []))
            frame = compute_fn()
            self._keep(key, _entry(parts, frame, self._clock.now()))
            return frame, False

    def statistics(self) -> CacheStatistics:
        """Counts of this object, and the entries on the disk."""
        sizes = [size for _, size, _ in self._stored()]
        with self._counting:
            names = ("hits", "misses", "expired", "corrupted", "evicted", "unwritten")
            counts = {name: self._counts[name] for name in names}
        return CacheStatistics(**counts, entries=len(sizes), bytes=sum(sizes))

    def clear(self) -> None:
        """Remove every entry; frames that are being computed are kept when they are done."""
        for path, _, _ in self._stored():
            path.unlink(missing_ok=True)

    # -- entries --------------------------------------------------------------------------------

    def _look(self, key: str) -> tuple[pl.DataFrame | None, str]:
        """The frame of an entry that may be answered; or None, and why an entry may not."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None, ""
        except OSError:
            return None, "corrupted"  # a disk that cannot read it, or something else in its place
        read = _read(data, key)
        if read is None:
            return None, "corrupted"
        frame, computed_at = read
        now = self._clock.now()
        if self._ttl is not None and now - computed_at > self._ttl:
            return None, "expired"
        self._mark_used(path, now)
        return frame, ""

    def _keep(self, key: str, data: bytes) -> None:
        if self._max_bytes is not None and len(data) > self._max_bytes:
            self._count("unwritten")
            self._path(key).unlink(missing_ok=True)
            return
        path = self._path(key)
        try:
            # Only the holder of the key's lock writes here: what is left over is of a dead one.
            for left in path.parent.glob(f".{path.name}.*.tmp"):
                left.unlink(missing_ok=True)
            write_atomic(path, data)
        except OSError:
            self._count("unwritten")
            return
        self._mark_used(path, self._clock.now())
        self._make_room(path)

    def _make_room(self, fresh: Path) -> None:
        """Remove what was used longest ago until everything fits; never what was just written."""
        if self._max_bytes is None:
            return
        with FileLock(self._locks / "room.lock", None):
            stored = sorted(self._stored(), key=lambda entry: (entry[2], entry[0].name))
            total = sum(size for _, size, _ in stored)
            for path, size, _ in stored:
                if total <= self._max_bytes:
                    return
                if path != fresh:
                    path.unlink(missing_ok=True)
                    total -= size
                    self._count("evicted")

    def _stored(self) -> Iterator[tuple[Path, int, Instant]]:
        """Every entry with its size and when it was last used."""
        for path in self._entries.glob("*/*.ipc"):
            with suppress(FileNotFoundError):  # another process may be making room
                state = path.stat()
                yield path, state.st_size, state.st_mtime_ns

    @staticmethod
    def _mark_used(path: Path, now: Instant) -> None:
        # The file's own time: nothing has to be written for a hit, and any process can read it.
        with suppress(OSError, OverflowError):
            os.utime(path, ns=(now, now))

    def _path(self, key: str) -> Path:
        return self._entries / key[:2] / f"{key}.ipc"

    # -- one at a time --------------------------------------------------------------------------

    @contextmanager
    def _alone(self, key: str, factor_name: str) -> Iterator[None]:
        """Hold the lock of a key, among the processes of the machine and the threads of this one.

        Every key has a lock of its own, so that a computation may ask for other frames.
        """
        computing: set[str] = self._mine.__dict__.setdefault("computing", set())
        if key in computing:
            raise Conflict(
                f"computing factor {factor_name} asks for the same factor, date and versions",
                hint="let it ask for an earlier date, or compute it without the cache",
            )
        with ExitStack() as stack:
            try:
                lock = FileLock(self._locks / key[:2] / f"{key}.lock", self._wait_seconds)
                stack.enter_context(lock)
            except OSError as error:
                raise Unavailable(
                    f"feature cache {self._locks.parent}: {error.strerror or error}"
                ) from error
            computing.add(key)
            stack.callback(computing.discard, key)
            yield

    def _count(self, *names: str) -> None:
        with self._counting:
            self._counts.update(names)


def _key_parts(
    factor_name: str,
    as_of_date: date | str,
    snapshot_id: str,
    version_ids: Mapping[str, str] | Sequence[str],
    config_hash: str,
) -> dict[str, Any]:
    """The five parts, in a form whose hash is their identity."""
    parts = {"factor_name": factor_name, "snapshot_id": snapshot_id, "config_hash": config_hash}
    for what, text in parts.items():
        _check_text(what, text)
    if isinstance(version_ids, str | bytes):
        raise ContractViolation(f"version_ids {version_ids!r}: expected several of them")
    versions: Any = dict(version_ids) if isinstance(version_ids, Mapping) else list(version_ids)
    named = versions.items() if isinstance(versions, dict) else enumerate(versions)
    for name, version in named:
        _check_text(f"version_ids[{name!r}]", version)
    return {
        "format": FORMAT,
        "factor": factor_name,
        "as_of": _date(as_of_date).isoformat(),
        "snapshot": snapshot_id,
        "versions": versions,
        "config": config_hash,
    }


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ContractViolation(f"{what} is {value!r}: expected text that is not empty")


def _date(value: object) -> date:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ContractViolation(
                f"as_of_date {value!r}: expected a date such as 2026-01-15"
            ) from None
    if not isinstance(value, date) or isinstance(value, datetime):
        # A moment would be cut to its date in silence, by whoever's time zone.
        raise ContractViolation(f"as_of_date {value!r}: expected a date")
    return value


def _entry(parts: Mapping[str, Any], frame: pl.DataFrame, now: Instant) -> bytes:
    """The bytes of an entry: checksum, description, frame."""
    if not isinstance(frame, pl.DataFrame):
        raise ContractViolation(
            f"factor {parts['factor']}: {type(frame).__name__} was computed, expected a "
            "polars DataFrame"
        )
    buffer = io.BytesIO()
    try:
        frame.write_ipc(buffer, compression="zstd")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError) as error:
        raise ContractViolation(
            f"factor {parts['factor']}: the frame cannot be written down: {error}"
        ) from error
    described = canonical_bytes({**parts, "computed_at": now})
    body = described + b"\n" + buffer.getvalue()
    return hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body


def _read(data: bytes, key: str) -> tuple[pl.DataFrame, Instant] | None:
    """The frame of an entry and when it was computed; None unless every byte is what was written.

    An intact entry that stands under another key than its own was moved there.
    """
    digest, body = data[:_DIGEST_SIZE], data[_DIGEST_SIZE + 1 :]
    if data[_DIGEST_SIZE : _DIGEST_SIZE + 1] != b"\n":
        return None
    if hashlib.sha256(body).hexdigest().encode("ascii") != digest:
        return None
    described, _, frame = body.partition(b"\n")
    try:
        parts: dict[str, Any] = json.loads(described)
        computed_at = int(parts.pop("computed_at"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # written whole, by something that is no cache
    if content_hash(parts) != key:
        return None
    try:
        return pl.read_ipc(io.BytesIO(frame)), computed_at
    except pl.exceptions.PolarsError:
        return None
