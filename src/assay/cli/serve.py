"""Commands about serving: answer predictions, and stop answering them."""

from __future__ import annotations

import gc
import os
import socket
import sys
from typing import Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    JsonOption,
    acting,
    open_desk,
    require_user,
    with_remark,
)
from assay.cli.output import Output
from assay.errors import ConfigurationError, Unavailable

_OFF = {"", "0", "false", "no", "off"}
_ON = {"1", "true", "yes", "on"}


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
    ] = 8_000,
    model: Annotated[
        str | None, typer.Option(help="The default model, instead of serving.champion.")
    ] = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="Read feature manifests that the canary takes first.")
    ] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Answer predictions over HTTP with what is in production; what is promoted later follows."""
    import uvicorn

    from assay import bootstrap
    from assay.serving import states_of
    from assay.serving.connection import Connection

    output = Output(as_json=as_json)
    killed = _killed_at_start()
    service = bootstrap.open_service(desk, champion=model, canary=canary, killed=killed)
    listening = listen(host, port)
    name, number = listening.getsockname()[:2]
    url = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
    live = service.predictor.live
    for one in sorted(live.models.values(), key=lambda item: item.name):
        mark = ", the champion" if one.name == live.champion else ""
        output.line(f"live: {one.name} {one.label}{mark}, digest {one.digest[:12]}, "
                    f"manifest {(one.manifest or 'none')[:12]}")  # fmt: skip
    for state in states_of(service.predictor.sources, service.predictor.clock.now()).values():
        output.line(f"features: {state.detail}")
    if killed:
        output.line("the kill switch is on (SERVE_KILL): POST /unkill lets predictions go on")
    output.line(f"serving on {url}, documented at {url}/docs; Ctrl-C stops it")
    output.result(
        {
            "url": url,
            "champion": live.champion,
            "models": [one.to_json() for one in live.models.values()],
            "killed": killed,
        }
    )
    sys.stdout.flush()
    config = uvicorn.Config(
        service,
        loop="uvloop",
        http=Connection,
        lifespan="on",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    # What is loaded stays. A collector that walks through it stops every request for 0.1 s.
    gc.collect()
    gc.freeze()
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        output.line("stopped")


def kill(
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the service's record.")],
    off: Annotated[bool, typer.Option("--off", help="Let predictions go on again.")] = False,
    identity: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Who; your user name when left out.")
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Switch every prediction of the desk off, from the next request on."""
    from assay import bootstrap

    output = Output(as_json=as_json)
    unreadable = require_user(
        open_desk(desk), identity, "model:rollback", "kill --off" if off else "kill", ""
    )
    reason = with_remark(reason, unreadable)
    switch = bootstrap.open_kill_switch(desk)
    by = acting(identity)
    if off:
        switch.off(by=by, reason=reason)
        output.line(f"{switch.path} is removed: predictions go on")
    else:
        switch.on(by=by, reason=reason)
        output.line(f"{switch.path} is written: nothing is predicted from now on")
        output.next_step("assay kill --off --reason ...")
    output.result({"killed": not off, "file": str(switch.path), "by": by, "reason": reason})


def _killed_at_start() -> bool:
    given = os.environ.get("SERVE_KILL", "").strip().lower()
    if given not in _OFF | _ON:
        # A typing mistake must not let predictions through.
        raise ConfigurationError(f"SERVE_KILL is {given!r}: expected 1 or 0")
    return given in _ON


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, before the address is told: whoever reads it can connect."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(2_048)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another one: --port 0 takes a free one",
        ) from None
    return made
