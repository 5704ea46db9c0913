"""What is asked of a predictor and what it answers: values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.domain.instants import Instant
from assay.serving.inputs.feature_source import SourceRow
from assay.serving.inputs.read_rows import ReadRow
from assay.serving.inputs.wiring import Wiring
from assay.serving.models.live_model import LiveModel

_BULLISH, _BEARISH = "bullish", "bearish"
_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """What a predictor accepts.

    Attributes
    ----------
    require_manifest: whether a caller has to name the manifest that its features follow.
    refuse_stale: whether stale features are refused, or answered and reported as stale.
    batch_rows: rows of a batch at most.
    """

    require_manifest: bool = True
    refuse_stale: bool = True
    batch_rows: int = 1_024


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One answer, with everything it rests on.

    Attributes
    ----------
    value: what the model answered: its value, or the probability of a rise.
    direction, confidence: for a probability, ``bullish`` from 0.5 on, and 2 |p - 0.5|; else None.
    model: the version that answered.
    features: the values read, float64, in the order of the model's columns. The model was given
        them rounded to float32.
    at: the moment asked about.
    instrument, event_time, known_time, stale: None where the caller brought the features.
    elapsed: nanoseconds that it took.
    request: what the request brought; None for a model that takes nothing, and where the caller
        brought the features.
    route: ``canary`` where a canary answered in the champion's place, ``fallback`` where it should
        have and could not; otherwise None.
    read: the stored row that it rests on, where the row alone decides the answer.
    entity: the instrument that the caller named for features that it brought; a canary is chosen by
        it, and nothing is read for it.
    """

    value: float
    direction: str | None
    confidence: float | None
    model: LiveModel
    features: Sequence[float]
    at: Instant
    instrument: str | None
    event_time: Instant | None
    known_time: Instant | None
    stale: bool | None
    elapsed: int
    request: dict[str, float] | None = None
    route: str | None = None
    read: ReadRow | None = None
    entity: str | None = None


class BatchPrediction(msgspec.Struct, frozen=True, gc=False):
    """The answers to several rows, all by one version.

    ``features`` are the values read, float64, shape (n, k), in the order of the model's columns;
    ``entity`` and ``route`` as of a :class:`Prediction`.
    """

    values: list[float]
    model: LiveModel
    features: NDArray[np.float64]
    at: Instant
    elapsed: int
    entity: str | None = None
    route: str | None = None


class CanaryWiring(msgspec.Struct, frozen=True, gc=False):
    """A canary's way to its features, and the instruments of a request that it answers for."""

    wiring: Wiring
    instruments: frozenset[str]


class Question(msgspec.Struct, frozen=True, gc=False):
    """A request that was found to be in order, before anything was read for it.

    Attributes
    ----------
    instruments: whose features are read, together. moment: as of which they are read.
    brought: what the request brings for each of them.
    may_wait: whether reading may wait for another machine.
    started: when it was asked, on the predictor's ticks.
    canary: what answers for some of the instruments in the model's place; None for nothing.
    """

    model: LiveModel
    wiring: Wiring
    instruments: tuple[str, ...]
    moment: Instant
    brought: tuple[dict[str, float] | None, ...]
    may_wait: bool
    started: int
    canary: CanaryWiring | None = None

    def read(self) -> list[SourceRow | None]:
        """The stored rows, in one round trip; the only step that may wait.

        Raises
        ------
        Rejected: the store cannot be read.
        """
        return self.wiring.rows(self.instruments, self.moment)


def judge(model: LiveModel, value: float) -> tuple[str | None, float | None]:
    """Direction and confidence of an answer; None for a model that gives no probability."""
    if not model.model.gives_probability:
        return None, None
    return (_BULLISH if value >= _THRESHOLD else _BEARISH), 2.0 * abs(value - _THRESHOLD)
