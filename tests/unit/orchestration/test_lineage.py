"""The lineage of a version names what there is, and says what is gone or is something else."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from assay.bootstrap import open_desk
from assay.domain.instants import parse, render
from assay.domain.verdicts import Verdict
from assay.errors import ContractViolation
from assay.orchestration.lineage import (
    check_lineage,
    lineage_events,
    lineage_of,
    lineage_svg,
)
from assay.orchestration.modelling import register_run, train_recipe
from assay.registry.lineage import LineageGraph, Node, NodeKind
from assay.testing.clocks import FixedClock

NOW = parse("2024-06-02T12:00Z")


class Silent:
    def event(self, text: str) -> None:
        pass


def desk_in(folder: Path):
    return open_desk(folder, clock=FixedClock(NOW))


def failing(folder: Path, version: str = "1.0.0") -> dict[str, str]:
    found = check_lineage(desk_in(folder), "fx_vol", version)
    assert found.ok == (not any(one.verdict is Verdict.FAIL for one in found.findings))
    return {one.what: one.detail for one in found.findings if one.verdict is Verdict.FAIL}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=quant", "-c", "user.email=quant@desk.example")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_every_node_is_the_thing_that_its_hash_names(trained: Path) -> None:
    graph = lineage_of(desk_in(trained), "fx_vol", "1.0.0")
    by_kind = {kind: graph.of_kind(kind) for kind in NodeKind}
    # What is on the disk, read without the code that made the graph.
    for table in ("silver/market", "gold/fx_daily"):
        current = (trained / f"data/{table}/current").read_text().strip()
        listing = (trained / f"data/{table}/snapshots/{current}.json").read_bytes()
        assert hashlib.sha256(listing).hexdigest() == current
        (node,) = [one for one in by_kind[NodeKind.SNAPSHOT] if one.name == table]
        assert node.digest == current
        rows = sum(file[3] for file in json.loads(listing)["files"])
        assert node.facts["rows"] == rows
    (manifest,) = by_kind[NodeKind.MANIFEST]
    published = (trained / f"data/manifests/{manifest.digest}.json").read_bytes()
    assert hashlib.sha256(published).hexdigest() == manifest.digest
    (version,) = by_kind[NodeKind.VERSION]
    folder = trained / "data/models/artifacts/fx_vol/1.0.0"
    sealed = (folder / "manifest.json").read_bytes()
    assert version.digest == hashlib.sha256(sealed).hexdigest()
    stated = json.loads((folder / "metadata.json").read_bytes())
    (training_set,) = by_kind[NodeKind.TRAINING_SET]
    assert training_set.digest == stated["training_set_digest"]
    (run,) = by_kind[NodeKind.RUN]
    assert run.id == f"run {stated['parent_run']}"
    (source,) = by_kind[NodeKind.SOURCE]
    lines = (trained / "data/bronze/commits.ndjson").read_text().splitlines()
    assert source.facts["facts"] == sum(json.loads(line)["count"] for line in lines)
    assert all(node.found for node in graph.nodes)


def test_the_way_from_raw_facts_to_the_version_is_whole(trained: Path) -> None:
    document = lineage_of(desk_in(trained), "fx_vol", "1.0.0").to_json()
    edges = {(one["from"], one["to"]) for one in document["edges"]}
    reached = {"source ecb"}
    for _ in edges:
        reached |= {to for start, to in edges if start in reached}
    assert "version fx_vol/1.0.0" in reached
    assert {one.split()[0] for one in reached} == {
        "source", "snapshot", "training", "run", "version",
    }  # fmt: skip


def test_a_lineage_that_is_whole_holds(trained: Path) -> None:
    found = check_lineage(desk_in(trained), "fx_vol", "1.0.0")
    assert found.ok
    said = {one.what: one.verdict for one in found.findings}
    assert said.pop("git") is Verdict.INDETERMINATE
    assert set(said.values()) == {Verdict.PASS}
    assert {"version 1.0.0", "registration", "training set", "model.onnx", "rows"} <= set(said)


def test_what_is_gone_or_changed_is_named(copied: Path) -> None:
    silver = next((copied / "data/silver/market/files").glob("*.parquet"))
    data = silver.read_bytes()
    silver.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (what,) = failing(copied)
    assert what.startswith("silver/market")
    silver.write_bytes(data)
    assert failing(copied) == {}

    (manifest,) = (copied / "data/manifests").glob("*.json")
    text = manifest.read_bytes()
    manifest.unlink()
    assert {one.split()[0] for one in failing(copied)} == {"manifest"}
    (node,) = lineage_of(desk_in(copied), "fx_vol", "1.0.0").of_kind(NodeKind.MANIFEST)
    assert not node.found
    assert node.digest == manifest.stem, "its name stays"
    manifest.write_bytes(text.replace(b"fx_daily", b"fx_diary"))
    assert {one.split()[0] for one in failing(copied)} == {"manifest"}
    manifest.write_bytes(text)

    (run,) = (copied / "artifacts/runs").glob("*/run.json")
    record = run.read_text()
    run.write_text(record.replace('"rows":', '"rows": 1,"x":', 1))
    assert {one.split()[0] for one in failing(copied)} == {"run"}
    run.unlink()
    assert "is not there" in next(iter(failing(copied).values()))
    run.write_text(record)
    predictions = run.with_name("predictions.parquet")
    predictions.write_bytes(b"others")
    assert "has changed since the run" in next(iter(failing(copied).values()))


def test_a_changed_version_is_named_and_nothing_else_is_claimed(copied: Path) -> None:
    path = copied / "data/models/artifacts/fx_vol/1.0.0/metadata.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"rows"', b'"Rows"', 1))
    found = failing(copied)
    assert list(found) == ["version 1.0.0"]
    assert "metadata.json" in found["version 1.0.0"]


def test_code_is_a_commit_and_what_was_not_committed_at_training(copied: Path) -> None:
    git(copied, "init", "-q")
    git(copied, "add", "-A")
    git(copied, "commit", "-q", "-m", "desk")
    commit = git(copied, "rev-parse", "HEAD")
    recipe = copied / "models/fx_vol.py"
    recipe.write_text(recipe.read_text() + "# not committed \n")
    desk = desk_in(copied)
    run = train_recipe(desk, "fx_vol_baseline", Silent(), known_by=parse("2021-03-01T00:00Z"))
    recipe.write_text(recipe.read_text().replace("# not committed \n", ""))
    made = register_run(desk, run, author="quant")
    metadata = desk.registry.metadata("fx_vol", made.version)
    assert metadata.git_commit == f"{commit}+changes", "as it was trained, not as registered"
    assert metadata.environment["git"]["changes"] == 1
    assert re.fullmatch("[0-9a-f]{64}", metadata.environment["git"]["changes_sha256"])
    (node,) = lineage_of(desk, "fx_vol", made.version).of_kind(NodeKind.CODE)
    assert node.facts == {"commit": commit, "dirty": True, "changes": 1}
    found = {one.what: one for one in check_lineage(desk, "fx_vol", made.version).findings}
    assert found[f"commit {commit[:12]}"].verdict is Verdict.PASS
    assert found["working tree"].detail == "1 files differed from the commit at training"
    # Somebody's copy of the desk with another history.
    (copied / ".git").rename(copied / "elsewhere")
    git(copied, "init", "-q")
    assert list(failing(copied, made.version)) == [f"commit {commit[:12]}"]


def test_a_version_made_before_changes_were_counted_still_says_that_there_were_some() -> None:
    from assay.orchestration.lineage.gathering import git_of
    from assay.registry import ModelMetadata

    metadata = ModelMetadata(
        "fx_vol", "1.0.0", "risk_model", NOW, "quant", git_commit="ab" * 20 + "+changes"
    )
    assert git_of(metadata) == {"dirty": True, "changes": None}


EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["eventType", "eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
        "producer": {"type": "string", "pattern": r"^[a-z]+:\S+$"},
        "schemaURL": {
            "const": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
        },
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {"runId": {"pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}},
        },
        "job": {"$ref": "#/$defs/named"},
        "inputs": {"type": "array", "items": {"$ref": "#/$defs/dataset"}},
        "outputs": {"type": "array", "items": {"$ref": "#/$defs/dataset"}},
    },
    "additionalProperties": False,
    "$defs": {
        "named": {
            "type": "object",
            "required": ["namespace", "name"],
            "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}},
        },
        "facet": {
            "type": "object",
            "required": ["_producer", "_schemaURL"],
            "properties": {"_schemaURL": {"pattern": "^https://openlineage.io/spec/facets/"}},
        },
        "dataset": {
            "allOf": [{"$ref": "#/$defs/named"}],
            "properties": {
                "facets": {
                    "properties": {
                        "version": {"required": ["datasetVersion"]},
                        "schema": {
                            "properties": {"fields": {"items": {"required": ["name"]}}},
                        },
                    },
                    "additionalProperties": {"$ref": "#/$defs/facet"},
                }
            },
        },
    },
}


def test_openlineage_events_have_the_shape_of_the_specification(trained: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    desk = desk_in(trained)
    graph = lineage_of(desk, "fx_vol", "1.0.0")
    registered = desk.registry.get("fx_vol", "1.0.0").registered_at
    events = lineage_events(graph, "fx desk", registered)
    for event in events:
        jsonschema.validate(event, EVENT)
        for data in [*event["inputs"], *event["outputs"]]:
            for facet in data["facets"].values():
                jsonschema.validate(facet, EVENT["$defs"]["facet"])
    assert events == lineage_events(graph, "fx desk", registered), "told again, the same runs"
    assert len({event["run"]["runId"] for event in events}) == len(events) == 4
    # Each step reads what a step before it made, and the last one made the model.
    made: set[tuple[str, str]] = set()
    for event in events:
        inputs = {(d["name"], d["facets"]["version"]["datasetVersion"]) for d in event["inputs"]}
        assert {one for one in inputs if not one[0].startswith("bronze/")} <= made
        made |= {(d["name"], d["facets"]["version"]["datasetVersion"]) for d in event["outputs"]}
    assert events[-1]["outputs"][0]["name"] == "models/fx_vol"
    assert events[-1]["eventTime"] == render(registered)
    columns = {field["name"] for field in events[0]["outputs"][0]["facets"]["schema"]["fields"]}
    assert {"instrument", "event_time", "known_time", "mid"} <= columns


def test_pictures_show_every_node(trained: Path) -> None:
    graph = lineage_of(desk_in(trained), "fx_vol", "1.0.0")
    shown = {text.text for text in ET.fromstring(lineage_svg(graph)).iter() if text.text}
    assert {node.name for node in graph.nodes} <= shown
    dot = graph.to_dot()
    edges = graph.to_json()["edges"]
    assert dot.count(" -> ") == len(edges)
    assert all(f'"{node.id}" [label=' in dot for node in graph.nodes)


def test_a_graph_in_which_something_reads_what_is_not_there_is_refused() -> None:
    first = Node("a", NodeKind.SOURCE, "a")
    second = Node("b", NodeKind.RUN, "b", reads={"a": "from"})
    assert LineageGraph("m", "1.0.0", (first, second)).of_kind(NodeKind.RUN) == (second,)
    for nodes in ((second, first), (first, first)):
        with pytest.raises(ContractViolation, match="lineage node"):
            LineageGraph("m", "1.0.0", nodes)
