"""Training sets: features as they were known, labels that lie ahead, pinned to what was read.

1. A :class:`Spine` says which (entity, moment) pairs are wanted: the universe's members, past
   requests, or any frame.
2. :func:`get_training_set` joins every feature table to it as of each moment, computes the features
   of a request view from both, and puts the forward labels beside; nothing known after the cut-off
   exists for it.
3. The result is a :class:`TrainingSet`: the frame, its digest, and the description of the query:
   tables, snapshot ids, manifests, label, cut-off.
4. :func:`rebuild` runs a description again on a lake and refuses a result whose digest differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import polars as pl

from assay.domain.canonical import canonical_bytes, content_hash
from assay.domain.instants import Instant
from assay.errors import ConfigurationError, ContractViolation, Tampered
from assay.features.definition.requests import RequestView
from assay.features.offline.labels import (
    LABEL_COLUMNS,
    Label,
    PriceTable,
    describe_label,
    forward_labels,
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
    TimeToLive,
    as_of_join,
    require_columns,
)
from assay.lake.digest import frame_digest
from assay.lake.lake import Lake
from assay.storage.files import atomic_path, write_atomic

FRAME_FILE: Final = "training_set.parquet"
SPINE_FILE: Final = "spine.parquet"
DESCRIPTION_FILE: Final = "training_set.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Spine:
    """The rows of a training set before anything is joined.

    Attributes
    ----------
    frame: the entity column and ``as_of``, the moment of each decision (int64 nanoseconds UTC);
        for past requests also what each brought.
    query: how the frame was made, as a JSON object from which it can be made again.
    """

    frame: pl.DataFrame
    query: Mapping[str, Any]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Self:
        """Any frame. Its rows are kept beside the training set, since nothing else has them."""
        return cls(frame, {"kind": "explicit", "digest": frame_digest(frame)})

    @classmethod
    def of_members(
        cls,
        market: PriceTable,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> Self:
        """One row per member of the universe and session, decided when its fix became known.

        Parameters
        ----------
        market: prices with the Boolean column ``in_universe``.
        start, end: moments of decision, from start up to, not including, end; None is unbounded.
        """
        require_columns(market.name, market.frame, (market.entity, "in_universe"))
        # The first version only: a later correction of a fix is no second decision.
        members = (
            market.frame.filter("in_universe")
            .group_by(market.entity, "event_time")
            .agg(as_of=pl.col("known_time").min())
            .filter(pl.lit(start is None) | (pl.col("as_of") >= (start or 0)))
            .filter(pl.lit(end is None) | (pl.col("as_of") < (end or 0)))
            .select(market.entity, "as_of")
            .unique()
            .sort("as_of", market.entity)
        )
        query = {
            "kind": "members",
            "table": market.name,
            "snapshot": market.snapshot_id,
            "column": market.column,
            "entity": market.entity,
            "start": start,
            "end": end,
        }
        return cls(members, query)

    @classmethod
    def of_requests(cls, requests: PastRequests, *, end: Instant | None = None) -> Self:
        """One row per past request, with what it brought.

        Parameters
        ----------
        end: up to, not including, this moment; None is unbounded.
        """
        frame = (
            requests.frame.select(requests.entity, "as_of", *requests.inputs)
            .filter(pl.lit(end is None) | (pl.col("as_of") < (end or 0)))
            .sort("as_of", requests.entity)
        )
        return cls(frame, {"kind": "requests", **requests.describe(), "end": end})


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
            "format": _FORMAT,
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

        The description is written last: where it exists, the rest does too.
        """
        with atomic_path(directory / FRAME_FILE) as path:
            self.frame.write_parquet(path)
        if self.spine.query["kind"] == "explicit":
            with atomic_path(directory / SPINE_FILE) as path:
                self.spine.frame.write_parquet(path)
        target = directory / DESCRIPTION_FILE
        write_atomic(target, canonical_bytes(self.description()) + b"\n")
        return target


def get_training_set(
    spine: Spine,
    tables: Sequence[FeatureTable],
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
    if label is not None and prices is None:
        raise ConfigurationError("a label needs prices", hint="pass prices=PriceTable(...)")
    calendar = prices.calendar(known_at) if prices is not None else None
    frame = spine.frame
    for table in tables:
        frame = as_of_join(
            frame, table, knowledge=Knowledge(knowledge), known_at=known_at, calendar=calendar
        )
    if request is not None:
        frame = with_request_features(frame, request, tables)
    dropped: dict[str, int] = {}
    if label is not None and prices is not None:
        taken = [name for name in LABEL_COLUMNS if name in frame.columns]
        if taken:
            raise ContractViolation(f"column {taken[0]!r} exists already: it is the label's name")
        frame = frame.hstack(forward_labels(spine.frame, label, prices, known_at=known_at))
        if drop_unlabelled:
            dropped["unlabelled"] = frame["label"].null_count()
            frame = frame.filter(pl.col("label").is_not_null())
    if len(frame) + sum(dropped.values()) != len(spine.frame):
        raise AssertionError(f"{len(spine.frame)} rows in, {len(frame)} out, {dropped} dropped")
    manifests = {table.manifest_hash for table in tables}
    if request is not None:
        manifests.add(request.manifest_hash)
    return TrainingSet(
        frame=frame,
        digest=frame_digest(frame),
        manifest_hash=content_hash(sorted(manifests)),
        snapshots=_snapshots(spine, tables, prices),
        dropped=dropped,
        stale={table.name: int(frame[table.stale_column].sum()) for table in tables},
        query={
            "spine": dict(spine.query),
            "tables": [_describe_table(table) for table in tables],
            "request": None if request is None else describe_request_view(request),
            "label": None if label is None else describe_label(label),
            "prices": None if prices is None else _describe_prices(prices),
            "known_at": known_at,
            "knowledge": str(knowledge),
            "drop_unlabelled": drop_unlabelled,
        },
        spine=spine,
    )


def rebuild(
    description: Path | Mapping[str, Any], lake: Lake, *, request: RequestView | None = None
) -> TrainingSet:
    """Make a training set again from its description, reading every snapshot with verification.

    Parameters
    ----------
    description: the JSON object, or the path of the file that :meth:`TrainingSet.save` wrote. A
        set on an explicit spine needs the path, since the spine lies beside the file.
    request: the request view that the set was made with: its features are computed again.

    Raises
    ------
    ContractViolation: the set was made with another request view.
    Tampered: the result, the spine or a file of a snapshot is not what the description says.
    NotFound: a snapshot does not exist in this lake.
    """
    folder = description.parent if isinstance(description, Path) else None
    document = _load(description) if isinstance(description, Path) else description
    query = document["query"]
    # Descriptions from before there were request views do not mention one.
    check_request_view(query.get("request"), request)
    known = query["prices"]
    prices = None if known is None else _read_prices(known, lake)
    result = get_training_set(
        _read_spine(query["spine"], lake, folder),
        [_read_table(entry, lake) for entry in query["tables"]],
        None if query["label"] is None else label_from(query["label"]),
        request=request,
        prices=prices,
        known_at=query["known_at"],
        knowledge=Knowledge(query["knowledge"]),
        drop_unlabelled=query["drop_unlabelled"],
    )
    if result.digest != document["digest"]:
        raise Tampered(
            f"the rebuilt training set has digest {result.digest}, expected {document['digest']}"
        )
    return result


def _load(path: Path) -> Mapping[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Tampered(f"description {path} is unreadable: {error}") from error
    if document.get("format") != _FORMAT:
        raise Tampered(
            f"description {path} has format {document.get('format')}, expected {_FORMAT}"
        )
    return document


def _snapshots(
    spine: Spine, tables: Sequence[FeatureTable], prices: PriceTable | None
) -> dict[str, str]:
    """Snapshot id of every table that was read."""
    read = {table.name: table.snapshot_id for table in tables}
    if spine.query["kind"] == "requests":
        read[spine.query["table"]] = spine.query["snapshot"]
    if prices is not None:
        read[prices.name] = prices.snapshot_id
    return read


def _describe_table(table: FeatureTable) -> dict[str, Any]:
    ttl = table.ttl
    return {
        "name": table.name,
        "snapshot": table.snapshot_id,
        "manifest": table.manifest_hash,
        "features": list(table.features),
        "entity": table.entity,
        "ttl": None if ttl is None else {"nanos": ttl.nanos, "sessions": ttl.sessions},
    }


def _read_table(entry: Mapping[str, Any], lake: Lake) -> FeatureTable:
    return FeatureTable(
        name=entry["name"],
        frame=lake.table(entry["name"]).read(entry["snapshot"], verify=True),
        features=tuple(entry["features"]),
        snapshot_id=entry["snapshot"],
        manifest_hash=entry["manifest"],
        entity=entry["entity"],
        ttl=None if entry["ttl"] is None else TimeToLive(**entry["ttl"]),
    )


def _describe_prices(prices: PriceTable) -> dict[str, Any]:
    return {
        "table": prices.name,
        "snapshot": prices.snapshot_id,
        "column": prices.column,
        "entity": prices.entity,
    }


def _read_prices(entry: Mapping[str, Any], lake: Lake) -> PriceTable:
    frame = lake.table(entry["table"]).read(entry["snapshot"], verify=True)
    return PriceTable(entry["table"], frame, entry["snapshot"], entry["column"], entry["entity"])


def _read_spine(query: Mapping[str, Any], lake: Lake, folder: Path | None) -> Spine:
    if query["kind"] == "members":
        return Spine.of_members(_read_prices(query, lake), start=query["start"], end=query["end"])
    if query["kind"] == "requests":
        frame = lake.table(query["table"]).read(query["snapshot"], verify=True)
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
