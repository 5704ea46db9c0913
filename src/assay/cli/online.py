"""Commands on online rows: features materialize, backfill, status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.data import ViewArgument
from assay.cli.options import HERE, DeskOption, JsonOption, open_desk
from assay.cli.output import Output
from assay.domain.instants import parse, render

if TYPE_CHECKING:
    from pathlib import Path

    from assay.features.online import OnlineStore
    from assay.orchestration.materialization import Materializer


def materialize(
    view: ViewArgument = None,
    full: Annotated[
        bool, typer.Option("--full", help="Take every commit again, from the first one on.")
    ] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Bring online rows up to date with silver: what was committed since the last time."""
    output = Output(as_json=as_json)
    with _materializers(desk, view) as (_, materializers):
        done = [one.run(output, full=full) for one in materializers]
    waiting = _say_unfed(output, desk, view)
    for one in done:
        newest = "nothing" if one.newest is None else f"rows up to {render(one.newest)}"
        output.line(
            f"{one.name}: {one.commits} commits with {one.arrivals:,} facts taken, "
            f"{one.rows:,} rows issued in {one.seconds:.1f} s; the store has {newest}"
        )
    output.next_step(*waiting, "assay features status", "assay serve")
    output.result([one.to_json() for one in done])


def backfill(
    view: ViewArgument = None,
    start: Annotated[
        str, typer.Option("--from", metavar="MOMENT", help="First event time, as 2026-01-15.")
    ] = "1970-01-01",
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="MOMENT", help="Before this event time. Default: now."),
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write the online rows of a range of event times, as they were known; repeatable."""
    output = Output(as_json=as_json)
    begin = parse(start)
    stop = open_desk(desk).clock.now() if end is None else parse(end)
    with _materializers(desk, view) as (_, materializers):
        done = [one.backfill(begin, stop, output) for one in materializers]
    for one in done:
        beyond = f"; it keeps none of {one.let_go:,} older ones" if one.let_go else ""
        output.line(f"{one.name}: {one.rows:,} rows written that the store did not hold{beyond}")
    # Of the range: between it and what is there otherwise, rows may be missing.
    reach = f"--from {render(begin)} --to {render(stop)}"
    output.next_step(*dict.fromkeys(f"assay parity run {one.view} {reach}" for one in done))
    output.result([one.to_json() for one in done])


def status(view: ViewArgument = None, desk: DeskOption = HERE, as_json: JsonOption = False) -> None:
    """How fresh online rows are, and what was committed since they were materialized."""
    output = Output(as_json=as_json)
    from assay.orchestration.materialization import freshness_of

    with _materializers(desk, view) as (store, materializers):
        found = freshness_of(store, materializers)
    output.table(
        ("rows", "entities", "newest row", "source", "behind", "commits to take"),
        [
            (
                one.name,
                f"{one.entities} of {one.known}",
                "" if one.newest is None else render(one.newest),
                "" if one.source_newest is None else render(one.source_newest),
                one.behind,
                one.pending,
            )
            for one in found
        ],
    )
    waiting = _say_unfed(output, desk, view)
    # What was lost does not come back by what is stored from now on.
    lost = [one.view for one in found if one.lost]
    steps = [f"assay features materialize {name} --full" for name in lost]
    if any(one.pending for one in found):
        steps.insert(0, "assay features materialize")
    if waiting or steps:
        output.next_step(*waiting, *steps)
    output.result([one.to_json() for one in found])


def _say_unfed(output: Output, desk: Path, view: str | None) -> list[str]:
    """Name the rows that servers read and this desk cannot feed, and what ends that."""
    from assay.orchestration.materialization import unfed

    opened = open_desk(desk)
    steps: list[str] = []
    for name in [view] if view else opened.views:
        for one in unfed(opened, opened.view(name)):
            output.line(
                f"{one.namespace}: NOT FED: it has manifest {one.manifest[:12]}, which the desk's "
                "definition cannot compute, and servers read it"
            )
            steps = [*steps, f"assay features promote {name}"]
    return steps


@contextmanager
def _materializers(
    desk: Path, view: str | None
) -> Iterator[tuple[OnlineStore, list[Materializer]]]:
    from assay.features.online.store import MAX_VERSIONS
    from assay.orchestration.materialization import Materializer, targets_of

    opened = open_desk(desk)
    names = [view] if view else [*opened.views]
    store = opened.stores.open(opened, max_versions=MAX_VERSIONS)
    try:
        yield (
            store,
            [
                Materializer(opened, view, store, target)
                for view in map(opened.view, names)
                for target in targets_of(opened, view)
            ],
        )
    finally:
        store.close()
