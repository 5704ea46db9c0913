"""What models were given, as the service wrote it down, against what history says.

A line of the prediction log names an instrument, the version of the row it was answered from (its
event and known time) and the features that the model read. Whatever happened between the feed and
the model, a store, a cache, another process, these are the numbers that decided.
"""

from __future__ import annotations

import math
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from assay.domain.canonical import content_hash
from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant, parse, render
from assay.domain.verdicts import Verdict
from assay.errors import AssayError
from assay.features import FeatureView, Manifest, ManifestSet, RequestFeatures, RequestView
from assay.orchestration.desk import Desk
from assay.orchestration.parity.proving import SHOWN, history_as_known
from assay.orchestration.progress import Progress
from assay.serving.inputs.feature_rate import FeatureRate, asked_of_store

_OTHER: Final = "features of a definition that the desk no longer has"
_NO_VERSION: Final = "a version that the registry cannot open"
_UNREADABLE: Final = "lines that cannot be read"


class _Line(msgspec.Struct):
    """What is read of a line; batches and predictions from given features name no instrument.

    A missing feature is a null: JSON has no NaN, and no model is given an infinity.
    """

    model: str
    version: str
    manifest: str | None = None
    instrument: str | None = None
    event_time: str | None = None
    known_time: str | None = None
    features: list[float | None] | None = None
    request: dict[str, float] | None = None
    timestamp: str | None = None
    feature_log_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Given:
    """One row as a model was given it; ``values`` by the names of the model's schema."""

    model: str
    version: str
    instrument: str
    event_time: Instant
    known_time: Instant
    values: Mapping[str, float]
    request: tuple[tuple[str, float], ...]

    @property
    def key(self) -> tuple[str, Instant, Instant]:
        """The version of the row that it was made from."""
        return self.instrument, self.event_time, self.known_time


@dataclass(frozen=True, slots=True)
class ServedProof:
    """What was served over a horizon of event times, against history.

    Attributes
    ----------
    lines: predictions in the log from stored rows in the horizon.
    logged: those whose features are in the log; rows: distinct ones of them. Nothing is said about
        the others. rates: the shares of features that the lines say were to be logged, ascending.
    withheld: predictions whose features the rate takes, and the log does not have.
    values, equal: numbers that were compared, and those with the same bits.
    unknown: rows that history never had, ``differing``: values of another number, both in words and
        the first of them only; ``unknown_rows`` and ``values - equal`` count them.
    skipped: rows that could not be judged, by reason.
    """

    lines: int
    logged: int
    rates: tuple[float, ...]
    withheld: int
    rows: int
    values: int
    equal: int
    unknown_rows: int
    unknown: tuple[str, ...]
    differing: tuple[str, ...]
    skipped: Mapping[str, int]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """FAIL where a number differs, a row is unknown or features are withheld; nothing to judge
        is INDETERMINATE.
        """
        if self.equal != self.values or self.unknown_rows or self.withheld:
            return Verdict.FAIL
        return Verdict.PASS if self.values and not self.skipped else Verdict.INDETERMINATE

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": str(self.verdict),
            "lines": self.lines,
            "logged": self.logged,
            "rates": list(self.rates),
            "withheld": self.withheld,
            "rows": self.rows,
            "values": self.values,
            "equal": self.equal,
            "unknown_rows": self.unknown_rows,
            "unknown": list(self.unknown),
            "differing": list(self.differing),
            "skipped": dict(self.skipped),
            "seconds": self.seconds,
        }


def prove_served(
    desk: Desk,
    log: Path,
    progress: Progress,
    *,
    since: Instant | None = None,
    until: Instant | None = None,
) -> ServedProof:
    """Compare every feature in a prediction log with history, over event times in [since, until).

    Raises
    ------
    NotFound: silver is empty. Tampered: a file of its snapshot has changed.
    """
    started = time.monotonic()
    found = _Found(desk)
    begin, end = MIN_INSTANT if since is None else since, MAX_INSTANT if until is None else until
    given = found.read(log, begin, end)
    for manifest in sorted({one for one, _ in given}):
        rows = [row for one, row in given if one == manifest]
        definition = _definition(desk, manifest)
        if definition is None:
            found.skipped[_OTHER] += len(rows)
            continue
        progress.event(f"{definition[0].name}: computing what was known when")
        found.compare(*definition, rows)
    return ServedProof(
        lines=found.lines,
        logged=found.logged,
        rates=tuple(sorted(found.rates)),
        withheld=found.withheld,
        rows=len(given),
        values=found.values,
        equal=found.equal,
        unknown_rows=found.unknown_rows,
        unknown=tuple(found.unknown),
        differing=tuple(found.differing),
        skipped=dict(found.skipped),
        seconds=time.monotonic() - started,
    )


class _Found:
    """Counts what is found while the log is read and compared."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._names: dict[tuple[str, str], Sequence[str] | None] = {}
        self.rates: set[float] = set()
        self.lines = self.logged = self.withheld = self.values = self.equal = self.unknown_rows = 0
        self.unknown: list[str] = []
        self.differing: list[str] = []
        self.skipped: Counter[str] = Counter()

    def read(self, log: Path, begin: Instant, end: Instant) -> list[tuple[str, Given]]:
        """Distinct rows by manifest: the same row is served many times over."""
        rows: dict[Any, tuple[str, Given]] = {}
        for line in _lines(log):
            if line is None:
                self.skipped[_UNREADABLE] += 1
                continue
            if line.instrument is None or line.event_time is None or line.known_time is None:
                continue
            try:
                event_time, known_time = parse(line.event_time), parse(line.known_time)
            except AssayError:
                self.skipped[_UNREADABLE] += 1
                continue
            if line.manifest is None or not begin <= event_time < end:
                continue
            self.lines += 1
            self.rates.add(line.feature_log_rate)
            if line.features is None:
                self._note_withheld(line, line.instrument)
                continue
            self.logged += 1
            names = self._schema(line.model, line.version)
            if names is None or len(names) != len(line.features):
                self.skipped[_NO_VERSION] += 1
                continue
            request = tuple(sorted((line.request or {}).items()))
            values = [math.nan if value is None else value for value in line.features]
            row = Given(
                line.model, line.version, line.instrument, event_time, known_time,
                dict(zip(names, values, strict=True)), request,
            )  # fmt: skip
            same = (line.manifest, row.model, row.version, row.key, request, _bits(values))
            rows[same] = (line.manifest, row)
        return list(rows.values())

    def _note_withheld(self, line: _Line, instrument: str) -> None:
        try:
            self.withheld += _is_taken(line, instrument)
        except AssayError:  # its moment cannot be read
            self.skipped[_UNREADABLE] += 1

    def compare(self, view: FeatureView, asked: RequestView | None, rows: list[Given]) -> None:
        history = history_as_known(self._desk, view).rows
        keys = pl.DataFrame(
            [row.key for row in rows],
            schema={view.entity: pl.String, "event_time": pl.Int64, "known_time": pl.Int64},
            orient="row",
        ).unique()
        wanted = history.join(keys, on=keys.columns, how="semi").rows(named=True)
        by_key = {(row[view.entity], row["event_time"], row["known_time"]): row for row in wanted}
        computed = None if asked is None else RequestFeatures(asked)
        for row in rows:
            true = by_key.get(row.key)
            if true is None:
                self.unknown_rows += 1
                _note(self.unknown, f"{_words(row)} was never a row of {view.name}")
                continue
            if computed is not None:
                # A prediction is refused where one of these is missing: none is here.
                true = true | dict(row.request)
                features = computed.compute(true)
                true |= dict(zip(computed.view.feature_names, features.tolist(), strict=True))
            for name, value in row.values.items():
                self.values += 1
                if _bits([value]) == _bits([true[name]]):
                    self.equal += 1
                else:
                    _note(
                        self.differing,
                        f"{_words(row)}: {row.model} {row.version} was given {name} {value!r}, "
                        f"history says {true[name]!r}",
                    )

    def _schema(self, model: str, label: str) -> Sequence[str] | None:
        if (model, label) not in self._names:
            try:
                opened = self._desk.registry.open_version(model, label.removeprefix("v"))
                self._names[model, label] = opened.schema.names
            except AssayError:
                self._names[model, label] = None
        return self._names[model, label]


def _definition(desk: Desk, manifest: str) -> tuple[FeatureView, RequestView | None] | None:
    """The view, and the request view beside it, whose features models of a manifest read."""
    for view in desk.views.values():
        if ManifestSet.of([view]).hash == manifest:
            return view, None
    for asked in desk.request_views.values():
        stored = {Manifest.of(one).hash for one in asked.stored}
        if len(asked.stored) == 1 and content_hash(sorted(stored | {asked.manifest_hash})) == (
            manifest
        ):
            return asked.stored[0], asked
    return None


def _is_taken(line: _Line, instrument: str) -> bool:
    """Whether the features of a prediction were to be logged, by its line's own rate."""
    if line.timestamp is None or not 0.0 <= line.feature_log_rate < 1.0:
        return True
    asked = asked_of_store(line.model, instrument, parse(line.timestamp), line.request)
    return FeatureRate(line.feature_log_rate).takes(asked)


def _lines(log: Path) -> Iterator[_Line | None]:
    """The whole lines of a log, None for one that cannot be read; one that was being written when
    a process died is none.
    """
    if not log.exists():
        return
    decode = msgspec.json.Decoder(_Line).decode
    with log.open("rb") as handle:
        for line in handle:
            try:
                yield decode(line)
            except msgspec.DecodeError:
                if line.endswith(b"\n"):
                    yield None


def _bits(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def _words(row: Given) -> str:
    return f"{row.instrument} at {render(row.event_time)}, known {render(row.known_time)}"


def _note(notes: list[str], text: str) -> None:
    if len(notes) < SHOWN:
        notes.append(text)
