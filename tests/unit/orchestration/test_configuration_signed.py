"""A signed configuration: what is signed, what drift is named, and what versions bind."""

import base64
import json
import shutil

import pytest
import yaml

from assay import bootstrap
from assay.delivery.promotion import break_glass, prepare_break_glass
from assay.domain.canonical import content_hash
from assay.errors import AssayError, ConfigurationError, Conflict, NotFound, Tampered, Unavailable
from assay.orchestration.configuration import (
    SIGNED,
    bound_configuration,
    sign_configuration,
    verify_configuration,
)
from assay.orchestration.configuration_files import (
    canonical_configuration,
    configuration_digests,
)
from assay.registry.keyring import PURPOSES
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate

T0 = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configuration")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        members = [
            bootstrap.Member("author", tuple(PURPOSES)),
            bootstrap.Member("clerk", ("version",)),
        ]
        bootstrap.create_desk(folder / "desk", name="desk", members=members)
    return folder


@pytest.fixture
def desk(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return bootstrap.open_desk(tmp_path / "desk", clock=FixedClock(T0))


def signed(desk):
    return sign_configuration(desk, signer="author", reason="as reviewed")


def test_what_is_signed_is_every_file_in_its_canonical_form(desk):
    digests = signed(desk)
    assert {"assay.yaml", "configs/gates.yaml", "configs/access.yaml"} <= set(digests)
    gates = yaml.safe_load((desk.layout.root / "configs/gates.yaml").read_text())
    assert digests["configs/gates.yaml"] == content_hash(gates)
    found = verify_configuration(desk)
    assert (found.ok, found.signed_by, found.reason) == (True, "author", "as reviewed")
    assert found.digests == digests == configuration_digests(desk.layout.root)


def test_comments_and_the_order_of_keys_are_no_drift(desk):
    signed(desk)
    path = desk.layout.root / "assay.yaml"
    document = yaml.safe_load(path.read_text())
    turned = dict(reversed(document.items()))
    path.write_text("# a comment\n" + yaml.safe_dump(turned, sort_keys=False))
    assert verify_configuration(desk).ok


def test_each_changed_key_is_named_with_what_was_signed(desk):
    root = desk.layout.root
    path = root / "configs/extra.yaml"
    path.write_text("limits: {largest: 3, smallest: 1}\nnames: [a, b]\n")
    signed(desk)
    path.write_text("limits: {largest: 4}\nnames: [a, b, c]\nnew: yes\n")
    (root / "configs/added.yaml").write_text("a: 1\n")
    drift = {
        (one.file, one.key): (one.signed, one.found) for one in verify_configuration(desk).drift
    }
    assert drift == {
        ("configs/added.yaml", ""): (None, "a file"),
        ("configs/extra.yaml", "limits.largest"): (3, 4),
        ("configs/extra.yaml", "limits.smallest"): (1, None),
        ("configs/extra.yaml", "names"): (["a", "b"], ["a", "b", "c"]),
        ("configs/extra.yaml", "new"): (None, True),
    }
    path.unlink()
    gone = [one for one in verify_configuration(desk).drift if one.file == "configs/extra.yaml"]
    assert [(one.signed, one.found) for one in gone] == [("a file", None)]


def test_a_file_that_is_no_yaml_is_signed_by_its_bytes(desk):
    path = desk.layout.root / "configs/broken.yaml"
    path.write_text("a: [")
    signed(desk)
    assert verify_configuration(desk).ok
    path.write_text("a: [1")
    (one,) = verify_configuration(desk).drift
    assert one.file == "configs/broken.yaml"


def test_a_password_in_an_address_is_nowhere_in_what_is_signed(desk):
    path = desk.layout.root / "configs/extra.yaml"
    path.write_text("url: postgresql://jane:hunter2@db.desk/assay\nport: 5432\n")
    signed(desk)
    forms = canonical_configuration(desk.layout.root)
    assert forms["configs/extra.yaml"]["url"] == "postgresql://jane:***@db.desk/assay"
    envelope = json.loads((desk.layout.root / SIGNED).read_bytes())
    assert b"hunter2" not in base64.b64decode(envelope["payload"])


def test_a_signature_that_does_not_hold_is_refused(desk):
    with pytest.raises(NotFound, match="no signed configuration"):
        verify_configuration(desk)
    signed(desk)
    path = desk.layout.root / SIGNED
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 40)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(AssayError) as caught:
            verify_configuration(desk)
        assert isinstance(caught.value, Tampered)
    with pytest.raises(ConfigurationError, match="needs a reason"):
        sign_configuration(desk, signer="author", reason=" ")
    with pytest.raises(Unavailable, match="may sign version, not configuration"):
        sign_configuration(desk, signer="clerk", reason="x")


def promote_past_the_gates(desk, registry, version, **options):
    return break_glass(
        registry, "fx_vol", version, initiated_by="author", reason="x", clock=desk.clock,
        monotonic=lambda: 0.0, **options,
    )  # fmt: skip


def test_registering_and_promoting_bind_the_configuration_of_their_moment(desk):
    registry = desk.open_registry()
    first = configuration_digests(desk.layout.root)
    registry.register(make_candidate(author="author"))
    assert bound_configuration(desk, "fx_vol", "1.0.0") == {"version": first}
    path = desk.layout.root / "configs/extra.yaml"
    path.write_text("a: 1\n")
    promote_past_the_gates(desk, registry, "1.0.0")
    bound = bound_configuration(desk, "fx_vol", "1.0.0")
    assert bound["version"] == first
    assert bound["promotion"] == first | {"configs/extra.yaml": content_hash({"a": 1})}
    registry.verify_promoted("fx_vol", "1.0.0")
    assert registry.verify_log().ok


def test_a_promotion_that_was_signed_under_another_configuration_is_a_conflict(desk):
    registry = desk.open_registry()
    registry.register(make_candidate(author="author"))
    claim = prepare_break_glass(registry, "fx_vol", "1.0.0", clock=desk.clock)
    envelope = desk.keyring.sign("author", claim.to_statement())
    (desk.layout.root / "configs/extra.yaml").write_text("a: 1\n")
    with pytest.raises(Conflict, match="configuration is another one"):
        promote_past_the_gates(desk, registry, "1.0.0", signed=envelope)
    (desk.layout.root / "configs/extra.yaml").unlink()
    promote_past_the_gates(desk, registry, "1.0.0", signed=envelope)
    assert registry.current("fx_vol").version == "1.0.0"
