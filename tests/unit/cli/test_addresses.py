"""Where a service is asked: what is opened, what is refused, what two services must not share."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from assay.cli.addresses import Wanted, listen_at
from assay.errors import Unavailable

HOST = "127.0.0.1"


def number(address: str | None) -> int:
    assert address is not None
    return int(address.rpartition(":")[2])


def test_a_port_and_a_socket_are_listened_on_when_they_are_told(tmp_path: Path) -> None:
    with listen_at(Wanted(HOST, 0, tmp_path / "s")) as found:
        assert found.grpc is None
        socket.create_connection((HOST, number(found.url)), timeout=10).close()
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()
    assert all(one.fileno() == -1 for one in found.sockets)
    with listen_at(Wanted(HOST, None, tmp_path / "s")) as found:
        assert (found.url, len(found.sockets)) == (None, 1)


def test_two_services_never_share_a_port() -> None:
    pytest.importorskip("grpc", reason="pip install assay[grpc]")
    with listen_at(Wanted(HOST, 0, grpc_port=0)) as found:
        port, calls = number(found.url), number(found.grpc)
        assert port != calls
        for wanted, words in (
            (Wanted(HOST, port), "--port 0 takes"),
            (Wanted(HOST, calls), "--port 0 takes"),
            (Wanted(HOST, 0, grpc_port=calls), "--grpc-port 0 takes"),
            (Wanted(HOST, 0, grpc_port=port), "--grpc-port 0 takes"),
        ):
            with pytest.raises(Unavailable, match="cannot listen on") as refused:
                listen_at(wanted).__enter__()
            assert words in str(refused.value.hint)
        # As each process of the service does.
        with socket.socket() as beside:
            beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            beside.bind((HOST, calls))
    with listen_at(Wanted(HOST, port, grpc_port=calls)):
        pass  # both are free again


def test_calls_over_grpc_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.cli.addresses.find_spec", lambda _: None)
    with pytest.raises(Unavailable, match="grpcio") as refused:
        listen_at(Wanted(HOST, 0, grpc_port=0)).__enter__()
    assert "assay[grpc]" in str(refused.value.hint)
