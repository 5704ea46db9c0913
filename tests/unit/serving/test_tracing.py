"""Spans of requests: one for each, in the caller's trace, with what became of it."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="pip install assay[otel]")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
    InMemorySpanExporter,
)
from opentelemetry.trace import SpanKind, StatusCode

from assay.adapters.otel.tracing import OpenTelemetryTracing, over_http
from assay.serving.http.inference import Inference
from assay.serving.telemetry.json_logs import JsonLines
from assay.testing.clocks import FixedClock

NOW = 1_700_000_000 * 10**9
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IN_TRACE = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "desk=1"}
BODY = {"features": [1.0, 2.0, 3.0]}
MANIFEST = "a" * 64
INFER = "/v2/models/fx_vol/infer"
TENSOR = {"name": "features", "shape": [1, 3], "datatype": "FP64", "data": [1.0, 2.0, 3.0]}


class Kept:
    """A stage whose spans are kept."""

    def __init__(self, staged: Callable[..., Any], **options: Any) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        tracing = OpenTelemetryTracing(provider, FixedClock(NOW), version="0")
        self.stage = staged(tracing=tracing, **options)

    def spans(self) -> list[Any]:
        found = list(self._memory.get_finished_spans())
        self._memory.clear()
        return found

    def one(self) -> Any:
        (span,) = self.spans()
        return span


@pytest.fixture
def kept(staged: Callable[..., Any]) -> Kept:
    return Kept(staged)


@pytest.mark.parametrize(
    ("route", "path", "body", "rows"),
    [
        ("/predict", "/predict", {"instrument": "USD_SGD"}, 1),
        ("/predict", "/predict", {"instruments": ["USD_SGD", "USD_SGD"]}, 2),
        ("/inference/predict", "/inference/predict", BODY, 1),
        ("/inference/batch", "/inference/batch", {"batch": [[1.0, 2.0, 3.0]]}, 1),
        ("/v2/models/{model}/infer", INFER, {"inputs": [TENSOR]}, 1),
    ],
)
def test_each_request_has_one_span_in_its_callers_trace(
    kept: Kept, route: str, path: str, body: Any, rows: int
) -> None:
    answer = kept.stage.ask("POST", path, body, more={"x-request-id": "mine", **IN_TRACE})
    assert (answer.status, answer.headers["x-request-id"]) == (200, "mine")
    span = kept.one()
    assert (span.name, span.kind) == (f"POST {route}", SpanKind.SERVER)
    assert span.status.status_code is StatusCode.UNSET
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.context.trace_state.to_header() == "desk=1"
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "http.route": route,
        "http.response.status_code": 200,
        "assay.request_id": "mine",
        "assay.model": "fx_vol",
        "assay.model.version": "v1.0.0",
        "assay.manifest": MANIFEST,
    }
    kept.stage.service.predictions.stop()
    lines = (kept.stage.folder / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["trace_id"] for line in lines] == [TRACE] * rows


@pytest.mark.parametrize(("body", "status"), [(BODY, 200), ({"features": [1.0]}, 422), (None, 500)])
def test_a_request_that_is_answered_where_it_is_read_has_one_span_too(
    kept: Kept, body: Any, status: int
) -> None:
    service = kept.stage.service
    if body is None:
        service.predictor.predict_features = lambda *_, **__: 1 / 0
    headers = [
        (b"content-type", b"application/json"), (b"x-assay-manifest", MANIFEST.encode()),
        *((name.encode(), value.encode()) for name, value in IN_TRACE.items()),
    ]  # fmt: skip
    data = json.dumps(body or BODY).encode()
    answered = service.direct.answer("/inference/predict", headers, data, service.ticks())
    assert answered is not None
    span = kept.one()
    assert answered[0] == span.attributes["http.response.status_code"] == status
    assert f"{span.context.trace_id:032x}" == TRACE
    assert (
        status == 500
        or dict(answered[3])[b"x-request-id"].decode() == (span.attributes["assay.request_id"])
    )


def test_a_request_that_has_to_wait_has_the_span_of_the_long_way_alone(
    staged: Callable[..., Any], source: Any
) -> None:
    rows = source()
    rows.may_wait = True
    rows.put("USD_SGD", 3.0, 99.0, 1.0, 2.0)
    kept = Kept(staged, rows=rows)
    body = json.dumps({"instrument": "USD_SGD"}).encode()
    headers = [
        (b"content-type", b"application/json"), (b"x-assay-manifest", MANIFEST.encode()),
    ]  # fmt: skip
    service = kept.stage.service
    assert service.direct.answer("/predict", headers, body, service.ticks()) is None
    assert kept.spans() == []
    assert kept.stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).status == 200
    assert kept.one().name == "POST /predict"


def test_the_span_lasts_from_the_head_of_the_request_on(kept: Kept) -> None:
    ticks = kept.stage.service.ticks
    marks = {"assay.arrived": ticks() - 5_000_000_000}
    kept.stage.ask("POST", "/inference/predict", BODY, marks=marks)
    span = kept.one()
    assert span.end_time == NOW
    assert span.start_time <= NOW - 5_000_000_000


@pytest.mark.parametrize("given", [None, "x" * 200, "with blank", "late\n"])
def test_a_request_without_a_usable_id_has_the_one_that_it_is_answered_with(
    kept: Kept, given: str | None
) -> None:
    more = {} if given is None else {"x-request-id": given}
    answer = kept.stage.ask("POST", "/inference/predict", BODY, more=more)
    assert kept.one().attributes["assay.request_id"] == answer.headers["x-request-id"] != given


@pytest.mark.parametrize(
    ("options", "status", "slug", "state"),
    [
        ({"body": {"features": [1.0]}}, 422, "feature-count", StatusCode.UNSET),
        ({"body": b"{"}, 400, "malformed-body", StatusCode.UNSET),
        ({"manifest": "b" * 64}, 409, "manifest-mismatch", StatusCode.UNSET),
        ({"more": {"x-deadline-ms": "0.000001"}}, 504, "deadline-exceeded", StatusCode.ERROR),
    ],
)
def test_a_refusal_says_which_and_only_ours_are_errors(
    kept: Kept, options: dict[str, Any], status: int, slug: str, state: StatusCode
) -> None:
    asked = {"body": BODY} | options
    answer = kept.stage.ask("POST", "/inference/predict", asked.pop("body"), **asked)
    span = kept.one()
    assert answer.status == span.attributes["http.response.status_code"] == status
    assert span.attributes["assay.problem"] == slug
    assert span.status.status_code is state


def test_a_defect_is_an_error_and_still_answered(kept: Kept) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    kept.stage.service.predictor.predict_features = broken
    assert kept.stage.ask("POST", "/inference/predict", BODY).status == 500
    span = kept.one()
    assert span.attributes["http.response.status_code"] == 500
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR, "ZeroDivisionError",
    )  # fmt: skip


@pytest.mark.parametrize("parent", ["", "00-0-0-00", "zz" * 40, "00-" + "0" * 32 + "-" + PARENT])
def test_a_trace_that_cannot_be_read_begins_anew(kept: Kept, parent: str) -> None:
    answer = kept.stage.ask("POST", "/inference/predict", BODY, more={"traceparent": parent})
    span = kept.one()
    assert answer.status == 200
    assert span.parent is None


def test_a_trace_that_its_caller_does_not_sample_is_not_kept(kept: Kept) -> None:
    more = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert kept.stage.ask("POST", "/inference/predict", BODY, more=more).status == 200
    assert kept.spans() == []


def test_other_routes_have_no_span(kept: Kept) -> None:
    assert kept.stage.ask("GET", "/health/live", kind=None).status == 200
    assert kept.stage.ask("GET", "/predict", kind=None).status == 405
    assert kept.spans() == []


def test_requests_at_once_do_not_mix_their_traces(staged: Callable[..., Any], source: Any) -> None:
    rows = source()
    rows.may_wait = True
    rows.put("USD_SGD", 3.0, 99.0, 1.0, 2.0)
    barrier = threading.Barrier(8)
    read = rows.rows
    rows.rows = lambda names, at: (barrier.wait(60), read(names, at))[1]
    kept = Kept(staged, rows=rows, deadline_ms=60_000.0)
    service = kept.stage.service

    async def ask(number: int) -> None:
        body = json.dumps({"instrument": "USD_SGD"}).encode()
        headers = [
            (b"content-type", b"application/json"), (b"x-assay-manifest", MANIFEST.encode()),
            (b"x-request-id", b"%d" % number),
            (b"traceparent", f"00-{number:032x}-{PARENT}-01".encode()),
        ]  # fmt: skip

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(_: Any) -> None:
            await asyncio.sleep(0)

        await service(
            {"type": "http", "method": "POST", "path": "/predict", "headers": headers},
            receive, send,
        )  # fmt: skip

    async def several() -> None:
        await asyncio.gather(*(ask(number) for number in range(1, 9)))

    asyncio.run(several())
    found = {span.attributes["assay.request_id"]: span.context.trace_id for span in kept.spans()}
    assert found == {str(number): number for number in range(1, 9)}
    service.predictions.stop()
    lines = (kept.stage.folder / "predictions.jsonl").read_text().splitlines()
    logged = {one["request_id"]: int(one["trace_id"], 16) for one in map(json.loads, lines)}
    assert logged == found


def test_lines_of_the_log_name_the_trace(kept: Kept) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("assay.serving")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        kept.stage.ask("POST", "/inference/predict", {"features": []}, more=IN_TRACE)
        logger.info("something else")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    refused, other = (json.loads(line) for line in stream.getvalue().splitlines())
    assert refused["trace_id"] == TRACE
    assert "trace_id" not in other


def test_without_tracing_nothing_of_it_is_in_the_way(stage: Any) -> None:
    assert type(stage.service.inference) is Inference
    answer = stage.ask("POST", "/inference/predict", BODY, more=IN_TRACE)
    assert answer.status == 200
    stage.service.predictions.stop()
    assert "trace_id" not in (stage.folder / "predictions.jsonl").read_text()


def test_calls_over_grpc_have_spans_too(kept: Kept) -> None:
    grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")
    from assay.serving.grpc.messages import MESSAGES, SERVICE
    from assay.serving.grpc.server import GrpcServer

    tensor = {
        "name": "features", "datatype": "FP64", "shape": [1, 3],
        "contents": {"fp64_contents": [1.0, 2.0, 3.0]},
    }  # fmt: skip
    request = MESSAGES["ModelInferRequest"](model_name="fx_vol", inputs=[tensor])

    async def run() -> None:
        server = GrpcServer(kept.stage.service, "127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
                whole = request.SerializeToString()
                metadata = [*IN_TRACE.items(), ("x-request-id", "mine")]
                await call(whole, metadata=[*metadata, ("x-assay-manifest", MANIFEST)])
                with pytest.raises(grpc.aio.AioRpcError):
                    await call(whole, metadata=metadata)
                await channel.unary_unary(f"/{SERVICE}/ServerLive")(b"")
        finally:
            await server.stop()

    asyncio.run(run())
    answered, refused = kept.spans()
    for span, status in ((answered, 0), (refused, 9)):
        assert (span.name, span.kind) == (f"{SERVICE}/ModelInfer", SpanKind.SERVER)
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.attributes["rpc.grpc.status_code"] == status
        assert span.attributes["assay.request_id"] == "mine"
    assert answered.attributes["assay.model.version"] == "v1.0.0"
    assert refused.attributes["assay.problem"] == "manifest-missing"


class Collector(HTTPServer):
    """Takes what is sent by OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiving)
        self.taken: list[tuple[str, Any]] = []
        self.came = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Receiving(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        assert isinstance(self.server, Collector)
        self.server.taken.append((self.path, ExportTraceServiceRequest.FromString(data)))
        self.server.came.set()
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_collector_gets_the_spans_when_the_service_stops_at_the_latest(
    staged: Callable[..., Any], collector: Collector
) -> None:
    tracing = over_http(collector.url, FixedClock(NOW), version="1.2.3")
    stage = staged(tracing=tracing)
    assert stage.ask("POST", "/inference/predict", BODY, more=IN_TRACE).status == 200
    tracing.close()
    ((path, sent),) = collector.taken
    assert path == "/v1/traces"
    (resource,) = sent.resource_spans
    told = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (told["service.name"], told["service.version"]) == ("assay", "1.2.3")
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == (
        "POST /inference/predict", TRACE, PARENT,
    )  # fmt: skip
    assert span.end_time_unix_nano == NOW


@pytest.mark.long
def test_a_collector_that_is_not_there_delays_no_request_and_hardly_the_end(
    staged: Callable[..., Any], collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.server_close()  # nobody listens on its port now
    tracing = over_http(collector.url, FixedClock(NOW), version="1")
    stage = staged(tracing=tracing)
    for _ in range(3):
        assert stage.ask("POST", "/inference/predict", BODY).status == 200
    caplog.set_level(logging.CRITICAL + 1)
    closing = threading.Thread(target=tracing.close)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
