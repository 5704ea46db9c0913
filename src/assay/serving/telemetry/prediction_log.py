"""Predictions written down beside the requests, and the outcomes that answer them.

Writing is asynchronous and bounded: a slow disk delays no answer, and what could not be written is
counted. A line is encoded with its answer, in microseconds, and not by the thread that writes: one
that encodes many holds the interpreter for milliseconds. Decisions that must not be lost go through
an event log, not through this file.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from assay.domain.clock import Clock
from assay.domain.instants import Instant, parse, render
from assay.errors import AssayError
from assay.serving.formats.wire import render_again
from assay.serving.inputs.feature_rate import FeatureRate, asked_of_store, asked_with_features
from assay.serving.prediction.predictions import BatchPrediction, Prediction
from assay.serving.rejections import NO_PREDICTION, Rejected
from assay.serving.telemetry.tracing import trace_id
from assay.storage.files import append_line, drop_torn_tail
from assay.storage.locks import FileLock

_REMEMBERED = 50_000
_READ_BACK = 32 * 2**20  # bytes of the log's end from which memory is filled at a start
_PAUSE = 0.05
_PATIENCE = 4  # pauses until what another process answered is in the file, if it ever was
_MOST_BYTES = 64 * 2**20
_encode = msgspec.json.Encoder().encode


# Tens of thousands are remembered. The collector is not to walk through them (gc=False): with
# enough to walk it goes through the whole process, which stops every request for 0.1 s.
class Answered(msgspec.Struct, frozen=True, gc=False):
    """A prediction as feedback needs it."""

    model: str
    version: str
    prediction: float
    direction: str | None
    instrument: str
    at: Instant


class _Written(msgspec.Struct, frozen=True, gc=False):
    """What every line begins with, in the order of its keys."""

    timestamp: str
    model: str
    version: str
    digest: str
    manifest: str | None
    latency_ms: float
    feature_log_rate: float | msgspec.UnsetType  # left out where it is 1
    request_id: str | msgspec.UnsetType
    trace_id: str | msgspec.UnsetType  # of a request that is traced


class _Given(_Written, frozen=True, gc=False):
    """The line of a prediction from features that the caller brought."""

    features: list[float] | msgspec.UnsetType  # left out where the rate does not take them
    prediction: float
    direction: str | None


class _Stored(_Given, frozen=True, gc=False):
    """The line of a prediction from stored features."""

    instrument: str
    confidence: float | None
    event_time: str
    known_time: str
    stale: bool | None
    request: dict[str, float] | msgspec.UnsetType = msgspec.UNSET


class _Batch(_Written, frozen=True, gc=False):
    """The line of a batch."""

    batch: list[list[float]] | msgspec.UnsetType
    predictions: list[float]


class _Remembered(msgspec.Struct):
    """The part of a line that is remembered."""

    timestamp: str
    model: str
    version: str
    instrument: str | None = None
    prediction: float | None = None
    direction: str | None = None


class PredictionLog:
    """``artifacts/predictions.jsonl``: one line per request that was answered with numbers.

    A line holds what is needed to repeat the prediction bit for bit: the features as float64, the
    digest of the version, the manifest, the moment, and what the request brought. With a rate below
    1 the features of that share of predictions are in it, and every line names the rate.

    Parameters
    ----------
    path: the file; several processes may append to it.
    capacity: lines that may wait, of 64 MiB together; further ones are dropped and counted.
    feature_log_rate: share of predictions whose features are written, by the hash of what was
        asked; see :mod:`~assay.serving.inputs.feature_rate`. The rest of the line always is.
    shared: whether other processes answer too, so that feedback about their predictions is asked
        for here; it is found in the file.

    Raises
    ------
    ContractViolation: the rate is not from 0 to 1.
    """

    def __init__(
        self,
        path: Path,
        *,
        capacity: int = 20_000,
        feature_log_rate: float = 1.0,
        shared: bool = False,
    ) -> None:
        self.path = path
        self._shared = shared
        self._read_to = 0
        self._reading = threading.Lock()
        self._rate = FeatureRate(feature_log_rate)
        self.capacity = capacity
        self.written = 0
        self.dropped = 0
        self.trouble: str | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._queue = threading.Lock()
        # What is asked thousands of times a second puts it down; what is asked rarely sorts it.
        self._fresh: deque[Answered] = deque(maxlen=_REMEMBERED)
        self._recent: OrderedDict[tuple[str, Instant], tuple[Answered, ...]] = OrderedDict()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = FileLock(path.with_name(path.name + ".lock"))

    def start(self) -> None:
        """Remember the file's last predictions and begin to write."""
        self._read_on()
        self._thread = threading.Thread(target=self._write_on, name="prediction-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._write()

    def offer(self, made: Prediction | BatchPrediction, request_id: bytes | None = None) -> None:
        """Take a prediction to be written, with the id of its request; never waits."""
        if isinstance(made, Prediction) and made.instrument is not None:
            model = made.model
            self._fresh.append(
                Answered(
                    model.name, model.label, made.value, made.direction, made.instrument, made.at
                )
            )
        line = _encode(_line_of(made, self._rate, request_id))
        with self._queue:
            if len(self._waiting) < self.capacity and self._size + len(line) <= _MOST_BYTES:
                self._waiting.append(line)
                self._size += len(line)
            else:
                self.dropped += 1

    @property
    def waiting(self) -> int:
        """Lines that are not written yet."""
        return len(self._waiting)

    def find(self, instrument: str, at: Instant, model: str | None) -> tuple[Answered, ...]:
        """The predictions for an instrument and a moment, by one model or by any.

        Where other processes answer too it reads what they wrote, and waits a little for it.

        Raises
        ------
        Rejected: none is remembered.
        """
        found = self._find(instrument, at, model)
        for _ in range(_PATIENCE if self._shared else 0):
            if found:
                break
            self._read_on()
            found = self._find(instrument, at, model)
            if not found and self._stop.wait(_PAUSE):
                break
        if not found:
            raise Rejected(
                NO_PREDICTION,
                f"no prediction for {instrument[:80]!r} at {render(at)}"
                + (f" by {model[:80]}" if model else "")
                + f" among the last {_REMEMBERED:,}",
                found=f"{instrument[:80]} at {render(at)}",
                expected="instrument and timestamp of an answer of POST /predict",
            )
        return found

    def _find(self, instrument: str, at: Instant, model: str | None) -> tuple[Answered, ...]:
        with self._reading:
            while self._fresh:
                self._remember(self._fresh.popleft())
            known = self._recent.get((instrument, at), ())
        return tuple(one for one in known if model is None or one.model == model)

    def _read_on(self) -> None:
        """Remember what the file has behind what was read of it last."""
        with self._reading:
            for line in self._last_lines():
                if line.instrument is not None and line.prediction is not None:
                    self._remember(
                        Answered(
                            line.model, line.version, line.prediction, line.direction,
                            line.instrument, parse(line.timestamp),
                        )
                    )  # fmt: skip

    def _remember(self, answered: Answered) -> None:
        key = (answered.instrument, answered.at)
        earlier = tuple(one for one in self._recent.get(key, ()) if one.model != answered.model)
        self._recent[key] = (*earlier, answered)
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _last_lines(self) -> Iterator[_Remembered]:
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            size = handle.seek(0, 2)
            start = 0 if self._read_to > size else self._read_to  # it was begun anew
            start = handle.seek(max(start, size - _READ_BACK))
            whole, found, _ = handle.read().rpartition(b"\n")
            self._read_to = start + len(whole) + len(found)
            lines = whole.splitlines()
        decoder = msgspec.json.Decoder(_Remembered)
        for line in lines[-_REMEMBERED:]:
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, AssayError):
                continue  # cut off at the beginning, or torn by a crash

    def _write_on(self) -> None:
        while not self._stop.wait(_PAUSE):
            self._write()

    def _write(self) -> None:
        with self._queue:
            lines, self._waiting, self._size = self._waiting, [], 0
        if not lines:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                drop_torn_tail(self.path)
                with self.path.open("ab") as handle:
                    handle.write(b"\n".join(lines) + b"\n")
            self.written += len(lines)
            self.trouble = None
        except (OSError, AssayError) as error:
            with self._queue:
                self.dropped += len(lines)
            self.trouble = str(error)


class FeedbackLog:
    """``artifacts/feedback.jsonl``: what became of predictions, each line joined to them."""

    def __init__(self, path: Path, predictions: PredictionLog, clock: Clock) -> None:
        self._path = path
        self._predictions = predictions
        self._clock = clock
        self._mutex = threading.Lock()

    def record(
        self,
        instrument: str,
        at: Instant,
        *,
        direction: str | None,
        value: float | None,
        model: str | None = None,
        by: str | None = None,
    ) -> list[dict[str, Any]]:
        """Write one realised outcome durably; return the predictions that it answers.

        Parameters
        ----------
        by: who says so, where that was asked; None where it was not.

        Raises
        ------
        Rejected: no such prediction is remembered.
        """
        joined = [
            {
                "model": one.model,
                "model_version": one.version,
                "prediction": one.prediction,
                "direction": one.direction,
                "correct": None
                if direction is None or one.direction is None
                else one.direction == direction,
            }
            for one in self._predictions.find(instrument, at, model)
        ]
        line = _encode(
            {
                "at": render(self._clock.now()),
                "instrument": instrument,
                "timestamp": render(at),
                "realized_direction": direction,
                "realized_value": value,
                "answers": joined,
                **({} if by is None else {"by": by}),
            }
        )
        with self._mutex, FileLock(self._path.with_name(self._path.name + ".lock")):
            drop_torn_tail(self._path)
            append_line(self._path, line)
        return joined


def _line_of(
    made: Prediction | BatchPrediction, rate: FeatureRate, request_id: bytes | None
) -> _Written:
    model = made.model
    every = rate.share == 1.0
    written = every or rate.takes(_asked(made))
    shared = (
        render_again(made.at),
        model.name,
        model.label,
        model.digest,
        model.manifest,
        made.elapsed / 1e6,
        msgspec.UNSET if every else rate.share,
        msgspec.UNSET if request_id is None else request_id.decode("ascii"),
        trace_id() or msgspec.UNSET,
    )
    if isinstance(made, BatchPrediction):
        rows = made.features.tolist() if written else msgspec.UNSET
        return _Batch(*shared, rows, made.values)
    features: Any = msgspec.UNSET
    if written:
        features = made.features if made.read is None else made.read.in_order
    if made.instrument is None:
        return _Given(*shared, features, made.value, made.direction)
    assert made.event_time is not None
    assert made.known_time is not None
    return _Stored(
        *shared,
        features,
        made.value,
        made.direction,
        made.instrument,
        made.confidence,
        render_again(made.event_time),
        render_again(made.known_time),
        made.stale,
        msgspec.UNSET if made.request is None else made.request,
    )


def _asked(made: Prediction | BatchPrediction) -> bytes:
    """What identifies the request that led to a prediction."""
    name = made.model.name
    if isinstance(made, BatchPrediction):
        return asked_with_features(name, made.features.astype("<f8").tobytes())
    if made.instrument is None:
        return asked_with_features(name, struct.pack(f"<{len(made.features)}d", *made.features))
    return asked_of_store(name, made.instrument, made.at, made.request)
