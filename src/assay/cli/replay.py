"""The command that computes logged predictions again."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from assay.cli.options import HERE, DeskOption, JsonOption, open_desk
from assay.cli.output import Output
from assay.errors import ContractViolation


def replay(
    day: Annotated[str, typer.Option("--day", metavar="DATE", help="Such as 2026-01-15, in UTC.")],
    model: Annotated[str | None, typer.Option(help="One model; all when left out.")] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Compute every logged prediction of a day again; exits 1 and names what differs in a bit."""
    from assay import bootstrap
    from assay.orchestration.prediction_replay import counts, replay_day

    output = Output(as_json=as_json)
    try:
        wanted = date.fromisoformat(day)
    except ValueError:
        raise ContractViolation(f"day {day!r}: expected a date such as 2026-01-15") from None
    done = replay_day(open_desk(desk), bootstrap.prediction_log(desk), wanted, model=model)
    for version, count in sorted(done.versions.items()):
        output.line(f"{version}: {count:,} predictions computed again")
    if done.impossible:
        output.line(f"cannot be computed again: {counts(done.impossible)}")
    for one in done.differences:
        output.line(
            f"line {one.line}: {one.what} of {one.model} {one.version}"
            f"{f' for {one.instrument}' if one.instrument else ''} at {one.timestamp} was "
            f"{one.logged!r}, comes out as {one.recomputed!r}"
        )
    output.line(
        f"{done.equal:,} of {done.predictions:,} predictions have equal bits; "
        f"{done.different:,} lines differ"
    )
    output.result(done.to_json())
    if not done.ok:
        raise typer.Exit(1)
