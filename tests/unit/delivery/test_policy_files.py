"""gates.yaml: what loads, and what is refused with the path of the key and the nearest name."""

from pathlib import Path

import pytest
import yaml

from assay.delivery.policy import Compare, Replayed, Rule, Untraced, WithoutChampion
from assay.delivery.policy_files import (
    desk_policy_text,
    load_policy,
    parse_policy,
    read_policy,
)
from assay.domain.verdicts import Severity
from assay.domain.versions import ALPHA_WEIGHTS, RISK_MODEL
from assay.errors import ConfigurationError, NotFound

DEMO = Path(__file__).parents[3] / "examples" / "fx" / "configs" / "gates.yaml"
LONG = {
    "paper_trading_hours",
    "paper_pnl_after_costs",
    "nightly_greens",
    "shadow_stable_hours",
    "shadow_rank_correlation",
    "drift_psi",
    "serving_p95_ms",
    "ablation",
    "feature_importance_consistency",
}


SPEC = {"rule": "<=", "threshold": 0.1, "severity": "hard"}


def one_gate(**changes):
    gate = {**SPEC, **changes}
    gate = {key: value for key, value in gate.items() if value is not ...}
    return {"kinds": {"risk_model": {"gates": {"var_coverage": gate}}}}


def refusal(document, source="gates.yaml"):
    with pytest.raises(ConfigurationError) as caught:
        parse_policy(document, source=source)
    return str(caught.value)


def text_refusal(text):
    with pytest.raises(ConfigurationError) as caught:
        read_policy(text, source="gates.yaml")
    return str(caught.value)


def test_the_demo_is_the_desks_policy_with_the_long_gates_switched_off_by_name():
    demo, desk = load_policy(DEMO), read_policy(desk_policy_text(), source="desk")
    for kind in (RISK_MODEL, ALPHA_WEIGHTS):
        ours = {gate.name: gate for gate in demo.gates(kind)}
        theirs = {gate.name: gate for gate in desk.gates(kind)}
        assert {name for name, gate in ours.items() if not gate.enabled} == LONG & set(ours)
        assert all(gate.why for name, gate in ours.items() if name in LONG)
        assert all(gate.enabled for gate in theirs.values())
        for name, gate in ours.items():
            stated, applied = gate.to_json(), theirs[name].to_json()
            for key in ("enabled", "why"):
                stated.pop(key), applied.pop(key)
            assert stated == applied
            assert gate.replayed is Replayed.REFUSE
    assert demo.gates("baseline") == desk.gates("baseline")


def test_the_thresholds_are_the_published_ones():
    desk = read_policy(desk_policy_text(), source="desk")
    stated = {
        kind: {gate.name: (gate.condition, str(gate.severity)) for gate in desk.gates(kind)}
        for kind in (RISK_MODEL, ALPHA_WEIGHTS, "baseline")
    }
    assert stated[RISK_MODEL]["qlike_vs_champion"] == ("<= 0.1", "hard")
    assert stated[RISK_MODEL]["var_coverage"] == (">= 0.05", "hard")
    assert stated[RISK_MODEL]["calibration_slope"] == ("between 0.8 and 1.2", "hard")
    assert stated[ALPHA_WEIGHTS]["ic"] == ("> 0.02", "hard")
    assert stated[ALPHA_WEIGHTS]["sharpe_after_costs"] == ("> 0.5", "hard")
    assert stated[ALPHA_WEIGHTS]["significance"] == ("<= 0.1", "hard")
    for kind in (RISK_MODEL, ALPHA_WEIGHTS):
        assert stated[kind]["paper_trading_hours"] == (">= 24", "hard")
        assert stated[kind]["nightly_greens"] == (">= 7", "hard")
        assert stated[kind]["shadow_stable_hours"] == (">= 24", "hard")
        assert stated[kind]["shadow_rank_correlation"] == (">= 0.95", "soft")
        assert stated[kind]["drift_psi"] == ("< 0.25", "hard")
        assert stated[kind]["ablation"] == ("> 0.05", "hard")
        assert stated[kind]["feature_parity"] == ("equals 1", "hard")
        assert stated[kind]["dataset_compatibility"] == (">= 0.5", "hard")
        assert stated[kind]["serving_p95_ms"] == ("<= 200", "soft")
        assert stated[kind]["onnx_p95_batch32_ms"] == ("<= 60", "soft")
    alpha = stated[ALPHA_WEIGHTS]
    assert alpha["deflated_sharpe"] == ("> 0.95", "hard")
    assert alpha["pbo"] == ("< 0.2", "hard")
    assert alpha["spa"] == ("<= 0.1", "hard")
    assert alpha["sharpe_vs_champion"] == (">= 0.1", "hard")
    assert alpha["max_drawdown_vs_champion"] == ("<= 0.02", "hard")
    assert alpha["paper_pnl_after_costs"] == ("> 0", "soft")
    for gates in stated.values():
        assert gates["onnx_parity"] == ("<= 1e-05", "hard")
        for name in ("schema", "signature", "training_set_rebuilt"):
            assert gates[name] == ("equals 1", "hard")
    assert {gate for gate, (_, s) in stated["baseline"].items() if s == "soft"} == {
        "feature_parity",
        "var_coverage",
        "calibration_slope",
    }


def test_a_gate_reads_as_it_is_written():
    document = one_gate(evidence="calibration_slope", rule="between", threshold=[0, 2], why="x")
    (gate,) = parse_policy(document, source="s").gates("risk_model")
    assert (gate.name, gate.evidence) == ("var_coverage", "calibration_slope")
    assert (gate.rule, gate.threshold) == (Rule.BETWEEN, (0.0, 2.0))
    assert (gate.severity, gate.min_sample, gate.enabled) == (Severity.HARD, 1, True)


@pytest.mark.parametrize(
    ("document", "path", "hint"),
    [
        ({"kind": {}}, "gates.yaml: kind: unknown key", "did you mean 'kinds'?"),
        ({"kinds": {"risk_modle": {}}}, "kinds.risk_modle", "did you mean 'risk_model'?"),
        (
            {"kinds": {"risk_model": {"gate": {}}}},
            "kinds.risk_model.gate: unknown key",
            "did you mean 'gates'?",
        ),
        (
            one_gate(treshold=1),
            "kinds.risk_model.gates.var_coverage.treshold: unknown key",
            "did you mean 'threshold'?",
        ),
        (
            one_gate(evidence="qlike_vs_champoin"),
            "gates.var_coverage.evidence: unknown evidence 'qlike_vs_champoin'",
            "did you mean 'qlike_vs_champion'?",
        ),
        (
            {"kinds": {"risk_model": {"gates": {"var_coverge": SPEC}}}},
            "kinds.risk_model.gates.var_coverge",
            "did you mean",
        ),
        (one_gate(rule="=<"), "var_coverage.rule: '=<', expected one of <=", "quote the signs"),
        (one_gate(rule=...), "var_coverage.rule: missing", ""),
        (one_gate(threshold=...), "var_coverage.threshold: missing", ""),
        (one_gate(severity=...), "var_coverage.severity: missing", ""),
        (one_gate(severity="Hard"), "var_coverage.severity: 'Hard'", "did you mean 'hard'?"),
        (one_gate(severity=None), "var_coverage.severity: None", ""),
        (one_gate(threshold=True), "var_coverage.threshold: found bool True", ""),
        (one_gate(threshold=None), "var_coverage.threshold: found nothing", ""),
        (one_gate(threshold="a"), "var_coverage.threshold: found str 'a'", ""),
        (one_gate(threshold="1e-5"), "found str '1e-5', expected a number", "1e-5 as 1.0e-5"),
        (one_gate(threshold=float("nan")), "expected a finite number", ""),
        (one_gate(threshold=float("inf")), "expected a finite number", ""),
        (one_gate(threshold=10**400), "expected a finite number", ""),
        (one_gate(threshold=[0, 1]), "found list [0, 1], expected a number", ""),
        (one_gate(rule="between"), "expected [low, high]", ""),
        (one_gate(rule="between", threshold=[1, 2, 3]), "expected [low, high]", ""),
        (one_gate(rule="between", threshold=[2, 1]), "[2, 1], expected low < high", ""),
        (one_gate(rule="between", threshold=[1, 1]), "expected low < high", ""),
        (one_gate(rule="between", threshold=[1, "2"]), "var_coverage.threshold[1]", ""),
        (one_gate(min_sample=0), "var_coverage.min_sample: found int 0", ""),
        (one_gate(min_sample=2.5), "var_coverage.min_sample: found float 2.5", ""),
        (one_gate(min_sample=True), "var_coverage.min_sample: found bool True", ""),
        (one_gate(enabled="no"), "var_coverage.enabled: found str 'no'", ""),
        (one_gate(enabled=False), "var_coverage.why: missing", "add a line"),
        (one_gate(enabled=False, why="  "), "var_coverage.why: found str", ""),
        (one_gate(enabled=False, why=3), "var_coverage.why: found int 3", ""),
        (one_gate(evidence=["ic"]), "unknown evidence ['ic']", ""),
        (None, "the file: found nothing", ""),
        ([], "the file: found list", ""),
        ({}, "no gates: expected 'kinds' or 'policies'", ""),
        ({"kinds": None}, "kinds: found nothing", ""),
        ({"kinds": {"risk_model": None}}, "kinds.risk_model: found nothing", ""),
        ({"kinds": {"risk_model": {"gates": {}}}}, "kinds.risk_model.gates: empty", ""),
        ({"policies": {"Base line": {}}}, "policies.Base line: expected a name", ""),
        ({"policies": {"risk_model": {}}}, "that is a kind of model", "kinds.risk_model"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_path_and_the_nearest_name(document, path, hint):
    message = refusal(document)
    assert message.startswith("gates.yaml: ")
    assert path in message
    assert hint in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kinds:\n  risk_model: 1\n  risk_model: 2\n", "'risk_model' stands twice"),
        ("kinds: {a: 1\n", "not readable as YAML"),
        ("kinds: !!python/object/apply:os.system ['true']\n", "not readable as YAML"),
        ("1: 2\n", "not text"),
        ("? [a, b]\n: 2\n", "not text"),
        ("? {a: b}\n: 2\n", "not text"),
        ("a: &a [*a]\n", "unknown key"),
        ("kinds: &k {risk_model: *k}\n", "gates.yaml"),
        ("kinds: 2026-13-45\n", "gates.yaml"),
        (
            "policies: {p: {gates: {ic: {rule: yes, threshold: 1, severity: hard}}}}",
            "rule: True",
        ),
        (
            "policies:\n p:\n  gates:\n   ic:\n    rule: >\n    threshold: 1\n    severity: hard\n",
            "quote the signs",
        ),
        ("[" * 900 + "]" * 900, "gates.yaml"),
        ("\x00", "not readable as YAML"),
        ("", "the file: found nothing"),
        ("--- 1\n--- 2\n", "not readable as YAML"),
    ],
)
def test_text_that_is_not_a_plain_policy_is_refused(text, message):
    assert message in text_refusal(text)


def test_a_file_that_is_missing_or_not_text_is_refused(tmp_path):
    with pytest.raises(NotFound, match=r"gates\.yaml does not exist"):
        load_policy(tmp_path / "gates.yaml")
    (tmp_path / "gates.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not readable as text"):
        load_policy(tmp_path / "gates.yaml")
    with pytest.raises(ConfigurationError, match="not readable as text"):
        load_policy(tmp_path)


def test_every_cut_of_the_demo_policy_loads_or_is_refused_by_name():
    text, loaded, refused = DEMO.read_text(), 0, []
    for end in range(0, len(text), 97):
        try:
            read_policy(text[:end], source="cut.yaml")
        except ConfigurationError as error:
            refused.append(str(error))
        else:
            loaded += 1
    assert loaded
    assert refused
    assert all(message.startswith("cut.yaml: ") for message in refused)


def test_a_desk_names_kinds_of_its_own_under_policies():
    gates = one_gate()["kinds"]["risk_model"]
    policy = parse_policy({"policies": {"credit_model": gates}}, source="s")
    assert policy.gates("credit_model")
    with pytest.raises(NotFound, match="no gates for 'credit_modle'") as caught:
        policy.gates("credit_modle")
    assert caught.value.hint == "did you mean 'credit_model'?"
    with pytest.raises(NotFound, match="no gates for 'risk_model'"):
        policy.gates("risk_model")


def test_the_digest_follows_the_meaning_and_not_the_layout():
    text = DEMO.read_text()
    plain = load_policy(DEMO).digest
    assert read_policy("# note\n" + text, source="s").digest == plain
    assert read_policy(yaml.safe_dump(yaml.safe_load(text)), source="s").kinds.keys()
    assert read_policy(text.replace("0.10", "0.1"), source="s").digest == plain
    assert read_policy(text.replace("0.10", "0.11"), source="s").digest != plain
    assert read_policy(text.replace("two minutes", "an hour"), source="s").digest != plain


@pytest.mark.parametrize(
    ("rule", "threshold", "holding", "failing"),
    [
        ("<=", 1, [0.9, 1.0], [1.0000001]),
        (">=", 1, [1.0, 1.1], [0.9999999]),
        ("<", 1, [0.9999999], [1.0]),
        (">", 1, [1.0000001], [1.0]),
        ("equals", 1, [1.0], [0.9999999, 0.0]),
        ("between", [0.8, 1.2], [0.8, 1.0, 1.2], [0.7999999, 1.2000001]),
    ],
)
def test_each_rule_at_its_edges(rule, threshold, holding, failing):
    document = one_gate(rule=rule, threshold=threshold)
    (gate,) = parse_policy(document, source="s").gates("risk_model")
    assert all(gate.holds(value) for value in holding)
    assert not any(gate.holds(value) for value in failing)


def test_conditions_show_thresholds_without_rounding_them_away():
    document = one_gate(threshold=0.123456789)
    (gate,) = parse_policy(document, source="s").gates("risk_model")
    assert gate.condition == "<= 0.123456789"


def compared(**changes):
    gate = {"rule": "<=", "margin": 0.02, "severity": "hard", "compare": "champion"}
    gate |= {"evidence": "max_drawdown", **changes}
    gate = {key: value for key, value in gate.items() if value is not ...}
    return {"kinds": {"alpha_weights": {"gates": {"no_deeper": gate}}}}


def test_a_gate_against_the_champion_says_so_in_its_condition():
    document = compared(expires_days=30, replayed="allow", without_champion="waive")
    (gate,) = parse_policy(document, source="s").gates("alpha_weights")
    assert gate.condition == "<= 0.02 against the champion"
    assert (gate.compare, gate.threshold, gate.expires_days) == (Compare.CHAMPION, (0.02,), 30)
    assert (gate.replayed, gate.without_champion) == (Replayed.ALLOW, WithoutChampion.WAIVE)
    assert gate.against_champion


def test_a_policy_that_uses_no_later_key_keeps_the_digest_of_before_there_were_any():
    (gate,) = parse_policy(one_gate(), source="s").gates("risk_model")
    assert list(gate.to_json()) == [
        "name", "evidence", "rule", "threshold", "severity", "min_sample", "enabled", "why",
    ]  # fmt: skip
    digests = {
        parse_policy(document, source="s").digest
        for document in (
            one_gate(),
            one_gate(expires_days=1),
            one_gate(expires_days=2),
            one_gate(replayed="allow"),
            compared(),
            compared(without_champion="waive"),
        )
    }
    assert len(digests) == 6
    assert (
        parse_policy(one_gate(replayed="refuse"), source="s").digest
        == parse_policy(one_gate(), source="s").digest
    )


@pytest.mark.parametrize(
    ("document", "path", "hint"),
    [
        (one_gate(compare="champoin"), "var_coverage.compare: 'champoin'", "'champion'?"),
        (one_gate(compare="champion"), "var_coverage.margin: missing", None),
        (compared(threshold=1), "no_deeper.threshold: expected margin", "compare: champion"),
        (compared(margin=...), "no_deeper.margin: missing", None),
        (one_gate(margin=1), "var_coverage.margin: expected threshold", "compare: champion"),
        (compared(margin="0.1"), "no_deeper.margin: found str", "without quotes"),
        (one_gate(replayed="alow"), "var_coverage.replayed: 'alow'", "did you mean 'allow'?"),
        (one_gate(expires_days=0), "var_coverage.expires_days: found int 0", None),
        (one_gate(expires_days="30"), "var_coverage.expires_days: found str", "without quotes"),
        (one_gate(expire_days=3), "var_coverage.expire_days: unknown key", "'expires_days'?"),
        (one_gate(without_champion="waive"), "var_coverage.without_champion", "remove the key"),
        (compared(without_champion="wave"), "no_deeper.without_champion: 'wave'", "'waive'?"),
    ],
)
def test_a_wrong_later_key_is_refused_with_its_path_and_what_to_do(document, path, hint):
    said = refusal(document)
    assert path in said
    assert hint is None or hint in said


def test_whether_untraced_evidence_counts_is_part_of_a_policys_digest():
    text = desk_policy_text()
    refusing = read_policy(text, source="desk")
    allowing = read_policy(text.replace("untraced: refuse", "untraced: allow"), source="desk")
    silent = read_policy(text.replace("untraced: refuse", ""), source="desk")
    assert refusing.untraced is Untraced.REFUSE
    assert refusing.digest != allowing.digest == silent.digest
    with pytest.raises(ConfigurationError, match="untraced: 'perhaps'"):
        read_policy(text.replace("untraced: refuse", "untraced: perhaps"), source="desk")
