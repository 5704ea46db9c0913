"""Charts as inline SVG, drawn by hand.

Text keeps its size at any width: an SVG is as wide as its column, positions are percentages, and
only the lines inside a stretched inner drawing scale (their strokes do not). Tick labels stand in
the padding around the drawing, so nothing is clipped. A line is told from another by its dashes as
well as by its colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from assay.domain.instants import from_datetime, to_datetime
from assay.orchestration.report.html import Markup, element, join
from assay.orchestration.report.values import Curve
from assay.orchestration.report.words import MONTHS, figure, minus

BOX: Final = 1000
"""Side of the inner drawing in its own units."""
_GAP: Final = 8.0
"""A line is broken where points are this many usual steps apart."""


@dataclass(frozen=True, slots=True)
class Line:
    """A curve and how it is drawn.

    ``look`` is a style class; ``dots`` marks every point; ``filled`` fills the ground below instead
    of drawing a line.
    """

    curve: Curve
    look: str
    dots: bool = False
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line that the legend names; ``look`` tells a second one from the first."""

    at: float
    label: str
    look: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range with its ticks: value and label."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def number_axis(
    values: Sequence[float], *, unit: str = "", zero: bool = False, logarithmic: bool = False
) -> Axis:
    """An axis that holds all values, with round ticks."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if logarithmic and low > 0:
        return _log_axis(low, high, unit)
    if high <= low:
        low, high = low - 1.0, high + 1.0
    step = _round_step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple((k * step, _tick(k * step, places) + unit) for k in range(first, last + 1))
    return Axis(first * step, last * step, ticks)


def time_axis(first: float, last: float) -> Axis:
    """Years, or months where the time is short; a few ticks, so that a phone can show them."""
    if last <= first:
        last = first + 1.0
    start, end = to_datetime(int(first)), to_datetime(int(last))
    years = end.year - start.year
    ticks = []
    if years >= 3:
        step = next(one for one in (1, 2, 3, 5, 10, 20, 50) if years / one <= 6)
        for year in range(start.year + 1, end.year + 1):
            if year % step == 0:
                at = start.replace(year=year, month=1, day=1, hour=0, minute=0, second=0)
                ticks.append((float(from_datetime(at.replace(microsecond=0))), str(year)))
    else:
        for place in (0.1, 0.5, 0.9):
            at = to_datetime(int(first + place * (last - first)))
            label = f"{at.day} {MONTHS[at.month - 1]} {at.year}"
            ticks.append((float(from_datetime(at)), label))
    return Axis(first, last, tuple(tick for tick in ticks if first <= tick[0] <= last))


def line_chart(
    *,
    title: str,
    description: str,
    lines: Sequence[Line],
    unit: str = "",
    levels: Sequence[Level] = (),
    band: tuple[Curve, Curve] | None = None,
    zero: bool = False,
    logarithmic: bool = False,
    x_axis: Axis | None = None,
) -> Markup:
    """Lines over time, or over ``x_axis`` where one is given.

    ``title`` and ``description`` are for those who cannot see it; ``band`` is the lower and the
    upper edge of an interval.
    """
    curves = [line.curve for line in lines if line.curve.x]
    if not curves:
        return element("p", "Too few dates to draw this.", class_="empty")
    edges = list(band or ())
    y_values = [y for curve in (*curves, *edges) for y in curve.y] + [one.at for one in levels]
    x_values = [x for curve in curves for x in (curve.x[0], curve.x[-1])]
    x = x_axis or time_axis(min(x_values), max(x_values))
    y = number_axis(y_values, unit=unit, zero=zero, logarithmic=logarithmic)
    inner = element(
        "svg",
        None if band is None else element("path", d=_area(*band, x, y), class_="band"),
        [_drawn(line, x, y) for line in lines if line.curve.x],
        viewBox=f"0 0 {BOX} {BOX}",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
    )
    dots = [
        element("circle", cx=_percent(x.place(a)), cy=_percent(1 - y.place(b)), r="4.5",
                class_=f"dot {line.look}")
        for line in lines
        if line.dots
        for a, b in zip(line.curve.x, line.curve.y, strict=True)
    ]  # fmt: skip
    return _frame(
        title,
        description,
        join(_grid(x, y), [_level(one, y) for one in levels], inner, dots),
        data_x=f"{x.low} {x.high}" if x_axis is None else None,
        data_y=f"{y.low} {y.high}{' log' if y.logarithmic else ''}",
        data_unit=unit,
    )


def bar_chart(
    *,
    title: str,
    description: str,
    labels: Sequence[str],
    values: Sequence[float],
    marked: Sequence[float] = (),
    levels: Sequence[Level] = (),
    every: int | None = None,
    say: Callable[[int], str],
) -> Markup:
    """Bars; ``marked`` is the part of each bar, at its top, that is drawn in another colour.

    Every so manieth bar has its label, ``every`` says which; by default few enough for a phone.
    """
    if not labels:
        return element("p", "Nothing to draw.", class_="empty")
    totals = [a + b for a, b in zip(values, marked, strict=True)] if marked else list(values)
    y = number_axis([*totals, *(one.at for one in levels)], zero=True)
    width = 1 / len(labels)
    every = every or max(1, math.ceil(len(labels) / 7))
    bars = []
    for k, total in enumerate(totals):
        top = 1 - y.place(total)
        broken = y.place(marked[k]) if marked else 0.0
        where = {"x": _percent((k + 0.14) * width), "width": _percent(0.72 * width)}
        bars.append(
            element(
                "g",
                element("title", say(k)),
                element("rect", y=_percent(top + broken),
                        height=_percent(max(0.0, 1 - top - broken)), class_="bar", **where),
                element("rect", y=_percent(top), height=_percent(broken), class_="bar marked",
                        **where) if broken else None,
            )
        )  # fmt: skip
    x = Axis(
        0.0,
        float(len(labels)),
        tuple((k + 0.5, label) for k, label in enumerate(labels) if k % every == 0),
    )
    lines = [_level(one, y) for one in levels]
    return _frame(title, description, join(_grid(x, y, upright=False), bars, lines))


def _drawn(line: Line, x: Axis, y: Axis) -> Markup:
    outline = element(
        "path",
        d=_path(line.curve, x, y),
        class_=f"line {line.look}",
        data_name=line.curve.name,
    )
    if not line.filled:
        return outline
    return join(element("path", d=_ground(line.curve, x, y), class_="area"), outline)


def _frame(title: str, description: str, *content: object, **data: object) -> Markup:
    drawing = element(
        "svg",
        element("title", title),
        element("desc", description),
        *content,
        role="img",
        class_="chart",
        width="100%",
        height="100%",
        **data,
    )
    return element("div", drawing, class_="plot")


def _grid(x: Axis, y: Axis, *, upright: bool = True) -> Markup:
    across = [
        join(
            element("line", x1="0", x2="100%", y1=at, y2=at, class_="grid"),
            element("text", label, x="-8", y=at, dy="4", class_="tick end"),
        )
        for at, label in ((_percent(1 - y.place(value)), label) for value, label in y.ticks)
    ]
    down = [
        join(
            element("line", x1=at, x2=at, y1="0", y2="100%", class_="grid faint")
            if upright
            else None,
            element("text", label, x=at, y="100%", dy="20", class_="tick middle"),
        )
        for at, label in ((_percent(x.place(value)), label) for value, label in x.ticks)
    ]
    return join(across, down)


def _level(level: Level, y: Axis) -> Markup:
    at = _percent(1 - y.place(level.at))
    look = f"level {level.look}".strip()
    return element("line", x1="0", x2="100%", y1=at, y2=at, class_=look)


def _path(curve: Curve, x: Axis, y: Axis) -> str:
    """The points joined by lines, with a gap where nothing was known for a while."""
    steps = [b - a for a, b in pairwise(curve.x)]
    longest = _GAP * sorted(steps)[len(steps) // 2] if steps else 0.0
    joints = ["M", *("M" if step > longest else "L" for step in steps)]
    return "".join(
        f"{joint}{BOX * x.place(a):.1f} {BOX * (1 - y.place(b)):.1f}"
        for joint, a, b in zip(joints, curve.x, curve.y, strict=True)
    )


def _ground(curve: Curve, x: Axis, y: Axis) -> str:
    """The area between a curve and the bottom, one piece per stretch without a gap."""
    pieces = []
    for piece in _path(curve, x, y).split("M")[1:]:
        first, last = piece.split("L")[0], piece.split("L")[-1]
        pieces.append(f"M{first.split()[0]} {BOX}L{piece}L{last.split()[0]} {BOX}Z")
    return "".join(pieces)


def _area(low: Curve, high: Curve, x: Axis, y: Axis) -> str:
    there = _path(low, x, y).replace("M", "L")[1:]
    back = _path(high, x, y).replace("M", "L")[1:].split("L")[::-1]
    return f"M{there}L{'L'.join(back)}Z"


def _percent(place: float) -> str:
    return f"{100 * place:.2f}%"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(k * power for k in (1.0, 2.0, 5.0, 10.0) if k * power >= rough * (1 - 1e-9))


def _tick(value: float, places: int) -> str:
    text = f"{value:,.{places}f}"
    return minus(text.removeprefix("-") if float(text.replace(",", "")) == 0 else text)


def _log_axis(low: float, high: float, unit: str) -> Axis:
    ladder = [k * 10.0**power for power in range(-12, 13) for k in (1, 2, 5)]
    below = max(one for one in ladder if one <= low * (1 + 1e-9))
    above = min(one for one in ladder if one >= high * (1 - 1e-9) and one > below)
    ticks = tuple((one, figure(one) + unit) for one in ladder if below <= one <= above)
    return Axis(below, above, ticks, logarithmic=True)
