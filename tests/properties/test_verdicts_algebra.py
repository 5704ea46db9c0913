"""The laws of the verdict algebra, for arbitrary gates, policies and evidence."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from assay.delivery.gates import evaluate
from assay.delivery.policy import Gate, Policy, Rule
from assay.domain.evidence import Evidence
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict, decide

NAMES = ("ic", "rank_ic", "schema", "signature", "onnx_parity")
numbers = st.floats(allow_nan=True, allow_infinity=True)


def result(severity, verdict):
    return GateResult("g", severity, 0.0, "<= 1", verdict, 1, "", "")


results = st.lists(
    st.builds(result, st.sampled_from(Severity), st.sampled_from(Verdict)), max_size=8
)
verdicts = st.sampled_from(Verdict)


@st.composite
def gates(draw, name):
    rule = draw(st.sampled_from(Rule))
    ends = st.floats(-10, 10)
    if rule is Rule.BETWEEN:
        low = draw(ends)
        threshold = (low, low + draw(st.floats(0.1, 5)))
    else:
        threshold = (draw(ends),)
    enabled = draw(st.booleans())
    return Gate(
        name=name,
        evidence=draw(st.sampled_from(NAMES)),
        rule=rule,
        threshold=threshold,
        severity=draw(st.sampled_from(Severity)),
        min_sample=draw(st.integers(1, 5)),
        enabled=enabled,
        why=None if enabled else "switched off in a test",
    )


@st.composite
def policies(draw):
    count = draw(st.integers(1, 5))
    return Policy({}, {"p": tuple(draw(gates(f"g{i}")) for i in range(count))})


pieces = st.builds(
    Evidence,
    name=st.sampled_from(NAMES),
    value=st.none() | numbers,
    sample_size=st.integers(0, 6),
    convention=st.just("c"),
    interval=st.none() | st.tuples(numbers, numbers),
    details=st.dictionaries(st.sampled_from(["level", "undefined", "x"]), numbers, max_size=2),
)
evidence = st.lists(pieces, max_size=7)


def specification(results):
    """The algebra in the plainest words."""
    hard = [one.verdict for one in results if one.severity is Severity.HARD]
    if any(verdict is Verdict.FAIL for verdict in hard):
        return Outcome.REFUSED
    if hard and not any(verdict is not Verdict.PASS for verdict in hard):
        return Outcome.PROMOTABLE
    return Outcome.NOT_YET


@given(results)
def test_the_outcome_is_the_specification(given_results):
    assert decide(given_results) is specification(given_results)


@given(results, st.randoms(use_true_random=False))
def test_the_order_of_gates_does_not_matter(given_results, random):
    mixed = list(given_results)
    random.shuffle(mixed)
    assert decide(mixed) is decide(given_results)


@given(results, verdicts)
def test_adding_a_soft_gate_changes_nothing(given_results, verdict):
    assert decide([*given_results, result(Severity.SOFT, verdict)]) is decide(given_results)


@given(results, verdicts)
def test_adding_a_hard_gate_never_promotes_what_had_one(given_results, verdict):
    before = decide(given_results)
    after = decide([*given_results, result(Severity.HARD, verdict)])
    if before is Outcome.REFUSED:
        assert after is Outcome.REFUSED
    if any(one.severity is Severity.HARD for one in given_results) and before is Outcome.NOT_YET:
        assert after is not Outcome.PROMOTABLE


@given(results)
def test_a_doubled_gate_is_one_gate(given_results):
    assert decide([*given_results, *given_results]) is decide(given_results)


@given(results, results)
def test_two_sets_promote_together_only_if_each_with_hard_gates_promotes(one, two):
    if decide([*one, *two]) is Outcome.PROMOTABLE:
        for part in (one, two):
            assert decide(part) in (Outcome.PROMOTABLE, Outcome.NOT_YET)
            if any(gate.severity is Severity.HARD for gate in part):
                assert decide(part) is Outcome.PROMOTABLE


@given(policies(), evidence)
def test_only_finite_values_of_large_enough_samples_pass_or_fail(policy, given_evidence):
    report = evaluate(policy, "p", given_evidence)
    applied = [gate for gate in policy.named["p"] if gate.enabled]
    assert [one.name for one in report.results] == [gate.name for gate in applied]
    for gate, one in zip(applied, report.results, strict=True):
        matching = [piece for piece in given_evidence if piece.name == gate.evidence]
        distinct = list(
            {json.dumps(piece.to_json(), sort_keys=True): piece for piece in matching}.values()
        )
        usable = (
            len(distinct) == 1
            and distinct[0].value is not None
            and math.isfinite(distinct[0].value)
            and distinct[0].sample_size >= gate.min_sample
        )
        assert (one.verdict is not Verdict.INDETERMINATE) is usable
        assert one.reason
        if one.verdict is Verdict.PASS:
            assert gate.holds(distinct[0].value)


@given(policies(), evidence, st.randoms(use_true_random=False))
def test_the_order_of_evidence_does_not_matter(policy, given_evidence, random):
    mixed = list(given_evidence)
    random.shuffle(mixed)
    assert evaluate(policy, "p", mixed) == evaluate(policy, "p", given_evidence)


@given(policies(), evidence, st.sampled_from(NAMES))
def test_taking_evidence_away_never_promotes(policy, given_evidence, name):
    # Only where the name had one record: removing one of two conflicting records resolves them.
    if sum(piece.name == name for piece in given_evidence) <= 1:
        fewer = [piece for piece in given_evidence if piece.name != name]
        if evaluate(policy, "p", fewer).outcome is Outcome.PROMOTABLE:
            assert evaluate(policy, "p", given_evidence).outcome is Outcome.PROMOTABLE


@given(policies(), st.sampled_from([None, math.nan, math.inf, -math.inf]))
def test_a_policy_fed_nothing_measurable_never_promotes_and_never_fails(policy, value):
    blank = [Evidence(name, value, 10, "c") for name in NAMES]
    for given_evidence in (blank, []):
        report = evaluate(policy, "p", given_evidence)
        assert report.outcome is Outcome.NOT_YET
        assert all(one.verdict is Verdict.INDETERMINATE for one in report.results)


@given(pieces)
def test_a_record_is_finite_survives_json_and_reads_back(piece):
    assert piece.value is None or math.isfinite(piece.value)
    assert Evidence.from_json(piece.to_json()) == piece
