"""The health service that is standard over gRPC says what the service says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")

from assay.serving import LiveModels  # noqa: E402
from assay.serving.grpc.server import GrpcServer  # noqa: E402
from assay.serving.http.connection import Gate  # noqa: E402

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
INFER = "/inference.GRPCInferenceService/ModelInfer"
# Messages by hand: field 1 of an answer is a number, and field 1 of a request is text.
SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
Code = grpc.StatusCode


def named(service: str) -> bytes:
    return b"\x0a" + bytes([len(service)]) + service.encode()


def talk(
    stage: Any, converse: Callable[[Any, GrpcServer], Awaitable[None]], gate: Gate | None = None
) -> None:
    """Have a client converse with a server over the stage's service; bytes are sent as they are."""

    async def run() -> None:
        server = GrpcServer(stage.service, "127.0.0.1:0", gate=gate)
        server._health._look_seconds = 0.01
        await server.start()
        options = [("grpc.use_local_subchannel_pool", 1)]
        try:
            address = f"127.0.0.1:{server.port}"
            async with grpc.aio.insecure_channel(address, options=options) as channel:
                await asyncio.wait_for(converse(channel, server), 30)
        finally:
            await server.stop()

    asyncio.run(run())


async def is_ready(stage: Any) -> bool:
    """What HTTP says."""
    answer = await asyncio.to_thread(stage.ask, "GET", "/health/ready")
    return bool(answer.status == 200)


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_check_says_what_http_says(stage: Any, live: Any, service: str) -> None:
    asked = named(service) if service else b""

    async def converse(channel: Any, _: GrpcServer) -> None:
        check = channel.unary_unary(CHECK)
        assert (await check(asked), await is_ready(stage)) == (SERVING, True)
        stage.switch.on(by="ops", reason="wrong prices")
        assert (await check(asked), await is_ready(stage)) == (NOT_SERVING, False)
        stage.switch.off(by="ops", reason="right again")
        assert (await check(asked), await is_ready(stage)) == (SERVING, True)
        stage.service.predictor.use(LiveModels({}, None))
        assert (await check(asked), await is_ready(stage)) == (NOT_SERVING, False)
        stage.service.predictor.use(LiveModels({"fx_vol": live()}, "fx_vol"))
        assert await check(asked) == SERVING

    talk(stage, converse)
    route = f'route="{CHECK}",status="200"'
    assert f"assay_requests_total{{{route}}} 5" in stage.service.metrics.text()


def test_watch_says_it_at_once_and_whenever_it_changes_and_that_the_server_stops(
    stage: Any,
) -> None:
    async def converse(channel: Any, server: GrpcServer) -> None:
        watches = [channel.unary_stream(WATCH)(b"") for _ in range(3)]

        async def all_say(status: bytes) -> None:
            assert [await one.read() for one in watches] == [status] * 3

        await all_say(SERVING)
        stage.switch.on(by="ops", reason="wrong prices")
        await all_say(NOT_SERVING)
        late = channel.unary_stream(WATCH)(b"")
        assert await late.read() == NOT_SERVING
        late.cancel()
        stage.switch.off(by="ops", reason="right again")
        await all_say(SERVING)
        stopping = asyncio.create_task(server.stop())
        await all_say(NOT_SERVING)
        assert [await one.read() for one in watches] == [grpc.aio.EOF] * 3
        assert "x-request-id" in dict(await watches[0].trailing_metadata())
        await stopping

    talk(stage, converse)


def test_a_check_that_is_under_way_when_the_server_stops_says_so(stage: Any) -> None:
    async def converse(channel: Any, server: GrpcServer) -> None:
        began, receive = asyncio.Event(), server._receive

        async def seen(*given: Any) -> bytes:
            began.set()
            return await receive(*given)

        server._receive = seen  # type: ignore[method-assign]
        waiting = channel.stream_unary(CHECK)()
        await waiting.wait_for_connection()
        await began.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        await waiting.write(b"")
        await waiting.done_writing()
        assert await waiting == NOT_SERVING
        await stopping

    talk(stage, converse)


def test_a_service_that_is_not_there_is_not_found_and_watched_in_vain(stage: Any) -> None:
    async def converse(channel: Any, _: GrpcServer) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(CHECK)(named("other"))
        assert refused.value.code() is Code.NOT_FOUND
        assert "'other'" in refused.value.details()
        watch = channel.unary_stream(WATCH)(named("other"))
        assert await watch.read() == SERVICE_UNKNOWN
        watch.cancel()
        for method in (CHECK, WATCH):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.stream_unary(method)(iter([b"\xff\xff"]))
            assert refused.value.code() is Code.INVALID_ARGUMENT
            assert "HealthCheckRequest" in refused.value.details()

    talk(stage, converse)


def test_a_full_service_is_healthy_and_only_so_many_watch_it(stage: Any) -> None:
    gate = Gate(2, connections=2)

    async def converse(channel: Any, _: GrpcServer) -> None:
        watches = [channel.unary_stream(WATCH)(b"") for _ in range(2)]
        for one in watches:
            assert await one.read() == SERVING
        assert gate.under_way == 0  # who only watches takes nobody's place
        gate.beside += 2
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(INFER)(b"", metadata=(("x-assay-manifest", "a" * 64),))
        assert refused.value.code() is Code.RESOURCE_EXHAUSTED
        assert await channel.unary_unary(CHECK)(b"") == SERVING
        gate.beside -= 2
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_stream(WATCH)(b"").read()
        assert refused.value.code() is Code.RESOURCE_EXHAUSTED
        watches[0].cancel()
        while True:  # until the server has seen the end of it
            again = channel.unary_stream(WATCH)(b"")
            try:
                assert await again.read() == SERVING
                break
            except grpc.aio.AioRpcError:
                continue

    talk(stage, converse, gate)


def test_the_public_client_of_the_health_service_reads_it(stage: Any) -> None:
    public = pytest.importorskip("grpc_health.v1", reason="pip install grpcio-health-checking")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    assert public is not None

    async def converse(channel: Any, _: GrpcServer) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
        answer = await stub.Check(asked)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stage.switch.on(by="ops", reason="wrong prices")
        first = await stub.Watch(asked).read()
        assert first.status == health_pb2.HealthCheckResponse.NOT_SERVING
        unknown = await stub.Watch(health_pb2.HealthCheckRequest(service="other")).read()
        assert unknown.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

    talk(stage, converse)
