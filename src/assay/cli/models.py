"""Commands on models: train, judge, approve, promote, withdraw, and look things up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli import care, carry
from assay.cli.doubts import warn_of_doubts
from assay.cli.options import (
    HERE,
    DeskOption,
    IdentityOption,
    JsonOption,
    NameArgument,
    ReasonOption,
    VersionArgument,
    acting,
    open_desk,
    require,
    require_user,
    with_remark,
)
from assay.cli.output import Output
from assay.domain.instants import Instant, parse, render
from assay.errors import ContractViolation, Gone

if TYPE_CHECKING:
    from assay.orchestration.desk import Desk

models = typer.Typer(
    name="models", no_args_is_help=True, help="Versions: look, approve, promote, withdraw, verify."
)


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe of the desk.")],
    known_by: Annotated[
        str | None,
        typer.Option(
            metavar="MOMENT",
            help="Hold back what became known later, such as 2026-06-30T00:00Z. Default: nothing.",
        ),
    ] = None,
    shuffles: Annotated[
        int | None,
        typer.Option(
            "--shuffle-labels",
            metavar="TIMES",
            min=1,
            help="Train on shuffled labels instead, see that nothing is learnt, register nothing.",
        ),
    ] = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe by purged walk-forward, export it to ONNX and register it as staged."""
    from assay.orchestration.modelling import register_run, train_recipe

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    if shuffles is not None:
        _train_on_shuffled_labels(opened, recipe, shuffles, output)
        return
    opened.recipe(recipe)
    require(opened, identity, "model:write", "train", recipe)
    cut_off = None if known_by is None else parse(known_by)
    run = train_recipe(opened, recipe, output, known_by=cut_off)
    made = register_run(opened, run, author=acting(identity))
    output.line(f"run {run.id}: {'recorded before' if run.reused else f'{run.seconds:.1f} s'}")
    state = "registered" if made.created else "known already, nothing added:"
    output.line(f"{state} {made.name} {made.version} ({made.stage}), digest {made.digest[:12]}")
    output.next_step(f"assay gates check {made.name} {made.version}")
    output.result({"run": run.to_json(), "version": made.to_json()})


def _train_on_shuffled_labels(desk: Desk, recipe: str, shuffles: int, output: Output) -> None:
    from assay.orchestration.leaks import shuffle_labels_of

    found = shuffle_labels_of(desk, recipe, output, shuffles=shuffles)
    for number, score in enumerate(found.scores, start=1):
        output.line(
            f"shuffle {number}: rank correlation of {found.rows:,} predictions with labels that "
            f"nobody can know: {score:+.1f} standard deviations from none"
        )
    output.line("nothing was learnt" if found.holds else "LABELS WERE KNOWN OUT OF SAMPLE")
    output.result(found.to_json())
    if not found.holds:
        raise typer.Exit(1)


@models.command("list")
def models_list(
    name: Annotated[str | None, typer.Argument(help="One model only.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help="As it was then, such as 2026-01-15T10:30Z. Default: now."
        ),
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List versions and their stages, now or at a moment of the past."""
    output = Output(as_json=as_json)
    opened = open_desk(desk)
    registry = opened.registry
    if name is not None:
        registry.check_model(name)
    instant = None if at is None else _past(at, registry.now())
    records = registry.list(name, at=instant)
    if instant is not None:
        output.line(f"as it was at {render(instant)}")
    output.table(
        ("model", "version", "stage", "kind", "author", "registered", "digest"),
        (
            (r.name, r.version, r.stage, r.kind, r.author, render(r.registered_at), r.digest[:12])
            for r in records
        ),
    )
    if not records and instant is not None:
        output.line("no versions by then")
    elif not records:
        output.line("no versions yet")
        output.next_step("assay train RECIPE")
    warn_of_doubts(output, opened, name)
    output.result([record.to_json() for record in records])


def _past(text: str, now: Instant) -> Instant:
    """A moment that a command was given; one that has not come yet is refused."""
    instant = parse(text)
    if instant > now:
        raise ContractViolation(f"--at {text} has not come yet: expected {render(now)} or earlier")
    return instant


@models.command("show")
def models_show(
    name: NameArgument,
    version: VersionArgument,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show one version: record, metadata, evidence, gates, approvals; or what became of it."""
    import json

    output = Output(as_json=as_json)
    registry = open_desk(desk).registry
    try:
        document = registry.show(name, version)
    except Gone as error:
        output.line(error.message)
        output.next_step(error.hint or "assay models backups")
        document = registry.remains(name, version)
    output.line(json.dumps(document, indent=1))
    output.result(document)


@models.command("approve")
def models_approve(
    name: NameArgument,
    version: VersionArgument,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Approve a version under its latest gate report; two different people must."""
    from assay.delivery.approvals import approve, count_approvals
    from assay.domain.instants import NANOS_PER_SECOND

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    record = opened.registry.get(name, version)
    require(opened, identity, "model:approve", "approve", f"{name}/{record.version}")
    approval = approve(
        opened.registry,
        name,
        version,
        acting(identity),
        clock=opened.clock,
        valid_for=opened.layout.approval_nanos / NANOS_PER_SECOND,
        access=opened.access,
    )
    count = count_approvals(
        opened.registry,
        name,
        version,
        approval.gate_report_digest,
        now=opened.registry.now(),
        access=opened.access,
    )
    output.line(
        f"{approval.approver} approves {name} {approval.version} until "
        f"{render(approval.expires_at)}; approved by {', '.join(count.approvers)}"
    )
    output.next_step(
        f"assay models promote {name} {approval.version}"
        if count.sufficient
        else f"assay models approve {name} {approval.version} --as ANOTHER"
    )
    doubts = warn_of_doubts(output, opened, name)
    output.result({"approval": approval.to_json(), "count": count.to_json(), "doubts": doubts})


@models.command("promote")
def models_promote(
    name: NameArgument,
    version: VersionArgument,
    identity: IdentityOption = None,
    reason: ReasonOption = "",
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Put an approved version into production: load, verify, gates, approvals, sign, flip."""
    from assay.delivery.promotion import promote

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    record = opened.registry.get(name, version)
    require(opened, identity, "model:promote", "promote", f"{name}/{record.version}")
    warn_of_doubts(output, opened, name)
    done = promote(
        opened.registry,
        name,
        version,
        initiated_by=acting(identity),
        clock=opened.clock,
        monotonic=time.monotonic,
        reason=reason,
        policy=opened.policy,
        promotions_log=opened.layout.promotions,
        access=opened.access,
    )
    output.line(
        f"{name} {done.to_version} is in production after {done.seconds:.2f} s; it replaces "
        f"{done.from_version or 'nothing'}; approved by {', '.join(done.approved_by)}"
    )
    output.next_step(
        f'assay models rollback {name} --reason "..."   if it must go', f"assay models live {name}"
    )
    output.result(done.to_json())


@models.command("break-glass")
def models_break_glass(
    name: NameArgument,
    version: VersionArgument,
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Put a version into production past gates and approvals; the log says so for ever."""
    from assay.delivery.promotion import break_glass

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    record = opened.registry.get(name, version)
    require(opened, identity, "model:break_glass", "break-glass", f"{name}/{record.version}")
    done = break_glass(
        opened.registry,
        name,
        version,
        initiated_by=acting(identity),
        reason=reason,
        clock=opened.clock,
        monotonic=time.monotonic,
        promotions_log=opened.layout.promotions,
        access=opened.access,
    )
    output.line(
        f"GLASS BROKEN: {name} {done.to_version} is in production without gates and approvals; "
        f"it replaces {done.from_version or 'nothing'}; log entry {done.seq} says who and why"
    )
    output.next_step(
        f'assay models rollback {name} --reason "..."   if it must go',
        f"assay models history {name}",
    )
    output.result(done.to_json())


@models.command("rollback")
def models_rollback(
    name: NameArgument,
    reason: ReasonOption,
    target: Annotated[
        str | None, typer.Option(help="The version to bring back; the previous one by default.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Archive the withdrawn version instead of failing it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do everything but the change.")
    ] = False,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Withdraw the version in production and bring an archived one back, verified first."""
    from assay.delivery.rollback import rollback

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    opened.registry.check_model(name)
    # One person and one signature by a key that is here: nothing that could be slow at night.
    unreadable = require(opened, identity, "model:rollback", "rollback", name)
    done = rollback(
        opened.registry,
        name,
        target,
        reason=with_remark(reason, unreadable) if reason.strip() else reason,
        initiated_by=acting(identity),
        monotonic=time.monotonic,
        keep=keep,
        dry_run=dry_run,
    )
    would = "would be" if done.dry_run else "is"
    output.line(
        f"{name} {done.to_version} {would} in production after {done.seconds:.2f} s; "
        f"{done.from_version or 'nothing'} {would} withdrawn ({done.withdrawn_as or '-'})"
    )
    for note in done.notes:
        output.line(f"note: {note}")
    output.next_step(f"assay models history {name}")
    output.result(done.to_json())


@models.command("validate")
def models_validate(
    name: Annotated[str | None, typer.Argument(help="The model's name; all when left out.")] = None,
    version: Annotated[str | None, typer.Argument(help="The version, such as 1.2.0.")] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Check every file and the signature of a version; exits 1 and names what is wrong.

    Without a version: those of all, and the log; writes reports/models/registry_summary.md.
    """
    output = Output(as_json=as_json)
    if name is None:
        _validate_all(open_desk(desk), output)
        return
    if version is None:
        raise ContractViolation(
            f"which version of {name}?", hint=f"assay models list {name} shows them"
        )
    report = open_desk(desk).registry.validate(name, version)
    for problem in report.problems:
        output.line(f"{problem.file}: {problem.reason}")
    verdict = "valid" if report.ok else f"NOT VALID, {len(report.problems)} problems"
    output.line(
        f"{name} {report.version}: {verdict}; {report.files_checked} files checked; "
        f"signature: {report.signature}"
    )
    output.result(report.to_json())
    if not report.ok:
        raise typer.Exit(1)


def _validate_all(desk: Desk, output: Output) -> None:
    from assay.orchestration.registry_summary import PAGE, summarize_registry

    summary = summarize_registry(desk, output)
    for problem in summary.log.problems:
        output.line(f"log: {problem}")
    for note in summary.log.notes:
        output.line(f"note: {note}")
    for one in summary.versions:
        for wrong in one.problems:
            output.line(f"{one.record.name} {one.record.version}: {wrong}")
    state = "everything verifies" if summary.ok else "NOT everything verifies"
    output.line(
        f"{len(summary.versions)} versions and {summary.log.entries} entries of the log: {state}"
    )
    output.line(f"report: {PAGE}")
    output.result(summary.to_json())
    if not summary.ok:
        raise typer.Exit(1)


models.command("hold")(care.hold)
models.command("release")(care.release)
models.command("countersign")(care.countersign)
models.command("gc")(care.collect)
models.command("backup")(care.backup)
models.command("backups")(care.backups)
models.command("restore")(care.restore)
models.command("drill")(care.drill)
models.command("bring-back")(care.bring_back)
models.command("register")(carry.register)
models.command("export")(carry.export)
models.command("import")(carry.import_)


@models.command("live")
def models_live(
    name: NameArgument,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Such as 2026-01-15T10:30Z; or now.")
    ] = None,
    effective: Annotated[
        bool, typer.Option("--effective", help="And what each server had loaded, with the gaps.")
    ] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """What was in production at a moment, since when, and by which entry of the log."""
    output = Output(as_json=as_json)
    opened = open_desk(desk)
    registry = opened.registry
    registry.check_model(name)
    # Not the bare clock: one that was set back would hide the latest entries.
    now = registry.now()
    answer = registry.live_at(name, now if at is None else _past(at, now))
    if answer.version is None:
        output.line(f"at {render(answer.at)} nothing was live for {name}")
    else:
        since = "" if answer.since is None else f" since {render(answer.since)}"
        output.line(
            f"at {render(answer.at)} {name} {answer.version.version} was live{since} "
            f"(log entry {answer.seq}), digest {answer.version.digest[:12]}"
        )
    doubts = warn_of_doubts(output, opened, name)
    if effective:
        from assay.cli.effective import show_effective
        from assay.orchestration.effective import effective_at

        found = effective_at(opened, name, answer.at)
        show_effective(output, found)
        output.result({**found.to_json(), "doubts": doubts})
        return
    output.next_step(f"assay models history {name}")
    output.result({**answer.to_json(), "doubts": doubts})


@models.command("history")
def models_history(
    name: NameArgument, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """Everything the log says about a model, oldest first."""
    output = Output(as_json=as_json)
    opened = open_desk(desk)
    registry = opened.registry
    registry.check_model(name)
    entries = registry.history(name)
    output.table(
        ("entry", "time", "event", "from", "to", "by", "outcome", "reason"),
        (
            (e.seq, render(e.at), e.type, e.from_version, e.to_version, e.initiated_by, e.outcome,
             e.reason)
            for e in entries
        ),
    )  # fmt: skip
    warn_of_doubts(output, opened, name)
    output.result([entry.to_json() for entry in entries])


@models.command("rebuild")
def models_rebuild(
    identity: IdentityOption = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """Make the catalogue again from the log."""
    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require_user(opened, identity, "model:rollback", "rebuild", "")
    registry = opened.rebuilt_registry()
    count = len(registry.list())
    output.line(f"catalogue rebuilt from the log: {count} versions")
    output.next_step("assay audit verify")
    output.result({"versions": count})
