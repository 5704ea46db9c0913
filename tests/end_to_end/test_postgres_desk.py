"""The desk on PostgreSQL: one line of assay.yaml, the same demo, the same answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.long

_MADE = ("data", "artifacts", "observability", "reports")


def test_the_demo_runs_on_a_registry_in_postgresql(
    travelled: tuple[Path, Any, Any], tmp_path: Path, shell: Any, postgres_url: str
) -> None:
    folder, first, _ = travelled
    desk = tmp_path / folder.name
    shutil.copytree(folder, desk, symlinks=True, ignore=shutil.ignore_patterns(*_MADE))
    at = ("--desk", str(desk))
    path = desk / "assay.yaml"
    document = yaml.safe_load(path.read_text())
    document["registry"]["catalogue"] = postgres_url
    path.write_text(yaml.safe_dump(document))

    made = shell.json("demo", *at)

    assert made["replay"]["features"] == first["replay"]["features"]
    assert made["replay"]["requests"]["error_count"] == 0
    assert shell.json("audit", "verify", *at)["ok"]
    assert not [*desk.glob("data/models/log/events.jsonl")]
    assert not [*desk.glob("data/models/registry.db")]

    question = "select model, type, to_version, outcome from events order by seq"
    there = shell.json("models", "sql", question, *at)
    in_file = shell.json("models", "sql", question, "--desk", str(folder))
    # The demo that was run twice in the file has nothing to add the second time.
    assert there == in_file
    export = desk / "observability/audit/model_events.jsonl"
    assert len(export.read_bytes().splitlines()) == len(there)
    for log in (desk / "artifacts").rglob("*.log"):
        assert "Traceback" not in log.read_text()
