"""A graph of boxes as SVG, without a program that draws graphs.

It is laid out in layers from left to right: a box stands one layer behind the last that it reads.
A line that passes a layer gets a place in it, so that it goes around boxes. Boxes are put in order
by the mean place of their neighbours, forth and back (Sugiyama, Tagawa and Toda 1981), then moved
towards them as far as order and distances allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

_LETTER, _HEIGHT, _GAP, _LANE, _BETWEEN, _EDGE = 6.65, 36.0, 10.0, 4.0, 70.0, 24.0
_SWEEPS: Final = 12
_HEAD: Final = 64.0


@dataclass(frozen=True, slots=True)
class Box:
    """One box and what it reads.

    Attributes
    ----------
    name: unique in the graph. reads: names of boxes that stand before it.
    title, subtitle: its two lines. about: what is shown when somebody points at it.
    colour: of the bar at its left. fill: of the box. bold, dashed: of its title, of its edge.
    """

    name: str
    reads: tuple[str, ...]
    title: str
    subtitle: str
    about: str
    colour: str
    fill: str = "#ffffff"
    bold: bool = False
    dashed: bool = False


@dataclass(eq=False, slots=True)
class _Place:
    """A box, or (without one) the place where lines pass a layer."""

    layer: int
    box: Box | None = None
    before: list[_Place] = field(default_factory=list)
    after: list[_Place] = field(default_factory=list)
    y: float = 0.0

    @property
    def half(self) -> float:
        """Half of the height that it takes, its share of the gap included."""
        return (_LANE if self.box is None else _HEIGHT + _GAP) / 2


def draw(boxes: Sequence[Box], *, title: str, colours: Mapping[str, str], note: str = "") -> str:
    """The graph as SVG.

    Parameters
    ----------
    boxes: each after those that it reads.
    colours: what the colours of the bars mean, by name, for the legend. note: ends the legend.
    """
    layers = _layers(boxes)
    _arrange(layers)
    widths = [max(map(_width, layer)) for layer in layers]
    lefts = [_EDGE + sum(widths[:n]) + _BETWEEN * n for n in range(len(layers))]
    top = min(place.y - place.half for layer in layers for place in layer)
    for place in (place for layer in layers for place in layer):
        place.y += _HEAD - top
    height = max(place.y + place.half for layer in layers for place in layer) + _EDGE
    width = max(lefts[-1] + widths[-1], 2 * _EDGE + 8.5 * len(title), 560.0) + _EDGE
    lines, shapes = [], []
    for layer in layers:
        for place in layer:
            right = lefts[place.layer] + (_width(place) if place.box else widths[place.layer])
            edge = lefts[place.layer] + widths[place.layer]
            for target in place.after:
                end = lefts[target.layer]
                middle = (edge + end) / 2
                passes = f" H{end + widths[target.layer]:.1f}" if target.box is None else ""
                lines.append(
                    f'<path d="M{right:.1f},{place.y:.1f} H{edge:.1f} C{middle:.1f},{place.y:.1f} '
                    f'{middle:.1f},{target.y:.1f} {end:.1f},{target.y:.1f}{passes}"/>'
                )
            if place.box is not None:
                shapes.append(_shape(place.box, lefts[place.layer], place.y, _width(place)))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-size="11" '
        'font-family="ui-monospace,Menlo,Consolas,monospace">'
    )
    named = (
        f'<text x="{_EDGE}" y="26" font-size="14" font-weight="700" fill="#1a202c">'
        f"{escape(title)}</text>"
    )
    paper = '<rect width="100%" height="100%" fill="#ffffff"/>'
    strokes = ['<g fill="none" stroke="#a0aec0" stroke-width="1.1">', *lines, "</g>"]
    return "\n".join([head, paper, named, *_legend(colours, note), *strokes, *shapes, "</svg>\n"])


def _layers(graph: Sequence[Box]) -> list[list[_Place]]:
    places: dict[str, _Place] = {}
    layers: list[list[_Place]] = []
    for box in graph:
        layer = max((places[name].layer + 1 for name in box.reads), default=0)
        place = places[box.name] = _Place(layer, box)
        layers.extend([] for _ in range(layer + 1 - len(layers)))
        layers[layer].append(place)
    passing: dict[tuple[str, int], _Place] = {}
    for box in graph:
        target = places[box.name]
        for name in box.reads:
            source = places[name]
            # All lines from one value share the places where they pass.
            for layer in range(source.layer + 1, target.layer):
                if (name, layer) not in passing:
                    passing[name, layer] = place = _Place(layer)
                    layers[layer].append(place)
                    _join(source, place)
                source = passing[name, layer]
            _join(source, target)
    return layers


def _join(source: _Place, target: _Place) -> None:
    source.after.append(target)
    target.before.append(source)


def _arrange(layers: list[list[_Place]]) -> None:
    for layer in layers:
        _stack(layer)
    for sweep in range(2 * _SWEEPS):
        forth = sweep % 2 == 0
        for layer in layers if forth else reversed(layers):
            aims = {
                place: _mean(near.y for near in (place.before if forth else place.after))
                for place in layer
            }
            wanted = {place: place.y if aim is None else aim for place, aim in aims.items()}
            if sweep < _SWEEPS:
                layer.sort(key=wanted.__getitem__)
            _settle(layer, wanted)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _stack(layer: list[_Place]) -> None:
    y = 0.0
    for place in layer:
        place.y, y = y + place.half, y + 2 * place.half


def _settle(layer: list[_Place], wanted: Mapping[_Place, float]) -> None:
    """Put places where they want to be, in their order and without overlap.

    The sum of squared distances is the least possible: neighbours that would overlap move as one
    block to the mean of what they want (pool adjacent violators).
    """
    offset, blocks = 0.0, list[list[float]]()  # per block: sum of aims, places
    offsets = []
    for place in layer:
        offset += place.half
        offsets.append(offset)
        blocks.append([wanted[place] - offset, 1.0])
        offset += place.half
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    bases = [total / count for total, count in blocks for _ in range(int(count))]
    for place, base, own in zip(layer, bases, offsets, strict=True):
        place.y = base + own


def _width(place: _Place) -> float:
    if place.box is None:
        return 0.0
    return 22 + _LETTER * max(len(place.box.title), len(place.box.subtitle))


def _shape(box: Box, x: float, y: float, width: float) -> str:
    top = y - _HEIGHT / 2
    weight, ink = (700, "#1a202c") if box.bold else (400, "#4a5568")
    dash = ' stroke-dasharray="4 3"' if box.dashed else ""
    return (
        f"<g><title>{escape(box.about)}</title>"
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_HEIGHT:.0f}" rx="6" '
        f'fill="{box.fill}" stroke="#718096"{dash}/>'
        f'<rect x="{x:.1f}" y="{top + 5:.1f}" width="4" height="{_HEIGHT - 10:.0f}" rx="2" '
        f'fill="{box.colour}"/>'
        f'<text x="{x + 12:.1f}" y="{y - 3:.1f}" font-weight="{weight}" fill="{ink}">'
        f"{escape(box.title)}</text>"
        f'<text x="{x + 12:.1f}" y="{y + 12:.1f}" fill="#718096">{escape(box.subtitle)}</text></g>'
    )


def _legend(colours: Mapping[str, str], note: str) -> list[str]:
    x, found = _EDGE, []
    for name, colour in colours.items():
        found.append(
            f'<rect x="{x:.0f}" y="37" width="4" height="12" rx="2" fill="{colour}"/>'
            f'<text x="{x + 9:.0f}" y="47" fill="#4a5568">{escape(name)}</text>'
        )
        x += 30 + _LETTER * len(name)
    if note:
        found.append(f'<text x="{x:.0f}" y="47" fill="#4a5568">{escape(note)}</text>')
    return found
