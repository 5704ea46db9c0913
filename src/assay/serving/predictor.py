"""Predictions inside a process: what the service answers with, without the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter_ns

import msgspec
import numpy as np
from numpy.typing import NDArray

from assay.domain.clock import Clock
from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant, from_datetime, render
from assay.errors import AssayError, ContractViolation, IncompatibleVersion, did_you_mean
from assay.serving.feature_source import FeatureSource, SourceRow
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
    STALE_FEATURES,
    UNAVAILABLE,
    UNKNOWN_INSTRUMENT,
    Rejected,
)
from assay.serving.rows import (
    LARGEST,
    Features,
    Rows,
    bad_value,
    check_names,
    read_matrix,
    read_row,
)

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


class BatchPrediction(msgspec.Struct, frozen=True, gc=False):
    """The answers to several rows, all by one version.

    ``features`` are the values read, float64, shape (n, k), in the order of the model's columns.
    """

    values: list[float]
    model: LiveModel
    features: NDArray[np.float64]
    at: Instant
    elapsed: int


@dataclass(frozen=True, slots=True, eq=False)
class _Wiring:
    """A model's way to its features: the source, and where its columns stand in a row."""

    source: FeatureSource
    columns: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Everything that is exchanged when another version becomes live."""

    live: LiveModels
    wiring: Mapping[str, _Wiring]


class Predictor:
    """Answers requests with the live models; a reload exchanges them between two requests.

    Parameters
    ----------
    live: what answers; :meth:`use` exchanges it.
    sources: feature sources by the hash of their manifest. Without any, only
        :meth:`predict_features` can answer.
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
        switch: KillSwitch | None = None,
        limits: Limits | None = None,
        ticks: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.limits = limits or Limits()
        self.clock = clock
        self.sources = sources  # not a copy: it may follow which manifests are in use
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

    def predict(
        self,
        instrument: str,
        as_of: Instant | datetime | None = None,
        *,
        model: str = CHAMPION,
        manifest: str | None = None,
    ) -> Prediction:
        """Predict with the features that were known at a moment; now by default.

        Parameters
        ----------
        as_of: nanoseconds since the epoch, or a datetime with a time zone.
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
        wiring = loaded.wiring.get(chosen.name)
        if wiring is None:
            raise Rejected(
                NO_FEATURES,
                f"{chosen.name} v{chosen.version} reads no features that are kept here",
                found=chosen.manifest,
                expected=sorted(self.sources),
                hint="send the features to /inference/predict",
            )
        row = self._row(wiring.source, instrument, moment)
        self._check_row(chosen, row, instrument, moment)
        values = row.values[wiring.columns]
        features = values.tolist()
        value = self._run_one(chosen, features, stored=True)
        direction, confidence = judge(chosen, value)
        return Prediction(
            value,
            direction,
            confidence,
            chosen,
            features,
            moment,
            instrument,
            row.event_time,
            row.known_time,
            row.stale,
            self._ticks() - started,
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

    def _row(self, source: FeatureSource, instrument: str, moment: Instant) -> SourceRow:
        try:
            (row,) = source.rows((instrument,), moment)
            if row is not None:
                return row
            known = source.entities()
        except AssayError as error:
            raise Rejected(
                UNAVAILABLE,
                f"features cannot be read: {error.message}",
                found="unreadable",
                expected="a readable feature store",
                hint=error.hint,
            ) from error
        if instrument not in known:
            raise Rejected(
                UNKNOWN_INSTRUMENT,
                f"no features of instrument {instrument[:80]!r} are kept",
                found=instrument,
                expected=f"one of {len(known)} instruments",
                hint=did_you_mean(instrument[:80], known) if known else None,
            )
        raise Rejected(
            NO_FEATURES,
            f"no features of {instrument} were known at {render(moment)}",
            found=render(moment),
            expected="a later moment",
        )

    def _check_row(
        self, chosen: LiveModel, row: SourceRow, instrument: str, moment: Instant
    ) -> None:
        if row.manifest != chosen.manifest:
            raise Rejected(
                MANIFEST_MISMATCH,
                f"the stored features of {instrument} follow manifest {row.manifest}: "
                f"{chosen.name} v{chosen.version} reads {chosen.manifest}",
                found=row.manifest,
                expected=chosen.manifest,
            )
        if max(row.event_time, row.known_time) > moment:
            # A store that keeps the latest row only cannot answer about the past.
            raise Rejected(
                NO_FEATURES,
                f"the features of {instrument} that are kept were known at "
                f"{render(row.known_time)}, after {render(moment)}",
                found=render(moment),
                expected=f"{render(max(row.event_time, row.known_time))} or later",
            )
        if row.stale and self.limits.refuse_stale:
            raise Rejected(
                STALE_FEATURES,
                f"the features of {instrument} are of {render(row.event_time)} and had gone stale "
                f"at {render(moment)}",
                found=render(row.event_time),
                expected="features within their time to live",
                hint="ingest newer facts; serving.refuse_stale: false answers with stale: true",
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
        return _Loaded(live, {name: one for name, one in wired.items() if one is not None})

    def _wire_one(self, model: LiveModel) -> _Wiring | None:
        if model.manifest is None or not self.sources:
            return None
        source = self.sources.get(model.manifest)
        if source is None:
            raise IncompatibleVersion(
                f"{model.name} {model.version} reads features of manifest {model.manifest}: the "
                f"desk's views are {', '.join(sorted(self.sources))}",
                hint="serve it with the views it was trained on, or train again",
            )
        place = {name: index for index, name in enumerate(source.names)}
        for name in model.schema.names:
            if name not in place:
                raise IncompatibleVersion(
                    f"{model.name} {model.version} reads feature {name!r}, which its view lacks",
                    hint=did_you_mean(name, place),
                )
        return _Wiring(source, np.array([place[name] for name in model.schema.names], np.intp))


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
