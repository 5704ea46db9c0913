"""Challengers beside a running server: whatever they do, callers get the champion's answers."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from assay import bootstrap
from assay.cli.app import app
from assay.delivery.canary import CanaryPolicy
from assay.delivery.controller import RetrainConfig
from assay.delivery.deployments import end_canary, start_canary, start_shadow, stop_shadow
from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.domain.verdicts import Verdict
from assay.errors import AssayError, NotFound, Tampered
from assay.orchestration.challengers import (
    ChallengerFiles,
    compare_shadow,
    look_at_canary,
    write_card,
)
from assay.orchestration.controlling import decided, decisions, take_step
from assay.orchestration.desk import Desk
from assay.orchestration.prediction_replay import replay_day
from assay.registry import Candidate
from assay.registry.deployments import deployments_of
from assay.serving.challengers.pair_log import PairReader
from assay.serving.challengers.pairs import Pair
from assay.serving.models.canary import position
from assay.testing.versions import make_candidate
from assay.testing.waiting import until

WORKER = Path(__file__).with_name("challenger_worker.py")
MANIFEST = "a" * 64
CHAMPION = (1.0, 2.0, 0.0, 0.0)
OPERATOR = "ops.demo"


def graph_of(nodes: list[Any], constants: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "challenger",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def throwing() -> bytes:
    """Looks something up by its first column, in a table of one entry: 1 and more throws."""
    return graph_of(
        [
            helper.make_node("Gather", ["rows", "zero"], ["first"], axis=1),
            helper.make_node("Cast", ["first"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["answer"]),
        ],
        {"zero": np.array([0], np.int64), "table": np.zeros(1, np.float32)},
    )


def slow() -> bytes:
    """Multiplies by a large matrix again and again before it answers with the first column."""
    width = 512
    wide = np.zeros((4, width), np.float32)
    wide[0] = 1.0
    nodes = [helper.make_node("MatMul", ["rows", "wide"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{n}", "square"], [f"h{n + 1}"]) for n in range(200)]
    nodes.append(helper.make_node("MatMul", ["h200", "narrow"], ["answer"]))
    narrow = np.zeros((width, 1), np.float32)
    narrow[0] = 1.0
    square = np.eye(width, dtype=np.float32)
    return graph_of(nodes, {"wide": wide, "square": square, "narrow": narrow})


def candidate(
    version: str,
    weights: tuple[float, ...],
    model: bytes | None = None,
    manifest: str | None = MANIFEST,
) -> Candidate:
    made = make_candidate(version=version, weights=weights, author="quant.demo")
    files = dict(made.files)
    if model is not None:
        files["model.onnx"] = model
        files["golden.json"] = b'{"rows": [[0, 0, 0, 0]], "predictions": [0]}'
    return Candidate(replace(made.metadata, manifest_hash=manifest), made.schema, files)


def missing() -> bytes:
    """The square root of its second column: NaN for every negative one."""
    return graph_of(
        [
            helper.make_node("Gather", ["rows", "one"], ["second"], axis=1),
            helper.make_node("Sqrt", ["second"], ["answer"]),
        ],
        {"one": np.array([1], np.int64)},
    )


CHALLENGERS: dict[str, Callable[[], Candidate]] = {
    "equal": lambda: candidate("2.0.0", (1.0, 2.0, 0.0, 1e-12)),
    "slightly worse": lambda: candidate("2.1.0", (1.0, 2.0, 0.3, 0.3)),
    "swapped": lambda: candidate("2.2.0", (0.0, 0.0, 2.0, 1.0)),
    # Nothing for rows of equal numbers, such as the golden ones; too much for any others.
    "infinite": lambda: candidate("2.3.0", (3e38, -3e38, 0.0, 0.0)),
    "throws": lambda: candidate("2.4.0", (0.0,) * 4, throwing()),
    "slow": lambda: candidate("2.5.0", (0.0,) * 4, slow()),
}
ON_ITS_DAY = {
    **CHALLENGERS,
    "NaN": lambda: candidate("2.6.0", (0.0,) * 4, missing()),
    "better": lambda: candidate("2.7.0", (1.0, 2.0, -0.1, -0.1)),
}
"""Challengers with the test of theirs that finds harm, None for none."""
FOUND_BY = {
    "swapped": "ranks", "throws": "failures", "slow": "latency", "NaN": "failures",
    "infinite": "failures", "equal": None, "slightly worse": None, "better": None,
}  # fmt: skip


class Client:
    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        headers = {"content-type": "application/json"} if body is not None else {}
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode()

    def predict(self, instrument: str) -> dict[str, Any]:
        status, text = self.ask("POST", "/predict", {"instrument": instrument})
        assert status == 200, text
        return dict(json.loads(text))


@contextmanager
def server(folder: Path, slow_ms: float = 50.0) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), str(slow_ms)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def lines(desk: Desk) -> list[Pair]:
    return list(PairReader(desk.layout.root / "artifacts/shadow/predictions.jsonl").read())


def expected(answer: dict[str, Any]) -> float:
    """The champion's answer, computed from the features that the answer names."""
    values = np.array(list(answer["features_used"].values()), dtype=np.float32)
    weights = np.array(CHAMPION, dtype=np.float32)
    return float(np.dot(values.astype(np.float64), weights.astype(np.float64)))


def into_production(desk: Desk, version: str) -> None:
    break_glass(
        desk.registry, "fx_vol", version, initiated_by=OPERATOR, reason="a test", clock=desk.clock,
        monotonic=time.monotonic,
    )  # fmt: skip


def in_home(home: Path, patch: pytest.MonkeyPatch) -> Desk:
    patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    return bootstrap.open_desk(home / "desk")


@pytest.fixture(scope="module")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk as it is made, without a version, and the private keys beside it."""
    from assay.registry.keyring import PURPOSES

    home = tmp_path_factory.mktemp("new")
    members = [bootstrap.Member(one, tuple(PURPOSES)) for one in ("quant.demo", OPERATOR)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        bootstrap.create_desk(home / "desk", name="desk", members=members)
    return home


@pytest.fixture(scope="module")
def live_home(new_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk with 1.0.0 archived, 1.1.0 live and every challenger staged."""
    home = tmp_path_factory.mktemp("live") / "home"
    shutil.copytree(new_home, home, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        desk = in_home(home, patch)
        desk.registry.register(candidate("1.0.0", (1.0, 2.0, 0.0, 1e-11)))
        desk.registry.register(candidate("1.1.0", CHAMPION))
        into_production(desk, "1.0.0")
        into_production(desk, "1.1.0")
        for make in CHALLENGERS.values():
            desk.registry.register(make())
    return home


@pytest.fixture
def empty(new_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    shutil.copytree(new_home, tmp_path, symlinks=True, dirs_exist_ok=True)
    return in_home(tmp_path, monkeypatch)


@pytest.fixture
def desk(live_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    shutil.copytree(live_home, tmp_path, symlinks=True, dirs_exist_ok=True)
    return in_home(tmp_path, monkeypatch)


def shadow(desk: Desk, kind: str) -> str:
    version = CHALLENGERS[kind]().metadata.version
    start_shadow(
        desk.registry, "fx_vol", version, initiated_by=OPERATOR, reason="a test",
        monotonic=time.monotonic,
    )  # fmt: skip
    return version


def canary(desk: Desk, kind: str, share: float = 0.3) -> str:
    version = CHALLENGERS[kind]().metadata.version
    start_canary(
        desk.registry, "fx_vol", version, share=share, initiated_by=OPERATOR, reason="a test",
        monotonic=time.monotonic,
    )  # fmt: skip
    return version


def test_every_challenger_runs_beside_and_none_is_noticed_by_callers(desk: Desk) -> None:
    started = {kind: shadow(desk, kind) for kind in CHALLENGERS}
    with server(desk.layout.root) as (port, _), closing(Client(port)) as client:
        until(
            lambda: (
                'assay_shadow_waiting{model="fx_vol",version="2.5.0"}'
                in client.ask("GET", "/metrics")[1]
            ),
            "all challengers are loaded",
        )
        answers = [client.predict(f"E{number % 40:02d}") for number in range(120)]
        assert {answer["model_version"] for answer in answers} == {"v1.1.0"}
        for answer in answers:
            assert answer["prediction"] == pytest.approx(expected(answer), rel=1e-6)
        counted = dict.fromkeys(started.values(), 0)

        def all_seen() -> bool:
            counted.update(dict.fromkeys(counted, 0))
            for line in lines(desk):
                counted[line.challenger] += 1
            return all(count == 120 for count in counted.values())

        until(all_seen, f"every challenger answered: {counted}")
        stop_shadow(
            desk.registry, "fx_vol", started["slow"], initiated_by=OPERATOR, reason="seen enough"
        )
        until(
            lambda: (
                'assay_shadow_waiting{model="fx_vol",version="2.5.0"}'
                not in client.ask("GET", "/metrics")[1]
            ),
            "the slow one is gone",
        )
    found = {
        kind: compare_shadow(desk, bootstrap.challenger_files(desk.layout.root), "fx_vol", version)
        for kind, version in started.items()
        if kind != "slow"
    }
    assert found["equal"].live.rank_correlation == 1.0
    assert 0.9 < (found["slightly worse"].live.rank_correlation or 0.0) < 1.0
    assert abs(found["swapped"].live.rank_correlation or 0.0) < 0.5
    assert (found["infinite"].pairs, sum(found["infinite"].errors.values())) == (0, 120)
    assert (found["throws"].pairs, sum(found["throws"].errors.values())) == (0, 120)
    assert found["throws"].stable_hours == 0.0
    assert found["equal"].rows == 120
    assert not found["equal"].replayed


@pytest.mark.parametrize(
    "kind",
    [
        "swapped",
        "throws",
        pytest.param("infinite", marks=pytest.mark.long),
        pytest.param("slow", marks=pytest.mark.long),
    ],
)
def test_a_canary_that_does_harm_is_ended_by_the_server_itself(desk: Desk, kind: str) -> None:
    version = canary(desk, kind)
    salt = deployments_of(desk.registry, "fx_vol").canary.salt
    routed = {f"E{n:02d}" for n in range(60) if position(salt, f"E{n:02d}") < 0.3}
    assert 5 < len(routed) < 35
    seen: set[str] = set()
    # A canary that answers at all takes longer than a thousandth of a millisecond: the limit
    # divides the slow one from the others, which take a hundredth of it.
    with server(desk.layout.root, 1.0 if kind == "slow" else 1e6) as (port, _):
        client = Client(port)
        with closing(client):

            def ended() -> bool:
                for number in range(60):
                    answer = client.predict(f"E{number:02d}")
                    if answer["model_version"] == f"v{version}":
                        assert answer["instrument"] in routed
                    else:
                        assert answer["model_version"] == "v1.1.0"
                        assert answer["prediction"] == pytest.approx(expected(answer), rel=1e-6)
                    seen.add(answer["model_version"])
                return deployments_of(desk.open_registry(), "fx_vol").canary is None

            until(ended, f"the canary that {kind} is ended")
            until(
                lambda: {client.predict(one)["model_version"] for one in routed} == {"v1.1.0"},
                "the champion answers for everything",
            )
    if kind in {"swapped", "slow"}:
        assert f"v{version}" in seen
    else:
        assert seen == {"v1.1.0"}  # the champion answered in its place
    history = desk.open_registry().history("fx_vol")
    assert [str(entry.type) for entry in history[-3:]] == [
        "canary.start", "rollback.requested", "canary.end"
    ]  # fmt: skip
    assert history[-1].initiated_by == "canary-watch"
    assert history[-1].evidence["finding"]["verdict"] == "FAIL"
    word = {"swapped": "ranks", "slow": "latency"}.get(kind, "failures")
    assert word in history[-1].reason
    assert desk.open_registry().resolve("fx_vol").version == "1.1.0"
    card = (desk.layout.root / "reports/models/fx_vol/canary_scorecard.md").read_text()
    assert "**FAIL**" in card
    assert history[-1].reason.split(":")[0] in card
    assert desk.open_registry().verify_log().ok


def test_servers_that_are_killed_lose_no_verdict_because_it_rests_on_the_log(desk: Desk) -> None:
    version = canary(desk, "swapped")
    files = bootstrap.challenger_files(desk.layout.root)
    for pairs in (25, 50):
        with server(desk.layout.root, 1e6) as (port, process), closing(Client(port)) as client:
            # It answers from one moment on, and what it answers is paired from the next.
            until(lambda: "assay_shadow_waiting" in client.ask("GET", "/metrics")[1], "loaded")
            for instrument in range(25):
                client.predict(f"E{instrument:02d}")
            until(lambda least=pairs: len(lines(desk)) == least, "the pairs are written")
            os.kill(process.pid, signal.SIGKILL)
    look = look_at_canary(desk, files, "fx_vol", CanaryPolicy())
    assert look.finding.verdict is Verdict.INDETERMINATE
    assert (look.finding.numbers["pairs"], look.canary.version) == (50, version)
    with server(desk.layout.root, 1e6) as (port, _), closing(Client(port)) as client:

        def ended() -> bool:
            for instrument in range(10):
                client.predict(f"E{instrument:02d}")
            return deployments_of(desk.open_registry(), "fx_vol").canary is None

        until(ended, "the canary is ended")
    ends = [one for one in desk.open_registry().history("fx_vol") if str(one.type) == "canary.end"]
    assert len(ends) == 1
    # Of the pairs that decided, fifty are of servers that are dead.
    assert ends[0].evidence["finding"]["numbers"]["pairs"] >= 80


def test_an_equal_canary_goes_on_and_a_new_champion_begins_its_analysis_anew(desk: Desk) -> None:
    version = canary(desk, "equal", share=0.5)
    files = bootstrap.challenger_files(desk.layout.root)
    with server(desk.layout.root, 1e6) as (port, _), closing(Client(port)) as client:
        # By chance a canary takes none of a few entities: the salt differs from run to run.
        until(
            lambda: any(
                client.predict(f"E{n:02d}")["model_version"] == f"v{version}" for n in range(40)
            ),
            "the canary answers",
        )
        for number in range(400):
            client.predict(f"E{number % 60:02d}")
        until(lambda: len(lines(desk)) >= 400, "the pairs are written")
        look = look_at_canary(desk, files, "fx_vol", CanaryPolicy(hours=0.0))
        assert look.finding.verdict is not Verdict.FAIL
        assert look.finding.numbers["answers"] > 100
        assert look.finding.numbers["ranks"]["mean"] == 1.0
        rollback(
            desk.registry, "fx_vol", "1.0.0", reason="a test", initiated_by=OPERATOR, keep=True,
            monotonic=time.monotonic,
        )  # fmt: skip
        until(
            lambda: (
                {client.predict(f"E{n:02d}")["model_version"] for n in range(20)}
                == {"v1.0.0", f"v{version}"}
            ),
            "the other champion answers, and the canary still",
        )
        after = look_at_canary(desk, files, "fx_vol", CanaryPolicy())
        assert after.canary.revision > look.canary.revision
        assert after.finding.numbers["pairs"] < 60
        end_canary(desk.registry, "fx_vol", initiated_by=OPERATOR, reason="enough")
        until(
            lambda: {client.predict(f"E{n:02d}")["model_version"] for n in range(20)} == {"v1.0.0"},
            "the champion answers for everything",
        )


@pytest.mark.long
def test_a_day_of_challengers_ends_for_each_as_it_should(desk: Desk) -> None:
    for kind in ON_ITS_DAY.keys() - CHALLENGERS.keys():
        desk.registry.register(ON_ITS_DAY[kind]())
    reports = desk.layout.root / "reports/models/fx_vol"
    policy = CanaryPolicy(slow_ms=5.0, hours=0.0)
    with server(desk.layout.root, 5.0) as (port, _), closing(Client(port)) as client:
        for kind, test in FOUND_BY.items():
            version = ON_ITS_DAY[kind]().metadata.version
            began = start_canary(
                desk.registry, "fx_vol", version, share=0.3, initiated_by=OPERATOR,
                reason="a day", monotonic=time.monotonic,
            )  # fmt: skip
            until(lambda seq=began.seq: beside(client) == {seq: "running"}, f"{kind} is loaded")
            asked = 0

            def over(harmless: bool = test is None) -> bool:
                nonlocal asked
                for number in range(60):
                    answer = client.predict(f"E{number:02d}")
                    if answer["model_version"] == "v1.1.0":
                        assert answer["prediction"] == pytest.approx(expected(answer), rel=1e-6)
                asked += 60
                if not harmless:
                    return deployments_of(desk.open_registry(), "fx_vol").canary is None
                look = look_at_canary(desk, desk_files(desk), "fx_vol", policy)
                assert look.finding.verdict is not Verdict.FAIL, look.finding.reasons
                return look.finding.verdict is Verdict.PASS

            until(over, f"{kind} ends")
            if test is None:
                until(lambda: not waiting(client), "every pair is written")
                look = write_card(desk, look_at_canary(desk, desk_files(desk), "fx_vol", policy))
                assert look.finding.numbers["pairs"] == asked
                end_canary(desk.registry, "fx_vol", initiated_by=OPERATOR, reason="seen enough")
            history = desk.open_registry().history("fx_vol")
            last = history[-1]
            assert str(last.type) == "canary.end"
            assert [str(one.type) for one in history if one.seq > began.seq] == (
                ["canary.end"] if test is None else ["rollback.requested", "canary.end"]
            )
            for page in ("canary_scorecard.md", "canary_scorecard.html"):
                # The log says that it has ended before its last scorecard is there.
                path = reports / page
                until(
                    lambda path=path, version=version: version in path.read_text(),
                    f"{page} of {kind}",
                )
                text = path.read_text()
                assert ("keeps every margin" if test is None else f"{test}: ") in text
                assert ("harm</td>" in text or "| harm |" in text) == (test is not None)
            seconds = (last.at - began.at) / 1e9
            numbers = last.evidence.get("finding", {}).get("numbers", {})
            print(f"{kind}: {seconds:.1f} s, {numbers.get('rows', asked)} rows, {last.reason}")
            until(lambda: beside(client) == {}, f"{kind} is gone")
            assert {client.predict(f"E{n:02d}")["model_version"] for n in range(60)} == {"v1.1.0"}
    registry = desk.open_registry()
    assert registry.resolve("fx_vol").version == "1.1.0"
    assert registry.verify_log().ok


def beside(client: Client) -> dict[int, str]:
    """The challengers that a server tells of: their revision and state."""
    (model,) = json.loads(client.ask("GET", "/model")[1])["models"]
    return {one["revision"]: one["state"] for one in model["challengers"]}


def waiting(client: Client) -> int:
    (model,) = json.loads(client.ask("GET", "/model")[1])["models"]
    return sum(one["waiting"] for one in model["challengers"])


def desk_files(desk: Desk) -> ChallengerFiles:
    return bootstrap.challenger_files(desk.layout.root)


def predictions(desk: Desk) -> Path:
    return desk.layout.root / "artifacts/predictions.jsonl"


@pytest.fixture
def answered(desk: Desk) -> Desk:
    """A desk whose server has answered every way, a canary among it."""
    canary(desk, "equal", share=0.5)
    with server(desk.layout.root, 1e6) as (port, _), closing(Client(port)) as client:
        until(lambda: "assay_canary_share" in client.ask("GET", "/metrics")[1], "it is loaded")
        for number in range(30):
            client.predict(f"E{number:02d}")
        for body in ({"features": [0.1, 0.2, 0.3, 1e-9]}, {"features": [1, 2, 3, 4]}):
            assert client.ask("POST", "/inference/predict", body)[0] == 200
        batch = {"batch": np.random.default_rng(1).standard_normal((9, 4)).tolist()}
        assert client.ask("POST", "/inference/batch", batch)[0] == 200
    return desk


def test_a_day_comes_out_again_bit_for_bit(answered: Desk) -> None:
    today = datetime.now(UTC).date()
    done = replay_day(answered, predictions(answered), today)
    assert done.ok, done.to_json()
    assert (done.predictions, done.equal, done.different) == (41, 41, 0)
    assert set(done.versions) == {"fx_vol/v1.1.0", "fx_vol/v2.0.0"}
    with pytest.raises(NotFound, match="no prediction of"):
        replay_day(answered, predictions(answered), date(2001, 1, 1))
    with pytest.raises(NotFound, match="by another"):
        replay_day(answered, predictions(answered), today, model="another")


def test_what_does_not_come_out_again_is_named(answered: Desk) -> None:
    path = predictions(answered)
    said = [json.loads(line) for line in path.read_text().splitlines()]
    said[3]["prediction"] = float(np.nextafter(said[3]["prediction"], np.inf))
    said[5]["features"][1] += 1.0
    del said[7]["features"]
    said[9]["digest"] = "0" * 64
    said[11]["manifest"] = "b" * 64
    said[-1]["predictions"][4] += 1.0
    text = "".join(json.dumps(line) + "\n" for line in said) + "cut in the mid"
    path.write_text(text)
    done = replay_day(answered, path, datetime.now(UTC).date())
    assert [(one.line, one.what) for one in done.differences] == [
        (4, "prediction"), (6, "prediction"), (12, "manifest"), (33, "prediction of row 4")
    ]  # fmt: skip
    assert dict(done.impossible) == {
        "its features were not logged": 1,
        f"fx_vol {said[9]['version'][1:]} has another digest than the line says": 1,
        "a line cannot be read": 1,
    }
    assert not done.ok


def damage(database: Path, how: str) -> None:
    for path in database.parent.glob(database.name + "-*"):
        path.unlink()
    if how == "gone":
        database.unlink()
    elif how == "empty":
        database.write_bytes(b"")
    else:
        database.write_bytes(b"SQLite format 3\x00" + os.urandom(4_096))


@pytest.mark.parametrize("how", ["gone", "empty", "garbage"])
def test_a_rollback_without_the_registrys_database_reaches_the_running_server(
    desk: Desk, how: str
) -> None:
    with server(desk.layout.root, 1e6) as (port, _), closing(Client(port)) as client:
        assert client.predict("E00")["model_version"] == "v1.1.0"
        damage(desk.layout.registry / "registry.db", how)
        assert client.predict("E00")["model_version"] == "v1.1.0"
        opened = bootstrap.open_desk(desk.layout.root)
        registry = opened.rebuilt_registry() if how == "garbage" else opened.registry
        done = rollback(
            registry, "fx_vol", reason="a test", initiated_by=OPERATOR, monotonic=time.monotonic
        )
        assert (done.from_version, done.to_version) == ("1.1.0", "1.0.0")
        until(lambda: client.predict("E00")["model_version"] == "v1.0.0", "it follows")
    assert bootstrap.open_desk(desk.layout.root).registry.verify_log().ok


def test_the_controller_takes_one_step_at_a_time_and_records_what_each_rested_on(
    desk: Desk,
) -> None:
    files = bootstrap.challenger_files(desk.layout.root)
    config, policy = RetrainConfig(shadow_mode_days=0.0), CanaryPolicy()
    for version in ("2.1.0", "2.2.0", "2.3.0", "2.4.0", "2.5.0"):
        desk.registry.fail("fx_vol", version, initiated_by=OPERATOR, reason="not in this test")

    def step() -> Any:
        return take_step(desk, files, "fx_vol", config, policy, initiated_by=OPERATOR)

    first = step()
    assert (first.step.version, str(first.step.action)) == ("2.0.0", "start_shadow")
    assert first.decision[:12] in desk.registry.history("fx_vol")[-1].reason
    waiting = step()
    assert waiting.step is None
    assert waiting.steps[0].reasons == ("no pairs yet, expected 0 days",)
    with server(desk.layout.root, 1e6) as (port, _), closing(Client(port)) as client:
        until(lambda: "assay_shadow_waiting" in client.ask("GET", "/metrics")[1], "it is loaded")
        for number in range(40):
            client.predict(f"E{number:02d}")
        until(lambda: len(lines(desk)) == 40, "the pairs are written")
    recorded = step()
    assert str(recorded.step.action) == "record_shadow"
    evidence = {one.name: one for one in desk.registry.evidence("fx_vol", "2.0.0")}
    assert evidence["shadow_rank_correlation"].value == 1.0
    assert evidence["shadow_stable_hours"].sample_size == 40
    assert evidence["shadow_stable_hours"].provenance.champion == "1.1.0"
    report = desk.registry.gate_record("fx_vol", "2.0.0")
    verdicts = {one.name: one.verdict for one in report.results}
    assert verdicts["shadow_rank_correlation"] is Verdict.PASS
    assert verdicts["shadow_stable_hours"] is not Verdict.PASS
    last = step()
    assert str(last.step.action) == "stop_shadow"
    assert "shadow_stable_hours FAIL" in last.step.reason  # the gates want a day of it
    written = list(decisions(desk))
    assert [one["event"] for one in written] == [
        "decided", "done", "decided", "decided", "done", "decided", "done"
    ]  # fmt: skip
    assert written[0]["situation"]["champion"] == "1.1.0"
    assert [(one.step, one.outcome) for one in decided(desk)] == [
        ("2.0.0 start_shadow", "done"), ("wait", ""), ("2.0.0 record_shadow", "done"),
        ("2.0.0 stop_shadow", "done"),
    ]  # fmt: skip
    assert decided(desk)[1].reason == "no pairs yet, expected 0 days"
    path = desk.layout.root / "artifacts/delivery/decisions.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"1.1.0"', b'"1.0.0"', 1))
    with pytest.raises(Tampered, match="does not follow"):
        list(decisions(desk))


def command(desk: Desk, *words: str, expect: int = 0) -> Any:
    """What a command prints under ``--json``."""
    ran = CliRunner().invoke(app, [*words, "--desk", str(desk.layout.root), "--json"])
    assert ran.exit_code == expect, ran.output
    if isinstance(ran.exception, AssayError):
        return {"error": ran.exception.message}
    return json.loads(ran.stdout)


def test_the_commands_lead_from_shadow_to_replay(desk: Desk) -> None:
    why = ("--reason", "a test", "--as", OPERATOR)
    began = command(desk, "shadow", "start", "fx_vol", "2.2.0", *why)
    assert began["type"] == "shadow.start"
    began = command(desk, "canary", "start", "fx_vol", "2.0.0", "--share", "0.4", *why)
    assert began["evidence"]["share"] == 0.4
    (listed,) = command(desk, "canary", "list")
    assert [one["version"] for one in listed["shadows"]] == ["2.2.0"]
    assert listed["canary"]["version"] == "2.0.0"
    with server(desk.layout.root, 1e6) as (port, _), closing(Client(port)) as client:

        def loaded() -> bool:
            text = client.ask("GET", "/metrics")[1]
            waiting = [
                line for line in text.split("\n") if line.startswith("assay_shadow_waiting{")
            ]
            return "assay_canary_share" in text and len(waiting) == 2

        until(loaded, "both are loaded")
        for number in range(30):
            client.predict(f"E{number:02d}")
        until(lambda: len(lines(desk)) == 60, "the pairs are written")
    found = command(
        desk, "shadow", "compare", "fx_vol", "2.2.0", "--html", "--record", "--as", OPERATOR
    )
    assert (found["rows"], found["pairs"]) == (30, 30)
    assert {one["name"] for one in found["evidence"]} == {
        "shadow_stable_hours", "shadow_rank_correlation"
    }  # fmt: skip
    assert "Rows without an answer" in Path(found["page"]).read_text()
    look = command(desk, "canary", "check", "fx_vol")
    assert look["finding"]["verdict"] == "INDETERMINATE"
    assert "is undecided" in Path(look["scorecard"]).read_text()
    (planned,) = command(desk, "delivery", "plan", "fx_vol")
    assert {one["version"] for one in planned["steps"]} >= {"2.0.0", "2.2.0"}
    assert command(desk, "delivery", "status")[0]["champion"] == "1.1.0"
    ended = command(desk, "canary", "stop", "fx_vol", *why)
    assert ended["type"] == "canary.end"
    cards = desk.layout.root / "reports/models/fx_vol/scorecards"
    card = json.loads(
        (cards / f"canary-2.0.0-{ended['evidence']['revision']:06d}.json").read_text()
    )
    assert (card["ended"], card["comparison"]["rows"]) == (True, 30)
    assert [one.name.split("-")[:2] for one in cards.glob("shadow*.json")] == [["shadow", "2.2.0"]]
    assert command(desk, "shadow", "stop", "fx_vol", "2.2.0", *why)["type"] == "shadow.stop"
    (done,) = command(desk, "delivery", "run", "fx_vol", "--as", OPERATOR)
    assert done["step"]["action"] == "start_shadow"
    assert done["problem"] is None
    (told,) = command(desk, "delivery", "history", "fx_vol")
    assert (told["by"], told["outcome"]) == (OPERATOR, "done")
    assert told["decision"] == done["decision"]
    today = datetime.now(UTC).date().isoformat()
    assert command(desk, "replay", "--day", today)["equal"] == 30
    assert "no prediction of" in command(desk, "replay", "--day", "2001-01-01", expect=1)["error"]
    command(desk, "shadow", "start", "fx_vol", "1.1.0", *why, expect=1)


def test_assay_serve_itself_watches_over_a_canary(empty: Desk) -> None:
    registry = empty.registry
    registry.register(candidate("1.0.0", CHAMPION, manifest=None))
    registry.register(candidate("2.2.0", (0.0, 0.0, 2.0, 1.0), manifest=None))
    into_production(empty, "1.0.0")
    canary(empty, "swapped")
    process = subprocess.Popen(
        [sys.executable, "-c", "from assay.cli import main; main()", "serve", "--port", "0",
         "--json", "--desk", str(empty.layout.root)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("\n}\n"):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        client = Client(int(json.loads(printed)["url"].rpartition(":")[2]))
        generator = np.random.default_rng(3)

        def ended() -> bool:
            # Features that a caller brings have no instrument: the champion answers them all,
            # and the canary is compared with it all the same.
            for row in generator.standard_normal((40, 4)).tolist():
                status, text = client.ask("POST", "/inference/predict", {"features": row})
                assert (status, json.loads(text)["model_version"]) == (200, "v1.0.0")
            return deployments_of(empty.open_registry(), "fx_vol").canary is None

        with closing(client):
            until(ended, "the canary is ended")
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    asked, last = empty.open_registry().history("fx_vol")[-2:]
    assert (str(asked.type), str(last.type)) == ("rollback.requested", "canary.end")
    assert "ranks" in last.reason
