"""Tables as snapshots: immutable Parquet files under the hash of their list.

::

    <table>/files/<sha256>.parquet     content-addressed: the name is the hash of the bytes
    <table>/snapshots/<id>.json        the canonical list; its SHA-256 is the snapshot id
    <table>/history.ndjson             which snapshot became current, and when
    <table>/current                    the id of the current snapshot

1. A commit writes and syncs its files, then the list, then the history, then the pointer. A reader
   sees the old table or the new one; whatever instant a writer dies at, nothing half is visible.
2. Equal content gives an equal id, and committing it again adds nothing.
3. No file is ever changed or removed, so every old snapshot stays readable, and a training set
   that names a snapshot can be rebuilt from it.
4. The bytes of a file are hashed before a row is decoded, and a file that has changed is named:
   nineteen in twenty changed bits would come out as other numbers, without any error.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.clock import Clock
from assay.domain.instants import Instant
from assay.errors import Conflict, ContractViolation, NotFound, Tampered
from assay.lake.digest import frame_digest
from assay.storage.files import append_line, drop_torn_tail, file_sha256, write_atomic
from assay.storage.locks import FileLock
from assay.storage.seals import sealed_line, sealed_lines

_FORMAT: Final = 1
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One Parquet file of a snapshot: ``sha256`` of its bytes, ``digest`` of the frame in it."""

    part: str
    sha256: str
    digest: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable state of a table. ``id`` is the SHA-256 of its canonical list."""

    id: str
    table: str
    files: tuple[SnapshotFile, ...]
    schema: Mapping[str, str]
    metadata: Mapping[str, str]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """``snapshot`` became the current one at ``committed_at``."""

    snapshot: str
    committed_at: Instant


class Table:
    """A named table whose states are snapshots under ``root``."""

    def __init__(self, root: Path, name: str, clock: Clock) -> None:
        self.name = name
        self._root = root
        self._clock = clock

    def commit(
        self,
        frames: pl.DataFrame | Mapping[str, pl.DataFrame] | Iterable[tuple[str, pl.DataFrame]],
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> Snapshot:
        """Make ``frames`` the current state, all or nothing; return its snapshot.

        Parameters
        ----------
        frames: one frame, or several by the name of their part (for example a year). Parts are
            stored one file each and read back in the order of their names; a part that has not
            changed shares its file with the snapshot before. Pairs of name and frame are taken one
            by one, so that only one has to be in memory; the table is locked meanwhile.
        metadata: short texts that belong to the content, for example the hash of a manifest.

        Raises
        ------
        ContractViolation: there is no part, a part comes twice, or parts have different schemas.
        """
        with self._writing() as current:
            known = {file.digest: file for file in current.files} if current else {}
            stored: dict[str, SnapshotFile] = {}
            schema: pl.Schema | None = None
            for part, frame in _pairs(frames):
                schema = _same_schema(self.name, part, frame, schema, stored)
                stored[part] = self._store(part, frame, known)
            if schema is None:
                raise ContractViolation(f"table {self.name}: a commit needs at least one part")
            columns = {name: str(dtype) for name, dtype in schema.items()}
            return self._become(current, list(stored.values()), columns, metadata or {})

    def revise(
        self,
        base: Snapshot | None,
        frames: Mapping[str, pl.DataFrame],
        *,
        without: Collection[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Snapshot:
        """Make the state current that follows from ``base`` by a change of some of its parts.

        Parameters
        ----------
        base: what the change was worked out on; None is the table without any snapshot.
        frames: parts that are added or replaced. All others keep their files, unread.
        without: parts of ``base`` that are left out.

        Raises
        ------
        Conflict: another snapshot than ``base`` is current; nothing was changed.
        ContractViolation: no part would be left, or the parts have different schemas.
        """
        with self._writing() as current:
            if (current and current.id) != (base and base.id):
                raise Conflict(
                    f"table {self.name} is at snapshot {current and current.id}, "
                    f"expected {base and base.id}",
                    hint="read the current snapshot and make the change again",
                )
            gone = {*frames, *without}
            files = [file for file in (base.files if base else ()) if file.part not in gone]
            if not (files or frames):
                raise ContractViolation(f"table {self.name}: a revision must leave one part")
            stored: dict[str, SnapshotFile] = {}
            types: pl.Schema | None = None
            for part, frame in sorted(frames.items()):
                types = _same_schema(self.name, part, frame, types, stored)
                stored[part] = self._store(part, frame, {})
            schema = dict(base.schema if base else {})
            if types is not None:
                schema = {name: str(dtype) for name, dtype in types.items()}
            if files and base is not None and schema != dict(base.schema):
                raise ContractViolation(
                    f"table {self.name} has columns {dict(base.schema)}, the new parts {schema}"
                )
            return self._become(current, [*files, *stored.values()], schema, metadata or {})

    def verify(self, snapshot: Snapshot) -> None:
        """Hash every file of a snapshot.

        Raises
        ------
        Tampered: a file is missing or its bytes have changed; names it.
        """
        for file in snapshot.files:
            self._check(file)

    def stretches(self, snapshot: Snapshot, *, rows: int) -> Iterator[pl.DataFrame]:
        """The rows of a snapshot in runs of whole parts, of at least ``rows`` rows but the last.

        Raises
        ------
        Tampered: a file is missing or its bytes have changed; names the file.
        """
        gathered: list[pl.DataFrame] = []
        for file in snapshot.files:
            gathered.append(self.read_part(file))
            if sum(map(len, gathered)) >= rows:
                yield pl.concat(gathered, rechunk=True)
                gathered = []
        if gathered:
            yield pl.concat(gathered, rechunk=True)

    def current(self) -> Snapshot | None:
        """The current snapshot, or None when nothing has been committed."""
        pointer = self._root / "current"
        try:
            identifier = pointer.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return self.snapshot(identifier.decode("ascii").removesuffix("\n"))
        except (NotFound, UnicodeDecodeError):
            raise Tampered(f"{pointer} names no snapshot of table {self.name}") from None

    def snapshot(self, identifier: str) -> Snapshot:
        """The snapshot with this id, its list checked against the id.

        Raises
        ------
        NotFound: there is no such snapshot.
        Tampered: the list is not the one that the id names.
        """
        path = self._root / "snapshots" / f"{identifier}.json"
        if not _ID.fullmatch(identifier) or not path.is_file():
            raise NotFound(f"table {self.name} has no snapshot {identifier}")
        listing = path.read_bytes()
        if sha256_hex(listing) != identifier:
            raise Tampered(f"snapshot list {path} does not have the hash that names it")
        document: dict[str, Any] = json.loads(listing)
        files = tuple(SnapshotFile(*entry) for entry in document["files"])
        return Snapshot(
            identifier, document["table"], files, dict(document["schema"]), document["metadata"]
        )

    def history(self) -> list[HistoryEntry]:
        """Which snapshots were made current, oldest first.

        Raises
        ------
        Tampered: a line has changed since it was written.
        """
        current = self.current()
        if current is None:
            return []
        path = self._root / "history.ndjson"
        entries = [HistoryEntry(**entry) for entry in sealed_lines(path)]
        # What follows the current one was never current: its writer died, or has yet to finish.
        while entries and entries[-1].snapshot != current.id:
            entries.pop()
        if not entries:
            raise Tampered(f"{path} does not name the snapshot {current.id}, which is current")
        return entries

    def as_of(self, moment: Instant) -> Snapshot:
        """The snapshot that was current at ``moment`` by the clock of the commits.

        Raises
        ------
        NotFound: nothing had been committed by then.
        """
        entries = [entry for entry in self.history() if entry.committed_at <= moment]
        if not entries:
            raise NotFound(f"table {self.name} had no snapshot at {moment}")
        return self.snapshot(entries[-1].snapshot)

    def read(
        self,
        snapshot: Snapshot | str | None = None,
        *,
        columns: list[str] | None = None,
        without: Collection[str] = (),
    ) -> pl.DataFrame:
        """The rows of a snapshot (default: the current one), parts in the order of their names.

        ``without`` names files, by their SHA-256, whose rows are not wanted.

        Raises
        ------
        NotFound: there is no such snapshot, or nothing has been committed.
        Tampered: a file is missing or its bytes have changed; names the file.
        """
        if isinstance(snapshot, str):
            snapshot = self.snapshot(snapshot)
        snapshot = snapshot or self.current()
        if snapshot is None:
            raise NotFound(f"table {self.name} is empty: nothing has been committed yet")
        wanted = [file for file in snapshot.files if file.sha256 not in without]
        if not wanted:
            return self.read_part(snapshot.files[0], columns).clear()
        return pl.concat([self.read_part(file, columns) for file in wanted], rechunk=True)

    @contextmanager
    def _writing(self) -> Iterator[Snapshot | None]:
        """The writer's turn, with the current snapshot. Removes what a killed writer began."""
        with FileLock(self._root / "table.lock"):
            path = self._root / "history.ndjson"
            drop_torn_tail(path)
            entries = self.history()
            if len(sealed_lines(path)) > len(entries):
                lines = [sealed_line(asdict(entry)) + b"\n" for entry in entries]
                write_atomic(path, b"".join(lines))
            yield self.current()

    def _store(
        self, part: str, frame: pl.DataFrame, known: Mapping[str, SnapshotFile]
    ) -> SnapshotFile:
        digest = frame_digest(frame)
        same = known.get(digest)
        if same is not None and self._path(same.sha256).is_file():
            # Also after an upgrade of the Parquet writer: equal content keeps its file and its id.
            return SnapshotFile(part, same.sha256, digest, same.rows, same.bytes)
        buffer = io.BytesIO()
        # One chunk and fixed settings: the bytes must not depend on how the frame was put together.
        frame.rechunk().write_parquet(
            buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=262_144
        )
        data = buffer.getvalue()
        sha256 = sha256_hex(data)
        if not self._path(sha256).is_file():
            write_atomic(self._path(sha256), data)
        return SnapshotFile(part, sha256, digest, len(frame), len(data))

    def _become(
        self,
        current: Snapshot | None,
        files: list[SnapshotFile],
        schema: Mapping[str, str],
        metadata: Mapping[str, str],
    ) -> Snapshot:
        """Publish the list of these files as the current snapshot, unless it is that already."""
        files.sort(key=lambda file: file.part)
        listing = canonical_bytes(
            {
                "format": _FORMAT,
                "table": self.name,
                "schema": [[name, dtype] for name, dtype in schema.items()],
                "metadata": dict(metadata),
                "files": [[f.part, f.sha256, f.digest, f.rows, f.bytes] for f in files],
            }
        )
        made = Snapshot(sha256_hex(listing), self.name, tuple(files), schema, dict(metadata))
        if current is None or made.id != current.id:
            write_atomic(self._root / "snapshots" / f"{made.id}.json", listing)
            entry = {"snapshot": made.id, "committed_at": self._clock.now()}
            append_line(self._root / "history.ndjson", sealed_line(entry))
            self._point_to(made.id)
        return made

    def _point_to(self, identifier: str) -> None:
        write_atomic(self._root / "current", identifier.encode("ascii") + b"\n")

    def read_part(self, file: SnapshotFile, columns: list[str] | None = None) -> pl.DataFrame:
        """The rows of one part, its bytes checked before any of them is decoded.

        Raises
        ------
        Tampered: the file is missing or its bytes have changed; names it.
        """
        path = self._path(file.sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise Tampered(f"file {path} of table {self.name} is missing") from None
        except OSError as error:
            raise Tampered(f"file {path} of table {self.name} is unreadable: {error}") from error
        if sha256_hex(data) != file.sha256:
            raise Tampered(f"file {path} of table {self.name} has changed since it was committed")
        return pl.read_parquet(io.BytesIO(data), columns=columns)

    def _check(self, file: SnapshotFile) -> None:
        path = self._path(file.sha256)
        if not path.is_file():
            raise Tampered(f"file {path} of table {self.name} is missing")
        if file_sha256(path) != file.sha256:
            raise Tampered(f"file {path} of table {self.name} has changed since it was committed")

    def _path(self, sha256: str) -> Path:
        return self._root / "files" / f"{sha256}.parquet"


def _pairs(
    frames: pl.DataFrame | Mapping[str, pl.DataFrame] | Iterable[tuple[str, pl.DataFrame]],
) -> Iterable[tuple[str, pl.DataFrame]]:
    if isinstance(frames, pl.DataFrame):
        return [("all", frames)]
    return sorted(frames.items()) if isinstance(frames, Mapping) else frames


def _same_schema(
    table: str,
    part: str,
    frame: pl.DataFrame,
    schema: pl.Schema | None,
    before: Mapping[str, SnapshotFile],
) -> pl.Schema:
    if part in before:
        raise ContractViolation(f"table {table}: part {part!r} comes twice")
    if schema is not None and frame.schema != schema:
        raise ContractViolation(
            f"table {table}: part {part!r} has columns {dict(frame.schema)}, "
            f"part {next(iter(before))!r} has {dict(schema)}"
        )
    return frame.schema
