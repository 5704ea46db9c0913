"""Who names an instrument gets the same answer, and leaves the same pair, by each route."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assay.serving import CanaryRoute, LiveModels
from assay.serving.challengers.pair_log import PairReader
from assay.serving.challengers.shadowing import Challenger
from assay.serving.models.canary import position

OPEN = "/v2/models/fx_vol/infer"
MANIFEST = ("x-assay-manifest", "a" * 64)
NAMES = [f"E{number:02d}" for number in range(8)]
ROUTED = {name for name in NAMES if position("salt", name) < 0.3}
VARIES = {"champion_ms", "shadow_ms", "request_id", "turn"}
Rows = Sequence[Sequence[float]]
Told = tuple[str, list[float]]
"""The version that answered, without a mark, and its predictions."""


def flat(rows: Rows) -> list[float]:
    return [value for row in rows for value in row]


def tensor(rows: Rows, **more: Any) -> dict[str, Any]:
    return {"name": "features", "shape": [len(rows), 3], "datatype": "FP64"} | more


def of_json(answer: Any) -> Told:
    assert answer.status == 200, answer.body
    document = answer.json()
    return document["model_version"].removeprefix("v"), (
        document["predictions"] if "predictions" in document else [document["prediction"]]
    )


def by_row(stage: Any, rows: Rows, named: dict[str, Any], version: str | None) -> Told:
    body = {"features": rows[0], "model_name": f"fx_vol/{version}" if version else "fx_vol"}
    return of_json(stage.ask("POST", "/inference/predict", body | named))


def by_batch(stage: Any, rows: Rows, named: dict[str, Any], version: str | None) -> Told:
    body = {"batch": rows, "model_name": f"fx_vol/{version}" if version else "fx_vol"}
    return of_json(stage.ask("POST", "/inference/batch", body | named))


def path_of(version: str | None) -> str:
    return f"/v2/models/fx_vol/versions/{version}/infer" if version else OPEN


def by_open_json(stage: Any, rows: Rows, named: dict[str, Any], version: str | None) -> Told:
    body = {"inputs": [tensor(rows, data=rows)], "parameters": named}
    answer = stage.ask("POST", path_of(version), body)
    assert answer.status == 200, answer.body
    return answer.json()["model_version"], answer.json()["outputs"][0]["data"]


def by_open_bytes(stage: Any, rows: Rows, named: dict[str, Any], version: str | None) -> Told:
    data = struct.pack(f"<{3 * len(rows)}d", *flat(rows))
    one = tensor(rows, parameters={"binary_data_size": len(data)})
    text = json.dumps({"inputs": [one], "parameters": named | {"binary_data_output": True}})
    answer = stage.ask(
        "POST", path_of(version), text.encode() + data, kind="application/octet-stream",
        more={"inference-header-content-length": str(len(text))},
    )  # fmt: skip
    assert answer.status == 200, answer.body
    size = int(answer.headers["inference-header-content-length"])
    made = struct.unpack(f"<{len(rows)}d", answer.body[size:])
    return json.loads(answer.body[:size])["model_version"], list(made)


def called(stage: Any, request: Any) -> Any:
    """The answer to a call over gRPC, or its error."""
    grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")
    from assay.serving.grpc.messages import MESSAGES, SERVICE
    from assay.serving.grpc.server import GrpcServer

    async def run() -> Any:
        server = GrpcServer(stage.service, "127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
                sent = MESSAGES["ModelInferRequest"](**request).SerializeToString()
                answer = await call(sent, metadata=(MANIFEST,))
                return MESSAGES["ModelInferResponse"].FromString(answer)
        except grpc.aio.AioRpcError as error:
            return error
        finally:
            await server.stop()

    return asyncio.run(run())


def asked_by_call(rows: Rows, named: dict[str, Any], version: str | None) -> dict[str, Any]:
    return {
        "model_name": "fx_vol",
        "model_version": version or "",
        "inputs": [tensor(rows, contents={"fp64_contents": flat(rows)})],
        "parameters": {key: {"string_param": value} for key, value in named.items()},
    }


def by_call(stage: Any, rows: Rows, named: dict[str, Any], version: str | None) -> Told:
    made = called(stage, asked_by_call(rows, named, version))
    return made.model_version, list(made.outputs[0].contents.fp64_contents)


def by_raw_call(stage: Any, rows: Rows, named: dict[str, Any], version: str | None) -> Told:
    data = struct.pack(f"<{3 * len(rows)}d", *flat(rows))
    asked = asked_by_call(rows, named, version)
    asked |= {"inputs": [tensor(rows)], "raw_input_contents": [data]}
    made = called(stage, asked)
    return made.model_version, list(struct.unpack(f"<{len(rows)}d", made.raw_output_contents[0]))


OPENLY = [by_open_json, by_open_bytes, by_call, by_raw_call]


@pytest.fixture
def stage(staged: Any, live: Any) -> Any:
    """A service whose canary answers for three tenths of the instruments."""
    made = staged()
    champion, other = live(), live(version="2.0.0", weights=(2.0, 20.0, 200.0))
    canaries = {"fx_vol": CanaryRoute(other, 0.3, "salt", 7)}
    made.service.predictor.use(LiveModels({"fx_vol": champion}, "fx_vol", canaries))
    made.service.shadows.use([Challenger(other, None, 7)], lambda _name: (champion, None))
    return made


def pairs(stage: Any, folder: Path) -> list[dict[str, Any]]:
    """What was written down, without what differs from one request to the next."""
    stage.service.shadows.stop(60)
    found = PairReader(folder / "shadow" / "predictions.jsonl").read()
    whole = [msgspec.structs.asdict(pair) for pair in found]
    return [{key: it for key, it in pair.items() if key not in VARIES} for pair in whole]


@pytest.mark.parametrize("ask", OPENLY)
def test_one_row_and_several_are_answered_and_paired_as_by_the_json_routes(
    stage: Any, tmp_path: Path, ask: Callable[..., Told]
) -> None:
    assert 0 < len(ROUTED) < len(NAMES)
    several = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    for name in NAMES:
        named = {"instrument": name}
        one = by_row(stage, [[1.0, 2.0, 3.0]], named, None)
        assert one == (("2.0.0", [642.0]) if name in ROUTED else ("1.0.0", [321.0]))
        assert ask(stage, [[1.0, 2.0, 3.0]], named, None) == one
        assert ask(stage, several, named, None) == by_batch(stage, several, named, None)
    found = pairs(stage, tmp_path)
    assert len(found) == 6 * len(NAMES)
    for at, name in enumerate(NAMES):
        json_one, open_one, *batches = found[6 * at : 6 * at + 6]
        assert open_one == json_one
        assert batches[:2] == batches[2:]
        assert json_one["instrument"] == name
        assert json_one["served"] == ("canary" if name in ROUTED else "champion")
    text = stage.service.metrics.text()
    count = 6 * len(ROUTED)
    assert f'assay_canary_answers_total{{model="fx_vol",route="canary"}} {count}' in text


@pytest.mark.parametrize("ask", OPENLY)
def test_without_an_instrument_and_for_a_version_by_its_number_the_champion_answers(
    stage: Any, tmp_path: Path, ask: Callable[..., Told]
) -> None:
    row, named = [[1.0, 2.0, 3.0]], {"instrument": min(ROUTED)}
    assert ask(stage, row, {}, None) == by_row(stage, row, {}, None) == ("1.0.0", [321.0])
    wanted = ask(stage, row, named, "1.0.0")
    assert wanted == by_row(stage, row, named, "1.0.0") == ("1.0.0", [321.0])
    first, second, third, fourth = pairs(stage, tmp_path)
    assert (first, third) == (second, fourth)
    assert (first["instrument"], third["instrument"]) == (None, min(ROUTED))
    assert (first["served"], third["served"]) == ("champion", "champion")


@pytest.mark.parametrize("found", [7, 1.5, True, ["E01"]])
@pytest.mark.parametrize("name", ["instrument", "manifest"])
def test_a_parameter_of_another_type_is_refused_by_name_with_its_value(
    stage: Any, found: Any, name: str
) -> None:
    row = [[1.0, 2.0, 3.0]]
    body = {"inputs": [tensor(row, data=row)], "parameters": {name: found}}
    answer = stage.ask("POST", OPEN, body, manifest=None if name == "manifest" else "a" * 64)
    problem = answer.json()
    assert (answer.status, problem["type"]) == (422, "urn:assay:problem:invalid-tensor")
    assert (problem["detail"], problem["found"]) == (f"the parameter {name} is no text", found)
    ignored = body | {"parameters": {name: None, "priority": 3}}
    assert stage.ask("POST", OPEN, ignored).status == 200


def test_a_parameter_of_another_type_is_refused_over_grpc_with_the_same_words(stage: Any) -> None:
    row = [[1.0, 2.0, 3.0]]
    for given in ({"int64_param": 7}, {"bool_param": True}, {}):
        asked = asked_by_call(row, {}, None) | {"parameters": {"instrument": given}}
        refused = called(stage, asked)
        assert refused.code().name == "INVALID_ARGUMENT"
        assert refused.details().startswith("the parameter instrument is no text")
        known = dict(refused.trailing_metadata())
        assert known["x-assay-problem"] == "urn:assay:problem:invalid-tensor"


def test_the_description_names_the_parameters(stage: Any) -> None:
    schema = stage.service.openapi()["components"]["schemas"]["InferRequest"]
    described = schema["properties"]["parameters"]["description"]
    assert all(f"{name}: " in described for name in ("manifest", "instrument"))
