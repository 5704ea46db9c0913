"""A real server process, and a client that asks it as a strategy would."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from assay.errors import Unavailable

_START_SECONDS = 60.0


class ServerProcess:
    """``assay serve`` on a free loopback port; ends with the block.

    Parameters
    ----------
    desk: the desk's folder.
    environment: the server's environment, settings among it.
    log: where the server's standard error goes.
    """

    def __init__(self, desk: Path, environment: Mapping[str, str], log: Path) -> None:
        self._desk = desk
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", "from assay.cli import main; main()", "serve"]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, fixed arguments
                [*command, "--port", "0", "--json", "--desk", str(self._desk)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )
        try:
            self.url = self._started(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def _started(self, process: subprocess.Popen[str]) -> str:
        """Read the server's one JSON document, which it prints when it listens."""
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            try:
                return str(json.loads(text)["url"])
            except json.JSONDecodeError:
                continue
        raise Unavailable(
            "the server did not start", hint=f"it wrote to {self._log}: {self._log.read_text()}"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()


class Client:
    """One kept-open connection; counts requests, errors and their times."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=_START_SECONDS
        )
        self.requests = 0
        self.errors: list[str] = []
        self.milliseconds: list[float] = []

    def get(self, path: str) -> Any:
        """The JSON answer to a GET."""
        self._connection.request("GET", path)
        return json.loads(self._connection.getresponse().read())

    def predict(self, body: Mapping[str, Any], manifest: str) -> dict[str, Any] | None:
        """The answer to ``POST /predict``, or None for an error, which is counted."""
        started = time.perf_counter()
        self._connection.request(
            "POST",
            "/predict",
            json.dumps(body),
            {"Content-Type": "application/json", "X-Assay-Manifest": manifest},
        )
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        self.requests += 1
        self.milliseconds.append((time.perf_counter() - started) * 1e3)
        if response.status != 200:
            self.errors.append(f"{response.status}: {answer.get('detail')}")
            return None
        return dict(answer)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
