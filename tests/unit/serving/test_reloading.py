"""Another version becomes live whole or not at all, by push, by poll and by request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from assay.errors import IncompatibleVersion, Tampered, Unavailable
from assay.serving import Rejected, reloading
from assay.serving.reloading import load_all
from assay.testing.waiting import until

OK = {"features": [1.0, 2.0, 3.0]}
INFER = "/inference/predict"


@contextmanager
def running(stage: Any) -> Iterator[None]:
    stage.service.start()
    try:
        yield
    finally:
        stage.service.stop()


def test_a_request_to_reload_makes_the_new_version_answer(stage: Any, live: Any) -> None:
    stage.shelf.put(live(version="2.0.0", bias=1_000.0))
    assert stage.ask("POST", INFER, OK).json()["model_version"] == "v1.0.0"
    answer = stage.ask("POST", "/model/reload").json()
    assert (answer["reloaded"], answer["version"]) == (True, "v2.0.0")
    assert answer["changed"] == {"fx_vol": "v2.0.0"}
    made = stage.ask("POST", INFER, OK).json()
    assert (made["prediction"], made["model_version"]) == (1_321.0, "v2.0.0")
    assert stage.ask("GET", "/model").json()["models"][0]["version"] == "v2.0.0"


def test_what_did_not_change_is_not_loaded_again(stage: Any, live: Any) -> None:
    stage.shelf.put(live("fx_direction", probability=True))
    before = stage.service.predictor.live.models["fx_vol"]
    stage.ask("POST", "/model/reload")
    assert stage.shelf.loads == 1
    assert stage.service.predictor.live.models["fx_vol"] is before
    assert stage.ask("POST", "/model/reload").json()["changed"] == {}


def test_a_pushed_version_answers_without_being_asked_for(stage: Any, live: Any) -> None:
    with running(stage):
        until(lambda: stage.service.metrics.reloads["done"] == 1)
        stage.shelf.put(live(version="2.0.0"))
        until(lambda: stage.service.predictor.live.models["fx_vol"].version == "2.0.0")
    loads = [line for line in stage.recorded() if line["event"] == "loaded"]
    assert [(line["version"], line["before"]) for line in loads] == [
        ("1.0.0", None), ("2.0.0", "1.0.0")
    ]  # fmt: skip
    assert loads[1]["digest"] == "fx_vol 2.0.0"


def test_a_withdrawn_model_stops_answering(stage: Any) -> None:
    stage.shelf.take("fx_vol")
    stage.ask("POST", "/model/reload")
    assert stage.ask("POST", INFER, OK).status == 404
    assert stage.ask("GET", "/health/ready").status == 503
    assert [line["event"] for line in stage.recorded()] == ["withdrawn"]


@pytest.mark.parametrize(
    "refusal", [Tampered("a byte"), IncompatibleVersion("does not load")], ids=["bytes", "load"]
)
def test_a_refused_version_keeps_the_old_one_and_does_not_hold_up_others(
    stage: Any, live: Any, refusal: Exception
) -> None:
    stage.shelf.put(live(version="2.0.0"))
    stage.shelf.put(live("fx_direction"))
    stage.shelf.refused["fx_vol"] = refusal
    with pytest.raises(Rejected, match="goes on answering"):
        stage.service.reloader.reload()
    models = stage.service.predictor.live.models
    assert {name: model.version for name, model in models.items()} == {
        "fx_vol": "1.0.0", "fx_direction": "1.0.0"
    }  # fmt: skip
    refused = [line for line in stage.recorded() if line["event"] == "reload_refused"]
    assert len(refused) == 1
    assert 'assay_reloads_total{outcome="refused"} 1' in stage.ask("GET", "/metrics").body.decode()


def test_a_version_of_another_manifest_is_refused_like_a_damaged_one(stage: Any, live: Any) -> None:
    stage.shelf.put(live(version="2.0.0", manifest="c" * 64))
    with pytest.raises(Rejected, match="reads features of manifest"):
        stage.service.reloader.reload()
    assert stage.ask("POST", INFER, OK).json()["model_version"] == "v1.0.0"


def test_a_registry_that_cannot_be_read_changes_nothing_and_is_told(stage: Any) -> None:
    stage.shelf.trouble = Unavailable("the registry is locked")
    answer = stage.ask("POST", "/model/reload")
    assert answer.status == 409
    assert stage.ask("POST", INFER, OK).status == 200
    assert "locked" in str(stage.ask("GET", "/health").json()["dependencies"]["model_loaded"])
    stage.shelf.trouble = None
    assert stage.ask("POST", "/model/reload").status == 200
    assert stage.ask("GET", "/health").json()["status"] == "ok"


def test_a_refused_version_is_not_tried_again_at_every_look(stage: Any, live: Any) -> None:
    stage.shelf.put(live(version="2.0.0"))
    stage.shelf.refused["fx_vol"] = Tampered("a byte")
    looks = 0

    def pointer(real: Callable[[], object] = stage.shelf.pointer) -> object:
        nonlocal looks
        looks += 1
        return real()

    stage.shelf.pointer = pointer
    with running(stage):
        until(lambda: looks > 10)
    assert stage.shelf.loads == 1


def test_a_refused_version_is_tried_again_soon_and_not_only_by_the_poll(
    stage: Any, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "_AGAIN_SECONDS", 0.02)
    stage.shelf.put(live(version="2.0.0"))
    stage.shelf.trouble = Unavailable("the registry is locked")
    with running(stage):
        until(lambda: stage.service.reloader.trouble is not None)
        stage.shelf.trouble = None
        until(lambda: stage.service.predictor.live.models["fx_vol"].version == "2.0.0")
        until(lambda: stage.service.reloader.trouble is None)


@pytest.mark.parametrize("asked", ["pointer", "wanted", "load"])
@pytest.mark.parametrize("defect", [ValueError("what nobody expected"), OSError(5, "of a disk")])
def test_what_goes_wrong_once_does_not_end_the_watching(
    stage: Any, live: Any, monkeypatch: pytest.MonkeyPatch, asked: str, defect: Exception
) -> None:
    monkeypatch.setattr(reloading, "_AGAIN_SECONDS", 0.02)
    real, raised = getattr(stage.shelf, asked), []

    def fail(*given: Any) -> Any:
        if not raised:
            raised.append(defect)
            raise defect
        return real(*given)

    with running(stage):
        until(lambda: stage.service.metrics.reloads["done"] == 1)
        setattr(stage.shelf, asked, fail)
        stage.shelf.put(live(version="2.0.0"))
        until(lambda: stage.service.predictor.live.models["fx_vol"].version == "2.0.0")
        stage.switch.path.parent.mkdir()
        stage.switch.path.write_text("by hand")
        until(lambda: "killed" in [line["event"] for line in stage.recorded()])
    assert raised


def test_a_model_is_followed_at_once_where_its_manifest_came_into_use_just_before(
    staged: Any, live: Any, source: Any
) -> None:
    class Followed(dict[str, Any]):
        def follow(self) -> None:
            self["c" * 64] = source(manifest="c" * 64)

    stage = staged()
    predictor = stage.service.predictor
    predictor.sources = Followed(predictor.sources)
    stage.shelf.put(live(version="2.0.0", manifest="c" * 64))
    assert [one.version for one in stage.service.reloader.reload()] == ["2.0.0"]


def test_whoever_waited_reads_the_features_of_now_and_not_of_when_it_was_loaded(
    stage: Any, live: Any
) -> None:
    stage.shelf.put(live(version="2.0.0"))
    before = stage.rows.refreshed
    stage.service.reloader.catch_up()
    assert stage.rows.refreshed == before + 1
    assert stage.service.predictor.live.models["fx_vol"].version == "2.0.0"


def test_nothing_starts_on_a_version_that_is_refused(stage: Any) -> None:
    stage.shelf.refused["fx_vol"] = Tampered("a byte")
    with pytest.raises(Tampered):
        load_all(stage.shelf, None)
