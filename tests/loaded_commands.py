"""Runs the installed ``assay`` in forks of a process that has loaded the libraries already.

Loading NumPy, numba, pydantic and the like takes longer than most commands do. Here it is done
once; then each command is a process of its own, with its own folder, environment, output and exit
status. Nothing of Assay is loaded before the fork: what a command imports, and in which order, is
what it imports for a person.

Started with the number of a connected socket. A command is the length of a JSON object in eight
bytes, with four descriptors (input, output, errors, and where its exit status is written to), then
the object: ``argv``, ``cwd``, ``env``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any

HEAD = 8
# Those that start threads when they are loaded are left to the commands.
LIBRARIES = (
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.serialization",
    "fastapi",
    "msgspec",
    "numba",
    "numpy",
    "onnx",
    "polars",
    "pydantic",
    "rich.console",
    "rich.table",
    "scipy.stats",
    "typer",
    "uvicorn",
    "yaml",
)


def next_command(link: socket.socket) -> dict[str, Any] | None:
    """In the fork that is the next command: what it is. In the first process: nothing, at the end."""
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


def run(wanted: dict[str, Any]) -> None:
    """Be the command."""
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    time.tzset()
    sys.argv[:] = wanted["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    order = next_command(socket.socket(fileno=int(sys.argv[1])))
    if order is not None:
        run(order)
