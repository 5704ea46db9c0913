"""Challengers predict on what was answered, beside the requests, and both answers are kept.

A request leaves its prediction in a bounded ring, which costs a fraction of a microsecond, and is
gone. Each challenger has a thread and a ring of its own: one that is slow loses its own pairs,
which are counted, and delays neither the callers nor another challenger; one that throws or answers
NaN is written down as doing so. Rows are predicted many at a time, in short turns, so that the
thread never holds the interpreter for long.

A challenger with the champion's columns is given the values that the champion was given. One with
other columns reads the store as of the same moment.
"""

from __future__ import annotations

import math
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.domain.clock import Clock
from assay.errors import AssayError
from assay.serving.live_model import LiveModel
from assay.serving.predictions import BatchPrediction, Prediction
from assay.serving.predictor import CANARY, FALLBACK
from assay.serving.wiring import Wiring
from assay.storage.files import drop_torn_tail
from assay.storage.locks import FileLock

CAPACITY = 20_000
"""Rows that may wait for one challenger."""
TURN_ROWS = 64
_PAUSE = 0.2
_WRITE_ROWS = 512
_encode = msgspec.json.Encoder().encode_lines


class Pair(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of the paired log: what two versions answer to the same input.

    Attributes
    ----------
    at: the moment asked about, ns UTC. instrument: None where the caller brought the features.
    champion, challenger: the versions; ``*_digest`` their bytes.
    prediction, shadow: their answers; None where there is none, and ``error`` says why.
    served: ``champion``, ``canary``, or ``fallback`` where the canary could not answer.
    champion_ms: time of the whole answer that was given. shadow_ms: time of one row through the
        challenger, mean over the turn. turn: rows of one turn share it.
    revision: the entry of the registry's log from which this challenger is measured.
    event_time: of the features, ns UTC; stale: whether they had gone stale.
    request_id: of the request, where it had one.
    recorded: when the pair was made, ns UTC; long after ``at`` where the past was asked about.
    dropped: rows of this challenger that were lost since the line before it.
    """

    at: int
    model: str
    champion: str
    champion_digest: str
    challenger: str
    challenger_digest: str
    revision: int
    prediction: float | None
    shadow: float | None
    served: str
    champion_ms: float | None
    shadow_ms: float
    turn: int
    recorded: int
    manifest: str | None = None
    instrument: str | None = None
    event_time: int | None = None
    stale: bool | None = None
    error: str | None = None
    request_id: str | None = None
    dropped: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Challenger:
    """A version that runs beside the one in production, wired to its features.

    ``canary`` is its share of the entities, 0 for a shadow.
    """

    model: LiveModel
    wiring: Wiring | None
    revision: int
    share: float = 0.0


class _Answer(msgspec.Struct, frozen=True, gc=False):
    """A plain answer by the champion, with its features packed as float64.

    Forty numbers that wait as objects are two kilobytes that the next request cannot use again, and
    a thousand answers of them push what requests need out of the processor's cache.
    """

    value: float
    at: int
    elapsed: int
    instrument: str | None
    event_time: int | None
    stale: bool | None
    features: bytes


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    """What a request leaves behind; the collector is not to walk through thousands of them."""

    made: Prediction | BatchPrediction | _Answer
    champion: LiveModel
    champion_wiring: Wiring | None
    request_id: str | None


class Shadow:
    """One challenger's ring and thread.

    Parameters
    ----------
    path: the paired log, which all challengers and all processes append to.
    capacity: rows that may wait; further ones are dropped and counted.
    clock: when a pair is made. ticks: nanoseconds on a clock that never goes back.

    Attributes
    ----------
    written, errors: rows that were written down, and among them those that the challenger could
        not answer.
    trouble: why the last turn was lost, if it was.
    """

    def __init__(
        self,
        challenger: Challenger,
        path: Path,
        clock: Clock,
        *,
        capacity: int = CAPACITY,
        ticks: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.challenger = challenger
        self.capacity = capacity
        self.written = self.errors = 0
        # One writer each: the requests' thread, and this challenger's.
        self._taken = self._refused = 0
        self._done = self._lost = 0
        self.trouble: str | None = None
        self._path = path
        self._clock = clock
        self._ticks = ticks
        self._told = 0
        self._compared: LiveModel | None = None
        self._is_alike = False
        self._pack = struct.Struct(f"={len(challenger.model.schema.names)}d").pack
        self._ring: deque[_Waiting] = deque()
        self._stop = threading.Event()
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._thread = threading.Thread(target=self._work_on, name="shadow", daemon=True)

    @property
    def waiting(self) -> int:
        """Rows that the challenger has still to answer."""
        return self._taken - self._done

    @property
    def dropped(self) -> int:
        """Rows that found the ring full, or that could not be written down."""
        return self._refused + self._lost

    def start(self) -> None:
        """Begin to predict."""
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Predict on what waits, and end; after ``seconds`` without waiting for it any longer."""
        self._stop.set()
        self._thread.join(seconds)

    def offer(
        self,
        made: Prediction | BatchPrediction,
        champion: LiveModel,
        wiring: Wiring | None,
        request_id: str | None,
    ) -> None:
        """Take what was answered; never waits."""
        rows = len(made.values) if isinstance(made, BatchPrediction) else 1
        if self._taken - self._done + rows > self.capacity:
            self._refused += rows
            return
        self._taken += rows
        if isinstance(made, Prediction) and made.route is None and self._alike(made.model):
            left = _Answer(
                made.value, made.at, made.elapsed, made.instrument, made.event_time, made.stale,
                self._pack(*made.features),
            )  # fmt: skip
            self._ring.append(_Waiting(left, champion, wiring, request_id))
        else:
            self._ring.append(_Waiting(made, champion, wiring, request_id))

    # -- the thread --------------------------------------------------------------------------------

    def _work_on(self) -> None:
        while not self._stop.wait(_PAUSE):
            self._drain(until=self._stop)
        self._drain(until=None)

    def _drain(self, until: threading.Event | None) -> None:
        pairs: list[Pair] = []
        while self._ring and not (until is not None and until.is_set()):
            turn: list[_Waiting] = []
            rows = 0
            while self._ring and rows < TURN_ROWS:
                one = self._ring.popleft()
                turn.append(one)
                rows += len(one.made.values) if isinstance(one.made, BatchPrediction) else 1
            try:
                pairs += self._plain(turn) or self._pairs(turn)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next turn goes on
                self.trouble = f"{type(error).__name__}: {error}"
                self._lost += rows
            if len(pairs) >= _WRITE_ROWS or not self._ring:
                self._write(pairs)
                pairs = []
            self._done += rows
        self._write(pairs)

    def _plain(self, turn: Sequence[_Waiting]) -> list[Pair] | None:
        """The pairs of a turn of single answers by the champion, whose columns are the
        challenger's, in a quarter of the time; None for any other turn, and where a row fails.
        """
        left = [one.made for one in turn if isinstance(one.made, _Answer)]
        if len(left) < len(turn):
            return None
        started = self._ticks()
        with np.errstate(over="ignore"):
            matrix = _matrix(left).astype(np.float32)
        try:
            answers = self.challenger.model.model.predict_checked(matrix).tolist()
        except Exception:  # noqa: BLE001 - the longer way tells which row it is
            return None
        each = (self._ticks() - started) / 1e6 / len(turn)
        now = self._clock.now()
        version, digest = self.challenger.model.version, self.challenger.model.digest
        revision = self.challenger.revision
        pairs = [
            Pair(
                made.at, champion.name, champion.version, champion.digest, version, digest,
                revision, made.value, value, "champion", made.elapsed / 1e6, each, started, now,
                champion.manifest, made.instrument, made.event_time, made.stale, None,
                one.request_id,
            )
            for one, made, value in zip(turn, left, answers, strict=True)
            for champion in (one.champion,)
        ]  # fmt: skip
        lost = self._newly_dropped()
        if lost:
            pairs[0] = msgspec.structs.replace(pairs[0], dropped=lost)
        return pairs

    def _alike(self, model: LiveModel) -> bool:
        """Whether a model reads the challenger's columns; asked about the same one again."""
        if model is not self._compared:
            own = self.challenger.model
            self._is_alike = (model.schema.names, model.manifest) == (
                own.schema.names,
                own.manifest,
            )
            self._compared = model
        return self._is_alike

    def _pairs(self, turn: Sequence[_Waiting]) -> list[Pair]:
        inputs = [_rows_for(self.challenger.model, self.challenger.wiring, one) for one in turn]
        turn_id = started = self._ticks()
        answers = _predict(self.challenger.model, inputs)
        count = max(1, sum(len(one) for one in answers))
        each = (self._ticks() - started) / 1e6 / count
        pairs: list[Pair] = []
        for one, values, given in zip(turn, answers, inputs, strict=True):
            problem = given if isinstance(given, str) else None
            self.errors += len(values) if problem else sum(value is None for value in values)
            pairs += self._lines(one, values, problem, each, turn_id)
        return pairs

    def _lines(
        self,
        one: _Waiting,
        values: list[float | None],
        problem: str | None,
        each: float,
        turn: int,
    ) -> Iterator[Pair]:
        made, challenger = one.made, self.challenger
        if isinstance(made, _Answer):
            yield from self._left(one, made, values, problem, each, turn)
            return
        single = made if isinstance(made, Prediction) else None
        answered = [made.value] if isinstance(made, Prediction) else made.values
        by_canary = single is not None and single.route == CANARY
        champions: Sequence[float | None] = answered
        if by_canary:
            champions, _ = _champion_answer(one)
            if made.model.digest == challenger.model.digest:
                values, problem = list(answered), None
        served = "champion"
        if single is not None and single.route in {CANARY, FALLBACK}:
            served = str(single.route)
        for champion, value in zip(champions, values, strict=True):
            finite = value is not None and math.isfinite(value)
            yield Pair(
                made.at, one.champion.name, one.champion.version, one.champion.digest,
                challenger.model.version, challenger.model.digest, challenger.revision,
                champion, value if finite else None, served,
                None if by_canary else made.elapsed / 1e6,
                made.elapsed / 1e6 if by_canary else each, turn, self._clock.now(),
                one.champion.manifest, None if single is None else single.instrument,
                None if single is None else single.event_time,
                None if single is None else single.stale,
                problem or (None if finite else "no finite number"), one.request_id,
                self._newly_dropped(),
            )  # fmt: skip

    def _left(
        self,
        one: _Waiting,
        made: _Answer,
        values: list[float | None],
        problem: str | None,
        each: float,
        turn: int,
    ) -> list[Pair]:
        (value,) = values
        champion, challenger = one.champion, self.challenger
        return [
            Pair(
                made.at, champion.name, champion.version, champion.digest,
                challenger.model.version, challenger.model.digest, challenger.revision,
                made.value, value, "champion", made.elapsed / 1e6, each, turn, self._clock.now(),
                champion.manifest, made.instrument, made.event_time, made.stale,
                problem or (None if value is not None else "no finite number"), one.request_id,
                self._newly_dropped(),
            )
        ]  # fmt: skip

    def _newly_dropped(self) -> int:
        lost, self._told = self.dropped - self._told, self.dropped
        return lost

    def _write(self, pairs: list[Pair]) -> None:
        if not pairs:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lines = _encode(pairs)
            with self._lock:
                drop_torn_tail(self._path)
                with self._path.open("ab") as handle:
                    handle.write(lines)
            self.written += len(pairs)
            self.trouble = None
        except (OSError, AssayError) as error:
            self._lost += len(pairs)
            self.trouble = str(error)


def _rows_for(model: LiveModel, wiring: Wiring | None, one: _Waiting) -> NDArray[np.float64] | str:
    """What a model reads of an answered request, shape (n, k); or why it can read nothing."""
    made = one.made
    if isinstance(made, _Answer):
        return _matrix([made])
    names, wanted = made.model.schema.names, model.schema.names
    given = np.atleast_2d(np.asarray(made.features, dtype=np.float64))
    if names == wanted and made.model.manifest == model.manifest:
        return given
    if made.model.manifest == model.manifest and set(wanted) <= set(names):
        return given[:, [names.index(name) for name in wanted]]
    if wiring is None or not isinstance(made, Prediction) or made.instrument is None:
        return "it reads features that the request does not hold"
    try:
        (stored,) = wiring.rows([made.instrument], made.at)
        row = wiring.fit(stored, made.instrument, made.at, refuse_stale=False)
        return np.array([wiring.features(row, wiring.read(made.request))])
    except AssayError as error:
        return error.message


def _matrix(left: Sequence[_Answer]) -> NDArray[np.float64]:
    """The features of answers of one width, shape (n, k)."""
    return np.frombuffer(b"".join([one.features for one in left])).reshape(len(left), -1)


def _predict(
    model: LiveModel, inputs: Sequence[NDArray[np.float64] | str]
) -> list[list[float | None]]:
    """A model's answers to several inputs; None for each row without one.

    All at once; where that fails, row by row, so that one bad row is told from all being bad.
    """
    arrays = [one for one in inputs if not isinstance(one, str)]
    flat: list[float | None] = []
    if arrays:
        # What float32 cannot hold becomes an infinity, which the model's answer shows.
        with np.errstate(over="ignore"):
            matrix = np.ascontiguousarray(np.concatenate(arrays), dtype=np.float32)
        try:
            flat = list(model.model.predict_checked(matrix).tolist())
        except Exception:  # noqa: BLE001 - the runtime's errors share no base class
            flat = [_predict_row(model, matrix[n : n + 1]) for n in range(len(matrix))]
    given = iter(flat)
    return [[None] if isinstance(one, str) else [next(given) for _ in one] for one in inputs]


def _predict_row(model: LiveModel, row: NDArray[np.float32]) -> float | None:
    try:
        return float(model.model.predict_checked(row)[0])
    except Exception:  # noqa: BLE001 - the runtime's errors share no base class
        return None


def _champion_answer(one: _Waiting) -> tuple[list[float | None], str | None]:
    """What the champion would have answered where a canary did."""
    rows = _rows_for(one.champion, one.champion_wiring, one)
    if isinstance(rows, str):
        return [None], rows
    return _predict(one.champion, [rows])[0], None
