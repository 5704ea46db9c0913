"""The Open Inference Protocol over gRPC, and its health: another face of the same service.

It runs on the event loop of the HTTP server, over the same predictor, kill switch, log and figures.
A call is received as a stream of one message, which is the same on the wire: so what is too many is
refused when its head has come, and a message that never comes is not waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import grpc
import msgspec
from grpc import StatusCode

from assay.errors import Unavailable
from assay.serving.grpc import tensors as grpc_tensors
from assay.serving.grpc.health import HEALTH_MESSAGES, HEALTH_SERVICE, Health
from assay.serving.grpc.messages import MESSAGES, SERVICE, parse
from assay.serving.http.connection import Gate
from assay.serving.http.open_inference import predict_read
from assay.serving.http.service import Service
from assay.serving.http.traced_inference import spanned
from assay.serving.rejections import (
    INTERNAL,
    INVALID_BODY,
    KILLED,
    REQUEST_TIMEOUT,
    Rejected,
)
from assay.serving.requests.reception import ARRIVED, REFUSED, REQUEST_ID, Head
from assay.serving.telemetry.tracing import Attribute

_LOG = logging.getLogger("assay.serving")
GRACE_SECONDS: Final = 2.0
"""How long calls under way may take when the server is told to stop."""
PROBLEM: Final = "x-assay-problem"
"""Key of an answer's metadata: which problem it is, as the ``type`` of a problem document."""
_CODES: Final = {
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.FAILED_PRECONDITION,
    428: StatusCode.FAILED_PRECONDITION,
    429: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
_INFER, _CHECK, _WATCH = "ModelInfer", "Check", "Watch"
METHODS: Final = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", _INFER,
)  # fmt: skip
_ROUTES: Final = {name: f"/{SERVICE}/{name}" for name in METHODS} | {
    name: f"/{HEALTH_SERVICE}/{name}" for name in (_CHECK, _WATCH)
}
_TAKES: Final = {name: MESSAGES[f"{name}Request"] for name in METHODS} | dict.fromkeys(
    (_CHECK, _WATCH), HEALTH_MESSAGES["HealthCheckRequest"]
)
"""The class of each method's message."""
_STATUS: Final = "rpc.grpc.status_code"
_KNOWN: Final[dict[str, Attribute]] = {
    "rpc.system": "grpc",
    "rpc.service": SERVICE,
    "rpc.method": _INFER,
    _STATUS: 0,
}
_LONGEST: Final = 1_000  # bytes; clients refuse metadata of more than 8 KiB, percent-encoded
_IDENTITY_ONLY: Final = 1
_PING_MS: Final = 60_000


class GrpcServer:
    """Answers calls for one service. Belongs to one event loop.

    Parameters
    ----------
    address: ``host:port`` to listen on; other processes of the service listen there as well.
    certificate: a private key and its chain of certificates, in PEM; None for calls without TLS.
    gate: of the HTTP server beside it, with which it shares one capacity; one of its own otherwise.
    part_seconds: that a message may take to come whole.

    Attributes
    ----------
    port: that it listens on, once it has started.
    """

    def __init__(
        self,
        service: Service,
        address: str,
        *,
        gate: Gate | None = None,
        certificate: tuple[bytes, bytes] | None = None,
        part_seconds: float = 10.0,
    ) -> None:
        self._service = service
        self._predictor = service.predictor
        self._inference = service.inference
        self._tracing = service.tracing
        self._reception = service.reception
        self._ticks = service.ticks
        self._gate = gate or Gate(service.operation.capacity)
        self._certificate = certificate
        self._part_seconds = part_seconds
        self._address = address
        self._health = Health(lambda: self._ready(lambda live: live.models))
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen, and answer.

        Raises
        ------
        Unavailable: the address cannot be listened on.
        """
        capacity = self._gate.capacity
        options = (
            ("grpc.max_receive_message_length", self._service.operation.body_bytes),
            # A message of a megabyte can be one of a gigabyte when it is unpacked.
            ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
            ("grpc.max_concurrent_streams", 4 * capacity),
            ("grpc.server.max_pending_requests", capacity),
            ("grpc.server.max_pending_requests_hard_limit", 4 * capacity),
            ("grpc.server_handshake_timeout_ms", round(self._part_seconds * 1e3)),
            ("grpc.so_reuseport", 1),
            # Whoever watches says nothing for hours: this is how the dead are told from the silent.
            ("grpc.keepalive_time_ms", _PING_MS),
        )
        server = grpc.aio.server(options=options)
        methods = {
            name: grpc.stream_unary_rpc_method_handler(self._method(name)) for name in METHODS
        }
        checks = {
            _CHECK: grpc.stream_unary_rpc_method_handler(self._method(_CHECK)),
            _WATCH: grpc.stream_stream_rpc_method_handler(self._watch),
        }
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, methods),
                grpc.method_handlers_generic_handler(HEALTH_SERVICE, checks),
            )
        )
        try:
            if self._certificate is None:
                self.port = server.add_insecure_port(self._address)
            else:
                guarded = grpc.ssl_server_credentials([self._certificate])
                self.port = server.add_secure_port(self._address, guarded)
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {self._address} for gRPC: {error}") from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Answer what is under way, and no more."""
        self._health.stop()
        if self._server is not None:
            await self._server.stop(GRACE_SECONDS)

    def _method(self, name: str) -> Callable[[Any, Any], Any]:
        async def answer(_: Any, context: Any) -> bytes:
            return await self._answer(name, context)

        return answer

    async def _answer(self, name: str, context: Any) -> bytes:
        route = _ROUTES[name]
        scope = self._scope(context)
        head = self._reception.read(scope)
        counted = int(name == _INFER)  # only what may be refused for it takes a place
        self._gate.beside += counted
        try:
            if self._tracing is None or name != _INFER:
                made = await self._made(name, route, context, scope, head)
            else:
                age = self._ticks() - head.arrived
                with spanned(self._tracing, route.removeprefix("/"), head, _KNOWN, age) as span:
                    made = await self._made(name, route, context, scope, head)
                    if isinstance(made, Rejected):
                        span.note({_STATUS: code_of(made).value[0]})
                        if made.kind is INTERNAL:
                            span.fail(INTERNAL.title)
        finally:
            self._gate.beside -= counted
        if not isinstance(made, Rejected):
            context.set_trailing_metadata(_identity(head))
            return made
        await _refuse(context, head, made)
        raise AssertionError  # that has raised

    async def _watch(self, _: Any, context: Any) -> None:
        """Tell whether predictions are answered for as long as the client wants to know it. It is
        not one of the requests under way: it may last as long as the server.
        """
        head = self._reception.read(self._scope(context))
        try:
            self._reception.check_deadline(head)
            asked = parse(_TAKES[_WATCH], await self._receive(_WATCH, context, head))
            context.set_trailing_metadata(_identity(head))
            await self._health.watch(asked.service, context.write, most=self._gate.connections)
        except Rejected as problem:
            self._inference.count_refusal(_ROUTES[_WATCH], head, problem)
            await _refuse(context, head, problem)

    async def _made(
        self, name: str, route: str, context: Any, scope: dict[str, Any], head: Head
    ) -> bytes | Rejected:
        """The answer to a call, counted."""
        try:
            # Before the client's own deadline is looked at: this one is about the header.
            if name == _INFER:
                self._reception.admit(scope, head)
            else:  # whether the service is there is told however much it has to do
                self._reception.check_deadline(head)
            head = _with_deadline(head, context.time_remaining())
            data = await self._receive(name, context, head)
            self._reception.in_time(head)
            answer = self._infer(data, head) if name == _INFER else self._tell(name, data)
        except Rejected as problem:
            self._inference.count_refusal(route, head, problem)
            return problem
        except Exception as error:  # noqa: BLE001 - a defect must be seen, and must not kill
            told = {"route": route, "request_id": head.id.decode()}
            _LOG.error("%s: a defect", route, exc_info=error, extra={"fields": told})
            self._service.metrics.observe(route, 500, self._ticks() - head.arrived)
            return Rejected(
                INTERNAL, f"{type(error).__name__} while answering; the server's log tells where"
            )
        self._service.metrics.observe(route, 200, self._ticks() - head.arrived)
        return answer

    def _scope(self, context: Any) -> dict[str, Any]:
        """The head of a call in the form in which that of an HTTP request comes."""
        headers = [
            (key.encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1"))
            for key, value in context.invocation_metadata() or ()
        ]
        scope = {"headers": headers, ARRIVED: self._ticks()}
        under_way, capacity = self._gate.under_way, self._gate.capacity
        if under_way >= capacity:
            scope[REFUSED] = (under_way, capacity)
        return scope

    async def _receive(self, name: str, context: Any, head: Head) -> bytes:
        """The message of a call.

        Raises
        ------
        Rejected: it does not come in time, or not at all.
        """
        left = self._reception.left(head)
        try:
            async with asyncio.timeout(min(max(left, 0.0), self._part_seconds)):
                data = await context.read()
        except TimeoutError:
            if left <= self._part_seconds:
                raise self._reception.too_late(head) from None
            raise Rejected(
                REQUEST_TIMEOUT, f"no message came within {self._part_seconds:g} s",
                found="nothing", expected=_TAKES[name].DESCRIPTOR.full_name,
            ) from None  # fmt: skip
        if data is grpc.aio.EOF:
            raise Rejected(
                INVALID_BODY, "the call has no message",
                found="nothing", expected=_TAKES[name].DESCRIPTOR.full_name,
            )  # fmt: skip
        return bytes(data)

    # -- methods -----------------------------------------------------------------------------------

    def _infer(self, data: bytes, head: Head) -> bytes:
        request = parse(_TAKES[_INFER], data)
        grpc_tensors.check_outputs(request)
        made = predict_read(
            self._predictor,
            _reference(request.model_name, request.model_version),
            head.manifest or grpc_tensors.manifest_of(request),
            lambda model, most: grpc_tensors.read_rows(request, model, most),
            instrument=grpc_tensors.instrument_of(request),
        )
        self._inference.note(made, head)
        return grpc_tensors.answer(request, made)

    def _tell(self, name: str, data: bytes) -> bytes:
        """The answer to what is no inference."""
        asked = parse(_TAKES[name], data)
        if name == _CHECK:
            return self._health.check(asked.service)
        if name == "ServerLive":
            return _message("ServerLiveResponse", live=True)
        if name == "ServerReady":
            return _message("ServerReadyResponse", ready=self._ready(lambda live: live.models))
        if name == "ServerMetadata":
            return _message("ServerMetadataResponse", name="assay", version=self._service.version)
        model = _reference(asked.name, asked.version)
        if name == "ModelReady":
            return _message("ModelReadyResponse", ready=self._ready(lambda live: live.find(model)))
        return grpc_tensors.describe(self._predictor.live.find(model))

    def _ready(self, find: Callable[[Any], Any]) -> bool:
        try:
            self._predictor.check_switch()
            return bool(find(self._predictor.live))
        except Rejected:
            return False


def code_of(problem: Rejected) -> StatusCode:
    """The status of a refusal. A client that asks again by itself does so when it is
    ``UNAVAILABLE``, which does not help while somebody has switched predictions off.
    """
    if problem.kind is KILLED:
        return StatusCode.FAILED_PRECONDITION
    return _CODES.get(problem.kind.status, StatusCode.INVALID_ARGUMENT)


def _words(problem: Rejected) -> str:
    text = problem.message if problem.hint is None else f"{problem.message} ({problem.hint})"
    return text.encode()[:_LONGEST].decode("utf-8", "ignore")


def _identity(head: Head) -> tuple[tuple[str, str], ...]:
    return ((REQUEST_ID.decode(), head.id.decode()),)


async def _refuse(context: Any, head: Head, problem: Rejected) -> None:
    more = (*_identity(head), (PROBLEM, problem.kind.uri))
    await context.abort(code_of(problem), _words(problem), more)


def _message(name: str, /, **fields: Any) -> bytes:
    data: bytes = MESSAGES[name](**fields).SerializeToString()
    return data


def _reference(name: str, version: str) -> str:
    return f"{name}/{version}" if version else name


def _with_deadline(head: Head, remaining: float | None) -> Head:
    """The head of a call whose client waits no longer than ``remaining`` seconds."""
    if remaining is None:
        return head
    deadline = head.arrived + max(round(remaining * 1e9), 0)
    return msgspec.structs.replace(head, deadline=min(head.deadline, deadline))
