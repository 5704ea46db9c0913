"""The predictor answers with the right columns and version, or refuses with the right reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.errors import IncompatibleVersion, Unavailable
from assay.serving import Limits, LiveModels, Predictor, Rejected, SourceRow
from assay.serving.prediction.predictions import judge
from assay.testing.clocks import FixedClock

HOUR = 3_600 * 10**9
NOW = 1_700_000_000 * 10**9
MANIFEST = "a" * 64
LARGEST = float(np.finfo(np.float32).max)


def refusal(call: Callable[[], object]) -> Rejected:
    with pytest.raises(Rejected) as caught:
        call()
    return caught.value


def test_stored_features_reach_the_model_in_its_own_order(stage: Any) -> None:
    made = stage.service.predictor.predict("USD_SGD", manifest=MANIFEST)
    assert made.value == 1.0 * 1 + 2.0 * 10 + 3.0 * 100
    assert made.features == [1.0, 2.0, 3.0]
    assert (made.event_time, made.known_time) == (NOW - 2 * HOUR, NOW - HOUR)
    assert (made.at, made.stale, made.direction, made.confidence) == (NOW, False, None, None)
    assert made.model.label == "v1.0.0"


def test_features_by_name_in_any_order_and_by_place_give_the_same_bits(stage: Any) -> None:
    predictor = stage.service.predictor
    by_place = predictor.predict_features([0.1, 0.2, 0.3], manifest=MANIFEST)
    by_name = predictor.predict_features(
        {"vol_20": 0.3, "ret_1": 0.1, "vol_5": 0.2}, manifest=MANIFEST
    )
    assert by_place.value == by_name.value
    assert by_place.features == by_name.features == [0.1, 0.2, 0.3]


@given(st.floats(0, 1))
def test_direction_and_confidence_follow_the_probability(p: float) -> None:
    class Model:
        gives_probability = True

    class Live:
        model = Model()

    direction, confidence = judge(Live(), p)  # type: ignore[arg-type]
    assert direction == ("bullish" if p >= 0.5 else "bearish")
    assert confidence == 2 * abs(p - 0.5)


def test_a_model_that_gives_probabilities_answers_with_a_direction(staged: Any, live: Any) -> None:
    stage = staged(live(weights=(1.0, 0.0, 0.0), probability=True))
    made = stage.service.predictor.predict_features([-2.0, 0.0, 0.0], manifest=MANIFEST)
    assert made.value == pytest.approx(1 / (1 + math.exp(2)), abs=1e-6)
    assert made.direction == "bearish"
    assert made.confidence == 2 * abs(made.value - 0.5)


@pytest.mark.parametrize(
    "reference", ["champion", "fx_vol", "fx_vol@champion", "fx_vol/1.0.0", "fx_vol/v1.0.0"]
)
def test_every_way_to_name_the_live_version_means_it(stage: Any, reference: str) -> None:
    made = stage.service.predictor.predict("USD_SGD", model=reference, manifest=MANIFEST)
    assert made.model.name == "fx_vol"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("fx_vo", ["champion", "fx_vol"]),
        ("fx_vol/1.1.0", "fx_vol/v1.0.0"),
        ("fx_vol/", "fx_vol/v1.0.0"),
        ("fx_vol@challenger", "fx_vol@champion"),
        ("", ["champion", "fx_vol"]),
    ],
)
def test_another_version_or_name_is_never_answered(
    stage: Any, reference: str, expected: object
) -> None:
    error = refusal(lambda: stage.service.predictor.predict("USD_SGD", model=reference))
    assert error.kind.slug == "unknown-model"
    assert (error.found, error.expected) == (reference, expected)


def test_champion_means_nothing_where_no_default_is_set(staged: Any, live: Any) -> None:
    stage = staged(live(), live("fx_direction"), champion=None)
    error = refusal(lambda: stage.service.predictor.predict("USD_SGD"))
    assert error.kind.slug == "unknown-model"
    assert error.expected == ["fx_direction", "fx_vol"]


def test_a_store_that_shows_what_was_not_yet_known_is_not_believed(stage: Any) -> None:
    early = NOW - HOUR - 1  # the event had happened, and nobody knew
    error = refusal(lambda: stage.service.predictor.predict("USD_SGD", early, manifest=MANIFEST))
    assert error.kind.slug == "no-features"


def test_stale_features_are_refused_or_reported_and_never_silent(staged: Any) -> None:
    stage = staged()
    stage.rows.put("OLD", 3.0, 0.0, 1.0, 2.0, stale=True)
    error = refusal(lambda: stage.service.predictor.predict("OLD", manifest=MANIFEST))
    assert error.kind.slug == "stale-features"
    lenient = staged(limits=Limits(refuse_stale=False))
    lenient.rows.put("OLD", 3.0, 0.0, 1.0, 2.0, stale=True)
    assert lenient.service.predictor.predict("OLD", manifest=MANIFEST).stale is True


def test_rows_of_another_manifest_are_refused(stage: Any) -> None:
    stage.rows.put("ODD", 3.0, 0.0, 1.0, 2.0, manifest="b" * 64)
    error = refusal(lambda: stage.service.predictor.predict("ODD", manifest=MANIFEST))
    assert error.kind.slug == "manifest-mismatch"
    assert (error.found, error.expected) == ("b" * 64, MANIFEST)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e39])
def test_a_stored_value_that_is_no_number_for_the_model_is_refused(stage: Any, bad: float) -> None:
    stage.rows.put("ODD", 3.0, 0.0, bad, 2.0)
    error = refusal(lambda: stage.service.predictor.predict("ODD", manifest=MANIFEST))
    assert error.kind.slug == "incomplete-features"
    assert "ret_1" in error.message


def test_a_missing_value_in_a_column_that_the_model_does_not_read_is_no_matter(stage: Any) -> None:
    stage.rows.put("USD_SGD", 3.0, math.nan, 1.0, 2.0)
    assert stage.service.predictor.predict("USD_SGD", manifest=MANIFEST).value == 321.0


def test_an_unreadable_store_is_told_as_such(stage: Any) -> None:
    stage.rows.trouble = Unavailable("the disk is gone")
    error = refusal(lambda: stage.service.predictor.predict("USD_SGD", manifest=MANIFEST))
    assert error.kind.slug == "unavailable"
    assert "the disk is gone" in error.message


@pytest.mark.parametrize(
    ("moment", "slug"),
    [
        (NOW + 1, "future-timestamp"),
        (datetime(2023, 11, 14, 12), "invalid-timestamp"),
        (2**63, "invalid-timestamp"),
        (True, "invalid-timestamp"),
        (1.5, "invalid-timestamp"),
    ],
)
def test_a_moment_that_means_nothing_is_refused(stage: Any, moment: Any, slug: str) -> None:
    error = refusal(lambda: stage.service.predictor.predict("USD_SGD", moment, manifest=MANIFEST))
    assert error.kind.slug == slug


def test_a_datetime_with_a_zone_is_a_moment(stage: Any) -> None:
    made = stage.service.predictor.predict(
        "USD_SGD", datetime.fromtimestamp(NOW / 1e9, tz=UTC), manifest=MANIFEST
    )
    assert made.at == NOW


@pytest.mark.parametrize(
    ("features", "slug"),
    [
        ([1.0, 2.0, True], "feature-type"),
        ([1.0, 2.0, "3"], "feature-type"),
        ([1.0, 2.0, None], "feature-type"),
        ([1.0, 2.0, 10**400], "feature-value"),
        ([1.0, 2.0, 10**39], "feature-value"),
        ([1.0, 2.0, np.float64("nan")], "feature-value"),
    ],
)
def test_in_process_values_are_held_to_the_same_rules(stage: Any, features: Any, slug: str) -> None:
    predictor = stage.service.predictor
    error = refusal(lambda: predictor.predict_features(features, manifest=MANIFEST))
    assert error.kind.slug == slug
    assert "vol_20" in error.message


def test_integers_and_numpy_numbers_are_numbers(stage: Any) -> None:
    made = stage.service.predictor.predict_features(
        [1, np.float32(2.0), np.int64(3)], manifest=MANIFEST
    )
    assert made.value == 321.0


def test_a_model_whose_features_no_view_computes_is_not_wired(live: Any, stage: Any) -> None:
    sources = stage.service.predictor.sources
    for model in (live(manifest="c" * 64), live(names=("ret_1", "vol_5", "vol_21"))):
        with pytest.raises(IncompatibleVersion):
            Predictor(LiveModels({"fx_vol": model}, None), sources, FixedClock(NOW))


def test_a_refused_exchange_leaves_the_old_models_in_place(live: Any, stage: Any) -> None:
    predictor = stage.service.predictor
    before = predictor.live
    with pytest.raises(IncompatibleVersion):
        predictor.use(LiveModels({"fx_vol": live(version="2.0.0", manifest="c" * 64)}, "fx_vol"))
    assert predictor.live is before
    assert predictor.predict("USD_SGD", manifest=MANIFEST).model.version == "1.0.0"


def test_the_float32_rounding_is_the_one_of_training(stage: Any) -> None:
    row = np.array([0.1, 0.2, 0.3])
    stage.rows.held["USD_SGD"] = SourceRow(
        np.array([row[2], 0.0, row[0], row[1]]), NOW - HOUR, NOW - HOUR, MANIFEST, stale=False
    )
    predictor = stage.service.predictor
    expected = predictor.live.models["fx_vol"].model.predict(row.astype(np.float32).reshape(1, 3))
    assert predictor.predict("USD_SGD", manifest=MANIFEST).value == expected[0]


def test_an_array_of_rows_gives_the_bits_of_its_rows(stage: Any) -> None:
    predictor = stage.service.predictor
    matrix = np.random.default_rng(0).standard_normal((50, 3))
    made = predictor.predict_batch(matrix, manifest=MANIFEST)
    lists = predictor.predict_batch(matrix.tolist(), manifest=MANIFEST)
    alone = [predictor.predict_features(row, manifest=MANIFEST) for row in matrix]
    assert made.values == lists.values == [one.value for one in alone]
    assert made.features.tobytes() == lists.features.tobytes() == matrix.tobytes()
    assert [one.features for one in alone] == matrix.tolist()


def test_an_array_that_changes_later_changes_no_answer(stage: Any) -> None:
    matrix = np.ones((2, 3))
    made = stage.service.predictor.predict_batch(matrix, manifest=MANIFEST)
    matrix[:] = 7.0
    assert made.features.tolist() == [[1.0, 1.0, 1.0]] * 2


@pytest.mark.parametrize(
    ("rows", "slug"),
    [
        (np.ones((2, 3), dtype=np.float32), "feature-type"),
        (np.ones((2, 3), dtype=bool), "feature-type"),
        (np.array([["1", "2", "3"]]), "feature-type"),
        (np.ones(3), "feature-type"),
        (np.ones((2, 3, 1)), "feature-type"),
        (np.ones((2, 4)), "feature-count"),
        (np.ones((0, 3)), "feature-count"),
        (np.ones((1_025, 3)), "batch-too-large"),
        (np.array([[1.0, 2.0, math.nan]]), "feature-value"),
        (np.array([[1.0, 2.0, -math.inf]]), "feature-value"),
        (np.array([[1.0, 2.0, 3.5e38]]), "feature-value"),
    ],
)
def test_arrays_are_held_to_the_rules_of_rows(stage: Any, rows: Any, slug: str) -> None:
    predictor = stage.service.predictor
    assert refusal(lambda: predictor.predict_batch(rows, manifest=MANIFEST)).kind.slug == slug


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.floats(width=64)
        | st.sampled_from([math.nextafter(LARGEST, math.inf), LARGEST, -LARGEST, 1e308]),
        min_size=1,
        max_size=5,
    )
)
def test_a_row_is_refused_exactly_when_one_of_its_values_is_no_float32(
    live: Any, row: list[float]
) -> None:
    names = [f"f{number}" for number in range(len(row))]
    model = live(names=names, weights=[0.0] * len(row), manifest=None)
    predictor = Predictor(LiveModels({"fx_vol": model}, "fx_vol"), {}, FixedClock(NOW))
    if all(abs(value) <= LARGEST for value in row):
        assert predictor.predict_features(row).features == row
    else:
        assert refusal(lambda: predictor.predict_features(row)).kind.slug == "feature-value"
