"""The live replay: what was served, whether it equals history, and what was withdrawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.words import count

_MISSING = (KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class LiveSheet:
    """What a replay left: lines of a table, the story of the withdrawn version, and the result.

    ``holds`` is None where the record cannot be read; ``problem`` then says why.
    """

    holds: bool | None
    headline: str
    rows: tuple[tuple[str, str], ...] = ()
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
    table = element(
        "table",
        element("tbody", [_row(name, says) for name, says in sheet.rows]),
    )
    return join(
        element("p", element("strong", sheet.headline), class_=None if sheet.holds else "because"),
        element("p", sheet.problem) if sheet.problem else None,
        element("div", table, class_="scroll") if sheet.rows else None,
        [element("p", sentence) for sentence in sheet.story],
    )


def _row(name: str, says: str) -> Markup:
    return element("tr", element("th", name, scope="row"), element("td", says))


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
    rows = (
        ("Period", f"{document['live_from']} to {document['live_to']}"),
        (
            "Facts",
            (
                f"{count(_number(facts['live']))} in {count(_number(document['sessions']))} "
                "deliveries; "
                f"made up by the demo and labelled so: a revision of {made['revision']}, a late "
                f"{made['late']}"
            ),
        ),
        (
            "Feature values served",
            (
                f"{count(_number(features['bitwise_equal']))} of "
                f"{count(_number(features['values_compared']))} equal"
            ),
        ),
        (
            "Predictions served",
            (
                f"{count(_number(predictions['equal']))} of "
                f"{count(_number(predictions['compared']))} equal"
            ),
        ),
        (
            "Requests",
            (
                f"{count(_number(requests['requests']))}, {count(errors)} in error; half within "
                f"{float(requests['p50_ms']):.1f} ms, 99 of 100 within "
                f"{float(requests['p99_ms']):.1f} ms"
            ),
        ),
    )
    return LiveSheet(holds, headline, rows, _story(document["withdrawal"]))


def _story(gone: Mapping[str, Any] | None) -> tuple[str, ...]:
    if gone is None:
        return ()
    name = f"{gone['name']} {gone['version']}"
    return (
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
            f"{float(gone['seconds_from_first_to_last_bad_answer']):.2f} s after the first."
        ),
    )


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value
