"""A view's graph as a drawing: text for Graphviz, or SVG without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from assay.features.definition.graph import Value, graph_of
from assay.features.definition.layered_drawing import Box, draw
from assay.features.definition.operators import NumericClass
from assay.features.definition.views import FeatureView

_COLOURS: Final[Mapping[NumericClass, str]] = {
    NumericClass.EXACT: "#2f855a",
    NumericClass.BITWISE: "#2b6cb0",
    NumericClass.TOLERANCE: "#b7791f",
}
_LONGEST: Final = 44


def dot_of(view: FeatureView) -> str:
    """The graph in the language of Graphviz: ``dot -Tsvg``."""
    lines = [
        f"digraph {_quoted(view.name)} {{",
        '  rankdir=LR; node [shape=box, style="rounded,filled", fontname=monospace, fontsize=10];',
    ]
    for value in graph_of(view):
        bold = ", penwidth=2" if value.features else ""
        fill = "#edf2f7" if value.operator == "col" else "#ffffff"
        style = ', style="rounded,filled,dashed"' if value.across else ""
        lines.append(
            f"  {_quoted(value.name)} [label={_quoted(chr(10).join(_label(value)))}, "
            f'color="{_COLOURS[value.numeric]}", fillcolor="{fill}"{bold}{style}];'
        )
        lines += [f"  {_quoted(name)} -> {_quoted(value.name)};" for name in value.reads]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"'


def _label(value: Value) -> tuple[str, str]:
    """The name, and the formula where that says more."""
    if value.operator == "col":
        others = [name for name in value.features if name != value.name]
        return value.name, _cut(", ".join(["column", *others]))
    return _cut(", ".join(value.features) or value.name), _cut(value.formula)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def svg_of(view: FeatureView) -> str:
    """The graph as SVG."""
    title = f"{view.name}: {len(view.features)} features of {view.source} by {view.entity}"
    colours = {str(numeric): colour for numeric, colour in _COLOURS.items()}
    return draw(
        [_box(value) for value in graph_of(view)],
        title=title,
        colours=colours,
        note="bold: a feature; dashed: across entities",
    )


def _box(value: Value) -> Box:
    title, subtitle = _label(value)
    rows = "row" if value.look_back == 1 else "rows"
    return Box(
        value.name,
        tuple(value.reads),
        title,
        subtitle,
        f"{value.numeric}, {value.look_back:,} earlier {rows}: {value.formula}",
        _COLOURS[value.numeric],
        fill="#edf2f7" if value.operator == "col" else "#ffffff",
        bold=bool(value.features),
        dashed=value.across,
    )
