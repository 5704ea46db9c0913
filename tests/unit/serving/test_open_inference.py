"""The Open Inference Protocol: JSON and binary tensors, and sizes that lie."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.serving import LiveModel, LiveModels
from assay.serving.http.open_inference import predict_read

INFER = "/v2/models/fx_vol/infer"
OCTETS = "application/octet-stream"
LENGTH = "inference-header-content-length"
ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]  # weights 1, 10, 100


def tensor(data: Any = None, **more: Any) -> dict[str, Any]:
    whole = {"name": "features", "shape": [2, 3], "datatype": "FP64", "data": data}
    return {key: one for key, one in (whole | more).items() if one is not None}


def ask_binary(stage: Any, document: Any, data: bytes, length: Any = None, **options: Any) -> Any:
    text = json.dumps(document).encode()
    more = {LENGTH: str(len(text) if length is None else length)}
    return stage.ask("POST", INFER, text + data, kind=OCTETS, more=more, **options)


@pytest.mark.parametrize("data", [ROWS, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
def test_nested_and_flat_json_mean_the_same(stage: Any, data: Any) -> None:
    answer = stage.ask("POST", INFER, {"id": "seven", "inputs": [tensor(data)]})
    assert answer.status == 200
    assert answer.json() == {
        "model_name": "fx_vol", "model_version": "1.0.0", "id": "seven",
        "outputs": [
            {"name": "prediction", "shape": [2], "datatype": "FP64", "data": [321.0, 654.0]}
        ],
    }  # fmt: skip


def test_columns_by_name_are_put_into_the_models_order(stage: Any) -> None:
    columns = {"vol_20": [3.0, 6.0], "ret_1": [[1.0], [4.0]], "vol_5": [2.0, 5.0]}
    inputs = [tensor(data, name=name, shape=list(np.shape(data))) for name, data in columns.items()]
    answer = stage.ask("POST", INFER, {"inputs": inputs})
    assert answer.json()["outputs"][0]["data"] == [321.0, 654.0]


@pytest.mark.parametrize(("datatype", "form"), [("FP64", "<f8"), ("FP32", "<f4")])
def test_tensors_behind_the_json_are_read_and_answered(
    stage: Any, datatype: str, form: str
) -> None:
    data = np.array(ROWS, dtype=form).tobytes()
    one = tensor(datatype=datatype, parameters={"binary_data_size": len(data)})
    document = {"inputs": [one], "parameters": {"binary_data_output": True}}
    answer = ask_binary(stage, document, data)
    assert (answer.status, answer.headers["content-type"]) == (200, OCTETS)
    size = int(answer.headers[LENGTH])
    (output,) = json.loads(answer.body[:size])["outputs"]
    assert output["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<2d", answer.body[size:]) == (321.0, 654.0)


GOOD = np.array(ROWS).tobytes()
LIES = [
    ({"parameters": {"binary_data_size": 47}}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 40}}, GOOD[:40], None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 56}}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": -48}}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 2**70}}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": True}}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 48}}, GOOD + b"more", None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 48}, "data": ROWS}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 48}, "shape": [2**40, 2**40]}, GOOD, None,
     "batch-too-large"),
    ({"parameters": {"binary_data_size": 48}, "shape": [-1, 3]}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 48}, "shape": [6]}, GOOD, None, "feature-count"),
    ({"parameters": {"binary_data_size": 48}, "shape": [1, 2, 3]}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 48}, "shape": []}, GOOD, None, "invalid-tensor"),
    ({"parameters": {"binary_data_size": 48}, "datatype": "INT64"}, GOOD, None, "feature-type"),
    ({"parameters": {"binary_data_size": 48}}, GOOD, 0, "invalid-header"),
    ({"parameters": {"binary_data_size": 48}}, GOOD, 10_000, "invalid-header"),
    ({"parameters": {"binary_data_size": 48}}, GOOD, "-5", "invalid-header"),
    ({"parameters": {"binary_data_size": 48}}, GOOD, "9" * 5_000, "invalid-header"),
    ({"parameters": {"binary_data_size": 48}}, GOOD, 20, "malformed-body"),
    ({"data": [1.0, 2.0]}, b"", None, "invalid-tensor"),
    ({"data": [[1.0, True, 3.0], [4.0, 5.0, 6.0]]}, b"", None, "feature-type"),
    ({"data": [[1.0, "2", 3.0], [4.0, 5.0, 6.0]]}, b"", None, "feature-type"),
    ({"data": [[1.0, 10**400, 3.0], [4.0, 5.0, 6.0]]}, b"", None, None),
    ({"data": [[1.0, 1e39, 3.0], [4.0, 5.0, 6.0]]}, b"", None, "feature-value"),
    ({"data": ROWS, "name": "feature"}, b"", None, "feature-names"),
    ({}, b"", None, "feature-type"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "data", "length", "slug"), LIES)
def test_a_tensor_that_is_not_what_it_says_is_refused(
    stage: Any, change: dict[str, Any], data: bytes, length: Any, slug: str | None
) -> None:
    answer = ask_binary(stage, {"inputs": [tensor(**change)]}, data, length)
    problem = answer.json()
    assert 400 <= answer.status < 500
    assert problem["error"] == problem["detail"]  # where clients of the protocol look
    if slug is not None:
        assert problem["type"] == f"urn:assay:problem:{slug}", problem


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(st.binary(max_size=200), st.integers(-5, 400), st.sampled_from([OCTETS, None]))
def test_whatever_is_sent_is_refused_in_words(
    stage: Any, body: bytes, length: int, kind: str | None
) -> None:
    answer = stage.ask("POST", INFER, body, kind=kind, more={LENGTH: str(length)})
    assert 400 <= answer.status < 500, (body, length)


def test_the_manifest_may_be_named_in_the_parameters(stage: Any) -> None:
    body = {"inputs": [tensor(ROWS)]}
    assert stage.ask("POST", INFER, body, manifest=None).status == 428
    named = body | {"parameters": {"manifest": "a" * 64}}
    assert stage.ask("POST", INFER, named, manifest=None).status == 200
    wrong = body | {"parameters": {"manifest": "b" * 64}}
    assert stage.ask("POST", INFER, wrong, manifest=None).status == 409


def test_the_rest_of_the_protocol_says_what_there_is(stage: Any) -> None:
    assert stage.ask("GET", "/v2").json()["extensions"] == ["binary_tensor_data"]
    model = stage.ask("GET", "/v2/models/fx_vol").json()
    assert model["versions"] == ["1.0.0"]
    assert model["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 3]}]
    assert model["properties"]["columns"] == "ret_1,vol_5,vol_20"
    assert stage.ask("GET", "/v2/models/fx_vol/versions/1.0.0").json() == model
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/fx_vol/ready",
                 "/v2/models/champion/versions/1.0.0/ready"):  # fmt: skip
        expected = 404 if "champion" in path else 200
        assert stage.ask("GET", path).status == expected, path
    for path in ("/v2/models/fx_vo", "/v2/models/fx_vol/versions/2.0.0", "/v2/models"):
        answer = stage.ask("GET", path)
        assert answer.status == 404
        assert "error" in answer.json()
    assert stage.ask("GET", INFER).status == 405
    assert stage.ask("POST", "/v2/models/fx_vol/versions/1.0.0/infer",
                     {"inputs": [tensor(ROWS)]}).status == 200  # fmt: skip
    assert stage.ask("POST", "/v2/models/a/b/c/infer", {"inputs": []}).status == 404


def test_while_switched_off_nothing_is_inferred_and_nothing_is_ready(stage: Any) -> None:
    stage.switch.on(by="ops", reason="a test")
    assert stage.ask("POST", INFER, {"inputs": [tensor(ROWS)]}).status == 503
    assert stage.ask("GET", "/v2/health/ready").status == 503
    assert stage.ask("GET", "/v2/models/fx_vol/ready").status == 503
    assert stage.ask("GET", "/v2/health/live").status == 200


def test_a_compressed_body_is_refused_before_it_is_read(stage: Any) -> None:
    answer = stage.ask("POST", INFER, b"\x1f\x8b", more={"content-encoding": "gzip"})
    assert answer.status == 415


@pytest.mark.parametrize("names", [("vol_20", "ret_1", "vol_5"), ("vol_20", "ret_1")])
def test_columns_are_never_put_into_the_order_of_another_version_than_predicts(
    stage: Any, live: Any, names: tuple[str, ...]
) -> None:
    """A version that reads its columns in another order, or others, comes live meanwhile."""
    predictor = stage.service.predictor
    known = {"ret_1": 1.0, "vol_5": 2.0, "vol_20": 3.0}
    other = live("fx_vol", "2.0.0", names=names, weights=[7.0, 70.0, 700.0][: len(names)])
    reads = []

    def read(model: LiveModel, _: int) -> Any:
        row = [known[name] for name in model.schema.names]
        reads.append(model.version)
        predictor.use(LiveModels({"fx_vol": other}, "fx_vol"))
        return np.array([row])

    made = predict_read(predictor, "fx_vol", "a" * 64, read)
    assert reads == ["1.0.0"]
    assert predictor.live.find("fx_vol").version == "2.0.0"
    assert (made.model.version, made.values) == ("1.0.0", [1.0 + 20.0 + 300.0])
