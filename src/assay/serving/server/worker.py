"""One of several processes that answer for one service; its supervisor tells it when to begin.

1. It reads its orders, one line of JSON on standard input, loads everything, and says so.
2. It waits. A process that waits loaded takes the place of one that died in no time.
3. Told to go, it catches up with what became live meanwhile, and answers on the sockets that
   it inherited. Once a second its event loop says that it turns.
4. When standard input ends the supervisor is gone, however that came about: it stops.

Standard output is its way to the supervisor, one line of JSON at a time; its log goes to standard
error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from assay.errors import AssayError
from assay.serving.http.service import Service
from assay.serving.rejections import Rejected
from assay.serving.server.http_server import GRACE_SECONDS, HttpServer
from assay.serving.server.supervisor import GO

if TYPE_CHECKING:
    from assay.serving.server.tls import Certificate

BEAT_SECONDS = 1.0
_CATCH_UP_SECONDS = 1.0
_FAREWELL_SECONDS = GRACE_SECONDS + 5.0

Made = tuple[Service, Mapping[str, Any]]
"""A service, and what is told of it when it is ready."""


def run_worker(make: Callable[[Mapping[str, Any]], Made]) -> int:
    """Be a worker until the supervisor or a signal says otherwise; the exit status.

    Parameters
    ----------
    make: makes the service from the orders, which hold what the supervisor was given, and
        ``sockets``, the numbers of the inherited sockets; ``grpc``, where calls over gRPC are
        answered as well; ``tls``, the paths of a certificate and its key.
    """
    orders_in, out = sys.stdin.buffer, _way_to_supervisor()
    try:
        orders = json.loads(orders_in.readline())
        listening = [socket.socket(fileno=number) for number in orders["sockets"]]
        tls = None if orders.get("tls") is None else _certificate(*orders["tls"])
        service, summary = make(orders)
        _say(out, {"ready": summary})
        if orders_in.readline() != GO:
            return 0
    except AssayError as error:
        _say(out, {"error": error.message, "hint": error.hint})
        return 1
    except KeyboardInterrupt:
        return 130
    _catch_up(service)
    server = HttpServer(service, started=lambda: _begin(out), grpc=orders.get("grpc"), tls=tls)
    threading.Thread(target=_follow, args=(orders_in,), daemon=True).start()
    try:
        server.run_on(*listening)
    except KeyboardInterrupt:
        return 130
    return 0


def _certificate(chain: str, key: str) -> Certificate:
    from assay.serving.server.tls import read_certificate

    return read_certificate(Path(chain), Path(key))


def _catch_up(service: Service) -> None:
    """Take notice of what changed while this process waited.

    A registry that hangs is not waited for: then it begins with what it has, as other processes go
    on with what they have.
    """

    def run() -> None:
        with contextlib.suppress(Rejected):  # recorded
            service.reloader.catch_up()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_CATCH_UP_SECONDS)


def _way_to_supervisor() -> BinaryIO:
    """Standard output, kept for this alone: what a desk's code prints goes to standard error."""
    sys.stdout.flush()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out


def _say(out: BinaryIO, document: Mapping[str, Any]) -> None:
    out.write(json.dumps(document).encode() + b"\n")
    out.flush()


def _begin(out: BinaryIO) -> None:
    _say(out, {"serving": True})
    loop = asyncio.get_running_loop()

    def beat() -> None:
        try:
            _say(out, {})
        except OSError:
            return  # the supervisor is gone: the thread that listens to it stops this process
        loop.call_later(BEAT_SECONDS, beat)

    loop.call_later(BEAT_SECONDS, beat)


def _follow(orders_in: BinaryIO) -> None:
    """Stop when the supervisor is gone; at once, where the event loop does not turn any more."""
    # Not through the buffer: its lock, held by a thread that waits, would stop the process's end.
    while os.read(orders_in.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_FAREWELL_SECONDS)
    os._exit(1)
