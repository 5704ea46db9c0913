"""Logged predictions computed again, bit for bit, from their own lines.

A line of the prediction log holds the features as float64, the digest of the version and what it
answered. The version is opened and verified by that digest, its model is loaded as a server loads
it, and the features are given to it: the answer must have the same bits. A line that differs is
named. One that cannot be computed (features left out by the rate, files collected, a line that was
cut) is counted as such, never as equal.

Equal bits are promised on the same build of the runtime and the same kind of processor.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from assay.domain.instants import NANOS_PER_SECOND, Instant, from_datetime, parse
from assay.errors import AssayError, NotFound
from assay.orchestration.desk import Desk
from assay.serving import LiveModel, OnnxModel
from assay.serving.prediction.predictions import judge

_DAY = 86_400 * NANOS_PER_SECOND
MOST_NAMED = 100
"""Differences that are named one by one; all are counted."""


class _Line(msgspec.Struct):
    timestamp: str
    model: str
    version: str
    digest: str
    manifest: str | None = None
    features: list[float | None] | None = None
    batch: list[list[float | None]] | None = None
    prediction: float | None = None
    predictions: list[float] | None = None
    direction: str | None = None
    confidence: float | None = None
    instrument: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A line whose prediction does not come out again.

    ``line`` counts from 1; ``what`` is what differs, such as ``prediction``.
    """

    line: int
    timestamp: str
    model: str
    version: str
    instrument: str | None
    what: str
    logged: Any
    recomputed: Any

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Replayed:
    """What came of a day.

    Attributes
    ----------
    day: in UTC, of the moment that was asked about.
    predictions: numbers that were computed again; equal: those with equal bits.
    different: of lines; ``differences`` names the first :data:`MOST_NAMED` of them.
    impossible: lines that could not be computed, by reason.
    versions: predictions by ``model/version``.
    """

    day: date
    predictions: int = 0
    equal: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    impossible: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether every line of the day came out again."""
        return self.predictions > 0 and not self.different and not self.impossible

    def to_json(self) -> dict[str, Any]:
        return {
            "day": self.day.isoformat(),
            "ok": self.ok,
            "predictions": self.predictions,
            "equal": self.equal,
            "different": self.different,
            "differences": [one.to_json() for one in self.differences],
            "impossible": dict(self.impossible),
            "versions": dict(self.versions),
        }


def replay_day(desk: Desk, log: Path, day: date, *, model: str | None = None) -> Replayed:
    """Compute every logged prediction of a day again.

    Parameters
    ----------
    log: the prediction log. day: in UTC, of the moments asked about. model: one of them, or all.

    Raises
    ------
    NotFound: no prediction of that day is logged.
    """
    start = from_datetime(_midnight(day))
    done = Replayed(day)
    models: dict[tuple[str, str, str], LiveModel | str] = {}
    seen = False
    for number, line in _lines_of(log, start):
        if isinstance(line, str):
            done.impossible[line] += 1
            continue
        if model is not None and line.model != model:
            continue
        seen = True
        key = (line.model, line.version.removeprefix("v"), line.digest)
        if key not in models:
            models[key] = _load(desk, *key)
        _replay(done, number, line, models[key])
    if not seen:
        raise NotFound(
            f"no prediction of {day.isoformat()}{f' by {model}' if model else ''} in {log}",
            hint="days count in UTC, by the moment that was asked about",
        )
    return done


def _replay(done: Replayed, number: int, line: _Line, model: LiveModel | str) -> None:
    if isinstance(model, str):
        done.impossible[model] += 1
        return
    rows = [line.features] if line.features is not None else line.batch
    logged = [line.prediction] if line.predictions is None else line.predictions
    if rows is None or len(rows) != len(logged):
        done.impossible["its features were not logged"] += 1
        return
    names = model.schema.names
    if any(len(row) != len(names) for row in rows):
        _differs(done, number, line, "features", len(rows[0]), len(names))
        return
    if line.manifest != model.manifest:
        _differs(done, number, line, "manifest", line.manifest, model.manifest)
        return
    try:
        again = _answers(model, rows, single=line.predictions is None)
    except AssayError as error:
        _differs(done, number, line, "prediction", logged[0], error.message)
        return
    done.predictions += len(again)
    done.versions[f"{line.model}/{line.version}"] += len(again)
    same = [_bits(one) == _bits(other) for one, other in zip(logged, again, strict=True)]
    done.equal += sum(same)
    if not all(same):
        row = same.index(False)
        what = "prediction" if line.predictions is None else f"prediction of row {row}"
        _differs(done, number, line, what, logged[row], again[row])
    elif line.predictions is None:
        direction, confidence = judge(model, again[0])
        if direction != line.direction:
            _differs(done, number, line, "direction", line.direction, direction)
        elif line.instrument is not None and confidence != line.confidence:
            _differs(done, number, line, "confidence", line.confidence, confidence)


def _answers(
    model: LiveModel, rows: Sequence[Sequence[float | None]], *, single: bool
) -> list[float]:
    # JSON has no NaN: a missing value was written as null.
    values = np.array(rows, dtype=np.float64)
    # As the server did it: one row through its buffers, several as a matrix.
    if single and np.isfinite(values).all():
        return [model.model.predict_one(values[0].tolist())]
    return list(model.model.predict_checked(values.astype(np.float32)).tolist())


def _differs(done: Replayed, number: int, line: _Line, what: str, logged: Any, again: Any) -> None:
    done.different += 1
    if len(done.differences) < MOST_NAMED:
        done.differences.append(
            Difference(
                number,
                line.timestamp,
                line.model,
                line.version,
                line.instrument,
                what,
                logged,
                again,
            )
        )


def _bits(value: float | None) -> bytes | None:
    return None if value is None else struct.pack("<d", value)


def _load(desk: Desk, name: str, version: str, digest: str) -> LiveModel | str:
    """The version that a line names, or why there is none."""
    registry = desk.registry
    try:
        opened = registry.open_version(name, version)
        if opened.digest != digest:
            return f"{name} {version} has another digest than the line says"
        model = OnnxModel.from_bytes(opened.onnx, opened.schema)
    except AssayError as error:
        return f"{name} {version}: {error.message}"
    return LiveModel(
        name, version, digest, opened.metadata.kind, opened.metadata.manifest_hash, model,
        registry.clock.now(),
    )  # fmt: skip


def _lines_of(log: Path, start: Instant) -> Iterator[tuple[int, _Line | str]]:
    """Lines of the day from ``start`` on; a line that cannot be read might be of any day."""
    if not log.exists():
        return
    decoder = msgspec.json.Decoder(_Line)
    prefix = start // _DAY
    with log.open("rb") as handle:
        for number, raw in enumerate(handle, start=1):
            try:
                line = decoder.decode(raw)
                moment = parse(line.timestamp)
            except (msgspec.DecodeError, UnicodeDecodeError, AssayError):
                yield number, "a line cannot be read"
                continue
            if moment // _DAY == prefix:
                yield number, line


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def counts(found: Mapping[str, int]) -> str:
    """Counts by reason in words."""
    return "; ".join(f"{count:,} {reason}" for reason, count in sorted(found.items())) or "none"
