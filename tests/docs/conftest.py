"""Pages are followed as a reader would: command by command, on generated rates."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def commands(page: Path) -> list[tuple[str, str]]:
    """Commands in console blocks, and the remark behind each."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    # Blocks inside lists are indented, and so are the lines that close them.
    return [(line.partition(" #")[0].strip(), line.partition(" #")[2]) for line in lines if line]


class OnSocket(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


class SocketHandler(urllib.request.HTTPHandler):
    """Opens every URL over one socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._connection = type("Connection", (OnSocket,), {"path": path})

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._connection, request)


def ask(url: str, options: list[str]) -> tuple[int, Any]:
    """What curl would get with these options."""
    handlers = []
    if "--unix-socket" in options:
        place = options.index("--unix-socket")
        handlers.append(SocketHandler(options[place + 1]))
        options = options[:place] + options[place + 2 :]
    request = urllib.request.Request(url)
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name == "--json":
            request.data = value.encode()
            request.add_header("Content-Type", "application/json")
        else:
            assert name == "-H"
            request.add_header(*value.split(": "))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=30) as response:
            is_json = "json" in response.headers["Content-Type"]
            return response.status, json.load(response) if is_json else response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Reader:
    """Types every command of a page and compares what happens with the remark behind it.

    Attributes
    ----------
    folder: where the reader stands; ``cd`` goes on from there.
    entered: called with every folder that is entered.
    port: of the server that the page starts, on a free port instead of the page's; grpc: the same
        for calls over gRPC.
    does: what is done in the place of commands of the system; those that were are in ``done``.
    """

    def __init__(self, shell: Any, folder: Path, entered: Callable[[Path], None]) -> None:
        self._shell, self.folder, self._entered = shell, folder, entered
        self._servers: list[subprocess.Popen[str]] = []
        self.port = self.grpc = ""
        self._manifest = ""
        self.does: dict[str, Callable[[], object]] = {}
        self.done: set[str] = set()

    def follow(self, page: Path, **replaced: str) -> None:
        for line, remark in commands(page):
            self.enter(line, remark, **replaced)

    def enter(self, line: str, remark: str = "", **replaced: str) -> None:
        words = shlex.split(line.replace("$MANIFEST", self._manifest))
        self._type([replaced.get(word, word) for word in words], remark)

    def _type(self, words: list[str], remark: str) -> None:
        environment = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        if " ".join(words) in self.does:
            self.does[" ".join(words)]()
            self.done.add(" ".join(words))
        elif words[0] == "cd":
            self.folder /= words[1]
            self._entered(self.folder)
        elif words[0] in {"cp", "mv"}:
            subprocess.run(words, cwd=self.folder, check=True)
        elif words[:2] == ["assay", "serve"]:
            assert "keeps running" in remark
            for option in {"--port", "--grpc-port"}.intersection(words):
                words[words.index(option) + 1] = "0"
            self._serve(words, environment)
        elif words[0] == "curl":
            place = next(n for n, word in enumerate(words) if "://" in word)
            url = re.sub(r":\d+/", f":{self.port}/", words.pop(place))
            status, answer = ask(url, words[1:])
            found = re.search(r'"manifest": "(\w+)"', json.dumps(answer))
            self._manifest = found[1] if found else self._manifest
            refused = re.search(r"refused: (\d+)", remark)
            assert status == (int(refused[1]) if refused else 200), (words, answer)
        else:
            result = self._shell.run(*words[1:], cwd=self.folder, environment=environment)
            allowed = {0, 1} if "exits 1" in remark else {0}
            assert result.returncode in allowed, f"{words}\n{result.stdout}\n{result.stderr}"
            assert "Traceback" not in result.stderr, result.stderr
            assert result.stdout or result.stderr

    def _serve(self, words: list[str], environment: dict[str, str]) -> None:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("assay")), *words[1:]],
            cwd=self.folder,
            env=os.environ | {"XDG_CONFIG_HOME": str(self._shell.home / "config")} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._servers.append(process)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            calls = re.search(r"serving calls over gRPC on 127\.0\.0\.1:(\d+)", line)
            self.grpc = calls[1] if calls else self.grpc
            found = re.search(r"serving on http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = found[1]
                return
        raise AssertionError(f"the server ended: {said}")

    def leave(self) -> None:
        for process in self._servers:
            process.terminate()
            process.communicate(timeout=30)


@pytest.fixture
def reader(shell: Any) -> Iterator[Callable[..., Reader]]:
    """Makes a :class:`Reader`; the servers it starts end with the test."""
    made: list[Reader] = []

    def make(folder: Path, entered: Callable[[Path], None] = lambda _: None) -> Reader:
        made.append(Reader(shell, folder, entered))
        return made[-1]

    yield make
    for one in made:
        one.leave()
