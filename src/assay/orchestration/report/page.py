"""The whole page: sections in the order in which a risk officer asks."""

from __future__ import annotations

from dataclasses import dataclass

from assay.orchestration.report import foundations, live, performance, record, summary, verdicts
from assay.orchestration.report.controls import noise_table
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.style import CSS, SCRIPT
from assay.orchestration.report.values import DeskReport


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with its place in the table of contents."""

    id: str
    title: str
    intro: str
    body: Markup


def render_page(report: DeskReport) -> str:
    """The page as one HTML document that needs nothing else. Equal reports give equal pages."""
    sections = sections_of(report)
    contents = [element("li", element("a", one.title, href=f"#{one.id}")) for one in sections]
    contents.append(element("li", element("a", "Provenance", href="#provenance")))
    body = element(
        "div",
        summary.header(report),
        element("main", summary.headlines(report), element("nav", element("ul", contents),
                aria_label="Contents"), [_section(one) for one in sections]),
        foundations.provenance(report),
        class_="page",
    )  # fmt: skip
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{report.desk}: desk report"),
        element("style", Markup(CSS)),
    )
    document = element("html", head, element("body", body, element("script", Markup(SCRIPT))),
                       lang="en")  # fmt: skip
    return f"<!DOCTYPE html>\n{document}\n"


def sections_of(report: DeskReport) -> tuple[Section, ...]:
    """Everything between the headlines and the provenance."""
    replayed = report.live
    shown = (
        () if replayed is None else (Section("live", "Live replay", "", live.section(replayed)),)
    )
    return (
        Section("timeline", "What was live", "", record.timeline(report)),
        *shown,
        Section(
            "gates",
            "Gates",
            "What a version must prove before it may go live, and what was found. Open a gate for "
            "the convention behind its number. A gate that blocks must pass; one that warns "
            "need not.",
            join([(_heading(model.name), verdicts.gates_of(model)) for model in report.models]),
        ),
        *_controls(report),
        Section(
            "performance",
            "Forecasts against outcomes",
            "Out of sample throughout: each forecast was made by a model trained only on what was "
            "known before, with a gap between.",
            join([(_heading(one.name), performance.pictures_of(one)) for one in report.models]),
        ),
        Section(
            "parity",
            "Features: history equals events",
            "",
            foundations.parity(report.gold),
        ),
        Section(
            "data",
            "Facts and universe",
            "",
            element(
                "div", foundations.data(report.data), foundations.universe(report.universe),
                class_="charts",
            ),
        ),
    )  # fmt: skip


def _controls(report: DeskReport) -> tuple[Section, ...]:
    asked = [one for model in report.models for one in model.noise]
    if not asked:
        return ()
    return (
        Section(
            "noise",
            "Models that know nothing",
            "A policy that lets noise pass is no policy: made-up forecasts without skill, through "
            "the same statistical gates.",
            join(
                [
                    (_heading(f"{one.name}, beside {one.version}"),
                     element("div", noise_table(one), class_="card"))
                    for one in asked
                ]
            ),
        ),
    )  # fmt: skip


def _heading(name: str) -> Markup:
    return element("h3", name)


def _section(section: Section) -> Markup:
    return element(
        "section",
        element("h2", section.title, id=section.id),
        element("p", section.intro, class_="intro") if section.intro else None,
        section.body,
        aria_labelledby=section.id,
    )
