"""Commands on data and features: ingest, features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli import definitions, manifests
from assay.cli.options import HERE, DeskOption, JsonOption, open_desk
from assay.cli.output import Output
from assay.errors import ConfigurationError

features = typer.Typer(
    name="features", no_args_is_help=True, help="Compute feature views and look at them."
)

ViewArgument = Annotated[str | None, typer.Argument(help="A view; all of them when left out.")]


def ingest(desk: DeskOption = HERE, as_json: JsonOption = False) -> None:
    """Pull the sources into bronze once and bring silver up to date."""
    from assay.orchestration.ingestion import ingest as step

    output = Output(as_json=as_json)
    done = step(open_desk(desk), output)
    for name, report in done.pulls.items():
        output.line(
            f"{name}: {report.read:,} facts read, {report.added:,} added, "
            f"{report.duplicates:,} known already, {report.revisions:,} revisions"
        )
    silver = done.silver
    broken = ", ".join(f"{count} {reason}" for reason, count in silver.quarantined.items())
    output.line(
        f"silver: {silver.accepted:,} rates, {silver.instruments} instruments, "
        f"{len(silver.members)} in the universe; quarantined: {broken or 'none'}; "
        f"{silver.extreme} extremes flagged and kept"
    )
    output.next_step("assay features build")
    output.result(done.to_json())


@features.command("build")
def features_build(
    view: ViewArgument = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """Compute views over all of history and commit them to gold."""
    from assay.orchestration.building import build_features

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    built = [build_features(opened, name, output) for name in ([view] if view else opened.views)]
    for one in built:
        state = "committed" if one.changed else "unchanged"
        output.line(
            f"{one.table}: {one.rows:,} rows x {one.features} features of {one.entities} entities "
            f"in {one.seconds:.1f} s, snapshot {one.snapshot[:12]} {state}, "
            f"manifest {one.manifest[:12]}"
        )
    output.next_step("assay parity run", "assay train RECIPE")
    output.result([one.to_json() for one in built])


features.command("show")(definitions.show)
features.command("diff")(definitions.diff)


@features.command("check")
def features_check(
    view: ViewArgument = None,
    event_times: Annotated[
        int, typer.Option("--event-times", min=8, help="The last so many event times are used.")
    ] = 1_500,
    cuts: Annotated[int, typer.Option(min=1, help="Moments at which history is cut.")] = 3,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rows (.parquet, .csv) instead of the desk's history."),
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Cut and change the future, replay what was known, measure the warm-up; exits 1 on a leak."""
    from assay.orchestration.leaks import check_view

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    if data is not None and view is None:
        raise ConfigurationError(
            f"--data {data} without a view", hint=f"assay features check VIEW --data {data}"
        )
    checks = {
        name: check_view(opened, name, output, event_times=event_times, cuts=cuts, data=data)
        for name in ([view] if view else opened.views)
    }
    for name, check in checks.items():
        words = "no value changed" if check.holds else "VALUES CHANGED"
        output.line(
            f"{name}: {check.report.values_compared:,} values with the future cut off, with "
            "another future, with what was known, and after warming up on the look-back alone: "
            f"{words}"
        )
        for line in check.report.explain():
            output.line(f"  {line}")
        needed = "more than there are" if check.measured is None else f"{check.measured:,} needed"
        output.line(f"  look-back: {check.declared:,} rows declared, {needed} by measurement")
    output.next_step("assay features build")
    output.result({name: check.to_json() for name, check in checks.items()})
    if not all(check.holds for check in checks.values()):
        raise typer.Exit(1)


@features.command("operators")
def features_operators(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The page docs/reference/operators.md.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every operator: its class, when it is missing, how far it looks back."""
    from assay.features import OPERATORS
    from assay.features.definition.reference import reference_page

    output = Output(as_json=as_json)
    if markdown:
        output.line(reference_page().rstrip())
    else:
        output.table(
            ("operator", "class", "unit", "earlier rows", "missing when"),
            [(o.name, o.numeric, o.unit, o.reach, o.missing) for o in OPERATORS.values()],
        )
    output.result([operator.to_json() for operator in OPERATORS.values()])


features.command("manifest")(manifests.manifest)
features.command("manifests")(manifests.manifests)
features.command("promote")(manifests.promote)
features.command("rollback-manifest")(manifests.rollback)
