"""The laws of the verdict algebra, for arbitrary gates, policies and evidence."""

import json
import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from assay.delivery.gates import Champion, evaluate
from assay.delivery.policy import Compare, Gate, Policy, Replayed, Rule, WithoutChampion
from assay.domain.canonical import content_hash
from assay.domain.evidence import Evidence
from assay.domain.provenance import Provenance
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict, decide

# The last one compares with the champion by itself.
NAMES = ("ic", "rank_ic", "schema", "signature", "qlike_vs_champion")
DAY = 86_400 * 10**9
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
        compare=draw(st.none() | st.just(Compare.CHAMPION)),
        expires_days=draw(st.none() | st.integers(1, 5)),
        replayed=draw(st.sampled_from(Replayed)),
        without_champion=draw(st.sampled_from(WithoutChampion)),
    )


@st.composite
def policies(draw):
    count = draw(st.integers(1, 5))
    return Policy({}, {"p": tuple(draw(gates(f"g{i}")) for i in range(count))})


origins = st.builds(
    Provenance,
    measured_at=st.integers(0, 8).map(lambda day: day * DAY),
    convention_id=st.sampled_from(["a/1", "a/2"]),
    model_digest=st.just("d"),
    snapshots=st.sampled_from([{}, {"gold/x": "1"}, {"gold/x": "2"}]),
    champion=st.just("1.0.0"),
    champion_digest=st.none() | st.sampled_from(["c1", "c2"]),
    replayed=st.booleans(),
)
pieces = st.builds(
    Evidence,
    name=st.sampled_from(NAMES),
    value=st.none() | numbers,
    sample_size=st.integers(0, 6),
    convention=st.just("c"),
    interval=st.none() | st.tuples(numbers, numbers),
    details=st.dictionaries(st.sampled_from(["level", "undefined", "x"]), numbers, max_size=2),
    provenance=st.none() | origins,
)
evidence = st.lists(pieces, max_size=7)
# As the registry keeps it: the latest of each name.
kept = st.lists(pieces, max_size=5, unique_by=lambda piece: piece.name)
champions = st.none() | st.builds(
    Champion, version=st.just("1.0.0"), digest=st.sampled_from(["c1", "c2"]),
    evidence=kept.map(tuple),
)  # fmt: skip
moments = st.none() | st.integers(0, 8).map(lambda day: day * DAY)


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


def by_hand(gate, given_evidence, now, champion):
    """The verdict of one gate in the plainest words; None where it is not asked."""
    against = gate.compare is not None or gate.evidence == "qlike_vs_champion"
    if not gate.enabled or (
        champion is None and against and gate.without_champion is WithoutChampion.WAIVE
    ):
        return None

    def usable(found):
        documents = {json.dumps(piece.to_json(), sort_keys=True) for piece in found}
        if len(documents) != 1 or found[0].value is None:
            return None
        origin = found[0].provenance
        replayed = origin is not None and origin.replayed and gate.replayed is Replayed.REFUSE
        return None if replayed or found[0].sample_size < gate.min_sample else found[0]

    piece = usable([one for one in given_evidence if one.name == gate.evidence])
    if piece is None:
        return Verdict.INDETERMINATE
    value, origin = piece.value, piece.provenance
    if gate.expires_days is not None:
        if origin is None or now is None:
            return Verdict.INDETERMINATE
        if not 0 <= now - origin.measured_at <= gate.expires_days * DAY:
            return Verdict.INDETERMINATE
    named = None if origin is None else origin.champion_digest
    if named is not None and (champion is None or champion.digest != named):
        return Verdict.INDETERMINATE
    if gate.compare is not None:
        if champion is None:
            return Verdict.INDETERMINATE
        other = usable([one for one in champion.evidence if one.name == gate.evidence])
        if other is None or origin is None or other.provenance is None:
            return Verdict.INDETERMINATE
        theirs = other.provenance
        if origin.convention_id != theirs.convention_id or not origin.snapshots:
            return Verdict.INDETERMINATE
        if origin.snapshots != theirs.snapshots:
            return Verdict.INDETERMINATE
        value = value - other.value
        if not math.isfinite(value):
            return Verdict.INDETERMINATE
    return Verdict.PASS if gate.holds(value) else Verdict.FAIL


@settings(max_examples=200)
@given(policies(), evidence, moments, champions)
def test_every_gate_says_what_the_rules_say_in_plain_words(policy, given_evidence, now, champion):
    report = evaluate(policy, "p", given_evidence, now=now, champion=champion)
    wanted = {gate.name: by_hand(gate, given_evidence, now, champion) for gate in policy.named["p"]}
    assert {one.name: one.verdict for one in report.results} == {
        name: verdict for name, verdict in wanted.items() if verdict is not None
    }
    assert {one.name for one in report.switched_off} == {
        name for name, verdict in wanted.items() if verdict is None
    }
    for one in report.results:
        assert one.reason
        assert one.value is None or math.isfinite(one.value)
        if one.verdict is not Verdict.INDETERMINATE:
            assert one.value is not None
    json.dumps(report.to_json(), allow_nan=False)


@given(policies(), evidence, moments, champions, st.randoms(use_true_random=False))
def test_the_order_of_evidence_and_gates_does_not_matter(
    policy, given_evidence, now, champion, random
):
    mixed, gates_mixed = list(given_evidence), list(policy.named["p"])
    random.shuffle(mixed)
    random.shuffle(gates_mixed)
    first = evaluate(policy, "p", given_evidence, now=now, champion=champion)
    assert evaluate(policy, "p", mixed, now=now, champion=champion) == first
    other = evaluate(Policy({}, {"p": tuple(gates_mixed)}), "p", mixed, now=now, champion=champion)
    assert other.outcome is first.outcome
    assert {one.name: one for one in other.results} == {one.name: one for one in first.results}


@given(policies(), kept, moments, champions, st.sets(st.sampled_from(NAMES)))
def test_taking_evidence_away_never_promotes_and_decides_nothing(
    policy, given_evidence, now, champion, gone
):
    fewer = [piece for piece in given_evidence if piece.name not in gone]
    before = evaluate(policy, "p", given_evidence, now=now, champion=champion)
    after = evaluate(policy, "p", fewer, now=now, champion=champion)
    if after.outcome is Outcome.PROMOTABLE:
        assert before.outcome is Outcome.PROMOTABLE
    if after.outcome is Outcome.REFUSED:
        assert before.outcome is Outcome.REFUSED
    names = {gate.name: gate.evidence for gate in policy.named["p"]}
    for one in after.results:
        if names[one.name] in gone:
            assert one.verdict is Verdict.INDETERMINATE


@given(policies(), kept, moments, champions, st.sets(st.sampled_from(NAMES)))
def test_taking_the_champions_evidence_away_never_promotes(
    policy, given_evidence, now, champion, gone
):
    if champion is None:
        return
    fewer = tuple(piece for piece in champion.evidence if piece.name not in gone)
    poorer = Champion(champion.version, champion.digest, fewer)
    after = evaluate(policy, "p", given_evidence, now=now, champion=poorer)
    if after.outcome is Outcome.PROMOTABLE:
        before = evaluate(policy, "p", given_evidence, now=now, champion=champion)
        assert before.outcome is Outcome.PROMOTABLE


@given(policies(), kept, pieces, moments, champions)
def test_evidence_that_no_gate_asks_for_changes_no_verdict(
    policy, given_evidence, more, now, champion
):
    asked = {gate.evidence for gate in policy.named["p"]}
    if more.name in asked:
        more = replace(more, name="onnx_parity")
    before = evaluate(policy, "p", given_evidence, now=now, champion=champion)
    after = evaluate(policy, "p", [*given_evidence, more], now=now, champion=champion)
    assert (after.results, after.outcome) == (before.results, before.outcome)


@given(policies(), kept, st.integers(0, 8), st.integers(0, 5), champions)
def test_waiting_never_promotes(policy, given_evidence, day, later, champion):
    measured = [one for one in given_evidence if one.provenance is not None]
    if any(one.provenance.measured_at > day * DAY for one in measured):
        return  # what was measured in the future counts only once that has come
    first, second = (
        evaluate(policy, "p", given_evidence, now=now * DAY, champion=champion)
        for now in (day, day + later)
    )
    if second.outcome is Outcome.PROMOTABLE:
        assert first.outcome is Outcome.PROMOTABLE


@given(policies(), kept, moments, champions)
def test_making_a_soft_gate_hard_never_promotes_what_had_hard_ones(
    policy, given_evidence, now, champion
):
    harder = Policy({}, {"p": tuple(replace(g, severity=Severity.HARD) for g in policy.named["p"])})
    soft = evaluate(policy, "p", given_evidence, now=now, champion=champion)
    hard = evaluate(harder, "p", given_evidence, now=now, champion=champion)
    if any(one.severity is Severity.HARD for one in soft.results):
        rank = [Outcome.REFUSED, Outcome.NOT_YET, Outcome.PROMOTABLE]
        assert rank.index(hard.outcome) <= rank.index(soft.outcome)


@given(policies(), kept, moments, champions)
def test_marking_evidence_as_replayed_never_promotes(policy, given_evidence, now, champion):
    replayed = [
        one if one.provenance is None
        else replace(one, provenance=replace(one.provenance, replayed=True))
        for one in given_evidence
    ]  # fmt: skip
    after = evaluate(policy, "p", replayed, now=now, champion=champion)
    if after.outcome is Outcome.PROMOTABLE:
        before = evaluate(policy, "p", given_evidence, now=now, champion=champion)
        assert before.outcome is Outcome.PROMOTABLE


@given(policies(), st.sampled_from([None, math.nan, math.inf, -math.inf, 10**400, -(10**5000)]))
def test_a_policy_fed_nothing_measurable_never_promotes_and_never_fails(policy, value):
    blank = [Evidence(name, value, 10, "c") for name in NAMES]
    for given_evidence in (blank, []):
        report = evaluate(policy, "p", given_evidence)
        assert report.outcome is Outcome.NOT_YET
        assert all(one.verdict is Verdict.INDETERMINATE for one in report.results)


@given(pieces)
def test_a_record_is_finite_survives_json_and_reads_back(piece):
    assert piece.value is None or math.isfinite(piece.value)
    written = json.dumps(piece.to_json(), allow_nan=False)
    assert Evidence.from_json(json.loads(written)) == piece


@given(pieces)
def test_a_record_without_provenance_has_the_digest_of_before_there_was_any(piece):
    plain = replace(piece, provenance=None).to_json()
    assert list(plain) == ["name", "value", "sample_size", "convention", "interval", "details"]
    assert piece.provenance is None or content_hash(piece.to_json()) != content_hash(plain)
