"""What runs beside production in a process: loaded from its source, exchanged without a request
noticing, and told of in the service's record and metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns

import msgspec

from assay.domain.clock import Clock
from assay.errors import AssayError, IncompatibleVersion
from assay.serving.challengers.pair_log import Kept
from assay.serving.challengers.shadowing import CAPACITY, STOP_SECONDS, Challenger, Shadow
from assay.serving.inputs.wiring import Wiring
from assay.serving.models.live_model import (
    CanaryRoute,
    ChallengerSource,
    Deployed,
    LiveModel,
    LiveSource,
)
from assay.serving.prediction.predictions import BatchPrediction, Prediction
from assay.serving.prediction.predictor import CANARY, Predictor
from assay.serving.prediction.service_record import ServiceRecord
from assay.serving.telemetry.beside import LOADING, REFUSED, RUNNING, SUSPENDED, Beside, together
from assay.serving.telemetry.metrics import Sample


class Shadows:
    """Every challenger of a process; exchanged whole, like what is live.

    Parameters
    ----------
    path: the paired log; kept: how much of it. capacity: rows that may wait, for each challenger.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        capacity: int = CAPACITY,
        kept: Kept | None = None,
        ticks: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._path = path
        self._clock = clock
        self._capacity = capacity
        self._kept = kept
        self._ticks = ticks
        self._running: dict[tuple[str, str, int], Shadow] = {}
        self._by_model: dict[str, tuple[LiveModel, Wiring | None, tuple[Shadow, ...]]] = {}
        self.ended: dict[tuple[str, str], tuple[int, int, int]] = {}

    @property
    def running(self) -> tuple[Shadow, ...]:
        """The challengers that predict now."""
        return tuple(self._running.values())

    def offer(self, made: Prediction | BatchPrediction, request_id: bytes | None = None) -> None:
        """Let every challenger of the model that was asked predict too; never waits."""
        beside = self._by_model.get(made.model.name)
        if beside is None:
            return
        champion, wiring, shadows = beside
        if made.route != CANARY:
            champion = made.model  # another one may be live by now
        for one in shadows:
            one.offer(made, champion, wiring, request_id)

    def use(
        self,
        challengers: Sequence[Challenger],
        champion_of: Callable[[str], tuple[LiveModel, Wiring | None] | None],
    ) -> None:
        """Run these challengers from now on.

        Those that go on keep what waits for them; those that end write what they have.
        """
        wanted = {(one.model.name, one.model.digest, one.revision): one for one in challengers}
        running: dict[tuple[str, str, int], Shadow] = {}
        for key, one in wanted.items():
            found = self._running.get(key)
            if found is None:
                found = Shadow(
                    one, self._path, self._clock, capacity=self._capacity, kept=self._kept,
                    ticks=self._ticks,
                )  # fmt: skip
                found.start()
            running[key] = found
        by_model: dict[str, list[Shadow]] = {}
        for (name, _, _), shadow in running.items():
            by_model.setdefault(name, []).append(shadow)
        exchanged = {}
        for name, shadows in by_model.items():
            beside = champion_of(name)
            if beside is not None:
                exchanged[name] = (*beside, tuple(shadows))
        gone = [shadow for key, shadow in self._running.items() if key not in running]
        self._by_model, self._running = exchanged, running
        for shadow in gone:
            self._end(shadow)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Write what waits, and end the threads; ``seconds`` are what each may take for it."""
        self._by_model = {}
        for one in self._running.values():
            self._end(one, seconds)
        self._running = {}

    def _end(self, one: Shadow, seconds: float = STOP_SECONDS) -> None:
        one.stop(seconds)
        key = (one.challenger.model.name, one.challenger.model.version)
        before = self.ended.get(key, (0, 0, 0))
        self.ended[key] = (
            before[0] + one.written, before[1] + one.dropped, before[2] + one.errors
        )  # fmt: skip


class Challengers:
    """Follows which versions should run beside production.

    A challenger that is refused does not run, and changes nothing else: it is recorded, and told of
    by :meth:`beside`.

    Parameters
    ----------
    source: what should run; one that knows of no challengers has none.
    """

    def __init__(
        self, predictor: Predictor, source: LiveSource, shadows: Shadows, record: ServiceRecord
    ) -> None:
        self._predictor = predictor
        self._source = source
        self._shadows = shadows
        self._record = record
        self._loaded: dict[Deployed, LiveModel] = {}
        self._routes: dict[Deployed, CanaryRoute] = {}
        self._suspended: set[tuple[str, int]] = set()
        self._refused: dict[Deployed, str] = {}
        self.fallbacks = 0

    def load(self, models: Mapping[str, LiveModel]) -> dict[str, CanaryRoute]:
        """Load what should run beside ``models``; the canaries among it.

        Raises
        ------
        AssayError: it cannot be known what should run. Nothing changed.
        """
        if not isinstance(self._source, ChallengerSource):
            return {}
        wanted = [one for one in self._source.deployed() if one.name in models]
        loaded: dict[Deployed, LiveModel] = {}
        refused: dict[Deployed, str] = {}
        for one in wanted:
            try:
                loaded[one] = self._loaded.get(one) or self._load(one)
                if one.share:
                    check_same_manifest(models[one.name], loaded[one])
            except AssayError as error:
                loaded.pop(one, None)
                refused[one] = error.message
        self._tell(loaded, refused)
        self._loaded, self._refused = loaded, refused
        self._routes = {
            one: self._routes.get(one) or CanaryRoute(model, one.share, one.salt, one.revision)
            for one, model in loaded.items()
            if one.share and (one.name, one.revision) not in self._suspended
        }
        return {one.name: route for one, route in self._routes.items()}

    def begin(self, models: Mapping[str, LiveModel]) -> None:
        """Let what was loaded predict beside ``models``, which are live next, and what runs now."""
        self._use(models, [one.challenger for one in self._shadows.running])

    def run(self) -> None:
        """Let what was loaded predict beside what is live now, and nothing else."""
        self._use(self._predictor.live.models, [])

    def _use(self, live: Mapping[str, LiveModel], still: Sequence[Challenger]) -> None:
        def champion_of(name: str) -> tuple[LiveModel, Wiring | None] | None:
            model = live.get(name)
            return None if model is None else (model, self._predictor.wire(model))

        loaded = [
            Challenger(model, self._predictor.wire(model), one.revision, one.share)
            for one, model in self._loaded.items()
        ]
        self._shadows.use([*still, *loaded], champion_of)

    def suspend(self, name: str, revision: int) -> None:
        """Take no answer from a canary of this process any more, whatever the registry says."""
        self._suspended.add((name, revision))

    def beside(self) -> list[Beside]:
        """Every challenger that should run in this process, and how it fares."""
        running = {(one.challenger.model.digest, one.challenger.revision): one
                   for one in self._shadows.running}  # fmt: skip
        found = []
        for one in (*self._loaded, *self._refused):
            role = "canary" if one.share else "shadow"
            why, shadow = self._refused.get(one), running.get((one.digest, one.revision))
            state = LOADING if shadow is None else RUNNING
            said = Beside(one.name, one.version, one.digest, role, one.share, one.revision, state)
            if why is not None:
                said = msgspec.structs.replace(said, state=REFUSED, reason=why)
            elif one.share and (one.name, one.revision) in self._suspended:
                why = "it does harm: the champion answers"
                said = msgspec.structs.replace(said, state=SUSPENDED, reason=why)
            if shadow is not None:
                said = msgspec.structs.replace(
                    said, reason=said.reason or shadow.trouble, pairs=shadow.written,
                    dropped=shadow.dropped, errors=shadow.errors, waiting=shadow.waiting,
                )  # fmt: skip
            found.append(said)
        return together(found)

    def samples(self) -> Iterable[Sample]:
        """What ``/metrics`` says about challengers."""
        counts = {key: list(value) for key, value in self._shadows.ended.items()}
        waiting: dict[tuple[str, str], int] = {}
        for one in self._shadows.running:
            key = (one.challenger.model.name, one.challenger.model.version)
            had = counts.setdefault(key, [0, 0, 0])
            counts[key] = [had[0] + one.written, had[1] + one.dropped, had[2] + one.errors]
            waiting[key] = one.waiting
        for number, (name, what) in enumerate(_COUNTERS):
            for (model, version), values in sorted(counts.items()):
                yield name, "counter", what, {"model": model, "version": version}, values[number]
        for (model, version), rows in sorted(waiting.items()):
            yield (
                "assay_shadow_waiting", "gauge", "Rows that wait for a challenger.",
                {"model": model, "version": version}, rows,
            )  # fmt: skip
        for model, route in sorted(self._predictor.live.canaries.items()):
            yield (
                "assay_canary_share", "gauge", "Share of entities that the canary answers for.",
                {"model": model, "version": route.model.version}, route.share,
            )  # fmt: skip

    def _load(self, one: Deployed) -> LiveModel:
        assert isinstance(self._source, ChallengerSource)
        model = self._source.load_version(one.name, one.version)
        self._predictor.check_fits(model)
        return model

    def _tell(self, loaded: Mapping[Deployed, LiveModel], refused: Mapping[Deployed, str]) -> None:
        for one in loaded.keys() - self._loaded.keys():
            self._record.note(
                "challenger_loaded", model=one.name, version=one.version, digest=one.digest,
                share=one.share, revision=one.revision,
            )  # fmt: skip
        for one in self._loaded.keys() - loaded.keys():
            self._record.note("challenger_withdrawn", model=one.name, version=one.version)
        for one, why in refused.items():
            if self._refused.get(one) != why:
                self._record.note(
                    "challenger_refused", challenger=f"{one.name} {one.version}", reason=why
                )


def check_same_manifest(champion: LiveModel, canary: LiveModel) -> None:
    """Refuse a canary that does not read what callers say they follow.

    Raises
    ------
    IncompatibleVersion: it reads another manifest than the champion.
    """
    if champion.manifest != canary.manifest:
        raise IncompatibleVersion(
            f"{canary.name} {canary.version} reads manifest {canary.manifest}, the champion "
            f"{champion.manifest}: it cannot answer in its place"
        )


_COUNTERS = (
    ("assay_shadow_predictions_total", "Rows that a challenger answered beside the champion."),
    ("assay_shadow_dropped_total", "Rows that a challenger did not get to, or that were not kept."),
    ("assay_shadow_errors_total", "Rows that a challenger could not answer with a number."),
)
