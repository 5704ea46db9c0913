"""The top of the page: one card per model that says what is live, and what was refused and why."""

from __future__ import annotations

from collections.abc import Mapping

from assay.domain.canonical import content_hash
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict
from assay.domain.versions import Stage
from assay.orchestration.report import words
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.values import DeskReport, ModelSheet, VersionSheet
from assay.registry import Entry, EventOutcome, EventType

MOVING = (EventType.PROMOTE, EventType.BREAK_GLASS, EventType.ROLLBACK)
"""Events that put a version into production when they are done."""


def header(report: DeskReport) -> Markup:
    """The page's title, its moment, and the state of the whole in a few figures."""
    return element(
        "header",
        element("p", "Assay · desk report", class_="eyebrow"),
        element("h1", report.desk),
        element(
            "p",
            "As of ",
            element("strong", words.moment(report.as_of)),
            ". Everything here is read from the desk's registry, log, training runs and lake.",
        ),
        element("dl", [_fact(*fact) for fact in _facts(report)], class_="facts"),
    )


def headlines(report: DeskReport) -> Markup:
    """One card per model."""
    manifests = {f"gold/{gold.view}": gold.manifest for gold in report.gold}
    cards = [_card(model, manifests) for model in report.models]
    if not cards:
        cards = [element("p", "No model has been registered yet.", class_="empty")]
    return element("div", cards, class_="headlines")


def refusal(sheet: VersionSheet) -> list[str]:
    """Why a version may not go live, one sentence per hard gate that stands in the way."""
    if sheet.gates is None:
        return ["It has not been judged."]
    return [
        because(gate, sheet)
        for gate in sheet.gates.results
        if gate.severity is Severity.HARD and gate.verdict is not Verdict.PASS
    ]


def because(gate: GateResult, sheet: VersionSheet) -> str:
    """One gate's finding as a sentence: what was measured in words, the value and the rule."""
    noun = words.gate_noun(gate.name)
    if gate.value is None:
        return f"{noun} could not be decided: {words.prettier(gate.reason)}."
    evidence = sheet.evidence.get(gate.name)
    said = evidence.details.get("in_words") if evidence is not None else None
    rule = words.required(gate.name, gate.threshold)
    numbers = f"{words.measured(gate.name, gate.value)}, required {rule}"
    return f"{noun}: {numbers}; {words.prettier(str(said))}." if said else f"{noun}: {numbers}."


def live_changes(events: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The entries that put a version of this model into production, oldest first."""
    return tuple(one for one in events if one.type in MOVING and one.outcome is EventOutcome.DONE)


def _facts(report: DeskReport) -> list[tuple[str, str, str]]:
    problems = report.problems
    live = sum(model.live.version is not None for model in report.models)
    facts = [
        ("Models live", f"{live} of {len(report.models)}", ""),
        (
            "Verification",
            "all signed files verify" if not problems else f"{len(problems)} problems",
            "pass" if not problems else "fail",
        ),
        ("Log", f"{words.count(report.log.entries)} entries, chained", ""),
    ]
    for gold in report.gold:
        if gold.proof is None:
            facts.append((f"Parity of {gold.view}", "not proven for this table", "open"))
            continue
        found = gold.proof["report"]
        equal = "all equal" if found["holds"] else "NOT equal"
        facts.append(
            (
                f"Parity of {gold.view}",
                f"{words.count(found['values_compared'])} values, {equal}",
                "pass" if found["holds"] else "fail",
            )
        )
    if report.data is not None:
        facts.append(("Facts", words.count(report.data.facts), ""))
    return facts


def _fact(name: str, value: str, look: str) -> Markup:
    mark = {"pass": "✓ ", "fail": "✗ ", "open": "? "}.get(look, "")
    return element("div", element("dt", name), element("dd", mark + value, class_=look or None))


def _card(model: ModelSheet, manifests: Mapping[str, str]) -> Markup:
    live = model.live.version
    state = "live" if live is not None else "idle"
    return element(
        "article",
        element(
            "p",
            element("span", "Live" if live else "Not live", class_=f"badge {state}"),
            element("span", model.name, class_="name"),
            element("span", live.version if live else "no version", class_="which"),
            class_="who",
        ),
        element("p", _live_sentence(model), class_="lead"),
        _other_features(model, manifests),
        [
            element("p", _refused_sentence(sheet, model))
            for sheet in model.versions
            if sheet.gates is not None and sheet.gates.outcome is not Outcome.PROMOTABLE
        ],
        [
            element("p", f"{sheet.record.version} passed its gates and waits: not yet promoted.")
            for sheet in model.versions
            if sheet.gates is not None
            and sheet.gates.outcome is Outcome.PROMOTABLE
            and sheet.record.stage is Stage.STAGED
        ],
        class_=f"card {state}",
    )


def _other_features(model: ModelSheet, manifests: Mapping[str, str]) -> Markup | None:
    """A warning where the features' tables have other definitions than the live model knows."""
    live = model.live.version
    made = next(
        (one.metadata for one in model.versions if live and one.record.version == live.version),
        None,
    )
    tables = [] if made is None else [one for one in made.snapshot_ids if one in manifests]
    # A training set's manifest is the hash of the manifests of its tables and its request view.
    asked = [] if made is None else [made.config.get("request_view", {}).get("manifest")]
    now = content_hash(sorted({manifests[table] for table in tables} | set(filter(None, asked))))
    if made is None or not tables or not made.manifest_hash or now == made.manifest_hash:
        return None
    return element(
        "p",
        "It was trained on features of manifest ",
        element("code", made.manifest_hash[:12]),
        f", but {words.listed(tables)} is built by other definitions now: it cannot be served "
        "from that.",
        class_="because",
    )


def _live_sentence(model: ModelSheet) -> Markup:
    live = model.live
    if live.version is None or live.since is None:
        return join("Nothing is in production: no version of this model was allowed to go live.")
    changes = live_changes(model.events)
    entry = next((one for one in changes if one.seq == live.seq), None)
    version = live.version.version
    sheet = next((one for one in model.versions if one.record.version == version), None)
    approvers = () if sheet is None else sheet.approvers
    approved = (
        f"approved by {words.listed(sorted(approvers))}"
        if approvers
        else "approved by nobody: it was forced past its gates"
    )
    how = ""
    if entry is not None and entry.type is EventType.ROLLBACK:
        first = next(one for one in changes if one.to_version == version)
        how = (
            f" It was put back by {entry.initiated_by} when {entry.from_version} was withdrawn; "
            f"it had first been promoted on {words.moment(first.at)}."
        )
    return join(
        "Version ",
        element("strong", version),
        " has been live since ",
        element("time", words.moment(live.since)),
        f", {approved}.",
        how,
    )


def _refused_sentence(sheet: VersionSheet, model: ModelSheet) -> Markup:
    assert sheet.gates is not None
    version = sheet.record.version
    refused = sheet.gates.outcome is Outcome.REFUSED
    forced = [
        one
        for one in live_changes(model.events)
        if one.type is EventType.BREAK_GLASS and one.to_version == version
    ]
    return join(
        element(
            "strong", f"{version} was refused. " if refused else f"{version} may not go live yet. "
        ),
        " ".join(refusal(sheet)),
        [" ", [_forced(one, model) for one in forced]] if forced else None,
    )


def _forced(entry: Entry, model: ModelSheet) -> str:
    said = (
        f"It was forced live by {entry.initiated_by} on {words.moment(entry.at)} (“{entry.reason}”)"
    )
    later = [one for one in live_changes(model.events) if one.seq > entry.seq]
    if not later:
        return f"{said}, and is live."
    return f"{said}, and withdrawn {words.duration(later[0].at - entry.at)} later."
