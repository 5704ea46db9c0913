"""Evidence under a policy: three verdicts, one outcome, and a report that people can read."""

import json
import math
from dataclasses import replace

import pytest

from assay.delivery.gates import Champion, evaluate
from assay.delivery.policy_files import desk_policy_text, parse_policy, read_policy
from assay.delivery.report import explain, render
from assay.domain.evidence import Evidence
from assay.domain.provenance import Provenance
from assay.domain.verdicts import Outcome, Verdict
from assay.errors import NotFound


def policy(**gates):
    return parse_policy({"policies": {"p": {"gates": gates}}}, source="s")


def hard(rule="<=", threshold=0.1, **more):
    return {"rule": rule, "threshold": threshold, "severity": "hard", **more}


def soft(rule="<=", threshold=0.1, **more):
    return {"rule": rule, "threshold": threshold, "severity": "soft", **more}


def evidence(name, value, sample_size=500, **more):
    return Evidence(name, value, sample_size, "a convention", **more)


def only(report):
    (result,) = report.results
    return result


def judged(gate, *pieces):
    return only(evaluate(policy(ic=gate), "p", pieces))


def test_a_value_on_the_right_side_passes_and_on_the_wrong_side_fails():
    assert judged(hard(">", 0.02), evidence("ic", 0.03)).verdict is Verdict.PASS
    result = judged(hard(">", 0.02), evidence("ic", 0.02))
    assert result.verdict is Verdict.FAIL
    assert result.reason == "0.02 is not > 0.02"
    assert (result.value, result.threshold, result.sample_size) == (0.02, "> 0.02", 500)
    assert result.convention == "a convention"


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([], "no evidence named ic"),
        ([evidence("rank_ic", 1.0)], "no evidence named ic"),
        ([evidence("ic", None)], "it has no value"),
        ([evidence("ic", None, details={"undefined": "too short"})], "not measurable: too short"),
        ([evidence("ic", math.nan)], "computed value was nan"),
        ([evidence("ic", math.inf)], "computed value was inf"),
        ([evidence("ic", 1.0, 249)], "sample of 249, at least 250 needed"),
        ([evidence("ic", 0.0, 249)], "sample of 249, at least 250 needed"),
        ([evidence("ic", 1.0), evidence("ic", 0.0)], "2 different records of ic"),
    ],
)
def test_what_cannot_be_judged_is_indeterminate_and_never_promotes(pieces, reason):
    report = evaluate(policy(ic=hard(">", 0.02, min_sample=250)), "p", pieces)
    assert only(report).verdict is Verdict.INDETERMINATE
    assert reason in only(report).reason
    assert report.outcome is Outcome.NOT_YET


def test_a_nan_smuggled_past_the_record_is_still_indeterminate():
    piece = evidence("ic", 1.0)
    object.__setattr__(piece, "value", math.nan)
    report = evaluate(policy(ic=hard()), "p", [piece])
    assert only(report).verdict is Verdict.INDETERMINATE
    assert report.outcome is Outcome.NOT_YET


def test_evidence_without_a_sample_never_decides():
    assert judged(hard(">", 0.02), evidence("ic", 1.0, 0)).verdict is Verdict.INDETERMINATE


def test_the_same_record_twice_is_one_record():
    piece = evidence("ic", 1.0, details={"a": [1, 2]})
    assert judged(hard(">", 0.02), piece, piece).verdict is Verdict.PASS


def test_the_value_decides_and_the_reason_mentions_an_interval_across_the_threshold():
    wide = evidence("ic", 0.03, interval=(0.01, 0.05), details={"level": 0.95})
    result = judged(hard(">", 0.02), wide)
    assert result.verdict is Verdict.PASS
    assert result.reason.endswith("its 95% interval [0.01, 0.05] reaches across the threshold")
    narrow = evidence("ic", 0.03, interval=(0.025, 0.05))
    assert "interval" not in judged(hard(">", 0.02), narrow).reason
    slope = evidence("ic", 1.1, interval=(0.9, 1.3))
    assert "reaches across" in judged(hard("between", [0.8, 1.2]), slope).reason


def test_rounding_in_a_reason_never_says_the_opposite_of_the_verdict():
    result = judged(hard("<=", 0.1), evidence("ic", 0.1000000001))
    assert result.verdict is Verdict.FAIL
    assert result.reason == "0.1000000001 is not <= 0.1"
    assert judged(hard("equals", 1), evidence("ic", 1.0)).reason == "1 equals 1"
    assert judged(hard("equals", 1), evidence("ic", 0.0)).reason == "0 does not equal 1"


def test_a_soft_gate_warns_and_changes_nothing():
    gates = policy(ic=hard(">", 0.02), rank_ic=soft(">", 0.02))
    report = evaluate(gates, "p", [evidence("ic", 1.0), evidence("rank_ic", -1.0)])
    assert report.outcome is Outcome.PROMOTABLE
    assert any(s.startswith("Warning, rank_ic failed") for s in explain(report))


def test_a_switched_off_gate_is_not_judged_and_every_report_says_why():
    off = hard(">=", 24, enabled=False, why="no paper trading yet.")
    gates = policy(ic=hard(">", 0.02), paper_trading_hours=off)
    report = evaluate(gates, "p", [evidence("ic", 1.0), evidence("paper_trading_hours", 1.0)])
    assert report.outcome is Outcome.PROMOTABLE
    assert [gate.name for gate in report.switched_off] == ["paper_trading_hours"]
    sentence = "paper_trading_hours (hard) is switched off by this policy: no paper trading yet."
    assert sentence in explain(report)
    assert "| switched off |" in render(report)
    assert report.to_json()["switched_off"][0]["why"] == "no paper trading yet."


def test_nothing_can_be_promoted_when_no_hard_gate_is_switched_on():
    report = evaluate(policy(ic=soft(">", 0.02)), "p", [evidence("ic", 1.0)])
    assert report.outcome is Outcome.NOT_YET
    assert "can promote nothing" in explain(report)[1]


def test_results_come_in_the_policys_order_whatever_order_evidence_has():
    gates = policy(ic=hard(">", 0.02), rank_ic=soft(">", 0.02), schema=hard("equals", 1))
    pieces = [evidence("schema", 1.0), evidence("rank_ic", 0.5), evidence("ic", 0.5)]
    report, reverse = evaluate(gates, "p", pieces), evaluate(gates, "p", pieces[::-1])
    assert [result.name for result in report.results] == ["ic", "rank_ic", "schema"]
    assert reverse == report
    assert reverse.digest == report.digest


def test_an_unknown_kind_is_not_judged_by_anything():
    with pytest.raises(NotFound, match="no gates for 'alpha'"):
        evaluate(read_policy(desk_policy_text(), source="desk"), "alpha", [])


def test_the_desk_policy_promotes_nothing_without_its_long_gates():
    desk = read_policy(desk_policy_text(), source="desk")
    perfect = {
        "qlike_vs_champion": 0.01,
        "var_coverage": 0.5,
        "calibration_slope": 1.0,
        "onnx_parity": 1e-7,
        "schema": 1.0,
        "signature": 1.0,
        "training_set_rebuilt": 1.0,
    }
    typed = [evidence(name, value) for name, value in perfect.items()]
    verdicts = {one.verdict for one in evaluate(desk, "risk_model", typed).results}
    assert verdicts == {Verdict.INDETERMINATE}
    pieces = [replace(piece, provenance=MEASURED) for piece in typed]
    assert evaluate(desk, "risk_model", pieces).outcome is Outcome.NOT_YET
    more = {"ablation": 0.4, "feature_parity": 1.0, "dataset_compatibility": 0.5}
    pieces += [replace(evidence(n, v), provenance=MEASURED) for n, v in more.items()]
    weeks = {"paper_trading_hours": 30.0, "nightly_greens": 7.0, "shadow_stable_hours": 24.0}
    weeks["drift_psi"] = 0.08
    undated = [evidence(name, value) for name, value in weeks.items()]
    assert evaluate(desk, "risk_model", [*pieces, *undated], now=DAY).outcome is Outcome.NOT_YET
    pieces += [replace(piece, provenance=MEASURED) for piece in undated]
    assert evaluate(desk, "risk_model", pieces, now=13 * DAY).outcome is Outcome.NOT_YET
    assert evaluate(desk, "risk_model", pieces, now=11 * DAY).outcome is Outcome.PROMOTABLE
    pieces = [piece for piece in pieces if piece.name != "signature"]
    unsigned = [*pieces, replace(evidence("signature", 0.0), provenance=MEASURED)]
    assert evaluate(desk, "risk_model", unsigned).outcome is Outcome.REFUSED


def test_the_digest_binds_policy_evidence_and_verdicts():
    gates, piece = policy(ic=hard(">", 0.02)), evidence("ic", 0.03)
    base = evaluate(gates, "p", [piece])
    other_policy = evaluate(policy(ic=hard(">", 0.01)), "p", [piece])
    other_value = evaluate(gates, "p", [evidence("ic", 0.04)])
    other_detail = evaluate(gates, "p", [evidence("ic", 0.03, details={"lag": 4})])
    extra = evaluate(gates, "p", [piece, evidence("rank_ic", 0.03)])
    reports = [base, other_policy, other_value, other_detail, extra]
    assert len({report.digest for report in reports}) == len(reports)
    assert json.loads(json.dumps(base.to_json())) == base.to_json()


def test_sentences_begin_with_the_outcome_and_name_what_stands_in_the_way():
    gates = policy(ic=hard(">", 0.02), schema=hard("equals", 1), signature=hard("equals", 1))
    report = evaluate(gates, "p", [evidence("ic", 0.01), evidence("schema", 1.0)])
    assert explain(report) == [
        "REFUSED: the candidate is refused.",
        "Policy p: 1 passed, 1 failed, 1 could not be decided of 3 hard gates.",
        "ic failed: 0.01 is not > 0.02.",
        "signature could not be decided: no evidence named signature.",
    ]


def test_a_table_stays_a_table_whatever_a_reason_says():
    nasty = evidence("ic", None, details={"undefined": "a | b\nc \\| d"})
    report = evaluate(policy(ic=hard()), "p", [nasty])
    rows = [line for line in render(report).splitlines() if line.startswith("|")]
    assert len(rows) == 3
    columns = [len(row.replace("\\\\", "").replace("\\|", "").split("|")) for row in rows]
    assert len(set(columns)) == 1


DAY = 86_400 * 10**9
MEASURED = Provenance(
    measured_at=10 * DAY,
    convention_id="max_drawdown/1",
    model_digest="m",
    snapshots={"gold/fx_daily": "s1"},
)


def traced(value, sample_size=500, **changes):
    return evidence("max_drawdown", value, sample_size, provenance=replace(MEASURED, **changes))


NO_DEEPER = {
    "rule": "<=",
    "margin": 0.02,
    "severity": "hard",
    "compare": "champion",
    "evidence": "max_drawdown",
    "min_sample": 250,
}


def against(*theirs, mine=None, gate=NO_DEEPER):
    champion = Champion("1.0.0", "m", theirs)
    pieces = [mine or traced(0.12)]
    return only(evaluate(policy(no_deeper=gate), "p", pieces, champion=champion))


def test_the_value_minus_the_champions_is_judged_by_the_margin():
    result = against(traced(0.11))
    assert result.verdict is Verdict.PASS
    assert result.value == pytest.approx(0.01)
    assert result.threshold == "<= 0.02 against the champion"
    assert result.reason == "0.01 is <= 0.02 against the champion 1.0.0 (0.12 and 0.11)"
    worse = against(traced(0.05))
    assert worse.verdict is Verdict.FAIL
    assert worse.reason.startswith("0.07 is not <= 0.02 against the champion 1.0.0")


@pytest.mark.parametrize(
    ("theirs", "mine", "reason"),
    [
        ([], None, "has no records of max_drawdown"),
        ([traced(None)], None, "the champion 1.0.0: not measurable"),
        ([traced(0.1, 249)], None, "sample of 249, at least 250 needed"),
        ([traced(0.1), traced(0.2)], None, "has 2 records"),
        ([traced(0.1, snapshots={"gold/fx_daily": "s2"})], None, "measured on other data"),
        ([traced(0.1, snapshots={})], traced(0.1, snapshots={}), "measured on other data"),
        ([traced(0.1, convention_id="max_drawdown/2")], None, "by another convention"),
        ([traced(0.1, replayed=True)], None, "measured on a replay"),
        ([traced(0.1, model_digest="x")], None, "measured on the version with digest x"),
        ([evidence("max_drawdown", 0.1)], None, "is not recorded"),
        ([traced(0.1)], evidence("max_drawdown", 0.1), "is not recorded"),
        ([traced(-1.7e308)], traced(1.7e308), "overflowed"),
    ],
)
def test_a_champion_that_does_not_compare_leaves_the_gate_undecided(theirs, mine, reason):
    result = against(*theirs, mine=mine)
    assert result.verdict is Verdict.INDETERMINATE
    assert reason in result.reason


def test_without_a_champion_a_comparison_waits_or_is_waived_by_name():
    waiting = evaluate(policy(no_deeper=NO_DEEPER), "p", [traced(0.1)])
    assert only(waiting).verdict is Verdict.INDETERMINATE
    assert "no champion" in only(waiting).reason
    waived = policy(no_deeper={**NO_DEEPER, "without_champion": "waive"}, ic=hard(">", 0.02))
    report = evaluate(waived, "p", [evidence("ic", 0.03)])
    assert report.outcome is Outcome.PROMOTABLE
    (off,) = report.switched_off
    assert (off.name, off.why) == (
        "no_deeper",
        "waived while the line has no champion to compare with",
    )
    with_one = evaluate(waived, "p", [evidence("ic", 0.03)], champion=Champion("1.0.0", "c1"))
    assert with_one.outcome is Outcome.NOT_YET


@pytest.mark.parametrize(
    ("now", "verdict", "reason"),
    [
        (10 * DAY, Verdict.PASS, "0.1 is <= 0.2"),
        (17 * DAY, Verdict.PASS, "0.1 is <= 0.2"),
        (17 * DAY + 1, Verdict.INDETERMINATE, "measured at 1970-01-11T00:00:00Z, expired after 7"),
        (10 * DAY - 1, Verdict.INDETERMINATE, "has not come yet"),
        (None, Verdict.INDETERMINATE, "the time now is not known"),
    ],
)
def test_evidence_older_than_the_policy_allows_decides_nothing(now, verdict, reason):
    gates = policy(max_drawdown=hard("<=", 0.2, expires_days=7))
    result = only(evaluate(gates, "p", [traced(0.1)], now=now))
    assert result.verdict is verdict
    assert reason in result.reason
    undated = only(evaluate(gates, "p", [evidence("max_drawdown", 0.1)], now=now))
    assert undated.verdict is Verdict.INDETERMINATE


def test_what_was_measured_on_a_replay_counts_only_where_the_policy_says_so():
    piece = traced(0.1, replayed=True)
    assert judged_drawdown(hard("<=", 0.2), piece).verdict is Verdict.INDETERMINATE
    assert "on a replay" in judged_drawdown(hard("<=", 0.2), piece).reason
    allowed = hard("<=", 0.2, replayed="allow")
    assert judged_drawdown(allowed, piece).verdict is Verdict.PASS


def judged_drawdown(gate, piece):
    return only(evaluate(policy(max_drawdown=gate), "p", [piece]))


def test_evidence_about_another_version_decides_nothing():
    gates = policy(max_drawdown=hard("<=", 0.2))
    own = only(evaluate(gates, "p", [traced(0.1)], digest="m"))
    assert own.verdict is Verdict.PASS
    borrowed = evaluate(gates, "p", [traced(0.1)], digest="another")
    assert borrowed.outcome is Outcome.NOT_YET
    assert only(borrowed).verdict is Verdict.INDETERMINATE
    assert "measured on the version with digest m, this one is another" in only(borrowed).reason


def test_evidence_against_a_former_champion_says_nothing_about_its_successor():
    piece = evidence(
        "qlike_vs_champion",
        0.01,
        provenance=replace(MEASURED, champion="1.0.0", champion_digest="c1"),
    )
    gates = policy(qlike_vs_champion=hard("<=", 0.1))
    same = evaluate(gates, "p", [piece], champion=Champion("1.0.0", "c1"))
    assert only(same).verdict is Verdict.PASS
    other = only(evaluate(gates, "p", [piece], champion=Champion("1.1.0", "c2")))
    assert other.verdict is Verdict.INDETERMINATE
    assert other.reason == "measured against 1.0.0, in production is 1.1.0"
    gone = only(evaluate(gates, "p", [piece]))
    assert gone.verdict is Verdict.INDETERMINATE
