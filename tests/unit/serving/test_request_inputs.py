"""What a request brings reaches the model through the kernel, or is refused with its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.domain.instants import parse
from assay.errors import IncompatibleVersion
from assay.features import Duration, FeatureView, ManifestSet, RequestView, col
from assay.serving import Limits, LiveModels, Predictor, Rejected, RequestInputs
from assay.testing.clocks import FixedClock

NOW = 1_700_000_000 * 10**9
MID, SIZE, QUOTE = col("mid"), col("order_size"), col("quote")
VIEW = FeatureView(
    "daily",
    "market",
    "instrument",
    {"vol_20": MID.abs(), "unused": MID * 2, "ret_1": MID.simple_return(1), "vol_5": MID + 1},
    Duration(3_600 * 10**9),
)
ORDER = RequestView(
    "order",
    (VIEW,),
    ("order_size", "quote"),
    {
        "risk": SIZE * col("vol_20"),
        "log_size": SIZE.log(),
        "edge": QUOTE - 1.0,
        "hushed": col("unused").fill_missing(0.0) * SIZE,
    },
)
STORED = ManifestSet.of([VIEW]).hash
ASKED = {"order_size": 4.0, "quote": 1.25}
NAMES = ("ret_1", "risk", "log_size", "edge")
WEIGHTS = (1.0, 10.0, 100.0, 1000.0)
PREDICT = "/predict"


@pytest.fixture
def asking(source: Any, live: Any, staged: Any) -> Callable[..., Any]:
    """Makes a service with a model over stored features and those of a request."""

    def make(names: tuple[str, ...] = NAMES, **options: Any) -> Any:
        rows = source(names=tuple(VIEW.features), manifest=STORED)
        rows.put("USD_SGD", 3.0, math.nan, 0.5, 2.0, manifest=STORED)
        rows.put("YOUNG", math.nan, 1.0, 0.5, 2.0, manifest=STORED)
        rows.put("OLD", 3.0, 1.0, 0.5, 2.0, manifest=STORED, stale=True)
        inputs = RequestInputs(ORDER, rows)
        model = live(names=names, weights=WEIGHTS[: len(names)], manifest=inputs.manifest)
        plain = live("plain", manifest=STORED)
        return staged(model, plain, rows=rows, requests=[inputs], **options)

    return make


def manifest_of(stage: Any) -> str:
    return str(stage.service.predictor.live.models["fx_vol"].manifest)


def ask(stage: Any, instrument: str = "USD_SGD", **body: Any) -> Any:
    document = {"instrument": instrument, **body}
    return stage.ask("POST", PREDICT, document, manifest=manifest_of(stage))


def refusal(call: Callable[[], object]) -> Rejected:
    with pytest.raises(Rejected) as caught:
        call()
    return caught.value


def test_the_model_reads_stored_features_and_those_of_the_request_in_its_own_order(
    asking: Any,
) -> None:
    stage = asking()
    made = stage.service.predictor.predict(
        "USD_SGD", request={"quote": 1.25, "order_size": 4}, manifest=manifest_of(stage)
    )
    assert made.features == [0.5, 12.0, math.log(4.0), 0.25]
    assert made.request == ASKED
    assert made.value == pytest.approx(0.5 + 120.0 + 100 * math.log(4.0) + 250.0)
    answer = ask(stage, request=ASKED)
    assert answer.status == 200
    assert answer.json()["prediction"] == made.value
    assert answer.json()["features_used"] == dict(zip(NAMES, made.features, strict=True))


@pytest.mark.parametrize(
    ("request_", "slug", "words"),
    [
        (None, "input-names", "missing order_size, quote"),
        ({}, "input-names", "missing order_size, quote"),
        ({"order_size": 1.0}, "input-names", "missing quote"),
        (ASKED | {"order_sise": 1.0}, "input-names", "unknown order_sise"),
        ({"order_size": 1.0, "qoute": 1.0}, "input-names", "missing quote; unknown qoute"),
        (ASKED | {"quote": "1.2"}, "input-type", "input quote"),
        (ASKED | {"quote": True}, "input-type", "input quote"),
        (ASKED | {"quote": None}, "input-type", "input quote"),
        (ASKED | {"quote": [1.2]}, "input-type", "input quote"),
        (ASKED | {"quote": math.nan}, "input-value", "input quote"),
        (ASKED | {"order_size": -math.inf}, "input-value", "input order_size"),
        (ASKED | {"order_size": 10**400}, "input-value", "input order_size"),
    ],
)
def test_inputs_that_are_missing_unknown_or_no_numbers_are_refused_alike_in_process_and_over_http(
    asking: Any, request_: Any, slug: str, words: str
) -> None:
    stage = asking()
    error = refusal(
        lambda: stage.service.predictor.predict(
            "USD_SGD", request=request_, manifest=manifest_of(stage)
        )
    )
    assert error.kind.slug == slug
    assert words in error.message
    answer = ask(stage, **({} if request_ is None else {"request": request_}))
    problem = answer.json()
    assert (answer.status, problem["type"]) == (422, f"urn:assay:problem:{slug}")
    assert words in problem["detail"]


def test_an_unknown_input_is_told_the_nearest_name(asking: Any) -> None:
    problem = ask(asking(), request=ASKED | {"order_sise": 1.0}).json()
    assert problem["hint"] == "did you mean 'order_size'?"
    assert (problem["found"], problem["expected"]) == (["order_sise"], ["order_size", "quote"])


def test_a_model_without_request_features_takes_no_inputs(asking: Any) -> None:
    stage = asking()
    body = {"instrument": "USD_SGD", "model": "plain"}
    refused = stage.ask("POST", PREDICT, body | {"request": ASKED}, manifest=STORED)
    assert (refused.status, refused.json()["type"]) == (422, "urn:assay:problem:input-names")
    for nothing in ({}, {"request": None}, {"request": {}}):
        assert stage.ask("POST", PREDICT, body | nothing, manifest=STORED).status == 200


@pytest.mark.parametrize("size", [-1.0, 0.0, 1e300])
def test_inputs_that_lead_to_no_value_are_refused_by_the_features_name(
    asking: Any, size: float
) -> None:
    problem = ask(asking(), request=ASKED | {"order_size": size}).json()
    assert problem["type"] == "urn:assay:problem:input-value"
    assert ("risk" if size == 1e300 else "log_size") in problem["detail"]
    assert f"order_size {size!r}" in problem["detail"]
    assert "quote" not in problem["detail"]


def test_a_stored_value_that_is_missing_is_told_as_such_and_not_blamed_on_the_request(
    asking: Any,
) -> None:
    problem = ask(asking(), "YOUNG", request=ASKED | {"order_size": -1.0}).json()
    assert problem["type"] == "urn:assay:problem:incomplete-features"
    assert "the stored feature vol_20 is nan: risk" in problem["detail"]


def test_what_is_missing_but_read_by_no_feature_of_the_model_is_no_matter(asking: Any) -> None:
    stage = asking(("ret_1", "hushed", "edge"))
    made = stage.service.predictor.predict(
        "USD_SGD", request=ASKED | {"order_size": -1.0}, manifest=manifest_of(stage)
    )
    assert made.features == [0.5, 0.0, 0.25]  # the log of -1 is not read, the stored NaN is filled


def test_stale_unknown_and_future_rows_are_refused_as_without_a_request(asking: Any) -> None:
    stage = asking()
    for instrument, slug in (("OLD", "stale-features"), ("NO_HISTORY", "no-features"),
                             ("USD_SDG", "unknown-instrument")):  # fmt: skip
        problem = ask(stage, instrument, request=ASKED).json()
        assert problem["type"] == f"urn:assay:problem:{slug}"
    early = ask(stage, timestamp="2023-11-14T20:00:00Z", request=ASKED)
    assert early.json()["type"] == "urn:assay:problem:no-features"
    lenient = asking(limits=Limits(refuse_stale=False))
    assert ask(lenient, "OLD", request=ASKED).json()["stale"] is True


def test_the_manifest_covers_the_request_view(asking: Any) -> None:
    stage = asking()
    problem = stage.ask(
        "POST", PREDICT, {"instrument": "USD_SGD", "request": ASKED}, manifest=STORED
    ).json()
    assert problem["type"] == "urn:assay:problem:manifest-mismatch"
    assert problem["expected"] == manifest_of(stage)


def test_rows_of_another_manifest_are_refused(asking: Any) -> None:
    stage = asking()
    stage.rows.put("ODD", 3.0, 1.0, 0.5, 2.0, manifest="b" * 64)
    problem = ask(stage, "ODD", request=ASKED).json()
    assert problem["type"] == "urn:assay:problem:manifest-mismatch"
    assert (problem["found"], problem["expected"]) == ("b" * 64, STORED)


def test_a_model_of_another_request_view_is_not_loaded(source: Any, live: Any) -> None:
    rows = source(names=tuple(VIEW.features), manifest=STORED)
    trained = RequestInputs(ORDER, rows)
    changed = RequestInputs(
        RequestView("order", (VIEW,), ORDER.inputs, {**ORDER.features, "edge": QUOTE - 2.0}), rows
    )
    model = live(names=NAMES, weights=WEIGHTS, manifest=trained.manifest)
    live_models = LiveModels({"fx_vol": model}, "fx_vol")
    with pytest.raises(IncompatibleVersion, match="reads features of manifest"):
        Predictor(live_models, {STORED: rows}, FixedClock(NOW), requests=[changed])
    predictor = Predictor(live_models, {STORED: rows}, FixedClock(NOW), requests=[changed, trained])
    assert predictor.inputs_of("fx_vol") is trained
    with pytest.raises(IncompatibleVersion, match="reads rows of manifest"):
        RequestInputs(ORDER, source(names=tuple(VIEW.features)))


def test_the_service_says_what_a_request_has_to_bring(asking: Any) -> None:
    stage = asking()
    models = {one["name"]: one for one in stage.ask("GET", "/model").json()["models"]}
    assert models["fx_vol"]["request"] == {"view": "order", "inputs": ["order_size", "quote"]}
    assert models["plain"]["request"] is None
    document = stage.service.openapi()
    field = document["components"]["schemas"]["PredictRequest"]["properties"]["request"]
    assert field["description"].startswith("What the request brings")
    assert {"type": "object", "additionalProperties": {"type": "number"}} in field["anyOf"]
    page = stage.ask("GET", "/docs").body.decode()
    assert all(slug in page for slug in ("input-names", "input-type", "input-value"))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.floats(1e-300, 1e30), min_size=1, max_size=5), quote=st.floats(-1e30, 1e30)
)
def test_a_line_of_the_log_repeats_its_prediction_bit_for_bit(
    asking: Any, tmp_path: Path, sizes: list[float], quote: float
) -> None:
    path = tmp_path / "predictions.jsonl"
    path.unlink(missing_ok=True)
    stage = asking()
    stage.service.start()
    answers = [ask(stage, request={"quote": quote, "order_size": size}).json() for size in sizes]
    plain = stage.ask(
        "POST", PREDICT, {"instrument": "USD_SGD", "model": "plain"}, manifest=STORED
    ).json()
    stage.service.stop()
    *lines, last = [json.loads(line) for line in path.read_text().splitlines()]
    assert "request" not in last
    assert last["prediction"] == plain["prediction"]
    later = asking().service.predictor
    for line, answer, size in zip(lines, answers, sizes, strict=True):
        assert line["request"] == {"order_size": size, "quote": quote}
        again = later.predict(
            line["instrument"],
            parse(line["timestamp"]),
            request=line["request"],
            model=f"{line['model']}/{line['version']}",
            manifest=line["manifest"],
        )
        assert np.array(again.features).tobytes() == np.array(line["features"]).tobytes()
        assert again.value == line["prediction"] == answer["prediction"]


def test_threads_do_not_disturb_each_other(asking: Any) -> None:
    stage = asking()
    predictor, manifest = stage.service.predictor, manifest_of(stage)

    def risk(size: float) -> float:
        asked = {"order_size": size, "quote": 1.0}
        return predictor.predict("USD_SGD", request=asked, manifest=manifest).features[1]

    sizes = [float(n) for n in range(1, 2_001)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(risk, sizes)) == [3.0 * size for size in sizes]
