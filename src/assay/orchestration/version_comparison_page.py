"""Two versions side by side as one HTML page."""

from __future__ import annotations

from typing import Any

from assay.domain.verdicts import GateResult
from assay.orchestration.report import words
from assay.orchestration.report.document import badge, header, render_document, section, texts
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.version_comparison import ABSENT, Compared, VersionComparison

_INTROS = {
    "facts": "What each version is, and how it came about.",
    "metrics": "Measured out of sample at training, as the signed metadata says.",
    "input schema": "Columns in their order; a model reads them by place.",
    "configuration": "By the path of the key in the signed configuration.",
    "data": "Snapshots by table, and the training set joined from them.",
    "environment": "Packages that can change a model's numbers, and the machine.",
    "files": "SHA-256 of each file of the version's folder.",
}


def comparison_page(found: VersionComparison) -> str:
    """The comparison as one HTML document; what differs stands first in each part."""
    old, new = found.before.version, found.after.version
    changed = sum(not one.equal for part in found.parts().values() for one in part)
    facts = (
        (f"Outcome of {old}", found.outcomes.before or "judged by no gates"),
        (f"Outcome of {new}", found.outcomes.after or "judged by no gates"),
        ("Differences", words.count(changed + len(found.features))),
        ("Model file", _same_file(found)),
    )
    return render_document(
        f"{found.model}: {old} and {new}",
        header(
            f"Assay · comparison · {found.model}", f"{found.model} {old} and {new}", facts=facts
        ),
        element(
            "main",
            section("Gates", _gates(found), intro="Verdict and value under each policy."),
            section("Features", _features(found), intro="From the manifests that each names."),
            [
                section(name.capitalize(), _part(part, old, new), intro=_INTROS[name])
                for name, part in found.parts().items()
            ],
        ),
    )


def _same_file(found: VersionComparison) -> str:
    onnx = [one for one in found.files if one.name == "model.onnx"]
    return "the same bytes" if onnx and onnx[0].equal else "other bytes"


def _gates(found: VersionComparison) -> Markup:
    if not found.gates:
        return element("p", "Neither was judged.", class_="empty")
    old, new = found.before.version, found.after.version
    columns = ("gate", "rule", f"{old}", f"value in {old}", f"{new}", f"value in {new}")
    rows = [
        (
            words.gate_title(one.name),
            _rules(one.before, one.after),
            badge(_verdict(one.before)),
            _value(one.before),
            badge(_verdict(one.after)),
            _value(one.after),
        )
        for one in found.gates
    ]
    apart = [
        len({gate.verdict for gate in one.both}) > 1 or len(one.both) == 1 for one in found.gates
    ]
    return texts(columns, rows, other=apart)


def _verdict(gate: GateResult | None) -> str | None:
    return None if gate is None else gate.verdict


def _rules(before: GateResult | None, after: GateResult | None) -> str:
    rules = dict.fromkeys(
        f"{one.threshold} ({one.severity})" for one in (before, after) if one is not None
    )
    return ", then ".join(rules)


def _value(gate: GateResult | None) -> str:
    if gate is None or gate.value is None:
        return ABSENT
    return f"{gate.value:.6g} (sample {gate.sample_size:,})"


def _features(found: VersionComparison) -> Markup:
    if found.unknown_features is not None:
        return element("p", f"It cannot be said: {found.unknown_features}.", class_="because")
    if not found.features:
        return element("p", "Both were trained on the same features.", class_="empty")
    old, new = found.before.version, found.after.version
    rows = [(f"{one.what} {one.name}", one.kind, text(one.before), text(one.after))
            for one in found.features]  # fmt: skip
    return texts(("what", "change", old, new), rows)


def _part(part: tuple[Compared, ...], old: str, new: str) -> Markup:
    apart = [one for one in part if not one.equal]
    alike = [one for one in part if one.equal]
    shown = None
    if apart:
        rows = [(one.name, text(one.before), text(one.after)) for one in apart]
        shown = texts(("what", old, new), rows)
    same = None
    if alike:
        same = element(
            "details",
            element("summary", f"{len(alike)} equal"),
            texts(("what", "both"), [(one.name, text(one.before)) for one in alike]),
        )
    return join(shown, same) if part else element("p", "Neither has any.", class_="empty")


def text(value: Any) -> str:
    """A value as a person reads it; None is a dash."""
    if value is None:
        return ABSENT
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "nothing"
    return "nothing" if value == {} else str(value)
