"""The life of a version as a table and as pictures, made from the rules themselves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape

from assay.domain.versions import Stage
from assay.registry.lifecycle import DISPLACED, TRANSITIONS, EventType

_WIDTH, _HEIGHT, _GAP, _MARGIN = 116, 40, 150, 120
_RISE, _LINE = 72, 15


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that can happen to a version.

    ``start`` is None where it comes into being; ``of_another`` says that the event is about
    another version of the model, which takes this one's place.
    """

    event: EventType
    start: Stage | None
    end: Stage
    of_another: bool = False
    keep: bool = False

    @property
    def label(self) -> str:
        """The event in words."""
        words = [str(self.event)]
        if self.of_another:
            words.append("to another" if self.event is EventType.ROLLBACK else "of another")
        if self.keep:
            words.append("with keep")
        return " ".join(words)


def lifecycle_moves() -> tuple[Move, ...]:
    """Every move that there is, in the order of the stages."""
    moves = [Move(EventType.REGISTER, None, Stage.STAGED)]
    moves += [Move(event, start, end) for (event, start), end in TRANSITIONS.items()]
    moves += [
        Move(event, Stage.PRODUCTION, end, of_another=True, keep=keep)
        for (event, keep), end in DISPLACED.items()
    ]
    order = {stage: number for number, stage in enumerate(Stage)}
    return tuple(
        sorted(moves, key=lambda one: (-1 if one.start is None else order[one.start],
                                       order[one.end], one.of_another))
    )  # fmt: skip


def lifecycle_markdown() -> str:
    """The moves as a table of Markdown."""
    lines = ["| from | by | to |", "|---|---|---|"]
    lines += [f"| {move.start or '-'} | {move.label} | {move.end} |" for move in lifecycle_moves()]
    return "\n".join(lines) + "\n"


def lifecycle_dot() -> str:
    """The moves as a graph for Graphviz."""
    lines = ["digraph lifecycle {", "  rankdir=LR;", '  node [shape=box, style="rounded"];']
    lines.append('  "" [shape=point];')
    lines += [f'  "{stage}";' for stage in Stage]
    for start, end, labels in _edges():
        words = r"\n".join(labels)
        lines.append(f'  "{start or ""}" -> "{end}" [label="{words}"];')
    return "\n".join([*lines, "}"]) + "\n"


def lifecycle_svg() -> str:
    """The moves as a picture: stages in a row, moves to the right above it, back below it."""
    stages = list(Stage)
    left = {stage: _MARGIN + number * (_WIDTH + _GAP) for number, stage in enumerate(stages)}
    # A curve of this kind goes three quarters of the way to its control points.
    top = 12 + (len(stages) - 1) * _RISE * 3 // 4
    width = left[stages[-1]] + _WIDTH + 20
    height = top + _HEIGHT + _RISE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        "<title>The life of a version</title>",
        "<style>text { font: 12px sans-serif; text-anchor: middle; fill: #333 }",
        "rect { fill: #f4f6f8; stroke: #555 } .stage { font-weight: bold }",
        ".move { fill: none; stroke: #555; marker-end: url(#head) }</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"',
        ' orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker>',
    ]
    for start, end, labels in _edges():
        if start is None:
            path = f"M20,{top + _HEIGHT / 2:g} L{left[end]:g},{top + _HEIGHT / 2:g}"
            parts += [_line(path), *_texts(labels, (20 + left[end]) / 2, top + 8)]
            continue
        forward = left[end] > left[start]
        steps = abs(stages.index(end) - stages.index(start))
        # Out near one side of a box and in near the other, so that arrows do not meet.
        first = left[start] + _WIDTH * (0.7 if forward else 0.3)
        last = left[end] + _WIDTH * (0.3 if forward else 0.7)
        edge = top if forward else top + _HEIGHT
        bend = edge + (-1 if forward else 1) * steps * _RISE
        path = f"M{first:g},{edge:g} C{first:g},{bend:g} {last:g},{bend:g} {last:g},{edge:g}"
        # Under the curve: above it others pass.
        under = edge + 0.75 * (bend - edge) + _LINE * (len(labels) if forward else -0.4)
        parts += [_line(path), *_texts(labels, (first + last) / 2, under)]
    for stage in stages:
        x, y = left[stage] + _WIDTH / 2, top + _HEIGHT / 2 + 4
        parts += [
            f'<rect x="{left[stage]}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>',
            f'<text class="stage" x="{x:g}" y="{y:g}">{stage}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _edges() -> list[tuple[Stage | None, Stage, list[str]]]:
    """Moves between the same two stages as one, with all their labels."""
    return [
        (start, end, [move.label for move in moves])
        for (start, end), moves in groupby(lifecycle_moves(), key=lambda one: (one.start, one.end))
    ]


def _line(path: str) -> str:
    return f'<path class="move" d="{path}"/>'


def _texts(labels: list[str], x: float, y: float) -> list[str]:
    """Lines of text above ``y``, the last one just above it."""
    first = y - _LINE * (len(labels) - 1)
    return [
        f'<text x="{x:g}" y="{first + _LINE * number:g}">{escape(label)}</text>'
        for number, label in enumerate(labels)
    ]
