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


def test_a_service_is_exposed_where_other_machines_reach_it_over_http(tmp_path: Path) -> None:
    own = tmp_path / "s"
    for wanted, exposed in (
        (Wanted(HOST, 0), False),
        (Wanted("127.9.9.9", 0), False),
        (Wanted("localhost", 0), False),
        (Wanted(HOST, 0, own), False),
        (Wanted("0.0.0.0", None, own), False),
        (Wanted("0.0.0.0", 0), True),
        (Wanted("0.0.0.0", 0, own), True),
    ):
        with listen_at(wanted) as found:
            assert found.is_exposed is exposed, wanted


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_the_same_holds_for_addresses_of_ipv6() -> None:
    for host, exposed in (("::1", False), ("::", True)):
        try:
            with listen_at(Wanted(host, 0)) as found:
                assert found.is_exposed is exposed
        except Unavailable as error:
            pytest.skip(f"no IPv6 on this machine: {error.message}")
