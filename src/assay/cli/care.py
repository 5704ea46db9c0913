"""Commands that take care of a registry: hold, collect, back up, restore."""

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
    ReasonOption,
    VersionArgument,
    acting,
    open_desk,
    require,
    require_user,
)
from assay.cli.output import Output
from assay.domain.instants import render

if TYPE_CHECKING:
    from assay.orchestration.desk import Desk
    from assay.registry.backup import BackupStore

PlaceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[PLACE]",
        help="A folder, or a URL such as s3://bucket/backups; the registry's own folder backups.",
    ),
]
BackupOption = Annotated[
    str | None,
    typer.Option("--backup", metavar="ID", help="Which one, by the beginning of its id; newest."),
]


def collect(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and why the rest stays.")
    ] = False,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Remove the files of versions that nothing keeps; their record stays for ever."""
    from assay.orchestration.effective import loaded_now
    from assay.registry.collection import collect as step

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    if not dry_run:
        require(opened, identity, "model:promote", "gc", "")
    done = step(
        opened.registry,
        opened.retention,
        initiated_by=acting(identity),
        references=loaded_now(opened),
        dry_run=dry_run,
    )
    output.table(
        ("model", "version", "stage", "files", "why"),
        (
            (
                one.version.name,
                one.version.version,
                one.version.stage,
                ("would go" if dry_run else "removed") if one.collect else "stay",
                one.why,
            )
            for one in done.holdings
        ),
    )
    for leftover, size in done.leftovers.items():
        output.line(f"{leftover}: {size:,} bytes that belong to no version")
    verb = "would be collected" if dry_run else "collected"
    freed = "" if dry_run else f"; {done.freed:,} bytes freed"
    output.line(
        f"{len(done.collected)} versions {verb}, {len(done.leftovers)} leftovers"
        f"{' would be' if dry_run else ''} removed{freed}"
    )
    if dry_run:
        output.next_step("assay models gc")
    output.result(done.to_json())


def hold(
    name: NameArgument,
    version: VersionArgument,
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Keep a version's files whatever their age, until it is released."""
    from assay.registry.collection import hold as step

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    version = opened.registry.get(name, version).version
    require(opened, identity, "model:write", "hold", f"{name}/{version}")
    entry = step(
        opened.registry,
        name,
        version,
        initiated_by=acting(identity),
        reason=reason,
    )
    output.line(f"{name} {entry.to_version} is held by {entry.initiated_by} (entry {entry.seq})")
    output.next_step(f'assay models release {name} {entry.to_version} --reason "..."')
    output.result(entry.to_json())


def release(
    name: NameArgument,
    version: VersionArgument,
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """End the hold of a version."""
    from assay.registry.collection import release as step

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    version = opened.registry.get(name, version).version
    require(opened, identity, "model:promote", "release", f"{name}/{version}")
    entry = step(
        opened.registry,
        name,
        version,
        initiated_by=acting(identity),
        reason=reason,
    )
    output.line(f"{name} {entry.to_version} is held no more (entry {entry.seq})")
    output.result(entry.to_json())


def countersign(
    name: NameArgument,
    version: VersionArgument,
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Vouch for a version whose key was revoked since, by your own key over the same digest."""
    from assay.delivery.countersigning import countersign as step

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    version = opened.registry.get(name, version).version
    require(opened, identity, "model:promote", "countersign", f"{name}/{version}")
    made = step(
        opened.registry,
        name,
        version,
        signer=acting(identity),
        reason=reason,
        access=opened.access,
    )
    also = f", and for its promotion in entry {made.promotions[-1]}" if made.promotions else ""
    output.line(
        f"{made.by} vouches for {name} {made.version}, digest {made.digest[:12]}{also} "
        f"(entry {made.seq})"
    )
    output.next_step(f"assay models validate {name} {made.version}")
    output.result(made.to_json())


def backup(
    place: PlaceArgument = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Back the registry up: what is new since the last time; exits 1 where a version is damaged."""
    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require_user(opened, identity, "model:read", "backup", place or "")
    store = _store(place, opened)
    made = store.take(opened.registry)
    output.line(
        f"{store.url}: backup {made.id[:20]} holds {len(made.versions)} versions and "
        f"{made.seq} entries of the log, of {render(made.taken_at)}"
    )
    for name, version, wrong in made.damaged:
        output.line(f"NOT in it: {name} {version}: {wrong}")
    output.next_step(f"assay models drill {place or ''}".rstrip())
    output.result(made.to_json())
    if made.damaged:
        raise typer.Exit(1)


def backups(
    place: PlaceArgument = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """List the backups in a place."""
    output = Output(as_json=as_json)
    store = _store(place, open_desk(desk))
    found = [store.get(one) for one in store.ids()]
    output.table(
        ("backup", "taken at", "log entries", "versions", "damaged"),
        (
            (one.id[:20], render(one.taken_at), one.seq, len(one.versions), len(one.damaged))
            for one in found
        ),
    )
    output.result([one.to_json() for one in found])


def restore(
    place: PlaceArgument = None,
    identifier: BackupOption = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make the registry of a desk that has none from a backup; run it again if it was killed."""
    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require_user(opened, identity, "model:rollback", "restore", place or "")
    store = _store(place, opened)
    chosen = store.get(identifier)
    output.event(f"restoring {len(chosen.versions)} versions and {chosen.seq} entries")
    done = opened.restore_registry(store, chosen)
    for problem in done.problems:
        output.line(problem)
    for note in done.notes:
        output.line(f"note: {note}")
    state = "verifies" if done.ok else "does NOT verify"
    output.line(
        f"restored {done.versions} versions and {done.head.seq} entries from {store.url}; the "
        f"registry {state}"
    )
    output.next_step(
        "assay models validate",
        'assay audit acknowledge --reason "..."   if servers saw more than the backup holds',
    )
    output.result(done.to_json())
    if not done.ok:
        raise typer.Exit(1)


def drill(
    place: PlaceArgument = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Restore the newest backup into an empty place and ask it everything; exits 1 on a doubt."""
    from assay.registry.backup import drill as step

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    done = step(opened.registry, _store(place, opened))
    for line in (*done.restored.problems, *done.differences):
        output.line(line)
    for note in done.restored.notes:
        output.line(f"note: {note}")
    output.line(
        f"restored {done.restored.versions} versions and {done.restored.head.seq} entries into an "
        f"empty place; {done.questions} questions about the past: "
        f"{'all answered alike' if done.ok else 'NOT all answered alike'}"
    )
    output.result(done.to_json())
    if not done.ok:
        raise typer.Exit(1)


def bring_back(
    name: NameArgument,
    version: VersionArgument,
    reason: ReasonOption,
    place: Annotated[
        str | None, typer.Option("--from", metavar="PLACE", help="Where the backups are.")
    ] = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Bring a version's files back from the backups, where they were collected or damaged."""
    from assay.registry.collection import bring_back as step

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    registry = opened.registry
    record = registry.get(name, version)
    require(opened, identity, "model:write", "bring-back", f"{name}/{record.version}")
    files = _store(place, opened).files(name, record.version, record.digest)
    entry = step(
        registry,
        name,
        record.version,
        files,
        initiated_by=acting(identity),
        reason=reason,
    )
    what = "is whole, nothing was done" if entry is None else f"is back (entry {entry.seq})"
    output.line(f"{name} {record.version} {what}")
    output.next_step(f"assay models validate {name} {record.version}")
    output.result(None if entry is None else entry.to_json())


def _store(place: str | None, desk: Desk) -> BackupStore:
    from assay import bootstrap
    from assay.registry.backup import BackupStore

    # A folder that is named is one of whoever types, not of the desk.
    own = str(desk.layout.registry / "backups")
    return BackupStore(bootstrap.open_objects(Path.cwd(), place or own))
