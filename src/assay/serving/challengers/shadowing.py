"""Challengers predict beside the requests on what was answered, and both answers are kept.

A request leaves its answer in a bounded ring, which costs less than a microsecond, and is gone.
Each challenger has a thread and a ring of its own: one that is slow loses its own pairs, which are
counted, and delays neither the callers nor another challenger; one that throws or answers NaN is
written down as doing so. Rows are predicted many at a time, in short turns, so that the thread
never holds the interpreter for long.

A challenger with the champion's columns is given the values that the champion was given; where that
is a stored row which it has answered to, as the champion has, its answer stands. One with other
columns reads the store as of the same moment.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter_ns

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.domain.clock import Clock
from assay.errors import AssayError, IncompatibleVersion
from assay.serving.challengers.pair_log import Kept, PairLog
from assay.serving.challengers.pairs import CHAMPION_SERVED, Turn, column, encode_turns
from assay.serving.inputs.read_rows import ReadRow
from assay.serving.inputs.wiring import Wiring
from assay.serving.models.live_model import LiveModel
from assay.serving.prediction.predictions import BatchPrediction, Prediction
from assay.serving.prediction.predictor import CANARY

CAPACITY = 20_000
"""Rows that may wait for one challenger."""
TURN_ROWS = 256
ANSWERS = 10_000
"""Entities whose last stored row's answer is remembered, as many as for the champion."""
_TURN_NANOS = 5_000_000
"""About the time of one turn: a slow challenger's turns have few rows, and are told of soon."""
STOP_SECONDS = 2.0
"""That a challenger may take to write what waits when it ends."""
_PAUSE = 0.2
_WRITE_TURNS = 8
_NO_NUMBER = "no finite number"


@dataclass(frozen=True, slots=True, eq=False)
class Challenger:
    """A version that runs beside the one in production, wired to its features.

    ``share`` is its share of the entities as a canary, 0 for a shadow.
    """

    model: LiveModel
    wiring: Wiring | None
    revision: int
    share: float = 0.0


class _Left(msgspec.Struct, frozen=True, gc=False):
    """What a request leaves: nothing but what it had anyway, looked at by nobody.

    Taking forty features apart here would cost more than leaving them whole: they are forty places
    in memory, which the answer to a stored row that was read before has not touched.
    """

    made: Prediction | BatchPrediction
    champion: LiveModel
    champion_wiring: Wiring | None
    request_id: bytes | None

    @property
    def rows(self) -> int:
        return len(self.made.values) if isinstance(self.made, BatchPrediction) else 1


class _Answer(msgspec.Struct, frozen=True, gc=False):
    """What a challenger answered to a stored row."""

    read: ReadRow
    value: float


@dataclass(slots=True)
class _Rows:
    """The rows of a turn on their way into a line; see :class:`.pairs.Turn`."""

    prediction: list[float | None]
    shadow: list[float | None]
    at: list[int]
    champion_ns: list[int | None]
    shadow_ns: list[int | None]
    instrument: list[str | None]
    event_time: list[int | None]
    stale: list[bool | None]
    served: list[str]
    error: list[str | None]
    request_id: list[str | None]

    def answered_by_canary(
        self, place: int, champion: float | None, elapsed: int, own: float | None
    ) -> None:
        """A canary gave this row's answer; ``own`` is it where that is the challenger itself."""
        self.prediction[place] = champion
        self.champion_ns[place] = None
        self.served[place] = CANARY
        if own is not None:
            self.shadow[place], self.error[place], self.shadow_ns[place] = own, None, elapsed


class Shadow:
    """One challenger's ring and thread.

    Parameters
    ----------
    path: the paired log, which all challengers and all processes append to; kept: how much of it.
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
        kept: Kept | None = None,
        ticks: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.challenger = challenger
        self.capacity = capacity
        self.written = self.errors = 0
        # One writer each: the requests' thread, and this challenger's.
        self._taken = self._refused = 0
        self._done = self._lost = 0
        self.trouble: str | None = None
        self._clock = clock
        self._ticks = ticks
        self._told = 0
        self._turn_rows = 64
        self._alike: dict[str, bool] = {}
        self._answers: dict[str, _Answer] = {}
        self._ring: deque[_Left] = deque()
        self._stop = threading.Event()
        self._log = PairLog(path, kept or Kept())
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

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Predict on what waits, and end; after ``seconds`` without waiting for it any longer."""
        self._stop.set()
        self._thread.join(seconds)

    def offer(
        self,
        made: Prediction | BatchPrediction,
        champion: LiveModel,
        wiring: Wiring | None,
        request_id: bytes | None,
    ) -> None:
        """Take what was answered; never waits."""
        rows = len(made.values) if isinstance(made, BatchPrediction) else 1
        if self._taken - self._done + rows > self.capacity:
            self._refused += rows
            return
        self._taken += rows
        self._ring.append(_Left(made, champion, wiring, request_id))

    def _reads_alike(self, model: LiveModel) -> bool:
        """Whether a model reads the challenger's columns."""
        known = self._alike.get(model.digest)
        if known is None:
            own = self.challenger.model
            known = model.schema.names == own.schema.names and model.manifest == own.manifest
            self._alike[model.digest] = known
        return known

    # -- the thread --------------------------------------------------------------------------------

    def _work_on(self) -> None:
        while not self._stop.wait(_PAUSE):
            self._drain(until=self._stop)
        self._drain(until=None)

    def _drain(self, until: threading.Event | None) -> None:
        lines: list[Turn] = []
        while self._ring and not (until is not None and until.is_set()):
            run, rows = self._next()
            try:
                lines.append(self._turn(run))
            except Exception as error:  # noqa: BLE001 - whatever it is, the next turn goes on
                self.trouble = f"{type(error).__name__}: {error}"
                self._lost += rows
            if len(lines) >= _WRITE_TURNS or not self._ring:
                self._write(lines)
                lines = []
            self._done += rows
        self._write(lines)

    def _next(self) -> tuple[list[_Left], int]:
        """What waits next, of one kind and beside one champion; and how many rows that is."""
        ring = self._ring
        first = ring.popleft()
        made, champion, plain = first.made, first.champion, self._is_plain(first)
        kind, model, run, rows = type(made), made.model, [first], first.rows
        while rows < self._turn_rows and ring:
            one = ring[0]
            made = one.made
            alike = (
                made.model is model and type(made) is kind
            )  # most are: a look at each saves time
            if one.champion is not champion or not (alike or self._is_plain(one) is plain):
                break
            run.append(ring.popleft())
            rows += 1 if plain else one.rows
        return run, rows

    def _is_plain(self, one: _Left) -> bool:
        """Whether it is one row, of columns that are the challenger's and the champion's."""
        model, champion = one.made.model, one.champion
        return (
            isinstance(one.made, Prediction)
            and self._reads_alike(champion)
            and (model is champion or self._reads_alike(model))
        )

    def _turn(self, run: list[_Left]) -> Turn:
        """The line of what was left, all of one kind, in its order."""
        started, champion = self._ticks(), run[0].champion
        plain = self._is_plain(run[0])
        rows = self._plain(champion, run) if plain else self._others(run)
        return self._line(champion, rows, started)

    def _plain(self, champion: LiveModel, left: Sequence[_Left]) -> _Rows:
        """Single answers from columns that are the challenger's."""
        run = [one.made for one in left if isinstance(one.made, Prediction)]
        values, errors, spent = self._single_answers(run)
        rows = _Rows(
            [one.value for one in run],
            values,
            [one.at for one in run],
            [one.elapsed for one in run],
            spent,
            [one.instrument or one.entity for one in run],
            [one.event_time for one in run],
            [one.stale for one in run],
            [one.route or CHAMPION_SERVED for one in run],
            errors,
            _texts([one.request_id for one in left]),
        )
        by_canary = [place for place, one in enumerate(run) if one.route == CANARY]
        if by_canary:
            champions, _ = _predict(champion, _float32([run[n].features for n in by_canary]))
            for place, value in zip(by_canary, champions, strict=True):
                one = run[place]
                rows.answered_by_canary(place, value, one.elapsed, self._own(one.model, one.value))
        return rows

    def _single_answers(
        self, run: Sequence[Prediction]
    ) -> tuple[list[float | None], list[str | None], list[int | None]]:
        """The challenger's answers, why there is none, and nanoseconds for each.

        An answer to a stored row stands for as long as the champion's does, and has no time: what
        the first one took must not count as often as the row is asked about.
        """
        known = self._answers
        found = [None if one.read is None else known.get(one.instrument or "") for one in run]
        values: list[float | None] = [None] * len(run)
        errors: list[str | None] = [None] * len(run)
        spent: list[int | None] = [None] * len(run)
        asked = []
        for place, (one, answer) in enumerate(zip(run, found, strict=True)):
            if answer is not None and answer.read is one.read:
                values[place] = answer.value
            else:
                asked.append(place)
        if not asked:
            return values, errors, spent
        made, wrong, each = self._ask(_float32([run[place].features for place in asked]))
        if len(known) + len(asked) > ANSWERS:
            known.clear()
        for place, value, error in zip(asked, made, wrong, strict=True):
            values[place], errors[place], spent[place] = value, error, each
            one = run[place]
            if one.read is not None and one.instrument is not None and value is not None:
                known[one.instrument] = _Answer(one.read, value)
        return values, errors, spent

    def _others(self, run: Sequence[_Left]) -> _Rows:
        """Batches, and answers from other columns than the challenger's."""
        model = self.challenger.model
        inputs = [_rows_for(model, self.challenger.wiring, one) for one in run]
        known = [one for one in inputs if not isinstance(one, str)]
        values, errors, each = (
            self._ask(np.ascontiguousarray(np.concatenate(known))) if known else ([], [], 0)
        )
        rows = _Rows([], [], [], [], [], [], [], [], [], [], [])
        done = 0
        for one, given in zip(run, inputs, strict=True):
            count, made = one.rows, one.made
            if isinstance(given, str):
                rows.shadow += [None] * count
                rows.error += [given] * count
            else:
                rows.shadow += values[done : done + count]
                rows.error += errors[done : done + count]
                done += count
            single = made if isinstance(made, Prediction) else None
            answers = [made.value] if isinstance(made, Prediction) else made.values
            instrument = made.entity if single is None else single.instrument or single.entity
            rows.prediction += answers
            rows.at += [made.at] * count
            rows.champion_ns += [made.elapsed] * count
            rows.shadow_ns += [each] * count
            rows.instrument += [instrument] * count
            rows.event_time += [None if single is None else single.event_time] * count
            rows.stale += [None if single is None else single.stale] * count
            rows.served += [made.route or CHAMPION_SERVED] * count
            rows.request_id += _texts([one.request_id]) * count
            if made.route == CANARY:
                for place, champion, value in zip(
                    range(-count, 0), _champion_answers(one, count), answers, strict=True
                ):
                    own = self._own(made.model, value)
                    rows.answered_by_canary(place, champion, made.elapsed // count, own)
        return rows

    def _own(self, model: LiveModel, value: float) -> float | None:
        """An answer that the challenger itself gave; None for another's."""
        return value if model.digest == self.challenger.model.digest else None

    def _line(self, champion: LiveModel, rows: _Rows, turn_id: int) -> Turn:
        challenger = self.challenger
        if rows.error.count(None) < len(rows.error):
            self.errors += rows.shadow.count(None)
        lost, self._told = self.dropped - self._told, self.dropped
        return Turn(
            self._clock.now(), champion.name, champion.version, champion.digest,
            challenger.model.version, challenger.model.digest, challenger.revision,
            champion.manifest, turn_id, rows.prediction, rows.shadow, column(rows.at),
            column(rows.champion_ns), column(rows.shadow_ns), column(rows.instrument),
            column(rows.event_time), column(rows.stale), column(rows.served), column(rows.error),
            column(rows.request_id), lost,
        )  # fmt: skip

    def _ask(self, matrix: NDArray[np.float32]) -> tuple[list[float | None], list[str | None], int]:
        """The challenger's answers, why there is none, and nanoseconds for each."""
        started = self._ticks()
        values, errors = _predict(self.challenger.model, matrix)
        each = (self._ticks() - started) // len(matrix)
        self._turn_rows = max(1, min(TURN_ROWS, _TURN_NANOS // max(1, each)))
        return values, errors, each

    def _write(self, lines: list[Turn]) -> None:
        if not lines:
            return
        rows = sum(len(one.prediction) for one in lines)
        try:
            self._log.append(encode_turns(lines), lines[-1].recorded)
            self.written += rows
            self.trouble = self._log.trouble
        except (OSError, AssayError) as error:
            self._lost += rows
            self.trouble = str(error)


def _rows_for(model: LiveModel, wiring: Wiring | None, one: _Left) -> NDArray[np.float32] | str:
    """What a model reads of an answered request, shape (n, k); or why it can read nothing."""
    made = one.made
    names, wanted = made.model.schema.names, model.schema.names
    given = np.atleast_2d(np.asarray(made.features, dtype=np.float64))
    if names == wanted and made.model.manifest == model.manifest:
        return _rounded(given)
    if made.model.manifest == model.manifest and set(wanted) <= set(names):
        return _rounded(given[:, [names.index(name) for name in wanted]])
    if wiring is None or not isinstance(made, Prediction) or made.instrument is None:
        return "it reads features that the request does not hold"
    try:
        (stored,) = wiring.rows([made.instrument], made.at)
        row = wiring.fit(stored, made.instrument, made.at, refuse_stale=False)
        return _rounded(np.array([wiring.features(row, wiring.read(made.request))]))
    except AssayError as error:
        return error.message


def _float32(rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """Rows that a model of these columns has answered to; shape (n, k)."""
    matrix = np.empty((len(rows), len(rows[0])), dtype=np.float32)
    # A fraction of the time that numpy takes to read lists, and rounded as the champion's row was.
    struct.pack_into(f"={matrix.size}f", matrix.data.cast("B"), 0, *chain.from_iterable(rows))
    return matrix


def _rounded(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    # What float32 cannot hold becomes an infinity, which the model's answer shows.
    with np.errstate(over="ignore"):
        return rows.astype(np.float32)


def _predict(
    model: LiveModel, matrix: NDArray[np.float32]
) -> tuple[list[float | None], list[str | None]]:
    """A model's answers to some rows; None and why for each row without one.

    All at once; where that fails, row by row, so that one bad row is told from all being bad.
    """
    try:
        return model.model.predict_checked(matrix).tolist(), [None] * len(matrix)
    except Exception:  # noqa: BLE001 - the runtime's errors share no base class
        found = [_predict_row(model, matrix[n : n + 1]) for n in range(len(matrix))]
        return [value for value, _ in found], [error for _, error in found]


def _predict_row(model: LiveModel, row: NDArray[np.float32]) -> tuple[float | None, str | None]:
    try:
        return float(model.model.predict_checked(row)[0]), None
    except IncompatibleVersion:
        return None, _NO_NUMBER
    except Exception as error:  # noqa: BLE001 - the runtime's errors share no base class
        # Its kind, and no more: messages name values, and would be counted one by one.
        return None, f"it raised {type(error).__name__}"


def _champion_answers(one: _Left, count: int) -> list[float | None]:
    """What the champion would have answered where a canary did."""
    rows = _rows_for(one.champion, one.champion_wiring, one)
    return [None] * count if isinstance(rows, str) else _predict(one.champion, rows)[0]


def _texts(ids: Sequence[bytes | None]) -> list[str | None]:
    return [None if one is None else one.decode("ascii", "replace") for one in ids]
