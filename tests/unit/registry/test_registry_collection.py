"""Nothing that anybody needs is collected, and what is collected leaves a record of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.domain.versions import Stage
from assay.errors import Conflict, ContractViolation, NotFound, Refused, Tampered
from assay.registry import ModelRegistry
from assay.registry.collection import bring_back, collect, hold, release
from assay.registry.folders import FolderArtifacts
from assay.registry.retention import Holding, Inventory, Retention
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    break_glass,
    make_candidate,
    make_registry,
    pass_gates,
)

T0 = 1_700_000_000_000_000_000
DAY = 86_400 * 10**9
SHORT = Retention(staged_days=10, failed_days=10, archived_days=10, rollbacks=2)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(T0)


@pytest.fixture
def registry(tmp_path: Path, clock: FixedClock) -> ModelRegistry:
    """1.0.0 to 1.4.0 were live one after the other, 1.5.0 failed, 1.6.0 to 1.8.0 are staged."""
    made = make_registry(tmp_path, clock)
    for minor in range(9):
        made.register(make_candidate(version=f"1.{minor}.0", bias=float(minor)))
    for minor in range(5):
        break_glass(made, "fx_vol", f"1.{minor}.0")
    made.fail("fx_vol", "1.5.0", initiated_by=AUTHOR, reason="wrong")
    pass_gates(made, "fx_vol", "1.7.0")
    return made


def collected(registry: ModelRegistry, retention: Retention = SHORT, **more: object) -> list[str]:
    found = collect(registry, retention, initiated_by=AUTHOR, **more)  # type: ignore[arg-type]
    return [one.version.version for one in found.collected]


def test_nothing_is_collected_before_its_time(registry: ModelRegistry, clock: FixedClock) -> None:
    clock.advance(10 * DAY - 1)
    assert collected(registry) == []
    clock.advance(1)
    assert collected(registry) == ["1.0.0", "1.1.0", "1.5.0", "1.6.0", "1.8.0"]


def test_what_is_live_held_needed_for_a_rollback_promotable_or_referenced_stays_for_ever(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    hold(registry, "fx_vol", "1.0.0", initiated_by=FIRST_APPROVER, reason="audit of 2026")
    clock.advance(10_000 * DAY)
    found = collect(
        registry, SHORT, initiated_by=AUTHOR,
        references={("fx_vol", "1.8.0"): "loaded by server a"},
    )  # fmt: skip
    why = {one.version.version: one.why for one in found.holdings if not one.collect}
    assert set(why) == {"1.0.0", "1.2.0", "1.3.0", "1.4.0", "1.7.0", "1.8.0"}
    assert "held by first.approver" in why["1.0.0"]
    assert "audit of 2026" in why["1.0.0"]
    assert why["1.2.0"] == why["1.3.0"] == "a rollback can return to it"
    assert "in production" in why["1.4.0"]
    assert "may be promoted" in why["1.7.0"]
    assert why["1.8.0"] == "loaded by server a"
    assert registry.verify_log().ok
    registry.rollback("fx_vol", "1.3.0", withdraw="1.4.0", initiated_by=AUTHOR, reason="drift")
    assert registry.open_production("fx_vol").version == "1.3.0"


def test_a_dry_run_says_the_same_and_changes_nothing(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    clock.advance(20 * DAY)
    head = registry.journal.ledger.head()
    planned = collect(registry, SHORT, initiated_by=AUTHOR, dry_run=True)
    assert registry.journal.ledger.head() == head
    assert all(registry.validate("fx_vol", f"1.{minor}.0").ok for minor in range(9))
    done = collect(registry, SHORT, initiated_by=AUTHOR)
    assert [one.to_json() for one in planned.holdings] == [one.to_json() for one in done.holdings]
    assert done.freed > 0
    again = collect(registry, SHORT, initiated_by=AUTHOR)
    assert again.collected == ()
    assert again.freed == 0


def test_a_collected_version_is_gone_in_words_and_keeps_its_past(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    before = registry.live_at("fx_vol", T0)
    clock.advance(20 * DAY)
    assert "1.0.0" in collected(registry)
    for ask in (registry.validate, registry.open_version):
        with pytest.raises(NotFound, match=r"collected at .* by author .* archived for 20 days"):
            ask("fx_vol", "1.0.0")
    assert registry.get("fx_vol", "1.0.0").stage is Stage.ARCHIVED
    assert registry.live_at("fx_vol", T0) == before
    assert registry.verify_log().ok
    assert not list(FolderArtifacts(registry.root).folder("fx_vol", "1.0.0").parent.glob("1.0.0"))
    assert registry.evidence("fx_vol", "1.7.0")


def test_a_version_that_is_gone_without_having_been_collected_is_still_named(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    clock.advance(20 * DAY)
    collect(registry, SHORT, initiated_by=AUTHOR)
    record = registry.get("fx_vol", "1.7.0")
    registry.journal.artifacts.remove("fx_vol", "1.7.0", record.digest)
    (problem,) = registry.verify_log().problems
    assert "fx_vol 1.7.0 is gone" in problem.detail


def test_files_come_back_as_they_were_and_no_others(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    files = dict(registry.open_version("fx_vol", "1.0.0").files)
    other = dict(registry.open_version("fx_vol", "1.1.0").files)
    clock.advance(20 * DAY)
    collect(registry, SHORT, initiated_by=AUTHOR)
    wrong = files | {"CHANGES.md": b"Another.\n"}
    for given in (other, wrong, {}, {"a": b""}):
        with pytest.raises(Tampered):
            bring_back(registry, "fx_vol", "1.0.0", given, initiated_by=AUTHOR, reason="audit")
    assert bring_back(registry, "fx_vol", "1.0.0", files, initiated_by=AUTHOR, reason="audit")
    assert registry.open_version("fx_vol", "1.0.0").files == files
    assert registry.collected(registry.get("fx_vol", "1.0.0")) is None
    again = bring_back(registry, "fx_vol", "1.0.0", files, initiated_by=AUTHOR, reason="audit")
    assert again is None
    assert registry.verify_log().ok
    assert collected(registry) == ["1.0.0"]  # nobody holds it


def test_a_damaged_version_is_replaced_by_its_files(registry: ModelRegistry) -> None:
    files = dict(registry.open_version("fx_vol", "1.2.0").files)
    path = FolderArtifacts(registry.root).folder("fx_vol", "1.2.0") / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(b"x")
    assert bring_back(registry, "fx_vol", "1.2.0", files, initiated_by=AUTHOR, reason="disk")
    assert registry.open_version("fx_vol", "1.2.0").files == files
    assert registry.verify_log().ok


def test_a_hold_has_one_holder_and_both_it_and_its_end_have_a_reason(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    with pytest.raises(Refused, match="a hold needs a reason"):
        hold(registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, reason=" ")
    with pytest.raises(Conflict, match="is not held"):
        release(registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, reason="over")
    hold(registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, reason="audit")
    with pytest.raises(Conflict, match="is held by author"):
        hold(registry, "fx_vol", "1.0.0", initiated_by=FIRST_APPROVER, reason="audit")
    with pytest.raises(Refused, match="a release needs a reason"):
        release(registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, reason="")
    clock.advance(20 * DAY)
    assert "1.0.0" not in collected(registry)
    release(registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, reason="over")
    assert collected(registry) == ["1.0.0"]
    with pytest.raises(NotFound, match="were collected"):
        hold(registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, reason="too late")


def test_what_a_killed_collection_left_is_removed_by_the_next(
    registry: ModelRegistry, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(20 * DAY)
    with monkeypatch.context() as patch:

        def die(*_: object) -> int:
            raise KeyboardInterrupt

        patch.setattr(FolderArtifacts, "remove", die)
        with pytest.raises(KeyboardInterrupt):
            collect(registry, SHORT, initiated_by=AUTHOR)
    assert registry.verify_log().ok
    assert FolderArtifacts(registry.root).folder("fx_vol", "1.0.0").is_dir()
    assert "1.0.0" not in collected(registry)
    assert not FolderArtifacts(registry.root).folder("fx_vol", "1.0.0").exists()


def test_two_collections_at_once_collect_each_version_once(
    registry: ModelRegistry, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.advance(10 * DAY)
    planned = Inventory.holdings

    def then_another(self: Inventory) -> tuple[Holding, ...]:
        found = planned(self)
        monkeypatch.setattr(Inventory, "holdings", planned)
        assert collected(registry) == ["1.0.0", "1.1.0", "1.5.0", "1.6.0", "1.8.0"]
        return found

    monkeypatch.setattr(Inventory, "holdings", then_another)
    assert collected(registry) == []
    assert registry.verify_log().ok


def test_a_retention_that_keeps_nothing_is_refused() -> None:
    for wrong in ({"staged_days": 0}, {"failed_days": -1}, {"rollbacks": 0}):
        with pytest.raises(ContractViolation, match="retention"):
            Retention(**wrong)


def test_what_was_decided_is_plain_json(registry: ModelRegistry, clock: FixedClock) -> None:
    clock.advance(20 * DAY)
    document = collect(registry, SHORT, initiated_by=AUTHOR, dry_run=True).to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["dry_run"] is True
    assert sum(one["collect"] for one in document["versions"]) == 5
