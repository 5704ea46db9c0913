"""Commands on manifests: publish them, bring them into use, take them back."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from assay.cli.options import HERE, DeskOption, JsonOption, open_desk, require_user, with_remark
from assay.cli.output import Output
from assay.domain.instants import Instant, render

ViewArgument = Annotated[str, typer.Argument(help="The view.")]
ByOption = Annotated[
    str | None,
    typer.Option("--by", "--as", metavar="NAME", help="Who acts; your user name when left out."),
]


def manifest(
    view: ViewArgument,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish it for every machine of the desk.")
    ] = False,
    by: ByOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Print a view's manifest hash and the fingerprint of this build; publish it if asked to."""
    from assay.features import BuildFingerprint, Manifest, ManifestSet
    from assay.orchestration.manifest_promotion import publish_view

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    found = Manifest.of(opened.view(view))
    note = publish_view(opened, view, by=by or getpass.getuser()) if publish else None
    build = BuildFingerprint.capture()
    named = ManifestSet((found,)).hash
    output.line(f"manifest {found.hash}")
    output.line(f"requests name {named}")
    if note is not None:
        output.line(
            f"published in {opened.manifests.url} by {note.published_by}, "
            f"{render(note.published_at)}"
        )
    output.table(("build", "value"), build.to_json().items())
    output.next_step(
        f"assay features promote {view}" if publish else f"assay features manifest {view} --publish"
    )
    output.result(
        {
            "manifest": found.hash,
            "requests_name": named,
            "published": None if note is None else note.to_json(),
            "build": build.to_json(),
        }
    )


def manifests(
    view: Annotated[str | None, typer.Argument(help="A view; all of them when left out.")] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List published manifests, since when, and which of them are in use."""
    from assay.orchestration.manifest_promotion import list_manifests

    output = Output(as_json=as_json)
    found = list_manifests(open_desk(desk), view)
    output.line(f"manifests in {found.url}")
    output.table(
        ("view", "manifest", "published", "use", "since"),
        [
            (
                row.view,
                row.manifest[:12],
                _minute(row.published.published_at) if row.published else "no",
                ", ".join(filter(None, (row.use, "defined" if row.is_defined else ""))),
                _minute(row.since.since) if row.since else "",
            )
            for row in found.rows
        ],
    )
    for name, step in found.underway.items():
        output.line(f"{name}: a promotion is under way; next comes {step}")
    waiting = [row.view for row in found.rows if row.is_defined and row.use != "active"]
    output.next_step(*(f"assay features promote {name}" for name in waiting))
    output.result(found.to_json())


def promote(
    view: ViewArgument,
    minutes: Annotated[
        float | None,
        typer.Option(help="Warm up on what became known in the last so many minutes."),
    ] = None,
    event_times: Annotated[
        int | None,
        typer.Option("--event-times", help="Warm up on the last so many event times. Default: 32."),
    ] = None,
    canary_only: Annotated[
        bool, typer.Option("--canary-only", help="Stop when the canary reads it.")
    ] = False,
    by: ByOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Publish, warm up, prove, let the canary take it, then all; a killed one goes on."""
    from assay.delivery.manifests import Span
    from assay.orchestration.manifest_promotion import promote_view

    output = Output(as_json=as_json)
    given = minutes is not None or event_times is not None
    span = Span(event_times=event_times, minutes=minutes) if given else None
    opened = open_desk(desk)
    require_user(opened, by, "model:promote", "features promote", view)
    done = promote_view(
        opened, view, output, initiated_by=by or getpass.getuser(), span=span,
        canary_only=canary_only,
    )  # fmt: skip
    if not done.changed and done.everywhere:
        output.line(f"{view}: manifest {done.manifest[:12]} is in use already")
    elif done.everywhere:
        instead = f" instead of {done.before[:12]}" if done.before else ""
        output.line(f"{view}: all read manifest {done.manifest[:12]}{instead}, {done.namespace}")
    else:
        output.line(
            f"{view}: the canary reads manifest {done.manifest[:12]}, {done.namespace}; all others "
            f"read {done.before[:12] if done.before else 'what they did'}"
        )
    if done.everywhere:
        output.next_step(f"assay features manifests {view}")
    else:
        output.next_step(
            f"assay features promote {view}", f"assay features rollback-manifest {view} --canary"
        )
    output.result(done.to_json())


def rollback(
    view: ViewArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log for ever.")],
    canary: Annotated[
        bool, typer.Option("--canary", help="Give up the canary; production stays as it is.")
    ] = False,
    by: ByOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Read the manifest that was in use before; the canary is given up as well."""
    from assay.orchestration.manifest_promotion import rollback_view

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    unreadable = require_user(opened, by, "model:rollback", "rollback-manifest", view)
    done = rollback_view(
        opened, view, initiated_by=by or getpass.getuser(),
        reason=with_remark(reason, unreadable), canary=canary,
    )  # fmt: skip
    if done.of_canary:
        output.line(f"{view}: the canary reads manifest {done.withdrawn[:12]} no more")
    else:
        back = "nothing" if done.manifest is None else f"manifest {done.manifest[:12]}"
        output.line(f"{view}: all read {back} again instead of {done.withdrawn[:12]}")
    # Its rows are as old as their last materialization, which may be long ago.
    fed = () if done.of_canary else ("assay features materialize",)
    output.next_step(*fed, f"assay features manifests {view}")
    output.result(done.to_json())


def gc(
    view: Annotated[str | None, typer.Argument(help="A view; all of them when left out.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be dropped, and drop nothing.")
    ] = False,
    minutes: Annotated[
        float, typer.Option(help="Keep what was needed in the last so many minutes.")
    ] = 10.0,
    by: ByOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Drop online rows of manifests that were replaced or withdrawn; say what stays and why."""
    from assay.orchestration.unused_namespaces import drop_unused_rows

    output = Output(as_json=as_json)
    found = drop_unused_rows(
        open_desk(desk), view, minutes=minutes, initiated_by=by or getpass.getuser(),
        dry_run=dry_run,
    )  # fmt: skip
    gone = "would be dropped" if dry_run else "dropped"
    output.table(
        ("rows", "entities", "what", "why"),
        [(one.name, one.entities, "kept" if one.keep else gone, one.why) for one in found],
    )
    dropped = [one for one in found if not one.keep]
    output.line(
        f"{len(dropped)} of {len(found)} {gone}, "
        f"the rows of {sum(one.entities for one in dropped):,} entities"
    )
    again = f"assay features gc {view}" if view else "assay features gc"
    output.next_step(again if dry_run and dropped else "assay features manifests")
    output.result({"dry_run": dry_run, "rows": [one.to_json() for one in found]})


def _minute(instant: Instant) -> str:
    """A moment for a table; the nanoseconds are in ``--json``."""
    return f"{render(instant)[:16]}Z"
