import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from assay.delivery.activation import activate
from assay.delivery.approvals import approve
from assay.delivery.judging import judge
from assay.delivery.policy_files import parse_policy
from assay.delivery.promotion import break_glass, follow_promotions, promote
from assay.domain.evidence import Evidence
from assay.domain.verdicts import Outcome, Severity, Verdict
from assay.domain.versions import Stage
from assay.errors import (
    Conflict,
    ContractViolation,
    IncompatibleVersion,
    NotFound,
    Refused,
    Tampered,
    Unavailable,
)
from assay.registry import ModelRegistry, PromotionClaim, PromotionGateError
from assay.registry.verification import verify_promotion
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    gate_result,
    linear_onnx,
    make_candidate,
    make_registry,
    pass_gates,
)

T0 = 1_700_000_000_000_000_000
SECOND = 10**9


def make_ready(registry, version, name="fx_vol"):
    pass_gates(registry, name, version)
    for person in (FIRST_APPROVER, SECOND_APPROVER):
        approve(registry, name, version, person, clock=registry.clock)


def go(registry, version, **options):
    return promote(
        registry,
        "fx_vol",
        version,
        initiated_by=AUTHOR,
        clock=registry.clock,
        monotonic=time.monotonic,
        **options,
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """1.0.0 is in production, 1.1.0 is ready to be promoted, 1.2.0 is only registered."""
    folder = tmp_path_factory.mktemp("registry")
    made = make_registry(folder, FixedClock(T0))
    for index, version in enumerate(["1.0.0", "1.1.0", "1.2.0"]):
        made.register(make_candidate(version=version, weights=(index, 1)))
    make_ready(made, "1.0.0")
    go(made, "1.0.0")
    make_ready(made, "1.1.0")
    return folder


@pytest.fixture
def registry(template, tmp_path):
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    return make_registry(tmp_path, FixedClock(T0))


def stages(registry):
    return {item.version: str(item.stage) for item in registry.list("fx_vol")}


def last(registry):
    return registry.history("fx_vol")[-1]


def test_a_promotion_archives_the_champion_and_binds_everything(registry):
    before = registry.current("fx_vol")
    done = go(registry, "1.1.0", reason="beats the baseline")
    assert stages(registry) == {"1.0.0": "archived", "1.1.0": "production", "1.2.0": "staged"}
    assert (done.from_version, done.to_version) == ("1.0.0", "1.1.0")
    assert done.approved_by == (FIRST_APPROVER, SECOND_APPROVER)
    opened = registry.open_production("fx_vol")
    assert opened.digest == done.digest
    claim = verify_promotion(last(registry), done.digest, registry.keyring)
    assert claim == PromotionClaim(
        model="fx_vol",
        from_version="1.0.0",
        from_digest=before.digest,
        to_version="1.1.0",
        to_digest=done.digest,
        gate_report_digest=registry.gate_record("fx_vol", "1.1.0").digest,
        snapshot_ids={"gold": "0" * 64},
        approvers=(FIRST_APPROVER, SECOND_APPROVER),
        expires_at=T0 + 3_600 * SECOND,
    )
    json.dumps(done.to_json())


def claimed(registry, version, approvers):
    """A promotion signed by somebody who may, which names approvers of their choice."""
    record, before = registry.get("fx_vol", version), registry.current("fx_vol")
    claim = PromotionClaim(
        model="fx_vol", from_version=before.version, from_digest=before.digest,
        to_version=version, to_digest=record.digest,
        gate_report_digest=registry.gate_record("fx_vol", version).digest,
        snapshot_ids={"gold": "0" * 64}, approvers=approvers, expires_at=T0 + 60 * SECOND,
    )  # fmt: skip
    return registry.keyring.sign(AUTHOR, claim.to_statement())


@pytest.mark.parametrize("given", [(), (FIRST_APPROVER,)], ids=["nobody", "one of two"])
def test_approvals_that_a_promotion_claims_are_in_the_log_or_nothing_goes_live(
    registry, monkeypatch, given
):
    pass_gates(registry, "fx_vol", "1.2.0")
    for person in given:
        approve(registry, "fx_vol", "1.2.0", person, clock=registry.clock)
    envelope = claimed(registry, "1.2.0", (FIRST_APPROVER, SECOND_APPROVER))
    with pytest.raises(Refused, match=f"no approval by .*{SECOND_APPROVER}"):
        registry.promote("fx_vol", "1.2.0", envelope, initiated_by=AUTHOR)
    assert stages(registry)["1.2.0"] == "staged"
    # Whoever writes the log themselves is found by anybody who verifies it.
    monkeypatch.setattr("assay.registry.model_registry.check_approvals", lambda *_: None)
    entry = registry.promote("fx_vol", "1.2.0", envelope, initiated_by=AUTHOR)
    (problem,) = registry.verify_log().problems
    assert problem.line == entry.seq
    assert f"no approval by {SECOND_APPROVER}" in str(problem).replace(f"{FIRST_APPROVER}, ", "")


def test_approvals_of_another_gate_report_carry_no_promotion(registry):
    with pytest.raises(Refused, match="expected 2 different people"):
        registry.promote(
            "fx_vol", "1.1.0", claimed(registry, "1.1.0", (FIRST_APPROVER,)), initiated_by=AUTHOR
        )
    pass_gates(registry, "fx_vol", "1.1.0", loss=0.25)
    envelope = claimed(registry, "1.1.0", (FIRST_APPROVER, SECOND_APPROVER))
    with pytest.raises(Refused, match="no approval by"):
        registry.promote("fx_vol", "1.1.0", envelope, initiated_by=AUTHOR)


def test_seconds_are_measured_by_the_given_clock(registry):
    ticks = iter([0.0, 1.0, 4.0, 10.0])
    done = promote(
        registry, "fx_vol", "1.1.0", initiated_by=AUTHOR, clock=registry.clock,
        monotonic=lambda: next(ticks),
    )  # fmt: skip
    assert (done.seconds, done.activation.seconds) == (10.0, 3.0)


def test_a_version_without_gates_stays_where_it_is_and_the_attempt_is_recorded(registry):
    with pytest.raises(PromotionGateError, match="judged by no gates"):
        go(registry, "1.2.0")
    assert stages(registry)["1.2.0"] == "staged"
    entry = last(registry)
    assert (entry.type, entry.outcome, entry.to_version) == ("promote", "refused", "1.2.0")
    assert "judged by no gates" in entry.reason


@pytest.mark.parametrize(
    ("results", "outcome"),
    [
        ([gate_result(Verdict.FAIL)], Outcome.REFUSED),
        ([gate_result(Verdict.INDETERMINATE)], Outcome.NOT_YET),
        ([gate_result(), gate_result(Verdict.INDETERMINATE)], Outcome.NOT_YET),
        ([gate_result(Verdict.PASS, Severity.SOFT)], Outcome.NOT_YET),
        ([], Outcome.NOT_YET),
    ],
)
def test_anything_but_promotable_never_promotes(registry, results, outcome):
    registry.record_gates("fx_vol", "1.1.0", results, outcome, "p", initiated_by=AUTHOR)
    with pytest.raises(PromotionGateError, match=str(outcome)):
        go(registry, "1.1.0")
    assert registry.current("fx_vol").version == "1.0.0"


def test_new_evidence_after_the_gates_stops_a_promotion(registry):
    registry.record_evidence(
        "fx_vol", "1.1.0", [Evidence("drawdown", 0.4, 100, "share of equity")], initiated_by=AUTHOR
    )
    with pytest.raises(PromotionGateError, match=r"evidence .* changed"):
        go(registry, "1.1.0")


def test_a_new_champion_after_the_gates_stops_a_promotion(registry):
    break_glass(
        registry, "fx_vol", "1.2.0", initiated_by=AUTHOR, reason="outage", clock=registry.clock,
        monotonic=time.monotonic,
    )  # fmt: skip
    with pytest.raises(PromotionGateError, match="another champion"):
        go(registry, "1.1.0")


def test_one_approval_is_not_enough(registry):
    pass_gates(registry, "fx_vol", "1.2.0")
    approve(registry, "fx_vol", "1.2.0", FIRST_APPROVER, clock=registry.clock)
    with pytest.raises(Refused, match=r"approved by first\.approver: expected 2"):
        go(registry, "1.2.0")
    assert last(registry).outcome == "refused"


def test_ended_approvals_are_not_enough(registry):
    registry.clock.advance(8 * 86_400 * SECOND)
    with pytest.raises(Refused, match="approved by nobody"):
        go(registry, "1.1.0")


def test_promoting_needs_a_key_for_it(registry):
    with pytest.raises(Unavailable, match="intern has no key"):
        promote(
            registry, "fx_vol", "1.1.0", initiated_by="intern", clock=registry.clock,
            monotonic=time.monotonic,
        )  # fmt: skip
    assert registry.current("fx_vol").version == "1.0.0"


@pytest.mark.parametrize("version", ["1.0.0", "1.2.0"])
def test_only_a_staged_version_is_promoted(registry, version):
    if version == "1.2.0":
        registry.fail("fx_vol", "1.2.0", initiated_by=AUTHOR, reason="x")
    stage = registry.get("fx_vol", version).stage
    with pytest.raises(Refused, match=f"is {stage}: expected staged"):
        go(registry, version)
    assert registry.get("fx_vol", version).stage is stage


def test_a_changed_byte_stops_a_promotion_and_names_the_file(registry):
    path = registry.root / "artifacts" / "fx_vol" / "1.1.0" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(Tampered, match=r"model\.onnx"):
        go(registry, "1.1.0")
    # It may be restored from a backup: only a version that does not work is failed.
    assert stages(registry)["1.1.0"] == "staged"
    assert last(registry).outcome == "refused"


def broken(version, rows, predictions):
    candidate = make_candidate(version=version, weights=(3, 1))
    golden = json.dumps({"rows": rows, "predictions": predictions}).encode()
    return replace(candidate, files={**candidate.files, "golden.json": golden})


@pytest.mark.parametrize(
    ("rows", "predictions", "why"),
    [
        ([[1.0, 1.0]], [5.0], "differ from the stored predictions by 1"),
        ([[1.0, 1.0]], [4.0, 4.0], "2 golden predictions for 1 rows"),
        ([[1.0]], [4.0], "expected \\(n, 2\\)"),
        ([], [], "holds no rows"),
        ([["x", 1]], [4.0], "cannot be read"),
        ([[1.0, 1.0]], [None], "differ from the stored"),
    ],
)
def test_a_version_that_does_not_predict_what_it_should_becomes_failed(
    registry, rows, predictions, why
):
    registry.register(broken("1.3.0", rows, predictions))
    make_ready(registry, "1.3.0")
    with pytest.raises(IncompatibleVersion, match=why):
        go(registry, "1.3.0")
    assert stages(registry)["1.3.0"] == "failed"
    assert last(registry).reason.startswith("activation: ")
    with pytest.raises(Refused, match="is failed"):
        go(registry, "1.3.0")


def test_a_version_without_golden_rows_is_exercised_on_made_up_ones(registry):
    candidate = make_candidate(version="1.3.0", weights=(3, 1))
    files = {name: data for name, data in candidate.files.items() if name != "golden.json"}
    registry.register(replace(candidate, files=files))
    done = activate(registry, "fx_vol", "1.3.0", monotonic=time.monotonic)
    assert (done.rows, done.stored_rows) == (5, False)


def test_a_model_that_answers_no_number_becomes_failed(registry):
    candidate = make_candidate(version="1.3.0", weights=(3, 1))
    files = {name: data for name, data in candidate.files.items() if name != "golden.json"}
    files["model.onnx"] = linear_onnx((np.finfo(np.float32).max, np.finfo(np.float32).max))
    registry.register(replace(candidate, files=files))
    make_ready(registry, "1.3.0")
    with pytest.raises(IncompatibleVersion, match="answered inf"):
        go(registry, "1.3.0")
    assert stages(registry)["1.3.0"] == "failed"


def test_a_statement_is_no_use_for_another_version_or_after_its_hour(registry):
    opened = registry.get("fx_vol", "1.1.0")
    champion = registry.current("fx_vol")
    claim = PromotionClaim(
        "fx_vol", "1.0.0", champion.digest, "1.1.0", opened.digest,
        registry.gate_record("fx_vol", "1.1.0").digest, {}, (FIRST_APPROVER, SECOND_APPROVER),
        T0 + SECOND,
    )  # fmt: skip
    envelope = registry.keyring.sign(AUTHOR, claim.to_statement())
    pass_gates(registry, "fx_vol", "1.2.0")
    with pytest.raises(Tampered, match=r"is about fx_vol 1\.1\.0"):
        registry.promote("fx_vol", "1.2.0", envelope, initiated_by=AUTHOR)
    with pytest.raises(Tampered, match="not one for break_glass"):
        registry.break_glass("fx_vol", "1.1.0", envelope, initiated_by=AUTHOR, reason="x")
    registry.clock.advance(SECOND)
    with pytest.raises(Refused, match="expired"):
        registry.promote("fx_vol", "1.1.0", envelope, initiated_by=AUTHOR)
    assert registry.current("fx_vol").version == "1.0.0"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"approvers": (AUTHOR, FIRST_APPROVER)}, Refused),
        ({"approvers": (FIRST_APPROVER, FIRST_APPROVER)}, Refused),
        ({"gate_report_digest": "0" * 64}, PromotionGateError),
        ({"from_digest": "0" * 64}, Tampered),
        ({"from_version": None}, Conflict),
    ],
)
def test_the_registry_itself_refuses_a_signed_promotion_that_breaks_a_rule(registry, change, error):
    claim = PromotionClaim(
        "fx_vol", "1.0.0", registry.current("fx_vol").digest, "1.1.0",
        registry.get("fx_vol", "1.1.0").digest, registry.gate_record("fx_vol", "1.1.0").digest,
        {}, (FIRST_APPROVER, SECOND_APPROVER), T0 + SECOND,
    )  # fmt: skip
    envelope = registry.keyring.sign(AUTHOR, replace(claim, **change).to_statement())
    with pytest.raises(error):
        registry.promote("fx_vol", "1.1.0", envelope, initiated_by=AUTHOR)
    assert registry.current("fx_vol").version == "1.0.0"


def test_breaking_the_glass_skips_gates_and_approvals_and_is_loud(registry, tmp_path):
    log = tmp_path / "promotions.log"
    done = break_glass(
        registry, "fx_vol", "1.2.0", initiated_by=AUTHOR, reason="venue change at noon",
        clock=registry.clock, monotonic=time.monotonic, promotions_log=log,
    )  # fmt: skip
    assert (done.break_glass, done.approved_by) == (True, ())
    assert registry.current("fx_vol").version == "1.2.0"
    entry = last(registry)
    assert (entry.type, entry.reason) == ("break_glass", "venue change at noon")
    record = json.loads(log.read_bytes().splitlines()[-1])
    assert (record["break_glass"], record["approved_by"]) == (True, [])
    assert registry.open_production("fx_vol").version == "1.2.0"
    assert registry.verify_log().ok


def test_breaking_the_glass_still_needs_a_reason_a_key_and_intact_files(registry):
    def smash(**options):
        arguments = {"initiated_by": AUTHOR, "reason": "x", **options}
        break_glass(
            registry, "fx_vol", "1.2.0", clock=registry.clock, monotonic=time.monotonic, **arguments
        )

    with pytest.raises(ContractViolation, match="needs a reason"):
        smash(reason="  ")
    with pytest.raises(Unavailable):
        smash(initiated_by="intern")
    path = registry.root / "artifacts" / "fx_vol" / "1.2.0" / "bench.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(Tampered, match=r"bench\.json"):
        smash()
    assert registry.current("fx_vol").version == "1.0.0"


def test_deployment_records_follow_the_registry(registry, tmp_path):
    log = tmp_path / "artifacts" / "promotions.log"
    go(registry, "1.1.0", promotions_log=log)
    records = [json.loads(line) for line in log.read_bytes().splitlines()]
    # The first promotion was made without a file: its record is written with the second.
    assert [item["to_version"] for item in records] == ["1.0.0", "1.1.0"]
    assert records[1]["approved_by"] == [FIRST_APPROVER, SECOND_APPROVER]
    assert follow_promotions(registry, log) == 0
    log.write_bytes(log.read_bytes()[:-20])
    assert follow_promotions(registry, log) == 1
    assert [json.loads(line) for line in log.read_bytes().splitlines()] == records


@pytest.mark.parametrize("junk", [b"junk\n", b"[1]\n", b"{}\n"])
def test_a_damaged_deployment_record_does_not_hide_that_the_promotion_happened(
    registry, tmp_path, junk
):
    log = tmp_path / "promotions.log"
    log.write_bytes(junk)
    with pytest.raises(Tampered, match=r"1\.1\.0 IS in production now") as caught:
        go(registry, "1.1.0", promotions_log=log)
    assert registry.current("fx_vol").version == "1.1.0"
    assert str(log) in caught.value.hint
    assert log.read_bytes() == junk
    log.unlink()
    assert follow_promotions(registry, log) == 2


def test_a_deployment_record_that_cannot_be_written_does_not_hide_it_either(registry, tmp_path):
    log = tmp_path / "promotions.log"
    log.mkdir()
    with pytest.raises(Unavailable, match=r"1\.1\.0 IS in production now"):
        go(registry, "1.1.0", promotions_log=log)
    assert registry.current("fx_vol").version == "1.1.0"


def test_nobody_promotes_under_a_name_that_is_none(registry):
    before = registry.history("fx_vol")
    with pytest.raises(ContractViolation, match="identity 'Not A Name'"):
        promote(
            registry,
            "fx_vol",
            "1.1.0",
            initiated_by="Not A Name",
            clock=registry.clock,
            monotonic=time.monotonic,
        )
    assert registry.history("fx_vol") == before


def test_an_unknown_version_is_not_found(registry):
    with pytest.raises(NotFound, match="did you mean"):
        go(registry, "1.1.1")


def test_judging_reads_the_recorded_evidence_and_records_the_verdicts(registry):
    gate = {"rule": "<=", "threshold": 1, "severity": "hard"}
    document = {"kinds": {"risk_model": {"gates": {"ic": gate}}}}
    policy = parse_policy(document, source="test")
    registry.record_evidence(
        "fx_vol", "1.2.0", [Evidence("ic", 0.5, 100, "mean IC")], initiated_by=AUTHOR
    )
    report = judge(registry, policy, "fx_vol", "1.2.0", initiated_by=AUTHOR)
    recorded = registry.gate_record("fx_vol", "1.2.0")
    assert recorded.results == report.results
    assert (recorded.outcome, recorded.policy_digest) == (report.outcome, policy.digest)
    assert registry.promotable("fx_vol", "1.2.0") == recorded


def test_a_clock_that_was_set_back_does_not_spoil_a_promotion(registry):
    back = ModelRegistry(registry.root, registry.keyring, FixedClock(T0 - 10**6 * SECOND))
    go(back, "1.1.0")
    assert back.history("fx_vol")[-1].at == T0
    assert back.open_production("fx_vol").version == "1.1.0"
    assert back.verify_log().ok


def test_promoting_survives_opening_the_registry_anew(registry):
    go(registry, "1.1.0")
    again = ModelRegistry(registry.root, registry.keyring, registry.clock)
    assert again.current("fx_vol").stage is Stage.PRODUCTION
    assert again.open_production("fx_vol").version == "1.1.0"
