"""One HTML document that needs nothing else, and the tables that documents share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from assay.domain.verdicts import Verdict
from assay.orchestration.report import words
from assay.orchestration.report.html import Markup, element
from assay.orchestration.report.style import CSS

# Documents have wide tables of texts; those scroll inside their card on a small screen.
_CSS: Final = """
.texts{width:100%}
.texts th,.texts td{border-top:1px solid var(--edge);padding:6px 14px 6px 0;vertical-align:top;
text-align:left;overflow-wrap:anywhere}
.texts thead th{border-top:0;font-size:.82rem;color:var(--muted);white-space:nowrap}
.texts tbody th{font-weight:600;min-width:9em}
.texts td{min-width:7.5em}
.texts td:nth-child(n+5):last-child{min-width:18em}
.card p{overflow-wrap:anywhere}
.texts tr.other td{background:var(--openbg)}
.scroll>svg{max-width:100%;height:auto}
main ul{padding-left:1.2em}main li{margin:4px 0}
"""


def render_document(title: str, *parts: object) -> str:
    """A document with this title and content. Equal content gives equal bytes."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(CSS + _CSS)),
    )
    body = element("body", element("div", parts, class_="page"))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def header(eyebrow: str, title: str, *said: object, facts: Sequence[tuple[str, object]]) -> Markup:
    """What the document is about, and the few facts that come first."""
    return element(
        "header",
        element("p", eyebrow, class_="eyebrow"),
        element("h1", title),
        element("p", *said) if said else None,
        element(
            "dl",
            [element("div", element("dt", name), element("dd", fact)) for name, fact in facts],
            class_="facts",
        ),
    )


def section(title: str, *parts: object, intro: str = "") -> Markup:
    """A titled part in a card."""
    identifier = "-".join(title.lower().replace(",", "").split())
    return element(
        "section",
        element("h2", title, id=identifier),
        element("p", intro, class_="intro") if intro else None,
        element("div", parts, class_="card"),
        aria_labelledby=identifier,
    )


def texts(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, other: Iterable[bool] = ()
) -> Markup:
    """A table of texts; the first column names the row. ``other`` marks rows that stand out."""
    marks = list(other)
    body = []
    for number, (first, *cells) in enumerate(rows):
        look = "other" if number < len(marks) and marks[number] else None
        body.append(
            element(
                "tr",
                element("th", first, scope="row"),
                [element("td", cell) for cell in cells],
                class_=look,
            )
        )
    table = element(
        "table",
        element("thead", element("tr", [element("th", one, scope="col") for one in columns])),
        element("tbody", body),
        class_="texts",
    )
    return element("div", table, class_="scroll")


def badge(verdict: str | None) -> Markup:
    """A verdict as a badge; a dash where there is none."""
    if verdict is None:
        return Markup("-")
    mark, word, look = words.VERDICTS[Verdict(verdict)]
    return element("span", f"{mark} {word}", class_=f"verdict {look}")
