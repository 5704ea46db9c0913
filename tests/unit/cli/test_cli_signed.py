"""Signing and checking what is not the registry's own: configurations, and OpenSSF bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from assay import bootstrap
from assay.testing.versions import make_candidate


@pytest.fixture(scope="module")
def desk(shell: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("signed") / "desk"
    assert shell.run("init", str(folder), "--as", "quant").returncode == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
        bootstrap.open_desk(folder).registry.register(make_candidate(author="quant"))
    return folder


def test_a_configuration_is_signed_shown_and_its_drift_exits_1(shell: Any, desk: Path) -> None:
    where = ("--desk", str(desk))
    none = shell.json("config", "verify", *where, expect=1)
    assert none["hint"] == 'assay config sign --reason "..."'
    made = shell.json("config", "sign", "--reason", "as reviewed", "--as", "quant", *where)
    assert shell.json("config", "verify", *where)["ok"]
    shown = shell.json("config", "show", "fx_vol", "1.0.0", *where)
    assert shown["now"] == shown["version"] == made["digests"]
    with (desk / "configs/gates.yaml").open("a") as handle:
        handle.write("\nnew_key: 1\n")
    said = shell.run("config", "verify", *where)
    assert said.returncode == 1
    assert "~ configs/gates.yaml: new_key: signed - , found 1".replace(" ,", ",") in said.stdout


def test_a_bundle_is_written_and_checked_by_name(shell: Any, desk: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    version, where = ("fx_vol", "1.0.0"), ("--desk", str(desk))
    bundle = tmp_path / "model.sig"
    shell.json(
        "models", "openssf-sign", *version, "--key", str(private), "--out", str(bundle), *where
    )
    ask = ("models", "openssf-verify", *version, str(bundle), "--key", str(public), *where)
    assert shell.json(*ask)["ok"]
    bundle.write_bytes(bundle.read_bytes().replace(b'"sig":"', b'"sig":"AAAA', 1))
    assert "does not hold" in shell.json(*ask, expect=1)["error"]
