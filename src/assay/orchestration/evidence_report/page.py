"""A version's evidence as one HTML page, in the order in which a risk officer asks."""

from __future__ import annotations

from assay.domain.verdicts import Outcome, Severity, Verdict
from assay.orchestration.evidence_report.gathering import EvidenceSheet
from assay.orchestration.evidence_report.pictures import (
    ablation_picture,
    cost_stress,
    overfitting_picture,
    reliability_picture,
    rolling_ratio,
)
from assay.orchestration.report import words
from assay.orchestration.report.controls import noise_table
from assay.orchestration.report.document import badge, header, render_document, section, texts
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.performance import drawn
from assay.orchestration.report.summary import refusal
from assay.orchestration.report.verdicts import version_card
from assay.validation.catalogue import CATALOGUE

_LOOKS = {Outcome.PROMOTABLE: "pass", Outcome.REFUSED: "fail", Outcome.NOT_YET: "open"}


def render_evidence(sheet: EvidenceSheet) -> str:
    """The page. Equal sheets give equal bytes."""
    record = sheet.version.record
    title = f"{record.name} {record.version}"
    main = element(
        "main",
        section("What stands in the way", _in_the_way(sheet)),
        _bare("Gates", version_card(record.name, sheet.version, reasons=False)),
        _bare("Forecasts against outcomes", _pictures(sheet)),
        section("Everything that was tried", _trials(sheet)) if sheet.trials is not None else None,
        section("Models that know nothing", _noise(sheet)),
        section("What was not tested, and why", _not_tested(sheet)),
        section("What the numbers rest on", _rests_on(sheet)),
    )
    return render_document(f"{title}: evidence", _header(sheet, title), main)


def _header(sheet: EvidenceSheet, title: str) -> Markup:
    version = sheet.version
    gates = version.gates
    outcome: Markup | str = "not judged"
    if gates is not None:
        outcome = element(
            "span", words.OUTCOMES[gates.outcome], class_=f"verdict {_LOOKS[gates.outcome]}"
        )
    facts: list[tuple[str, object]] = [
        ("Gates", outcome),
        ("Stage", str(version.record.stage)),
        ("Kind", version.record.kind),
        ("Registered", words.moment(version.record.registered_at)),
        ("Author", version.record.author),
    ]
    if gates is not None:
        facts.append(("Policy", f"{gates.policy or 'unnamed'} ({gates.policy_digest[:12]})"))
    if sheet.trials is not None:
        facts.append(("Trials counted", str(sheet.trials.raw)))
    return header(f"Assay · evidence · {sheet.desk}", title, version.description, facts=facts)


def _in_the_way(sheet: EvidenceSheet) -> Markup:
    gates = sheet.version.gates
    if gates is None:
        name, version = sheet.version.record.name, sheet.version.record.version
        return element("p", "It has not been judged: assay gates check ", name, " ", version, ".")
    found = refusal(sheet.version)
    warned = [
        words.gate_noun(one.name).lower()
        for one in gates.results
        if one.severity is Severity.SOFT and one.verdict is not Verdict.PASS
    ]
    if not found:
        said: Markup = element("p", "Nothing: every gate that blocks has passed.")
    else:
        said = element("ul", [element("li", one) for one in found])
    if not warned:
        return said
    return join(said, element("p", f"Warned, not blocking: {words.listed(warned)}."))


def _pictures(sheet: EvidenceSheet) -> Markup:
    if sheet.picture is None:
        return element("p", f"No plots: {sheet.no_picture}.", class_="empty")
    sharpe = sheet.evidence("sharpe_after_costs")
    more = [
        None if sheet.rolling_sharpe is None else rolling_ratio(sheet.rolling_sharpe),
        None if sharpe is None else cost_stress(sharpe),
        None if sheet.overfitting is None else overfitting_picture(sheet.overfitting),
        None if sheet.reliability is None else reliability_picture(sheet.reliability),
    ]
    groups = sheet.evidence("ablation")
    return join(
        element("p", "Out of sample throughout: each forecast was made by a model trained only on "
                "what was known before, with a gap between.", class_="intro"),
        element("div", drawn(sheet.picture), [one for one in more if one is not None],
                ablation_picture(groups) if groups is not None else None, class_="charts"),
        None if groups is not None else ablation_picture(None),
    )  # fmt: skip


def _trials(sheet: EvidenceSheet) -> Markup:
    assert sheet.trials is not None
    rows = [
        (
            one.id[:12] if not one.id.startswith("version/") else one.id,
            one.recipe or "-",
            ", ".join(f"{v} ({stage})" for v, stage in one.versions.items()) or "not registered",
            "-" if one.dates is None else words.count(len(one.dates)),
            one.without or "",
        )
        for one in sheet.trials.trials
    ]
    found = sheet.overfitting
    counted = (
        f"{sheet.trials.raw} counted: every training run that the desk recorded for this line and "
        "every version, whatever became of it. What was tried elsewhere is not known here, so the "
        "count is a lower bound."
    )
    said = [counted]
    if found is not None and found.undefined is not None:
        said.append(f"Probability of overfitting: {found.undefined}.")
    if found is not None:
        said += list(found.warnings)
    return join(
        [element("p", one) for one in said],
        texts(("Run", "Recipe", "Versions", "Dates", "Without a series because"), rows),
    )


def _noise(sheet: EvidenceSheet) -> Markup:
    control = sheet.noise
    record = sheet.version.record
    if control is None:
        return element(
            "p", f"Nobody asked: assay gates noise {record.name} {record.version}", class_="empty"
        )
    return noise_table(control)


def _not_tested(sheet: EvidenceSheet) -> Markup:
    version = sheet.version
    rows: list[tuple[object, ...]] = []
    if version.gates is not None:
        rows += [
            (name, "switched off", version.why_off.get(name) or "by the policy that judged")
            for name in version.gates.switched_off
        ]
        rows += [
            (one.name, badge(str(one.verdict)), words.prettier(one.reason))
            for one in version.gates.results
            if one.verdict is Verdict.INDETERMINATE
        ]
    asked = {str(row[0]) for row in rows} | set(version.evidence)
    rows += [
        (name, "not asked", f"no gate of this policy asks for {one.meaning}")
        for name, one in CATALOGUE.items()
        if name not in asked
    ]
    if not rows:
        return element("p", "Every measurement that is known here was taken and judged.")
    return texts(("Measurement", "State", "Why"), rows)


def _rests_on(sheet: EvidenceSheet) -> Markup:
    rows = []
    for name, piece in sorted(sheet.version.evidence.items()):
        traced = piece.provenance
        if traced is None:
            rows.append((name, "not recorded", "", "", ""))
            continue
        rows.append(
            (
                name,
                words.moment(traced.measured_at),
                traced.convention_id,
                ", ".join(f"{table} {one[:12]}" for table, one in traced.snapshots.items()),
                ", ".join(str(seed) for seed in traced.seeds) or "no chance in it",
            )
        )
    record = sheet.version.record
    return join(
        element("p", "Measured again, bit for bit, by ",
                element("code", f"assay evidence recompute {record.name} {record.version}"),
                ". Version ", element("code", record.digest[:16]), "."),
        texts(("Evidence", "Measured", "Definition", "Data", "Seeds"), rows),
    )  # fmt: skip


def _bare(title: str, *parts: object) -> Markup:
    """A section whose parts are cards themselves."""
    identifier = "-".join(title.lower().split())
    return element(
        "section", element("h2", title, id=identifier), *parts, aria_labelledby=identifier
    )
