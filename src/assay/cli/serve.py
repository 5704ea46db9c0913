"""Commands about serving: answer predictions, and stop answering them."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from assay.serving.service import Service

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
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Processes that answer, instead of serving.workers."),
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Answer predictions over HTTP with what is in production; what is promoted later follows."""
    from assay import bootstrap
    from assay.serving.json_logs import log_to

    output = Output(as_json=as_json)
    killed = _killed_at_start()
    count = workers or bootstrap.workers_of(desk)
    log_to()
    if count == 1:
        _serve_alone(output, desk, host, port, model=model, canary=canary, killed=killed)
        return
    if killed:
        # For all of them, and for those that take the place of one.
        switch = bootstrap.open_kill_switch(desk)
        switch.on(by="the start", reason="SERVE_KILL=1")
    orders = {"desk": str(desk.absolute()), "model": model, "canary": canary}
    _supervise(output, host, port, orders, workers=count, killed=killed)


def _serve_alone(
    output: Output,
    desk: Path,
    host: str,
    port: int,
    *,
    model: str | None,
    canary: bool,
    killed: bool,
) -> None:
    from assay import bootstrap
    from assay.serving.http_server import HttpServer

    service = bootstrap.open_service(desk, champion=model, canary=canary, killed=killed)
    listening = listen(host, port)
    announce(output, listening, summary_of(service), workers=1, killed=killed)
    try:
        HttpServer(service).run_on(listening)
    except KeyboardInterrupt:
        output.line("stopped")


def _supervise(
    output: Output,
    host: str,
    port: int,
    orders: Mapping[str, Any],
    *,
    workers: int,
    killed: bool,
) -> None:
    from assay import bootstrap
    from assay.serving.supervisor import Supervisor
    from assay.serving.worker_board import WorkerBoard

    listening = listen(host, port)
    with tempfile.TemporaryDirectory(prefix="assay-serve-") as folder:
        supervisor = Supervisor(
            [sys.executable, "-m", "assay.cli.worker"],
            {**orders, "board": folder},
            listening,
            WorkerBoard(Path(folder), os.getpid()),
            workers=workers,
            monotonic=time.monotonic,
            ended=bootstrap.record_ends(Path(orders["desk"])),
        )
        supervisor.run(
            lambda summary: announce(output, listening, summary, workers=workers, killed=killed)
        )
    output.line("stopped")


def summary_of(service: Service) -> dict[str, Any]:
    """What is told of a service when it is ready."""
    from assay.serving import states_of

    predictor = service.predictor
    live = predictor.live
    states = states_of(predictor.sources, predictor.clock.now())
    return {
        "champion": live.champion,
        "models": [one.to_json() for one in live.models.values()],
        "features": [state.detail for state in states.values()],
    }


def announce(
    output: Output,
    listening: socket.socket,
    summary: Mapping[str, Any],
    *,
    workers: int,
    killed: bool,
) -> None:
    """Say what is served, and where."""
    name, number = listening.getsockname()[:2]
    url = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
    for one in sorted(summary["models"], key=lambda item: item["name"]):
        mark = ", the champion" if one["name"] == summary["champion"] else ""
        output.line(f"live: {one['name']} {one['version']}{mark}, digest {one['digest'][:12]}, "
                    f"manifest {(one['manifest'] or 'none')[:12]}")  # fmt: skip
    for detail in summary["features"]:
        output.line(f"features: {detail}")
    if killed:
        output.line("the kill switch is on (SERVE_KILL): POST /unkill lets predictions go on")
    many = "" if workers == 1 else f" by {workers} workers"
    output.line(f"serving on {url}{many}, documented at {url}/docs; Ctrl-C stops it")
    output.result(
        {
            "url": url,
            "champion": summary["champion"],
            "models": summary["models"],
            "killed": killed,
            "workers": workers,
        }
    )
    sys.stdout.flush()


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
