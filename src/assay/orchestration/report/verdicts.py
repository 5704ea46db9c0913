"""The gates of every version, each with what was measured, the rule, and the fine print."""

from __future__ import annotations

import json
from typing import Any

from assay.domain.evidence import Evidence
from assay.domain.verdicts import GateResult, Outcome, Severity
from assay.orchestration.report import words
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.summary import refusal
from assay.orchestration.report.values import ModelSheet, VersionSheet

_LOOKS = {Outcome.PROMOTABLE: "pass", Outcome.REFUSED: "fail", Outcome.NOT_YET: "open"}


def gates_of(model: ModelSheet) -> Markup:
    """Every version of a model with its gates, the newest first."""
    return element(
        "div", [version_card(model.name, sheet) for sheet in model.versions], class_="versions"
    )


def version_card(model: str, sheet: VersionSheet, *, reasons: bool = True) -> Markup:
    """One version: its outcome, its gates, what was switched off and what else was measured.

    ``reasons`` puts what stands in its way before the table; a page that has said so leaves it out.
    """
    record = sheet.record
    judged = sheet.gates
    outcome = "not judged" if judged is None else words.OUTCOMES[judged.outcome]
    look = "open" if judged is None else _LOOKS[judged.outcome]
    return element(
        "article",
        element(
            "h4",
            f"{model} {record.version} ",
            element("span", outcome, class_=f"verdict {look}"),
            " ",
            element("span", f"now {record.stage}", class_="stage"),
        ),
        element("p", sheet.description, class_="muted"),
        element("p", _about(sheet), class_="muted"),
        [element("p", element("strong", f"Does not verify: {one}")) for one in sheet.problems],
        [
            element("p", sentence, class_="because")
            for sentence in (refusal(sheet) if reasons and look != "pass" else [])
        ],
        None if judged is None else _table(sheet, judged.results),
        _switched_off(sheet),
        _also_measured(sheet),
        class_="card version",
        id=f"{model}-{record.version}",
    )


def _about(sheet: VersionSheet) -> str:
    record = sheet.record
    said = [f"Made by {record.author}, registered {words.moment(record.registered_at)}."]
    if sheet.gates is not None:
        policy = sheet.gates.policy or "unnamed"
        against = f" against champion {sheet.against}" if sheet.against else ""
        said.append(f"Judged under policy {policy} ({sheet.gates.policy_digest[:12]}){against}.")
    if sheet.approvers:
        said.append(f"Approved by {words.listed(sorted(sheet.approvers))}.")
    return " ".join(said)


def _table(sheet: VersionSheet, gates: tuple[GateResult, ...]) -> Markup:
    head = element(
        "tr", [element("th", one, scope="col")
               for one in ("Verdict", "Gate", "Measured", "Required", "Sample", "Weight")]
    )  # fmt: skip
    order = sorted(gates, key=lambda gate: gate.severity is Severity.SOFT)
    return element(
        "table",
        element("thead", head),
        element("tbody", [_row(gate, sheet.evidence.get(gate.name)) for gate in order]),
        class_="gates",
    )


def _row(gate: GateResult, evidence: Evidence | None) -> Markup:
    mark, word, look = words.VERDICTS[gate.verdict]
    cells = [
        ("Measured", words.measured(gate.name, gate.value)),
        ("Required", words.required(gate.name, gate.threshold)),
        ("Sample", words.count(gate.sample_size)),
        ("Weight", "blocks" if gate.severity is Severity.HARD else "warns"),
    ]
    return element(
        "tr",
        element("td", element("span", f"{mark} {word}", class_=f"verdict {look}")),
        element(
            "th",
            element(
                "details",
                element("summary", words.gate_title(gate.name)),
                _fine_print(gate, evidence),
            ),
            scope="row",
        ),
        [element("td", value, data_label=label) for label, value in cells],
    )


def _fine_print(gate: GateResult, evidence: Evidence | None) -> Markup:
    rows: list[tuple[str, object]] = [
        ("gate", element("code", gate.name)),
        ("verdict", words.prettier(gate.reason)),
        ("convention", gate.convention),
    ]
    if evidence is not None:
        # The reason repeats the finding in words; once is enough.
        said = evidence.details.get("in_words")
        told = said is not None and str(said) in gate.reason
        rows += [row for row in _evidence_rows(evidence) if not (told and row[0] == "in words")]
    return _pairs(rows)


def _evidence_rows(evidence: Evidence) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    if evidence.interval is not None:
        low, high = evidence.interval
        level = evidence.details.get("level")
        name = "interval" if level is None else f"interval, {words.share(float(level), 0)}"
        rows.append((name, f"{words.figure(low)} to {words.figure(high)}"))
    rows += [
        (name.replace("_", " "), _plain(value))
        for name, value in evidence.details.items()
        if name != "level"
    ]
    return rows


def _switched_off(sheet: VersionSheet) -> Markup | None:
    if sheet.gates is None or not sheet.gates.switched_off:
        return None
    names = sheet.gates.switched_off
    rows: list[tuple[str, object]] = [
        (name, sheet.why_off.get(name) or "the policy that judged is not the desk's policy now")
        for name in names
    ]
    said = "One gate" if len(names) == 1 else f"{len(names)} gates"
    said = f"{said} of the policy switched off, not asked"
    return element("details", element("summary", said), _pairs(rows), class_="aside")


def _also_measured(sheet: VersionSheet) -> Markup | None:
    asked = {gate.name for gate in sheet.gates.results} if sheet.gates is not None else set()
    rest = [one for name, one in sorted(sheet.evidence.items()) if name not in asked]
    if not rest:
        return None
    return element(
        "details",
        element("summary", f"Measured too, not asked about by this policy ({len(rest)})"),
        [
            join(
                element("p", element("strong", words.gate_title(one.name)), " ",
                        words.measured(one.name, one.value)),
                _pairs([("convention", one.convention), *_evidence_rows(one)]),
            )
            for one in rest
        ],
        class_="aside",
    )  # fmt: skip


def _pairs(rows: list[tuple[str, object]]) -> Markup:
    body = [
        element("tr", element("th", name, scope="row"), element("td", value))
        for name, value in rows
    ]
    return element("table", element("tbody", body), class_="pairs")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return words.count(value)
    if isinstance(value, float):
        return words.figure(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key.replace('_', ' ')} {_plain(one)}" for key, one in value.items())
    return "none" if value is None else json.dumps(value)
