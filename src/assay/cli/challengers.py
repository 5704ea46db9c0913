"""Commands on challengers: in shadow beside production, and as a canary for a share of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    IdentityOption,
    JsonOption,
    NameArgument,
    OptionalName,
    ReasonOption,
    VersionArgument,
    acting,
    open_desk,
    require,
    require_user,
    with_remark,
)
from assay.cli.output import Output

if TYPE_CHECKING:
    from assay.delivery.paired import ShadowComparison
    from assay.orchestration.challengers import CanaryLook, ChallengerFiles

_WHOSE = {"champion": "champion, whole answer", "challenger": "challenger, model alone"}

shadow = typer.Typer(
    name="shadow", no_args_is_help=True, help="Let challengers predict beside production."
)
canary = typer.Typer(
    name="canary", no_args_is_help=True, help="Let a challenger answer for a share of entities."
)


@shadow.command("start")
def shadow_start(
    name: NameArgument,
    version: VersionArgument,
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Let a version predict on all live inputs of its model; nothing acts on what it says."""
    from assay.delivery.deployments import start_shadow

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require_user(opened, identity, "model:write", "shadow start", f"{name}/{version}")
    entry = start_shadow(
        opened.registry, name, version, initiated_by=acting(identity), reason=reason,
        monotonic=time.monotonic,
    )  # fmt: skip
    output.line(f"{name} {entry.to_version} is in shadow (log entry {entry.seq})")
    output.next_step(f"assay shadow compare {name} {entry.to_version}")
    output.result(entry.to_json())


@shadow.command("stop")
def shadow_stop(
    name: NameArgument,
    version: VersionArgument,
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """End a shadow; what it predicted stays in the paired log."""
    from assay.delivery.deployments import stop_shadow

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require_user(opened, identity, "model:write", "shadow stop", f"{name}/{version}")
    entry = stop_shadow(
        opened.registry, name, version, initiated_by=acting(identity), reason=reason
    )
    output.line(f"{name} {entry.to_version} is in shadow no more (log entry {entry.seq})")
    output.next_step(f"assay models list {name}")
    output.result(entry.to_json())


@shadow.command("list")
def shadow_list(
    name: OptionalName = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """Which challengers run beside which champion, since when."""
    _list(name, desk, Output(as_json=as_json))


@shadow.command("compare")
def shadow_compare(
    name: NameArgument,
    version: VersionArgument,
    html: Annotated[
        bool, typer.Option("--html", help="Write reports/models/NAME/shadow_VERSION.html.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Record hours and rank correlation as evidence.")
    ] = False,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """A challenger beside the champion on the same live inputs."""
    from assay.orchestration.challengers import compare_shadow, record_shadow, write_comparison

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    found = compare_shadow(opened, _files(desk), name, version)
    if not found.rows:
        output.line(f"{name} {version} beside {found.champion}: no pairs yet")
        output.next_step("assay serve", f"assay shadow compare {name} {version}")
        output.result(found.to_json())
        return
    show_comparison(output, found)
    document = found.to_json()
    if html:
        page = write_comparison(opened, found)
        output.line(f"page: {page}")
        document["page"] = str(page)
    if record:
        require(opened, identity, "model:write", "shadow compare", f"{name}/{version}")
        made = record_shadow(opened, found, initiated_by=acting(identity))
        output.line(f"recorded as evidence of {name} {version}")
        document["evidence"] = [one.to_json() for one in made]
        output.next_step(f"assay gates check {name} {version}")
    else:
        output.next_step(
            f"assay delivery plan {name}", f"assay shadow compare {name} {version} --record"
        )
    output.result(document)


@canary.command("start")
def canary_start(
    name: NameArgument,
    version: VersionArgument,
    reason: ReasonOption,
    share: Annotated[
        float, typer.Option(help="Share of the entities that it answers for, above 0.")
    ] = 0.1,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Let a version answer for a share of the entities, chosen by a stable hash."""
    from assay.delivery.deployments import start_canary

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require(opened, identity, "model:promote", "canary start", f"{name}/{version}")
    entry = start_canary(
        opened.registry, name, version, share=share, initiated_by=acting(identity), reason=reason,
        monotonic=time.monotonic,
    )  # fmt: skip
    output.line(
        f"{name} {entry.to_version} answers for {share:.1%} of the entities (log entry {entry.seq})"
    )
    output.next_step(f"assay canary check {name}", f"assay canary stop {name} --reason ...")
    output.result(entry.to_json())


@canary.command("stop")
def canary_stop(
    name: NameArgument,
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """End the canary; the champion answers for everything again. Its scorecard is kept."""
    from assay import bootstrap
    from assay.delivery.deployments import end_canary
    from assay.errors import AssayError, Conflict
    from assay.orchestration.challengers import look_at_canary, write_card
    from assay.registry.deployments import deployments_of

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    unreadable = require(opened, identity, "model:rollback", "canary stop", name)
    before = deployments_of(opened.registry, name).canary
    entry = end_canary(
        opened.registry, name, initiated_by=acting(identity), reason=with_remark(reason, unreadable)
    )
    output.line(f"{name} {entry.to_version} is no canary any more (log entry {entry.seq})")
    try:
        if before is None or before.revision != entry.evidence["revision"]:
            raise Conflict("the canary began anew while it was being ended")
        # Looking takes its time on a busy desk: the canary ends first.
        _, policy = bootstrap.delivery_rules(desk)
        look = look_at_canary(opened, _files(desk), name, policy, before)
        output.line(f"scorecard: {write_card(opened, look, ended=True).scorecard}")
    except (AssayError, OSError) as error:
        output.line(f"no scorecard: {error}")
    output.next_step(f"assay models history {name}")
    output.result(entry.to_json())


@canary.command("list")
def canary_list(
    name: OptionalName = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """Which challengers run beside which champion, since when."""
    _list(name, desk, Output(as_json=as_json))


@canary.command("check")
def canary_check(
    name: NameArgument,
    act: Annotated[
        bool, typer.Option("--act", help="End it on a breach, or when its time is over.")
    ] = False,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Judge the canary on everything since it began and write its scorecard; exits 1 on harm."""
    from assay import bootstrap
    from assay.domain.verdicts import Verdict
    from assay.orchestration.challengers import look_at_canary, watch_canary, write_card

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    files, (_, policy) = _files(desk), bootstrap.delivery_rules(desk)
    if act:
        require_user(opened, identity, "model:rollback", "canary check", name)
        look = watch_canary(opened, files, name, policy, initiated_by=acting(identity))
    else:
        look = write_card(opened, look_at_canary(opened, files, name, policy))
    show_look(output, look)
    output.result(look.to_json())
    if look.finding.verdict is Verdict.FAIL:
        raise typer.Exit(1)


def show_look(output: Output, look: CanaryLook) -> None:
    """A canary's verdict with its reasons."""
    from assay.delivery.scorecard import TEST_COLUMNS, rows_of_tests

    finding = look.finding
    output.line(f"{look.name} {look.canary.version}: {finding.verdict}")
    for reason in finding.reasons:
        output.line(f"  {reason}")
    output.table(TEST_COLUMNS, rows_of_tests(finding))
    if look.ended:
        output.line("it was ended: the champion answers for everything again")
    if look.scorecard is None:
        output.line("no scorecard: it ended or began anew during this look")
    else:
        output.line(f"scorecard: {look.scorecard}")


def show_comparison(output: Output, found: ShadowComparison) -> None:
    """A comparison as tables."""
    from assay.delivery.scorecard import (
        DAY_COLUMNS,
        remarks,
        rows_of_days,
        which_is_better,
    )

    live = found.live
    hours = "no" if found.stable_hours is None else f"{found.stable_hours:,.1f}"
    output.line(
        f"{found.model} {found.challenger} beside {found.champion}: {found.pairs:,} pairs of "
        f"{found.rows:,} rows, {found.dropped:,} dropped, {hours} hours without an incident"
    )
    for reason, count in sorted(found.errors.items(), key=lambda item: -item[1])[:5]:
        output.line(f"  {count:,} rows without an answer: {reason}")
    for sentence in (*remarks(found), which_is_better(found)):
        output.line(f"  {sentence}")
    output.table(
        ("rank correlation", "psi", "ks", "wasserstein", "kl", "js", "median ratio"),
        [[_number(one) for one in (live.rank_correlation, live.psi, found.ks, found.wasserstein,
                                   found.kl, found.js, live.median_ratio)]],
    )  # fmt: skip
    output.table(
        ("latency, ms", "p50", "p95", "p99"),
        [(_WHOSE[who], *(_number(values[key]) for key in ("p50", "p95", "p99")))
         for who, values in found.latency_ms.items()],
    )  # fmt: skip
    output.table(
        ("entity", "pairs", "errors", "mean difference", "in spreads", "opposite side"),
        [(one.entity, one.pairs, one.errors, _number(one.mean_difference), _number(one.spreads),
          _number(one.opposite)) for one in found.entities[:10]],
    )  # fmt: skip
    if len(found.entities) > 10:
        output.line(f"{len(found.entities) - 10} more entities agree better: --html has them all")
    output.table(DAY_COLUMNS, rows_of_days(found)[:10])


def _list(name: str | None, desk: Path, output: Output) -> None:
    from assay.domain.instants import render
    from assay.registry.deployments import deployments_of

    registry = open_desk(desk).registry
    if name is not None:
        registry.check_model(name)
    found = [deployments_of(registry, one) for one in ([name] if name else registry.names())]
    rows = [
        (state.model, state.champion, one.version, "shadow", "", render(one.since), one.by)
        for state in found for one in state.shadows.values()
    ] + [
        (state.model, state.champion, one.version, "canary", f"{one.share:.1%}",
         render(one.since), one.by)
        for state in found if (one := state.canary) is not None
    ]  # fmt: skip
    output.table(("model", "champion", "challenger", "as", "share", "since", "by"), rows)
    if not rows:
        output.line("no challenger runs")
        output.next_step("assay shadow start NAME VERSION --reason ...")
    output.result([state.to_json() for state in found])


def _files(desk: Path) -> ChallengerFiles:
    from assay import bootstrap

    return bootstrap.challenger_files(desk)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
