"""The service: one ASGI application over a predictor, and what runs beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from assay.domain.clock import Clock
from assay.serving.challengers.pair_log import Kept
from assay.serving.challengers.running import Challengers, Shadows
from assay.serving.http.control import ControlPlane
from assay.serving.http.inference import Inference
from assay.serving.http.open_inference import GRPC_INFER, OpenInference
from assay.serving.http.operators import ADMITTED, OPERATED, Admitted, Operators, asked_of
from assay.serving.http.traced_inference import TracedInference
from assay.serving.models.live_model import LiveSource
from assay.serving.prediction.kill_switch import KillSwitch
from assay.serving.prediction.neutral import NEUTRAL, REFUSE
from assay.serving.prediction.predictor import Predictor
from assay.serving.prediction.service_record import ServiceRecord
from assay.serving.rejections import UNKNOWN_PATH, WRONG_METHOD, Rejected, defect
from assay.serving.reloading import Reloader
from assay.serving.requests.asgi import (
    Answer,
    Direct,
    Disconnected,
    Headers,
    Receive,
    Scope,
    Send,
    check_kind,
    read_body,
    refusal,
    refuse,
)
from assay.serving.requests.reception import REQUEST_ID, Head, Reception
from assay.serving.requests.refusals import Refusals
from assay.serving.requests.store_reads import StoreReads
from assay.serving.telemetry.latency_target import LatencyTarget
from assay.serving.telemetry.metrics import Metrics
from assay.serving.telemetry.prediction_log import FeedbackLog, PredictionLog
from assay.serving.telemetry.tracing import Tracing
from assay.serving.telemetry.worker_board import WorkerBoard

_LOG = logging.getLogger("assay.serving")
_OTHER = "other"
_MODELS = "/v2/models/"


@dataclass(frozen=True, slots=True)
class ServiceFiles:
    """Where a service writes: predictions, feedback, and what challengers predict beside them.

    ``shadow`` is ``shadow/predictions.jsonl`` beside the predictions where it is not given.
    """

    predictions: Path
    feedback: Path
    shadow: Path | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """How a service goes about its work.

    Attributes
    ----------
    body_bytes: the longest body that is read.
    queue: predictions that may wait to be written down.
    feature_log_rate: share of predictions whose features are written down with them.
    poll_seconds: how often the registry itself is asked, besides the push.
    deadline_ms: how long a prediction may take at most.
    store_threads: reads of a store on another machine that may be under way at once.
    kill_policy: ``refuse`` or ``neutral``; see :mod:`~assay.serving.prediction.neutral`.
    p99_ms: the target that ``GET /health`` and metrics hold the 99th percentile against.
    capacity, connections: requests under way and open connections at most, in this process.
    instance: begins the ids of its requests; no other process has the same.
    kept: how much is kept of what challengers predict.
    exposed: whether others than this machine's reach it, for ``GET /health``.
    """

    body_bytes: int = 2**20
    queue: int = 20_000
    feature_log_rate: float = 1.0
    poll_seconds: float = 60.0
    deadline_ms: float = 1_000.0
    store_threads: int = 16
    kill_policy: str = REFUSE
    p99_ms: float = 50.0
    capacity: int = 256
    connections: int = 1_024
    instance: str = "local"
    kept: Kept = field(default_factory=Kept)
    exposed: bool = False


class Service:
    """``/predict`` and its like in plain ASGI, everything else through FastAPI.

    Parameters
    ----------
    predictor: answers. source: what should be live; see :class:`~assay.serving.reloading.Reloader`.
    switch, record: the predictor's kill switch, and where loads and kills are recorded.
    registry_state: for ``GET /health``.
    version: of the package.
    board: what the processes of one service know of each other; None for the only one.
    follow: called about once a second; see :class:`~assay.serving.reloading.Reloader`.
    tracing: keeps a span of each prediction request; None for none.
    operators: who may switch it off and on, reload it and say outcomes; None for anybody.
    """

    def __init__(
        self,
        predictor: Predictor,
        source: LiveSource,
        switch: KillSwitch,
        record: ServiceRecord,
        files: ServiceFiles,
        clock: Clock,
        registry_state: Callable[[], str],
        *,
        version: str,
        operation: Operation | None = None,
        board: WorkerBoard | None = None,
        ticks: Callable[[], int] = perf_counter_ns,
        follow: Callable[[], None] = lambda: None,
        tracing: Tracing | None = None,
        operators: Operators | None = None,
    ) -> None:
        self._operators = operators
        self.operation = chosen = operation or Operation()
        self.version = version
        self.tracing = tracing
        self.predictor = predictor
        self.metrics = Metrics()
        self.predictions = PredictionLog(
            files.predictions,
            capacity=chosen.queue,
            feature_log_rate=chosen.feature_log_rate,
            shared=board is not None,
        )
        self.shadows = Shadows(
            files.shadow or files.predictions.parent / "shadow" / "predictions.jsonl", clock,
            kept=chosen.kept, ticks=ticks,
        )  # fmt: skip
        self.challengers = Challengers(predictor, source, self.shadows, record)
        self.metrics.ask(self.challengers.samples)
        self.reloader = Reloader(
            predictor, source, record, self.metrics, clock, switch,
            poll_seconds=chosen.poll_seconds, ticks=ticks, follow=self._follow,
            asked=None if board is None else board.asked_to_reload, challengers=self.challengers,
        )  # fmt: skip
        self._followed = follow
        self._record = record
        self._board = board
        self.ticks = ticks
        self.reception = Reception(chosen.instance, deadline_ms=chosen.deadline_ms, ticks=ticks)
        self._reads = StoreReads(self.reception, threads=chosen.store_threads, ticks=ticks)
        answering = Inference if tracing is None else partial(TracedInference, tracing)
        self.inference = answering(
            predictor, self.predictions, self.metrics, self.reception, self._reads,
            Refusals(ticks=ticks),
            body_bytes=chosen.body_bytes, neutral=chosen.kill_policy == NEUTRAL, ticks=ticks,
            shadows=self.shadows,
        )  # fmt: skip
        self._switch = switch
        self._found_off = False
        self.direct = Direct(
            self.inference.path_of, self._at_once, begin=self._look, end=self._forget
        )
        self._target = LatencyTarget(
            self.metrics, (*sorted(self.inference.routes), OpenInference.infer_route, GRPC_INFER),
            milliseconds=chosen.p99_ms, ticks=ticks,
        )  # fmt: skip
        self._control = ControlPlane(
            predictor,
            self.reloader,
            switch,
            self.predictions,
            FeedbackLog(files.feedback, self.predictions, clock),
            self.metrics,
            clock,
            registry_state,
            version=version,
            open_inference=self.inference.open_inference,
            reads=self._reads,
            target=self._target,
            record=record,
            board=board,
            challengers=self.challengers,
            operators=operators,
            exposed=chosen.exposed,
        )
        paths = self._control.app.openapi()["paths"]
        self._known = frozenset(paths) | {"/metrics", "/docs", "/openapi.json"}

    def start(self) -> None:
        """Begin to follow the registry and to write predictions."""
        self._record.note("started")
        self.predictions.start()
        self.reloader.start()
        if self._board is not None:
            self._board.start(self._control.said)

    def stop(self) -> None:
        """Write what waits, and end the threads."""
        self.reloader.stop()
        self._reads.close()
        self.shadows.stop()
        self.predictions.stop()
        if self.tracing is not None:
            self.tracing.close()
        if self._board is not None:
            self._board.stop()
        if self._operators is not None:
            self._operators.stop()
        self._record.note("stopped")

    def _follow(self) -> None:
        self._target.look()
        self._followed()

    def openapi(self) -> dict[str, Any]:
        """The description of every route."""
        return self._control.app.openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"ASGI scope {scope['type']!r}: expected http")
        path: str = scope["path"]
        try:
            if self.inference.answers(path) and scope["method"] == "POST":
                await self.inference.serve(path, scope, receive, send)
            else:
                await self._other(path, scope, receive, send)
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001 - the last resort: a defect must be seen, and must not kill
            head = self.reception.read(scope)
            problem = self._failed(scope["method"], path, head, error)
            await refuse(send, problem, (REQUEST_ID, head.id))

    def _look(self) -> None:
        """Look for the kill file for all answers of this turn of the event loop."""
        self._found_off = self._switch.is_off()

    def _forget(self) -> None:
        self._found_off = False

    def _at_once(self, path: str, headers: Headers, body: bytes, arrived: int) -> Answer | None:
        self._switch.assume(off=self._found_off)
        try:
            return self.inference.at_once(path, headers, body, arrived)
        except Exception as error:  # noqa: BLE001 - as in __call__
            head = self.reception.read_headers(headers, arrived)
            return refusal(self._failed("POST", path, head, error), (REQUEST_ID, head.id))
        finally:
            self._switch.assume(off=False)  # others may have come later

    def _failed(self, method: str, path: str, head: Head, error: Exception) -> Rejected:
        self._tell(method, path, head, error)
        self.metrics.observe(self._route(path), 500, self.ticks() - head.arrived)
        return defect(error)

    def _tell(self, method: str, path: str, head: Head, error: Exception) -> None:
        told = {"route": self._route(path), "request_id": head.id.decode("ascii")}
        _LOG.error("%s %s: a defect", method, path, exc_info=error, extra={"fields": told})

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and stop with the server."""
        await receive()
        self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _other(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        head = self.reception.read(scope)
        status = 0
        admitted: Admitted | None = None

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, head.id)]
            await send(message)

        try:
            if self.inference.answers(path):
                raise Rejected(
                    WRONG_METHOD, f"{scope['method']} {path[:120]}: expected POST",
                    found=scope["method"], expected="POST",
                )  # fmt: skip
            if not path.isprintable():
                # A line break at its end is no part of a path to the framework; it is to us.
                raise Rejected(UNKNOWN_PATH, f"no path {path[:120]!r}", found=path)
            if scope["method"] == "POST" and path in self._known:
                if self._operators is not None and path in OPERATED:
                    asked = asked_of(scope, head.id)
                    name = await asyncio.to_thread(self._operators.admit, asked)
                    scope[ADMITTED] = admitted = Admitted(name, asked, self._operators)
                check_kind(head.kind)
                receive = _replay(await read_body(scope, receive, self.operation.body_bytes))
            await self._control.app(scope, receive, counted)
            if admitted is not None and status == 200:
                admitted.done()
        except Rejected as problem:
            await refuse(counted, problem)
        except Exception as error:
            if not status:
                raise
            self._tell(scope["method"], path, head, error)  # the framework has answered
        self.metrics.observe(self._route(path), status, self.ticks() - head.arrived)

    def _route(self, path: str) -> str:
        """What metrics call a path: there are as many as routes, whatever is asked for."""
        if path in self._known:
            return path
        if self.inference.answers(path):
            return self.inference.route_of(path)
        return _MODELS + "{model}" if path.startswith(_MODELS) else _OTHER


def _replay(body: bytes) -> Receive:
    """A request's body once more, for the framework."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return receive
