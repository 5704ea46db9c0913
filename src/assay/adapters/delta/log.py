"""Commits of a Delta table, each with a record of ours, and a check of each file of its log.

::

    <table>/_delta_log/00000000000000000007.json    Delta's commit, our record inside
    <table>/.assay/checks.ndjson                    one sealed line per commit: hash of that file
    <table>/assay_partition=2024-03/<sha256>.parquet

Delta's log says which files a version has, and nothing about their content. The record says what
they hold; the check says that the log itself has not changed. The line of the last commit may be
missing, where its writer was killed in between; the next writer adds it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import Conflict, Tampered, Unavailable
from assay.storage.files import append_line, drop_torn_tail, file_sha256, sync_directory
from assay.storage.seals import sealed_line, sealed_lines

try:
    from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Schema
    from deltalake.exceptions import DeltaError
    from deltalake.schema import PrimitiveType
    from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions
except ImportError as error:
    raise Unavailable(
        "the Delta Lake store needs the package deltalake", hint="pip install 'assay[delta]'"
    ) from error

PARTITION: Final = "assay_partition"
_RECORD: Final = "assay"
_TYPES: Final = {
    "Boolean": "boolean",
    "Int8": "byte",
    "Int16": "short",
    "Int32": "integer",
    "Int64": "long",
    "Float32": "float",
    "Float64": "double",
    "String": "string",
    "Date": "date",
}
# Old versions are the point: no log is cleaned up, and none is folded into a checkpoint, whose
# bytes nothing would check.
_CONFIGURATION: Final = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of rows that a commit adds or removes."""

    partition: str
    sha256: str
    rows: int
    bytes: int

    @property
    def path(self) -> str:
        return f"{PARTITION}={self.partition}/{self.sha256}.parquet"


class CommitLog:
    """The versions of the Delta table in ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = root / "_delta_log"
        self._checks = root / ".assay" / "checks.ndjson"

    def version(self) -> int:
        """The last version, -1 before the first commit."""
        names = [path.name for path in self._log.glob("*.json")]
        numbers = [int(name[:-5]) for name in names if name[:-5].isdigit()]
        return max(numbers, default=-1)

    def record(self, version: int) -> dict[str, Any]:
        """Our record in the commit of a version.

        Raises
        ------
        Tampered: the commit is unreadable. Conflict: something else wrote that version.
        """
        path = self._file(version)
        try:
            lines = [json.loads(line) for line in path.read_bytes().splitlines()]
            (info,) = (line["commitInfo"] for line in lines if "commitInfo" in line)
            text = info.get(_RECORD)
            record: dict[str, Any] | None = None if text is None else json.loads(text)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Tampered(f"commit {path} is unreadable: {error}") from None
        if record is None:
            raise Conflict(
                f"version {version} of Delta table {self.root} was not written by this store",
                hint="tables of this store are written through it alone",
            )
        return record

    def check(self) -> None:
        """Compare every commit with its check.

        Raises
        ------
        Tampered: a commit is missing or has changed; names it.
        """
        last = self.version()
        lines = sealed_lines(self._checks)
        for number, line in enumerate(lines):
            path = self._file(number)
            if line.get("version") != number:
                raise Tampered(f"{self._checks}: line {number + 1} is not version {number}")
            if not path.is_file():
                raise Tampered(f"commit {path} is missing")
            if file_sha256(path) != line["sha256"]:
                raise Tampered(f"commit {path} has changed since it was written")
        if len(lines) < last:
            raise Tampered(
                f"{self._checks} has {len(lines)} lines for {last + 1} commits, "
                "expected at most one fewer"
            )

    def compare(self, version: int, files: Sequence[DataFile]) -> None:
        """Refuse a version whose files are, by Delta's own rules, not ``files``.

        Raises
        ------
        Tampered: they differ, or Delta cannot read its log.
        """
        try:
            found = DeltaTable(self.root, version=version).get_add_actions(flatten=True)
            paths = set(pl.DataFrame(found)["path"])
        except (DeltaError, OSError, ValueError) as error:
            raise Tampered(f"Delta table {self.root}, version {version}: {error}") from error
        if paths != {file.path for file in files}:
            raise Tampered(
                f"Delta table {self.root}, version {version} has other files than its record says"
            )

    def repair(self) -> None:
        """Write the check that a killed writer left out. The caller holds the writer's lock."""
        drop_torn_tail(self._checks)
        for version in range(len(sealed_lines(self._checks)), self.version() + 1):
            self._seal(version)

    def commit(
        self,
        base: int,
        schema: Mapping[str, str],
        record: Mapping[str, Any],
        *,
        add: Sequence[DataFile],
        remove: Sequence[DataFile],
        changes_rows: bool,
    ) -> int:
        """Write version ``base + 1`` in one step and return it. The files exist already.

        With other columns than before every file is replaced.
        """
        columns = [Field(name, PrimitiveType(_TYPES[kind])) for name, kind in schema.items()]
        delta = Schema([*columns, Field(PARTITION, PrimitiveType("string"))])
        properties = CommitProperties({_RECORD: canonical_bytes(dict(record)).decode()})
        moment = int(record["committed_at"]) // 1_000_000
        actions: list[AddAction | RemoveAction] = [
            AddAction(
                path=file.path,
                size=file.bytes,
                partition_values={PARTITION: file.partition},
                modification_time=moment,
                data_change=changes_rows,
                stats=json.dumps({"numRecords": file.rows}),
            )
            for file in add
        ]
        try:
            if base < 0:
                self.root.mkdir(parents=True, exist_ok=True)
                create_table_with_add_actions(
                    str(self.root),
                    delta,
                    [one for one in actions if isinstance(one, AddAction)],
                    partition_by=[PARTITION],
                    configuration=_CONFIGURATION,
                    commit_properties=properties,
                    post_commithook_properties=_NO_HOOKS,
                )
            else:
                before = DeltaTable(self.root, version=base)
                same = before.schema() == delta
                # Where the columns are others, Delta itself removes every file, and says so.
                actions += [
                    RemoveAction(
                        file.path, changes_rows, moment, file.bytes, {PARTITION: file.partition}
                    )
                    for file in (remove if same else ())
                ]
                before.create_write_transaction(
                    actions,
                    "append" if same else "overwrite",
                    delta,
                    [PARTITION],
                    commit_properties=properties,
                    post_commithook_properties=_NO_HOOKS,
                )
        except DeltaError as error:
            raise Conflict(
                f"Delta table {self.root} refused version {base + 1}: {error}"
            ) from error
        self._seal(base + 1)
        if self.version() != base + 1:
            raise Conflict(
                f"something else wrote version {base + 1} of Delta table {self.root} meanwhile",
                hint="tables of this store are written through it alone",
            )
        return base + 1

    def _seal(self, version: int) -> None:
        path = self._file(version)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the client leaves that to the operating system
        finally:
            os.close(descriptor)
        sync_directory(self._log)
        append_line(
            self._checks, sealed_line({"version": version, "sha256": sha256_hex(path.read_bytes())})
        )

    def _file(self, version: int) -> Path:
        return self._log / f"{version:020d}.json"
