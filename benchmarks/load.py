"""A light HTTP client for benchmarks: plain sockets, bytes made beforehand, one thread.

Closed loop: the next request goes out when an answer has come, so a slow server is asked less.
Open loop: requests are due at moments drawn beforehand, and a latency counts from the moment when
its request was due, whatever delayed the sending; otherwise a stall would hide the requests that
should have been sent in it.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

WAY = 16


def post(path: str, body: Any, headers: Mapping[str, str]) -> bytes:
    """The bytes of one request."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(data)}", "", ""]
    return "\r\n".join(lines).encode() + data


class Connections:
    """Open connections to one server, each with at most one request under way."""

    def __init__(self, port: int, count: int) -> None:
        self._ready = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._parts: dict[int, bytes] = {}
        self.idle: deque[int] = deque()
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[one.fileno()] = one
            self._ready.register(one, select.EPOLLIN)
            self.idle.append(one.fileno())

    def close(self) -> None:
        for one in self._sockets.values():
            one.close()
        self._ready.close()

    def send(self, message: bytes) -> int:
        """Send over an idle connection; returns which."""
        number = self.idle.popleft()
        self._sockets[number].sendall(message)
        return number

    def answered(self, timeout: float) -> list[int]:
        """Connections whose answers have come whole within ``timeout`` seconds."""
        done = []
        # epoll counts in milliseconds; select does not, and can wait for an epoll.
        select.select([self._ready], [], [], timeout)
        for number, _ in self._ready.poll(0):
            data = self._parts.pop(number, b"") + self._sockets[number].recv(262_144)
            assert data.startswith(b"HTTP/1.1 200 "), data or "the server closed the connection"
            end = data.find(b"\r\n\r\n")
            start = data.find(b"content-length: ", 0, end) + 16
            if end < 0 or len(data) < end + 4 + int(data[start : data.find(b"\r", start)]):
                self._parts[number] = data
                continue
            done.append(number)
        self.idle.extend(done)
        return done


@contextmanager
def connections(port: int, count: int = WAY) -> Iterator[Connections]:
    opened = Connections(port, count)
    try:
        yield opened
    finally:
        opened.close()


def one_at_a_time(port: int, message: bytes, requests: int) -> NDArray[np.float64]:
    """Latencies in microseconds."""
    taken = np.empty(requests)
    with connections(port, 1) as opened:
        for number in range(requests):
            start = time.perf_counter_ns()
            opened.send(message)
            while not opened.answered(60):
                pass
            taken[number] = (time.perf_counter_ns() - start) / 1e3
    return taken


def peak_rate(port: int, message: bytes | Sequence[bytes], requests: int) -> float:
    """Answers per second with :data:`WAY` requests always under way: all alike, or in turn."""
    messages = cycle([message] if isinstance(message, bytes) else message)
    sent = done = 0
    with connections(port) as opened:
        start = time.perf_counter()
        while done < requests:
            while opened.idle and sent < requests:
                opened.send(next(messages))
                sent += 1
            done += len(opened.answered(60))
        return requests / (time.perf_counter() - start)


def open_loop(port: int, message: bytes, rate: float, seconds: float) -> NDArray[np.float64]:
    """Latencies in microseconds from the moments when requests were due: at random, ``rate`` of
    them a second.
    """
    gaps = np.random.default_rng(0).exponential(1 / rate, round(rate * seconds))
    due = deque(np.cumsum(gaps).tolist())
    taken: list[float] = []
    sent_for: dict[int, float] = {}
    count = len(due)
    with connections(port, 4 * WAY) as opened:
        start = time.perf_counter()
        while len(taken) < count:
            now = time.perf_counter() - start
            while due and opened.idle and due[0] <= now:
                sent_for[opened.send(message)] = due.popleft()
            wait = due[0] - now if due and opened.idle else 60
            done = opened.answered(max(wait, 0))
            now = time.perf_counter() - start
            taken.extend(now - sent_for[number] for number in done)
    return np.array(taken) * 1e6
