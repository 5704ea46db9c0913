"""What runs beside the champion follows from the log, and from nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import onnxruntime
import pytest

from assay.delivery.deployments import end_canary, start_canary, start_shadow, stop_shadow
from assay.delivery.live import RegistryLiveSource
from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.errors import AssayError, Conflict, ContractViolation, NotFound, Refused, Tampered
from assay.registry import EventType, ModelRegistry
from assay.registry.deployments import deployments_of, record_deployment
from assay.serving import Runtime
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, make_candidate, make_registry

T0 = 1_700_000_000 * 10**9


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """1.0.0 archived, 1.1.0 in production, 1.2.0 and 1.3.0 staged."""
    made = make_registry(tmp_path, FixedClock(T0))
    for index in range(4):
        made.register(make_candidate(version=f"1.{index}.0", weights=(index, 1)))
    for version in ("1.0.0", "1.1.0"):
        promote(made, version)
    return made


def promote(registry: ModelRegistry, version: str) -> None:
    break_glass(
        registry, "fx_vol", version, initiated_by=AUTHOR, reason="test", clock=registry.clock,
        monotonic=time.monotonic,
    )  # fmt: skip


def shadow(registry: ModelRegistry, version: str) -> None:
    start_shadow(
        registry, "fx_vol", version, initiated_by=AUTHOR, reason="test", monotonic=time.monotonic
    )


def canary(registry: ModelRegistry, version: str, share: float = 0.1) -> None:
    start_canary(
        registry, "fx_vol", version, share=share, initiated_by=AUTHOR, reason="test",
        monotonic=time.monotonic,
    )  # fmt: skip


def test_several_challengers_run_at_once_and_servers_are_told(registry: ModelRegistry) -> None:
    source = RegistryLiveSource(lambda: registry, registry.root, monotonic=time.monotonic)
    before = source.pointer()
    shadow(registry, "1.2.0")
    after = source.pointer()
    assert after != before
    shadow(registry, "1.0.0")
    canary(registry, "1.3.0", 0.25)
    assert source.pointer() not in (before, after)
    now = deployments_of(registry, "fx_vol")
    assert (now.champion, set(now.shadows)) == ("1.1.0", {"1.2.0", "1.0.0"})
    assert now.canary is not None
    assert (now.canary.version, now.canary.share, now.canary.champion) == ("1.3.0", 0.25, "1.1.0")
    beside = {(one.version, one.share) for one in source.deployed()}
    assert beside == {("1.2.0", 0.0), ("1.0.0", 0.0), ("1.3.0", 0.25)}
    assert source.load_version("fx_vol", "1.3.0").digest == now.canary.digest
    report = registry.verify_log()
    assert report.ok
    assert report.signed_up_to == report.entries


def test_a_shadow_and_a_canary_of_one_version_run_once(registry: ModelRegistry) -> None:
    shadow(registry, "1.2.0")
    canary(registry, "1.2.0")
    source = RegistryLiveSource(lambda: registry, registry.root, monotonic=time.monotonic)
    assert [(one.version, one.share) for one in source.deployed()] == [("1.2.0", 0.1)]


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is a card"
)
def test_a_challenger_is_run_as_the_champion_is(registry: ModelRegistry) -> None:
    source = RegistryLiveSource(
        lambda: registry, registry.root, monotonic=time.monotonic, runtime=Runtime(cuda=True)
    )
    for load in (lambda: source.load("fx_vol"), lambda: source.load_version("fx_vol", "1.3.0")):
        with pytest.raises(AssayError, match="CUDA"):
            load()


def test_what_ended_is_gone_and_a_rebuilt_catalogue_says_the_same(registry: ModelRegistry) -> None:
    shadow(registry, "1.2.0")
    canary(registry, "1.3.0")
    stop_shadow(registry, "fx_vol", "1.2.0", initiated_by=AUTHOR, reason="seen enough")
    end_canary(registry, "fx_vol", initiated_by=AUTHOR, reason="seen enough")
    now = deployments_of(registry, "fx_vol")
    assert (now.shadows, now.canary) == ({}, None)
    registry.rebuild()
    assert deployments_of(registry, "fx_vol") == now
    assert registry.resolve("fx_vol").version == "1.1.0"


def test_a_new_champion_begins_the_canarys_analysis_anew(registry: ModelRegistry) -> None:
    canary(registry, "1.3.0")
    first = deployments_of(registry, "fx_vol").canary
    promote(registry, "1.2.0")
    second = deployments_of(registry, "fx_vol").canary
    assert first is not None
    assert second is not None
    assert (first.champion, second.champion) == ("1.1.0", "1.2.0")
    assert second.revision > first.revision
    assert (second.salt, second.share) == (first.salt, first.share)
    rollback(registry, "fx_vol", reason="test", initiated_by=AUTHOR, monotonic=time.monotonic)
    third = deployments_of(registry, "fx_vol").canary
    assert third is not None
    assert third.revision > second.revision


def test_a_version_that_is_promoted_or_failed_is_no_challenger_any_more(
    registry: ModelRegistry,
) -> None:
    shadow(registry, "1.2.0")
    shadow(registry, "1.3.0")
    canary(registry, "1.2.0")
    promote(registry, "1.2.0")
    registry.fail("fx_vol", "1.3.0", initiated_by=AUTHOR, reason="test")
    now = deployments_of(registry, "fx_vol")
    assert (now.champion, now.shadows, now.canary) == ("1.2.0", {}, None)


def test_a_breach_is_asked_for_in_the_log_and_production_stays(registry: ModelRegistry) -> None:
    canary(registry, "1.3.0")
    end_canary(
        registry, "fx_vol", initiated_by=AUTHOR, reason="harm", finding={"verdict": "FAIL"},
        requested=True,
    )  # fmt: skip
    asked, ended = registry.history("fx_vol")[-2:]
    assert (asked.type, asked.to_version) == (EventType.ROLLBACK_REQUESTED, "1.3.0")
    assert (ended.type, ended.reason) == (EventType.CANARY_END, "harm")
    assert asked.evidence["finding"] == {"verdict": "FAIL"}
    assert registry.resolve("fx_vol").version == "1.1.0"
    assert registry.rollback_target("fx_vol").version == "1.0.0"


def test_a_canary_is_not_ended_for_another_ones_revision(registry: ModelRegistry) -> None:
    canary(registry, "1.3.0")
    first = deployments_of(registry, "fx_vol").canary
    assert first is not None
    promote(registry, "1.2.0")  # the analysis begins anew
    entries = len(registry.history("fx_vol"))
    said = {"initiated_by": AUTHOR, "reason": "harm"}
    with pytest.raises(Conflict, match=f"expected revision {first.revision}"):
        end_canary(registry, "fx_vol", revision=first.revision, requested=True, **said)
    with pytest.raises(Conflict, match="began anew"):
        record_deployment(
            registry, EventType.CANARY_END, "fx_vol", "1.3.0", revision=first.revision, **said
        )
    assert len(registry.history("fx_vol")) == entries
    second = deployments_of(registry, "fx_vol").canary
    assert second is not None
    ended = end_canary(registry, "fx_vol", revision=second.revision, **said)
    assert ended.evidence["revision"] == second.revision
    assert deployments_of(registry, "fx_vol").canary is None


@pytest.mark.parametrize("share", [0.0, -0.1, 0.51, float("nan")])
def test_a_share_that_is_none_is_refused(registry: ModelRegistry, share: float) -> None:
    with pytest.raises(ContractViolation, match="share"):
        canary(registry, "1.3.0", share)


def test_what_cannot_be_a_challenger_is_refused_and_leaves_no_trace(
    registry: ModelRegistry,
) -> None:
    registry.fail("fx_vol", "1.2.0", initiated_by=AUTHOR, reason="test")
    entries = len(registry.history("fx_vol"))
    with pytest.raises(Refused, match="is production"):
        shadow(registry, "1.1.0")
    with pytest.raises(Refused, match="is failed"):
        canary(registry, "1.2.0")
    with pytest.raises(NotFound):
        shadow(registry, "9.0.0")
    with pytest.raises(Refused, match="not in shadow"):
        stop_shadow(registry, "fx_vol", "1.3.0", initiated_by=AUTHOR, reason="test")
    with pytest.raises(NotFound, match="no canary"):
        end_canary(registry, "fx_vol", initiated_by=AUTHOR, reason="test")
    with pytest.raises(ContractViolation, match="needs a reason"):
        record_deployment(
            registry, EventType.SHADOW_START, "fx_vol", "1.3.0", initiated_by=AUTHOR, reason=" "
        )
    assert len(registry.history("fx_vol")) == entries


def test_a_challenger_whose_bytes_changed_does_not_begin(registry: ModelRegistry) -> None:
    path = registry.root / "artifacts" / "fx_vol" / "1.3.0" / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Tampered, match=r"model\.onnx"):
        shadow(registry, "1.3.0")
    assert deployments_of(registry, "fx_vol").shadows == {}


def test_two_people_who_begin_at_once_do_not_both(registry: ModelRegistry) -> None:
    seen = deployments_of(registry, "fx_vol").last
    shadow(registry, "1.2.0")
    with pytest.raises(Conflict, match="meanwhile"):
        record_deployment(
            registry, EventType.SHADOW_START, "fx_vol", "1.3.0", initiated_by=AUTHOR,
            reason="test", after=seen,
        )  # fmt: skip
    canary(registry, "1.3.0")
    with pytest.raises(Refused, match="is the canary already"):
        canary(registry, "1.2.0")
