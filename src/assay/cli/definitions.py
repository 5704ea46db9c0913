"""Commands on what a view means: show it, and say what changed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.options import HERE, DeskOption, JsonOption, open_desk
from assay.cli.output import Output

if TYPE_CHECKING:
    from assay.features import FeatureView
    from assay.features.definition.graph import Value
    from assay.orchestration.manifests import Comparison

_LONGEST = 60


def show(
    view: Annotated[str, typer.Argument(help="The view to show.")],
    dot: Annotated[
        bool, typer.Option("--dot", help="Print its graph for Graphviz, and nothing else.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw its graph into a file.")
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show a view: every value with its class and warm-up, windows, state, manifest."""
    from assay.features import Manifest
    from assay.features.definition.drawing import dot_of, svg_of
    from assay.features.definition.graph import graph_of, windows_of
    from assay.features.kernel.layout import state_bytes

    output = Output(as_json=as_json)
    found = open_desk(desk).view(view)
    if svg is not None:
        from assay.storage.files import write_atomic

        write_atomic(svg, svg_of(found).encode())
    if dot and not as_json:
        output.line(dot_of(found).rstrip())
        return
    manifest, graph, windows = Manifest.of(found), graph_of(found), windows_of(found)
    size = state_bytes(found.plan.first)
    if not as_json:
        _show_view(found, graph, output)
        output.line(f"windows: {'; '.join(windows) or 'none'}")
        output.line(f"state: {size:,} bytes per entity in a live process")
        output.line(f"manifest {manifest.hash}")
    if svg is not None:
        output.line(f"drawn into {svg}")
    output.next_step(f"assay features build {found.name}")
    document: dict[str, Any] = {
        **manifest.document,
        "manifest": manifest.hash,
        "units": dict(found.feature_units),
        "graph": [value.to_json() for value in graph],
        "windows": list(windows),
        "state_bytes": size,
    }
    output.result(document | ({"dot": dot_of(found)} if dot else {}))


def _show_view(view: FeatureView, graph: tuple[Value, ...], output: Output) -> None:
    from assay.features import OPERATORS, Sessions
    from assay.features.definition.windows import length_in_words

    units = view.feature_units
    rows = [
        (_called(value), value.formula, value.numeric, f"{value.look_back:,}", _unit(value, units))
        for value in graph
    ]
    output.line(
        f"{view.name} over {view.source}, keyed by {view.entity}: {len(view.features)} features, "
        f"{len(graph)} values; #1 and so on have no name of their own"
    )
    output.table(("value", "is", "class", "warm-up", "unit"), rows)
    used = Counter(value.operator for value in graph)
    output.line()
    output.table(
        ("operator", "times", "class", "version", "missing when"),
        [
            (name, count, OPERATORS[name].numeric, OPERATORS[name].version, OPERATORS[name].missing)
            for name, count in sorted(used.items())
        ],
    )
    output.line()
    across = sum(value.across for value in graph)
    ttl = view.ttl
    lives = f"{ttl.count} sessions" if isinstance(ttl, Sessions) else length_in_words(ttl.nanos)
    output.line(f"warm-up: {view.look_back:,} earlier rows of an entity; time to live: {lives}")
    if across:
        output.line(f"across entities: {across} values, completed with their event time")
    for table in view.calendars:
        output.line(f"calendar {table.name}: {table.source}, digest {table.digest[:12]}")
    if view.bars is not None:
        every = length_in_words(view.bars.every.nanos)
        output.line(f"rows are bars of {every} from {view.bars.source}: {view.bars.digest[:12]}")
    if view.lateness is not None:
        late = view.lateness.event_times
        output.line(f"late facts change rows of the last {late:,} event times")


def _called(value: Value) -> str:
    """The name by which others read it, and those of the features that it is."""
    others = [name for name in value.features if name != value.name]
    return f"{value.name} = {', '.join(others)}" if others else value.name


def _unit(value: Value, units: Any) -> str:
    return next((units[name] or "?" for name in value.features), "")


def diff(
    before: Annotated[
        str, typer.Argument(help="A manifest's file or hash (six letters do), or a view.")
    ],
    after: Annotated[
        str | None,
        typer.Argument(help="The same; when left out, the view as it is defined now."),
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two manifests, or since one; exits 1 if anything did."""
    from assay.orchestration.manifests import compare_manifests

    output = Output(as_json=as_json)
    done = compare_manifests(lambda: open_desk(desk), before, after)
    for side, one in (("from", done.before), ("to", done.after)):
        output.line(f"{side} {one.manifest.view} {one.manifest.hash[:12]}, {one.where}")
    _show_changes(done, output)
    if done.equal:
        output.line("nothing changed")
    else:
        output.next_step(
            f"assay features show {done.after.manifest.view}",
            f"assay features build {done.after.manifest.view}",
        )
    output.result(done.to_json())
    if not done.equal:
        raise typer.Exit(1)


def _show_changes(done: Comparison, output: Output) -> None:
    sign = {"added": "+", "removed": "-", "changed": "~"}
    for one in done.found:
        head = f"{sign[one.kind]} {one.what} {one.name}".rstrip()
        if one.parts:
            output.line(head)
            for place, was, now in one.parts:
                output.line(f"    {place}: {_short(was)} -> {_short(now)}")
        elif one.kind == "changed":
            output.line(f"{head}: {_short(one.before)} -> {_short(one.after)}")
        else:
            output.line(f"{head}: {_short(one.after if one.kind == 'added' else one.before)}")
    for fact, *both in done.build:
        if fact == "processor_features":
            both = _apart(*both)  # noqa: PLW2901 - hundreds of flags, of which few differ
        output.line(f"~ build {fact}: {' -> '.join(map(_short, both))}")
    if done.build:
        words = "the same bits" if done.same_bits else "OTHER BITS"
        output.line(f"the golden program has {words} under both builds")


def _apart(before: str, after: str) -> list[str]:
    """The flags that are set on one side only."""
    old, new = ({one for one in text.split(",") if one[:1] == "+"} for text in (before, after))
    return [",".join(sorted(only)) or "-" for only in (old - new, new - old)]


def _short(value: Any) -> str:
    text = "left out" if value is None else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
