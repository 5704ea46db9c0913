"""Commands about serving: answer predictions, and stop answering them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.addresses import DEFAULT_PORT, Addresses, Wanted, listen_at
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
from assay.domain.clock import SystemClock
from assay.domain.instants import NANOS_PER_SECOND, render
from assay.errors import ConfigurationError

if TYPE_CHECKING:
    from assay.serving.http.service import Service
    from assay.serving.server.tls import Certificate

_LOG = logging.getLogger("assay.serving")
_SOON = 14 * 86_400 * NANOS_PER_SECOND
"""Before its end a certificate is warned of at each start."""
_OFF = {"", "0", "false", "no", "off"}
_ON = {"1", "true", "yes", "on"}


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            show_default=str(DEFAULT_PORT),
            help="Port to listen on; 0 takes a free one. Left out, none where there is a socket.",
        ),
    ] = None,
    unix: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Socket to listen on, instead of serving.unix."),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Port for calls over gRPC, instead of serving.grpc_port."
        ),
    ] = None,
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
    from assay.serving.server.unix_socket import GROUP, OWNER
    from assay.serving.telemetry.json_logs import log_to

    output = Output(as_json=as_json)
    killed = _killed_at_start()
    chosen = bootstrap.serving_settings(desk)
    count = workers or chosen.workers
    socket_file = unix.absolute() if unix is not None else chosen.unix
    wanted = Wanted(
        host,
        DEFAULT_PORT if port is None and socket_file is None else port,
        socket_file,
        GROUP if chosen.unix_access == "group" else OWNER,
        chosen.grpc_port if grpc_port is None else grpc_port,
        tls=chosen.tls_certificate is not None,
    )
    log_to()
    tls = _certificate(chosen.tls_certificate, chosen.tls_key)
    if count == 1:
        _serve_alone(output, desk, wanted, tls, model=model, canary=canary, killed=killed)
        return
    if killed:
        # For all of them, and for those that take the place of one.
        switch = bootstrap.open_kill_switch(desk)
        switch.on(by="the start", reason="SERVE_KILL=1")
    orders = {
        "desk": str(desk.absolute()),
        "model": model,
        "canary": canary,
        "tls": None if tls is None else [str(chosen.tls_certificate), str(chosen.tls_key)],
    }
    _supervise(output, wanted, orders, workers=count, killed=killed)


def _certificate(chain: Path | None, key: Path | None) -> Certificate | None:
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        given, missing = ("tls_key", "tls_certificate") if chain is None else (
            "tls_certificate", "tls_key"
        )  # fmt: skip
        raise ConfigurationError(
            f"serving.{given} is set and serving.{missing} is not: expected both, or none"
        )
    from assay.serving.server.tls import read_certificate

    made, now = read_certificate(chain, key), SystemClock().now()
    if not made.begins <= now < made.ends:
        _LOG.warning(
            "%s holds from %s to %s: clients will refuse it",
            chain,
            render(made.begins),
            render(made.ends),
        )
    elif made.ends - now < _SOON:
        _LOG.warning("%s holds until %s", chain, render(made.ends))
    return made


def _serve_alone(
    output: Output,
    desk: Path,
    wanted: Wanted,
    tls: Certificate | None,
    *,
    model: str | None,
    canary: bool,
    killed: bool,
) -> None:
    from assay import bootstrap
    from assay.serving.server.http_server import HttpServer

    # The server ends by raising again the signal that stopped it: what is left to be done here
    # must be done then, whichever it was.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with listen_at(wanted) as addresses:
        try:
            exposed = addresses.is_exposed
            tokens = bootstrap.asks_for_tokens(desk, exposed=exposed)
            service = bootstrap.open_service(
                desk, champion=model, canary=canary, killed=killed, exposed=exposed, tokens=tokens
            )
            summary = summary_of(service)
            announce(output, addresses, summary, workers=1, killed=killed, tokens=tokens)
            HttpServer(service, grpc=addresses.grpc, tls=tls).run_on(*addresses.sockets)
        except KeyboardInterrupt:
            output.line("stopped")


def _supervise(
    output: Output,
    wanted: Wanted,
    orders: Mapping[str, Any],
    *,
    workers: int,
    killed: bool,
) -> None:
    from assay import bootstrap
    from assay.serving.server.supervisor import Supervisor
    from assay.serving.telemetry.worker_board import WorkerBoard

    with listen_at(wanted) as addresses, _board() as folder:
        exposed = addresses.is_exposed
        # Decided once: a worker that takes the place of another asks for what that one did.
        tokens = bootstrap.asks_for_tokens(Path(orders["desk"]), exposed=exposed)
        supervisor = Supervisor(
            [sys.executable, "-m", "assay.cli.worker"],
            {
                **orders,
                "board": folder,
                "grpc": addresses.grpc,
                "exposed": exposed,
                "tokens": tokens,
            },
            addresses.sockets,
            WorkerBoard(Path(folder), os.getpid()),
            workers=workers,
            monotonic=time.monotonic,
            ended=bootstrap.record_ends(Path(orders["desk"])),
        )
        supervisor.run(
            lambda summary: announce(
                output, addresses, summary, workers=workers, killed=killed, tokens=tokens
            )
        )
    output.line("stopped")


def _board() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="assay-serve-")


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
    addresses: Addresses,
    summary: Mapping[str, Any],
    *,
    workers: int,
    killed: bool,
    tokens: bool,
) -> None:
    """Say what is served, where, and who may operate it."""
    for one in sorted(summary["models"], key=lambda item: item["name"]):
        mark = ", the champion" if one["name"] == summary["champion"] else ""
        output.line(f"live: {one['name']} {one['version']}{mark}, digest {one['digest'][:12]}, "
                    f"manifest {(one['manifest'] or 'none')[:12]}")  # fmt: skip
    for detail in summary["features"]:
        output.line(f"features: {detail}")
    if killed:
        output.line("the kill switch is on (SERVE_KILL): POST /unkill lets predictions go on")
    if tokens:
        output.line("whoever switches predictions off or on, reloads, or tells outcomes shows a "
                    "token: assay access login gives one")  # fmt: skip
    elif addresses.is_exposed:
        output.line("WARNING: whoever reaches this service may switch predictions off and on, from "
                    "other machines too: name users in configs/access.yaml, or listen on "
                    "127.0.0.1 (serving.operators)")  # fmt: skip
    many = "" if workers == 1 else f" by {workers} workers"
    if addresses.grpc is not None:
        output.line(f"serving calls over gRPC on {addresses.grpc}{many}")
    if addresses.unix is not None:
        output.line(f"serving on the socket {addresses.unix}{many}; Ctrl-C stops it")
    if addresses.url is not None:
        url = addresses.url
        output.line(f"serving on {url}{many}, documented at {url}/docs; Ctrl-C stops it")
    output.result(
        {
            "url": addresses.url,
            "unix": None if addresses.unix is None else str(addresses.unix),
            "grpc": addresses.grpc,
            "champion": summary["champion"],
            "models": summary["models"],
            "killed": killed,
            "workers": workers,
            "operators": "tokens" if tokens else "open",
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
