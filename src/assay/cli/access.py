"""Commands on who may do what: users, tokens, keys and the record of access."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

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
from assay.domain.instants import NANOS_PER_SECOND, render
from assay.errors import ConfigurationError

if TYPE_CHECKING:
    from assay.access import AccessPolicy
    from assay.orchestration.desk import Desk

access = typer.Typer(
    name="access", no_args_is_help=True, help="Users, roles, tokens, and who was refused."
)


def _users(desk: Desk) -> AccessPolicy:
    found = desk.access
    if found is None:
        raise ConfigurationError(
            f"no users: {desk.access_layout.users} does not exist",
            hint="write one: users:, then for each name roles: [quant]",
        )
    return found


@access.command("users")
def access_users(desk: DeskOption = HERE, as_json: JsonOption = False) -> None:
    """List users, their roles and what these allow."""
    output = Output(as_json=as_json)
    users = _users(open_desk(desk)).users.values()
    output.table(
        ("user", "kind", "roles", "may", "identities", "acts for"),
        (
            (u.name, u.kind, ", ".join(u.roles), ", ".join(sorted(u.scopes)),
             ", ".join(u.identities), u.owner)
            for u in users
        ),
    )  # fmt: skip
    output.result([user.to_json() for user in users])


@access.command("login")
def access_login(
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A registry server that has the key; else this machine."),
    ] = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Prove who you are by your key, and keep a token in your configuration folder."""
    from assay import bootstrap
    from assay.access.proof import check_proof, make_proof
    from assay.orchestration.login import ask_server, log_in
    from assay.storage.files import write_atomic

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    who = acting(identity)
    audience = opened.access_layout.audience
    envelope = make_proof(opened.keyring, who, audience, opened.clock.now())
    if server is None:
        _users(opened)
        proof = check_proof(opened.keyring, envelope, audience, opened.clock.now())
        text, expires_at = log_in(opened, proof)
    else:
        text, expires_at = ask_server(server, envelope)
    path = bootstrap.token_folder(os.environ) / opened.layout.name / f"{who}.jwt"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, text.encode("ascii") + b"\n", mode=0o600)
    until = render(expires_at * NANOS_PER_SECOND)
    output.line(f"{who} is logged in until {until}; the token lies in {path}, readable by you")
    output.next_step(f'curl -H "Authorization: Bearer $(cat {path})" URL/api/v1/me')
    output.result({"identity": who, "file": str(path), "expires_at": until})


@access.command("token")
def access_token(
    user: Annotated[str, typer.Argument(help="The service that gets it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="Allow only this; repeat. Default: all of its roles."),
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.001, help="How long it counts; the desk's most if more.")
    ] = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Make a token for a service, in a file of your configuration folder; for administrators."""
    from assay import bootstrap
    from assay.access.users import SERVICE, Scope
    from assay.errors import ContractViolation, did_you_mean
    from assay.storage.files import write_atomic

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    found = _users(opened).user(user)
    if found.kind != SERVICE:
        raise ContractViolation(
            f"{user} is a person: expected a service", hint="people log in: assay access login"
        )
    unknown = sorted(set(scope or ()) - set(Scope))
    if unknown:
        raise ContractViolation(
            f"unknown scope {unknown[0]!r}", hint=did_you_mean(unknown[0], list(Scope))
        )
    require(opened, identity, "access:admin", "token", user)
    most = opened.access_layout.service_token_seconds
    issued = opened.authenticator.issue(
        found,
        most if days is None else min(most, days * 86_400),
        by=acting(identity),
        scopes=frozenset(map(Scope, scope)) if scope else None,
    )
    path = bootstrap.token_folder(os.environ) / opened.layout.name / f"{user}.jwt"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, issued.text.encode("ascii") + b"\n", mode=0o600)
    until = render(issued.claims.expires_at * NANOS_PER_SECOND)
    output.line(f"token {issued.claims.token_id} of {user} until {until}: {path}")
    output.next_step(f'assay access revoke {issued.claims.token_id} --reason "..."   if it leaks')
    output.result(
        {"user": user, "token_id": issued.claims.token_id, "file": str(path), "expires_at": until}
    )


@access.command("revoke")
def access_revoke(
    token_id: Annotated[
        str | None, typer.Argument(metavar="[TOKEN_ID]", help="The token's id.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="All tokens of this user until now.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")] = "",
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Stop a token, or all tokens of a user, from counting; at once, on every server."""
    from assay.access import AccessEvent, Revocation

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    who = acting(identity)
    made = Revocation(opened.clock.now(), who, reason, token_id, user)
    if user is not None:
        _users(opened).user(user)
    require(opened, identity, "access:admin", "revoke", token_id or user or "")
    opened.authenticator.revocations.add(made)
    opened.access_log.record(
        AccessEvent("revoked", user or "", "token", token_id or "", detail=f"by {who}: {reason}")
    )
    what = f"token {token_id}" if token_id else f"every token of {user} so far"
    output.line(f"{what} is revoked")
    output.result(made.to_json())


@access.command("rotate")
def access_rotate(
    retire: Annotated[
        str | None,
        typer.Option(metavar="KEY_ID", help="A key whose tokens stop counting; its beginning will"
                     " do."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why it is retired.")] = "",
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a new key that signs tokens; those of earlier keys count until they end."""
    from assay.access import AccessEvent

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require(opened, identity, "access:admin", "rotate", retire or "")
    keys = opened.authenticator.keys
    made = keys.rotate(opened.clock.now(), retire=retire, reason=reason)
    opened.access_log.record(
        AccessEvent("rotated", acting(identity), "key", made.key_id, detail=reason)
    )
    output.line(f"key {made.key_id[:12]} signs tokens from now on")
    for key in keys.listed():
        state = "good" if key.retired is None else f"retired: {key.retired}"
        output.line(f"  {key.key_id[:12]} of {render(key.created_at)}: {state}")
    output.next_step("assay access login")
    output.result([key.to_json() for key in keys.listed()])


def models_serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
    ] = 8_001,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Answer for the registry over HTTP, under /api/v1; callers show tokens."""
    import sys

    import uvicorn

    from assay import bootstrap
    from assay.cli.addresses import listen

    output = Output(as_json=as_json)
    app = bootstrap.open_registry_api(desk)
    listening = listen(host, port)
    name, number = listening.getsockname()[:2]
    url = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
    output.line(f"registry on {url}/api/v1, described at {url}/openapi.json; Ctrl-C stops it")
    output.next_step(f"assay access login --server {url}")
    output.result({"url": url})
    sys.stdout.flush()
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=5,
        server_header=False,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        output.line("stopped")


@access.command("log")
def access_log(
    last: Annotated[int, typer.Option(min=1, help="How many of the latest events.")] = 20,
    refused: Annotated[bool, typer.Option("--refused", help="Refusals only.")] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show who asked for what and was refused or let through; its chain is checked first."""
    output = Output(as_json=as_json)
    events = open_desk(desk).access_log.events()
    shown = [e for e in events if not refused or e["event"] == "refused"][-last:]
    output.table(
        ("event", "time", "what", "who", "action", "on", "reason", "in words"),
        (
            (e["seq"], e["at"], e["event"], e["subject"], e["action"], e["resource"], e["code"],
             e["detail"])
            for e in shown
        ),
    )  # fmt: skip
    output.line(f"{len(events):,} events, the chain is whole")
    output.result(shown)


@access.command("audit")
def access_audit(
    days: Annotated[
        float, typer.Option(min=0.0, help="Without any deed, after which a user is dormant.")
    ] = 90.0,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Who may do what, who did, who is dormant, broken glass, denials; also as pages."""
    from assay.orchestration.access_audit import audit_access, write_audit

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    found = audit_access(opened, days=days)
    for title, columns, rows in found.parts():
        output.line(f"{title}: {'' if rows else 'none'}".rstrip())
        if rows:
            output.table(columns, rows)
    paths = write_audit(opened, found)
    output.line(f"written to {' and '.join(str(path) for path in paths)}")
    output.next_step("assay access log --refused")
    output.result({**found.to_json(), "written": [str(path) for path in paths]})
