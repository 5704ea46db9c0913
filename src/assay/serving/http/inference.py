"""The prediction routes, in plain ASGI: they are asked thousands of times a second.

A framework's routing and validation cost several times what the model costs; reading the body into
a declared structure and answering with one costs microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from assay.serving.challengers.running import Shadows
from assay.serving.formats.arrow import ARROW, read_stream, write_stream
from assay.serving.formats.wire import (
    batch_answer,
    decode_batch,
    decode_inference,
    decode_predict,
    decode_predict_many,
    encode,
    explain,
    inference_answer,
    predict_answer,
    predict_many_answer,
    read_rows,
    read_timestamp,
)
from assay.serving.http.open_inference import OpenInference, predict_read
from assay.serving.models.live_model import LiveModel
from assay.serving.prediction.neutral import HEADER as NEUTRAL_HEADER
from assay.serving.prediction.neutral import NeutralAnswer
from assay.serving.prediction.predictions import BatchPrediction, Prediction, Question
from assay.serving.prediction.predictor import Predictor
from assay.serving.rejections import KILLED, MANIFEST_MISMATCH, Rejected, too_deep
from assay.serving.requests.asgi import (
    JSON,
    Answer,
    Headers,
    Receive,
    Scope,
    Send,
    answer,
    check_kind,
    check_size,
    read_body,
    refusal,
)
from assay.serving.requests.reception import REQUEST_ID, Head, Reception
from assay.serving.requests.refusals import Refusals
from assay.serving.requests.store_reads import StoreReads
from assay.serving.telemetry.metrics import Metrics
from assay.serving.telemetry.prediction_log import PredictionLog

PREDICT, INFER, BATCH = "/predict", "/inference/predict", "/inference/batch"
MODEL_HEADER = b"x-assay-model"
VERSION_HEADER = b"x-assay-model-version"
Reply: TypeAlias = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]]
"""A body, its content type and further headers."""
_JSON_OR_ARROW = frozenset({JSON, ARROW})
_ENCODED = re.compile(rb"[^!-~]|[%?#]")
_SEVERAL = b'"instruments"'


@dataclass(frozen=True, slots=True)
class Asked:
    """What answers a request whose features may have to be waited for."""

    question: Question
    finish: Callable[[list[Any]], Reply]


class Inference:
    """``/predict``, ``/inference/predict``, ``/inference/batch`` and the infer routes of the Open
    Inference Protocol over one predictor.

    Parameters
    ----------
    body_bytes: the longest body that is read.
    neutral: answer neutral signals while predictions are switched off, where there are some.
    shadows: what challengers predict beside the answers.
    """

    def __init__(
        self,
        predictor: Predictor,
        log: PredictionLog,
        metrics: Metrics,
        reception: Reception,
        reads: StoreReads,
        refusals: Refusals,
        *,
        body_bytes: int,
        neutral: bool,
        ticks: Callable[[], int],
        shadows: Shadows,
    ) -> None:
        self._predictor = predictor
        self._log = log
        self._metrics = metrics
        self._reception = reception
        self._reads = reads
        self._refusals = refusals
        self._body_bytes = body_bytes
        self._neutral = neutral
        self._ticks = ticks
        self._shadows = shadows
        self.open_inference = OpenInference(predictor)
        self.routes: dict[str, Callable[[bytes, Head], Reply | Asked]] = {
            PREDICT: self._predict,
            INFER: self._infer,
            BATCH: self._batch,
        }
        self._urls = {path.encode("ascii"): path for path in self.routes}
        metrics.mismatches.update(dict.fromkeys(self.routes, 0))  # 0 is said, not left out

    async def serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST to a path that :meth:`answers`."""
        head = self._reception.read(scope)
        try:
            self._reception.admit(scope, head)
            self._check_head(path, head)
            made = self._made(path, await read_body(scope, receive, self._body_bytes), head)
            if isinstance(made, Asked):
                made = await self._read_on(made, head)
        except Rejected as problem:
            status, content, kind, headers = self._refused(path, head, problem)
            await answer(send, status, content, kind, *headers)
            return
        content, kind, more = made
        await answer(send, 200, content, kind, (REQUEST_ID, head.id), *more)
        self._metrics.observe(self.route_of(path), 200, self._ticks() - head.arrived)

    def at_once(self, path: str, headers: Headers, body: bytes, arrived: int) -> Answer | None:
        """The answer to a whole POST to a path that :meth:`answers`; None, with nothing done, where
        its features may have to be waited for.

        Parameters
        ----------
        headers: by their lower-case names. arrived: when they had come, on the server's ticks.
        """
        if path == PREDICT and self._predictor.may_wait:
            return None
        head = self._reception.read_headers(headers, arrived)
        try:
            self._reception.check_deadline(head)
            self._check_head(path, head)
            check_size(len(body), self._body_bytes)
            made = self._made(path, body, head)
        except Rejected as problem:
            return self._refused(path, head, problem)
        if isinstance(made, Asked):
            return None  # it has begun to wait since
        content, kind, more = made
        self._metrics.observe(self.route_of(path), 200, self._ticks() - arrived)
        return 200, content, kind, ((REQUEST_ID, head.id), *more)

    def path_of(self, url: bytes) -> str | None:
        """The path that a request's URL means, where :meth:`at_once` answers to it; None for every
        other, and for one that has to be decoded first.
        """
        path = self._urls.get(url)
        if path is None and url.startswith(b"/v2/models/") and not _ENCODED.search(url):
            path = url.decode("ascii")
            return path if self.answers(path) else None
        return path

    def answers(self, path: str) -> bool:
        """Whether POST requests to a path are answered here."""
        return path in self.routes or self.open_inference.is_infer(path)

    def route_of(self, path: str) -> str:
        """What metrics call a path that :meth:`answers`."""
        return path if path in self.routes else self.open_inference.infer_route

    def _check_head(self, path: str, head: Head) -> None:
        if path not in self.routes:
            self.open_inference.model_of(path)
            self.open_inference.check_head(head)
        elif head.kind != JSON:
            check_kind(head.kind, _JSON_OR_ARROW if path == BATCH else (JSON,))

    def _made(self, path: str, body: bytes, head: Head) -> Reply | Asked:
        if self._ticks() > head.deadline:
            raise self._reception.too_late(head)
        route = self.routes.get(path)
        try:
            return self._infer_openly(path, body, head) if route is None else route(body, head)
        except RecursionError:
            raise too_deep() from None

    def _refused(self, path: str, head: Head, problem: Rejected) -> Answer:
        """The refusal of a request, counted."""
        route, body = self.route_of(path), None
        if path not in self.routes:
            body = encode(problem.document() | {"error": problem.message})
        self.count_refusal(route, head, problem)
        return refusal(problem, (REQUEST_ID, head.id), body=body)

    def count_refusal(self, route: str, head: Head, problem: Rejected) -> None:
        """Count a request that was refused, and tell of it."""
        if problem.kind is MANIFEST_MISMATCH:
            self._metrics.mismatches[route] += 1
        taken = self._ticks() - head.arrived
        self._metrics.observe(route, problem.kind.status, taken)
        self._refusals.tell(route, head.id, problem, taken)

    def _infer_openly(self, path: str, body: bytes, head: Head) -> Reply:
        made, reply = self.open_inference.infer(self.open_inference.model_of(path), body, head)
        self._note(made, head, len(made.values))
        return reply

    def note(self, made: BatchPrediction, head: Head) -> None:
        """Count predictions that another face of the service answers with, and have them written
        down.

        Raises
        ------
        Rejected: they are late.
        """
        self._note(made, head, len(made.values))

    async def _read_on(self, asked: Asked, head: Head) -> Reply:
        rows = await self._reads.rows(asked.question, head)
        self._predictor.check_switch()  # time has passed
        return asked.finish(rows)

    def _note(self, made: Prediction | BatchPrediction, head: Head, count: int = 1) -> None:
        """Count a prediction and have it written down, if it is in time."""
        if self._ticks() > head.deadline:
            raise self._reception.too_late(head)
        self._keep(made, head, count)

    def _keep(self, made: Prediction | BatchPrediction, head: Head, count: int = 1) -> None:
        self._log.offer(made, head.id)
        self._shadows.offer(made, head.id)
        model = made.model
        self._metrics.predictions[model.name, model.label] += count
        if made.route is not None:
            self._metrics.canary[model.name, made.route] += count

    # -- POST /predict -----------------------------------------------------------------------------

    def _predict(self, body: bytes, head: Head) -> Reply | Asked:
        try:
            request = decode_predict(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if _SEVERAL in body:
                return self._predict_many(body, head)
            raise explain(body, error, None) from None
        at = None if request.timestamp is None else read_timestamp(request.timestamp)
        try:
            asked = self._predictor.ask(
                (request.instrument,), at, request.request,
                model=request.model, manifest=head.manifest,
            )  # fmt: skip
        except Rejected as problem:
            return self._off(
                problem, request.model, lambda it: it.for_instrument(request.instrument)
            )
        if asked.may_wait:
            return Asked(asked, lambda rows: self._answer_one(asked, rows, head))
        return self._answer_one(asked, asked.read(), head)

    def _answer_one(self, asked: Question, rows: list[Any], head: Head) -> Reply:
        made = self._predictor.answer(asked, rows)
        self._note(made, head)
        return predict_answer(made), JSON, ()

    def _predict_many(self, body: bytes, head: Head) -> Reply | Asked:
        try:
            request = decode_predict_many(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise explain(body, error, None) from None
        at = None if request.timestamp is None else read_timestamp(request.timestamp)
        try:
            asked = self._predictor.ask_many(
                request.instruments, at, request.requests,
                model=request.model, manifest=head.manifest,
            )  # fmt: skip
        except Rejected as problem:
            return self._off(
                problem, request.model, lambda it: it.for_instruments(request.instruments)
            )
        if asked.may_wait:
            return Asked(asked, lambda rows: self._answer_many(asked, rows, head))
        return self._answer_many(asked, asked.read(), head)

    def _answer_many(self, asked: Question, rows: list[Any], head: Head) -> Reply:
        made = self._predictor.answer_many(asked, rows)
        self._reception.in_time(head)
        for one in made:
            if isinstance(one, Prediction):
                self._keep(one, head)
        return predict_many_answer(asked, made), JSON, ()

    # -- features that the caller brings -----------------------------------------------------------

    def _infer(self, body: bytes, head: Head) -> Reply:
        try:
            request = decode_inference(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise explain(body, error, self._default_model()) from None
        try:
            made = self._predictor.predict_features(
                request.features,
                names=request.feature_names,
                model=request.model_name,
                manifest=head.manifest,
                instrument=request.instrument,
                owned=True,
            )
        except Rejected as problem:
            return self._off(problem, request.model_name, NeutralAnswer.for_features)
        self._note(made, head)
        return inference_answer(made), JSON, ()

    def _batch(self, body: bytes, head: Head) -> Reply:
        if head.kind != JSON and check_kind(head.kind, _JSON_OR_ARROW) == ARROW:
            return self._arrow(body, head)
        try:
            request = decode_batch(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise explain(body, error, self._default_model()) from None
        try:
            made = self._predictor.predict_batch(
                read_rows(request.batch),
                names=request.feature_names,
                model=request.model_name,
                manifest=head.manifest,
                instrument=request.instrument,
            )
        except Rejected as problem:
            count = len(request.batch)
            return self._off(problem, request.model_name, lambda it: it.for_rows(count))
        self._note(made, head, len(made.values))
        return batch_answer(made), JSON, ()

    def _arrow(self, body: bytes, head: Head) -> Reply:
        """A batch as an Arrow stream; answered with one, whose model is named in headers."""
        name = head.headers.get(MODEL_HEADER, b"champion").decode("latin-1")
        made = predict_read(
            self._predictor, name, head.manifest,
            lambda model, most: read_stream(body, model.schema.names, most),
        )  # fmt: skip
        self._note(made, head, len(made.values))
        more = ((MODEL_HEADER, made.model.name.encode()),
                (VERSION_HEADER, made.model.label.encode()))  # fmt: skip
        return write_stream("prediction", made.values), ARROW, more

    # -- else --------------------------------------------------------------------------------------

    def _off(
        self, problem: Rejected, model: str, answer_of: Callable[[NeutralAnswer], dict[str, Any]]
    ) -> Reply:
        """A neutral answer, where predictions are switched off and the desk wants one.

        Raises
        ------
        Rejected: the problem itself in every other case.
        """
        if not self._neutral or problem.kind is not KILLED:
            raise problem
        chosen = self._predictor.live.find(model)
        neutral = NeutralAnswer(chosen, problem, self._predictor.clock.now())
        self._metrics.neutral += 1
        return encode(answer_of(neutral)), JSON, (NEUTRAL_HEADER,)

    def _default_model(self) -> LiveModel | None:
        live = self._predictor.live
        return live.models.get(live.champion) if live.champion else None
