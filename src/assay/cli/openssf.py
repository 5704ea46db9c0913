"""Commands on signatures that the OpenSSF's tools verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import HERE, DeskOption, JsonOption, NameArgument, VersionArgument, open_desk
from assay.cli.output import Output


def openssf_sign(
    name: NameArgument,
    version: VersionArgument,
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", help="A private key: PEM, P-256, 384 or 521.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the bundle goes.")],
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Sign a version's files for tools of the OpenSSF: a bundle beside the registry."""
    from assay.domain.canonical import sha256_hex
    from assay.registry.openssf import sign_bundle
    from assay.storage.files import write_atomic

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    found = opened.registry.open_version(name, version)
    bundle = sign_bundle(found.version, found.files, key.read_bytes())
    write_atomic(out, bundle)
    output.line(f"{len(found.files)} files of {name} {found.version} signed, in {out}")
    output.next_step(
        f"assay models openssf-verify {name} {found.version} {out} --key PUBLIC.pem",
        f"model_signing verify key FOLDER --signature {out} --public_key PUBLIC.pem",
    )
    output.result({"bundle": str(out), "sha256": sha256_hex(bundle), "files": sorted(found.files)})


def openssf_verify(
    name: NameArgument,
    version: VersionArgument,
    bundle: Annotated[Path, typer.Argument(help="The bundle, of this or of another tool.")],
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", help="The public key that you know: PEM.")
    ],
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Check an OpenSSF bundle against a version's files; names the file that is another."""
    from assay.registry.openssf import verify_bundle

    output = Output(as_json=as_json)
    found = open_desk(desk).registry.open_version(name, version)
    stated = verify_bundle(bundle.read_bytes(), found.files, key.read_bytes())
    output.line(f"{len(found.files)} files of {name} {found.version} are what was signed")
    output.result({"ok": True, "stated_name": stated, "files": sorted(found.files)})
