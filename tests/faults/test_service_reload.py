"""A server under load while what is live changes: no request fails, no answer mixes versions."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from assay.delivery.live import RegistryLiveSource
from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.domain.clock import SystemClock
from assay.errors import Tampered
from assay.registry import ModelRegistry
from assay.testing.versions import AUTHOR, make_candidate, make_registry
from assay.testing.waiting import until

ROW = [2.0, 1.0]
WORKER = Path(__file__).with_name("service_worker.py")


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        headers = {"content-type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def predict(self) -> tuple[int, Any]:
        return self.post("/inference/predict", {"features": ROW})

    def until_live(self, version: str) -> None:
        """Ask until this version answers."""
        until(lambda: self.predict()[1].get("model_version") == version, f"{version} answers")


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """The port of a server process, which ends with the block whatever happens in it."""
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def promote(registry: ModelRegistry, version: str) -> None:
    break_glass(
        registry, "fx_vol", version, initiated_by=AUTHOR, reason="a test",
        clock=registry.clock, monotonic=time.monotonic,
    )  # fmt: skip


def swap(registry: ModelRegistry, version: str) -> None:
    rollback(
        registry, "fx_vol", target=version, reason="a test", initiated_by=AUTHOR, keep=True,
        monotonic=time.monotonic,
    )  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Two versions that answer 2 and -2 to the same row; the second one is live."""
    registry = make_registry(tmp_path, SystemClock())
    registry.register(make_candidate(version="1.0.0", weights=(1.0, 0.0)))
    registry.register(make_candidate(version="2.0.0", weights=(-1.0, 0.0)))
    promote(registry, "1.0.0")
    promote(registry, "2.0.0")
    return registry


def test_a_hundred_swaps_under_load_lose_no_request_and_mix_no_versions(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    expected = {"v1.0.0": 2.0, "v2.0.0": -2.0}
    wrong: list[Any] = []
    counts: list[int] = []
    done = threading.Event()

    def load(port: int, path: str, body: Any, key: str) -> None:
        client, count = Client(port), 0
        try:
            while not done.is_set():
                status, answer = client.post(path, body)
                count += 1
                values = answer.get(key)
                values = values if isinstance(values, list) else [values]
                if status != 200 or set(values) != {expected[answer["model_version"]]}:
                    wrong.append((status, answer))
        except Exception as error:
            wrong.append(error)
        finally:
            client.close()
        counts.append(count)

    with server(tmp_path) as port, closing(Client(port)) as watcher:
        watcher.until_live("v2.0.0")
        batch = {"batch": [ROW] * 8}
        threads = [
            threading.Thread(
                target=load, args=(port, "/inference/predict", {"features": ROW}, "prediction")
            ),
            threading.Thread(target=load, args=(port, "/inference/batch", batch, "predictions")),
        ]
        for thread in threads:
            thread.start()
        try:
            for number in range(100):
                version = ("1.0.0", "2.0.0")[number % 2]
                swap(registry, version)
                watcher.until_live(f"v{version}")
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert wrong == []
    assert len(counts) == 2
    assert min(counts) > 100
    record = [json.loads(line) for line in (tmp_path / "serving.jsonl").read_text().splitlines()]
    loads = [line["version"] for line in record if line["event"] == "loaded"]
    assert loads == ["2.0.0", *(("1.0.0", "2.0.0")[number % 2] for number in range(100))]
    assert not [line for line in record if line["event"] == "reload_refused"]
    assert record[-1]["event"] == "stopped"


def test_bytes_that_changed_on_disk_are_never_handed_to_serving(registry: ModelRegistry) -> None:
    source = RegistryLiveSource(lambda: registry, registry.root, monotonic=time.monotonic)
    assert source.load("fx_vol").version == "2.0.0"
    model = registry.root / "artifacts/fx_vol/2.0.0/model.onnx"
    model.chmod(0o644)
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Tampered, match=r"model\.onnx"):
        source.load("fx_vol")


def test_the_pointer_changes_with_what_is_live_also_back_again_and_only_then(
    registry: ModelRegistry,
) -> None:
    source = RegistryLiveSource(lambda: registry, registry.root, monotonic=time.monotonic)
    first = source.pointer()
    registry.register(make_candidate(version="3.0.0", weights=(0.5, 0.0)))
    assert source.pointer() == first
    swap(registry, "1.0.0")
    second = source.pointer()
    assert second != first
    swap(registry, "2.0.0")
    assert source.pointer() not in (first, second)


def test_the_kill_file_stops_the_very_next_request_of_a_running_server(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    assert registry.current("fx_vol") is not None
    with server(tmp_path) as port, closing(Client(port)) as client:
        for _ in range(20):
            assert client.predict()[0] == 200
            # In one step: an empty file stops as well, but its reason would be another one.
            (tmp_path / "written").write_text("a test")
            (tmp_path / "written").rename(tmp_path / "KILL")
            status, problem = client.predict()
            assert (status, problem["type"]) == (503, "urn:assay:problem:killed")
            (tmp_path / "KILL").unlink()
        assert client.predict()[0] == 200  # which notices that the file is gone
        assert client.post("/kill", {"by": "ops", "reason": "by the API"})[0] == 200
        assert client.predict()[0] == 503
        assert client.post("/unkill", {"by": "ops", "reason": "done"})[0] == 200
        assert client.predict()[0] == 200
    record = [json.loads(line) for line in (tmp_path / "serving.jsonl").read_text().splitlines()]
    kills = [line["reason"] for line in record if line["event"] == "killed"]
    assert kills == ["a test"] * 20 + ["by the API"]
    assert sum(line["event"] == "unkilled" for line in record) == 21
