"""The prediction routes, in plain ASGI: they are asked thousands of times a second.

A framework's routing and validation cost several times what the model costs; reading the body into
a declared structure and answering with one costs microseconds.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from assay.serving.asgi import JSON, Receive, Scope, Send, answer, header, read_body, refuse
from assay.serving.challengers import Shadows
from assay.serving.live_model import LiveModel
from assay.serving.metrics import Metrics
from assay.serving.prediction_log import PredictionLog
from assay.serving.predictor import Predictor
from assay.serving.rejections import MANIFEST_MISMATCH, Rejected
from assay.serving.wire import (
    batch_answer,
    decode_batch,
    decode_inference,
    decode_predict,
    explain,
    inference_answer,
    predict_answer,
    read_rows,
    read_timestamp,
)

MANIFEST_HEADER = b"x-assay-manifest"
Route = Callable[[bytes, str | None], bytes]


class Inference:
    """``/predict``, ``/inference/predict`` and ``/inference/batch`` over one predictor.

    Parameters
    ----------
    body_bytes: the longest body that is read.
    ticks: nanoseconds on a clock that never goes back.
    shadows: what challengers predict beside the answers.
    """

    def __init__(
        self,
        predictor: Predictor,
        log: PredictionLog,
        metrics: Metrics,
        *,
        body_bytes: int,
        ticks: Callable[[], int],
        shadows: Shadows,
    ) -> None:
        self._predictor = predictor
        self._log = log
        self._metrics = metrics
        self._body_bytes = body_bytes
        self._ticks = ticks
        self._shadows = shadows
        self.routes: dict[str, Route] = {
            "/predict": self._predict,
            "/inference/predict": self._infer,
            "/inference/batch": self._batch,
        }
        metrics.mismatches.update(dict.fromkeys(self.routes, 0))  # 0 is said, not left out

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST to one of :attr:`routes`."""
        started = self._ticks()
        try:
            body = await read_body(scope, receive, self._body_bytes)
            content = self.routes[path](body, header(scope, MANIFEST_HEADER))
        except Rejected as problem:
            await refuse(send, problem)
            if problem.kind is MANIFEST_MISMATCH:
                self._metrics.mismatches[path] += 1
            self._metrics.observe(path, problem.kind.status, self._ticks() - started)
            return
        await answer(send, 200, content, JSON)
        self._metrics.observe(path, 200, self._ticks() - started)

    def _predict(self, body: bytes, manifest: str | None) -> bytes:
        try:
            request = decode_predict(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise explain(body, error, None) from None
        at = None if request.timestamp is None else read_timestamp(request.timestamp)
        made = self._predictor.predict(
            request.instrument,
            at,
            request=request.request,
            model=request.model,
            manifest=manifest,
        )
        self._log.offer(made)
        self._shadows.offer(made)
        self._metrics.predictions[made.model.name, made.model.label] += 1
        if made.route is not None:
            self._metrics.canary[made.model.name, made.route] += 1
        return predict_answer(made)

    def _infer(self, body: bytes, manifest: str | None) -> bytes:
        try:
            request = decode_inference(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise explain(body, error, self._default_model()) from None
        made = self._predictor.predict_features(
            request.features,
            names=request.feature_names,
            model=request.model_name,
            manifest=manifest,
        )
        self._log.offer(made)
        self._shadows.offer(made)
        self._metrics.predictions[made.model.name, made.model.label] += 1
        return inference_answer(made)

    def _batch(self, body: bytes, manifest: str | None) -> bytes:
        try:
            request = decode_batch(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise explain(body, error, self._default_model()) from None
        made = self._predictor.predict_batch(
            read_rows(request.batch),
            names=request.feature_names,
            model=request.model_name,
            manifest=manifest,
        )
        self._log.offer(made)
        self._shadows.offer(made)
        self._metrics.predictions[made.model.name, made.model.label] += len(made.values)
        return batch_answer(made)

    def _default_model(self) -> LiveModel | None:
        live = self._predictor.live
        return live.models.get(live.champion) if live.champion else None
