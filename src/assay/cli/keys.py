"""Commands on keys: who may sign what for a desk, and how that changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import HERE, DeskOption, JsonOption, acting, open_desk, require
from assay.cli.output import Output
from assay.domain.instants import render

if TYPE_CHECKING:
    from assay.orchestration.desk import Desk
    from assay.registry.keyring import TrustedKey

keys = typer.Typer(name="keys", no_args_is_help=True, help="Who may sign what, and for how long.")

IdentityArgument = Annotated[str, typer.Argument(metavar="NAME", help="A person or a service.")]
PurposeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--may-sign", metavar="PURPOSE", help="Repeat for several; everything by default."
    ),
]

ByOption = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="NAME", help="The administrator whose key acts; your user name by default."
    ),
]


@keys.command("list")
def keys_list(desk: DeskOption = HERE, as_json: JsonOption = False) -> None:
    """The trust policy: every key, whose it is, what it may sign, and whether it is in force."""
    output = Output(as_json=as_json)
    found = open_desk(desk).keyring.keys()
    output.table(
        ("identity", "key", "may sign", "state"),
        (
            (
                one.identity,
                one.key_id[:12],
                ", ".join(one.may_sign),
                f"revoked: {one.revoked}"
                if one.revoked is not None
                else f"retired {render(one.retired)}"
                if one.retired is not None
                else "in force",
            )
            for one in found
        ),
    )
    output.result([one.to_json() for one in found])


@keys.command("create")
def keys_create(
    identity: IdentityArgument,
    may_sign: PurposeOption = None,
    by: ByOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make a key for a person or service and let the desk trust its public half."""
    from assay.registry.keyring import PURPOSES, create_key

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    _require_administrator(opened, by, "keys create", identity)
    made = create_key(identity, _private(), opened.keyring.public_dir, may_sign or PURPOSES)
    output.line(f"{identity} has key {made.key_id[:12]}, which may sign {', '.join(made.may_sign)}")
    output.line("the private half lies in your configuration folder, readable by you alone")
    output.result(made.to_json())


@keys.command("trust")
def keys_trust(
    identity: IdentityArgument,
    file: Annotated[Path, typer.Argument(help="The public half, in PEM form.")],
    may_sign: PurposeOption = None,
    by: ByOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Let the desk trust somebody's key whose private half is elsewhere."""
    from assay.errors import NotFound
    from assay.registry.keyring import PURPOSES, trust_key

    output = Output(as_json=as_json)
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise NotFound(f"no public key {file}: {error.strerror}") from None
    opened = open_desk(desk)
    _require_administrator(opened, by, "keys trust", identity)
    made = trust_key(identity, pem, opened.keyring.public_dir, may_sign or PURPOSES)
    output.line(
        f"the desk trusts key {made.key_id[:12]} of {identity} for {', '.join(made.may_sign)}"
    )
    output.result(made.to_json())


@keys.command("rotate")
def keys_rotate(
    identity: IdentityArgument,
    by: ByOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Give somebody a new key; what the old one signed stays good, and it signs no more."""
    from assay.registry.keyring import rotate_key

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    # Whoever holds a key may always exchange it; for anybody else it would be theirs from then on.
    if by is not None or not _is_own(opened, identity, "keys rotate"):
        _require_administrator(opened, by, "keys rotate", identity)
    # Not the bare clock: what was signed until now must have been before it.
    new, old = rotate_key(
        identity, _private(), opened.keyring.public_dir, opened.registry.now() + 1
    )
    output.line(
        f"{identity} signs with key {new.key_id[:12]}"
        + ("" if old is None else f"; {old.key_id[:12]} is retired")
    )
    output.result({"new": new.to_json(), "old": None if old is None else old.to_json()})


@keys.command("revoke")
def keys_revoke(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="Its id, or the beginning; or whose it is, if in force."
        ),
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the policy.")],
    by: ByOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Stop trusting a key for everything that it ever signed: it was stolen, or may have been."""
    from assay.errors import NotFound, Refused
    from assay.registry.keyring import revoke_key

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    keyring = opened.keyring
    trusted = keyring.keys()
    found = [one for one in trusted if one.identity == key and one.in_force]
    found = found or [one for one in trusted if one.key_id.startswith(key)]
    if len(found) != 1:
        raise NotFound(
            f"{len(found)} keys begin with {key!r}: expected one", hint="assay keys list"
        )
    if not reason.strip():
        raise Refused("a revocation needs a reason", hint='--reason "..."')
    if by is not None or not _is_own(opened, found[0].identity, "keys revoke"):
        _require_administrator(opened, by, "keys revoke", found[0].identity)
    revoke_key(keyring.public_dir, found[0].key_id, reason)
    output.line(f"key {found[0].key_id[:12]} of {found[0].identity} is revoked: {reason}")
    output.line(
        "nothing that it ever signed counts any more; versions that should still be loaded need "
        "somebody else's signature"
    )
    output.next_step(
        f"assay keys rotate {found[0].identity}",
        "assay models validate",
        'assay models countersign NAME VERSION --reason "..."',
        'assay audit sign --reason "..."',
    )
    output.result({"key_id": found[0].key_id, "identity": found[0].identity, "reason": reason})


def _require_administrator(desk: Desk, by: str | None, action: str, identity: str) -> None:
    """Let an administrator do it; whoever is there, where no administrator has a key in force."""
    from assay.access import AccessEvent, Scope

    users, ring = desk.access, desk.keyring
    known = ring.keys() if (ring.public_dir / "trust.json").exists() else ()
    names = [key.identity for key in known if key.in_force]
    if users is not None:
        admins = [user for user in users.users.values() if Scope.ADMIN in user.scopes]
        names = [name for name in names if any(name in user.identities for user in admins)]
    if names:
        require(desk, by, "access:admin", action, identity)
    else:
        detail = "no administrator has a key in force"
        desk.access_log.record(AccessEvent("allowed", acting(by), action, identity, detail=detail))


def _is_own(desk: Desk, identity: str, action: str) -> bool:
    """Whether the key of an identity is here, or one that it has named as its successor."""
    from assay.access import AccessEvent, check_proof, make_proof
    from assay.errors import AssayError

    now = desk.clock.now()
    try:
        check_proof(desk.keyring, make_proof(desk.keyring, identity, "keys", now), "keys", now)
    except AssayError:
        trusted = desk.keyring.key_of(identity)
        if trusted is None or not _was_named(desk, trusted):
            return False
    desk.access_log.record(AccessEvent("allowed", identity, action, identity))
    return True


def _was_named(desk: Desk, trusted: TrustedKey) -> bool:
    """Whether the key here follows the trusted one, which named it when it was rotated elsewhere.

    Or whether it is the trusted one itself, which a killed rotation has not put in its place.
    """
    from assay.registry.keyring import load_private_key
    from assay.registry.signing import key_id_of
    from assay.registry.succession import succeeds

    present = _private() / f"{trusted.identity}.pem"
    coming = _private() / f"{trusted.identity}.next.pem"
    if coming.exists():
        return key_id_of(load_private_key(coming).public_key()) == trusted.key_id
    if not present.exists():
        return False
    public = load_private_key(present).public_key()
    return succeeds(_private(), trusted.identity, desk.keyring.public_key(trusted), public)


def _private() -> Path:
    import os

    from assay import bootstrap

    return bootstrap.private_key_folder(os.environ)
