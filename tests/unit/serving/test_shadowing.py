"""Challengers beside the requests: bounded, isolated, and written down with all that they said."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from assay.errors import IncompatibleVersion
from assay.serving import CanaryRoute, Deployed, LiveModel, LiveModels, Predictor, Rejected
from assay.serving.challengers.pair_log import PairReader
from assay.serving.challengers.running import Shadows
from assay.serving.challengers.shadowing import Challenger
from assay.serving.models.canary import position
from assay.serving.telemetry.beside import Beside, together
from assay.testing.clocks import FixedClock
from assay.testing.waiting import until

NOW = 1_700_000_000 * 10**9


def lines(folder: Path) -> list[dict[str, Any]]:
    pairs = PairReader(folder / "shadow" / "predictions.jsonl").read()
    return [msgspec.structs.asdict(pair) for pair in pairs]


class Stuck:
    """A model that answers when it is allowed to."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.schema = model.schema
        self.allow_missing = False
        self.may_go = threading.Event()

    def predict_checked(self, rows: np.ndarray) -> np.ndarray:
        assert self.may_go.wait(60)
        return np.asarray(self._model.predict_checked(rows))


class Deploys:
    """A source that also says what runs beside."""

    def __init__(self, shelf: Any, *challengers: tuple[LiveModel, float]) -> None:
        self._shelf = shelf
        self.beside = {
            Deployed(model.name, model.version, model.digest, 7, share, "salt" if share else ""):
            model for model, share in challengers
        }  # fmt: skip
        self.trouble: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shelf, name)

    def pointer(self) -> object:
        return self._shelf.pointer(), len(self.beside)

    def deployed(self) -> tuple[Deployed, ...]:
        return tuple(self.beside)

    def load_version(self, name: str, version: str) -> LiveModel:
        if self.trouble is not None:
            raise self.trouble
        return next(one for one in self.beside.values() if one.version == version)


def with_challengers(stage: Any, *challengers: tuple[LiveModel, float]) -> Deploys:
    """Let a staged service run challengers."""
    source = Deploys(stage.shelf, *challengers)
    stage.service.reloader._source = source
    stage.service.challengers._source = source
    stage.service.reloader.reload()
    return source


def test_pairs_hold_both_answers_to_the_same_input_in_order(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    with_challengers(stage, (live(version="2.0.0", weights=(2.0, 20.0, 200.0)), 0.0))
    stage.rows.put("USD_JPY", 30.0, 99.0, 10.0, 20.0)
    for instrument in ("USD_SGD", "USD_JPY"):
        assert stage.ask("POST", "/predict", {"instrument": instrument}).status == 200
    assert stage.ask("POST", "/inference/batch", {"batch": [[1, 0, 0], [0, 1, 0]]}).status == 200
    stage.service.shadows.stop(60)
    found = lines(tmp_path)
    assert [(one.get("instrument"), one["prediction"], one["shadow"]) for one in found] == [
        ("USD_SGD", 321.0, 642.0), ("USD_JPY", 3210.0, 6420.0), (None, 1.0, 2.0), (None, 10.0, 20.0)
    ]  # fmt: skip
    first = found[0]
    assert (first["champion"], first["challenger"], first["revision"]) == ("1.0.0", "2.0.0", 7)
    assert (first["champion_digest"], first["challenger_digest"]) == ("fx_vol 1.0.0",
                                                                      "fx_vol 2.0.0")  # fmt: skip
    assert (first["at"], first["recorded"], first["served"]) == (NOW, NOW, "champion")
    assert (first["manifest"], first["stale"]) == ("a" * 64, False)
    assert first["champion_ms"] >= 0
    assert first["shadow_ms"] >= 0


class Counted:
    """A model that keeps the rows that it was asked about."""

    def __init__(self, model: Any, *, fails: int = 0) -> None:
        self._model = model
        self._fails = fails
        self.schema = model.schema
        self.allow_missing = False
        self.asked: list[list[float]] = []

    def predict_checked(self, rows: np.ndarray) -> np.ndarray:
        self.asked += rows.tolist()
        if self._fails:
            self._fails -= 1
            raise RuntimeError("not yet")
        return np.asarray(self._model.predict_checked(rows))


def test_a_challengers_answer_to_a_stored_row_stands_until_there_is_another_row(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    other = live(version="2.0.0", weights=(2.0, 20.0, 200.0))
    counted = Counted(other.model, fails=2)  # the turn, and its row by itself
    with_challengers(stage, (replace(other, model=counted), 0.0))
    shadow = stage.service.shadows.running[0]

    def ask(times: int) -> None:
        for _ in range(times):
            assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).status == 200
            until(lambda: not shadow.waiting, "the pair is made")

    def put(*values: float) -> None:
        """A row as stores give it: nobody can write to its array."""
        stage.rows.put("USD_SGD", *values)
        row = stage.rows.held["USD_SGD"]
        row.values.setflags(write=False)
        stage.rows.held["USD_SGD"] = msgspec.structs.replace(row, origin=row.values)

    put(3.0, 99.0, 1.0, 2.0)
    ask(4)  # the first is not answered, and what failed is asked again
    put(3.0, 99.0, 1.0, 2.0)
    ask(2)
    put(4.0, 99.0, 1.0, 2.0)
    ask(2)
    stage.service.shadows.stop(60)
    assert counted.asked == [[1, 2, 3]] * 4 + [[1, 2, 4]]
    made = [(one["prediction"], one["shadow"]) for one in lines(tmp_path)]
    assert made == [(321.0, None)] + [(321.0, 642.0)] * 5 + [(421.0, 842.0)] * 2
    timed = [one["shadow_ms"] is not None for one in lines(tmp_path)]
    assert timed == [True, True, False, False, True, False, True, False]


def test_a_stuck_challenger_loses_its_own_pairs_and_nobody_elses(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    stuck = live(version="2.0.0")
    gate = Stuck(stuck.model)
    stage.service.shadows._capacity = 5
    with_challengers(stage, (replace(stuck, model=gate), 0.0), (live(version="3.0.0"), 0.0))
    beside = {one.challenger.model.version: one for one in stage.service.shadows.running}
    done = threading.Event()
    written = beside["3.0.0"]._write

    def tell(given: list[Any]) -> None:
        written(given)
        done.set()

    beside["3.0.0"]._write = tell
    for _ in range(4):
        for _ in range(5):
            assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).status == 200
        while beside["3.0.0"].waiting:
            assert done.wait(60)
            done.clear()
    assert beside["2.0.0"].waiting == 5
    assert beside["2.0.0"].dropped == 15
    assert beside["3.0.0"].dropped == 0
    text = stage.ask("GET", "/metrics").body.decode()
    told = stage.ask("GET", "/model").json()["models"][0]["challengers"]
    assert [(one["version"], one["role"], one["state"], one["dropped"], one["waiting"])
            for one in told] == [
        ("v2.0.0", "shadow", "running", 15, 5), ("v3.0.0", "shadow", "running", 0, 0)
    ]  # fmt: skip
    assert told[1]["pairs"] == 20
    assert 'assay_shadow_dropped_total{model="fx_vol",version="2.0.0"} 15' in text
    assert 'assay_shadow_waiting{model="fx_vol",version="2.0.0"} 5' in text
    gate.may_go.set()
    stage.service.shadows.stop(60)
    found = [one for one in lines(tmp_path) if one["challenger"] == "2.0.0"]
    assert len(found) == 5
    assert sum(one["dropped"] for one in found) == 15
    assert sum(one["challenger"] == "3.0.0" for one in lines(tmp_path)) == 20


def test_one_bad_row_of_a_turn_is_told_from_all_being_bad(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    with_challengers(stage, (live(version="2.0.0", weights=(3e38, 0.0, 0.0)), 0.0))
    batch = [[0.5, 1, 1], [5.0, 1, 1], [0.25, 1, 1]]
    assert stage.ask("POST", "/inference/batch", {"batch": batch}).status == 200
    stage.service.shadows.stop(60)
    assert [one["shadow"] is None for one in lines(tmp_path)] == [False, True, False]
    assert lines(tmp_path)[1]["error"] == "no finite number"


def test_a_challenger_with_other_columns_reads_the_store_as_of_the_same_moment(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    with_challengers(
        stage, (live(version="2.0.0", weights=(1.0, 1.0), names=("unused", "vol_20")), 0.0)
    )
    assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).status == 200
    features = {"features": [1.0, 2.0, 3.0]}
    assert stage.ask("POST", "/inference/predict", features).status == 200
    stage.service.shadows.stop(60)
    first, second = lines(tmp_path)
    assert first["shadow"] == 102.0
    assert second["shadow"] is None
    assert "does not hold" in second["error"]


def test_a_challenger_that_is_refused_changes_nothing_else_and_is_recorded(
    staged: Any, live: Any
) -> None:
    stage = staged()
    source = with_challengers(stage)
    source.beside[Deployed("fx_vol", "2.0.0", "d", 7)] = live(version="2.0.0")
    source.trouble = IncompatibleVersion("fx_vol 2.0.0 does not load")
    assert stage.ask("POST", "/model/reload", {}).status == 200
    assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).status == 200
    told = [one for one in stage.recorded() if one["event"] == "challenger_refused"]
    assert [one["reason"] for one in told] == ["fx_vol 2.0.0 does not load"]
    health = stage.ask("GET", "/health").json()
    assert health["status"] == "ok"
    beside = health["dependencies"]["challengers"]
    assert not beside["ok"]
    assert [(one["state"], one["reason"]) for one in beside["detail"]] == [
        ("refused", "fx_vol 2.0.0 does not load")
    ]
    assert stage.service.shadows.running == ()


def test_a_share_of_instruments_is_answered_by_the_canary_and_always_the_same(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    names = [f"E{number:02d}" for number in range(40)]
    for name in names:
        stage.rows.put(name, 3.0, 99.0, 1.0, 2.0)
    with_challengers(stage, (live(version="2.0.0", weights=(2.0, 20.0, 200.0)), 0.3))
    routed = {name for name in names if position("salt", name) < 0.3}
    assert 4 < len(routed) < 24
    for _ in range(2):
        for name in names:
            answer = stage.ask("POST", "/predict", {"instrument": name}).json()
            by_canary = name in routed
            assert answer["model_version"] == ("v2.0.0" if by_canary else "v1.0.0")
            assert answer["prediction"] == (642.0 if by_canary else 321.0)
    one = min(routed)
    asked = {"instrument": one, "model": "fx_vol/1.0.0"}
    assert stage.ask("POST", "/predict", asked).json()["model_version"] == "v1.0.0"
    features = {"features": [1.0, 2.0, 3.0]}
    answer = stage.ask("POST", "/inference/predict", features).json()
    assert answer["model_version"] == "v1.0.0"
    stage.service.shadows.stop(60)
    served = [line["served"] for line in lines(tmp_path)]
    assert served.count("canary") == 2 * len(routed)
    assert {(line["prediction"], line["shadow"]) for line in lines(tmp_path)} == {(321.0, 642.0)}
    text = stage.ask("GET", "/metrics").body.decode()
    assert 'assay_canary_share{model="fx_vol",version="2.0.0"} 0.3' in text
    assert f'assay_canary_answers_total{{model="fx_vol",route="canary"}} {2 * len(routed)}' in text


def test_features_of_a_named_instrument_are_answered_by_its_canary(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    with_challengers(stage, (live(version="2.0.0", weights=(2.0, 20.0, 200.0)), 0.3))
    names = [f"E{number:02d}" for number in range(20)]
    routed = {name for name in names if position("salt", name) < 0.3}
    assert 0 < len(routed) < 20

    def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = stage.ask("POST", path, body)
        assert answer.status == 200, answer.body
        return dict(answer.json())

    for name in names:
        one = ask("/inference/predict", {"features": [1.0, 2.0, 3.0], "instrument": name})
        several = ask("/inference/batch", {"batch": [[1, 0, 0], [0, 1, 0]], "instrument": name})
        times = 2.0 if name in routed else 1.0
        assert (one["model_version"], one["prediction"]) == (f"v{times:.1f}.0", 321.0 * times)
        assert several["model_version"] == f"v{times:.1f}.0"
        assert several["predictions"] == [times, 10.0 * times]
    asked = {"features": [1.0, 2.0, 3.0], "instrument": min(routed), "model_name": "fx_vol/1.0.0"}
    assert ask("/inference/predict", asked)["model_version"] == "v1.0.0"
    assert ask("/inference/predict", {"features": [1.0, 2.0, 3.0]})["model_version"] == "v1.0.0"
    stage.service.shadows.stop(60)
    pairs = lines(tmp_path)
    assert len(pairs) == 20 * 3 + 2
    for pair in pairs[:60]:
        assert pair["served"] == ("canary" if pair["instrument"] in routed else "champion")
        assert pair["shadow"] == 2.0 * pair["prediction"]
        assert (pair["champion_ms"] is None) == (pair["instrument"] in routed)
    assert [pair["served"] for pair in pairs[60:]] == ["champion"] * 2
    text = stage.ask("GET", "/metrics").body.decode()
    count = 3 * len(routed)
    assert f'assay_canary_answers_total{{model="fx_vol",route="canary"}} {count}' in text


def test_a_canary_reads_the_columns_that_a_caller_brings_in_its_own_order(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    columns = ("vol_20", "ret_1", "vol_5")
    source = with_challengers(
        stage, (live(version="2.0.0", weights=(200.0, 2.0, 20.0), names=columns), 0.999)
    )
    body = {"features": [1.0, 2.0, 3.0], "instrument": "USD_SGD"}
    answer = stage.ask("POST", "/inference/predict", body).json()
    assert (answer["model_version"], answer["prediction"]) == ("v2.0.0", 642.0)
    source.beside.clear()
    other = live(version="3.0.0", weights=(1.0,), names=("unused",))
    source.beside[Deployed("fx_vol", "3.0.0", other.digest, 8, 0.999, "salt")] = other
    stage.service.reloader.reload()
    # What nobody brought cannot be read: the champion answers, and no fault of the canary is it.
    assert stage.ask("POST", "/inference/predict", body).json()["model_version"] == "v1.0.0"
    stage.service.shadows.stop(60)
    first, second = lines(tmp_path)
    assert (first["served"], first["prediction"], first["shadow"]) == ("canary", 321.0, 642.0)
    assert second["served"] == "champion"


@pytest.mark.parametrize("path", ["/inference/predict", "/inference/batch"])
def test_the_champion_answers_features_of_an_instrument_where_the_canary_cannot(
    staged: Any, live: Any, tmp_path: Path, path: str
) -> None:
    stage = staged()
    with_challengers(stage, (live(version="2.0.0", weights=(3e38, 3e38, 3e38)), 0.999))
    row = [1.0, 2.0, 3.0]
    body = {"instrument": "USD_SGD"} | (
        {"features": row} if path == "/inference/predict" else {"batch": [row]}
    )
    answer = stage.ask("POST", path, body)
    assert (answer.status, answer.json()["model_version"]) == (200, "v1.0.0")
    bad = body | ({"features": [1e39] * 3} if "features" in body else {"batch": [[1e39] * 3]})
    assert stage.ask("POST", path, bad).status == 422
    stage.service.shadows.stop(60)
    (line,) = lines(tmp_path)
    assert (line["served"], line["prediction"], line["shadow"]) == ("fallback", 321.0, None)
    assert line["instrument"] == "USD_SGD"


def test_the_champion_answers_where_the_canary_cannot(
    staged: Any, live: Any, tmp_path: Path
) -> None:
    stage = staged()
    with_challengers(stage, (live(version="2.0.0", weights=(3e38, 3e38, 3e38)), 0.999))
    answer = stage.ask("POST", "/predict", {"instrument": "USD_SGD"})
    assert (answer.status, answer.json()["model_version"]) == (200, "v1.0.0")
    stage.service.shadows.stop(60)
    (line,) = lines(tmp_path)
    assert (line["served"], line["prediction"], line["shadow"]) == ("fallback", 321.0, None)


def test_a_canary_of_another_manifest_than_the_champions_is_not_asked(
    staged: Any, live: Any
) -> None:
    stage = staged()
    stage.service.predictor.limits  # noqa: B018
    other = live(version="2.0.0", manifest=None)
    with_challengers(stage, (other, 0.999))
    answer = stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()
    assert answer["model_version"] == "v1.0.0"
    told = [one for one in stage.recorded() if one["event"] == "challenger_refused"]
    assert "cannot answer in its place" in told[0]["reason"]


def test_a_suspended_canary_is_asked_no_more_from_the_next_request_on(
    staged: Any, live: Any
) -> None:
    stage = staged()
    with_challengers(stage, (live(version="2.0.0"), 0.999))
    body = {"instrument": "USD_SGD"}
    assert stage.ask("POST", "/predict", body).json()["model_version"] == "v2.0.0"
    stage.service.challengers.suspend("fx_vol", 7)
    stage.service.reloader.reload()
    (told,) = stage.ask("GET", "/model").json()["models"][0]["challengers"]
    assert (told["role"], told["state"], told["share"], told["revision"]) == (
        "canary", "suspended", 0.999, 7
    )  # fmt: skip
    assert stage.ask("POST", "/predict", body).json()["model_version"] == "v1.0.0"


def test_a_canary_answers_only_once_its_pairs_are_kept(staged: Any, live: Any) -> None:
    stage = staged()
    predictor, shadows = stage.service.predictor, stage.service.shadows
    beside: list[tuple[int, int]] = []
    use = predictor.use

    def watched(models: LiveModels) -> None:
        use(models)
        beside.append((len(models.canaries), len(shadows.running)))

    predictor.use = watched
    source = with_challengers(stage, (live(version="2.0.0"), 0.999))
    source.beside.clear()
    stage.service.reloader.reload()
    # It runs when it begins to answer, and when it has just ended.
    assert beside == [(1, 1), (0, 1)]
    assert shadows.running == ()


def test_the_kill_switch_stops_the_canary_too(staged: Any, live: Any) -> None:
    stage = staged(killed=True)
    with_challengers(stage, (live(version="2.0.0"), 0.999))
    assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).status == 503


def test_processes_tell_of_a_challenger_together_and_the_worst_state_is_told() -> None:
    one = Beside("m", "2.0.0", "d", "canary", 0.1, 7, "running", None, 5, 1, 2, 3)
    other = Beside("m", "2.0.0", "d", "canary", 0.1, 7, "suspended", "harm", 50, 10, 20, 30)
    third = Beside("m", "2.1.0", "e", "shadow", 0.0, 9, "loading")
    assert together([third, one, other]) == [
        Beside("m", "2.0.0", "d", "canary", 0.1, 7, "suspended", "harm", 55, 11, 22, 33), third
    ]  # fmt: skip


def test_positions_are_uniform_stable_and_differ_by_salt() -> None:
    names = [f"instrument {number}" for number in range(20_000)]
    first = np.array([position("one", name) for name in names])
    other = np.array([position("other", name) for name in names])
    for share in (0.05, 0.1, 0.5):
        assert abs((first < share).mean() - share) < 0.01
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    # Written down once: another value would send other instruments to a running canary.
    assert position("salt", "USD_SGD") == 0.6579871600101457


def test_an_in_process_predictor_routes_as_the_service_does(live: Any, source: Any) -> None:
    rows = source()
    rows.put("USD_SGD", 3.0, 99.0, 1.0, 2.0)
    champion, other = live(), live(version="2.0.0", weights=(2.0, 20.0, 200.0))
    route = CanaryRoute(other, 0.999, "salt", 7)
    predictor = Predictor(
        LiveModels({"fx_vol": champion}, "fx_vol", {"fx_vol": route}),
        {rows.manifest: rows},
        FixedClock(NOW),
    )
    made = predictor.predict("USD_SGD", manifest=rows.manifest)
    assert (made.model.version, made.route, made.value) == ("2.0.0", "canary", 642.0)
    with pytest.raises(Rejected, match="no features of instrument"):
        predictor.predict("EUR_USD", manifest=rows.manifest)


def test_what_waits_is_written_when_a_challenger_ends(live: Any, tmp_path: Path) -> None:
    made: Callable[..., Any] = live
    champion, other = made(), made(version="2.0.0")
    shadows = Shadows(tmp_path / "shadow" / "predictions.jsonl", FixedClock(NOW))
    shadows.use([Challenger(other, None, 7)], lambda _name: (champion, None))
    predictor = Predictor(LiveModels({"fx_vol": champion}, "fx_vol"), {}, FixedClock(NOW))
    for _ in range(10):
        shadows.offer(predictor.predict_features([1.0, 2.0, 3.0], manifest="a" * 64), b"an-id")
    shadows.use([], lambda _name: None)
    assert len(lines(tmp_path)) == 10
    assert {one["request_id"] for one in lines(tmp_path)} == {"an-id"}
    assert shadows.ended == {("fx_vol", "2.0.0"): (10, 0, 0)}


def test_a_pair_names_the_champion_that_answered_and_not_the_one_that_is_live_by_now(
    live: Any, tmp_path: Path
) -> None:
    before, after, other = live(), live(version="1.1.0"), live(version="2.0.0")
    shadows = Shadows(tmp_path / "shadow" / "predictions.jsonl", FixedClock(NOW))
    shadows.use([Challenger(other, None, 7)], lambda _name: (before, None))
    predictor = Predictor(LiveModels({"fx_vol": after}, "fx_vol"), {}, FixedClock(NOW))
    shadows.offer(predictor.predict_features([1.0, 2.0, 3.0], manifest="a" * 64))
    shadows.offer(predictor.predict_batch([[1.0, 2.0, 3.0]], manifest="a" * 64))
    shadows.stop(60)
    assert [one["champion_digest"] for one in lines(tmp_path)] == ["fx_vol 1.1.0"] * 2
