"""Commands on the desk's configuration: sign it, and say what drifted since."""

from __future__ import annotations

from typing import Annotated

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

config = typer.Typer(
    name="config", no_args_is_help=True, help="The desk's configuration, signed, and its drift."
)


@config.command("sign")
def sign(
    reason: Annotated[str, typer.Option("--reason", help="What changed, or why it is signed.")],
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Sign assay.yaml and every YAML file of configs/ as they are now, in configs/signed.json."""
    from assay.orchestration.configuration import SIGNED, sign_configuration

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require(opened, identity, "model:write", "sign configuration", SIGNED.as_posix())
    digests = sign_configuration(opened, signer=acting(identity), reason=reason)
    output.table(("file", "SHA-256 of its canonical form"), digests.items())
    output.line(f"{len(digests)} files signed by {acting(identity)}, in {SIGNED}")
    output.next_step("assay config verify")
    output.result({"signed_by": acting(identity), "file": str(SIGNED), "digests": digests})


@config.command("verify")
def verify(desk: DeskOption = HERE, as_json: JsonOption = False) -> None:
    """Check that signature and name every key that is another today; exits 1 if one is."""
    from assay.orchestration.configuration import verify_configuration

    output = Output(as_json=as_json)
    found = verify_configuration(open_desk(desk))
    output.line(f"signed by {found.signed_by} at {found.signed_at}: {found.reason}")
    for one in found.drift:
        output.line(f"~ {one}")
    output.line("as it was signed" if found.ok else f"{len(found.drift)} differences")
    if not found.ok:
        output.next_step('assay config sign --reason "..."   if that is how it should be')
    output.result(found.to_json())
    if not found.ok:
        raise typer.Exit(1)


@config.command("show")
def show(
    name: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A model: what its version binds.")
    ] = None,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="And version.")] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show the digest of each file; of a version, what registering and promoting it bound."""
    from assay.errors import ContractViolation
    from assay.orchestration.configuration import bound_configuration
    from assay.orchestration.configuration_files import configuration_digests

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    if (name is None) != (version is None):
        raise ContractViolation("expected a model and its version, or neither")
    found = {"now": configuration_digests(opened.layout.root)}
    if name is not None and version is not None:
        found |= bound_configuration(opened, name, version)
    files = sorted({file for digests in found.values() for file in digests})
    output.table(
        ("file", *found),
        ((file, *(digests.get(file, "-")[:16] for digests in found.values())) for file in files),
    )
    output.next_step("assay config verify")
    output.result(found)
