"""The Open Inference Protocol over gRPC: real calls, real messages, and messages that lie."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")

from assay.serving.grpc.messages import MESSAGES, SERVICE  # noqa: E402
from assay.serving.grpc.server import GrpcServer  # noqa: E402
from assay.serving.rejections import INTERNAL, KINDS, Rejected  # noqa: E402

ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]  # weights 1, 10, 100
FLAT = [one for row in ROWS for one in row]
GOOD = struct.pack("<6d", *FLAT)
MANIFEST = ("x-assay-manifest", "a" * 64)
Code = grpc.StatusCode


class Caller:
    """Calls a server over a channel of its own."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    async def __call__(
        self, method: str, data: bytes | Any = b"", *metadata: tuple[str, str], **options: Any
    ) -> Any:
        """The answer's message, or its error; ``trailing`` and ``code`` of either."""
        call = self._channel.unary_unary(f"/{SERVICE}/{method}")(
            data if isinstance(data, bytes) else data.SerializeToString(),
            metadata=metadata, **options,
        )  # fmt: skip
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            return error
        assert "x-request-id" in dict(await call.trailing_metadata())
        return MESSAGES[f"{method}Response"].FromString(answer)


def calls(
    stage: Any, talk: Callable[[Caller], Awaitable[None]], *options: Any, **server: Any
) -> None:
    """Have a client talk to a server over the stage's service."""

    async def run() -> None:
        answering = GrpcServer(stage.service, "127.0.0.1:0", **server)
        await answering.start()
        try:
            async with grpc.aio.insecure_channel(
                f"127.0.0.1:{answering.port}", options=options
            ) as channel:
                await talk(Caller(channel))
        finally:
            await answering.stop()

    asyncio.run(run())


def asked(raw: Any = (GOOD,), **changes: Any) -> Any:
    """A request for the two rows, as raw bytes unless it is said otherwise."""
    tensor = {"name": "features", "datatype": "FP64", "shape": [2, 3]} | changes.pop("tensor", {})
    return MESSAGES["ModelInferRequest"](
        **{"model_name": "fx_vol", "id": "seven", "inputs": [tensor], "raw_input_contents": raw}
        | changes
    )


def typed(**contents: Any) -> Any:
    return asked((), tensor={"contents": contents} | contents.pop("tensor", {}))


def test_raw_and_typed_tensors_are_answered_alike_and_written_down(stage: Any) -> None:
    async def talk(call: Caller) -> None:
        raw = await call("ModelInfer", asked(), MANIFEST, ("x-request-id", "mine"))
        assert struct.unpack("<2d", raw.raw_output_contents[0]) == (321.0, 654.0)
        assert (raw.model_name, raw.model_version, raw.id) == ("fx_vol", "1.0.0", "seven")
        (output,) = raw.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("prediction", "FP64", [2])
        whole = await call("ModelInfer", typed(fp64_contents=FLAT), MANIFEST)
        assert list(whole.outputs[0].contents.fp64_contents) == [321.0, 654.0]
        narrow = typed(fp32_contents=FLAT, tensor={"datatype": "FP32"})
        narrow = await call("ModelInfer", narrow, MANIFEST)
        assert list(narrow.outputs[0].contents.fp64_contents) == [321.0, 654.0]

    stage.service.predictions.start()
    calls(stage, talk)
    stage.service.predictions.stop()
    lines = (stage.folder / "predictions.jsonl").read_text().splitlines()
    first, *others = (json.loads(line) for line in lines)
    assert (first["request_id"], first["batch"], first["predictions"]) == (
        "mine", ROWS, [321.0, 654.0],
    )  # fmt: skip
    assert len(others) == 2
    text = stage.service.metrics.text()
    route = f'route="/{SERVICE}/ModelInfer"'
    assert f'assay_requests_total{{{route},status="200"}} 3' in text
    assert 'assay_predictions_total{model="fx_vol",version="v1.0.0"} 6' in text


def test_columns_by_name_are_put_into_the_models_order(stage: Any) -> None:
    columns = {"vol_20": [3.0, 6.0], "ret_1": [1.0, 4.0], "vol_5": [2.0, 5.0]}
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [2], "contents": {"fp64_contents": column}}
        for name, column in columns.items()
    ]

    async def talk(call: Caller) -> None:
        answer = await call("ModelInfer", asked((), inputs=inputs), MANIFEST)
        assert list(answer.outputs[0].contents.fp64_contents) == [321.0, 654.0]

    calls(stage, talk)


def test_what_there_is_can_be_asked(stage: Any) -> None:
    async def talk(call: Caller) -> None:
        assert (await call("ServerLive")).live
        assert (await call("ServerReady")).ready
        known = MESSAGES["ModelReadyRequest"]
        assert (await call("ModelReady", known(name="fx_vol"))).ready
        assert (await call("ModelReady", known(name="fx_vol", version="1.0.0"))).ready
        assert not (await call("ModelReady", known(name="fx_vol", version="2.0.0"))).ready
        assert not (await call("ModelReady", known(name="other"))).ready
        server = await call("ServerMetadata")
        assert (server.name, server.version) == ("assay", "0.0.0")
        described = await call("ModelMetadata", MESSAGES["ModelMetadataRequest"](name="fx_vol"))
        (given,), (made,) = described.inputs, described.outputs
        assert (given.name, list(given.shape), made.name) == ("features", [-1, 3], "prediction")
        assert list(described.versions) == ["1.0.0"]
        missing = await call("ModelMetadata", MESSAGES["ModelMetadataRequest"](name="other"))
        assert missing.code() is Code.NOT_FOUND
        stage.switch.on(by="ops", reason="wrong prices")
        assert (await call("ServerLive")).live
        assert not (await call("ServerReady")).ready
        assert not (await call("ModelReady", known(name="fx_vol"))).ready

    calls(stage, talk)


def test_the_kill_switch_holds_for_calls_from_the_next_one_on(stage: Any) -> None:
    async def talk(call: Caller) -> None:
        assert (await call("ModelInfer", asked(), MANIFEST)).id == "seven"
        stage.switch.on(by="ops", reason="wrong prices")
        refused = await call("ModelInfer", asked(), MANIFEST)
        assert refused.code() is Code.FAILED_PRECONDITION  # asking again would not help
        assert "ops: wrong prices" in refused.details()
        stage.switch.off(by="ops", reason="right again")
        assert (await call("ModelInfer", asked(), MANIFEST)).id == "seven"

    calls(stage, talk)


def test_the_manifest_may_be_named_in_the_parameters_and_another_one_is_refused(
    stage: Any,
) -> None:
    def named(**value: Any) -> Any:
        return asked(parameters={"manifest": value})

    async def talk(call: Caller) -> None:
        assert (await call("ModelInfer", named(string_param="a" * 64))).id == "seven"
        assert (await call("ModelInfer", named(int64_param=1))).code() is Code.INVALID_ARGUMENT
        for other in (asked(), named(string_param="b" * 64)):
            refused = await call("ModelInfer", other)
            assert refused.code() is Code.FAILED_PRECONDITION

    calls(stage, talk)
    text = stage.service.metrics.text()
    name = "assay_feature_manifest_mismatch_total"
    assert f'{name}{{route="/{SERVICE}/ModelInfer"}} 1' in text


LIES = [
    (asked((GOOD[:-1],)), "invalid-tensor"),
    (asked((GOOD + b"\0",)), "invalid-tensor"),
    (asked((b"",)), "invalid-tensor"),
    (asked((GOOD, GOOD)), "invalid-tensor"),
    (asked(tensor={"shape": [2**40, 2**20]}), "batch-too-large"),
    (asked(tensor={"shape": [-2, -3]}), "invalid-tensor"),
    (asked(tensor={"shape": [-1, 3]}), "invalid-tensor"),
    (asked(tensor={"shape": [2**62]}), "invalid-tensor"),
    (asked(tensor={"shape": [3, 2]}), "feature-count"),
    (asked(tensor={"shape": [1, 2, 3]}), "invalid-tensor"),
    (asked(tensor={"shape": []}), "invalid-tensor"),
    (asked((b"",), tensor={"shape": [0, 3]}), "feature-count"),
    (asked(tensor={"datatype": "FP32"}), "invalid-tensor"),
    (asked(tensor={"datatype": "BYTES"}), "feature-type"),
    (asked(tensor={"name": "feature"}), "feature-names"),
    (asked(tensor={"contents": {"fp64_contents": FLAT}}), "invalid-tensor"),
    (asked(inputs=[]), "invalid-tensor"),
    (asked((GOOD, GOOD), inputs=[{"name": "features", "datatype": "FP64", "shape": [2, 3]}] * 2),
     "invalid-tensor"),
    (asked(outputs=[{"name": "probability"}]), "invalid-tensor"),
    (asked(model_name="other"), "unknown-model"),
    (asked(model_name=""), "unknown-model"),
    (asked(model_version="9.9.9"), "unknown-model"),
    (asked((struct.pack("<6d", *FLAT[:5], float("nan")),)), "feature-value"),
    (asked((struct.pack("<6d", *FLAT[:5], 1e39),)), "feature-value"),
    (typed(fp64_contents=FLAT[:5]), "invalid-tensor"),
    (typed(fp64_contents=[*FLAT, 7.0]), "invalid-tensor"),
    (typed(), "invalid-tensor"),
    (typed(fp32_contents=FLAT), "feature-type"),
    (typed(fp64_contents=FLAT, fp32_contents=FLAT), "feature-type"),
    (typed(bytes_contents=[b"x"] * 6), "feature-type"),
    (b"\xff\xff\xff", "malformed-body"),
    (b"", "unknown-model"),
]  # fmt: skip


def test_a_message_that_is_not_what_it_says_is_refused_with_the_words_of_http(stage: Any) -> None:
    async def talk(call: Caller) -> None:
        for request, slug in LIES:
            refused = await call("ModelInfer", request, MANIFEST)
            metadata = dict(refused.trailing_metadata())
            assert metadata["x-assay-problem"] == f"urn:assay:problem:{slug}", (request, refused)
            assert metadata["x-request-id"]
            expected = Code.NOT_FOUND if slug == "unknown-model" else Code.INVALID_ARGUMENT
            assert refused.code() is expected
            assert refused.details()
        assert (await call("ModelInfer", asked(), MANIFEST)).id == "seven"

    calls(stage, talk)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], database=None, max_examples=5
)
@given(st.lists(st.binary(max_size=300), min_size=20, max_size=20), st.randoms())
def test_whatever_is_sent_is_refused_in_words(stage: Any, bodies: list[bytes], random: Any) -> None:
    whole = asked().SerializeToString()
    damaged = [bytearray(whole) for _ in range(40)]
    for one in damaged:
        one[random.randrange(len(one))] = random.randrange(256)

    async def talk(call: Caller) -> None:
        for body in (*bodies, *map(bytes, damaged), *(whole[:n] for n in range(len(whole)))):
            answer = await call("ModelInfer", body, MANIFEST)
            if isinstance(answer, grpc.aio.AioRpcError):
                assert answer.code() in {Code.INVALID_ARGUMENT, Code.NOT_FOUND}, (body, answer)
                assert answer.details()

    calls(stage, talk)


def test_a_message_that_is_too_long_or_packed_is_not_read(stage: Any) -> None:
    async def talk(call: Caller) -> None:
        long = await call("ModelInfer", asked((b"\0" * 30_000,)), MANIFEST)
        assert long.code() is Code.RESOURCE_EXHAUSTED
        bomb = asked((b"\0" * 10_000,)).SerializeToString()
        assert len(gzip.compress(bomb)) < 300
        packed = await call("ModelInfer", bomb, MANIFEST, compression=grpc.Compression.Gzip)
        assert packed.code() is Code.UNIMPLEMENTED
        assert (await call("ModelInfer", asked(), MANIFEST)).id == "seven"

    calls(stage, talk)


def test_a_deadline_is_the_one_that_a_call_names_and_what_is_late_is_not_written_down(
    stage: Any,
) -> None:
    service = stage.service
    now = 10**9

    def ticks() -> int:
        return now

    service.ticks = service.reception._ticks = service.inference._ticks = ticks
    check = service.predictor.check_switch

    def slow() -> None:
        nonlocal now
        now += 60 * 10**6  # the predictor takes 60 ms
        check()

    async def talk(call: Caller) -> None:
        refused = await call("ModelInfer", asked(), MANIFEST, ("x-deadline-ms", "soon"))
        assert refused.code() is Code.INVALID_ARGUMENT
        assert "X-Deadline-Ms is 'soon'" in refused.details()
        service.predictor.check_switch = slow
        assert (await call("ModelInfer", asked(), MANIFEST)).id == "seven"
        late = await call("ModelInfer", asked(), MANIFEST, ("x-deadline-ms", "50"))
        assert late.code() is Code.DEADLINE_EXCEEDED
        assert late.details().startswith("no answer within 50 ms")

    calls(stage, talk)
    assert service.metrics.predictions["fx_vol", "v1.0.0"] == 2  # the rows of one call


def test_a_client_that_does_not_wait_as_long_gets_no_prediction_that_is_written_down(
    stage: Any,
) -> None:
    service = stage.service
    check = service.predictor.check_switch
    asked_at: list[float] = []
    now = 10**9

    def ticks() -> int:
        return now

    service.ticks = service.reception._ticks = service.inference._ticks = ticks

    def slow() -> None:
        nonlocal now
        now += 500 * 10**6  # less than the service's own deadline, more than the client's
        asked_at.append(now)
        check()

    service.predictor.check_switch = slow

    async def talk(call: Caller) -> None:
        late = await call("ModelInfer", asked(), MANIFEST, timeout=0.4)
        assert late.code() is Code.DEADLINE_EXCEEDED
        assert (await call("ModelInfer", asked(), MANIFEST, timeout=30)).id == "seven"

    calls(stage, talk)
    assert len(asked_at) == 2
    assert service.metrics.predictions["fx_vol", "v1.0.0"] == 2  # the rows of the second call


def test_what_is_too_many_is_refused_at_once_and_what_waits_is_answered(staged: Any) -> None:
    stage = staged(capacity=3)

    async def talk(call: Caller) -> None:
        stream = call._channel.stream_unary(f"/{SERVICE}/ModelInfer")
        waiting = [stream(metadata=(MANIFEST,)) for _ in range(3)]  # that say nothing yet
        for one in waiting:
            await one.wait_for_connection()
        server_sees = asyncio.get_running_loop().time() + 20
        while True:
            refused = await call("ModelInfer", asked(), MANIFEST)
            if isinstance(refused, grpc.aio.AioRpcError):
                break
            assert asyncio.get_running_loop().time() < server_sees
        assert refused.code() is Code.RESOURCE_EXHAUSTED
        assert "expected at most 3" in refused.details()
        for one in waiting:
            await one.write(asked().SerializeToString())
            await one.done_writing()
            assert MESSAGES["ModelInferResponse"].FromString(await one).id == "seven"
        assert (await call("ModelInfer", asked(), MANIFEST)).id == "seven"

    calls(stage, talk, ("grpc.use_local_subchannel_pool", 1))
    route = f'route="/{SERVICE}/ModelInfer",status="429"'
    assert f"assay_requests_total{{{route}}} 1" in stage.service.metrics.text()


def test_what_is_under_way_is_answered_when_the_server_stops_and_nothing_more(stage: Any) -> None:
    async def run() -> None:
        server = GrpcServer(stage.service, "127.0.0.1:0")
        await server.start()
        target = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(target) as channel:
            call = Caller(channel)
            assert (await call("ServerLive")).live
            began = asyncio.Event()
            receive = server._receive

            async def seen(*given: Any) -> bytes:
                began.set()
                return await receive(*given)

            server._receive = seen
            waiting = channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=(MANIFEST,))
            await waiting.wait_for_connection()
            await asyncio.wait_for(began.wait(), 20)
            stopping = asyncio.create_task(server.stop())
            refused: list[Any] = []
            while Code.UNAVAILABLE not in refused:
                late = await call("ServerLive")
                if isinstance(late, grpc.aio.AioRpcError):
                    refused.append(late.code())
                else:
                    assert not refused
            # One that comes in the very instant is taken, and given up.
            assert set(refused) <= {Code.UNAVAILABLE, Code.CANCELLED}
            assert not stopping.done()
            await waiting.write(asked().SerializeToString())
            await waiting.done_writing()
            assert MESSAGES["ModelInferResponse"].FromString(await waiting).id == "seven"
            await stopping

    asyncio.run(run())


def test_a_message_that_does_not_come_is_not_waited_for(stage: Any) -> None:
    async def talk(call: Caller) -> None:
        stream = call._channel.stream_unary(f"/{SERVICE}/ModelInfer")
        silent = stream(metadata=(MANIFEST,))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await silent
        assert refused.value.code() is Code.DEADLINE_EXCEEDED
        assert refused.value.details() == "no message came within 0.05 s"
        empty = stream(metadata=(MANIFEST,))
        await empty.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await empty
        assert refused.value.code() is Code.INVALID_ARGUMENT

    calls(stage, talk, part_seconds=0.05)


def test_a_defect_is_internal_logged_and_counted_and_does_not_kill(
    stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    async def talk(call: Caller) -> None:
        check, stage.service.predictor.check_switch = stage.service.predictor.check_switch, broken
        failed = await call("ModelInfer", asked(), MANIFEST)
        assert (failed.code(), "ZeroDivisionError" in failed.details()) == (Code.INTERNAL, True)
        stage.service.predictor.check_switch = check
        assert (await call("ModelInfer", asked(), MANIFEST)).id == "seven"

    calls(stage, talk)
    assert "a defect" in caplog.text
    route = f'route="/{SERVICE}/ModelInfer",status="500"'
    assert f"assay_requests_total{{{route}}} 1" in stage.service.metrics.text()


def test_every_kind_of_refusal_has_a_status_and_words_that_fit_into_a_head() -> None:
    from assay.serving.grpc.server import _words, code_of

    for kind in KINDS:
        assert code_of(Rejected(kind, "x")) is not Code.OK
        assert (code_of(Rejected(kind, "x")) is Code.INTERNAL) == (kind is INTERNAL)
    assert len(_words(Rejected(INTERNAL, "\N{SNOWMAN}" * 5_000)).encode()) <= 1_000


def test_names_and_numbers_are_those_of_a_public_client() -> None:
    pytest.importorskip("tritonclient", reason="pip install tritonclient[grpc]")
    theirs = pytest.importorskip("tritonclient.grpc.service_pb2")
    for name, ours in MESSAGES.items():
        found = theirs
        for part in name.split("."):
            found = getattr(found, part)
        fields = {one.name: one for one in found.DESCRIPTOR.fields}
        for one in ours.DESCRIPTOR.fields:
            other = fields[one.name]
            assert (one.number, one.type, one.is_repeated, one.full_name) == (
                other.number, other.type, other.is_repeated, other.full_name,
            )  # fmt: skip
        assert ours.DESCRIPTOR.full_name == found.DESCRIPTOR.full_name
