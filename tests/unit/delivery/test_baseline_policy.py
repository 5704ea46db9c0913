"""A baseline has an easier policy only while there is nobody to beat."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from assay.delivery.approvals import approve
from assay.delivery.judging import judge
from assay.delivery.policy import Policy
from assay.delivery.policy_files import parse_policy
from assay.delivery.promotion import promote
from assay.domain.evidence import Evidence
from assay.domain.verdicts import Outcome
from assay.registry import PromotionGateError
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    make_candidate,
    make_registry,
)


def over(threshold: float) -> dict[str, object]:
    return {"gates": {"ic": {"rule": ">", "threshold": threshold, "severity": "hard"}}}


POLICY = parse_policy(
    {"kinds": {"risk_model": over(0.9)}, "policies": {"baseline": over(0.0)}}, source="gates.yaml"
)


def test_a_policy_that_was_tightened_after_the_verdict_stops_the_promotion(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, FixedClock(1_700_000_000_000_000_000))
    registry.register(make_candidate())
    measured = Evidence("ic", 0.95, 100, "mean IC")
    registry.record_evidence("fx_vol", "1.0.0", [measured], initiated_by=AUTHOR)
    judge(registry, POLICY, "fx_vol", "1.0.0", initiated_by=AUTHOR)
    for person in (FIRST_APPROVER, SECOND_APPROVER):
        approve(registry, "fx_vol", "1.0.0", person, clock=registry.clock)

    def go(policy: Policy) -> None:
        promote(
            registry,
            "fx_vol",
            "1.0.0",
            initiated_by=AUTHOR,
            clock=registry.clock,
            monotonic=time.monotonic,
            policy=policy,
        )

    with pytest.raises(PromotionGateError, match="the gates have changed since"):
        go(parse_policy({"kinds": {"risk_model": over(0.99)}}, source="gates.yaml"))
    assert registry.current("fx_vol") is None
    go(POLICY)
    assert registry.current("fx_vol") is not None


def test_a_second_baseline_must_pass_the_gates_of_its_kind(tmp_path: Path) -> None:
    registry = make_registry(tmp_path, FixedClock(1_700_000_000_000_000_000))
    for weight, version in enumerate(["1.0.0", "1.1.0"]):
        candidate = make_candidate(version=version, weights=(weight, 1))
        metadata = replace(candidate.metadata, baseline=True, policy="baseline")
        registry.register(replace(candidate, metadata=metadata))
        measured = Evidence("ic", 0.5, 100, "mean IC")
        registry.record_evidence("fx_vol", version, [measured], initiated_by=AUTHOR)
    first = judge(registry, POLICY, "fx_vol", "1.0.0", initiated_by=AUTHOR)
    assert (first.policy, first.outcome) == ("baseline", Outcome.PROMOTABLE)
    for person in (FIRST_APPROVER, SECOND_APPROVER):
        approve(registry, "fx_vol", "1.0.0", person, clock=registry.clock)
    promote(
        registry,
        "fx_vol",
        "1.0.0",
        initiated_by=AUTHOR,
        clock=registry.clock,
        monotonic=time.monotonic,
    )
    second = judge(registry, POLICY, "fx_vol", "1.1.0", initiated_by=AUTHOR)
    assert (second.policy, second.outcome) == ("risk_model", Outcome.REFUSED)
    again = judge(registry, POLICY, "fx_vol", "1.0.0", initiated_by=AUTHOR)
    assert again.policy == "baseline", "the champion itself is judged as it was"
