"""Every documented refusal over HTTP: exact status, type, value found, what was expected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assay.errors import Tampered
from assay.serving import Limits
from assay.serving.rejections import KINDS

MANIFEST = "a" * 64
PREDICT, INFER, BATCH = "/predict", "/inference/predict", "/inference/batch"
OK = [1.0, 2.0, 3.0]

CASES: dict[str, tuple[str, Any, int, str, Any, Any]] = {
    "too few features": (INFER, {"features": [1.0]}, 422, "feature-count", 1, 3),
    "too many features": (INFER, {"features": [1.0] * 4}, 422, "feature-count", 4, 3),
    "no features": (INFER, {"features": []}, 422, "feature-count", 0, 3),
    "another order": (
        INFER, {"features": OK, "feature_names": ["vol_5", "ret_1", "vol_20"]},
        422, "feature-order", "vol_5", "ret_1",
    ),
    "other names": (
        INFER, {"features": OK, "feature_names": ["ret_1", "vol_5", "vol_21"]},
        422, "feature-names", "vol_21", "vol_20",
    ),
    "too few names": (
        INFER, {"features": OK, "feature_names": ["ret_1"]}, 422, "feature-count", 1, 3,
    ),
    "an unknown name": (
        INFER, {"features": {"ret_1": 1, "vol_5": 2, "vol_21": 3}},
        422, "feature-names", ["vol_21"], ["vol_20"],
    ),
    "a missing name": (
        INFER, {"features": {"ret_1": 1, "vol_5": 2}},
        422, "feature-names", ["ret_1", "vol_5"], ["vol_20"],
    ),
    "text for a number": (INFER, {"features": [1, "2", 3]}, 422, "feature-type", "2", "a number"),
    "true for a number": (INFER, {"features": [1, 2, True]}, 422, "feature-type", True, "a number"),
    "null for a number": (INFER, {"features": [None, 2, 3]}, 422, "feature-type", None, "a number"),
    "a list for a number": (
        INFER, {"features": [[1], 2, 3]}, 422, "feature-type", [1], "a number",
    ),
    "text by name": (
        INFER, {"features": {"ret_1": 1, "vol_5": "2", "vol_20": 3}},
        422, "feature-type", "2", "a number",
    ),
    "NaN": (INFER, b'{"features": [1, NaN, 3]}', 422, "feature-value", "nan", "a finite number"),
    "infinity": (
        INFER, b'{"features": [1, 2, -Infinity]}', 422, "feature-value", "-inf", "a finite number",
    ),
    "NaN by name": (
        INFER, b'{"features": {"ret_1": NaN}}', 422, "feature-value", "nan", "a finite number",
    ),
    "NaN by a name that UTF-8 cannot hold": (
        INFER, b'{"features": {"\\udc80": NaN}}', 422, "feature-value", "nan", "a finite number",
    ),
    "out of double range": (
        INFER, b'{"features": [1, 2, 1e400]}', 422, "feature-value", "inf",
        "a finite number of float32's range",
    ),
    "out of float32 range": (
        INFER, {"features": [1, 2, 1e39]}, 422, "feature-value", 1e39,
        "a number from -3.40282347e+38 to 3.40282347e+38",
    ),
    "text for features": (
        INFER, {"features": "all"}, 422, "invalid-body", "all", "object | array",
    ),
    "no features field": (
        INFER, {"model_name": "fx_vol"}, 422, "invalid-body", ["model_name"],
        "the documented fields; see /docs",
    ),
    "an unknown field": (
        INFER, {"features": OK, "modelname": "x"}, 422, "invalid-body", ["features", "modelname"],
        "the documented fields; see /docs",
    ),
    "an unknown model": (
        INFER, {"features": OK, "model_name": "fx_vo"}, 404, "unknown-model", "fx_vo",
        ["champion", "fx_vol"],
    ),
    "a list as body": (INFER, [1], 422, "invalid-body", [1], "object"),
    "no JSON": (INFER, b"features=1", 400, "malformed-body", "features=1", "a JSON object"),
    "an empty body": (INFER, b"", 400, "malformed-body", "nothing", "a JSON object"),
    "a cut body": (
        INFER, b'{"features": [1', 400, "malformed-body", '{"features": [1', "a JSON object",
    ),
    "a body of brackets": (
        INFER, b"[" * 15_000, 400, "malformed-body", "[" * 80, "a JSON object",
    ),
    "an oversized body": (INFER, b" " * 20_001, 413, "body-too-large", 20_001, 20_000),
    "an empty batch": (BATCH, {"batch": []}, 422, "feature-count", 0, "1 to 8"),
    "an oversized batch": (BATCH, {"batch": [OK] * 9}, 413, "batch-too-large", 9, "1 to 8"),
    "a short row": (BATCH, {"batch": [OK, [1.0]]}, 422, "feature-count", 1, 3),
    "text in a row": (
        BATCH, {"batch": [OK, [1, 2, "x"]]}, 422, "feature-type", "x", "a number",
    ),
    "NaN in a row": (
        BATCH, b'{"batch": [[1, 2, 3], [1, 2, NaN]]}', 422, "feature-value", "nan",
        "a finite number",
    ),
    "an unknown instrument": (
        PREDICT, {"instrument": "USD_SGX"}, 404, "unknown-instrument", "USD_SGX",
        "one of 2 instruments",
    ),
    "an instrument without history": (
        PREDICT, {"instrument": "NO_HISTORY"}, 404, "no-features", "2023-11-14T22:13:20Z",
        "a later moment",
    ),
    "a naive timestamp": (
        PREDICT, {"instrument": "USD_SGD", "timestamp": "2023-11-14T10:00:00"},
        422, "invalid-timestamp", "2023-11-14T10:00:00",
        "ISO 8601 with a time zone, such as 2026-01-15T10:30:00Z",
    ),
    "no timestamp at all": (
        PREDICT, {"instrument": "USD_SGD", "timestamp": "yesterday"},
        422, "invalid-timestamp", "yesterday",
        "ISO 8601 with a time zone, such as 2026-01-15T10:30:00Z",
    ),
    "a number as timestamp": (
        PREDICT, {"instrument": "USD_SGD", "timestamp": 5}, 422, "invalid-body", 5, "str | null",
    ),
    "a timestamp to come": (
        PREDICT, {"instrument": "USD_SGD", "timestamp": "2023-11-14T22:13:21Z"},
        422, "future-timestamp", "2023-11-14T22:13:21Z", "2023-11-14T22:13:20Z or earlier",
    ),
    "a moment before anything": (
        PREDICT, {"instrument": "USD_SGD", "timestamp": "2020-01-01"},
        404, "no-features", "2020-01-01T00:00:00Z", "2023-11-14T21:13:20Z or later",
    ),
    "feedback without an outcome": (
        "/feedback", {"instrument": "USD_SGD", "timestamp": "2023-11-14T10:00:00Z"},
        422, "invalid-body", ["instrument", "timestamp"],
        "Value error, expected realized_direction or realized_value",
    ),
    "feedback on nothing": (
        "/feedback",
        {"instrument": "USD_SGD", "timestamp": "2023-11-14T10:00:00Z", "realized_value": 1.0},
        404, "no-prediction", "USD_SGD at 2023-11-14T10:00:00Z",
        "instrument and timestamp of an answer of POST /predict",
    ),
    "a kill without a reason": (
        "/kill", {"by": "me"}, 422, "invalid-body", ["by"], "Field required",
    ),
    "no JSON for feedback": (
        "/feedback", b"{", 400, "malformed-body", None, "a JSON object",
    ),
    "an unknown path": ("/v3/predict", {}, 404, "unknown-path", "/v3/predict",
                        "one of the paths in /docs"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.replace(" ", "-"))
def test_a_bad_request_is_refused_with_its_reason(staged: Any, case: str) -> None:
    path, body, status, slug, found, expected = CASES[case]
    stage = staged(limits=Limits(batch_rows=8))
    answer = stage.ask("POST", path, body)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status, problem["status"]) == (status, status), problem
    assert problem["type"] == f"urn:assay:problem:{slug}"
    assert problem["title"]
    assert problem["detail"]
    assert (problem["found"], problem["expected"]) == (found, expected)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"features": [1, NaN, 3]}', "feature 1 (vol_5) is nan"),
        (b'{"features": [1, 2, "x"]}', "feature 2 (vol_20) is str"),
        (b'{"features": {"ret_1": 1, "vol_5": null, "vol_20": 3}}', "feature vol_5 is null"),
        (b'{"features": {"ret_1": 1, "vol_5": 1e999, "vol_20": 3}}', "feature vol_5 is out"),
    ],
)
def test_a_bad_feature_is_called_by_its_name(stage: Any, body: bytes, words: str) -> None:
    assert words in stage.ask("POST", INFER, body).json()["detail"]


@pytest.mark.parametrize("path", [PREDICT, INFER, BATCH])
@pytest.mark.parametrize("given", ["b" * 64, "", "a" * 63])
def test_a_wrong_manifest_is_a_conflict_on_every_route(stage: Any, path: str, given: str) -> None:
    body = {PREDICT: {"instrument": "USD_SGD"}, INFER: {"features": OK}, BATCH: {"batch": [OK]}}
    answer = stage.ask("POST", path, body[path], manifest=given)
    assert (answer.status, answer.json()["found"], answer.json()["expected"]) == (
        409, given, MANIFEST
    )  # fmt: skip
    assert answer.json()["type"] == "urn:assay:problem:manifest-mismatch"


def test_an_absent_manifest_is_accepted_only_where_the_setting_says_so(staged: Any) -> None:
    strict, lenient = staged(), staged(limits=Limits(require_manifest=False))
    answer = strict.ask("POST", INFER, {"features": OK}, manifest=None)
    assert (answer.status, answer.json()["type"]) == (428, "urn:assay:problem:manifest-missing")
    assert answer.json()["expected"] == MANIFEST
    assert lenient.ask("POST", INFER, {"features": OK}, manifest=None).status == 200
    assert lenient.ask("POST", INFER, {"features": OK}, manifest="b" * 64).status == 409


@pytest.mark.parametrize("path", [INFER, "/kill", "/model/reload"])
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_browser_can_send_to_another_origin_is_not_taken(
    stage: Any, path: str, kind: str | None
) -> None:
    answer = stage.ask("POST", path, {"by": "me", "reason": "x"}, kind=kind)
    assert (answer.status, answer.json()["type"]) == (
        415, "urn:assay:problem:unsupported-media-type"
    )  # fmt: skip


@pytest.mark.parametrize("path", [PREDICT, INFER, BATCH, "/kill", "/feedback"])
def test_a_get_where_a_post_is_meant_says_so(stage: Any, path: str) -> None:
    answer = stage.ask("GET", path)
    assert (answer.status, answer.json()["found"], answer.json()["expected"]) == (
        405,
        "GET",
        "POST",
    )
    assert answer.headers["allow"] == "POST"


def test_stale_features_are_a_conflict(stage: Any) -> None:
    stage.rows.put("OLD", 3.0, 0.0, 1.0, 2.0, stale=True)
    answer = stage.ask("POST", PREDICT, {"instrument": "OLD"})
    assert (answer.status, answer.json()["type"]) == (409, "urn:assay:problem:stale-features")
    assert answer.json()["found"] == "2023-11-14T20:13:20Z"


def test_a_body_in_many_parts_is_bounded_and_read_whole(stage: Any) -> None:
    whole = stage.ask("POST", INFER, {"features": OK}, parts=7)
    assert (whole.status, whole.json()["prediction"]) == (200, 321.0)
    assert stage.ask("POST", INFER, b" " * 25_000, parts=7).status == 413
    assert stage.ask("POST", "/feedback", b" " * 25_000, parts=7).status == 413


def test_a_refused_reload_is_a_conflict_and_the_old_version_answers(stage: Any, live: Any) -> None:
    stage.shelf.put(live(version="2.0.0", bias=1.0))
    stage.shelf.refused["fx_vol"] = Tampered("model.onnx is not what was sealed")
    answer = stage.ask("POST", "/model/reload")
    assert (answer.status, answer.json()["type"]) == (409, "urn:assay:problem:reload-failed")
    assert "not what was sealed" in answer.json()["detail"]
    assert stage.ask("POST", INFER, {"features": OK}).json()["model_version"] == "v1.0.0"
    assert stage.ask("GET", "/health").json()["status"] == "degraded"


def test_every_kind_of_problem_is_documented_on_the_page(stage: Any) -> None:
    page = stage.ask("GET", "/docs").body.decode()
    for kind in KINDS:
        assert f"<code>{kind.slug}</code>" in page
    assert "http://" not in page
    assert "https://" not in page


DEEP = [b"[" * depth + b"]" * depth for depth in (600, 1_500, 9_000)]
DEEP += [b'{"a":' * depth + b"1" + b"}" * depth for depth in (600, 1_500, 2_900)]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        *((path, b"%b") for path in ("/predict", "/inference/predict", "/inference/batch",
                                     "/v2/models/fx_vol/infer", "/feedback", "/kill")),
        ("/predict", b'{"instrument": %b}'),
        ("/predict", b'{"instrument": "USD_SGD", "request": %b}'),
        ("/predict", b'{"instruments": ["USD_SGD"], "requests": %b}'),
        ("/predict", b'{"instrument": "USD_SGD", "unknown": %b}'),
        ("/inference/predict", b'{"features": {"ret_1": %b}}'),
        ("/inference/batch", b'{"batch": [%b]}'),
        ("/v2/models/fx_vol/infer", b'{"inputs": [], "parameters": %b}'),
        ("/v2/models/fx_vol/infer",
         b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": %b}]}'),
        ("/feedback", b'{"instrument": %b}'),
        ("/kill", b'{"by": "a", "reason": %b}'),
    ],
)  # fmt: skip
def test_a_deeply_nested_body_is_refused_with_one_problem_document(
    stage: Any, path: str, form: bytes
) -> None:
    for deep in DEEP:
        answer = stage.ask("POST", path, form % deep)
        assert 400 <= answer.status < 500, (len(deep), deep[:1])
        assert answer.json()["status"] == answer.status
    assert stage.ask("POST", "/inference/predict", {"features": OK}).status == 200


def test_a_defect_behind_the_framework_is_one_problem_document_with_the_id(
    stage: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(stage.service.reloader, "reload", fail)
    answer = stage.ask("POST", "/model/reload", {}, more={"X-Request-Id": "me"})
    assert (answer.status, answer.json()["type"]) == (500, "urn:assay:problem:internal-error")
    assert answer.headers["x-request-id"] == "me"
    assert b"secret" not in answer.body
    assert "ZeroDivisionError" in caplog.text


def test_a_defect_is_a_problem_document_too_and_tells_no_secrets(stage: Any) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("/secret/path")

    stage.service.predictor.ask = broken
    answer = stage.ask("POST", PREDICT, {"instrument": "USD_SGD"})
    assert (answer.status, answer.json()["type"]) == (500, "urn:assay:problem:internal-error")
    assert "secret" not in json.dumps(answer.json())
