"""Several processes that answer on one socket, and the one that looks after them.

1. The supervisor holds the listening sockets; every worker inherits them, so a connection that no
   worker has accepted yet is lost with none of them.
2. It starts as many workers as are wanted and a spare one, which loads everything and waits. When
   one dies the spare takes its place, and another spare is started.
3. A worker that does not turn its event loop any more is killed, and replaced like the dead.
4. Told to stop, it has all of them answer what is under way, and ends when they have ended. When it
   dies itself, their standard input ends, and so do they.

It loads no model and answers no request, so nothing that a request does can harm it.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from assay.errors import Unavailable
from assay.serving.telemetry.worker_board import WorkerBoard

GO = b"go\n"
"""What tells a worker that has loaded to answer."""
_LOG = logging.getLogger("assay.serving")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SPARES = 1


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: how long a worker may take to load, to turn its event loop, to stop; and how long
    is waited at most before one is started again that failed to.
    """

    start: float = 120.0
    silence: float = 30.0
    stop: float = 12.0
    again: float = 10.0


@dataclass(eq=False, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    heard: float
    unread: bytes = b""
    summary: Mapping[str, Any] | None = None
    told: bool = False
    serving: bool = False
    error: Mapping[str, Any] = field(default_factory=dict)


class Supervisor:
    """Looks after the workers of one service.

    Parameters
    ----------
    command: starts a worker; see :mod:`~assay.serving.server.worker`.
    orders: what each is told, as JSON.
    listening: the sockets that all accept connections on.
    workers: how many answer.
    monotonic: seconds on a clock that never goes back.
    ended: told the number of every process that answered and died, and how; it could not say so
        itself.

    Attributes
    ----------
    restarts: workers that ended without having been told to, and were replaced.
    """

    def __init__(
        self,
        command: Sequence[str],
        orders: Mapping[str, Any],
        listening: Sequence[socket.socket],
        board: WorkerBoard,
        *,
        workers: int,
        monotonic: Callable[[], float],
        patience: Patience | None = None,
        ended: Callable[[int, int], None] = lambda _process, _status: None,
    ) -> None:
        self._command = list(command)
        self._listening = tuple(listening)
        self._numbers = tuple(one.fileno() for one in self._listening)
        self._orders = dict(orders) | {"sockets": self._numbers}
        self._board = board
        self._wanted = workers
        self._monotonic = monotonic
        self._patience = patience or Patience()
        self._ended = ended
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._failures = 0
        self._not_before = 0.0
        self.restarts = 0

    def run(self, ready: Callable[[Mapping[str, Any]], None]) -> None:
        """Start the workers, and look after them until a signal says to stop.

        Parameters
        ----------
        ready: called once, with what the first worker tells of itself, when all of them answer.

        Raises
        ------
        Unavailable: a worker could not be started; its own words.
        """
        with self._signals():
            try:
                self._start(ready)
                while not self._stopping:
                    self._turn()
            finally:
                self._stop()
                self._selector.close()

    @property
    def processes(self) -> list[int]:
        """Numbers of the processes that answer."""
        return [one.process.pid for one in self._workers if one.serving]

    def _start(self, ready: Callable[[Mapping[str, Any]], None]) -> None:
        while len(self.processes) < self._wanted and not self._stopping:
            self._turn(starting=True)
        if not self._stopping:
            summary = next(one.summary for one in self._workers if one.serving)
            self._tell_board(os.getpid())
            ready(summary or {})

    def _turn(self, *, starting: bool = False) -> None:
        """Wait for something to happen, at most for a moment, and do what it calls for."""
        self._fill(spares=0 if starting else _SPARES)
        for key, _ in self._selector.select(0.5):
            if key.data is None:
                self._stopping = bool(os.read(key.fd, 64)) or self._stopping
            else:
                self._hear(key.data, starting=starting)
        now = self._monotonic()
        for one in self._workers:
            limit = self._patience.silence if one.serving else self._patience.start
            waits = one.summary is not None and not one.told
            if now - one.heard > limit and not waits:
                _tell(logging.ERROR, f"worker says nothing for {limit:g} s: killed", one)
                one.heard = now
                one.process.kill()

    def _fill(self, *, spares: int) -> None:
        """Have as many workers answer, and wait, as there should."""
        missing = self._wanted - sum(one.told for one in self._workers)
        for one in self._workers:
            if missing > 0 and one.summary is not None and not one.told:
                one.told, one.heard, missing = True, self._monotonic(), missing - 1
                _write(one, GO)
        count = self._wanted + spares
        while len(self._workers) < count and self._monotonic() >= self._not_before:
            try:
                self._spawn()
            except OSError as error:
                if not spares:
                    raise Unavailable(f"a worker cannot be started: {error}") from error
                # No process, no memory, no descriptor: those that answer must go on.
                _LOG.error("a worker cannot be started: %s", error)
                self._fail()

    def _spawn(self) -> None:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self._numbers,
        )
        one = _Worker(process, self._monotonic())
        self._workers.append(one)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, one)
        _write(one, json.dumps(self._orders).encode() + b"\n")

    def _hear(self, one: _Worker, *, starting: bool) -> None:
        assert one.process.stdout is not None
        data = os.read(one.process.stdout.fileno(), 65_536)
        if not data:
            self._bury(one, starting=starting)
            return
        one.heard = self._monotonic()
        *lines, one.unread = (one.unread + data).split(b"\n")
        for line in lines:
            said = _said(line)
            if "ready" in said:
                one.summary = said["ready"]
            elif "serving" in said:
                one.serving, self._failures = True, 0
                _tell(logging.INFO, "worker answers", one)
                self._tell_board(one.process.pid, ended=False)
            elif "error" in said:
                one.error = said

    def _bury(self, one: _Worker, *, starting: bool) -> None:
        """A worker has ended: remember what it counted, and let another take its place."""
        self._forget(one)
        status = one.process.wait()
        if self._stopping:
            return
        if starting:
            raise Unavailable(
                one.error.get("error") or f"a worker ended with status {status} while it loaded",
                hint=one.error.get("hint"),
            )
        _tell(logging.ERROR, f"worker ended with status {status}", one)
        if one.told:
            self._ended(one.process.pid, status)
            self.restarts += 1
            self._tell_board(one.process.pid)
        if not one.serving:
            self._fail()

    def _fail(self) -> None:
        """Whatever kept a worker from loading may keep the next one: not again at once."""
        self._failures += 1
        pause = min(0.1 * 2**self._failures, self._patience.again)
        self._not_before = self._monotonic() + pause

    def _forget(self, one: _Worker) -> None:
        self._workers.remove(one)
        for pipe in (one.process.stdin, one.process.stdout):
            assert pipe is not None
            if pipe is one.process.stdout:
                self._selector.unregister(pipe)
            try:
                pipe.close()
            except BrokenPipeError:
                continue

    def _tell_board(self, process: int, *, ended: bool = True) -> None:
        try:
            self._board.retire(
                process if ended else 0, workers=len(self.processes), restarts=self.restarts
            )
        except OSError as error:
            _LOG.warning("figures of worker %d are lost: %s", process, error)

    # -- the end -----------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Have every worker answer what is under way and end; kill those that do not."""
        self._stopping = True
        for listening in self._listening:
            listening.close()  # whoever comes now is refused, and does not wait for nobody
        for one in self._workers:
            one.process.terminate()
        deadline = self._monotonic() + self._patience.stop
        for one in list(self._workers):
            try:
                one.process.wait(max(deadline - self._monotonic(), 0.05))
            except subprocess.TimeoutExpired:
                _tell(logging.ERROR, "worker does not stop: killed", one)
                one.process.kill()
                one.process.wait()
            self._forget(one)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals wake the selector, and nothing else."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            woken = signal.set_wakeup_fd(theirs.fileno())
            before = {one: signal.signal(one, lambda *_: None) for one in _SIGNALS}
            self._selector.register(ours, selectors.EVENT_READ, None)
            try:
                yield
            finally:
                signal.set_wakeup_fd(woken)
                for one, handler in before.items():
                    signal.signal(one, handler)


def _write(one: _Worker, line: bytes) -> None:
    assert one.process.stdin is not None
    try:
        one.process.stdin.write(line)
        one.process.stdin.flush()
    except BrokenPipeError:
        return  # it has ended; its output says so next


def _tell(level: int, what: str, one: _Worker) -> None:
    _LOG.log(level, what, extra={"fields": {"worker": one.process.pid}})


def _said(line: bytes) -> dict[str, Any]:
    """What a worker says in a line; nothing where it is no line of the protocol."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if isinstance(said, dict):
        return said
    _LOG.warning("a worker said what means nothing here: %s", ascii(line[:200]))
    return {}
