"""What a training set asks for, as a value and as JSON, and the rows that answer it.

1. :class:`Query` - spine, tables, label, cut-off; checked as a whole before anything is joined.
2. :class:`Rows` - makes the rows for any stretch of the spine, so that a whole set and a set in
   stretches cannot differ.
3. :func:`described` - the query again from its JSON, every snapshot read with verification.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import polars as pl

from assay.domain.canonical import content_hash
from assay.domain.instants import Instant
from assay.errors import ConfigurationError, ContractViolation, NotFound, Tampered
from assay.features.definition.requests import RequestView
from assay.features.offline.labels import (
    LABEL_COLUMNS,
    Label,
    LabelBook,
    PriceTable,
    describe_label,
    label_from,
)
from assay.features.offline.past_requests import (
    PastRequests,
    check_request_view,
    describe_request_view,
    with_request_features,
)
from assay.features.offline.point_in_time import (
    FeatureTable,
    Knowledge,
    TableJoin,
    TimeToLive,
    check_spine,
)
from assay.features.offline.spines import AS_OF, Spine
from assay.features.offline.store import OfflineStore
from assay.features.offline.stored_table import StoredFeatures, StoredJoin
from assay.lake.lake import Lake

SPINE_FILE: Final = "spine.parquet"
DESCRIPTION_FILE: Final = "training_set.json"
FORMAT: Final = 1

Features: TypeAlias = FeatureTable | StoredFeatures
"""Rows in memory, or in an offline store."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for. Checked as a whole before anything is joined."""

    spine: Spine
    tables: Sequence[Features]
    label: Label | None
    prices: PriceTable | None
    known_at: Instant
    knowledge: Knowledge
    drop_unlabelled: bool
    request: RequestView | None = None

    def __post_init__(self) -> None:
        if self.label is not None and self.prices is None:
            raise ConfigurationError("a label needs prices", hint="pass prices=PriceTable(...)")
        for table in self.tables:
            check_spine(self.spine.frame, table, AS_OF, self.known_at)

    @property
    def manifest_hash(self) -> str:
        manifests = {table.manifest_hash for table in self.tables}
        if self.request is not None:
            manifests.add(self.request.manifest_hash)
        return content_hash(sorted(manifests))

    @property
    def snapshots(self) -> dict[str, str]:
        found = {table.name: table.snapshot_id for table in self.tables}
        if self.spine.query["kind"] == "requests":
            found[self.spine.query["table"]] = self.spine.query["snapshot"]
        if self.prices is not None:
            found[self.prices.name] = self.prices.snapshot_id
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "spine": dict(self.spine.query),
            "tables": [_describe_table(table) for table in self.tables],
            "request": None if self.request is None else describe_request_view(self.request),
            "label": None if self.label is None else describe_label(self.label),
            "prices": None if self.prices is None else _describe_prices(self.prices),
            "known_at": self.known_at,
            "knowledge": str(self.knowledge),
            "drop_unlabelled": self.drop_unlabelled,
        }


class Rows:
    """Makes the rows of a query for any stretch of its spine, and counts what it left out."""

    def __init__(self, query: Query) -> None:
        prices, known_at = query.prices, query.known_at
        calendar = prices.calendar(known_at) if prices is not None else None
        self._joins = [
            (StoredJoin if isinstance(table, StoredFeatures) else TableJoin)(
                table,  # type: ignore[arg-type]  # each class gets its own kind of table
                knowledge=query.knowledge,
                known_at=known_at,
                calendar=calendar,
            )
            for table in query.tables
        ]
        self._request, self._tables = query.request, query.tables
        self._stale_columns = {table.name: table.stale_column for table in query.tables}
        self._labels = None
        if query.label is not None and prices is not None:
            self._labels = LabelBook(query.label, prices, known_at=known_at)
        self._drop = self._labels is not None and query.drop_unlabelled
        self.dropped = {"unlabelled": 0} if self._drop else {}
        self.stale = dict.fromkeys(self._stale_columns, 0)

    def of(self, spine: pl.DataFrame) -> pl.DataFrame:
        """One row per row of ``spine``, in its order, less those left out."""
        frame = spine
        for join in self._joins:
            frame = join.rows(frame)
        if self._request is not None:
            frame = with_request_features(frame, self._request, self._tables)
        if self._labels is not None:
            taken = [name for name in LABEL_COLUMNS if name in frame.columns]
            if taken:
                raise ContractViolation(
                    f"column {taken[0]!r} exists already: it is the label's name"
                )
            frame = frame.hstack(self._labels.rows(spine))
        if self._drop:
            self.dropped["unlabelled"] += frame["label"].null_count()
            frame = frame.filter(pl.col("label").is_not_null())
        for table, column in self._stale_columns.items():
            self.stale[table] += int(frame[column].sum())
        return frame


def described(
    description: Path | Mapping[str, Any],
    lake: Lake,
    store: OfflineStore | None,
    request: RequestView | None,
) -> tuple[Query, str]:
    """The query of a description, its tables opened, and the digest that it promises.

    Raises
    ------
    ContractViolation: it was made with another request view than ``request``.
    Tampered: the description, its spine or a file of a snapshot is not what was written.
    NotFound: a snapshot exists neither in the lake nor in the store.
    """
    folder = description.parent if isinstance(description, Path) else None
    document = _load(description) if isinstance(description, Path) else description
    asked, places = document["query"], _Places(lake, store)
    # Descriptions from before there were request views do not mention one.
    check_request_view(asked.get("request"), request)
    query = Query(
        _read_spine(asked["spine"], places, folder),
        [_read_table(entry, places) for entry in asked["tables"]],
        None if asked["label"] is None else label_from(asked["label"]),
        None if asked["prices"] is None else _read_prices(asked["prices"], places),
        asked["known_at"],
        Knowledge(asked["knowledge"]),
        asked["drop_unlabelled"],
        request,
    )
    return query, document["digest"]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where snapshots are looked for: in the lake, then in the store."""

    lake: Lake
    store: OfflineStore | None

    def in_store(self, table: str, snapshot: str) -> bool:
        """Whether the store, and not the lake, has it.

        Raises
        ------
        NotFound: neither has.
        """
        try:
            self.lake.table(table).snapshot(snapshot)
        except NotFound:
            if self.store is None:
                raise
            self.store.snapshot(table, snapshot)
            return True
        return False

    def read(self, table: str, snapshot: str) -> pl.DataFrame:
        if self.store is not None and self.in_store(table, snapshot):
            return self.store.read(table, snapshot)
        return self.lake.table(table).read(snapshot)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Tampered(f"description {path} is unreadable: {error}") from error
    if document.get("format") != FORMAT:
        raise Tampered(f"description {path} has format {document.get('format')}, expected {FORMAT}")
    return document


def _describe_table(table: Features) -> dict[str, Any]:
    ttl = table.ttl
    return {
        "name": table.name,
        "snapshot": table.snapshot_id,
        "manifest": table.manifest_hash,
        "features": list(table.features),
        "entity": table.entity,
        "ttl": None if ttl is None else {"nanos": ttl.nanos, "sessions": ttl.sessions},
    }


def _read_table(entry: Mapping[str, Any], places: _Places) -> Features:
    name, snapshot = entry["name"], entry["snapshot"]
    features = tuple(entry["features"])
    ttl = None if entry["ttl"] is None else TimeToLive(**entry["ttl"])
    if places.store is not None and places.in_store(name, snapshot):
        if places.store.entity != entry["entity"]:
            raise ConfigurationError(
                f"table {name} was joined by {entry['entity']!r}, "
                f"the store keeps rows of {places.store.entity!r}"
            )
        return StoredFeatures(places.store, name, features, snapshot, entry["manifest"], ttl)
    return FeatureTable(
        name=name,
        frame=places.read(name, snapshot),
        features=features,
        snapshot_id=snapshot,
        manifest_hash=entry["manifest"],
        entity=entry["entity"],
        ttl=ttl,
    )


def _describe_prices(prices: PriceTable) -> dict[str, Any]:
    return {
        "table": prices.name,
        "snapshot": prices.snapshot_id,
        "column": prices.column,
        "entity": prices.entity,
    }


def _read_prices(entry: Mapping[str, Any], places: _Places) -> PriceTable:
    frame = places.read(entry["table"], entry["snapshot"])
    return PriceTable(entry["table"], frame, entry["snapshot"], entry["column"], entry["entity"])


def _read_spine(query: Mapping[str, Any], places: _Places, folder: Path | None) -> Spine:
    if query["kind"] == "members":
        market = _read_prices(query, places)
        return Spine.of_members(market, start=query["start"], end=query["end"])
    if query["kind"] == "requests":
        frame = places.read(query["table"], query["snapshot"])
        requests = PastRequests(
            query["table"], frame, tuple(query["inputs"]), query["snapshot"], query["entity"]
        )
        return Spine.of_requests(requests, end=query["end"])
    if folder is None:
        raise ConfigurationError(
            "this training set has an explicit spine, which its description does not contain",
            hint=f"pass the path of {DESCRIPTION_FILE}, beside which {SPINE_FILE} lies",
        )
    spine = Spine.of(pl.read_parquet(folder / SPINE_FILE))
    if spine.query["digest"] != query["digest"]:
        raise Tampered(f"file {folder / SPINE_FILE} is not the spine of the description")
    return spine
