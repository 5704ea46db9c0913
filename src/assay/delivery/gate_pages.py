"""What each gate means, as a page and as lines: one source, :mod:`assay.validation.catalogue`."""

from __future__ import annotations

from collections.abc import Iterator

from assay.delivery.policy import Gate, Policy
from assay.delivery.policy_files import desk_policy_text, read_policy
from assay.validation.catalogue import CATALOGUE, Explanation, explanation_of

_PARTS = (
    ("Protects from", "protects"),
    ("Formula", "formula"),
    ("Convention", "convention"),
    ("Source", "source"),
    ("When it lies", "lies"),
    ("How to read it", "reading"),
)


def rules_of(policy: Policy, evidence: str) -> Iterator[tuple[str, Gate]]:
    """The gates of a policy that rest on a measurement, each with the name of its set."""
    for sets in (policy.kinds, policy.named):
        for name, gates in sets.items():
            yield from ((name, gate) for gate in gates if gate.evidence == evidence)


def rule_in_words(gate: Gate) -> str:
    """A gate's rule in one line: severity, condition, sample, age, and whether it is asked."""
    words = [f"{gate.severity}, {gate.condition}"]
    if gate.min_sample > 1:
        words.append(f"sample of at least {gate.min_sample}")
    if gate.expires_days is not None:
        words.append(f"expires after {gate.expires_days:g} days")
    if str(gate.replayed) == "allow":
        words.append("replays count")
    if str(gate.without_champion) == "waive":
        words.append("waived without a champion")
    if not gate.enabled:
        words.append(f"switched off: {gate.why}")
    return "; ".join(words)


def explain_gate(name: str) -> list[tuple[str, str]]:
    """What a reader has to know about a measurement: pairs of heading and text.

    Raises
    ------
    NotFound: there is no such measurement; the hint names the nearest.
    """
    known = explanation_of(name)
    return [
        ("Measures", f"{known.meaning}."),
        *((title, str(getattr(known, field))) for title, field in _PARTS),
        ("Can be measured again", _again(known)),
    ]


def gate_page(name: str) -> str:
    """The reference page of one gate, Markdown.

    Raises
    ------
    NotFound: there is no such measurement.
    """
    known = explanation_of(name)
    lines = [f"# {name}", "", f"{known.meaning[0].upper()}{known.meaning[1:]}.", ""]
    for title, text in explain_gate(name)[1:]:
        body = f"`{text}`" if title == "Formula" else f"{text[0].upper()}{text[1:].rstrip('.')}."
        lines += [f"**{title}.** {body}", ""]
    rules = [
        f"- `{where}`: {rule_in_words(gate)}"
        for where, gate in rules_of(read_policy(desk_policy_text(), source="desk"), name)
    ]
    lines += ["## In the policy of a new desk", ""]
    lines += rules or ["No gate rests on it; a policy may name it."]
    lines += ["", f"Definition `{known.convention_id}`. [All gates](README.md)."]
    return "\n".join(lines) + "\n"


def gate_index() -> str:
    """The list of all gates, Markdown."""
    lines = [
        "# Gates",
        "",
        "Every measurement that a policy may ask for. `assay gates explain GATE` prints the same.",
        "",
        "| gate | what it measures |",
        "|---|---|",
        *(f"| [{name}]({name}.md) | {known.meaning} |" for name, known in CATALOGUE.items()),
    ]
    return "\n".join(lines) + "\n"


def _again(known: Explanation) -> str:
    if known.repeatable:
        return "Yes: assay evidence recompute compares every bit."
    return "No: it was true of the moment at which it was observed."
