"""A service over models and features that are small enough to compute by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay import bootstrap
from assay.domain.versions import RISK_MODEL, InputSchema
from assay.errors import AssayError, NotFound
from assay.orchestration.desk import Desk
from assay.serving import (
    KillSwitch,
    Limits,
    LiveModel,
    LiveModels,
    OnnxModel,
    Predictor,
    RequestInputs,
    ServiceRecord,
    SourceRow,
    SourceState,
)
from assay.serving.http.service import Operation, Service, ServiceFiles
from assay.testing.clocks import FixedClock
from assay.testing.versions import linear_onnx

HOUR = 3_600 * 10**9
NOW = 1_700_000_000 * 10**9
MANIFEST = "a" * 64
NAMES = ("ret_1", "vol_5", "vol_20")
USERS = """
users:
  ops: {roles: [sre]}
  author: {roles: [quant]}
  audit: {roles: [auditor]}
  gone: {roles: [sre]}
  book: {kind: service, owner: author, roles: [quant]}
"""


def probability_onnx(weights: Sequence[float]) -> bytes:
    """A classifier: the probability of a rise is the logistic function of ``rows @ weights``."""
    width = len(weights)
    value = numpy_helper.from_array
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weights"], ["margin"]),
            helper.make_node("Sigmoid", ["margin"], ["rise"]),
            helper.make_node("Sub", ["one", "rise"], ["fall"]),
            helper.make_node("Concat", ["fall", "rise"], ["probabilities"], axis=1),
        ],
        "logistic",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [
            value(np.asarray(weights, dtype=np.float32).reshape(width, 1), "weights"),
            value(np.ones(1, dtype=np.float32), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_live(
    name: str = "fx_vol",
    version: str = "1.0.0",
    *,
    weights: Sequence[float] = (1.0, 10.0, 100.0),
    bias: float = 0.0,
    names: Sequence[str] = NAMES,
    manifest: str | None = MANIFEST,
    probability: bool = False,
) -> LiveModel:
    data = probability_onnx(weights) if probability else linear_onnx(weights, bias)
    return LiveModel(
        name=name,
        version=version,
        digest=f"{name} {version}",
        kind=RISK_MODEL,
        manifest=manifest,
        model=OnnxModel.from_bytes(data, InputSchema.of(names)),
        loaded_at=NOW,
    )


@dataclass
class Rows:
    """A feature source of given rows; its columns stand in another order than the model's."""

    held: dict[str, SourceRow] = field(default_factory=dict)
    trouble: AssayError | None = None
    refreshed: int = 0
    names: tuple[str, ...] = ("vol_20", "unused", "ret_1", "vol_5")
    manifest: str = MANIFEST
    may_wait: bool = False

    def put(self, entity: str, *values: float, event: int = NOW - 2 * HOUR, known: int = NOW - HOUR,
            manifest: str = MANIFEST, stale: bool = False) -> None:  # fmt: skip
        self.held[entity] = SourceRow(np.array(values), event, known, manifest, stale)

    def rows(self, entities: Sequence[str], as_of: int) -> list[SourceRow | None]:
        if self.trouble is not None:
            raise self.trouble
        return [self.held.get(entity) for entity in entities]

    def entities(self) -> set[str]:
        return {*self.held, "NO_HISTORY"}

    def refresh(self) -> None:
        self.refreshed += 1

    def state(self, as_of: int) -> SourceState:
        fresh = any(not row.stale for row in self.held.values())
        return SourceState(self.trouble is None, fresh, "rows of a test")


class Shelf:
    """What should be live, as a test puts it there."""

    def __init__(self, *models: LiveModel) -> None:
        self.models = {model.name: model for model in models}
        self.refused: dict[str, AssayError] = {}
        self.trouble: AssayError | None = None
        self.loads = 0
        self._turn = 0

    def put(self, model: LiveModel) -> None:
        self.models[model.name] = model
        self._turn += 1

    def take(self, name: str) -> None:
        del self.models[name]
        self._turn += 1

    def pointer(self) -> object:
        return self._turn

    def wanted(self) -> Mapping[str, str]:
        if self.trouble is not None:
            raise self.trouble
        return {name: model.digest for name, model in self.models.items()}

    def load(self, name: str) -> LiveModel:
        self.loads += 1
        if name in self.refused:
            raise self.refused[name]
        if name not in self.models:
            raise NotFound(name)
        return self.models[name]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    service: Service,
    method: str,
    path: str,
    body: Any = None,
    *,
    manifest: str | None = MANIFEST,
    kind: str | None = "application/json",
    parts: int = 1,
    more: Mapping[str, str] = MappingProxyType({}),
    marks: Mapping[str, Any] = MappingProxyType({}),
) -> Answer:
    """One request, given to the application as a server gives it."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    headers = [(b"content-type", kind.encode())] if kind is not None else []
    if manifest is not None:
        headers.append((b"x-assay-manifest", manifest.encode()))
    headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
    cuts = [len(data) * n // parts for n in range(parts + 1)]
    waiting = [
        {"type": "http.request", "body": data[a:b], "more_body": b < len(data) or n + 1 < parts}
        for n, (a, b) in enumerate(pairwise(cuts))
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": headers, "client": ("127.0.0.1", 1), "server": ("test", 80),
        **marks,
    }  # fmt: skip
    asyncio.run(service(scope, receive, send))
    start = sent[0]
    return Answer(
        start["status"],
        {key.decode().lower(): value.decode() for key, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


@dataclass
class Stage:
    """A service that is not started, and everything around it."""

    service: Service
    rows: Rows
    shelf: Shelf
    clock: FixedClock
    switch: KillSwitch
    folder: Path

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        return ask(self.service, method, path, body, **options)

    def recorded(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (self.folder / "serving.jsonl").read_text().splitlines()
        ]


def make_stage(
    folder: Path,
    *models: LiveModel,
    champion: str | None = "fx_vol",
    limits: Limits | None = None,
    killed: bool = False,
    queue: int = 1_000,
    feature_log_rate: float = 1.0,
    rows: Rows | None = None,
    requests: Sequence[RequestInputs] = (),
    board: Any = None,
    registry_state: Callable[[], str] = lambda: "a registry of a test",
    tracing: Any = None,
    operators: Any = None,
    **operation: Any,
) -> Stage:
    shelf = Shelf(*(models or (make_live(),)))
    if rows is None:
        rows = Rows()
        rows.put("USD_SGD", 3.0, 99.0, 1.0, 2.0)
    clock = FixedClock(NOW)
    record = ServiceRecord(folder / "serving.jsonl", clock, process=1)
    switch = KillSwitch(folder / "stop" / "KILL", record, at_start=killed)
    predictor = Predictor(
        LiveModels(shelf.models, champion), {rows.manifest: rows}, clock, requests=requests,
        switch=switch, limits=limits,
    )  # fmt: skip
    service = Service(
        predictor,
        shelf,
        switch,
        record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"),
        clock,
        registry_state,
        version="0.0.0",
        operation=Operation(
            body_bytes=20_000, queue=queue, feature_log_rate=feature_log_rate, **operation
        ),
        board=board,
        tracing=tracing,
        operators=operators,
    )
    return Stage(service, rows, shelf, clock, switch, folder)


@pytest.fixture
def source() -> type[Rows]:
    return Rows


@pytest.fixture
def live() -> Callable[..., LiveModel]:
    return make_live


@pytest.fixture
def staged(tmp_path: Path) -> Callable[..., Stage]:
    """Makes a service in the test's folder."""
    return lambda *models, **options: make_stage(tmp_path, *models, **options)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return make_stage(tmp_path)


@pytest.fixture
def desk_with_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk that names users and has a key that signs tokens."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    bootstrap.create_desk(tmp_path / "desk", name="desk", members=[])
    (tmp_path / "desk/configs/access.yaml").write_text(USERS)
    desk = bootstrap.open_desk(tmp_path / "desk", clock=FixedClock(NOW))
    desk.authenticator.keys.rotate(NOW)
    return desk
