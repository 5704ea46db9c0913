"""Bundles for the OpenSSF's tools: signed here, verified here and by the OpenSSF's own library."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from assay.errors import AssayError, ConfigurationError, Tampered
from assay.registry.openssf import sign_bundle, verify_bundle
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate, make_registry

CURVES = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())


def pems(key, encryption=None):
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private, public


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    registry = make_registry(tmp_path_factory.mktemp("openssf"), FixedClock(10**18))
    registry.register(make_candidate(padding=b"tree\n"))
    return registry.root / "artifacts/fx_vol/1.0.0", registry.open_version("fx_vol", "1.0.0").files


@pytest.fixture(scope="module")
def signed(version):
    private, public = pems(ec.generate_private_key(ec.SECP256R1()))
    return sign_bundle("1.0.0", version[1], private), public


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_what_was_signed_verifies_with_the_public_half_alone(version, curve):
    private, public = pems(ec.generate_private_key(curve))
    bundle = sign_bundle("1.0.0", version[1], private)
    assert verify_bundle(bundle, version[1], public) == "1.0.0"
    _, other = pems(ec.generate_private_key(curve))
    with pytest.raises(Tampered, match="another key"):
        verify_bundle(bundle, version[1], other)


def test_a_file_that_is_changed_missing_or_added_is_named(version, signed):
    files = version[1]
    for file in files:
        changed = {**files, file: files[file] + b" "}
        with pytest.raises(Tampered, match=rf"^{file} has SHA-256"):
            verify_bundle(signed[0], changed, signed[1])
        missing = {name: data for name, data in files.items() if name != file}
        with pytest.raises(Tampered, match=rf"^{file} was signed and is missing"):
            verify_bundle(signed[0], missing, signed[1])
    with pytest.raises(Tampered, match=r"^extra was not signed"):
        verify_bundle(signed[0], {**files, "extra": b""}, signed[1])


def test_a_changed_bundle_is_refused(version, signed):
    bundle, public = signed
    document = json.loads(bundle)
    body = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    body["predicate"]["resources"][0]["digest"] = "0" * 64
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(body).encode()).decode()
    with pytest.raises(Tampered, match="signature does not hold"):
        verify_bundle(json.dumps(document).encode(), version[1], public)
    for place in range(0, len(bundle), 7):
        changed = bundle[:place] + bytes([bundle[place] ^ 2]) + bundle[place + 1 :]
        try:
            verify_bundle(changed, version[1], public)
        except AssayError as error:
            assert isinstance(error, Tampered)  # noqa: PT017
        else:
            # What nothing reads: a field with another name, or the list of transparency logs.
            same = json.loads(changed)
            assert same["dsseEnvelope"]["payload"] == json.loads(bundle)["dsseEnvelope"]["payload"]


def test_a_key_of_another_kind_or_with_a_password_is_refused_in_words(version):
    private, public = pems(ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(ConfigurationError, match="P-256, P-384 or P-521") as caught:
        sign_bundle("x", version[1], private)
    assert "openssl ecparam" in caught.value.hint
    with pytest.raises(ConfigurationError, match="P-256, P-384 or P-521"):
        verify_bundle(b"{}", version[1], public)
    private, _ = pems(ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(ConfigurationError, match="P-256, P-384 or P-521"):
        sign_bundle("x", version[1], private)
    private, _ = pems(ec.generate_private_key(CURVES[0]), BestAvailableEncryption(b"x"))
    with pytest.raises(ConfigurationError, match="password"):
        sign_bundle("x", version[1], private)
    with pytest.raises(ConfigurationError, match="no PEM"):
        sign_bundle("x", version[1], b"nothing")


# -- the library of the OpenSSF -------------------------------------------------------------------


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("OpenSSL", reason="pip install model-signing pyOpenSSL")
    return pytest.importorskip("model_signing", reason="pip install model-signing pyOpenSSL")


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_the_library_of_the_openssf_verifies_our_bundle(version, library, tmp_path, curve):
    folder, files = version
    private, public = pems(ec.generate_private_key(curve))
    (tmp_path / "model.sig").write_bytes(sign_bundle(folder.name, files, private))
    (tmp_path / "public.pem").write_bytes(public)

    def verify(where):
        checker = library.verifying.Config()
        checker = checker.use_elliptic_key_verifier(public_key=tmp_path / "public.pem")
        checker.verify(where, tmp_path / "model.sig")

    verify(folder)
    copied = tmp_path / "copied"
    copied.mkdir()
    for file, data in files.items():
        (copied / file).write_bytes(data + (b" " if file == "CHANGES.md" else b""))
    with pytest.raises(ValueError, match=r"CHANGES\.md"):
        verify(copied)


def test_a_bundle_of_the_library_verifies_here(version, library, tmp_path):
    folder, files = version
    private, public = pems(ec.generate_private_key(CURVES[0]))
    (tmp_path / "private.pem").write_bytes(private)
    signer = library.signing.Config()
    signer = signer.use_elliptic_key_signer(private_key=tmp_path / "private.pem")
    signer.sign(folder, tmp_path / "model.sig")
    assert verify_bundle((tmp_path / "model.sig").read_bytes(), files, public) == folder.name
