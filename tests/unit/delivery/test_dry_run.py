"""A changed policy over past versions, and evidence that expires before it is promoted."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from assay.delivery.approvals import approve
from assay.delivery.dry_run import dry_run
from assay.delivery.gates import evaluate
from assay.delivery.judging import judge
from assay.delivery.policy import Policy
from assay.delivery.policy_files import parse_policy
from assay.delivery.promotion import promote
from assay.domain.evidence import Evidence
from assay.domain.provenance import Provenance
from assay.domain.verdicts import Outcome, Verdict
from assay.errors import ContractViolation, NotFound
from assay.registry import ModelRegistry, PromotionGateError
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    break_glass,
    make_candidate,
    make_registry,
)

T0 = 1_700_000_000_000_000_000
DAY = 86_400 * 10**9


def policy(**gates: object) -> Policy:
    return parse_policy({"kinds": {"risk_model": {"gates": gates}}}, source="gates.yaml")


def above(threshold: float, severity: str = "hard", **more: object) -> dict[str, object]:
    return {"rule": ">", "threshold": threshold, "severity": severity, **more}


def measured(name: str, value: float, at: int) -> Evidence:
    origin = Provenance(
        measured_at=at, convention_id=f"{name}/1", model_digest="m", snapshots={"gold/x": "s"}
    )
    return Evidence(name, value, 500, "a convention", provenance=origin)


def record(registry: ModelRegistry, version: str, *pieces: Evidence) -> None:
    digest = registry.get("fx_vol", version).digest
    own = [
        one if one.provenance is None
        else replace(one, provenance=replace(one.provenance, model_digest=digest))
        for one in pieces
    ]  # fmt: skip
    registry.record_evidence("fx_vol", version, own, initiated_by=AUTHOR)


def judged(registry: ModelRegistry, version: str, under: Policy, *pieces: Evidence) -> Outcome:
    record(registry, version, *pieces)
    return judge(registry, under, "fx_vol", version, initiated_by=AUTHOR).outcome


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    made = make_registry(tmp_path, FixedClock(T0))
    made.register(make_candidate(version="1.0.0"))
    made.register(make_candidate(version="1.1.0", bias=2.0))
    return made


def test_a_stricter_policy_says_which_past_verdicts_would_be_others_and_writes_nothing(
    registry: ModelRegistry,
) -> None:
    loose = policy(ic=above(0.02), rank_ic=above(0.02, "soft"))
    assert judged(registry, "1.0.0", loose, measured("ic", 0.03, T0)) is Outcome.PROMOTABLE
    assert judged(registry, "1.1.0", loose, measured("ic", 0.05, T0)) is Outcome.PROMOTABLE
    entries = registry.history("fx_vol")
    strict = policy(ic=above(0.04), significance=above(0.0))
    first, second = dry_run(registry, strict)
    assert (first.before, first.after) == (Outcome.PROMOTABLE, Outcome.REFUSED)
    assert (second.before, second.after) == (Outcome.PROMOTABLE, Outcome.NOT_YET)
    changes = {change.gate: change for change in first.changes}
    assert changes["ic"].before is Verdict.PASS
    assert changes["ic"].after is Verdict.FAIL
    assert changes["rank_ic"].after is None
    assert changes["rank_ic"].reason == "not in this policy"
    assert (changes["significance"].before, changes["significance"].after) == (
        None,
        Verdict.INDETERMINATE,
    )
    assert [one.differs for one in dry_run(registry, loose)] == [False, False]
    assert registry.history("fx_vol") == entries


def test_versions_are_judged_as_they_were_then_with_the_champion_and_the_evidence_of_then(
    registry: ModelRegistry,
) -> None:
    compared = policy(
        better={
            "evidence": "ic", "compare": "champion", "rule": ">", "margin": 0.0,
            "severity": "hard", "expires_days": 1, "without_champion": "waive",
        },
        ic=above(0.0),
    )  # fmt: skip
    judged(registry, "1.0.0", compared, measured("ic", 0.03, T0))
    break_glass(registry, "fx_vol", "1.0.0")
    assert judged(registry, "1.1.0", compared, measured("ic", 0.05, T0)) is Outcome.PROMOTABLE
    # What happens later changes nothing about then: a new champion, better evidence, old age.
    break_glass(registry, "fx_vol", "1.1.0")
    record(registry, "1.0.0", measured("ic", 0.9, T0))
    first, second = dry_run(registry, compared, "fx_vol")
    assert (first.differs, second.differs) == (False, False)
    narrower = policy(better={"evidence": "ic", "compare": "champion", "rule": ">",
                              "margin": 0.03, "severity": "hard"})  # fmt: skip
    assert [one.after for one in dry_run(registry, narrower)] == [Outcome.NOT_YET, Outcome.REFUSED]


def test_a_version_that_nobody_judged_is_left_out_and_a_set_that_is_gone_is_named(
    registry: ModelRegistry,
) -> None:
    judged(registry, "1.0.0", policy(ic=above(0.0)), measured("ic", 0.03, T0))
    other = parse_policy(
        {"kinds": {"alpha_weights": {"gates": {"ic": above(0.0)}}}}, source="gates.yaml"
    )
    (only,) = dry_run(registry, other)
    assert only.after is None
    assert "no gates for 'risk_model'" in str(only.problem)
    with pytest.raises(NotFound, match="no model 'fx_vo'"):
        dry_run(registry, other, "fx_vo")


def test_evidence_that_expires_between_judging_and_promotion_stops_the_promotion(
    tmp_path: Path,
) -> None:
    clock = FixedClock(T0)
    registry = make_registry(tmp_path, clock)
    registry.register(make_candidate())
    aging = policy(ic=above(0.0, expires_days=2))
    assert judged(registry, "1.0.0", aging, measured("ic", 0.03, T0)) is Outcome.PROMOTABLE
    for person in (FIRST_APPROVER, SECOND_APPROVER):
        approve(registry, "fx_vol", "1.0.0", person, clock=clock)
    clock.advance(3 * DAY)

    def go(now_in_force: Policy) -> None:
        promote(
            registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, clock=clock,
            monotonic=time.monotonic, policy=now_in_force,
        )  # fmt: skip

    with pytest.raises(
        PromotionGateError, match="passed its gates and would not now: ic: measured"
    ):
        go(aging)
    assert registry.current("fx_vol") is None


def test_verdicts_that_do_not_follow_from_the_evidence_promote_nothing(
    registry: ModelRegistry,
) -> None:
    in_force = policy(ic=above(0.02))
    piece = measured("ic", 0.01, T0)
    assert judged(registry, "1.0.0", in_force, piece) is Outcome.REFUSED
    honest = registry.gate_record("fx_vol", "1.0.0")
    assert honest is not None
    registry.record_gates(
        "fx_vol",
        "1.0.0",
        [replace(one, verdict=Verdict.PASS) for one in honest.results],
        Outcome.PROMOTABLE,
        in_force.digest,
        initiated_by=AUTHOR,
        policy=honest.policy,
    )
    for person in (FIRST_APPROVER, SECOND_APPROVER):
        approve(registry, "fx_vol", "1.0.0", person, clock=registry.clock)

    def go(now_in_force: Policy) -> None:
        promote(
            registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, clock=registry.clock,
            monotonic=time.monotonic, policy=now_in_force,
        )  # fmt: skip

    with pytest.raises(PromotionGateError, match=r"would not now: ic: 0\.01 is not > 0\.02"):
        go(in_force)
    assert registry.current("fx_vol") is None


def test_verdicts_of_another_set_of_gates_promote_nothing(registry: ModelRegistry) -> None:
    document = {
        "kinds": {"risk_model": {"gates": {"ic": above(0.02)}}},
        "policies": {"easy": {"gates": {"ic": above(-1.0)}}},
    }
    in_force = parse_policy(document, source="gates.yaml")
    assert judged(registry, "1.0.0", in_force, measured("ic", 0.01, T0)) is Outcome.REFUSED
    report = evaluate(in_force, "easy", registry.evidence("fx_vol", "1.0.0"))
    registry.record_gates(
        "fx_vol", "1.0.0", report.results, report.outcome, in_force.digest,
        initiated_by=AUTHOR, policy="easy",
    )  # fmt: skip
    for person in (FIRST_APPROVER, SECOND_APPROVER):
        approve(registry, "fx_vol", "1.0.0", person, clock=registry.clock)
    with pytest.raises(PromotionGateError, match="by the gates of easy, now those of risk_model"):
        promote(
            registry, "fx_vol", "1.0.0", initiated_by=AUTHOR, clock=registry.clock,
            monotonic=time.monotonic, policy=in_force,
        )  # fmt: skip
    assert registry.current("fx_vol") is None


def test_evidence_of_one_version_cannot_be_recorded_for_another(registry: ModelRegistry) -> None:
    in_force = policy(ic=above(0.02))
    assert judged(registry, "1.0.0", in_force, measured("ic", 0.05, T0)) is Outcome.PROMOTABLE
    borrowed = registry.evidence("fx_vol", "1.0.0")
    with pytest.raises(ContractViolation, match="ic was measured on the version with digest"):
        registry.record_evidence("fx_vol", "1.1.0", borrowed, initiated_by=AUTHOR)
    assert registry.evidence("fx_vol", "1.1.0") == ()
