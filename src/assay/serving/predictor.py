"""Predictions inside a process: what the service answers with, without the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter_ns

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.domain.clock import Clock
from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant, from_datetime, render
from assay.errors import ContractViolation, IncompatibleVersion
from assay.serving.feature_source import FeatureSource
from assay.serving.kill_switch import KillSwitch
from assay.serving.live_model import CHAMPION, LiveModel, LiveModels
from assay.serving.rejections import (
    BATCH_TOO_LARGE,
    FEATURE_COUNT,
    FUTURE_TIMESTAMP,
    INVALID_TIMESTAMP,
    MANIFEST_MISMATCH,
    MANIFEST_MISSING,
    MODEL_FAILED,
    NO_FEATURES,
    Rejected,
)
from assay.serving.request_inputs import RequestInputs
from assay.serving.rows import (
    LARGEST,
    Features,
    Rows,
    bad_value,
    check_names,
    read_matrix,
    read_row,
)
from assay.serving.wiring import Wiring

CANARY, FALLBACK = "canary", "fallback"
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
    """

    value: float
    direction: str | None
    confidence: float | None
    model: LiveModel
    features: list[float]
    at: Instant
    instrument: str | None
    event_time: Instant | None
    known_time: Instant | None
    stale: bool | None
    elapsed: int
    request: dict[str, float] | None = None
    route: str | None = None


class BatchPrediction(msgspec.Struct, frozen=True, gc=False):
    """The answers to several rows, all by one version.

    ``features`` are the values read, float64, shape (n, k), in the order of the model's columns.
    """

    values: list[float]
    model: LiveModel
    features: NDArray[np.float64]
    at: Instant
    elapsed: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Everything that is exchanged when another version becomes live."""

    live: LiveModels
    wiring: Mapping[str, Wiring]
    canaries: Mapping[str, Wiring]


class Predictor:
    """Answers requests with the live models; a reload exchanges them between two requests.

    Parameters
    ----------
    live: what answers; :meth:`use` exchanges it.
    sources: feature sources by the hash of their manifest. Without any, only
        :meth:`predict_features` can answer.
    requests: request views over these sources, for models with features of what a request brings.
    clock: what "now" means.
    switch: the kill switch; None only where the caller has another way to stop.
    ticks: nanoseconds on a clock that never goes back, to measure with.

    Raises
    ------
    IncompatibleVersion: a model reads features that no source has.
    """

    def __init__(
        self,
        live: LiveModels,
        sources: Mapping[str, FeatureSource],
        clock: Clock,
        *,
        requests: Iterable[RequestInputs] = (),
        switch: KillSwitch | None = None,
        limits: Limits | None = None,
        ticks: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.limits = limits or Limits()
        self.clock = clock
        self.sources = sources  # not a copy: it may follow which manifests are in use
        self.requests = {one.manifest: one for one in requests}
        self._switch = switch
        self._ticks = ticks
        self._loaded = self._wire(live)

    @property
    def live(self) -> LiveModels:
        """What answers now."""
        return self._loaded.live

    def use(self, live: LiveModels) -> None:
        """Answer with other models from the next request on; requests under way keep theirs.

        Raises
        ------
        IncompatibleVersion: a model reads features that no source has. Nothing changed.
        """
        self._loaded = self._wire(live)

    def check_fits(self, model: LiveModel) -> None:
        """Refuse a model whose features no source has.

        Raises
        ------
        IncompatibleVersion: names the manifest or the feature.
        """
        self._wire_one(model)

    def wire(self, model: LiveModel) -> Wiring | None:
        """A model's way to its features; None where nothing that it reads is kept here.

        Raises
        ------
        IncompatibleVersion: it names features that no source has.
        """
        return self._wire_one(model)

    def inputs_of(self, name: str) -> RequestInputs | None:
        """What a request for a live model has to bring; None for nothing."""
        wiring = self._loaded.wiring.get(name)
        return None if wiring is None else wiring.inputs

    def predict(
        self,
        instrument: str,
        as_of: Instant | datetime | None = None,
        *,
        request: Mapping[str, float] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
    ) -> Prediction:
        """Predict with the features that were known at a moment; now by default.

        Parameters
        ----------
        as_of: nanoseconds since the epoch, or a datetime with a time zone.
        request: what the request brings, by name, for a model with features of a request view: all
            of the view's inputs, finite numbers.
        model: ``champion``, a name, ``name@champion`` or ``name/1.2.0``.
        manifest: the manifest that the caller expects the features to follow.

        Raises
        ------
        Rejected: nothing was predicted; ``kind`` says why.
        """
        started = self._ticks()
        if self._switch is not None:
            self._switch.check()
        loaded = self._loaded
        chosen = loaded.live.find(model)
        self._check_manifest(chosen, manifest)
        now = self.clock.now()
        moment = now if as_of is None else _instant(as_of)
        if moment > now:
            raise Rejected(
                FUTURE_TIMESTAMP,
                f"timestamp {render(moment)} has not come yet: it is {render(now)}",
                found=render(moment),
                expected=f"{render(now)} or earlier",
                hint="leave the timestamp out to ask about now",
            )
        route = loaded.live.canary_for(chosen, model, instrument)
        failed = False
        if route is not None:
            wiring = loaded.canaries.get(chosen.name)
            try:
                if wiring is not None:
                    return self._predict(wiring, instrument, moment, request, started, CANARY)
            except Exception:  # noqa: BLE001 - whatever a canary does, the caller gets an answer
                # The champion's. Where the fault is not the canary's, it refuses as well.
                failed = True
        wiring = loaded.wiring.get(chosen.name)
        if wiring is None:
            raise Rejected(
                NO_FEATURES,
                f"{chosen.name} v{chosen.version} reads no features that are kept here",
                found=chosen.manifest,
                expected=sorted(self.sources),
                hint="send the features to /inference/predict",
            )
        return self._predict(
            wiring, instrument, moment, request, started, FALLBACK if failed else None
        )

    def predict_features(
        self,
        features: Features,
        *,
        names: Sequence[str] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
    ) -> Prediction:
        """Predict with features that the caller brings.

        Parameters
        ----------
        features: numbers in the model's order, or by name.
        names: what the caller believes the order to be; checked when given.
        manifest: the manifest that the features follow.

        Raises
        ------
        Rejected: nothing was predicted; ``kind`` says why.
        """
        started = self._ticks()
        chosen = self._choose(model, manifest)
        columns = chosen.schema.names
        check_names(names, columns)
        row = read_row(features, columns, "")
        value = self._run_one(chosen, row, stored=False)
        direction, confidence = judge(chosen, value)
        return Prediction(
            value,
            direction,
            confidence,
            chosen,
            row,
            self.clock.now(),
            None,
            None,
            None,
            None,
            self._ticks() - started,
        )

    def predict_batch(
        self,
        rows: Rows,
        *,
        names: Sequence[str] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
    ) -> BatchPrediction:
        """Predict several rows at once, as :meth:`predict_features` does one.

        An array is the quick way: nothing is done to its rows one by one.

        Raises
        ------
        Rejected: nothing was predicted; ``kind`` says why.
        """
        started = self._ticks()
        chosen = self._choose(model, manifest)
        count = len(rows)
        if not 1 <= count <= self.limits.batch_rows:
            raise Rejected(
                BATCH_TOO_LARGE if count else FEATURE_COUNT,
                f"the batch has {count} rows: expected 1 to {self.limits.batch_rows}",
                found=count,
                expected=f"1 to {self.limits.batch_rows}",
                hint="send several smaller batches" if count else None,
            )
        columns = chosen.schema.names
        check_names(names, columns)
        matrix = read_matrix(rows, columns)
        answers = self._run(chosen, matrix, stored=False)
        return BatchPrediction(answers, chosen, matrix, self.clock.now(), self._ticks() - started)

    def _predict(
        self,
        wiring: Wiring,
        instrument: str,
        moment: Instant,
        request: Mapping[str, float] | None,
        started: int,
        route: str | None,
    ) -> Prediction:
        brought = wiring.read(request)
        row = wiring.row(instrument, moment, refuse_stale=self.limits.refuse_stale)
        features = wiring.features(row, brought)
        value = self._run_one(wiring.model, features, stored=True)
        direction, confidence = judge(wiring.model, value)
        return Prediction(
            value,
            direction,
            confidence,
            wiring.model,
            features,
            moment,
            instrument,
            row.event_time,
            row.known_time,
            row.stale,
            self._ticks() - started,
            brought,
            route,
        )

    # -- checks ---------------------------------------------------------------------------------

    def _choose(self, model: str, manifest: str | None) -> LiveModel:
        """Which model answers to features that the caller brings, if any may."""
        if self._switch is not None:
            self._switch.check()
        chosen = self._loaded.live.find(model)
        self._check_manifest(chosen, manifest)
        return chosen

    def _check_manifest(self, chosen: LiveModel, manifest: str | None) -> None:
        if manifest is None:
            if not self.limits.require_manifest or chosen.manifest is None:
                return
            raise Rejected(
                MANIFEST_MISSING,
                f"the request does not say which feature manifest it follows: {chosen.name} "
                f"v{chosen.version} reads {chosen.manifest}",
                expected=chosen.manifest,
                hint="send the header X-Assay-Manifest; GET /model tells the hash",
            )
        if manifest != chosen.manifest:
            raise Rejected(
                MANIFEST_MISMATCH,
                f"manifest {manifest[:80]!r}: {chosen.name} v{chosen.version} reads "
                f"{chosen.manifest or 'no manifest'}",
                found=manifest,
                expected=chosen.manifest,
                hint="compute the features by the model's manifest",
            )

    def _run_one(self, chosen: LiveModel, row: list[float], *, stored: bool) -> float:
        # A row's length is no less than any of its values: where it is a float32, one pass in C
        # has told that they all are. NaN is none, and is told of the longer way.
        if not math.hypot(*row) <= LARGEST:
            return self._run(chosen, np.array([row]), stored=stored)[0]
        try:
            return chosen.model.predict_one(row)
        except IncompatibleVersion as error:
            raise _no_answer(chosen, error) from error

    def _run(self, chosen: LiveModel, matrix: NDArray[np.float64], *, stored: bool) -> list[float]:
        # What float32 cannot hold would become an infinity on the way.
        within = np.abs(matrix) <= LARGEST
        if chosen.model.allow_missing:
            within |= np.isnan(matrix)
        if not within.all():
            raise bad_value(chosen, matrix, within, stored=stored)
        try:
            answers: list[float] = chosen.model.predict_checked(matrix.astype(np.float32)).tolist()
        except IncompatibleVersion as error:
            raise _no_answer(chosen, error) from error
        return answers

    # -- wiring ---------------------------------------------------------------------------------

    def _wire(self, live: LiveModels) -> _Loaded:
        wired = {name: self._wire_one(model) for name, model in live.models.items()}
        canaries = {name: self._wire_one(route.model) for name, route in live.canaries.items()}
        return _Loaded(
            live,
            {name: one for name, one in wired.items() if one is not None},
            {name: one for name, one in canaries.items() if one is not None},
        )

    def _wire_one(self, model: LiveModel) -> Wiring | None:
        return Wiring.of(model, self.sources, self.requests)


def judge(model: LiveModel, value: float) -> tuple[str | None, float | None]:
    """Direction and confidence of an answer; None for a model that gives no probability."""
    if not model.model.gives_probability:
        return None, None
    return (_BULLISH if value >= _THRESHOLD else _BEARISH), 2.0 * abs(value - _THRESHOLD)


def _instant(moment: Instant | datetime) -> Instant:
    if isinstance(moment, datetime):
        try:
            moment = from_datetime(moment)
        except ContractViolation as error:
            raise Rejected(
                INVALID_TIMESTAMP,
                error.message,
                found=str(moment),
                expected="a time zone",
                hint=error.hint,
            ) from None
    if type(moment) is not int or not MIN_INSTANT <= moment <= MAX_INSTANT:
        raise Rejected(
            INVALID_TIMESTAMP,
            f"timestamp {moment!r}: expected int64 nanoseconds since the epoch",
            found=moment,
            expected="int64 nanoseconds since the epoch, or a datetime with a time zone",
        )
    return moment


def _no_answer(chosen: LiveModel, error: IncompatibleVersion) -> Rejected:
    return Rejected(
        MODEL_FAILED,
        f"{chosen.name} v{chosen.version}: {error.message}",
        found="no usable answer",
        expected="a finite number",
    )
