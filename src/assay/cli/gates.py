"""Commands on gates: what they mean, what they say about a version, and what others would say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    IdentityOption,
    JsonOption,
    NameArgument,
    VersionArgument,
    acting,
    open_desk,
    require,
)
from assay.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assay.delivery.dry_run import Rejudged
    from assay.delivery.gates import SwitchedOff
    from assay.domain.verdicts import GateResult

gates = typer.Typer(
    name="gates", no_args_is_help=True, help="Evidence against the promotion policy."
)


@gates.command("check")
def gates_check(
    name: NameArgument,
    version: VersionArgument,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Try another policy: measure and judge, and record nothing."
        ),
    ] = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Measure a version's evidence, record it and apply the policy; exits 1 unless promotable."""
    from assay.delivery.policy_files import load_policy
    from assay.domain.verdicts import Outcome
    from assay.orchestration.judging import assess_version, judge_version

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    record = opened.registry.get(name, version)
    if policy is None:
        require(opened, identity, "model:write", "gates check", f"{name}/{record.version}")
        done = judge_version(opened, name, version, initiated_by=acting(identity), progress=output)
    else:
        done = assess_version(opened, name, version, load_policy(policy), progress=output)
    show_gates(output, done.gates.results)
    _show_not_asked(output, done.gates.switched_off)
    output.line(f"{name} {record.version}: {done.gates.outcome}")
    if policy is not None:
        output.line(f"nothing was recorded: {policy} is not the policy of this desk")
    elif done.gates.outcome is Outcome.PROMOTABLE:
        output.next_step(f"assay models approve {name} {version} --as IDENTITY")
    else:
        output.next_step(f"assay gates show {name} {version}")
    output.result(done.to_json())
    if done.gates.outcome is not Outcome.PROMOTABLE:
        raise typer.Exit(1)


@gates.command("show")
def gates_show(
    name: NameArgument,
    version: VersionArgument,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Say in sentences what the latest recorded verdicts rest on."""
    from assay.domain.verdicts import Verdict
    from assay.errors import NotFound

    output = Output(as_json=as_json)
    registry = open_desk(desk).registry
    record = registry.get(name, version)
    report = registry.gate_record(name, record.version)
    if report is None:
        raise NotFound(
            f"{name} {version} was judged by no gates", hint=f"assay gates check {name} {version}"
        )
    output.line(f"{name} {record.version}: {report.outcome}")
    for result in report.results:
        output.line(f"- {result.name} ({result.severity}): {result.verdict}. {result.reason}.")
        output.line(f"  measured: {result.convention}; sample {result.sample_size:,}")
    for gate in report.switched_off:
        output.line(f"- {gate}: not asked by the policy")
    stopped = [one.name for one in report.results if one.verdict is not Verdict.PASS]
    if stopped:
        output.next_step(f"assay gates explain {stopped[0]}")
    output.result(report.to_json())


@gates.command("noise")
def gates_noise(
    name: NameArgument,
    version: VersionArgument,
    models: Annotated[int, typer.Option(metavar="COUNT", min=2, help="How many to make up.")] = 20,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Put forecasts without skill through the statistical gates; exits 1 if one passes them all.

    They are as persistent as the version's own and trade as much. Nothing is registered: a control
    is no trial of the line. Pages show the last one (reports/models/NAME/noise-VERSION.json).
    """
    from assay.domain.verdicts import Verdict
    from assay.orchestration.evidence.noise import keep_noise, noise_control

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    found = noise_control(opened, name, version, progress=output, models=models)
    keep_noise(opened, found)
    output.table(
        ("gate", *(str(one) for one in Verdict)),
        (
            (gate, *(str(counts[str(one)]) for one in Verdict))
            for gate, counts in found.by_gate.items()
        ),
    )
    output.line(f"{found.passed} of {models} models that know nothing pass every gate that blocks")
    output.next_step(f"assay evidence report {name} {version}")
    output.result(found.to_json())
    if found.passed:
        raise typer.Exit(1)


@gates.command("explain")
def gates_explain(
    gate: Annotated[str, typer.Argument(help="A gate or measurement, such as rank_ic.")],
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page of the reference.")
    ] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Say what a gate measures, why, by which formula and source, when it lies, how to read it."""
    from assay.delivery.gate_pages import explain_gate, gate_page, rule_in_words, rules_of
    from assay.settings import FILE
    from assay.validation.catalogue import explanation_of

    output = Output(as_json=as_json)
    known = explanation_of(gate)
    if markdown:
        output.line(gate_page(gate).rstrip("\n"))
        return
    for title, text in explain_gate(gate):
        output.line(f"{title}: {text}")
    rules: list[dict[str, object]] = []
    if (desk / FILE).exists():
        for where, one in rules_of(open_desk(desk).policy, gate):
            output.line(f"This desk, {where}: {rule_in_words(one)}")
            rules.append({"policy": where, **one.to_json()})
    output.result({**known.to_json(), "rules": rules})


@gates.command("list")
def gates_list(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the index of the reference.")
    ] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the gates of the desk's policy, by kind of model and named policy."""
    from assay.delivery.gate_pages import gate_index, rule_in_words

    output = Output(as_json=as_json)
    if markdown:
        output.line(gate_index().rstrip("\n"))
        return
    policy = open_desk(desk).policy
    output.table(
        ("policy", "gate", "rule"),
        (
            (where, gate.name, rule_in_words(gate))
            for where, found in (*policy.kinds.items(), *policy.named.items())
            for gate in found
        ),
    )
    output.next_step("assay gates explain GATE")
    output.result(policy.to_json())


@gates.command("dry-run")
def gates_dry_run(
    policy: Annotated[
        Path, typer.Option(metavar="FILE", help="The changed policy, such as configs/gates.yaml.")
    ],
    name: Annotated[str | None, typer.Argument(help="One model; all when left out.")] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Judge past versions under another policy, from recorded evidence; nothing is written."""
    from assay.delivery.dry_run import dry_run
    from assay.delivery.policy_files import load_policy

    output = Output(as_json=as_json)
    found = dry_run(open_desk(desk).registry, load_policy(policy), name)
    _show_rejudged(output, found)
    output.result([one.to_json() for one in found])


def _show_rejudged(output: Output, found: Sequence[Rejudged]) -> None:
    output.table(
        ("version", "policy", "then", "under the file", "verdicts that change"),
        (
            (
                f"{one.name} {one.version}",
                one.policy,
                one.before,
                one.problem if one.after is None else one.after,
                len(one.changes),
            )
            for one in found
        ),
    )
    for one in found:
        for change in one.changes:
            output.line(
                f"{one.name} {one.version} {change.gate}: {change.before or 'not asked'} -> "
                f"{change.after or 'not asked'} ({change.reason})"
            )
    changed = sum(one.before is not one.after for one in found)
    output.line(f"{len(found)} versions judged again: {changed} outcomes would be others")


def show_gates(output: Output, results: tuple[GateResult, ...]) -> None:
    """The gates of one version as a table."""
    output.table(
        ("gate", "severity", "value", "rule", "verdict", "sample"),
        (
            (
                result.name,
                result.severity,
                "-" if result.value is None else f"{result.value:.6g}",
                result.threshold,
                result.verdict,
                f"{result.sample_size:,}",
            )
            for result in results
        ),
    )


def _show_not_asked(output: Output, gates_off: tuple[SwitchedOff, ...]) -> None:
    for gate in gates_off:
        output.line(f"not asked by the policy: {gate.name}: {gate.why}")
