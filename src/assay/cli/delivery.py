"""Commands of the controller of champion and challengers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    IdentityOption,
    JsonOption,
    OptionalName,
    acting,
    open_desk,
    require,
)
from assay.cli.output import Output

if TYPE_CHECKING:
    from pathlib import Path

    from assay.delivery.canary import CanaryPolicy
    from assay.delivery.controller import ChallengerState, RetrainConfig, Situation, Step
    from assay.orchestration.desk import Desk

delivery = typer.Typer(
    name="delivery", no_args_is_help=True, help="Bring challengers on their way, step by step."
)
DaysOption = Annotated[
    float | None,
    typer.Option(
        "--days", min=0, help="Days in shadow without an incident; the setting when left out."
    ),
]
ShareOption = Annotated[
    float | None,
    typer.Option("--share", help="Share of entities for a canary; the setting when left out."),
]


@delivery.command("status")
def delivery_status(
    name: OptionalName = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """What is known about every challenger."""
    from assay import bootstrap
    from assay.orchestration.controlling import situation_of

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    files, (_, policy) = bootstrap.challenger_files(desk), bootstrap.delivery_rules(desk)
    found = [situation_of(opened, files, one, policy) for one in _names(opened, name)]
    _show(output, found)
    output.next_step("assay delivery plan")
    output.result([one.to_json() for one in found])


@delivery.command("history")
def delivery_history(
    name: OptionalName = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many decisions.")] = 20,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """What was decided and what came of it, the newest last; exits 1 where a line was changed."""
    from assay.orchestration.controlling import decided

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    if name is not None:
        opened.registry.check_model(name)
    found = [one for one in decided(opened) if name in {None, one.model}][-last:]
    output.table(
        ("decision", "at", "by", "model", "step", "came of it", "why"),
        [(one.decision[:12], one.at, one.by, one.model, one.step, one.outcome, one.reason)
         for one in found],
    )  # fmt: skip
    if not found:
        output.line("nothing was decided yet")
        output.next_step("assay delivery plan")
    output.result([one.to_json() for one in found])


@delivery.command("plan")
def delivery_plan(
    name: OptionalName = None,
    days: DaysOption = None,
    share: ShareOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """The next step of every challenger and why; nothing is done."""
    from assay import bootstrap
    from assay.delivery.controller import next_step
    from assay.orchestration.controlling import plan

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    files, (config, policy) = bootstrap.challenger_files(desk), _rules(desk, days, share)
    planned = [plan(opened, files, one, config, policy) for one in _names(opened, name)]
    taken = [next_step(situation, config) for situation, _ in planned]
    for (situation, steps), step in zip(planned, taken, strict=True):
        _show_steps(output, situation, steps, step)
    if any(taken):
        output.next_step("assay delivery run --as NAME")
    else:
        output.line("nothing that `assay delivery run` could do now")
    output.result(
        [{"situation": one.to_json(), "steps": [step.to_json() for step in steps]}
         for one, steps in planned]
    )  # fmt: skip


@delivery.command("run")
def delivery_run(
    name: OptionalName = None,
    days: DaysOption = None,
    share: ShareOption = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Take the most urgent step of each model, and record the decision with all it rested on."""
    from assay import bootstrap
    from assay.orchestration.controlling import take_step

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    files, (config, policy) = bootstrap.challenger_files(desk), _rules(desk, days, share)
    names = _names(opened, name)
    for one in names:
        require(opened, identity, "model:promote", "delivery run", one)
    done = [
        take_step(opened, files, one, config, policy, initiated_by=acting(identity))
        for one in names
    ]
    for decided in done:
        step = decided.step
        _show_steps(output, decided.situation, decided.steps, step)
        if step is not None and decided.problem is not None:
            output.line(f"{step.model} {step.version}: {step.action} REFUSED: {decided.problem}")
        elif step is not None:
            output.line(
                f"{step.model} {step.version}: {step.action} done (log entry {decided.seq}, "
                f"decision {decided.decision[:12]})"
            )
    output.next_step("assay delivery status")
    output.result([one.to_json() for one in done])
    if any(one.problem is not None for one in done):
        raise typer.Exit(1)


def _names(desk: Desk, name: str | None) -> tuple[str, ...]:
    if name is not None:
        desk.registry.check_model(name)
        return (name,)
    return desk.registry.names()


def _rules(
    desk: Path, days: float | None, share: float | None
) -> tuple[RetrainConfig, CanaryPolicy]:
    """The desk's settings, with what was typed in their place."""
    from dataclasses import replace

    from assay import bootstrap

    config, policy = bootstrap.delivery_rules(desk)
    return (
        replace(
            config,
            shadow_mode_days=config.shadow_mode_days if days is None else days,
            canary_share=config.canary_share if share is None else share,
        ),
        policy,
    )


def _show(output: Output, found: list[Situation]) -> None:
    rows = [
        (
            one.model,
            one.champion or "none",
            each.version,
            "canary" if each.is_canary else "shadow" if each.in_shadow else "staged",
            _hours(each),
            each.outcome or "not judged",
            each.canary or "-",
            "yes" if each.approved else "no",
        )
        for one in found
        for each in one.challengers
    ]
    columns = (
        "model", "champion", "challenger", "as", "hours without incident", "gates", "canary",
        "approved",
    )  # fmt: skip
    output.table(columns, rows)
    if not rows:
        output.line("there is no challenger")


def _hours(one: ChallengerState) -> str:
    if one.shadow_hours is not None:
        return f"{one.shadow_hours:.1f}"
    return "no pairs" if one.in_shadow else "-"


def _show_steps(
    output: Output, situation: Situation, steps: tuple[Step, ...], taken: Step | None
) -> None:
    """Each challenger's next step; of those that wait, what can be typed about it."""
    if not steps:
        output.line(f"{situation.model} {situation.champion or ''}".rstrip() + ": no challenger")
    for step in steps:
        asks = " (a person has to)" if step.by_people else ""
        if taken is not None and step != taken and step.action != "wait" and not asks:
            asks = " (after the one above)"
        about = f"{step.model} {step.version}: {step.action}{asks}"
        first, *more = step.reason.split("; ")
        output.line(f"{about}:" if more else f"{about}: {first}")
        for reason in (first, *more) if more else ():
            output.line(f"  {reason}")
        if step.hint and (step.action == "wait" or step.by_people):
            output.line(f"  see: {step.hint}")
