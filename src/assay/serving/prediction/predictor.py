"""Predictions inside a process: what the service answers with, without the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from assay.domain.clock import Clock
from assay.domain.instants import Instant
from assay.errors import IncompatibleVersion
from assay.serving.inputs.feature_source import FeatureSource, SourceRow
from assay.serving.inputs.request_inputs import RequestInputs
from assay.serving.inputs.rows import (
    LARGEST,
    Features,
    Rows,
    bad_value,
    check_names,
    read_matrix,
    read_row,
)
from assay.serving.inputs.wiring import WiredModels, Wiring
from assay.serving.models.live_model import CHAMPION, LiveModel, LiveModels
from assay.serving.prediction.admission import (
    check_brought,
    check_count,
    check_manifest,
    no_answer,
    read_moment,
)
from assay.serving.prediction.kill_switch import KillSwitch
from assay.serving.prediction.predictions import (
    BatchPrediction,
    CanaryWiring,
    Limits,
    Prediction,
    Question,
    judge,
)
from assay.serving.rejections import FEATURE_COUNT, NO_FEATURES, NO_INSTRUMENTS, Rejected

CANARY, FALLBACK = "canary", "fallback"


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
        self._loaded = WiredModels.of(live, self.wire)

    @property
    def live(self) -> LiveModels:
        """What answers now."""
        return self._loaded.live

    @property
    def may_wait(self) -> bool:
        """Whether reading stored features may wait for another machine."""
        return self._loaded.may_wait

    def use(self, live: LiveModels) -> None:
        """Answer with other models from the next request on; requests under way keep theirs.

        Raises
        ------
        IncompatibleVersion: a model reads features that no source has. Nothing changed.
        """
        self._loaded = WiredModels.of(live, self.wire)

    def check_fits(self, model: LiveModel) -> None:
        """Refuse a model whose features no source has.

        Raises
        ------
        IncompatibleVersion: names the manifest or the feature.
        """
        self.wire(model)

    def check_switch(self) -> None:
        """Refuse while predictions are switched off.

        Raises
        ------
        Rejected: they are.
        """
        if self._switch is not None:
            self._switch.check()

    def wire(self, model: LiveModel) -> Wiring | None:
        """A model's way to its features; None where nothing that it reads is kept here.

        Raises
        ------
        IncompatibleVersion: it names features that no source has.
        """
        return Wiring.of(model, self.sources, self.requests)

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
        asked = self.ask((instrument,), as_of, request, model=model, manifest=manifest)
        return self.answer(asked, asked.read())

    def predict_many(
        self,
        instruments: Sequence[str],
        as_of: Instant | datetime | None = None,
        *,
        requests: Mapping[str, Mapping[str, float]] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
    ) -> list[Prediction | Rejected]:
        """Predict for several instruments as :meth:`predict` does for one: one moment, one version,
        one round trip to the store.

        Each answer has the bits that :meth:`predict` gives, in the order of the instruments; in the
        place of one that cannot be given stands why.

        Parameters
        ----------
        requests: what the request brings, by instrument.

        Raises
        ------
        Rejected: no instrument can be answered, for a reason that none of them is the cause of.
        """
        asked = self.ask_many(instruments, as_of, requests, model=model, manifest=manifest)
        return self.answer_many(asked, asked.read())

    # -- in steps: for callers that do not want to wait while rows are read ------------------------

    def ask(
        self,
        instruments: tuple[str, ...],
        as_of: Instant | datetime | None,
        *requests: Mapping[str, float] | None,
        model: str,
        manifest: str | None,
    ) -> Question:
        """Check everything about a request that can be checked before its rows are read.

        Parameters
        ----------
        requests: what the request brings for each instrument.

        Raises
        ------
        Rejected: it cannot be answered.
        """
        started = self._ticks()
        if self._switch is not None:
            self._switch.check()
        loaded = self._loaded
        chosen = loaded.live.find(model)
        check_manifest(chosen, manifest, self.limits)
        now = self.clock.now()
        moment = now if as_of is None else read_moment(as_of, now)
        wiring = loaded.wiring.get(chosen.name)
        if wiring is None:
            raise Rejected(
                NO_FEATURES,
                f"{chosen.name} v{chosen.version} reads no features that are kept here",
                found=chosen.manifest,
                expected=sorted(self.sources),
                hint="send the features to /inference/predict",
            )
        brought = tuple(map(wiring.read, requests))
        may_wait = wiring.source.may_wait
        canary = None
        if chosen.name in loaded.live.canaries:
            canary = self._canary(loaded, chosen, model, instruments)
        return Question(chosen, wiring, instruments, moment, brought, may_wait, started, canary)

    def _canary(
        self, loaded: WiredModels, chosen: LiveModel, model: str, instruments: tuple[str, ...]
    ) -> CanaryWiring | None:
        """The canary and the instruments that it answers for; None where it answers for none."""
        taken = frozenset(
            one for one in instruments if loaded.live.canary_for(chosen, model, one) is not None
        )
        wiring = loaded.canaries.get(chosen.name)
        return CanaryWiring(wiring, taken) if taken and wiring is not None else None

    def ask_many(
        self,
        instruments: Sequence[str],
        as_of: Instant | datetime | None,
        requests: Mapping[str, Mapping[str, float]] | None,
        *,
        model: str,
        manifest: str | None,
    ) -> Question:
        """:meth:`ask` for several instruments, with what the request brings by instrument.

        Raises
        ------
        Rejected: none of them can be answered.
        """
        check_count(len(instruments), self.limits, "instruments", NO_INSTRUMENTS)
        given = requests or {}
        check_brought(given, instruments)
        brought = (given.get(name) for name in instruments)
        return self.ask(tuple(instruments), as_of, *brought, model=model, manifest=manifest)

    def answer(self, asked: Question, rows: Sequence[SourceRow | None]) -> Prediction:
        """The answer to a question about one instrument, from what its :meth:`~Question.read` gave.

        Raises
        ------
        Rejected: nothing was predicted.
        """
        return self._answer(asked, asked.instruments[0], rows[0], asked.brought[0])

    def answer_many(
        self, asked: Question, rows: Sequence[SourceRow | None]
    ) -> list[Prediction | Rejected]:
        """The answers to a question about several instruments; see :meth:`predict_many`."""
        made: list[Prediction | Rejected] = []
        for instrument, row, brought in zip(asked.instruments, rows, asked.brought, strict=True):
            try:
                # One by one, though a batch would be quicker: the bits of a row must not depend on
                # which others were asked about, and one that fails must not fail the others.
                made.append(self._answer(asked, instrument, row, brought))
            except Rejected as problem:
                made.append(problem)
        return made

    def _answer(
        self,
        asked: Question,
        instrument: str,
        stored: SourceRow | None,
        brought: dict[str, float] | None,
    ) -> Prediction:
        canary, route = asked.canary, None
        if canary is not None and instrument in canary.instruments:
            try:
                return self._answered(asked, canary.wiring, instrument, stored, brought, CANARY)
            except Exception:  # noqa: BLE001 - whatever a canary does, the caller gets an answer
                # The champion's. Where the fault is not the canary's, it refuses as well.
                route = FALLBACK
        return self._answered(asked, asked.wiring, instrument, stored, brought, route)

    def _answered(
        self,
        asked: Question,
        wiring: Wiring,
        instrument: str,
        stored: SourceRow | None,
        brought: dict[str, float] | None,
        route: str | None,
    ) -> Prediction:
        row = wiring.fit(stored, instrument, asked.moment, refuse_stale=self.limits.refuse_stale)
        read = None
        if brought is None and route is None:
            read = wiring.read_rows.find(instrument, row.origin)
        features: Sequence[float]
        if read is not None:
            value, features = read.value, read.features
        else:
            features = taken = wiring.features(row, brought)
            value = self._run_one(wiring.model, taken, stored=True)
            # A canary is there to be watched at work: it predicts on each of its requests.
            if brought is None and route is None:
                read = wiring.read_rows.keep(
                    instrument, row.origin, wiring.model.schema.names, taken, value
                )
        direction, confidence = judge(wiring.model, value)
        return Prediction(
            value,
            direction,
            confidence,
            wiring.model,
            features,
            asked.moment,
            instrument,
            row.event_time,
            row.known_time,
            row.stale,
            self._ticks() - asked.started,
            brought,
            route,
            read,
        )

    def predict_features(
        self,
        features: Features,
        *,
        names: Sequence[str] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
        instrument: str | None = None,
        owned: bool = False,
    ) -> Prediction:
        """Predict with features that the caller brings.

        Parameters
        ----------
        features: numbers in the model's order, or by name.
        names: what the caller believes the order to be; checked when given.
        manifest: the manifest that the features follow.
        instrument: whose they are; a canary that answers for it answers. Without, none does.
        owned: the features are, if a list, one of floats that nobody else holds: it is taken as it
            is.

        Raises
        ------
        Rejected: nothing was predicted; ``kind`` says why.
        """
        started = self._ticks()
        loaded = self._loaded
        chosen = self._choose(loaded, model, manifest)
        columns = chosen.schema.names
        check_names(names, columns)
        row = read_row(features, columns, "", owned=owned)
        route = None
        if instrument is not None:
            canary = loaded.live.canary_of_columns(chosen, model, instrument)
            if canary is not None:
                try:
                    taken = [row[place] for place in canary.places]
                    return self._of_features(canary.model, taken, started, instrument, CANARY)
                except Exception:  # noqa: BLE001 - as with stored features, the caller gets an answer
                    route = FALLBACK
        return self._of_features(chosen, row, started, instrument, route)

    def _of_features(
        self,
        chosen: LiveModel,
        row: list[float],
        started: int,
        entity: str | None,
        route: str | None,
    ) -> Prediction:
        value = self._run_one(chosen, row, stored=False)
        direction, confidence = judge(chosen, value)
        return Prediction(
            value, direction, confidence, chosen, row, self.clock.now(), None, None, None, None,
            self._ticks() - started, None, route, None, entity,
        )  # fmt: skip

    def predict_batch(
        self,
        rows: Rows,
        *,
        names: Sequence[str] | None = None,
        model: str | LiveModel = CHAMPION,
        manifest: str | None = None,
        instrument: str | None = None,
        reference: str | None = None,
    ) -> BatchPrediction:
        """Predict several rows at once, as :meth:`predict_features` does one.

        An array is the quick way: nothing is done to its rows one by one.

        Parameters
        ----------
        model: a reference as in :meth:`predict`, or a live model whose columns the rows were put in
            the order of: another one that comes into its place meanwhile must not read them.
        instrument: whose rows they all are; a canary that answers for it answers.
        reference: how a live model was asked for; its name where that is not said.

        Raises
        ------
        Rejected: nothing was predicted; ``kind`` says why.
        """
        started = self._ticks()
        loaded = self._loaded
        chosen = self._choose(loaded, model, manifest)
        check_count(len(rows), self.limits, "rows", FEATURE_COUNT)
        columns = chosen.schema.names
        check_names(names, columns)
        matrix = read_matrix(rows, columns)
        route = None
        if instrument is not None:
            named = model if isinstance(model, str) else reference or chosen.name
            canary = loaded.live.canary_of_columns(chosen, named, instrument)
            if canary is not None:
                try:
                    taken = np.ascontiguousarray(matrix[:, canary.places])
                    return self._of_rows(canary.model, taken, started, instrument, CANARY)
                except Exception:  # noqa: BLE001 - as with one row, the caller gets an answer
                    route = FALLBACK
        return self._of_rows(chosen, matrix, started, instrument, route)

    def _of_rows(
        self,
        chosen: LiveModel,
        matrix: NDArray[np.float64],
        started: int,
        entity: str | None,
        route: str | None,
    ) -> BatchPrediction:
        if len(matrix) == 1:  # the same bits in half the time
            answers = [self._run_one(chosen, matrix[0].tolist(), stored=False)]
        else:
            answers = self._run(chosen, matrix, stored=False)
        spent = self._ticks() - started
        return BatchPrediction(
            answers, chosen, matrix, self.clock.now(), spent, entity=entity, route=route
        )

    # -- checks ---------------------------------------------------------------------------------

    def _choose(
        self, loaded: WiredModels, model: str | LiveModel, manifest: str | None
    ) -> LiveModel:
        """Which model answers to features that the caller brings, if any may."""
        if self._switch is not None:
            self._switch.check()
        chosen = loaded.live.find(model) if isinstance(model, str) else model
        check_manifest(chosen, manifest, self.limits)
        return chosen

    def _run_one(self, chosen: LiveModel, row: list[float], *, stored: bool) -> float:
        # A row's length is no less than any of its values: where it is a float32, one pass in C
        # has told that they all are. NaN is none, and is told of the longer way.
        if not math.hypot(*row) <= LARGEST:
            return self._run(chosen, np.array([row]), stored=stored)[0]
        try:
            return chosen.model.predict_one(row)
        except IncompatibleVersion as error:
            raise no_answer(chosen, error) from error

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
            raise no_answer(chosen, error) from error
        return answers
