"""The document of a pack as one HTML page, in the order in which an examiner reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from assay.orchestration.report import words
from assay.orchestration.report.document import badge, header, render_document, section, texts
from assay.orchestration.report.html import Markup, element, join

NOT_DECLARED: Final = "not declared"
_PARTS: Final = {
    "identity": "Identity and signatures",
    "signatures": "Identity and signatures",
    "declared": "Purpose, limits and tier",
    "data": "Data and making",
    "lineage": "Lineage",
    "evidence": "Gates and evidence",
    "gates": "Gates and evidence",
    "people": "Who made, judged and approved it",
    "beside": "Beside the version in production",
    "live": "When it was live",
    "outcomes": "Outcomes since",
    "not_tested": "What was not tested",
    "history": "What the log says",
    "bill_of_materials": "the file bom.cdx.json",
}


def pack_page(document: Mapping[str, Any], picture: str) -> str:
    """The page. Equal documents and pictures give equal bytes.

    Parameters
    ----------
    picture: the lineage as SVG, from :func:`assay.orchestration.lineage.lineage_svg`.
    """
    identity = document["identity"]
    title = f"{identity['name']} {identity['version']}"
    main = element(
        "main",
        section("Purpose, limits and tier", _declared(document)),
        section("Gates and evidence", _gates(document), _evidence(document)),
        section("What was not tested", _listed(document["not_tested"])),
        section("Who made, judged and approved it", _people(document["people"])),
        section("Beside the version in production", _beside(document),
                intro="In shadow nothing acts on what it says; as a canary it answers for a share "
                "of the entities."),
        section("When it was live", _live(document["live"])),
        section("Outcomes since", _outcomes(document["outcomes"])),
        section("Lineage", element("div", Markup(picture), class_="scroll"), _links(document)),
        section("Data and making", _data(document["data"])),
        section("Identity and signatures", _identity(document)),
        section("What the log says", _history(document["history"])),
        section("Where guidance on model risk asks for it", _crosswalk(document),
                intro="SR 26-2 and OCC Bulletin 2026-13 replaced SR 11-7 and OCC Bulletin 2011-12 "
                "on 17 April 2026. The table says where to look, not that it is enough."),
    )  # fmt: skip
    return render_document(f"{title}: evidence pack", _header(document, title), main)


def _header(document: Mapping[str, Any], title: str) -> Markup:
    identity, declared, gates = (document[key] for key in ("identity", "declared", "gates"))
    stretches = document["live"]["intended"]
    live = "never" if not stretches else f"since {_moment(stretches[-1]['from'])}"
    if stretches and stretches[-1]["to"] is not None:
        live = f"until {_moment(stretches[-1]['to'])}"
    approvers = sorted({one["approver"] for one in document["people"]["approvals"]})
    return header(
        f"Assay · evidence pack · {document['desk']}",
        title,
        element("span", document["notice"], class_="muted"),
        facts=(
            ("Stage", identity["stage"]),
            ("Gates", gates["outcome"] if gates else "judged by none"),
            ("Live", live),
            ("Materiality", declared["materiality"] or NOT_DECLARED),
            ("Author", identity["author"]),
            ("Approved by", ", ".join(approvers) or "nobody"),
            ("To be validated again by", declared["revalidate_by"] or NOT_DECLARED),
            ("State of the log at", _moment(document["as_of"])),
        ),
    )


def _declared(document: Mapping[str, Any]) -> Markup:
    declared = document["declared"]
    recipe = document["data"]["config"].get("recipe")
    said = recipe.get("description") if isinstance(recipe, Mapping) else None
    rows = [
        ("Tier of materiality", declared["materiality"] or NOT_DECLARED),
        ("Intended use", declared["intended_use"] or NOT_DECLARED),
        ("What its recipe says", said or "the configuration has no recipe"),
        ("Limits of its use", _listed(declared["limits"]) or NOT_DECLARED),
        ("Owner", declared["owner"] or NOT_DECLARED),
        ("Examined by", declared["validator"] or NOT_DECLARED),
        ("To be validated again by", declared["revalidate_by"] or NOT_DECLARED),
    ]
    digest = declared["source_sha256"]
    note = (
        "Nothing is declared about this model in configs/models.yaml."
        if digest is None
        else f"Declared in configs/models.yaml (SHA-256 {digest}), which is no part of the signed "
        "version."
    )
    return join(texts(("what", "declared"), rows), element("p", note, class_="muted"))


def _gates(document: Mapping[str, Any]) -> Markup:
    gates = document["gates"]
    if gates is None:
        return element("p", "No gate has judged this version.", class_="because")
    rows = [
        (
            words.gate_title(one["name"]),
            badge(one["verdict"]),
            words.measured(one["name"], one["value"]),
            f"{one['threshold']} ({one['severity']})",
            f"{one['sample_size']:,}",
            one["convention"],
        )
        for one in gates["results"]
    ]
    digests = (
        ("Outcome", gates["outcome"]),
        ("Policy", f"{gates['policy']}, SHA-256 {gates['policy_digest']}"),
        ("Evidence", f"SHA-256 {gates['evidence_digest']}"),
        ("Judged against", gates["champion_digest"] or "no champion"),
        ("Switched off", ", ".join(gates["switched_off"]) or "none"),
    )
    table = texts(("gate", "verdict", "value", "rule", "sample", "how it was measured"), rows)
    return join(
        table, element("h3", "What the verdicts rest on"), texts(("what", "which"), digests)
    )


def _evidence(document: Mapping[str, Any]) -> Markup | None:
    """Measurements that no gate judged."""
    judged = {one["name"] for one in (document["gates"] or {"results": []})["results"]}
    rest = [one for one in document["evidence"] if one["name"] not in judged]
    if not rest:
        return None
    rows = [
        (one["name"], text_of(one["value"]), _interval(one), f"{one['sample_size']:,}",
         one["convention"])
        for one in rest
    ]  # fmt: skip
    columns = ("measurement", "value", "interval", "sample", "how it was measured")
    return join(element("h3", "Measured besides, judged by no gate"), texts(columns, rows))


def _interval(evidence: Mapping[str, Any]) -> str:
    interval = evidence["interval"]
    return "-" if interval is None else f"{interval[0]:.6g} to {interval[1]:.6g}"


def _people(people: Mapping[str, Any]) -> Markup:
    rules = [(one["rule"], badge(one["verdict"])) for one in people["separation"]]
    approvals = [
        (one["approver"], _moment(one["granted_at"]), _moment(one["expires_at"]),
         one["signature"], one["seq"])
        for one in people["approvals"]
    ]  # fmt: skip
    promotions = [
        (
            "with broken glass" if one["break_glass"] else "through its gates",
            _moment(one["at"]), one["by"], ", ".join(one["approvers"]) or "nobody",
            one["signature"], one["seq"], one["reason"],
        )
        for one in people["promotions"]
    ]  # fmt: skip
    said = f"Made by {people['author']}, signed by {people['signed_by']}."
    return join(
        element("p", said),
        texts(("rule", "holds"), rules),
        element("h3", "Approvals"),
        _table(("approver", "given", "ends", "signature", "entry"), approvals, "Nobody approved."),
        element("h3", "Promotions"),
        _table(
            ("how", "at", "by", "approved by", "signature", "entry", "reason"),
            promotions,
            "It was never promoted.",
        ),
    )


def _beside(document: Mapping[str, Any]) -> Markup:
    entries = [
        (one["event"], _moment(one["at"]), one["by"], one["reason"], _numbers(one["evidence"]),
         one["seq"])
        for one in document["beside"]
    ]  # fmt: skip
    recorded = {(one.get("provenance") or {}).get("inputs_digest") for one in document["evidence"]}
    cards = [
        (
            element("a", one["path"].removeprefix("scorecards/").removesuffix(".json"),
                    href=one["path"].removesuffix("json") + "html"),
            _moment(one["at"]),
            "-" if one["rows"] is None else f"{one['rows']:,}",
            badge(one["verdict"]),
            "yes" if one["inputs_digest"] in recorded else "no",
            one["sha256"],
        )
        for one in document["scorecards"]
    ]  # fmt: skip
    return join(
        _table(("event", "at", "by", "reason", "found", "entry"), entries, "It never ran there."),
        element("h3", "Scorecards"),
        _table(
            ("scorecard", "written", "rows", "verdict", "in the log as evidence",
             "SHA-256"),
            cards,
            "None was kept.",
        ),
        element("p", "A scorecard is a report and not signed by itself. What the log holds of it "
                "stands above and under the evidence.", class_="muted") if cards else None,
    )  # fmt: skip


def _numbers(evidence: Mapping[str, Any]) -> str:
    """What a canary's end says that was seen of it."""
    finding = evidence.get("finding")
    if not isinstance(finding, Mapping):
        share = evidence.get("share")
        return "-" if share is None else f"share {share:.1%}"
    numbers = finding.get("numbers", {})
    return f"{finding.get('verdict')} over {numbers.get('pairs', 0):,} pairs"


def _live(live: Mapping[str, Any]) -> Markup:
    meant = [
        (_moment(one["from"]), "still" if one["to"] is None else _moment(one["to"]))
        for one in live["intended"]
    ]
    gaps = [
        (one["server"], _moment(one["from"]), f"{one['seconds']:.3f} s",
         one["intended"] or "nothing", one["effective"] or "nothing")
        for one in live["gaps"]
    ]  # fmt: skip
    wrong = [element("p", one, class_="because") for one in live["problems"]]
    unsigned = (
        "Some of the servers' lines carry no signature." if live["some_lines_unsigned"] else ""
    )
    return join(
        element("h3", "Meant to be live, by the registry"),
        _table(("from", "to"), meant, "It was never meant to be live."),
        element("h3", "When servers had something else"),
        _table(
            ("server", "from", "for", "meant was", "it had"),
            gaps,
            "No server's record differs from what was meant, or none was written.",
        ),
        element("p", unsigned, class_="muted") if unsigned else None,
        wrong,
    )


def _outcomes(outcomes: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [
        (
            f"{one['event']} of {one['from_version'] or '-'}",
            one["to_version"] or "-",
            _moment(one["at"]),
            one["by"],
            one["reason"],
            _told(one["evidence"]),
        )
        for one in outcomes
    ]
    return _table(
        ("event", "then", "at", "by", "reason", "evidence"),
        rows,
        "The log has no withdrawal or failure.",
    )


def _told(evidence: Mapping[str, Any]) -> str:
    measured = evidence.get("evidence")
    parts = list(evidence.get("reasons", []))
    if isinstance(measured, Mapping):
        parts += [f"{name} {text_of(value)}" for name, value in measured.items()]
    return "; ".join(parts) or "-"


def _links(document: Mapping[str, Any]) -> Markup:
    rows = [(one["what"], badge(one["verdict"]), one["detail"])
            for one in document["lineage"]["findings"]]  # fmt: skip
    return texts(("what the version names", "holds", "found"), rows)


def _data(data: Mapping[str, Any]) -> Markup:
    environment = dict(data["environment"])
    packages = environment.pop("packages", {})
    environment.pop("git", None)
    rows = [
        *((f"snapshot of {table}", one) for table, one in data["snapshot_ids"].items()),
        ("training set", f"{data['training_set_rows']:,} rows, {data['training_set_digest']}"),
        ("facts known by", data["training_set_known_at"] or "not recorded"),
        ("feature manifests", data["manifest_hash"] or "none"),
        ("training run", data["parent_run"] or "not recorded"),
        ("configuration", data["config_hash"]),
        ("seeds", ", ".join(map(str, data["seeds"])) or "none"),
        ("commit", data["git_commit"] or "not under version control"),
        ("inputs", _inputs(data["schema"])),
        ("machine", ", ".join(f"{key} {value}" for key, value in environment.items())),
        ("packages", ", ".join(f"{key} {value}" for key, value in packages.items())),
    ]
    metrics = [(name, text_of(value)) for name, value in data["metrics"].items()]
    return join(
        texts(("what", "which"), rows),
        element("h3", "Measured at training, out of sample"),
        _table(("metric", "value"), metrics, "Nothing was measured."),
    )


def _identity(document: Mapping[str, Any]) -> Markup:
    identity, head = document["identity"], document["log_head"]
    rows = [
        ("digest", identity["digest"]),
        ("signed by", f"{identity['signed_by']}, key {identity['signed_with']}"),
        *([("NOTE", identity["signature_note"])] if identity["signature_note"] else []),
        ("registered", f"{identity['registered_at']}, log entry {identity['registered_seq']}"),
        ("end of the log", f"entry {head['seq']}, {head['hash']}"),
        ("log signed up to", f"entry {document['log_signed_up_to']}"),
        *(("note on the log", note) for note in document["log_notes"]),
    ]
    files = [(name, f"{one['bytes']:,}", one["sha256"]) for name, one in identity["files"].items()]
    return join(
        texts(("what", "which"), rows),
        element("h3", "Files"),
        texts(("file", "bytes", "SHA-256"), files),
    )


def _history(history: Iterable[Mapping[str, Any]]) -> Markup:
    columns = ("entry", "at", "event", "from", "to", "by", "outcome", "reason")
    rows = [
        (one["seq"], _moment(one["at"]), one["event"], one["from_version"] or "-",
         one["to_version"] or "-", one["by"], one["outcome"], one["reason"])
        for one in history
    ]  # fmt: skip
    return texts(columns, rows)


def _crosswalk(document: Mapping[str, Any]) -> Markup:
    rows = [
        (one["topic"], one["sr_11_7"],
         "; ".join(dict.fromkeys(_PARTS[part] for part in one["parts"])))
        for one in document["crosswalk"]
    ]  # fmt: skip
    links = [
        element("li", element("a", one["title"], href=one["url"])) for one in document["sources"]
    ]
    return join(
        texts(("topic of SR 26-2", "where SR 11-7 had it", "in this pack"), rows),
        element("h3", "Sources"),
        element("ul", links),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], otherwise: str) -> Markup:
    return texts(columns, rows) if rows else element("p", otherwise, class_="empty")


def _listed(sentences: Sequence[str]) -> Markup | None:
    if not sentences:
        return None
    return element("ul", [element("li", one) for one in sentences])


def _moment(text: str) -> str:
    """To the second; the full moment stands in ``pack.json``."""
    return f"{text[:10]} {text[11:19]}Z"


def text_of(value: Any) -> str:
    """A number as it is recorded, to ten digits; anything else as text."""
    return f"{value:.10g}" if isinstance(value, float) else "-" if value is None else str(value)


def _inputs(schema: Mapping[str, Any] | None) -> str:
    if schema is None:
        return "none: it is no model"
    return f"{len(schema['names'])} columns, CRC-32 {schema['crc32']}"
