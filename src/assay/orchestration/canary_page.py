"""The scorecard of a canary as one HTML page."""

from __future__ import annotations

from pathlib import Path

from assay.delivery.scorecard import HARM, NAME, Scorecard, remarks, write_markdown
from assay.orchestration.report import words
from assay.orchestration.report.document import badge, header, render_document, section, texts
from assay.orchestration.report.html import Markup, element
from assay.storage.files import write_atomic

_INTROS = {
    "Before and after": "Over all pairs, on the same inputs. The champion's latency is of whole "
    "answers; the canary's of those that it gave, and of its model alone elsewhere.",
    "Tests": "Each p-value is valid whenever one looks. Between harm and as good, a test is open.",
    "Where they differ most": "The largest disagreement first.",
    "Days": "The latest first. Where pairs were removed, their sums are left.",
}


def write_scorecard(folder: Path, card: Scorecard) -> Path:
    """Write ``canary_scorecard.md`` and ``.html``; the path of the page."""
    write_markdown(folder, card)
    page = folder / f"{NAME}.html"
    write_atomic(page, canary_page(card).encode())
    return page


def canary_page(card: Scorecard) -> str:
    """The scorecard as one HTML document."""
    one, numbers = card.canary, card.finding.numbers
    facts: tuple[tuple[str, object], ...] = (
        ("Verdict", badge(card.finding.verdict)),
        ("Share of entities", f"{one.share:.1%}"),
        ("Rows", f"{numbers.get('rows', 0):,}"),
        ("Pairs that could be compared", f"{numbers.get('pairs', 0):,}"),
        ("Answers by the canary", f"{numbers.get('answers', 0):,}"),
        ("By the champion in its place", f"{numbers.get('fallbacks', 0):,}"),
        ("Since", words.moment(one.since)),
        ("Written", words.moment(card.at)),
    )
    title = f"{card.model} {one.version} beside {one.champion}"
    return render_document(
        f"Canary: {title}",
        header(
            f"Assay · canary · {card.model}",
            title,
            card.headline,
            facts=facts,
        ),
        element(
            "main",
            section("Why", _reasons(card), intro=f"Revision {one.revision}, begun by {one.by}."),
            section(
                "To know about the pairs",
                element("ul", [element("li", said) for said in remarks(card.comparison)]),
            ),
            [
                section(name, _table(columns, rows), intro=_INTROS[name])
                for name, columns, rows in card.tables()
            ],
            section("What this rests on", texts(("what", "which"), card.rests())),
        ),
    )


def _reasons(card: Scorecard) -> Markup:
    return element("ul", [element("li", reason) for reason in card.finding.reasons])


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Markup:
    if not rows:
        return element("p", "None.", class_="empty")
    return texts(columns, rows, other=[HARM in row for row in rows])
