"""TLS: what is answered over it, what a connection that does not agree costs, what is refused."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assay.domain.instants import render
from assay.errors import ConfigurationError
from assay.serving.server.http_server import HttpServer
from assay.serving.server.tls import read_certificate
from assay.testing.certificates import CertificateFiles, self_signed
from assay.testing.waiting import until

INFER = "/inference/predict"
BODY = json.dumps({"features": [1.0, 2.0, 3.0]})
HEADERS = {"content-type": "application/json", "x-assay-manifest": "a" * 64}


@pytest.fixture
def pair(tmp_path: Path) -> CertificateFiles:
    return self_signed(tmp_path / "tls")


@contextmanager
def serving(
    service: Any, pair: CertificateFiles, *beside: socket.socket, **options: Any
) -> Iterator[Served]:
    """The service over TLS, and on other sockets."""
    limits = options.pop("limits", {})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        begun = threading.Event()
        tls = read_certificate(pair.certificate, pair.key)
        server = HttpServer(service, started=begun.set, tls=tls, **options)
        for name, value in limits.items():
            setattr(server._gate, name, value)
        sockets = [listening, *beside]
        thread = threading.Thread(target=server.run, kwargs={"sockets": sockets})
        thread.start()
        try:
            assert begun.wait(30)
            yield Served(listening.getsockname()[1], server, trusting(pair))
        finally:
            server.should_exit = True
            thread.join()


def trusting(pair: CertificateFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=pair.certificate)


@dataclass
class Served:
    port: int
    server: HttpServer
    context: ssl.SSLContext

    def client(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=30)

    def plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def guarded(self) -> ssl.SSLSocket:
        return self.context.wrap_socket(self.plain(), server_hostname="127.0.0.1")

    def works(self) -> bool:
        with closing(self.client()) as client:
            client.request("POST", INFER, BODY, HEADERS)
            return client.getresponse().status == 200


def test_requests_are_answered_over_tls_as_without_it(stage: Any, pair: CertificateFiles) -> None:
    wanted = stage.ask("POST", INFER, BODY.encode()).json()
    with serving(stage.service, pair) as served, closing(served.client()) as client:
        for _ in range(3):  # over one connection
            client.request("POST", INFER, BODY, HEADERS)
            answer = client.getresponse()
            found = json.loads(answer.read())
            assert (answer.status, found["prediction"]) == (200, wanted["prediction"])
        client.request("GET", "/health/live")
        assert client.getresponse().read() == b'{"status":"ok"}'
        with served.guarded() as parts:  # the long way
            assert parts.version() in {"TLSv1.2", "TLSv1.3"}
            head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
            parts.sendall(f"POST {INFER} HTTP/1.1\r\nhost: a\r\n{head}".encode())
            parts.sendall(f"content-length: {len(BODY)}\r\n\r\n{BODY[:4]}".encode())
            parts.sendall(BODY[4:].encode())
            assert parts.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_request_right_behind_the_handshake_is_answered(
    stage: Any, pair: CertificateFiles
) -> None:
    request = b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    with serving(stage.service, pair) as served:
        for _ in range(20):
            # One piece: the end of the handshake and the request.
            coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
            mine = served.context.wrap_bio(coming, going, server_hostname="127.0.0.1")
            with served.plain() as line:
                while True:
                    try:
                        mine.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        line.sendall(going.read())
                        coming.write(line.recv(65_536))
                mine.write(request)
                line.sendall(going.read())
                answer = b""
                while b"ok" not in answer:
                    try:
                        answer += mine.read(65_536)
                    except ssl.SSLWantReadError:
                        coming.write(line.recv(65_536))
                assert answer.startswith(b"HTTP/1.1 200 ")


def test_who_speaks_no_tls_gets_nothing_and_the_others_go_on(
    stage: Any, pair: CertificateFiles
) -> None:
    with serving(stage.service, pair) as served:
        for sent in (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"\0" * 5_000, b"\x16\x03\x01"):
            with served.plain() as other:
                other.sendall(sent)
                if sent != b"\x16\x03\x01":
                    assert b"HTTP/" not in b"".join(iter(lambda: other.recv(65_536), b""))
        strangers = ssl.create_default_context()  # trust nobody of ours
        with served.plain() as line, pytest.raises(ssl.SSLError):
            strangers.wrap_socket(line, server_hostname="127.0.0.1")
        assert served.works()
        until(lambda: not served.server._door._agreeing, "nobody is agreeing any more")


def test_who_does_not_agree_holds_a_place_as_long_as_it_is_there(
    staged: Any, pair: CertificateFiles
) -> None:
    stage = staged(connections=3)
    with serving(stage.service, pair) as served, ExitStack() as stack:
        silent = [stack.enter_context(served.plain()) for _ in range(3)]
        until(lambda: len(served.server._door._agreeing) == 3)
        with served.plain() as surplus:
            assert surplus.recv(65_536) == b""  # closed before anything is spent on it
        silent[0].close()
        until(lambda: len(served.server._door._agreeing) == 2)
        assert served.works()


def test_who_does_not_agree_in_time_is_let_go(stage: Any, pair: CertificateFiles) -> None:
    with serving(stage.service, pair, limits={"part_seconds": 0.2}) as served:
        with served.plain() as silent:
            assert silent.recv(65_536) == b""
        until(lambda: not served.server._door._agreeing)


def test_connections_over_tls_are_as_bounded_as_plain_ones(
    staged: Any, pair: CertificateFiles
) -> None:
    stage = staged(connections=2)
    with serving(stage.service, pair) as served, ExitStack() as stack:
        taken = [stack.enter_context(served.guarded()) for _ in range(2)]
        until(lambda: len(served.server.server_state.connections) == 2)
        with served.plain() as surplus:
            assert surplus.recv(65_536) == b""
        taken[0].close()
        until(lambda: len(served.server.server_state.connections) == 1)
        assert served.works()


@pytest.mark.long
def test_a_client_over_tls_that_takes_no_answers_is_cut_off(
    stage: Any, pair: CertificateFiles
) -> None:
    limits = {"answer_seconds": 0.3}
    with serving(stage.service, pair, limits=limits) as served, served.guarded() as deaf:
        deaf.settimeout(0.2)
        try:
            for _ in range(20_000):
                deaf.sendall(b"GET /docs HTTP/1.1\r\nhost: a\r\n\r\n")
        except OSError:
            pass  # nothing is read from it any more, or it is closed already
        assert served.works()
        until(lambda: not served.server.server_state.connections, "it is cut off")


def test_a_socket_in_the_file_system_needs_no_tls(
    stage: Any, pair: CertificateFiles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("s") / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as beside:
        beside.bind(str(path))
        beside.listen()
        with (
            serving(stage.service, pair, beside) as served,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
        ):
            client.settimeout(30)
            client.connect(str(path))
            client.sendall(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
            assert served.works()


def test_a_server_over_tls_stops_though_clients_are_connected_or_agreeing(
    stage: Any, pair: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.serving.server.tls._FAREWELL_SECONDS", 0.1)
    with ExitStack() as stack:
        with serving(stage.service, pair) as served:
            idle = stack.enter_context(served.guarded())
            stack.enter_context(served.plain())
            until(lambda: len(served.server._door._agreeing) == 1)
            until(lambda: len(served.server.server_state.connections) == 1)
        assert idle.recv(65_536) == b""
        with pytest.raises(OSError, match="refused"):
            served.plain()


def test_calls_over_grpc_are_guarded_by_the_same_certificate(
    stage: Any, pair: CertificateFiles
) -> None:
    grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")
    from assay.serving.grpc.messages import MESSAGES, SERVICE

    asked = MESSAGES["ModelInferRequest"](
        model_name="fx_vol",
        inputs=[{"name": "features", "datatype": "FP64", "shape": [1, 3]}],
        raw_input_contents=[struct.pack("<3d", 1.0, 2.0, 3.0)],
    ).SerializeToString()
    options = [("grpc.use_local_subchannel_pool", 1)]
    with serving(stage.service, pair, grpc="127.0.0.1:0") as served:
        address = f"127.0.0.1:{served.server._beside.port}"
        trusted = grpc.ssl_channel_credentials(pair.certificate.read_bytes())
        with grpc.secure_channel(address, trusted, options) as channel:
            answer = channel.unary_unary(f"/{SERVICE}/ModelInfer")(
                asked, metadata=[("x-assay-manifest", "a" * 64)], timeout=30
            )
            made = MESSAGES["ModelInferResponse"].FromString(answer)
            assert struct.unpack("<d", made.raw_output_contents[0]) == (321.0,)
        with grpc.insecure_channel(address, options) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=30)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert served.works()


# -- certificates that cannot be used -------------------------------------------------------------


def refusal(certificate: Path, key: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read_certificate(certificate, key)
    return f"{refused.value.message} {refused.value.hint or ''}"


def test_a_file_that_is_missing_or_holds_something_else_is_named(pair: CertificateFiles) -> None:
    missing = pair.key.with_name("missing")
    assert f"serving.tls_certificate: {missing} cannot be read: No such" in refusal(
        missing, pair.key
    )
    assert f"serving.tls_key: {missing} cannot be read" in refusal(pair.certificate, missing)
    folder = pair.key.parent
    assert f"serving.tls_key: {folder} cannot be read: Is a dir" in refusal(
        pair.certificate, folder
    )
    assert "server.key holds no certificate in PEM" in refusal(pair.key, pair.key)
    assert "server.pem holds no private key in PEM" in refusal(pair.certificate, pair.certificate)
    empty = folder / "empty"
    empty.touch(0o600)
    assert "empty holds no certificate" in refusal(empty, pair.key)
    assert "empty holds no private key" in refusal(pair.certificate, empty)
    damaged = folder / "damaged"
    damaged.write_bytes(pair.certificate.read_bytes().replace(b"MII", b"AAA"))
    assert "damaged holds no certificate" in refusal(damaged, pair.key)


def test_a_key_of_another_certificate_or_with_a_password_is_refused(
    pair: CertificateFiles, tmp_path: Path
) -> None:
    other = self_signed(tmp_path / "other")
    assert f"{other.key} is not the key of {pair.certificate}" in refusal(
        pair.certificate, other.key
    )
    sealed = self_signed(tmp_path / "sealed", password=b"secret")
    assert "expected a key without a password" in refusal(sealed.certificate, sealed.key)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660])
def test_a_key_that_others_can_read_or_change_is_refused(pair: CertificateFiles, mode: int) -> None:
    pair.key.chmod(mode)
    words = refusal(pair.certificate, pair.key)
    assert f"has mode {mode:04o}" in words
    assert f"chmod 640 {pair.key}" in words


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_key_of_its_owner_and_group_is_taken(pair: CertificateFiles, mode: int) -> None:
    pair.key.chmod(mode)
    found = read_certificate(pair.certificate, pair.key)
    assert found.chain == pair.certificate.read_bytes()


def test_a_chain_is_sent_whole(pair: CertificateFiles, tmp_path: Path) -> None:
    behind = self_signed(tmp_path / "other").certificate.read_bytes()
    chain = pair.certificate.with_name("chain.pem")
    chain.write_bytes(pair.certificate.read_bytes() + behind)
    assert read_certificate(chain, pair.key).chain.count(b"BEGIN CERTIFICATE") == 2
    swapped = pair.certificate.with_name("swapped.pem")
    swapped.write_bytes(behind + pair.certificate.read_bytes())
    assert "must be the server's own" in refusal(swapped, pair.key)


def test_a_certificate_says_when_it_holds(pair: CertificateFiles) -> None:
    found = read_certificate(pair.certificate, pair.key)
    assert (render(found.begins)[:10], render(found.ends)[:10]) == ("2020-01-01", "2119-12-08")
