"""Running servers follow the manifest in use, over HTTP: a canary first, then all, and back."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import uvicorn
from typer.testing import CliRunner

from assay.bootstrap import Member, create_desk, open_desk
from assay.cli.app import app
from assay.delivery.manifests import Span
from assay.domain.versions import RISK_MODEL, InputSchema
from assay.errors import NotFound, Tampered
from assay.features import Manifest, ManifestSet
from assay.orchestration.desk import Desk
from assay.orchestration.features_in_use import DeskFeatures
from assay.orchestration.manifest_promotion import list_manifests, promote_view, rollback_view
from assay.orchestration.progress import Silent
from assay.orchestration.service import ServingLayout, make_service
from assay.serving import (
    KillSwitch,
    Limits,
    LiveModel,
    LiveModels,
    OnnxModel,
    Predictor,
    ServiceRecord,
    states_of,
)
from assay.serving.http.service import Operation, Service, ServiceFiles
from assay.testing.clocks import FixedClock
from assay.testing.versions import linear_onnx
from assay.testing.waiting import until

DAY = 86_400 * 10**9
SESSIONS = 60
NOW = (20_000 + SESSIONS) * DAY + 10**9
INSTRUMENTS = ("EUR_USD", "USD_JPY", "USD_SGD")

VIEW = """
from assay.features import FeatureView, Sessions, col

mid = col("mid")
fx = FeatureView(
    name="fx", source="market", entity="instrument", ttl=Sessions(3),
    features={{"ret": mid.simple_return(1), "mean": mid.rolling_mean(5){more}}},
)
"""
RANK = ', "rank": mid.simple_return(1).cs_rank()'


def market() -> pl.DataFrame:
    generator = np.random.default_rng(5)
    rows = [
        (name, (20_000 + n) * DAY, (20_000 + n) * DAY + 10**9, 0, 0, float(generator.random() + 1))
        for n in range(SESSIONS + 1)
        for name in INSTRUMENTS
    ]
    names = ["instrument", "event_time", "known_time", "source_rank", "sequence", "mid"]
    return pl.DataFrame(rows, schema=names, orient="row")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "desk"
    create_desk(folder, name=None, members=[Member("ops", ("log_head",))], demonstration=True)
    for path in folder.glob("features/*.py"):
        path.unlink()
    define(folder, "")
    (folder / "docs/changelog/features.md").write_text("- `fx`: first version.\n")
    desk(folder).lake.table("silver/market").commit(market())
    return folder


def define(folder: Path, more: str) -> None:
    (folder / "features/fx.py").write_text(VIEW.format(more=more))


def desk(folder: Path) -> Desk:
    return open_desk(folder, clock=FixedClock(NOW))


def requested(opened: Desk) -> str:
    """What requests name: the set of the manifest of the view as it is defined."""
    return ManifestSet((Manifest.of(opened.view("fx")),)).hash


def model(name: str, manifest: str, columns: tuple[str, ...]) -> LiveModel:
    weights = [10.0**place for place in range(len(columns))]
    made = OnnxModel.from_bytes(linear_onnx(weights), InputSchema.of(columns))
    return LiveModel(name, "1.0.0", f"digest of {name}", RISK_MODEL, manifest, made, NOW)


@dataclass
class Shelf:
    """What should be live."""

    models: dict[str, LiveModel] = field(default_factory=dict)

    def pointer(self) -> object:
        return len(self.models)

    def wanted(self) -> Mapping[str, str]:
        return {name: one.digest for name, one in self.models.items()}

    def load(self, name: str) -> LiveModel:
        if name not in self.models:
            raise NotFound(name)
        return self.models[name]


class Server:
    """A service on a real socket."""

    def __init__(self, folder: Path, shelf: Shelf, *, canary: bool) -> None:
        opened = desk(folder)
        place = folder / ("canary" if canary else "production")
        record = ServiceRecord(place / "serving.jsonl", opened.clock, process=1)
        switch = KillSwitch(place / "KILL", record)
        self.sources = DeskFeatures(opened, canary=canary)
        live = LiveModels(dict(shelf.models), "old")
        predictor = Predictor(live, self.sources, opened.clock, switch=switch, limits=Limits())
        service = Service(
            predictor, shelf, switch, record,
            ServiceFiles(place / "predictions.jsonl", place / "feedback.jsonl"),
            opened.clock, lambda: "a test", version="0", follow=self.sources.follow,
        )  # fmt: skip
        service.metrics.ask(self.sources.samples)
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(service, lifespan="on", log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],))
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def post(self, path: str, body: Any, manifest: str | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if manifest is not None:
            request.add_header("X-Assay-Manifest", manifest)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def metrics(self) -> str:
        with urllib.request.urlopen(self.url + "/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def reads(self) -> tuple[str, str]:
        """The hash that the metric says is active, and the role."""
        found = re.findall(
            r'manifest_active\{hash="(\w+)",view="fx",role="(\w+)"\} 1', self.metrics()
        )
        (one,) = found
        return one

    def wait_until_it_reads(self, manifest: str, role: str) -> None:
        until(lambda: self.reads() == (manifest, role), f"{manifest} is read as {role}")


@pytest.fixture
def servers(folder: Path) -> Iterator[tuple[Server, Server, Shelf]]:
    opened = desk(folder)
    promote_view(opened, "fx", Silent(), initiated_by="ops", span=Span(event_times=8))
    shelf = Shelf({"old": model("old", requested(opened), ("ret", "mean"))})
    made = [Server(folder, shelf, canary=canary) for canary in (False, True)]
    yield made[0], made[1], shelf
    for one in made:
        one.stop()


def test_servers_follow_canary_promotion_and_rollback_without_a_restart(
    folder: Path, servers: tuple[Server, Server, Shelf]
) -> None:
    production, canary, shelf = servers
    first = Manifest.of(desk(folder).view("fx")).hash
    named = requested(desk(folder))
    question = {"instrument": "USD_SGD", "model": "old"}
    assert production.reads() == canary.reads() == (first, "production")
    status, before = production.post("/predict", question, named)
    assert status == 200, before

    define(folder, RANK)
    with (folder / "docs/changelog/features.md").open("a") as page:
        page.write("- `fx`: rank.\n")
    second = Manifest.of(desk(folder).view("fx")).hash
    promote_view(desk(folder), "fx", Silent(), initiated_by="ops", canary_only=True)
    canary.wait_until_it_reads(second, "canary")
    assert production.reads() == (first, "production")

    def same(server: Server) -> None:
        code, answer = server.post("/predict", question, named)
        assert code == 200, answer
        for key in ("prediction", "features_used", "feature_times", "manifest"):
            assert answer[key] == before[key]

    same(canary)
    same(production)
    promote_view(desk(folder), "fx", Silent(), initiated_by="ops")
    production.wait_until_it_reads(second, "production")
    same(production)

    # A model of the new manifest comes into production, beside the one of the old.
    shelf.models["new"] = model("new", requested(desk(folder)), ("rank", "ret"))
    code, loaded = production.post("/model/reload", {})
    assert (code, "new" in loaded["models"]) == (200, True), loaded
    newer = {"instrument": "USD_SGD", "model": "new"}
    code, answer = production.post("/predict", newer, requested(desk(folder)))
    assert code == 200, answer
    assert answer["features_used"]["ret"] == before["features_used"]["ret"]
    same(production)

    rollback_view(desk(folder), "fx", initiated_by="ops", reason="a doubt")
    production.wait_until_it_reads(first, "production")
    same(production)
    code, answer = production.post("/predict", newer, requested(desk(folder)))
    assert (code, answer["type"]) == (409, "urn:assay:problem:incomplete-features")


def test_an_unknown_hash_is_refused_and_counted(servers: tuple[Server, Server, Shelf]) -> None:
    production, _, _ = servers
    name = "assay_feature_manifest_mismatch_total"
    assert f'{name}{{route="/predict"}} 0' in production.metrics()
    question = {"instrument": "USD_SGD"}
    for number in range(1, 4):
        status, answer = production.post("/predict", question, f"{number:064d}")
        assert (status, answer["type"]) == (409, "urn:assay:problem:manifest-mismatch")
        assert answer["found"] == f"{number:064d}"
        assert f'{name}{{route="/predict"}} {number}' in production.metrics()
    status, _ = production.post("/inference/batch", {"batch": [[1.0, 2.0]]}, "f" * 64)
    assert status == 409
    assert f'{name}{{route="/inference/batch"}} 1' in production.metrics()
    assert f'{name}{{route="/inference/predict"}} 0' in production.metrics()
    assert f"# TYPE {name} counter" in production.metrics()


def test_a_pointer_changed_by_hand_stops_a_start_and_moves_no_running_server(
    folder: Path, servers: tuple[Server, Server, Shelf]
) -> None:
    production, _, _ = servers
    opened = desk(folder)
    path = opened.layout.active_manifests
    before = production.reads()
    path.write_text(path.read_text().replace(before[0], "e" * 64))
    with pytest.raises(Tampered, match="not what the log says"):
        DeskFeatures(desk(folder), canary=False)
    with pytest.raises(NotFound):
        production.sources.follow()
    assert production.reads() == before
    path.unlink()
    assert list_manifests(opened).rows[0].use == "active"
    assert path.exists()


def test_a_view_that_was_never_promoted_is_served_from_its_definition(folder: Path) -> None:
    from assay.orchestration.building import build_features

    opened = desk(folder)
    build_features(opened, "fx", Silent())
    sources = DeskFeatures(opened, canary=False)
    (source,) = sources.values()
    assert source.manifest == requested(opened)
    (row,) = source.rows(["USD_SGD"], NOW)
    assert row is not None
    assert row.manifest == requested(opened)
    ((name, _, _, labels, value),) = sources.samples()
    assert (name, value) == ("assay_feature_manifest_active", 1)
    assert labels["role"] == "definition"
    # It is promoted while it is being served: the same object answers from the namespace.
    promote_view(desk(folder), "fx", Silent(), initiated_by="ops", span=Span(event_times=4))
    sources.follow()
    (after,) = source.rows(["USD_SGD"], NOW)
    assert after is not None
    assert after.values.tobytes() == row.values.tobytes()
    assert "fx@" in source.state(NOW).detail


def test_the_service_of_a_desk_is_wired_to_what_is_in_use(folder: Path) -> None:
    opened = desk(folder)
    layout = ServingLayout(
        None,
        Limits(),
        Operation(),
        0,
        folder / "KILL",
        folder / "r",
        folder / "p",
        folder / "f",
    )
    with pytest.raises(NotFound, match="nothing is in production"):
        make_service(
            opened, layout, DeskFeatures(opened, canary=True), killed=False, process=1, version="0"
        )


def test_materializing_feeds_everything_that_servers_read_or_says_what_it_cannot(
    folder: Path,
) -> None:
    runner = CliRunner()

    def say(*words: str) -> str:
        result = runner.invoke(app, ["features", *words, "--desk", str(folder)])
        assert result.exit_code == 0, (words, result.output, result.exception)
        return result.stdout

    def fed(text: str) -> list[str]:
        return re.findall(r"^(fx\S*): \d+ commits", text, flags=re.MULTILINE)

    first = Manifest.of(desk(folder).view("fx")).hash[:12]
    # The canary alone reads the first manifest that is promoted: all others, what they did.
    say("promote", "fx", "--event-times", "6", "--canary-only", "--by", "ops")
    assert fed(say("materialize")) == ["fx", f"fx@{first}.1"]
    say("promote", "fx", "--by", "ops")
    said = say("materialize")
    assert (fed(said), "NOT FED" in said) == ([f"fx@{first}.1"], False)

    define(folder, RANK)
    with (folder / "docs/changelog/features.md").open("a") as page:
        page.write("- `fx`: rank.\n")
    second = Manifest.of(desk(folder).view("fx")).hash[:12]
    say("promote", "fx", "--canary-only", "--by", "ops")
    for said in (say("materialize"), say("status")):
        assert f"fx@{first}.1: NOT FED" in said
        assert "next: assay features promote fx" in said
    assert fed(say("materialize")) == [f"fx@{second}.2"]
    # Nor can rows of the old definition be proven by the new one, which is no reason for alarm.
    result = runner.invoke(app, ["parity", "run", "--desk", str(folder)])
    assert result.exit_code == 1
    assert "Nothing of fx could be proven" in result.stdout
    assert "assay kill" not in result.stdout


def test_the_commands_answer_in_words_and_in_json(folder: Path) -> None:
    runner = CliRunner()

    def say(*words: str, code: int = 0) -> str:
        result = runner.invoke(app, ["features", *words, "--desk", str(folder)])
        assert result.exit_code == code, (words, result.output, result.exception)
        return result.stdout

    def ask(*words: str) -> Any:
        return json.loads(say(*words, "--json"))

    digest = Manifest.of(desk(folder).view("fx")).hash
    assert "assay features promote fx" in say("manifests")
    assert ask("manifest", "fx")["published"] is None
    published = ask("manifest", "fx", "--publish", "--by", "ops")
    assert published["manifest"] == digest == published["published"]["manifest"]
    assert published["requests_name"] == requested(desk(folder))
    made = ask("promote", "fx", "--event-times", "6", "--canary-only", "--by", "ops")
    assert (made["everywhere"], made["manifest"]) == (False, digest)
    listed = ask("manifests", "fx")
    assert listed["underway"] == {"fx": "manifest.promote"}
    assert [row["use"] for row in listed["manifests"]] == ["canary"]
    assert "all read manifest" in say("promote", "fx", "--by", "ops")
    assert "is in use already" in say("promote", "fx", "--by", "ops")
    lines = say("manifests").splitlines()
    assert any(digest[:12] in line and "active, defined" in line for line in lines)
    assert max(map(len, lines[1:])) <= 80
    with pytest.raises(NotFound, match="before"):
        runner.invoke(
            app,
            [
                "features",
                "rollback-manifest",
                "fx",
                "--reason",
                "x",
                "--by",
                "ops",
                "--desk",
                str(folder),
            ],
            catch_exceptions=False,
        )


def test_rows_of_replaced_manifests_and_what_their_feed_kept_are_dropped(folder: Path) -> None:
    runner = CliRunner()

    def ask(*words: str) -> Any:
        result = runner.invoke(app, ["features", *words, "--desk", str(folder), "--json"])
        assert result.exit_code == 0, (words, result.output, result.exception)
        return json.loads(result.stdout)

    assert ask("gc")["rows"] == []
    names = []
    for number, more in enumerate(("", RANK, RANK + ', "last": mid')):
        define(folder, more)
        with (folder / "docs/changelog/features.md").open("a") as page:
            page.write(f"- `fx`: change {number}.\n")
        names.append(ask("promote", "fx", "--event-times", "4", "--by", "ops")["namespace"])
        ask("materialize", "fx")

    def kept_files() -> list[bool]:
        return [
            (folder / f"data/feeds/{name}.checkpoint").exists()
            and (folder / f"data/materialization/{name}/commits.ndjson").exists()
            for name in names
        ]

    assert kept_files() == [True] * 3
    assert all(row["keep"] for row in ask("gc", "--dry-run")["rows"]), "used a moment ago"
    wanted = ("gc", "fx", "--minutes", "0", "--by", "ops")
    planned = ask(*wanted, "--dry-run")
    assert kept_files() == [True] * 3
    done = ask(*wanted)
    assert done["rows"] == planned["rows"]
    assert {row["namespace"]: row["keep"] for row in done["rows"]} == dict(
        zip(names, (False, True, True), strict=True)
    )
    assert kept_files() == [False, True, True]
    assert [row["entities"] for row in done["rows"]] == [len(INSTRUMENTS)] * 3
    assert all(row["keep"] for row in ask(*wanted)["rows"])
    told = runner.invoke(app, ["features", "gc", "--desk", str(folder)]).stdout
    assert "0 of 2 dropped, the rows of 0 entities" in told
    assert "a rollback brings it back" in told
    ask("rollback-manifest", "fx", "--reason", "ranks", "--by", "ops")
    with pytest.raises(NotFound, match="no view 'xf'"):
        runner.invoke(app, ["features", "gc", "xf", "--desk", str(folder)], catch_exceptions=False)


def test_the_health_of_all_views_is_one_read_and_a_damaged_row_is_one_views_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "features/fy.py").write_text(
        VIEW.format(more=RANK).replace('"fx"', '"fy"').replace("fx =", "fy =")
    )
    with (folder / "docs/changelog/features.md").open("a") as page:
        page.write("- `fy`: first version.\n")
    for name in ("fx", "fy"):
        promote_view(desk(folder), name, Silent(), initiated_by="ops", span=Span(event_times=8))
    features = DeskFeatures(desk(folder), canary=False)
    one_by_one = {key: source.state(NOW) for key, source in features.items()}
    assert len(one_by_one) == 2
    assert all(state.reachable for state in one_by_one.values())
    store = features._opened()
    reads: list[tuple[str, int]] = []

    def counted(call: str, work: Any) -> Any:
        def count(asked: Any, *rest: Any) -> Any:
            reads.append((call, len(asked)))
            return work(asked, *rest)

        return count

    for call in ("read", "read_views"):
        monkeypatch.setattr(store, call, counted(call, getattr(store, call)))
    assert states_of(features, NOW) == one_by_one
    assert reads == [("read_views", 2)]
    assert states_of(dict(features), NOW) == one_by_one

    connection = sqlite3.connect(folder / "data/online.db")
    with connection:
        connection.execute("UPDATE online_rows SET packed = zeroblob(80) WHERE view LIKE 'fy@%'")
    connection.close()
    damaged = states_of(features, NOW)
    assert sorted(state.reachable for state in damaged.values()) == [False, True]
    assert damaged == {key: source.state(NOW) for key, source in features.items()}
