"""Entries about manifests: chained with everything else, signed, and never on top of the unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.errors import Conflict, ContractViolation
from assay.registry import EventOutcome, EventType, ModelRegistry
from assay.registry.lifecycle import MANIFEST_EVENTS, MANIFEST_MOVES, MOVES
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, make_keys

START = 1_700_000_000 * 10**9


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(
        tmp_path / "models", make_keys(tmp_path), FixedClock(START),
        audit_path=tmp_path / "audit.jsonl",
    )  # fmt: skip


def record(registry: ModelRegistry, event: EventType, after: int, view: str = "fx") -> int:
    return registry.record_manifest(
        event, view, "a" * 64, after=after, initiated_by=AUTHOR, evidence={"x": 1}
    ).seq


def test_entries_of_a_view_are_found_again_and_exported(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    first = record(registry, EventType.MANIFEST_BEGIN, 0)
    record(registry, EventType.MANIFEST_BEGIN, 0, view="other")
    record(registry, EventType.MANIFEST_PUBLISH, first)
    assert [entry.seq for entry in registry.manifest_events("fx")] == [1, 3]
    assert [entry.seq for entry in registry.manifest_events()] == [1, 2, 3]
    assert [entry.seq for entry in registry.latest(2)] == [2, 3]
    assert registry.latest(99) == registry.manifest_events()
    assert {entry.model for entry in registry.manifest_events()} == {
        "features/fx",
        "features/other",
    }
    exported = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["type"] for line in exported] == [
        "manifest.begin", "manifest.begin", "manifest.publish",
    ]  # fmt: skip
    assert registry.names() == ()
    assert registry.verify_log().ok


def test_nothing_is_recorded_on_top_of_what_the_caller_has_not_seen(
    registry: ModelRegistry,
) -> None:
    first = record(registry, EventType.MANIFEST_BEGIN, 0)
    for stale in (0, 99):
        with pytest.raises(Conflict, match=f"log entry {first}"):
            record(registry, EventType.MANIFEST_PUBLISH, stale)
    assert len(registry.manifest_events()) == 1


def test_an_event_about_a_version_is_no_event_about_a_manifest(registry: ModelRegistry) -> None:
    for event in EventType:
        if event not in MANIFEST_EVENTS:
            with pytest.raises(ContractViolation, match="expected one of manifest"):
                record(registry, event, 0)
    assert not set(MANIFEST_EVENTS) & MOVES
    assert set(MANIFEST_EVENTS) >= MANIFEST_MOVES


def test_what_changes_the_manifest_in_use_is_followed_by_a_signed_head(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    heads = tmp_path / "models/log/heads"
    last = record(registry, EventType.MANIFEST_BEGIN, 0)
    assert not heads.exists()
    last = record(registry, EventType.MANIFEST_CANARY, last)
    assert [path.stem for path in heads.iterdir()] == [f"{last:012d}"]
    registry.record_manifest(
        EventType.MANIFEST_PROMOTE, "fx", "a" * 64, after=last, initiated_by=AUTHOR,
        evidence={}, outcome=EventOutcome.FAILED, reason="no",
    )  # fmt: skip
    assert len(list(heads.iterdir())) == 1, "what failed changed nothing"
    report = registry.verify_log()
    assert (report.ok, report.signed_up_to) == (True, last)


def test_a_rebuilt_index_knows_the_same_entries(registry: ModelRegistry) -> None:
    record(registry, EventType.MANIFEST_BEGIN, 0)
    before = registry.manifest_events()
    registry.rebuild()
    assert registry.manifest_events() == before
