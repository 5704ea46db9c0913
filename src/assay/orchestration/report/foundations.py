"""What the models stand on: parity of features, facts, universe, and where it all came from."""

from __future__ import annotations

from collections import Counter
from typing import Any

from assay.domain.instants import Instant, render
from assay.orchestration.report import words
from assay.orchestration.report.charts import Line, bar_chart, line_chart
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.performance import panel
from assay.orchestration.report.values import (
    DataSheet,
    DeskReport,
    GoldSheet,
    UniverseSheet,
    VersionSheet,
)


def parity(gold: tuple[GoldSheet, ...]) -> Markup:
    """History against events, per view, with one row per feature on demand."""
    if not gold:
        return element("p", "No features have been built yet.", class_="empty")
    return join([_view(one) for one in gold])


def data(sheet: DataSheet | None) -> Markup:
    """Facts per year, and what was set aside."""
    if sheet is None:
        return element("p", "Nothing has been ingested yet.", class_="empty")
    years = sorted(set(sheet.by_year) | set(sheet.quarantined))
    accepted = [sheet.by_year.get(year, 0) for year in years]
    aside = [sum(sheet.quarantined.get(year, {}).values()) for year in years]
    reasons: Counter[str] = Counter()
    for found in sheet.quarantined.values():
        reasons.update(found)
    span = ""
    if sheet.first is not None and sheet.last is not None:
        span = f" from {words.day(sheet.first)} to {words.day(sheet.last)}"
    broken = "; ".join(
        f"{words.count(number)} {reason.replace('_', ' ')}"
        for reason, number in sorted(reasons.items())
    )
    says = (
        f"{words.count(sheet.facts)} facts accepted{span}. Quarantined: {broken or 'none'}. "
        f"{words.count(sheet.extremes)} extreme moves are true, flagged and kept."
    )
    return element(
        "figure",
        element("figcaption", element("h4", "Facts per year"), element("p", says)),
        bar_chart(
            title="Accepted and quarantined facts per year",
            description=says,
            labels=years,
            values=accepted,
            marked=aside,
            say=lambda k: (
                f"{years[k]}: {words.count(accepted[k])} accepted, "
                f"{words.count(aside[k])} quarantined"
            ),
        ),
        element(
            "details",
            element("summary", "What the contract sets aside"),
            element(
                "p",
                "A record that cannot be read, contradicts another of the same pull, or jumps by "
                "more than any market does is kept in quarantine with its reason. It is never "
                "dropped and never used. The part of a bar in another colour is quarantined.",
            ),
        ),
        class_="card panel",
    )


def universe(sheet: UniverseSheet | None) -> Markup:
    """Members by month; who is out now, and why."""
    if sheet is None:
        return element("p", "No universe has been evaluated yet.", class_="empty")
    lines = [Line(sheet.known, "s3 dashed"), Line(sheet.members, "s1")]
    says = (
        f"{len(sheet.latest)} of {words.count(int(sheet.known.y[-1]))} instruments are in, by the "
        f"rule's evaluation of {words.day(sheet.as_of)} on what was known then."
    )
    together: dict[str, list[str]] = {}
    for name, reasons in sheet.out:
        together.setdefault(reasons, []).append(name.replace("_", "/"))
    rows = [
        element("div", element("dt", ", ".join(names)), element("dd", reasons))
        for reasons, names in together.items()
    ]
    chart = panel(
        "Universe over time",
        says,
        lines,
        line_chart(
            title="Instruments in the universe by month",
            description=says,
            lines=lines,
            zero=True,
        ),
        "On the first session of every month: enough history, moves in most sessions, and is not "
        "pegged. The answer holds until the next month, so past membership never changes.",
    )
    out = element(
        "article",
        element("h4", f"Out now, and why ({len(sheet.out)})"),
        element("dl", rows, class_="reasons") if rows else "Nobody is out.",
        element(
            "details",
            element("summary", f"In now ({len(sheet.latest)})"),
            element("p", ", ".join(one.replace("_", "/") for one in sheet.latest)),
        ),
        class_="card panel wide",
    )
    return join(chart, out)


def provenance(report: DeskReport) -> Markup:
    """Manifests, snapshots, digests, versions of code, and the head of the log."""
    rows: list[tuple[str, object]] = [
        ("log head", f"entry {report.log.entries}, {report.log.head}"),
        ("log signed up to", f"entry {report.log.signed_up_to}"),
    ]
    rows += [(f"manifest of {gold.view}", gold.manifest) for gold in report.gold]
    if report.data is not None:
        rows += [(f"snapshot of {name}", one) for name, one in report.data.snapshots.items()]
    tables = [_provenance_of(sheet) for model in report.models for sheet in model.versions]
    return element(
        "footer",
        element("h2", "Provenance", id="provenance"),
        element(
            "p",
            "These names are hashes of content. Whoever has the desk can check each of them: ",
            element("code", "assay audit verify"),
            ", ",
            element("code", "assay models validate NAME VERSION"),
            ", ",
            element("code", "assay parity run --feed"),
            ".",
        ),
        [element("p", element("strong", f"Problem: {one}"), class_="because")
         for one in report.problems],
        _pairs(rows),
        tables,
    )  # fmt: skip


def _provenance_of(sheet: VersionSheet) -> Markup:
    record, made = sheet.record, sheet.metadata
    rows: list[tuple[str, object]] = [("version", record.digest)]
    if made is not None:
        rows += [
            ("feature manifest", made.manifest_hash),
            ("training set", made.training_set_digest),
            ("training rows", words.count(made.training_set_rows or 0)),
            ("trained on facts known by", _cut_off(made.training_set_known_at)),
            ("training run", made.parent_run),
            ("desk revision", made.git_commit or "not under version control"),
            *((f"snapshot of {name}", one) for name, one in sorted(made.snapshot_ids.items())),
            ("code", _environment(made.environment)),
        ]  # fmt: skip
    if sheet.gates is not None:
        rows += [
            ("gate report", sheet.gates.digest),
            ("evidence", sheet.gates.evidence_digest),
            ("policy", sheet.gates.policy_digest),
        ]
    return element(
        "details",
        element("summary", f"{record.name} {record.version}"),
        _pairs([(name, value) for name, value in rows if value]),
    )


def _cut_off(known_at: Instant | None) -> str | None:
    return None if known_at is None else render(known_at)


def _environment(environment: Any) -> str:
    packages = environment.get("packages", {})
    named = [f"Python {environment.get('python', '?')}"]
    named += [f"{name} {version}" for name, version in sorted(packages.items())]
    return f"{', '.join(named)}; {environment.get('machine', '')}".rstrip("; ")


def _pairs(rows: list[tuple[str, object]]) -> Markup:
    body = [
        element("tr", element("th", name, scope="row"), element("td", element("code", value)))
        for name, value in rows
    ]
    return element("table", element("tbody", body), class_="pairs hashes")


def _view(gold: GoldSheet) -> Markup:
    title = element("h4", f"View {gold.view}, {words.count(gold.rows)} rows")
    if gold.proof is None:
        return element(
            "article",
            title,
            element(
                "p",
                element("span", "? not proven", class_="verdict open"),
                " No proof is kept for the table as it is now. Prove it with ",
                element("code", f"assay parity run {gold.view} --feed"),
                ".",
            ),
            class_="card",
        )
    found = gold.proof["report"]
    holds = bool(found["holds"])
    part = found["share"]
    cells = [
        ("Values compared", words.count(found["values_compared"])),
        ("Equal bit for bit", "none" if part is None else _exact_share(part)),
        ("Largest difference", f"{words.count(found['largest_ulp'])} ULP"),
        ("Missing rows", words.count(found["missing"])),
        ("Extra rows", words.count(found["extra"])),
    ]
    said = "✓ equal" if holds else "✗ not equal"
    return element(
        "article",
        title,
        element(
            "p",
            element("span", said, class_=f"verdict {'pass' if holds else 'fail'}"),
            " The same features were computed twice by one kernel: over history, and event by "
            "event as a live process would. Every value was compared by its 64 bits.",
        ),
        element(
            "dl",
            [element("div", element("dt", name), element("dd", value)) for name, value in cells],
            class_="facts",
        ),
        None if holds else _differences(found["differences"]),
        element(
            "details",
            element("summary", f"All {len(found['features'])} features"),
            _features(found["features"]),
        ),
        class_="card",
    )


def _exact_share(part: float) -> str:
    # Never rounded up to 100%: one unequal value in twenty million must show.
    return "100%" if part == 1 else f"{100 * part:.6f}%".replace("100.000000%", "below 100%")


def _features(features: list[dict[str, Any]]) -> Markup:
    titles = ("Feature", "Compared", "Equal", "Largest ULP")
    rows = [
        element(
            "tr",
            element("th", one["name"], scope="row"),
            element("td", words.count(one["compared"])),
            element(
                "td", _exact_share(one["equal"] / one["compared"]) if one["compared"] else "none"
            ),
            element("td", words.count(one["largest_ulp"])),
        )
        for one in features
    ]
    head = element("tr", [element("th", title, scope="col") for title in titles])
    return element("table", element("thead", head), element("tbody", rows), class_="numbers")


def _differences(differences: list[dict[str, Any]]) -> Markup:
    items = [
        element(
            "li",
            f"{' '.join(str(part) for part in one['key'])} {one['feature']}: "
            f"{one['offline']} over history, {one['online']} event by event",
        )
        for one in differences
    ]
    return element("ul", items, class_="because")
