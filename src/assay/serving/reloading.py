"""How another version becomes live in a running process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic, perf_counter_ns

from assay.domain.clock import Clock
from assay.domain.instants import Instant, render
from assay.errors import AssayError
from assay.serving.challengers.running import Challengers
from assay.serving.inputs.feature_source import FollowsUse
from assay.serving.models.live_model import CanaryRoute, LiveModel, LiveModels, LiveSource
from assay.serving.prediction.kill_switch import KillSwitch
from assay.serving.prediction.predictor import Predictor
from assay.serving.prediction.service_record import ServiceRecord
from assay.serving.rejections import RELOAD_FAILED, Rejected
from assay.serving.telemetry.metrics import Metrics

_LOG = logging.getLogger("assay.serving")

WATCH_SECONDS = 0.02
"""How often the pointer is looked at; a look costs some microseconds."""
_REFRESH_SECONDS = 1.0
_STOP_SECONDS = 2.0
_AGAIN_SECONDS = 1.0


def load_all(source: LiveSource, champion: str | None) -> LiveModels:
    """Everything that should be live, for a process that starts.

    Raises
    ------
    AssayError: something does not verify, load or predict. Then nothing may start.
    """
    return LiveModels({name: source.load(name) for name in source.wanted()}, champion)


class Reloader:
    """Follows what should be live: verify, load, exercise, then exchange one reference.

    A version that is refused changes nothing: the one before it goes on answering, and the refusal
    is recorded. A model that is no longer in production stops answering.

    The push is the registry's own pointer, exchanged atomically when a version goes live, which
    :meth:`start` watches. A look at the registry itself every ``poll_seconds`` is the fallback.

    Parameters
    ----------
    predictor: whose models are exchanged.
    source: what should be live.
    switch: its file is looked at as well, so that a kill is recorded when it happens.
    follow: called before sources are refreshed, about once a second: for what else is to be taken
        notice of, such as which sources there are.
    asked: compares unequal after every time that another process asked for a reload.
    challengers: what runs beside production; None for nothing ever.
    """

    def __init__(
        self,
        predictor: Predictor,
        source: LiveSource,
        record: ServiceRecord,
        metrics: Metrics,
        clock: Clock,
        switch: KillSwitch,
        *,
        poll_seconds: float = 60.0,
        ticks: Callable[[], int] = perf_counter_ns,
        follow: Callable[[], None] = lambda: None,
        asked: Callable[[], object] | None = None,
        challengers: Challengers | None = None,
    ) -> None:
        self._asked = asked or (lambda: None)
        self._follow = follow
        self._challengers = challengers
        self._predictor = predictor
        self._source = source
        self._record = record
        self._metrics = metrics
        self._clock = clock
        self._switch = switch
        self._poll_seconds = poll_seconds
        self._ticks = ticks
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        """Record what is live, and watch in a thread of its own."""
        for model in self._predictor.live.models.values():
            self._record_load(model, None, 0, self._clock.now())
        self._thread = threading.Thread(target=self._watch, name="reloader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watching; a registry that hangs is not waited for long."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def catch_up(self) -> None:
        """Take notice of whatever changed while this process waited: what features are read, and
        what is live.

        Raises
        ------
        Rejected: as :meth:`reload`.
        """
        self._refresh_sources()
        self.reload()

    def reload(self) -> list[LiveModel]:
        """Bring what is live up to what should be; the versions that were exchanged.

        Raises
        ------
        Rejected: a version was refused; whatever was live before it still is.
        """
        with self._mutex:
            try:
                changed, refused = self._exchange()
            except (AssayError, OSError) as error:
                changed, refused = [], [_words(error)]
            self.trouble = "; ".join(refused) or None
            self._metrics.reloads["refused" if refused else "done"] += 1
            if refused:
                self._record.note("reload_refused", reason=self.trouble)
                raise Rejected(
                    RELOAD_FAILED,
                    f"{self.trouble}; what was live before goes on answering",
                    found=self.trouble,
                    expected="a version that verifies, loads and predicts",
                    hint="assay models history NAME; assay models rollback NAME --reason ...",
                )
            return changed

    def _exchange(self) -> tuple[list[LiveModel], list[str]]:
        before = self._predictor.live
        models: dict[str, LiveModel] = {}
        changed: list[tuple[LiveModel, int]] = []
        refused: list[str] = []
        for name, digest in self._source.wanted().items():
            old = before.models.get(name)
            if old is not None and old.digest == digest:
                models[name] = old
                continue
            started = self._ticks()
            try:
                model = self._source.load(name)
                self._check_fits(model)
            except (AssayError, OSError) as error:
                refused.append(_words(error))
                if old is not None:
                    models[name] = old
                continue
            models[name] = model
            changed.append((model, self._ticks() - started))
        withdrawn = sorted(set(before.models) - set(models))
        canaries = self._canaries(before, models, refused)
        if self._challengers is not None:
            # First: each answer of a canary has a pair.
            self._challengers.begin(models)
        if changed or withdrawn or canaries != before.canaries:
            self._predictor.use(LiveModels(models, before.champion, canaries))
        if self._challengers is not None:
            self._challengers.run()
        ready_at = self._clock.now()
        for model, nanos in changed:
            self._record_load(model, before.models.get(model.name), nanos, ready_at)
        for name in withdrawn:
            self._record.note("withdrawn", model=name, version=before.models[name].version)
        return [model for model, _ in changed], refused

    def _check_fits(self, model: LiveModel) -> None:
        try:
            self._predictor.check_fits(model)
        except AssayError:
            # Its manifest may have come into use a moment before it.
            sources = self._predictor.sources
            if not isinstance(sources, FollowsUse):
                raise
            sources.follow()
            self._predictor.check_fits(model)

    def _canaries(
        self, before: LiveModels, models: Mapping[str, LiveModel], refused: list[str]
    ) -> Mapping[str, CanaryRoute]:
        """The canaries beside ``models``; those that answer now where it cannot be known."""
        if self._challengers is None:
            return before.canaries
        try:
            return self._challengers.load(models)
        except AssayError as error:
            refused.append(error.message)
            return {name: one for name, one in before.canaries.items() if name in models}

    def _record_load(
        self, model: LiveModel, before: LiveModel | None, nanos: int, ready_at: Instant
    ) -> None:
        self._record.note(
            "loaded",
            model=model.name,
            version=model.version,
            digest=model.digest,
            manifest=model.manifest,
            before=None if before is None else before.version,
            milliseconds=nanos / 1e6,
            loaded_at=render(model.loaded_at),
            ready_at=render(ready_at),
        )

    def _refresh_sources(self) -> None:
        sources = self._predictor.sources
        if isinstance(sources, FollowsUse):
            self._try(sources.follow)
        for one in list(sources.values()):
            self._try(one.refresh)

    def _try(self, refresh: Callable[[], None]) -> None:
        try:
            refresh()
        except (AssayError, OSError) as error:
            _LOG.warning("features cannot be refreshed: %s", error)
        except Exception:  # noqa: BLE001 - features go stale, and that is told; nothing else may end
            _LOG.exception("features cannot be refreshed: a defect")

    def _watch(self) -> None:
        seen: object = object()  # unequal to every pointer: the first look always reloads
        polled = refreshed = monotonic()
        patience = self._poll_seconds
        while not self._stop.wait(WATCH_SECONDS):
            try:
                self._switch.observe()
                self._record.catch_up()
                if monotonic() - refreshed >= _REFRESH_SECONDS:
                    refreshed = monotonic()
                    self._try(self._follow)
                    self._refresh_sources()
                pointer = (self._source.pointer(), self._asked())
                due = monotonic() - polled >= patience
                if pointer == seen and not due:
                    continue
                # Remembered before loading: what changes meanwhile is seen by the next look. A
                # version that was refused is tried again later, not fifty times a second.
                patience = min(patience * 2 if due else _AGAIN_SECONDS, self._poll_seconds)
                seen = pointer
                polled = monotonic()
                self.reload()
                patience = self._poll_seconds
                if due:
                    self._record.observe()
            except Rejected:
                continue  # recorded, and told by GET /health
            except (AssayError, OSError) as error:
                self.trouble = _words(error)
                seen = object()
            except Exception as error:  # noqa: BLE001 - see below
                # Whatever it is, the next version and the next kill must still be noticed.
                _LOG.exception("watching what is live: a defect")
                self.trouble = f"{type(error).__name__}: {error}"


def _words(error: AssayError | OSError) -> str:
    return error.message if isinstance(error, AssayError) else str(error)
