"""The service: one ASGI application over a predictor, and what runs beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from assay.domain.clock import Clock
from assay.serving.asgi import Disconnected, Receive, Scope, Send, read_body, refuse
from assay.serving.challengers import Challengers, Shadows
from assay.serving.control import ControlPlane
from assay.serving.inference import Inference
from assay.serving.kill_switch import KillSwitch
from assay.serving.live_model import LiveSource
from assay.serving.metrics import Metrics
from assay.serving.prediction_log import FeedbackLog, PredictionLog
from assay.serving.predictor import Predictor
from assay.serving.rejections import INTERNAL, WRONG_METHOD, Rejected
from assay.serving.reloading import Reloader
from assay.serving.service_record import ServiceRecord

_LOG = logging.getLogger("assay.serving")
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class ServiceFiles:
    """Where a service writes: predictions, feedback, and what challengers predict beside them.

    ``shadow`` is ``shadow/predictions.jsonl`` beside the predictions where it is not given.
    """

    predictions: Path
    feedback: Path
    shadow: Path | None = None


class Service:
    """``/predict`` and its like in plain ASGI, everything else through FastAPI.

    Parameters
    ----------
    predictor: answers. source: what should be live; see :class:`~assay.serving.reloading.Reloader`.
    switch, record: the predictor's kill switch, and where loads and kills are recorded.
    registry_state: for ``GET /health``.
    body_bytes: the longest body that is read.
    queue: predictions that may wait to be written down.
    feature_log_rate: share of predictions whose features are written down with them.
    poll_seconds: how often the registry itself is asked, besides the push.
    version: of the package.
    follow: called about once a second; see :class:`~assay.serving.reloading.Reloader`.
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
        body_bytes: int = 2**20,
        queue: int = 20_000,
        feature_log_rate: float = 1.0,
        poll_seconds: float = 60.0,
        ticks: Callable[[], int] = perf_counter_ns,
        follow: Callable[[], None] = lambda: None,
    ) -> None:
        self.predictor = predictor
        self.metrics = Metrics()
        self.predictions = PredictionLog(
            files.predictions, capacity=queue, feature_log_rate=feature_log_rate
        )
        self.shadows = Shadows(
            files.shadow or files.predictions.parent / "shadow" / "predictions.jsonl", clock,
            ticks=ticks,
        )  # fmt: skip
        self.challengers = Challengers(predictor, source, self.shadows, record)
        self.metrics.ask(self.challengers.samples)
        self.reloader = Reloader(
            predictor, source, record, self.metrics, clock, switch,
            poll_seconds=poll_seconds, ticks=ticks, follow=follow, challengers=self.challengers,
        )  # fmt: skip
        self._record = record
        self._body_bytes = body_bytes
        self._ticks = ticks
        self._inference = Inference(
            predictor, self.predictions, self.metrics, body_bytes=body_bytes, ticks=ticks,
            shadows=self.shadows,
        )  # fmt: skip
        self._hot = frozenset(self._inference.routes)
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
        )
        paths = self._control.app.openapi()["paths"]
        self._known = frozenset(paths) | {"/metrics", "/docs", "/openapi.json"}

    def start(self) -> None:
        """Begin to follow the registry and to write predictions."""
        self._record.append("started")
        self.predictions.start()
        self.reloader.start()

    def stop(self) -> None:
        """Write what waits, and end the threads."""
        self.reloader.stop()
        self.shadows.stop()
        self.predictions.stop()
        self._record.append("stopped")

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
            if path in self._hot and scope["method"] == "POST":
                await self._inference.serve(path, scope, receive, send)
            else:
                await self._other(path, scope, receive, send)
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001 - the last resort: a defect must be seen, and must not kill
            _LOG.exception("%s %s", scope["method"], path)
            self.metrics.observe(path if path in self._known else _OTHER, 500, 0)
            await refuse(
                send,
                Rejected(
                    INTERNAL,
                    f"{type(error).__name__} while answering; the server's log tells where",
                    found=type(error).__name__,
                    expected="an answer",
                ),
            )

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and stop with the server."""
        await receive()
        self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _other(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = self._ticks()
        status = 500

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if path in self._hot:
                raise Rejected(
                    WRONG_METHOD, f"{scope['method']} {path}: expected POST",
                    found=scope["method"], expected="POST",
                )  # fmt: skip
            if scope["method"] == "POST" and path in self._known:
                receive = _replay(await read_body(scope, receive, self._body_bytes))
            await self._control.app(scope, receive, counted)
        except Rejected as problem:
            await refuse(counted, problem)
        self.metrics.observe(
            path if path in self._known else _OTHER, status, self._ticks() - started
        )


def _replay(body: bytes) -> Receive:
    """A request's body once more, for the framework."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return receive
