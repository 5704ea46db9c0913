"""The live replay: what was served, whether it equals history, and what was withdrawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.domain.instants import parse
from assay.errors import AssayError
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.words import count, moment

_MISSING = (AssayError, AttributeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class LiveSheet:
    """What a replay left: figures, what they are about, and the story of the withdrawn version.

    ``holds`` is None where the record cannot be read; ``problem`` then says why.
    """

    holds: bool | None
    headline: str
    figures: tuple[tuple[str, str], ...] = ()
    about: tuple[str, ...] = ()
    withdrawn: str = ""
    story: tuple[str, ...] = ()
    problem: str | None = None


def read_replay(root: Path) -> LiveSheet | None:
    """The replay that a desk has recorded, None where there was none. The file is not trusted."""
    path = root / "artifacts" / "replay" / "replay.json"
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_bytes())
        return _sheet(document)
    except (*_MISSING, OSError, RecursionError) as error:
        return LiveSheet(None, "The record of the live replay cannot be read.", problem=repr(error))


def section(sheet: LiveSheet) -> Markup:
    """The body of the section."""
    look, said = ("pass", "✓ equal") if sheet.holds else ("fail", "✗ not equal")
    if sheet.holds is None:
        look, said = "open", "? not readable"
    served = element(
        "article",
        element("h4", "Served, and compared with history"),
        element("p", element("span", said, class_=f"verdict {look}"), f" {sheet.headline}"),
        element("p", sheet.problem) if sheet.problem else None,
        element("dl", [_figure(*one) for one in sheet.figures], class_="facts")
        if sheet.figures
        else None,
        [element("p", sentence) for sentence in sheet.about],
        class_="card",
    )
    if not sheet.story:
        return served
    withdrawn = element(
        "article",
        element("h4", sheet.withdrawn),
        [element("p", sentence) for sentence in sheet.story],
        class_="card",
    )
    return join(served, withdrawn)


def _figure(name: str, says: str) -> Markup:
    return element("div", element("dt", name), element("dd", says))


def _sheet(document: Mapping[str, Any]) -> LiveSheet:
    features, predictions = document["features"], document["predictions"]
    requests, facts, made = document["requests"], document["facts"], document["made_by_demo"]
    wrong = (
        _number(features["values_compared"])
        - _number(features["bitwise_equal"])
        + _number(predictions["compared"])
        - _number(predictions["equal"])
        + _number(features["missing"])
        + _number(features["extra"])
        + _number(predictions["missing"])
    )
    errors = _number(requests["error_count"])
    holds = wrong == 0 and errors == 0 and _number(features["values_compared"]) > 0
    headline = (
        "Every feature value and every prediction that was served equals history, bit for bit."
        if holds
        else f"What was served does not equal history: {count(wrong)} differences, "
        f"{count(errors)} requests in error."
    )
    figures = (
        ("Feature values equal", _of(features["bitwise_equal"], features["values_compared"])),
        ("Predictions equal", _of(predictions["equal"], predictions["compared"])),
        ("Requests in error", _of(errors, requests["requests"])),
        ("Half answered within", f"{float(requests['p50_ms']):.1f} ms"),
        ("99 of 100 within", f"{float(requests['p99_ms']):.1f} ms"),
    )
    about = (
        (
            f"From {_moment(document['live_from'])} to {_moment(document['live_to'])}, "
            f"{count(_number(facts['live']))} facts arrived in "
            f"{count(_number(document['sessions']))} deliveries, each as it would have; a server "
            "process of its own answered. The demo made up two of the facts, which are labelled: "
            f"a revision of {made['revision']} and a late {made['late']}."
        ),
        (
            f"The model knows facts up to {_moment(document['trained_by'])}: it was neither "
            "trained nor judged on anything of this period."
            if document["held_back"] is True
            else "The model may have been trained on facts of this period: it was not held back."
        ),
    )
    title, story = _story(document["withdrawal"])
    return LiveSheet(holds, headline, figures, about, title, story)


def _of(part: Any, whole: Any) -> str:
    return f"{count(_number(part))} of {count(_number(whole))}"


def _moment(text: str) -> str:
    return moment(parse(text))


def _story(gone: Mapping[str, Any] | None) -> tuple[str, tuple[str, ...]]:
    if gone is None:
        return "", ()
    name = f"{gone['name']} {gone['version']}"
    bad = f"{float(gone['seconds_from_first_to_last_bad_answer']):.2f} s"
    return f"{name}, withdrawn by the guard in {bad}", (
        (
            f"{name} was made to be caught: the columns {' and '.join(gone['swapped'])} have each "
            f"other's names. The gates said {gone['gates']} ({', '.join(gone['refused_by'])}). It "
            "was forced live by breaking the glass, which the log says for ever, and answered "
            f"{float(gone['seconds_from_promotion_to_first_answer']):.2f} s later."
        ),
        (
            f"The guard compared its answers with those of the version before on the same inputs: "
            f"{'; '.join(str(reason) for reason in gone['finding']['reasons'])}. It asked for the "
            f"rollback (log entry {_number(gone['requested_seq'])}), and {gone['rolled_back_to']} "
            f"came back (entry {_number(gone['rollback_seq'])}). The last bad answer was given "
            f"{bad} after the first."
        ),
    )


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value
