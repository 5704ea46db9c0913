"""Commands of the controller of champion and challengers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    IdentityOption,
    JsonOption,
    acting,
    open_desk,
    require,
)
from assay.cli.output import Output

if TYPE_CHECKING:
    from assay.delivery.controller import DeliveryConfig, Situation, Step
    from assay.orchestration.desk import Desk

delivery = typer.Typer(
    name="delivery", no_args_is_help=True, help="Bring challengers on their way, step by step."
)
OptionalName = Annotated[
    str | None, typer.Argument(help="The model's name; every model when left out.")
]
DaysOption = Annotated[float, typer.Option("--days", help="Days in shadow without an incident.")]
ShareOption = Annotated[float, typer.Option("--share", help="Share of entities for a canary.")]


@delivery.command("status")
def delivery_status(
    name: OptionalName = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """What is known about every challenger."""
    from assay import bootstrap
    from assay.delivery.canary import CanaryPolicy
    from assay.orchestration.controlling import situation_of

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    files = bootstrap.challenger_files(desk)
    found = [situation_of(opened, files, one, CanaryPolicy()) for one in _names(opened, name)]
    _show(output, found)
    output.next_step("assay delivery plan")
    output.result([one.to_json() for one in found])


@delivery.command("plan")
def delivery_plan(
    name: OptionalName = None,
    days: DaysOption = 7.0,
    share: ShareOption = 0.1,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """The next step of every challenger and why; nothing is done."""
    from assay import bootstrap
    from assay.delivery.canary import CanaryPolicy
    from assay.orchestration.controlling import plan

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    files = bootstrap.challenger_files(desk)
    config = _config(days, share)
    planned = [plan(opened, files, one, config, CanaryPolicy()) for one in _names(opened, name)]
    for _, steps in planned:
        _show_steps(output, steps)
    if not any(steps for _, steps in planned):
        output.line("there is no challenger")
    output.next_step("assay delivery run --as NAME")
    output.result(
        [{"situation": one.to_json(), "steps": [step.to_json() for step in steps]}
         for one, steps in planned]
    )  # fmt: skip


@delivery.command("run")
def delivery_run(
    name: OptionalName = None,
    days: DaysOption = 7.0,
    share: ShareOption = 0.1,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Take the most urgent step of each model, and record the decision with all it rested on."""
    from assay import bootstrap
    from assay.delivery.canary import CanaryPolicy
    from assay.orchestration.controlling import take_step

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    files = bootstrap.challenger_files(desk)
    names = _names(opened, name)
    for one in names:
        require(opened, identity, "model:promote", "delivery run", one)
    done = [
        take_step(opened, files, one, _config(days, share), CanaryPolicy(),
                  initiated_by=acting(identity))
        for one in names
    ]  # fmt: skip
    for decided in done:
        _show_steps(output, decided.steps)
        step = decided.step
        if step is None:
            output.line(f"{decided.situation.model}: nothing to do but wait")
        elif decided.problem is not None:
            output.line(f"{step.model} {step.version}: {step.action} REFUSED: {decided.problem}")
        else:
            output.line(f"{step.model} {step.version}: {step.action} (log entry {decided.seq})")
    output.next_step("assay delivery status")
    output.result([one.to_json() for one in done])
    if any(one.problem is not None for one in done):
        raise typer.Exit(1)


def _names(desk: Desk, name: str | None) -> tuple[str, ...]:
    if name is not None:
        desk.registry.check_model(name)
        return (name,)
    return desk.registry.names()


def _config(days: float, share: float) -> DeliveryConfig:
    from assay.delivery.controller import DeliveryConfig

    return DeliveryConfig(shadow_mode_days=days, canary_share=share)


def _show(output: Output, found: list[Situation]) -> None:
    rows = [
        (
            one.model,
            one.champion,
            each.version,
            "canary" if each.is_canary else "shadow" if each.in_shadow else "staged",
            "-" if each.shadow_hours is None else f"{each.shadow_hours:.1f}",
            each.outcome,
            each.canary,
            "yes" if each.approved else "no",
        )
        for one in found
        for each in one.challengers
    ]
    columns = ("model", "champion", "challenger", "as", "hours", "gates", "canary", "approved")
    output.table(columns, rows)
    if not rows:
        output.line("there is no challenger")


def _show_steps(output: Output, steps: tuple[Step, ...]) -> None:
    for step in steps:
        asks = " (a person has to)" if step.by_people else ""
        output.line(f"{step.model} {step.version}: {step.action}{asks}: {step.reason}")
