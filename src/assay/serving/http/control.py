"""Everything of the service that is asked rarely: health, feedback, reload, the kill switch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

from assay.domain.clock import Clock
from assay.domain.instants import render
from assay.errors import AssayError
from assay.serving.challengers.running import Challengers
from assay.serving.formats.wire import encode, read_timestamp
from assay.serving.http.open_inference import OpenInference
from assay.serving.http.open_routes import OpenRoutes
from assay.serving.http.openapi import complete, docs_page
from assay.serving.http.operators import ADMITTED, Admitted, Operators, who_acts
from assay.serving.http.patient_look import PatientLook
from assay.serving.inputs.feature_source import SourceState, states_of
from assay.serving.prediction.kill_switch import KillSwitch
from assay.serving.prediction.predictor import Predictor
from assay.serving.prediction.service_record import ServiceRecord
from assay.serving.rejections import (
    INVALID_BODY,
    MALFORMED_BODY,
    UNAVAILABLE,
    UNKNOWN_PATH,
    WRONG_METHOD,
    Rejected,
    defect,
    too_deep,
)
from assay.serving.reloading import Reloader
from assay.serving.requests.store_reads import StoreReads
from assay.serving.telemetry.beside import RUNNING, Beside, together
from assay.serving.telemetry.latency_target import LatencyTarget
from assay.serving.telemetry.metrics import CONTENT_TYPE, Metrics, Sample, to_text
from assay.serving.telemetry.prediction_log import FeedbackLog, PredictionLog
from assay.serving.telemetry.worker_board import Said, WorkerBoard

_PATIENCE = 1.0
"""Seconds that a question about a dependency waits for it."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(min_length=1, max_length=1_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Feedback(_Body):
    """What became of a prediction: the direction that was realised, the value, or both."""

    instrument: Name
    timestamp: str
    realized_direction: Literal["bullish", "bearish"] | None = None
    realized_value: float | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Feedback:
        if self.realized_direction is None and self.realized_value is None:
            raise ValueError("expected realized_direction or realized_value")
        return self


class Switching(_Body):
    """Who turns the kill switch, and why. `by` may only be left out where a token says who."""

    by: Name | None = None
    reason: Reason


class ControlPlane:
    """The routes that FastAPI carries, and the documentation of all routes.

    Parameters
    ----------
    registry_state: asked by ``GET /health``; says what the registry is like, or raises.
    version: of the package.
    reads, target, record, board: told of in ``GET /health``; no board where this is the only
        process.
    challengers: told of there and in ``GET /model``.
    operators: who may operate the service; None for whoever reaches it, which are others than this
        machine's where it is ``exposed``.
    """

    def __init__(
        self,
        predictor: Predictor,
        reloader: Reloader,
        switch: KillSwitch,
        predictions: PredictionLog,
        feedback: FeedbackLog,
        metrics: Metrics,
        clock: Clock,
        registry_state: Callable[[], str],
        *,
        version: str,
        open_inference: OpenInference,
        reads: StoreReads,
        target: LatencyTarget,
        record: ServiceRecord,
        board: WorkerBoard | None,
        challengers: Challengers,
        operators: Operators | None,
        exposed: bool,
    ) -> None:
        self._operators = operators
        self._exposed = exposed
        self._open = OpenRoutes(open_inference, predictor, switch, version=version)
        self._reads = reads
        self._target = target
        self._board = board
        self._challengers = challengers
        self._predictor = predictor
        self._reloader = reloader
        self._switch = switch
        self._predictions = predictions
        self._feedback = feedback
        self._metrics = metrics
        self._clock = clock
        self._record = record
        self._ask_registry = PatientLook(registry_state, seconds=_PATIENCE, what="registry")
        self._ask_stores = PatientLook(self._stores, seconds=_PATIENCE, what="online store")
        self._version = version
        metrics.ask(self._samples)
        self.app = self._build()

    def _build(self) -> FastAPI:
        app = FastAPI(
            title="Assay",
            version=self._version,
            description="Predictions of models that passed their gates, from features that are "
            "the ones they were trained on.",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        routes: tuple[tuple[str, str, Callable[..., Any], str], ...] = (
            ("GET", "/health", self.health, "Every dependency, and what is live"),
            ("GET", "/inference/health", self.health, "The same as /health"),
            ("GET", "/health/live", self.live, "The process answers"),
            ("GET", "/health/ready", self.ready, "Predictions are answered"),
            ("GET", "/model", self.model, "What is loaded, with names and order of its columns"),
            ("POST", "/model/reload", self.reload, "Bring what is live up to the registry now"),
            ("POST", "/feedback", self.feedback, "Say what became of a prediction"),
            ("POST", "/kill", self.kill, "Switch predictions off from the next request on"),
            ("POST", "/unkill", self.unkill, "Let predictions go on"),
            *self._open.routes,
        )
        for method, path, function, summary in routes:
            app.add_api_route(
                path, function, methods=[method], summary=summary, response_model=None
            )
        for path, function in (("/metrics", self.metrics), ("/docs", self.docs)):
            app.add_api_route(path, function, methods=["GET"], include_in_schema=False)
        for kind, function in (
            (AssayError, _on_error),
            (OSError, _on_error),
            (RequestValidationError, _on_invalid),
            (HTTPException, _on_http),
            (RecursionError, _on_depth),
            (Exception, _on_defect),
        ):
            app.add_exception_handler(kind, function)
        made = app.openapi
        tokens = self._operators is not None
        app.openapi = lambda: complete(made(), tokens=tokens)  # type: ignore[method-assign]
        return app

    # -- routes; plain functions run in a thread, so that a slow disk delays no prediction. There
    # are only so many of those threads: what must be answered whatever else hangs takes none. -----

    async def health(self) -> Response:
        now = self._clock.now()
        live = self._predictor.live
        killed = await asyncio.to_thread(self._switch.observe)
        stores, registry = await asyncio.gather(self._states(), self._registry())
        store_ok = all(state.reachable for state in stores.values())
        fresh = all(state.fresh for state in stores.values())
        able = killed is None and bool(live.models) and store_ok
        troubles = (self._reloader.trouble, self._record.trouble)
        well = able and fresh and registry["ok"] and troubles == (None, None)
        dependencies: dict[str, Any] = {
            "online_store": {
                "ok": store_ok,
                "detail": {key: state.to_json() for key, state in stores.items()},
            },
            "registry": registry,
            "model_loaded": {
                "ok": bool(live.models) and self._reloader.trouble is None,
                "detail": self._reloader.trouble or {m.name: m.label for m in _models(live)},
            },
            "features_fresh": {
                "ok": fresh,
                "detail": "within their time to live" if fresh else "stale",
            },
            "latency": self._target.to_json(),
            "prediction_log": {
                "ok": self._predictions.trouble is None,
                "detail": self._predictions.trouble
                or {"written": self._predictions.written, "dropped": self._predictions.dropped},
            },
            "record": {
                "ok": self._record.trouble is None,
                "detail": self._record.trouble or "written",
            },
        }
        dependencies["operators"] = self._operated()
        beside = self._beside()
        if beside:
            # Not part of the status: whatever a challenger does, production answers.
            dependencies["challengers"] = {
                "ok": all(one.state == RUNNING and one.reason is None for one in beside),
                "detail": [_told(one) for one in beside],
            }
        if self._board is not None:
            dependencies["workers"] = await asyncio.to_thread(self._workers, self._board)
        document = {
            "status": "killed" if killed else "ok" if well else "degraded" if able else "down",
            "version": self._version,
            "time": render(now),
            "dependencies": dependencies,
            "killed": None if killed is None else {"by": killed.by, "reason": killed.reason},
        }
        return _json(document, 200 if able else 503)

    def _operated(self) -> dict[str, Any]:
        """Who may switch, reload and say outcomes; not part of the status: predictions are."""
        if self._operators is not None:
            return {"ok": True, "detail": "asked for tokens"}
        if self._exposed:
            return {"ok": False, "detail": "whoever reaches this service, from other machines too"}
        return {"ok": True, "detail": "whoever is on this machine"}

    async def _registry(self) -> dict[str, Any]:
        try:
            return {"ok": True, "detail": await self._ask_registry()}
        except (AssayError, OSError) as error:
            return {"ok": False, "detail": str(error)}

    async def _states(self) -> Mapping[str, SourceState]:
        """How each source of features is; a single entry where that cannot be known."""
        try:
            return await self._ask_stores()
        except (AssayError, OSError) as error:
            return {"online store": SourceState(reachable=False, fresh=False, detail=str(error))}

    def _stores(self) -> Mapping[str, SourceState]:
        states = states_of(self._predictor.sources, self._clock.now())
        return {key[:12]: state for key, state in states.items()}

    @staticmethod
    def _workers(board: WorkerBoard) -> dict[str, Any]:
        """What the processes of this service have loaded, and whether it is the same."""
        found = board.workers()
        return {
            "ok": len({tuple(sorted(one.models.items())) for one in found}) <= 1
            and not any(one.trouble for one in found),
            "detail": {
                str(one.process): {"models": one.models, "trouble": one.trouble} for one in found
            },
        }

    def said(self) -> Said:
        """What this process tells the others of its service."""
        live = self._predictor.live
        models = {one.name: f"{one.label} {one.digest[:12]}" for one in _models(live)}
        return Said(
            os.getpid(), models, self._reloader.trouble, self._metrics.families(),
            self._challengers.beside(),
        )  # fmt: skip

    def _beside(self) -> list[Beside]:
        """What runs beside, in all processes of this service."""
        if self._board is None:
            return self._challengers.beside()
        return together(each for one in self._board.workers() for each in one.beside)

    async def live(self) -> Response:
        return _json({"status": "ok"})

    async def ready(self) -> Response:
        killed, live = await asyncio.to_thread(self._switch.observe), self._predictor.live
        ready = killed is None and bool(live.models)
        return _json({"ready": ready, "killed": killed is not None}, 200 if ready else 503)

    async def model(self) -> Response:
        live = self._predictor.live
        beside = self._beside()
        return _json(
            {
                "champion": live.champion,
                "models": [
                    one.to_json()
                    | {
                        "request": self._asks(one.name),
                        "challengers": [_told(each) for each in beside if each.model == one.name],
                    }
                    for one in _models(live)
                ],
            }
        )

    def _asks(self, name: str) -> dict[str, Any] | None:
        """What a request for a model has to bring."""
        inputs = self._predictor.inputs_of(name)
        if inputs is None:
            return None
        return {"view": inputs.view.name, "inputs": list(inputs.view.inputs)}

    def _admitted(self, request: Request) -> Admitted | None:
        """Who sends a request that changes something; None where nobody is asked."""
        if self._operators is None:
            return None
        admitted: Admitted = request.scope[ADMITTED]  # without it nothing is done
        return admitted

    def reload(self, request: Request) -> Response:
        self._admitted(request)
        if self._board is not None:
            self._board.ask_to_reload()  # first: what this process refuses, others may be able to
        changed = self._reloader.reload()
        live = self._predictor.live
        champion = live.models.get(live.champion) if live.champion else None
        return _json(
            {
                "reloaded": True,
                "version": champion.label if champion else None,
                "changed": {one.name: one.label for one in changed},
                "models": {one.name: one.label for one in _models(live)},
            }
        )

    def feedback(self, request: Request, body: Feedback) -> Response:
        admitted = self._admitted(request)
        joined = self._feedback.record(
            body.instrument,
            read_timestamp(body.timestamp),
            direction=body.realized_direction,
            value=body.realized_value,
            model=body.model,
            by=None if admitted is None else admitted.name,
        )
        self._metrics.feedback["joined"] += 1
        return _json({"recorded": True, "answers": joined})

    async def kill(self, request: Request, body: Switching) -> Response:
        by = who_acts(self._admitted(request), body.by)
        done = await asyncio.to_thread(self._switch.on, by=by, reason=body.reason)
        return _json({"killed": True, "by": done.by, "reason": done.reason})

    async def unkill(self, request: Request, body: Switching) -> Response:
        by = who_acts(self._admitted(request), body.by)
        await asyncio.to_thread(self._switch.off, by=by, reason=body.reason)
        return _json({"killed": False, "by": by, "reason": body.reason})

    async def metrics(self) -> Response:
        return PlainTextResponse(await asyncio.to_thread(self._figures), media_type=CONTENT_TYPE)

    def _figures(self) -> str:
        board = self._board
        return self._metrics.text() if board is None else to_text(board.figures())

    def docs(self) -> Response:
        return HTMLResponse(docs_page(self.app.openapi()))

    def _samples(self) -> Iterable[Sample]:
        for model in _models(self._predictor.live):
            labels = {"model": model.name, "version": model.label, "digest": model.digest}
            yield "assay_model_info", "gauge", "Which bytes are live.", labels, 1
        killed = self._switch.observe() is not None
        yield "assay_killed", "gauge", "1 while predictions are switched off.", {}, int(killed)
        log = self._predictions
        for name, kind, what, value in (
            ("predictions_logged_total", "counter", "Lines written.", log.written),
            ("predictions_dropped_total", "counter", "Lines that were not written.", log.dropped),
            ("predictions_waiting", "gauge", "Lines that wait to be written.", log.waiting),
            (
                "store_failing",
                "gauge",
                "1 while reads of the online store fail in a row.",
                int(self._reads.failing),
            ),
            (
                "store_refused_total",
                "counter",
                "Requests refused at once because the online store had just failed.",
                self._reads.refused,
            ),
        ):
            yield f"assay_{name}", kind, what, {}, value


def _models(live: Any) -> list[Any]:
    return [live.models[name] for name in sorted(live.models)]


def _told(one: Beside) -> dict[str, Any]:
    """A challenger as the routes tell of it; versions are written as a model's is."""
    return msgspec.structs.asdict(one) | {"version": f"v{one.version}"}


def _json(document: Any, status: int = 200) -> Response:
    return Response(encode(document), status, media_type="application/json")


def _problem(request: Request, problem: Rejected) -> Response:
    status, document = problem.kind.status, problem.document()
    if request.url.path.startswith("/v2"):
        document["error"] = problem.message  # where clients of the protocol look for it
    return Response(encode(document), status, media_type="application/problem+json")


def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Rejected):
        return _problem(request, error)
    hint = error.hint if isinstance(error, AssayError) else None
    words = error.message if isinstance(error, AssayError) else str(error)
    return _problem(
        request,
        Rejected(UNAVAILABLE, words, found="a refusal", expected="a working dependency", hint=hint),
    )


def _on_depth(request: Request, _: Exception) -> Response:
    return _problem(request, too_deep())


def _on_defect(request: Request, error: Exception) -> Response:
    return _problem(request, defect(error))  # the framework raises it again, to be told


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return _problem(
            request,
            Rejected(MALFORMED_BODY, f"the body is not JSON: {reason}", expected="a JSON object"),
        )
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    found = first.get("input")
    return _problem(
        request,
        Rejected(
            INVALID_BODY,
            f"{place[:120] or 'the body'}: {first['msg'][:300]}",
            found=sorted(map(str, found)) if isinstance(found, dict) else found,
            expected=first["msg"],
        ),
    )


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        made = _problem(
            request,
            Rejected(
                WRONG_METHOD,
                f"{request.method} {request.url.path[:120]}: expected {allowed}",
                found=request.method,
                expected=allowed,
            ),
        )
        made.headers["Allow"] = allowed
        return made
    if error.status_code == 404:
        path = request.url.path
        return _problem(
            request,
            Rejected(UNKNOWN_PATH, f"no path {path[:120]!r}", found=path,
                     expected="one of the paths in /docs"),
        )  # fmt: skip
    kind = MALFORMED_BODY if error.status_code < 500 else UNAVAILABLE
    return _problem(request, Rejected(kind, str(error.detail)[:300]))
