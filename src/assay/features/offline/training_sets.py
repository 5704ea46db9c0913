"""Training sets: features as they were known, labels that lie ahead, pinned to what was read.

1. A :class:`~assay.features.offline.spines.Spine` says which (entity, moment) pairs are wanted: the
   universe's members, past requests, or any table.
2. :func:`get_training_set` joins every feature table to it as of each moment, computes the features
   of a request view from both, and puts the forward labels beside; nothing known after the cut-off
   exists for it.
3. The result is a :class:`TrainingSet`: the frame, its digest, and the description of the query:
   tables, snapshot ids, manifests, label, cut-off.
4. :func:`write_training_set` gives the same rows, bit for bit, into a file, a stretch of the spine
   at a time, for results that do not fit into memory.
5. :func:`rebuild` and :func:`rewrite` run a description again and refuse another digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
from polars.io.plugins import register_io_source

from assay.domain.canonical import canonical_bytes
from assay.domain.instants import Instant
from assay.errors import ContractViolation, Tampered
from assay.features.definition.requests import RequestView
from assay.features.offline.labels import Label, PriceTable
from assay.features.offline.point_in_time import Knowledge
from assay.features.offline.queries import (
    DESCRIPTION_FILE,
    FORMAT,
    SPINE_FILE,
    Features,
    Query,
    Rows,
    described,
)
from assay.features.offline.spines import Spine
from assay.features.offline.store import OfflineStore
from assay.lake.digest import frame_digest, parquet_digest
from assay.lake.lake import Lake
from assay.storage.files import atomic_path, write_atomic

__all__ = [
    "CHUNK_ROWS",
    "DESCRIPTION_FILE",
    "FRAME_FILE",
    "SPINE_FILE",
    "Spine",
    "TrainingSet",
    "WrittenTrainingSet",
    "get_training_set",
    "rebuild",
    "rewrite",
    "write_training_set",
]

FRAME_FILE: Final = "training_set.parquet"
CHUNK_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A point-in-time correct table, and everything needed to make it again.

    Attributes
    ----------
    frame: spine columns, features, one stale column per table, the features of the request view
        and, with a label, the columns label, label_start, label_end and label_known. Row order is
        the spine's.
    digest: :func:`assay.lake.digest.frame_digest` of ``frame``.
    manifest_hash: hash of the set of the manifests of the tables and the request view: of their
        sorted list.
    snapshots: snapshot id by table.
    dropped: rows left out on request, by reason.
    stale: rows without features because the answer had gone stale, by table.
    query: the JSON object that :func:`rebuild` reads.
    spine: the rows it was built on.
    """

    frame: pl.DataFrame
    digest: str
    manifest_hash: str
    snapshots: Mapping[str, str]
    dropped: Mapping[str, int]
    stale: Mapping[str, int]
    query: Mapping[str, Any]
    spine: Spine

    @property
    def rows(self) -> int:
        return len(self.frame)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the feature columns, in the order of tables and views, then the request's."""
        sources = [*self.query["tables"], *filter(None, [self.query["request"]])]
        return tuple(name for source in sources for name in source["features"])

    def description(self) -> dict[str, Any]:
        """A JSON object with the query, what it read and the digest of what came out."""
        return {
            "format": FORMAT,
            "query": dict(self.query),
            "manifest_hash": self.manifest_hash,
            "snapshots": dict(self.snapshots),
            "rows": self.rows,
            "dropped": dict(self.dropped),
            "stale": dict(self.stale),
            "digest": self.digest,
        }

    def save(self, directory: Path) -> Path:
        """Write the frame, the spine where needed, and the description; return the latter's path.

        The description is written last, and an earlier one removed first: where it exists, the rest
        is what it describes.
        """
        with atomic_path(directory / FRAME_FILE) as path:
            self.frame.write_parquet(path)
            _describe_nothing_in(directory)
        return _describe_in(directory, self.spine, self.description())


@dataclass(frozen=True, slots=True)
class WrittenTrainingSet:
    """A training set in a folder.

    Attributes
    ----------
    folder: holds :data:`FRAME_FILE`, :data:`DESCRIPTION_FILE` and, where the spine was a table of
        the caller's, :data:`SPINE_FILE`.
    description: what :meth:`TrainingSet.description` gives.
    """

    folder: Path
    description: Mapping[str, Any]

    @property
    def rows(self) -> int:
        return int(self.description["rows"])

    @property
    def digest(self) -> str:
        """That of the frame; equal to :attr:`TrainingSet.digest` of the same query."""
        return str(self.description["digest"])

    def scan(self) -> pl.LazyFrame:
        """The rows, read when they are asked for."""
        return pl.scan_parquet(self.folder / FRAME_FILE, glob=False, hive_partitioning=False)


def get_training_set(
    spine: Spine,
    tables: Sequence[Features],
    label: Label | None = None,
    *,
    request: RequestView | None = None,
    prices: PriceTable | None = None,
    known_at: Instant,
    knowledge: Knowledge = Knowledge.AS_KNOWN,
    drop_unlabelled: bool = False,
) -> TrainingSet:
    """Features as of each row of the spine, and its forward label.

    Parameters
    ----------
    request: a request view over ``tables``, for a spine of past requests.
    prices: what labels are made of, and whose sessions a time-to-live counts; needed for either.
    known_at: the cut-off. Facts known later do not exist for this training set.
    drop_unlabelled: leave out rows whose label is not known by the cut-off, and count them.

    Raises
    ------
    LookAhead: a row of the spine lies after the cut-off.
    ContractViolation: a frame lacks columns, feature names collide, or the spine is malformed.
    ConfigurationError: prices are needed and missing.
    """
    query = Query(
        spine, tables, label, prices, known_at, Knowledge(knowledge), drop_unlabelled, request
    )
    made = Rows(query)
    frame = made.of(spine.frame)
    if len(frame) + sum(made.dropped.values()) != len(spine.frame):
        raise AssertionError(
            f"{len(spine.frame)} rows in, {len(frame)} out, {made.dropped} dropped"
        )
    return TrainingSet(
        frame=frame,
        digest=frame_digest(frame),
        manifest_hash=query.manifest_hash,
        snapshots=query.snapshots,
        dropped=made.dropped,
        stale=made.stale,
        query=query.to_json(),
        spine=spine,
    )


def write_training_set(
    spine: Spine,
    tables: Sequence[Features],
    label: Label | None = None,
    *,
    folder: Path,
    request: RequestView | None = None,
    prices: PriceTable | None = None,
    known_at: Instant,
    knowledge: Knowledge = Knowledge.AS_KNOWN,
    drop_unlabelled: bool = False,
    chunk_rows: int = CHUNK_ROWS,
) -> WrittenTrainingSet:
    """What :func:`get_training_set` and ``save`` do, for a result larger than memory.

    Memory holds the spine, the prices, ``chunk_rows`` rows of the result and a few partitions of
    each stored table. The digest is that of :func:`get_training_set`, whatever ``chunk_rows`` is.

    Raises
    ------
    ContractViolation: also ``chunk_rows`` below one. The rest as :func:`get_training_set`.
    """
    query = Query(
        spine, tables, label, prices, known_at, Knowledge(knowledge), drop_unlabelled, request
    )
    return _written(query, folder, chunk_rows)


def _written(
    query: Query, folder: Path, chunk_rows: int, *, expected: str | None = None
) -> WrittenTrainingSet:
    """Write what a query asks for; what is in the folder stays unless it has the digest."""
    if chunk_rows < 1:
        raise ContractViolation(f"chunk_rows {chunk_rows}: expected at least one")
    spine, made = query.spine, Rows(query)
    with atomic_path(folder / FRAME_FILE) as path:
        _sink(made, spine.frame, path, chunk_rows)
        rows = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        if rows + sum(made.dropped.values()) != len(spine.frame):
            raise AssertionError(f"{len(spine.frame)} rows in, {rows} out, {made.dropped} dropped")
        digest = parquet_digest(path)
        if expected is not None:
            _compare(digest, expected)
        _describe_nothing_in(folder)
    description = {
        "format": FORMAT,
        "query": query.to_json(),
        "manifest_hash": query.manifest_hash,
        "snapshots": query.snapshots,
        "rows": rows,
        "dropped": made.dropped,
        "stale": made.stale,
        "digest": digest,
    }
    _describe_in(folder, spine, description)
    return WrittenTrainingSet(folder, description)


def _sink(made: Rows, spine: pl.DataFrame, path: Path, chunk_rows: int) -> None:
    """Write the rows of the spine chunk by chunk; an error of theirs comes out as it is."""
    failures: list[BaseException] = []

    def chunks(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - the interface of a source
    ) -> Iterator[pl.DataFrame]:
        assert with_columns is None
        assert predicate is None
        assert n_rows is None
        try:
            for start in range(0, len(spine), chunk_rows):
                yield made.of(spine[start : start + chunk_rows])
        except Exception as error:
            failures.append(error)
            raise

    schema = made.of(spine.clear()).schema
    source = register_io_source(chunks, schema=schema)
    try:
        source.sink_parquet(
            path,
            compression="zstd",
            compression_level=3,
            row_group_size=chunk_rows,
            maintain_order=True,
        )
    except Exception:
        if failures:
            raise failures[0] from None
        raise


def rebuild(
    description: Path | Mapping[str, Any],
    lake: Lake,
    *,
    request: RequestView | None = None,
    store: OfflineStore | None = None,
) -> TrainingSet:
    """Make a training set again from its description, reading every snapshot with verification.

    Parameters
    ----------
    description: the JSON object, or the path of the file that :meth:`TrainingSet.save` wrote. A
        set on an explicit spine needs the path, since the spine lies beside the file.
    request: the request view that the set was made with: its features are computed again.
    store: where the tables are that do not lie in the lake.

    Raises
    ------
    ContractViolation: the set was made with another request view.
    Tampered: the result, the spine or a file of a snapshot is not what the description says.
    NotFound: a snapshot exists neither in this lake nor in the store.
    """
    query, digest = described(description, lake, store, request)
    result = get_training_set(
        query.spine,
        query.tables,
        query.label,
        request=query.request,
        prices=query.prices,
        known_at=query.known_at,
        knowledge=query.knowledge,
        drop_unlabelled=query.drop_unlabelled,
    )
    _compare(result.digest, digest)
    return result


def rewrite(
    description: Path | Mapping[str, Any],
    lake: Lake,
    *,
    folder: Path,
    request: RequestView | None = None,
    store: OfflineStore | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> WrittenTrainingSet:
    """:func:`rebuild` into ``folder``, for a result larger than memory.

    A result with another digest is not written.
    """
    query, digest = described(description, lake, store, request)
    return _written(query, folder, chunk_rows, expected=digest)


def _compare(found: str, expected: str) -> None:
    if found != expected:
        raise Tampered(f"the rebuilt training set has digest {found}, expected {expected}")


def _describe_nothing_in(folder: Path) -> None:
    """What is written next is not what an earlier description in the folder says."""
    (folder / DESCRIPTION_FILE).unlink(missing_ok=True)


def _describe_in(folder: Path, spine: Spine, description: Mapping[str, Any]) -> Path:
    """The spine where nothing else has it, and then the description: where it is, all is."""
    if spine.query["kind"] == "explicit":
        with atomic_path(folder / SPINE_FILE) as path:
            spine.frame.write_parquet(path)
    target = folder / DESCRIPTION_FILE
    write_atomic(target, canonical_bytes(dict(description)) + b"\n")
    return target
