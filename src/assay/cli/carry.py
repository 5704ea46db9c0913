"""Commands that bring versions in from files and out into them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
)
from assay.cli.output import Output


def register(
    name: NameArgument,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The files; model.onnx makes it a model. With --rows, one native model: XGBoost's "
            ".ubj or .json, or LightGBM's .txt."
        ),
    ],
    kind: Annotated[
        str, typer.Option("--kind", help="Such as factor_definitions; it chooses the policy.")
    ],
    reason: ReasonOption,
    version: Annotated[
        str | None, typer.Option("--version", help="Its number; the next one when left out.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='A model\'s input: {"names": [...], "dtype": "float32"}.'
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON object that is kept with it.")
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Real inputs, Parquet or CSV: convert the native model, and compare both on them.",
        ),
    ] = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Register files that were made elsewhere as a signed version, as staged."""
    from assay.orchestration.registering import register_files

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require(opened, identity, "model:write", "register", name)
    made = register_files(
        opened,
        name,
        kind,
        files,
        author=acting(identity),
        reason=reason,
        version=version,
        schema=schema,
        config=config,
        rows=rows,
    )
    state = "registered" if made.created else "known already, nothing added:"
    output.line(f"{state} {made.name} {made.version} ({made.stage}), digest {made.digest[:12]}")
    output.next_step(f"assay gates check {made.name} {made.version}")
    output.result(made.to_json())


def export(
    name: NameArgument,
    version: VersionArgument,
    file: Annotated[Path, typer.Argument(help="The archive to write.")],
    oci: Annotated[bool, typer.Option("--oci", help="As an OCI image layout.")] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write a version into one file, to be imported elsewhere."""
    from assay.domain.canonical import sha256_hex
    from assay.registry import EventType
    from assay.registry.countersigning import envelopes_of
    from assay.registry.packages import oci_layout, tarball
    from assay.storage.files import write_atomic

    output = Output(as_json=as_json)
    registry = open_desk(desk).registry
    opened = registry.open_version(name, version)
    events = registry.history(name, types=(EventType.COUNTERSIGN,))
    envelopes = envelopes_of(one for one in events if one.to_version == opened.version)
    if oci:
        data = oci_layout(opened.files, envelopes, name=name, version=opened.version)
    else:
        data = tarball(opened.files, envelopes)
    write_atomic(file, data)
    output.line(f"{file}: {name} {opened.version}, {len(data):,} bytes, {sha256_hex(data)}")
    if envelopes:
        output.line(f"with {len(envelopes)} countersignatures, which vouch for it elsewhere too")
    output.next_step(f"assay models import {file} --desk ANOTHER")
    output.result(
        {
            "file": str(file),
            "name": name,
            "version": opened.version,
            "digest": opened.digest,
            "sha256": sha256_hex(data),
            "size": len(data),
            "countersignatures": len(envelopes),
        }
    )


def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `assay models export` wrote.")],
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of a version in a file and register it here, as staged."""
    from assay.registry.packages import read_package

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    registry = opened.registry
    package = read_package(file, registry.keyring)
    given = package.version
    require(opened, identity, "model:write", "import", given.name)
    taken = {record.version for record in registry.list(given.name)}
    number = str(registry.next_version(given.name)) if given.version in taken else given.version
    made = registry.register(
        package.candidate(number),
        signer=acting(identity),
        reason=f"imported {given.name} {given.version}, digest {given.digest[:12]}",
    )
    state = "registered" if made.created else "known already, nothing added:"
    output.line(
        f"{file}: {given.name} {given.version}, signed by {given.signed_by}, every byte checked"
    )
    if given.note:
        output.line(f"note: {given.note}")
    output.line(f"{state} {made.name} {made.version} ({made.stage}), digest {made.digest[:12]}")
    output.next_step(f"assay gates check {made.name} {made.version}")
    output.result(made.to_json())
