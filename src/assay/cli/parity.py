"""Commands on parity: run, served, verify."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import HERE, DeskOption, JsonOption, open_desk
from assay.cli.output import Output

if TYPE_CHECKING:
    from assay.orchestration.parity import ViewProof

parity = typer.Typer(
    name="parity", no_args_is_help=True, help="Prove that what is served is what history says."
)
_ROWS = 10
_REPRODUCIBLE = {
    "PASS": "reproducible",
    "FAIL": "NOT reproducible",
    "INDETERMINATE": "not proven to be reproducible",
}


class Rule(StrEnum):
    """What counts as parity, as the command line says it."""

    BITS = "bits"
    DISTRIBUTION = "distribution"


@parity.command("run")
def parity_run(
    view: Annotated[str | None, typer.Argument(help="A view; all of them when left out.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="MOMENT", help="First event time; a date is midnight UTC."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="MOMENT", help="The end, which is not included.")
    ] = None,
    enforce: Annotated[
        bool,
        typer.Option(
            "--enforce/--diagnose",
            help="Exit 1 unless the policy holds, or report everything and exit 0.",
        ),
    ] = True,
    policy: Annotated[
        Rule | None,
        typer.Option(
            help="bits: every bit is equal. distribution: no feature's distributions are further "
            "apart than parity.wasserstein, 0.02 of its spread. Default: parity.rule, bits."
        ),
    ] = None,
    feed: Annotated[
        bool,
        typer.Option("--feed", help="Feed history event by event, also where a store is there."),
    ] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Compare the online store, or events fed one by one, with history; exits 1 on a breach."""
    from assay.domain.instants import parse
    from assay.domain.verdicts import Verdict
    from assay.features.parity import ParityPolicy, ParityRule
    from assay.orchestration.parity import Following, prove_view, write_following
    from assay.orchestration.report import keep_proof

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    layout = opened.layout
    asked = ParityPolicy(ParityRule(policy or layout.parity_rule), layout.parity_wasserstein)
    proofs = []
    for name in [view] if view else opened.views:
        proof = prove_view(
            opened,
            name,
            output,
            since=None if since is None else parse(since),
            until=None if until is None else parse(until),
            policy=asked,
            feed=feed,
        )
        proofs.append(proof)
        kept = proof.kept()
        if kept is not None:
            keep_proof(opened, kept)
        _say(output, proof)
    following = Following(
        desk=layout.name, at=opened.clock.now(), enforced=enforce, proofs=tuple(proofs)
    )
    written = write_following(opened, following)
    if following.verdict is not Verdict.PASS:
        output.line("what to do:")
        for number, advice in enumerate(following.advice, start=1):
            output.line(f"  {number}. {advice}")
    output.line(f"report: {written.page} (also .md and .json)")
    output.next_step("assay parity verify")
    output.result(following.to_json())
    if enforce and following.verdict is not Verdict.PASS:
        raise typer.Exit(1)


def _say(output: Output, proof: ViewProof) -> None:
    from assay.domain.instants import render
    from assay.orchestration.parity.following import share_of

    report, found = proof.report, proof.comparison
    horizon = found.horizon.to_json()
    reach = "all of history" if horizon["from"] is None else f"from {horizon['from']}"
    reach += "" if horizon["to"] is None else f" to {horizon['to']}"
    output.line(
        f"{proof.view}: {proof.judgement.verdict}, {report.bitwise_equal:,} of "
        f"{report.values_compared:,} values equal bit for bit "
        f"({share_of(report.bitwise_equal, report.values_compared)}), largest ULP "
        f"{report.largest_ulp:,}, missing {report.missing:,}, extra {report.extra:,}"
    )
    output.line(
        f"  history against {proof.side}, {reach}: {found.offline_rows:,} rows of "
        f"{len(proof.days):,} days, root {proof.roots[0][:16]}"
    )
    if found.answers is not None:
        output.line(
            f"  the store was asked {found.answers.asked:,} times, at every moment at which an "
            f"answer changes: {found.answers.wrong:,} wrong"
        )
    for reason in proof.judgement.reasons[:_ROWS]:
        output.line(f"  {reason}")
    if len(proof.judgement.reasons) > _ROWS:
        output.line(f"  and {len(proof.judgement.reasons) - _ROWS} more")
    for one in report.differences[:_ROWS]:
        entity, event_time, *_ = one.key
        history, online = ("missing" if v is None else repr(v) for v in (one.offline, one.online))
        far = str(one.kind) if one.ulp is None else f"{one.ulp:,} ULP"
        others = f", and {one.others} more features" if one.others else ""
        output.line(
            f"  differs: {entity} at {render(int(event_time))}, {one.feature} {history} in "
            f"history, {online} online ({far}){others}"
        )
    for wrong in () if found.answers is None else found.answers.first[:_ROWS]:
        output.line(f"  wrong answer: {wrong.entity} at {render(wrong.moment)}")
    for word, keys in (("missing", report.missing_keys), ("extra", report.extra_keys)):
        for entity, event_time, known_time, *_ in keys[:_ROWS]:
            output.line(
                f"  {word}: {entity} at {render(int(event_time))}, known {render(int(known_time))}"
            )


@parity.command("served")
def parity_served(
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="MOMENT", help="First event time; a date is midnight UTC."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="MOMENT", help="The end, which is not included.")
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Compare what models were given, by the prediction log, with history; exits 1 on a breach."""
    from assay import bootstrap
    from assay.domain.instants import parse
    from assay.domain.verdicts import Verdict
    from assay.orchestration.parity import prove_served

    output = Output(as_json=as_json)
    log = bootstrap.prediction_log(desk)
    found = prove_served(
        open_desk(desk),
        log,
        output,
        since=None if since is None else parse(since),
        until=None if until is None else parse(until),
    )
    output.line(
        f"{found.verdict}: {found.equal:,} of {found.values:,} values that models were given are "
        f"equal bit for bit, in {found.rows:,} rows of {found.logged:,} predictions"
    )
    if found.logged != found.lines:
        rates = " and ".join(f"{rate:g}" for rate in found.rates)
        output.line(
            f"  the features of {found.logged:,} of {found.lines:,} predictions were logged "
            f"(serving.feature_log_rate {rates}); the others were not compared"
        )
    if found.withheld:
        output.line(
            f"  {found.withheld:,} predictions without features that the rate says are logged"
        )
    for reason, count in found.skipped.items():
        output.line(f"  not judged: {count:,} rows, {reason}")
    for note in (*found.unknown[:_ROWS], *found.differing[:_ROWS]):
        output.line(f"  {note}")
    if not found.lines:
        output.line(f"  {log} holds no prediction from stored features in the horizon")
    output.result(found.to_json())
    if found.verdict is Verdict.FAIL:
        raise typer.Exit(1)


@parity.command("verify")
def parity_verify(desk: DeskOption = HERE, as_json: JsonOption = False) -> None:
    """Make the latest training sets again, compare environments; exits 1 on a difference."""
    from assay.domain.verdicts import Verdict
    from assay.orchestration.parity import verify_desk

    output = Output(as_json=as_json)
    done = verify_desk(open_desk(desk), output)
    for one in done.recipes:
        if one.run is None:
            output.line(f"{one.recipe}: {'never trained' if one.untrained else one.verdict}")
        else:
            made = "made again, the same" if one.digest == one.rebuilt_digest else "NOT made again"
            output.line(
                f"{one.recipe}: {one.verdict}, training set of {one.model} {one.version} (run "
                f"{one.run}): {one.rows:,} rows, digest {(one.digest or '')[:16]} {made}"
            )
        for finding in one.findings:
            output.line(f"  {finding}")
    lock = done.lock
    if lock is not None:
        whose = "the desk's own" if lock.own else "that of this release"
        output.line(f"lock: {whose}, {len(lock.pins)} packages, SHA-256 {lock.sha256[:16]}")
    output.line(f"the desk is {_REPRODUCIBLE[done.verdict]}")
    output.next_step("assay parity run")
    output.result(done.to_json())
    if done.verdict is not Verdict.PASS:
        raise typer.Exit(1)
