"""What was live, when, and through whom: the log as a picture and as a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from assay.domain.verdicts import Outcome
from assay.orchestration.report import words
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.summary import live_changes
from assay.orchestration.report.values import DeskReport, ModelSheet
from assay.registry import Entry, EventOutcome, EventType, GateRecord

SHOWN: Final = 40
"""Latest entries in the picture; the list has all of them."""
_LANE: Final = 74
_COLUMN: Final = 36
_MARKS: Final = {
    EventType.REGISTER: ("+", "registered"),
    EventType.EVIDENCE: ("·", "measured"),
    EventType.GATE: ("◇", "judged"),
    EventType.APPROVE: ("✎", "approved"),
    EventType.PROMOTE: ("▲", "promoted"),
    EventType.BREAK_GLASS: ("!", "forced live"),
    EventType.ROLLBACK_REQUESTED: ("?", "withdrawal requested"),
    EventType.FAIL: ("✗", "failed"),
    EventType.ROLLBACK: ("↩", "rolled back"),
}


def timeline(report: DeskReport) -> Markup:
    """The picture of what was live, and under it every entry of the log."""
    entries = sorted((one for model in report.models for one in model.events), key=lambda e: e.seq)
    if not entries:
        return element("p", "The log is empty.", class_="empty")
    shown = entries[-SHOWN:]
    cut = "" if len(shown) == len(entries) else f" The latest {SHOWN} entries."
    says = (
        "One column is one entry of the log, in order; a bar is the version in production."
        f"{cut} From {words.moment(shown[0].at)} to {words.moment(shown[-1].at)}."
    )
    legend = element(
        "ul",
        [element("li", element("span", mark, class_="mark"), word)
         for mark, word in dict.fromkeys(_mark(one.type) for one in shown)],
        element("li", element("span", class_="swatch block"), "live"),
        element("li", element("span", class_="swatch block forced"), "live by force"),
        class_="legend",
    )  # fmt: skip
    return element(
        "figure",
        element("figcaption", element("p", says), legend),
        element("p", "Swipe sideways for later entries.", class_="hint"),
        element("div", _picture(report.models, shown, says), class_="scroll"),
        element(
            "details",
            element("summary", f"All {words.count(len(entries))} entries of the log"),
            element("ol", [_entry(one) for one in entries], class_="log"),
        ),
        class_="card",
    )


def _picture(models: Sequence[ModelSheet], shown: Sequence[Entry], says: str) -> Markup:
    columns = {entry.seq: k for k, entry in enumerate(shown)}
    width = 100 / (len(shown) + 0.5)
    lanes = [
        _lane(model, row * _LANE, columns, shown[0].seq, width) for row, model in enumerate(models)
    ]
    height = len(models) * _LANE + 26
    numbers = [
        element(
            "text", entry.seq, x=f"{(k + 0.5) * width:.2f}%", y=height - 6, class_="tick middle"
        )
        for k, entry in enumerate(shown)
        if k % max(1, len(shown) // 14) == 0
    ]
    return element(
        "svg",
        element("title", "What was in production, by entry of the log"),
        element("desc", says),
        lanes,
        numbers,
        role="img",
        class_="lanes",
        width="100%",
        height=height,
        style=f"min-width:{_COLUMN * len(shown)}px",
    )


def _lane(model: ModelSheet, top: int, columns: dict[int, int], first: int, width: float) -> Markup:
    changes = live_changes(model.events)
    spans = []
    for entry, following in zip(changes, [*changes[1:], None], strict=False):
        start = columns.get(entry.seq, 0) if entry.seq >= first else 0
        end = len(columns) if following is None else columns.get(following.seq, 0)
        if end <= start:
            continue
        forced = entry.type is EventType.BREAK_GLASS
        spans.append(
            join(
                element(
                    "rect",
                    element(
                        "title", f"{model.name} {entry.to_version} live from entry {entry.seq}"
                    ),
                    x=f"{(start + 0.5) * width:.2f}%",
                    y=top + 46,
                    width=f"{(end - start) * width:.2f}%",
                    height=16,
                    rx=3,
                    class_="span forced" if forced else "span",
                ),
                element(
                    "text",
                    entry.to_version,
                    x=f"{(start + 0.5) * width:.2f}%",
                    dx=5,
                    y=top + 58,
                    class_="spanlabel",
                ),
            )
        )
    marks = [
        element(
            "text",
            element("title", _sentence(entry)),
            _mark(entry.type)[0],
            x=f"{(columns[entry.seq] + 0.5) * width:.2f}%",
            y=top + 38,
            class_="mark middle " + _look(entry),
        )
        for entry in model.events
        if entry.seq in columns
    ]
    return join(
        element("line", x1="0", x2="100%", y1=top + 0.5, y2=top + 0.5, class_="grid"),
        element("text", model.name, x="0", y=top + 16, class_="tick strong"),
        element("rect", x="0", y=top + 46, width="100%", height=16, rx=3, class_="span none"),
        spans,
        marks,
    )


def _mark(kind: EventType) -> tuple[str, str]:
    """An event's mark and word; one without a mark of its own is called by its name."""
    return _MARKS.get(kind, ("•", str(kind).replace("_", " ").replace(".", " ")))


def _look(entry: Entry) -> str:
    if entry.outcome is not EventOutcome.DONE or entry.type is EventType.BREAK_GLASS:
        return "fail"
    if entry.type is EventType.GATE:
        outcome = GateRecord.from_json(entry.evidence["report"]).outcome
        return {Outcome.PROMOTABLE: "pass", Outcome.REFUSED: "fail"}.get(outcome, "open")
    return ""


def _entry(entry: Entry) -> Markup:
    return element(
        "li",
        element("span", words.moment(entry.at), class_="when"),
        " ",
        element("span", _sentence(entry), class_=_look(entry) or None),
        value=entry.seq,
    )


def _sentence(entry: Entry) -> str:
    version = f"{entry.model} {entry.to_version or ''}".strip()
    _, word = _mark(entry.type)
    does = {
        EventType.REGISTER: f"{version} registered by {entry.initiated_by}",
        EventType.EVIDENCE: f"{version} measured by {entry.initiated_by}",
        EventType.APPROVE: f"{version} approved by {entry.initiated_by}",
        EventType.PROMOTE: f"{version} promoted by {entry.initiated_by}",
        EventType.BREAK_GLASS: f"{version} forced live past its gates by {entry.initiated_by}",
        EventType.ROLLBACK_REQUESTED: f"withdrawal of {version} requested by {entry.initiated_by}",
        EventType.FAIL: f"{version} marked as failed by {entry.initiated_by}",
        EventType.ROLLBACK: (
            f"{entry.model} {entry.from_version or 'nothing'} withdrawn by {entry.initiated_by}, "
            f"{entry.to_version} live again"
        ),
    }
    if entry.type is EventType.GATE:
        report = GateRecord.from_json(entry.evidence["report"])
        sentence = f"{version} judged by {entry.initiated_by}: {words.OUTCOMES[report.outcome]}"
    else:
        sentence = does.get(entry.type, f"{version} {word} by {entry.initiated_by}")
    if entry.outcome is not EventOutcome.DONE:
        sentence = f"attempt {entry.outcome}: {sentence}"
    return f"{sentence}. “{entry.reason}”" if entry.reason else sentence
