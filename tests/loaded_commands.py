"""Runs the installed ``assay`` in forks of a process that has loaded its modules already.

Loading NumPy, Polars, numba and the like takes longer than most commands do. Here it is done once;
then each command is a process of its own, with its own folder, environment, output and exit status,
and runs the script that a person runs. Modules read no clock and no environment when they are
loaded, so that it does not matter when that was.

Started with the number of a connected socket. A command is the length of a JSON object in eight
bytes, with four descriptors (input, output, errors, and where its exit status is written to), then
the object: ``argv``, ``cwd``, ``env``.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

HEAD = 8
# ONNX Runtime is left to the commands: it has threads of its own, which no fork has.
LOADED = (
    "assay.cli.app",
    "assay.bootstrap",
    "assay.registry",
    "assay.access",
    "assay.delivery.promotion",
    "assay.orchestration.judging",
    "assay.orchestration.modelling",
    "assay.orchestration.service",
)


def next_command(link: socket.socket) -> dict[str, Any] | None:
    """In the fork that is the next command, what it is; in the first process None, at the end."""
    while True:
        head, descriptors, _, _ = socket.recv_fds(link, HEAD, 4, socket.MSG_WAITALL)
        if not head:
            return None
        body = link.recv(int.from_bytes(head), socket.MSG_WAITALL)
        *places, told = descriptors
        if _fork() == 0:
            link.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            command = _fork()
            if command == 0:
                os.close(told)
                for number, place in enumerate(places):
                    os.dup2(place, number)
                    os.close(place)
                wanted: dict[str, Any] = json.loads(body)
                return wanted
            for place in places:
                os.close(place)
            _, status = os.waitpid(command, 0)
            os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        for one in descriptors:
            os.close(one)


def _fork() -> int:
    with warnings.catch_warnings():
        # OpenBLAS has threads, and stops them around a fork by itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def run(wanted: dict[str, Any]) -> int:
    """Be the command; returns its exit status."""
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    time.tzset()
    sys.argv[:] = wanted["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end(code: int) -> NoReturn:
    """End as an interpreter does, but for libraries, which might wait for threads before a fork."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    order = next_command(socket.socket(fileno=int(sys.argv[1])))
    if order is not None:
        end(run(order))
