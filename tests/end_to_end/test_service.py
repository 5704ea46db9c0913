"""A desk with a model in production, served by a real process: ``assay serve``, asked over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import operator
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml

from assay.testing.certificates import self_signed
from assay.testing.waiting import until

ASSAY = str(Path(sys.executable).with_name("assay"))


class Served:
    """A running ``assay serve`` and what it printed."""

    def __init__(self, printed: dict[str, Any]) -> None:
        self.printed = printed
        self._address = urlsplit(printed["url"]).netloc

    def ask(
        self, method: str, path: str, body: Any = None, manifest: str | None = None,
        token: str | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            headers = {"content-type": "application/json"}
            if manifest is not None:
                headers["x-assay-manifest"] = manifest
            if token is not None:
                headers["authorization"] = f"Bearer {token}"
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
            is_json = "json" in str(answer.headers["content-type"])
            return answer.status, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()


@contextmanager
def serving(shell: Any, desk: Path, *options: str, **environment: str) -> Iterator[Served]:
    """``assay serve`` on a free port; it ends with the block whatever happens in it."""
    with subprocess.Popen(
        [ASSAY, "serve", "--port", "0", "--json", "--desk", str(desk), *options],
        env=os.environ | {"XDG_CONFIG_HOME": str(shell.home / "config")} | environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not lines or lines[-1].rstrip("\n") != "}":
                line = process.stdout.readline()
                assert line, "assay serve ended: " + "".join(lines)
                lines.append(line)
            yield Served(json.loads("".join(lines)))
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()


@pytest.fixture(scope="module")
def promoted(shell: Any, archive: Any) -> Path:
    """A desk with two versions of the baseline, the first archived and the second live."""
    from assay import bootstrap
    from assay.delivery.promotion import break_glass
    from assay.orchestration.building import build_features
    from assay.orchestration.ingestion import ingest
    from assay.orchestration.modelling import register_run, train_recipe
    from assay.orchestration.progress import Silent
    from assay.registry.sealed import OPTIONAL, REQUIRED, Candidate

    folder: Path = shell.home / "promoted"
    made = shell.run("init", str(folder), "--as", "quant.demo", "--as", "ops.demo")
    assert made.returncode == 0, made.stderr
    archive(folder / "configs/rates.zip")
    path = folder / "configs/sources.yaml"
    document = yaml.safe_load(path.read_text())
    document["sources"]["ecb"]["path"] = "rates.zip"
    document["universe"]["min_observed"] = 300
    path.write_text(yaml.safe_dump(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
        desk = bootstrap.open_desk(folder)
        ingest(desk, Silent())
        build_features(desk, "fx_daily", Silent())
        run = train_recipe(desk, "fx_vol_baseline", Silent())
        register_run(desk, run, author="quant.demo")
        first = desk.registry.open_version("fx_vol", "1.0.0")
        twin = replace(first.metadata, version="1.1.0", config={"as": "a version of its own"})
        files = {name: first.files[name] for name in (*REQUIRED, *OPTIONAL) if name in first.files}
        desk.registry.register(Candidate(twin, first.schema, files))
        for version in ("1.0.0", "1.1.0"):
            break_glass(
                desk.registry, "fx_vol", version, initiated_by="ops.demo", reason="a test",
                clock=desk.clock, monotonic=time.monotonic,
            )  # fmt: skip
    return folder


@pytest.fixture
def desk(promoted: Path, tmp_path: Path) -> Path:
    """A copy of the desk, because these tests damage and change it."""
    folder = tmp_path / "desk"
    shutil.copytree(promoted, folder, symlinks=True)
    return folder


def gold(desk: Path, instrument: str, names: Sequence[str]) -> tuple[int, list[float]]:
    """The newest gold row of an instrument, read with nothing of ours but the lake."""
    from assay.domain.clock import SystemClock
    from assay.lake import Lake

    table = Lake(desk / "data", SystemClock()).table("gold/fx_daily")
    snapshot = table.current()
    assert snapshot is not None
    rows = table.read(snapshot).filter(instrument=instrument).sort("event_time")
    last = rows.row(-1, named=True)
    return last["known_time"], [float(last[name]) for name in names]


def test_a_promoted_model_answers_from_gold_with_the_bits_of_its_offline_row(
    shell: Any, desk: Path
) -> None:
    from assay.domain.instants import render
    from assay.domain.versions import InputSchema
    from assay.serving import OnnxModel

    with serving(shell, desk) as served:
        (model,) = served.printed["models"]
        assert (served.printed["champion"], model["name"]) == ("fx_vol", "fx_vol")
        assert served.printed["operators"] == "open"  # nobody but this machine reaches it
        names = model["schema"]["names"]
        known, values = gold(desk, "USD_SGD", names)
        status, answer = served.ask(
            "POST", "/predict", {"instrument": "USD_SGD", "timestamp": render(known)},
            model["manifest"],
        )  # fmt: skip
        assert status == 200, answer
        assert list(answer["features_used"]) == names
        assert list(answer["features_used"].values()) == values
        assert (answer["model_version"], answer["stale"]) == (model["version"], False)
        version = model["version"].removeprefix("v")
        onnx = (desk / "data/models/artifacts/fx_vol" / version / "model.onnx").read_bytes()
        offline = OnnxModel.from_bytes(onnx, InputSchema.of(names)).predict(
            np.array([values], dtype=np.float32)
        )
        assert answer["prediction"] == offline[0]
        status, again = served.ask(
            "POST", "/inference/predict", {"features": values}, model["manifest"]
        )
        assert (status, again["prediction"]) == (200, offline[0])
        status, stale = served.ask("POST", "/predict", {"instrument": "USD_SGD"}, model["manifest"])
        assert (status, stale["type"]) == (409, "urn:assay:problem:stale-features")
        status, health = served.ask("GET", "/health")
        assert (status, health["status"]) == (200, "degraded")  # the generated rates are old
        assert served.ask("GET", "/docs")[0] == 200
        assert served.ask("GET", "/openapi.json")[1]["paths"]["/predict"]
    (line,) = [
        json.loads(line)
        for line in (desk / "artifacts/predictions.jsonl").read_text().splitlines()
        if "USD_SGD" in line
    ]
    assert (line["features"], line["prediction"]) == (values, offline[0])


def test_a_rollback_from_the_command_line_reaches_the_running_server(
    shell: Any, desk: Path
) -> None:
    with serving(shell, desk) as served:
        before = served.ask("GET", "/model")[1]["models"][0]["version"]
        shell.json("models", "rollback", "fx_vol", "--reason", "a test", "--as", "ops.demo",
                   "--keep", "--desk", str(desk))  # fmt: skip
        status, answer = served.ask("POST", "/model/reload", {})
        assert (status, answer["reloaded"]) == (200, True)
        assert answer["version"] != before
        assert served.ask("GET", "/model")[1]["models"][0]["version"] == answer["version"]


def test_nothing_is_served_from_a_tampered_version(shell: Any, desk: Path) -> None:
    (model,) = (desk / "data/models/latest").resolve().glob("fx_vol/model.onnx")
    model.chmod(0o644)
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    result = shell.run("serve", "--port", "0", "--desk", str(desk))
    assert result.returncode == 1
    assert "model.onnx" in result.stderr
    assert "http" not in result.stdout


def test_the_switch_is_turned_at_start_by_command_and_by_api(shell: Any, desk: Path) -> None:
    with serving(shell, desk, SERVE_KILL="1") as served:
        body = {"instrument": "USD_SGD"}
        assert served.ask("POST", "/predict", body)[0] == 503
        turn = {"by": "ops.demo", "reason": "begin"}
        assert served.ask("POST", "/unkill", turn)[0] == 200
        assert served.ask("POST", "/predict", body)[0] == 428
        shell.json("kill", "--reason", "prices are wrong", "--as", "ops.demo",
                   "--desk", str(desk))  # fmt: skip
        status, problem = served.ask("POST", "/predict", body)
        assert (status, problem["type"]) == (503, "urn:assay:problem:killed")
        assert "ops.demo: prices are wrong" in problem["detail"]
        shell.json("kill", "--off", "--reason", "repaired", "--as", "ops.demo", "--desk", str(desk))
        assert served.ask("POST", "/predict", body)[0] == 428


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (("--model", "fx_vo"), {}, "did you mean 'fx_vol'?"),
        ((), {"SERVE_KILL": "yse"}, "SERVE_KILL is 'yse'"),
        (("--host", "203.0.113.1"), {}, "cannot listen on"),
    ],
)
def test_a_mistake_at_the_start_is_told_without_a_traceback(
    shell: Any, desk: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...],
    environment: dict[str, str], words: str,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = shell.run("serve", "--port", "0", "--desk", str(desk), *options)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_whoever_operates_a_service_that_others_reach_shows_a_token(
    shell: Any, desk: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    from assay import bootstrap
    from assay.access import Revocation

    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
    users = desk / "configs/access.yaml"
    users.write_text("users: {ops: {roles: [sre]}}")
    opened = bootstrap.open_desk(desk)
    opened.authenticator.keys.rotate(opened.clock.now())
    token = opened.authenticator.issue(opened.access.user("ops"), 600, by="test").text
    if workers == "1":  # a server of one's own may listen anywhere
        assert "security" in bootstrap.open_service(desk).openapi()["paths"]["/kill"]["post"]
        with bootstrap.open_predictor(desk) as predictor:
            predictor.check_switch()
    turn = {"reason": "a test"}
    with serving(shell, desk, "--host", "0.0.0.0", "--workers", workers) as served:
        assert served.printed["operators"] == "tokens"

        def statuses(path: str, **given: Any) -> set[int]:
            return {served.ask("POST", path, turn, **given)[0] for _ in range(8)}

        assert statuses("/kill") == {401}
        assert served.ask("POST", "/kill", turn | {"by": "me"}, token=token)[0] == 403
        body = {"instrument": "USD_SGD"}
        assert served.ask("POST", "/predict", body)[0] == 428
        assert served.ask("POST", "/kill", turn, token=token)[1]["by"] == "ops"
        assert {served.ask("POST", "/predict", body)[0] for _ in range(8)} == {503}
        assert statuses("/unkill", token=token) == {200}
        assert served.ask("POST", "/model/reload", {}, token=token)[0] == 200
        opened.authenticator.revocations.add(
            Revocation(opened.clock.now(), "test", "lost", subject="ops")
        )
        assert statuses("/kill", token=token) == {401}
        users.unlink()
        assert statuses("/kill", token=token) == {503}
        assert served.ask("POST", "/predict", body)[0] == 428
    codes = {event["code"] for event in opened.access_log.events() if event["event"] == "refused"}
    assert codes == {"no_token", "other_person", "revoked", "nobody_recognised"}
    with serving(shell, desk, "--host", "0.0.0.0") as served:  # now it names no users
        assert served.printed["operators"] == "open"
        assert not served.ask("GET", "/health")[1]["dependencies"]["operators"]["ok"]


def test_several_workers_answer_as_one_and_are_switched_together(shell: Any, desk: Path) -> None:
    with serving(shell, desk, "--workers", "2", SERVE_KILL="1") as served:
        assert served.printed["workers"] == 2
        (model,) = served.printed["models"]
        body = {"instruments": ["USD_SGD", "USD_JPY"]}
        assert {served.ask("POST", "/predict", body)[0] for _ in range(8)} == {503}
        assert served.ask("POST", "/unkill", {"by": "ops", "reason": "begin"})[0] == 200
        names = model["schema"]["names"]
        known, values = gold(desk, "USD_SGD", names)
        assert known
        found = [
            served.ask("POST", "/inference/predict", {"features": values}, model["manifest"])
            for _ in range(8)
        ]
        assert {status for status, _ in found} == {200}
        assert len({answer["prediction"] for _, answer in found}) == 1
        status, many = served.ask("POST", "/predict", body, model["manifest"])
        assert (status, many["refused"]) == (200, 2)  # the generated rates are old
        slugs = {one["problem"]["type"] for one in many["predictions"]}
        assert slugs == {"urn:assay:problem:stale-features"}
        assert len(served.ask("GET", "/health")[1]["dependencies"]["workers"]["detail"]) >= 1


def live_version(served: Any) -> str:
    return str(served.ask("GET", "/model")[1]["models"][0]["version"])


def test_a_rollback_needs_no_database_and_reaches_the_running_server(
    shell: Any, desk: Path
) -> None:
    with serving(shell, desk) as served:
        before = served.ask("GET", "/model")[1]["models"][0]["version"]
        for garbage in (None, b"garbage" * 999):
            for path in (desk / "data/models").glob("registry.db*"):
                path.unlink()
            if garbage is not None:
                (desk / "data/models/registry.db").write_bytes(garbage)
                assert served.ask("GET", "/health")[1]["dependencies"]["registry"]["ok"] is False
                refused = shell.run("models", "rollback", "fx_vol", "--reason", "a test",
                                    "--as", "ops.demo", "--desk", str(desk))  # fmt: skip
                assert "assay models rebuild" in refused.stderr
                shell.json("models", "rebuild", "--as", "ops.demo", "--desk", str(desk))
            assert served.ask("GET", "/health/ready")[0] == 200
            shell.json("models", "rollback", "fx_vol", "--reason", "a test", "--as", "ops.demo",
                       "--keep", "--desk", str(desk))  # fmt: skip
            until(lambda: live_version(served) != before, "the version before answers")  # noqa: B023
            before = live_version(served)


def test_a_public_client_of_the_protocol_gets_its_numbers(shell: Any, desk: Path) -> None:
    client_of = pytest.importorskip("tritonclient.http", reason="pip install tritonclient[http]")
    with serving(shell, desk) as served:
        (model,) = served.printed["models"]
        names = model["schema"]["names"]
        _, values = gold(desk, "USD_SGD", names)
        headers = {"x-assay-manifest": model["manifest"]}
        expected = served.ask(
            "POST", "/inference/predict", {"features": values}, model["manifest"]
        )[1]["prediction"]
        client = client_of.InferenceServerClient(urlsplit(served.printed["url"]).netloc)
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("fx_vol")
        assert client.get_server_metadata()["name"] == "assay"
        (shape,) = (one["shape"] for one in client.get_model_metadata("fx_vol")["inputs"])
        assert shape == [-1, len(names)]
        for datatype, kind in (("FP64", np.float64), ("FP32", np.float32)):
            for binary in (True, False):
                tensor = client_of.InferInput("features", [3, len(names)], datatype)
                tensor.set_data_from_numpy(np.array([values] * 3, dtype=kind), binary_data=binary)
                wanted = client_of.InferRequestedOutput("prediction", binary_data=binary)
                result = client.infer(
                    "fx_vol", [tensor], outputs=[wanted], headers=dict(headers), request_id="one",
                    model_version=model["version"].removeprefix("v"),
                )  # fmt: skip
                assert result.as_numpy("prediction").tolist() == [expected] * 3
                assert result.get_response()["id"] == "one"
        with pytest.raises(Exception, match="manifest"):
            client.infer("fx_vol", [tensor])
        client.close()


def test_a_gpu_that_is_asked_for_is_not_done_without_in_silence(shell: Any, desk: Path) -> None:
    result = shell.run(
        "serve", "--port", "0", "--desk", str(desk), environment={"INFER_GPU_ENABLED": "true"}
    )
    assert result.returncode == 1
    assert "inference.gpu_enabled is true" in result.stderr


class OnSocket(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("assay", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self._path)

    def ask(self, path: str, body: Any, manifest: str) -> tuple[int, Any]:
        headers = {"content-type": "application/json", "x-assay-manifest": manifest}
        self.request("POST", path, json.dumps(body), headers)
        answer = self.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.long)])
def test_the_same_numbers_come_from_the_port_the_socket_and_over_grpc(
    shell: Any, desk: Path, short: Path, workers: int
) -> None:
    grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")
    from assay.serving.grpc.messages import MESSAGES, SERVICE

    path = short / "socket"
    options = ("--unix", str(path), "--workers", str(workers))
    environment = {"ASSAY_SERVING__GRPC_PORT": "0"}
    with serving(shell, desk, *options, **environment) as served:
        (model,) = served.printed["models"]
        columns, manifest = model["schema"]["names"], model["manifest"]
        assert served.printed["unix"] == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        _, values = gold(desk, "USD_SGD", columns)
        body = {"features": values}
        status, by_port = served.ask("POST", "/inference/predict", body, manifest)
        assert status == 200
        request = MESSAGES["ModelInferRequest"](
            model_name="fx_vol",
            inputs=[{"name": "features", "datatype": "FP64", "shape": [1, len(columns)],
                     "contents": {"fp64_contents": values}}],
        )  # fmt: skip
        for _ in range(6 * workers):
            connection = OnSocket(str(path))
            status, on_socket = connection.ask("/inference/predict", body, manifest)
            connection.close()
            assert (status, on_socket["prediction"]) == (200, by_port["prediction"])
            with grpc.insecure_channel(
                served.printed["grpc"], [("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                answer = MESSAGES["ModelInferResponse"].FromString(
                    channel.unary_unary(f"/{SERVICE}/ModelInfer")(
                        request.SerializeToString(), timeout=30,
                        metadata=[("x-assay-manifest", manifest), ("x-request-id", "by-grpc")],
                    )
                )  # fmt: skip
            (found,) = answer.outputs[0].contents.fp64_contents
            assert found == by_port["prediction"]
        route = f'route="/{SERVICE}/ModelInfer",status="200"'

        def counted() -> float:
            text = served.ask("GET", "/metrics")[1]
            (found,) = re.findall(rf"^assay_requests_total{{{route}}} (\S+)$", text, re.MULTILINE)
            return float(found)

        until(lambda: counted() == 6 * workers, "it was told by every worker")
    assert not path.exists()
    lines = (desk / "artifacts/predictions.jsonl").read_text().splitlines()
    assert sum('"request_id":"by-grpc"' in line for line in lines) == 6 * workers


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_over_tls_every_worker_answers_by_http_and_grpc_and_the_socket_stays_plain(
    shell: Any, desk: Path, short: Path, tmp_path: Path, workers: int
) -> None:
    grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")
    files = self_signed(tmp_path / "tls")
    environment = {
        "ASSAY_SERVING__TLS_CERTIFICATE": str(files.certificate),
        "ASSAY_SERVING__TLS_KEY": str(files.key),
    }
    trusted = ssl.create_default_context(cafile=files.certificate)
    options = ("--unix", str(short / "s"), "--grpc-port", "0", "--workers", str(workers))
    with serving(shell, desk, *options, **environment) as served:
        url = urlsplit(served.printed["url"])
        assert url.scheme == "https"
        for _ in range(6 * workers):
            asking = http.client.HTTPSConnection(url.netloc, timeout=30, context=trusted)
            asking.request("GET", "/health/ready")
            assert asking.getresponse().status == 200
            asking.close()
            on_socket = OnSocket(str(short / "s"))
            on_socket.request("GET", "/health/ready")
            assert on_socket.getresponse().status == 200
            on_socket.close()
            with grpc.secure_channel(
                served.printed["grpc"],
                grpc.ssl_channel_credentials(files.certificate.read_bytes()),
                [("grpc.use_local_subchannel_pool", 1)],
            ) as channel:
                check = channel.unary_unary("/grpc.health.v1.Health/Check")
                assert check(b"", timeout=30) == b"\x08\x01"


def test_tls_that_cannot_be_spoken_stops_the_start_in_words(
    shell: Any, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = self_signed(tmp_path / "tls")
    for certificate, words in ((None, "serving.tls_certificate is not: expected both"),
                               (tmp_path / "none.pem", "none.pem cannot be read")):  # fmt: skip
        monkeypatch.setenv("ASSAY_SERVING__TLS_KEY", str(files.key))
        if certificate is not None:
            monkeypatch.setenv("ASSAY_SERVING__TLS_CERTIFICATE", str(certificate))
        result = shell.run("serve", "--port", "0", "--desk", str(desk))
        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.long
def test_a_worker_killed_under_calls_costs_those_in_flight_and_channels_find_the_others(
    shell: Any, desk: Path
) -> None:
    grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")
    from assay.serving.grpc.messages import MESSAGES, SERVICE

    patient = {"ASSAY_SERVING__DEADLINE_MS": "60000"}
    with serving(shell, desk, "--workers", "2", "--grpc-port", "0", **patient) as served:
        (model,) = served.printed["models"]
        columns, manifest = model["schema"]["names"], model["manifest"]
        _, values = gold(desk, "USD_SGD", columns)
        expected = served.ask("POST", "/inference/predict", {"features": values}, manifest)[1]
        request = MESSAGES["ModelInferRequest"](
            model_name="fx_vol",
            inputs=[{"name": "features", "datatype": "FP64", "shape": [1, len(columns)],
                     "contents": {"fp64_contents": values}}],
        ).SerializeToString()  # fmt: skip
        done, answered, lost = threading.Event(), [0] * 4, [0] * 4
        wrong: list[Any] = []

        def ask_on(place: int) -> None:
            with grpc.insecure_channel(
                served.printed["grpc"], [("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
                while not done.is_set():
                    try:
                        data = call(
                            request, timeout=30, wait_for_ready=True,
                            metadata=[("x-assay-manifest", manifest)],
                        )  # fmt: skip
                    except grpc.RpcError as error:
                        lost[place] += 1
                        if error.code() is not grpc.StatusCode.UNAVAILABLE:
                            wrong.append(error)
                        continue
                    answer = MESSAGES["ModelInferResponse"].FromString(data)
                    if list(answer.outputs[0].contents.fp64_contents) != [expected["prediction"]]:
                        wrong.append(answer)
                    answered[place] += 1

        threads = [threading.Thread(target=ask_on, args=(place,)) for place in range(4)]
        for one in threads:
            one.start()
        deadline, pause = time.monotonic() + 300, threading.Event()
        killed: set[str] = set()
        try:
            for _ in range(4):
                goal = [count + 30 for count in answered]
                told: set[str] = set()
                # The next one only when the place of the last one is taken.
                while len(told) < 2 or any(map(operator.lt, answered, goal)):
                    assert time.monotonic() < deadline
                    pause.wait(0.05)
                    detail = served.ask("GET", "/health")[1]["dependencies"]["workers"]["detail"]
                    told = set(detail) - killed
                victim = min(told)
                killed.add(victim)
                os.kill(int(victim), signal.SIGKILL)
        finally:
            done.set()
            for one in threads:
                one.join()
        assert wrong == []
        assert len(killed) == 4
        # One in flight, and perhaps one that reached the dying worker's socket before it closed.
        assert all(count <= 2 * len(killed) for count in lost)


@pytest.mark.long
def test_with_a_socket_no_port_is_opened_unless_it_is_asked_for(
    shell: Any, desk: Path, short: Path
) -> None:
    path = short / "socket"
    with subprocess.Popen(
        [ASSAY, "serve", "--json", "--unix", str(path), "--desk", str(desk)],
        env=os.environ | {"XDG_CONFIG_HOME": str(shell.home / "config")},
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            printed = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
            assert (printed["url"], printed["grpc"]) == (None, None)
            for sockets in Path(f"/proc/{process.pid}/net").glob("tcp*"):
                inodes = {Path(one).readlink().name for one in _descriptors(process.pid)}
                lines = [line.split() for line in sockets.read_text().splitlines()[1:]]
                assert not [one for one in lines if f"socket:[{one[9]}]" in inodes]
        finally:
            process.terminate()
            assert process.wait(20) == 0


def _descriptors(process: int) -> list[str]:
    return [str(one) for one in Path(f"/proc/{process}/fd").iterdir()]


def test_a_public_client_of_the_protocol_over_grpc_gets_its_numbers(shell: Any, desk: Path) -> None:
    pytest.importorskip("grpc", reason="pip install assay[grpc]")
    client_of = pytest.importorskip("tritonclient.grpc", reason="pip install tritonclient[grpc]")
    with serving(shell, desk, "--grpc-port", "0") as served:
        (model,) = served.printed["models"]
        names = model["schema"]["names"]
        _, values = gold(desk, "USD_SGD", names)
        headers = {"x-assay-manifest": model["manifest"]}
        expected = served.ask(
            "POST", "/inference/predict", {"features": values}, model["manifest"]
        )[1]["prediction"]
        client = client_of.InferenceServerClient(served.printed["grpc"])
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("fx_vol")
        assert client.get_server_metadata().name == "assay"
        (given,) = client.get_model_metadata("fx_vol").inputs
        assert list(given.shape) == [-1, len(names)]
        for datatype, kind in (("FP64", np.float64), ("FP32", np.float32)):
            tensor = client_of.InferInput("features", [3, len(names)], datatype)
            tensor.set_data_from_numpy(np.array([values] * 3, dtype=kind))
            result = client.infer(
                "fx_vol", [tensor], outputs=[client_of.InferRequestedOutput("prediction")],
                headers=headers, request_id="one", client_timeout=30,
                model_version=model["version"].removeprefix("v"),
            )  # fmt: skip
            assert result.as_numpy("prediction").tolist() == [expected] * 3
            assert result.get_response().id == "one"
        with pytest.raises(Exception, match="manifest"):
            client.infer("fx_vol", [tensor])
        client.close()


def test_the_clients_of_kserve_get_its_numbers(shell: Any, desk: Path) -> None:
    # They need packages of other versions than ours, so they have an environment of their own.
    python = Path(__file__).parents[2] / ".kserve" / "bin" / "python"
    if not python.exists():
        pytest.skip("python -m venv .kserve && .kserve/bin/pip install kserve")
    with serving(shell, desk, "--grpc-port", "0") as served:
        (model,) = served.printed["models"]
        _, values = gold(desk, "USD_SGD", model["schema"]["names"])
        expected = served.ask(
            "POST", "/inference/predict", {"features": values}, model["manifest"]
        )[1]["prediction"]
        done = subprocess.run(
            [python, Path(__file__).with_name("kserve_client.py"), served.printed["url"],
             served.printed["grpc"], "fx_vol", model["manifest"], json.dumps([values] * 2)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
    assert found["ready"] == [True] * 6
    assert found["answers"] == [["one", "fx_vol", [expected] * 2]] * 8
    assert "which feature manifest it follows" in found["refused"]


def test_inside_a_process_the_registry_and_the_kill_switch_are_followed_as_well(
    shell: Any, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay import bootstrap
    from assay.serving import AsyncPredictor, Rejected

    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
    with bootstrap.open_predictor(desk) as predictor:
        live = predictor.live.find("champion")
        known, values = gold(desk, "USD_SGD", live.schema.names)

        async def ask() -> float:
            async with AsyncPredictor(predictor) as face:
                made = await face.predict("USD_SGD", known, manifest=live.manifest)
                return made.value

        alone = predictor.predict_features(values, manifest=live.manifest)
        assert asyncio.run(ask()) == alone.value
        shell.json("models", "rollback", "fx_vol", "--reason", "a test", "--as", "ops.demo",
                   "--keep", "--desk", str(desk))  # fmt: skip
        until(lambda: predictor.live.find("champion").version != live.version, "it follows")
        (desk / "artifacts/KILL").write_text("prices are wrong")
        with pytest.raises(Rejected, match="prices are wrong"):
            asyncio.run(ask())
    events = [
        json.loads(line)["event"]
        for line in (desk / "artifacts/serving.jsonl").read_text().splitlines()
    ]
    assert events == ["started", "loaded", "loaded", "killed", "stopped"]
