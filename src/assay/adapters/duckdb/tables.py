"""A registry's catalogue as tables for people: one row per fact, times as timestamps in UTC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from assay.domain.instants import parse
from assay.registry import Entry, EventOutcome, EventType
from assay.registry.catalogue import Catalogue

_TIME = pl.Datetime("ns")  # of UTC: DuckDB has nanoseconds for times without a zone only
_TEXT, _WHOLE, _NUMBER = pl.String, pl.Int64, pl.Float64

TABLES: Mapping[str, Mapping[str, Any]] = {
    "versions": {
        "model": _TEXT, "version": _TEXT, "major": _WHOLE, "minor": _WHOLE, "patch": _WHOLE,
        "kind": _TEXT, "stage": _TEXT, "stage_since": _TIME, "author": _TEXT,
        "baseline": pl.Boolean, "created_at": _TIME, "registered_at": _TIME, "digest": _TEXT,
        "seq": _WHOLE,
    },
    "metrics": {
        "model": _TEXT, "version": _TEXT, "name": _TEXT, "value": _NUMBER, "lower": _NUMBER,
        "upper": _NUMBER, "sample_size": _WHOLE, "convention": _TEXT, "recorded_at": _TIME,
        "recorded_by": _TEXT, "seq": _WHOLE,
    },
    "gates": {
        "model": _TEXT, "version": _TEXT, "gate": _TEXT, "severity": _TEXT, "value": _NUMBER,
        "threshold": _TEXT, "verdict": _TEXT, "sample_size": _WHOLE, "reason": _TEXT,
        "policy": _TEXT, "outcome": _TEXT, "recorded_at": _TIME, "recorded_by": _TEXT,
        "seq": _WHOLE,
    },
    "approvals": {
        "model": _TEXT, "version": _TEXT, "approver": _TEXT, "approved_at": _TIME,
        "expires_at": _TIME, "version_digest": _TEXT, "gate_report_digest": _TEXT,
        "signed": pl.Boolean, "seq": _WHOLE,
    },
    "live": {
        "model": _TEXT, "version": _TEXT, "since": _TIME, "until": _TIME, "seq": _WHOLE,
    },
    "stages": {
        "model": _TEXT, "version": _TEXT, "stage": _TEXT, "since": _TIME, "seq": _WHOLE,
    },
    "events": {
        "seq": _WHOLE, "recorded_at": _TIME, "type": _TEXT, "model": _TEXT, "from_version": _TEXT,
        "to_version": _TEXT, "initiated_by": _TEXT, "outcome": _TEXT, "reason": _TEXT,
        "evidence": _TEXT, "hash": _TEXT,
    },
}  # fmt: skip
"""The columns of each table. ``versions`` also has ``metrics``, a struct of a version's values.

``metrics`` holds the measurement that counts, the latest of each name; ``gates`` the verdicts of
the latest report; ``live`` what was in production from when to when, open at the end; ``stages``
every change of stage; ``events`` the whole log, with ``evidence`` as JSON. No column has the name
of an SQL keyword.
"""


def registry_frames(catalogue: Catalogue) -> dict[str, pl.DataFrame]:
    """Every table of :data:`TABLES` as a frame."""
    entries = catalogue.events(None)
    rows: dict[str, Iterable[tuple[Any, ...]]] = {
        "versions": [
            (
                one.name, one.version, one.semantic.major, one.semantic.minor, one.semantic.patch,
                one.kind, str(one.stage), one.stage_at, one.author, one.baseline, one.created_at,
                one.registered_at, one.digest, one.registered_seq,
            )
            for one in catalogue.select(None, None)
        ],
        "metrics": _metrics(entries),
        "gates": _gates(entries),
        "approvals": _approvals(entries),
        "live": _live(catalogue),
        "stages": catalogue.stages(),
        "events": [
            (
                one.seq, one.at, str(one.type), one.model, one.from_version, one.to_version,
                one.initiated_by, str(one.outcome), one.reason,
                json.dumps(one.evidence, ensure_ascii=False), one.hash,
            )
            for one in entries
        ],
    }  # fmt: skip
    frames = {
        name: pl.DataFrame(list(rows[name]), schema=dict(columns), orient="row", strict=True)
        for name, columns in TABLES.items()
    }
    frames["versions"] = _with_metrics(frames["versions"], frames["metrics"])
    return frames


def _metrics(entries: Iterable[Entry]) -> Iterable[tuple[Any, ...]]:
    found: dict[tuple[str, str | None, str], tuple[Any, ...]] = {}
    for entry in _done(entries, EventType.EVIDENCE):
        for item in entry.evidence["evidence"]:
            low, high = item["interval"] or (None, None)
            values = (_number(item["value"]), _number(low), _number(high))
            found[entry.model, entry.to_version, item["name"]] = (
                entry.model, entry.to_version, item["name"], *values, item["sample_size"],
                item["convention"], entry.at, entry.initiated_by, entry.seq,
            )  # fmt: skip
    return found.values()


def _gates(entries: Iterable[Entry]) -> Iterable[tuple[Any, ...]]:
    latest = {(entry.model, entry.to_version): entry for entry in _done(entries, EventType.GATE)}
    for entry in latest.values():
        report = entry.evidence["report"]
        for item in report["results"]:
            yield (
                entry.model, entry.to_version, item["name"], item["severity"],
                _number(item["value"]), item["threshold"], item["verdict"], item["sample_size"],
                item["reason"], report["policy"], report["outcome"], entry.at, entry.initiated_by,
                entry.seq,
            )  # fmt: skip


def _approvals(entries: Iterable[Entry]) -> Iterable[tuple[Any, ...]]:
    for entry in _done(entries, EventType.APPROVE):
        said = entry.evidence
        yield (
            entry.model, entry.to_version, said["approver"], entry.at, parse(said["expires_at"]),
            said["version_digest"], said["gate_report_digest"], said["envelope"] is not None,
            entry.seq,
        )  # fmt: skip


def _live(catalogue: Catalogue) -> Iterable[tuple[Any, ...]]:
    timeline = catalogue.timeline()
    for index, (model, version, at, seq) in enumerate(timeline):
        after = timeline[index + 1] if index + 1 < len(timeline) else None
        if version is not None:
            until = after[2] if after is not None and after[0] == model else None
            yield (model, version, at, until, seq)


def _with_metrics(versions: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    """A struct of each version's values, with a field for every name that was ever measured."""
    names = metrics["name"].unique().sort().to_list()
    if not names:
        return versions.with_columns(metrics=pl.lit(None, dtype=pl.Struct({"none": _NUMBER})))
    wide = metrics.pivot("name", index=("model", "version"), values="value").select(
        "model", "version", metrics=pl.struct(names)
    )
    return versions.join(wide, on=("model", "version"), how="left", maintain_order="left")


def _done(entries: Iterable[Entry], kind: EventType) -> Iterable[Entry]:
    return (one for one in entries if one.type is kind and one.outcome is EventOutcome.DONE)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
