"""Commands on paper trading: an account that a version's predictions and real prices move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    IdentityOption,
    JsonOption,
    NameArgument,
    acting,
    open_desk,
    require,
)
from assay.cli.output import Output
from assay.domain.instants import render

if TYPE_CHECKING:
    from assay.orchestration.paper import PaperRun

paper = typer.Typer(
    name="paper", no_args_is_help=True, help="Trade a version's predictions on paper."
)

VersionArgument = Annotated[
    str | None, typer.Argument(help="The version; the one in production when left out.")
]
ReplayOption = Annotated[
    bool,
    typer.Option(
        "--replay", help="Its out-of-sample record over history, in an account marked as replayed."
    ),
]


@paper.command("run")
def paper_run(
    name: NameArgument,
    version: VersionArgument = None,
    replay: ReplayOption = False,
    currency: Annotated[
        str | None, typer.Option(help="The account's currency. Default: USD.")
    ] = None,
    equity: Annotated[
        float | None, typer.Option(help="What it starts with. Default: 1,000,000.")
    ] = None,
    basis_points: Annotated[
        float | None,
        typer.Option("--cost-bps", help="Cost of trading, one way. Default: as in the evidence."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Record hours and profit as evidence of the version.")
    ] = False,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Feed a version's paper account with predictions and prices that are new; repeat at will."""
    from assay import bootstrap
    from assay.orchestration.paper import PaperAssumptions, record_paper, run_paper

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    given = {"currency": currency, "equity": equity, "basis_points": basis_points}
    assumed = {key: value for key, value in given.items() if value is not None}
    done = run_paper(
        opened,
        name,
        version,
        output,
        predictions=None if replay else bootstrap.prediction_log(desk),
        assumptions=PaperAssumptions(**assumed) if assumed else None,  # type: ignore[arg-type]
    )
    output.line(f"{done.decisions:,} decisions and {done.prices:,} prices taken")
    if done.late:
        output.line(f"{done.late:,} decisions came too late to be traded; hours count anew")
    if done.strangers:
        output.line(f"not in the account: {', '.join(done.strangers)}")
    show_record(output, done)
    flag = " --replay" if replay else ""
    if record:
        require(opened, identity, "model:write", "paper run", f"{name}/{done.version}")
        record_paper(opened, done, initiated_by=acting(identity))
        output.line(f"recorded as evidence of {name} {done.version}")
        output.next_step(f"assay gates check {name} {done.version}")
    else:
        output.next_step(f"assay paper show {name} {done.version}{flag}")
    output.result(done.to_json())


@paper.command("show")
def paper_show(
    name: NameArgument,
    version: VersionArgument = None,
    replay: ReplayOption = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compute every line again; exits 1 where one differs."),
    ] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """What a version's paper account has earned, for how long, and what disturbed it."""
    from assay.orchestration.paper import paper_record
    from assay.portfolio import verify as problems_of

    output = Output(as_json=as_json)
    found = paper_record(open_desk(desk), name, version, replay=replay)
    show_record(output, found)
    problems = problems_of(found.journal) if verify else []
    for problem in problems:
        output.line(f"NOT AS WRITTEN: {problem}")
    if verify and not problems:
        output.line("every order, fill and mark was computed again with the same bits")
    output.result({**found.to_json(), **({"problems": problems} if verify else {})})
    if problems:
        raise typer.Exit(1)


def show_record(output: Output, run: PaperRun) -> None:
    """An account's record: hours, profit and costs, incidents."""
    record = run.record
    hours, profit = run.evidence
    if not record.traded:
        output.line(f"{run.name} {run.version}: no decision has been traded yet")
        return
    kind = "replayed" if record.terms.replayed else "live"
    said = profit.details
    output.line(
        f"{run.name} {run.version} ({kind}): {profit.value or 0.0:+.2%} after costs on "
        f"{said['starting_equity']:,.0f} {said['currency']}, {said['from']} to {said['to']}"
    )
    output.table(
        ("traded", "profit", "spread", "slippage", "commission", "financing", "worst fall"),
        [
            (
                f"{record.traded:,} decisions",
                *(
                    f"{said[part] or 0.0:,.0f}"
                    for part in ("profit", "spread", "slippage", "commission", "financing")
                ),
                f"{said['max_drawdown'] or 0.0:.1%}",
            )
        ],
    )
    output.line(f"{hours.value or 0.0:,.0f} hours without an incident")
    for at, reason in record.incidents[-5:]:
        output.line(f"  incident {render(at)}: {reason}")
