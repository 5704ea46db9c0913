"""The registry's connection over TLS, to a real server with a certificate."""

import datetime as dt
import ipaddress
import os
import socket
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

pytest.importorskip("psycopg", reason="pip install 'assay[postgres]'")

from assay.adapters.postgres import PostgresAddress, PostgresLedger
from assay.adapters.postgres.connection import connect
from assay.errors import ConfigurationError
from assay.testing.ledger import Chain, contents, let_happen

_NOBODY = 65_534


def certify(name, issuer=None, *, host=None):
    """A key and a certificate: of its own authority, or for a host by one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, by = (key, subject) if issuer is None else (issuer[0], issuer[1].subject)
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if host is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        made = made.add_extension(names, critical=False)
    return key, made.sign(signer, hashes.SHA256())


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders of the server, which its user must be able to enter, and of the client."""
    server = Path(tempfile.mkdtemp(prefix="assay-tls-"))
    server.chmod(0o755)
    client = tmp_path_factory.mktemp("client")
    authority = certify("an authority")
    key, certificate = certify("the server", authority, host="127.0.0.1")
    (server / "server.crt").write_bytes(pem(certificate))
    secret = server / "server.key"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    secret.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(secret, _NOBODY, _NOBODY)
    (client / "right.crt").write_bytes(pem(authority[1]))
    (client / "wrong.crt").write_bytes(pem(certify("another authority")[1]))
    yield server, client
    for path in server.iterdir():
        path.unlink()
    server.rmdir()


@pytest.fixture
def served(places, start_postgres):
    folder, client = places
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start_postgres(
        "-c", "ssl=on", "-c", f"ssl_cert_file={folder / 'server.crt'}",
        "-c", f"ssl_key_file={folder / 'server.key'}", port=port,
    )  # fmt: skip

    def url(mode, authority, host="127.0.0.1"):
        return (
            server.url().replace("127.0.0.1", host)
            + f"&sslmode={mode}&sslrootcert={client / authority}.crt"
        )

    return url


def test_a_registry_lives_over_tls_with_a_server_that_proves_who_it_is(served):
    url = served("verify-full", "right")
    ledger = PostgresLedger(url)
    let_happen(ledger, *Chain().life())
    assert len(contents(ledger)[0]) == 13
    with connect(PostgresAddress.parse(url)) as connection:
        row = connection.execute(
            "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone()
    assert row[0] is True
    assert row[1].startswith("TLSv1.")
    ledger.close()


@pytest.mark.parametrize(
    ("authority", "host"), [("wrong", "127.0.0.1"), ("right", "localhost")],
    ids=["signed by another", "for another host"],
)  # fmt: skip
def test_a_server_that_cannot_prove_it_is_refused_in_words(served, authority, host):
    with pytest.raises(ConfigurationError, match="not trusted over TLS") as caught:
        PostgresLedger(served("verify-full", authority, host)).head()
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
    assert "sslrootcert" in caught.value.hint


def test_a_server_without_tls_is_not_spoken_to_in_the_open(start_postgres):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = start_postgres(port=port).url() + "&sslmode=require"
    with pytest.raises(ConfigurationError, match="not trusted over TLS"):
        PostgresLedger(url).head()
