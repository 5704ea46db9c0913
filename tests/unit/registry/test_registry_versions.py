import json
import stat
import subprocess
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from assay.domain.versions import InputSchema, Stage
from assay.errors import Conflict, ContractViolation, NotFound, Unavailable
from assay.registry import ModelRegistry
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, linear_onnx, make_candidate, make_registry

T0 = 1_700_000_000_000_000_000


@pytest.fixture
def clock():
    return FixedClock(T0)


@pytest.fixture
def registry(tmp_path, clock):
    return make_registry(tmp_path, clock)


def with_file(candidate, name, data):
    return replace(candidate, files={**candidate.files, name: data})


def test_a_registered_version_can_be_read_back_whole(registry):
    candidate = make_candidate()
    made = registry.register(candidate)
    opened = registry.open_version("fx_vol", "1.0.0")
    assert made.created
    assert made.stage is Stage.STAGED
    assert opened.digest == made.digest
    assert opened.metadata == candidate.metadata
    assert opened.schema == candidate.schema
    assert opened.signed_by == AUTHOR
    assert opened.onnx == candidate.files["model.onnx"]
    assert {name: opened.files[name] for name in candidate.files} == dict(candidate.files)


def test_the_folder_is_what_sha256sum_says_it_is(registry):
    registry.register(make_candidate())
    folder = registry.root / "artifacts" / "fx_vol" / "1.0.0"
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "checksum.sha256"], cwd=folder, check=True, text=True,
        capture_output=True,
    )  # fmt: skip
    checked = {line.split(":")[0] for line in done.stdout.splitlines()}
    present = {path.name for path in folder.iterdir()}
    assert checked == present - {"checksum.sha256", "signature"}


def test_the_files_are_read_only_and_nothing_else_is_left(registry):
    registry.register(make_candidate())
    folder = registry.root / "artifacts" / "fx_vol"
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder / "1.0.0").iterdir()}
    assert modes == {0o444}


def test_the_same_content_is_the_same_version(registry, clock):
    first = registry.register(make_candidate())
    events = len(registry.history("fx_vol"))
    clock.advance(10**9)
    later = make_candidate(version="1.1.0", created_at=T0 + 5)
    again = registry.register(with_file(later, "bench.json", b'{"p50_ms":0.02}'))
    assert (again.version, again.digest, again.created) == ("1.0.0", first.digest, False)
    assert len(registry.history("fx_vol")) == events
    assert [item.version for item in registry.list()] == ["1.0.0"]


def test_other_content_under_a_taken_number_is_a_conflict(registry):
    registry.register(make_candidate())
    with pytest.raises(Conflict, match=r"next free version is 1\.1\.0"):
        registry.register(make_candidate(weights=(1, 2)))
    assert registry.open_version("fx_vol", "1.0.0").onnx == make_candidate().files["model.onnx"]


def test_the_same_model_under_two_names_is_two_versions(registry):
    assert registry.register(make_candidate("one")).created
    assert registry.register(make_candidate("two")).created


def test_next_versions_follow_numbers_not_text(registry):
    assert str(registry.next_version("fx_vol")) == "1.0.0"
    for index, version in enumerate(["1.9.0", "1.10.0", "1.10.3"]):
        registry.register(make_candidate(version=version, weights=(index, 1)))
    assert str(registry.next_version("fx_vol")) == "1.11.0"
    assert str(registry.next_version("fx_vol", "patch")) == "1.10.4"
    assert str(registry.next_version("fx_vol", "major")) == "2.0.0"
    assert [item.version for item in registry.list("fx_vol")] == ["1.9.0", "1.10.0", "1.10.3"]


def test_a_signer_without_a_key_registers_nothing(registry):
    with pytest.raises(Unavailable, match="nobody has no key"):
        registry.register(make_candidate(), signer="nobody")
    assert registry.list() == ()
    assert registry.verify_log().ok


@pytest.mark.parametrize("missing", ["model.onnx", "parity.json", "bench.json", "CHANGES.md"])
def test_a_candidate_without_a_needed_file_is_refused(registry, missing):
    candidate = make_candidate()
    files = {name: data for name, data in candidate.files.items() if name != missing}
    with pytest.raises(ContractViolation, match=missing):
        registry.register(replace(candidate, files=files))


@pytest.mark.parametrize(
    "name", ["model.pkl", "../evil", "a/b", "signature", "metadata.json", "manifest.json", ".x", ""]
)
def test_a_candidate_with_a_foreign_file_is_refused(registry, name):
    with pytest.raises(ContractViolation, match="not allowed"):
        registry.register(with_file(make_candidate(), name, b"{}"))


@pytest.mark.parametrize("name", ["parity.json", "bench.json", "golden.json"])
@pytest.mark.parametrize("data", [b"", b"[]", b"nope", b"\xff"])
def test_documents_must_be_json_objects(registry, name, data):
    with pytest.raises(ContractViolation, match=name):
        registry.register(with_file(make_candidate(), name, data))


def external_data(place):
    model = onnx.load_model_from_string(linear_onnx((1, 2)))
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "outside")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "attribute":
        node = onnx.helper.make_node("Constant", [], ["unused"])
        attribute = node.attribute.add()
        attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
        attribute.t.CopyFrom(tensor)
        model.graph.node.append(node)
    else:
        inner = onnx.GraphProto(name="inner")
        inner.initializer.append(tensor)
        node = onnx.helper.make_node("If", ["c"], ["unused"])
        attribute = node.attribute.add()
        attribute.name, attribute.type = "then_branch", onnx.AttributeProto.GRAPH
        attribute.g.CopyFrom(inner)
        model.graph.node.append(node)
    return model.SerializeToString()


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_an_onnx_model_that_reads_other_files_is_refused(registry, place):
    with pytest.raises(ContractViolation, match="in another file"):
        registry.register(with_file(make_candidate(), "model.onnx", external_data(place)))


@pytest.mark.parametrize("data", [b"", b"nope", linear_onnx((1, 2))[:-9]])
def test_something_else_than_onnx_is_refused(registry, data):
    with pytest.raises(ContractViolation, match="not a valid ONNX"):
        registry.register(with_file(make_candidate(), "model.onnx", data))


def test_a_model_of_another_width_or_type_is_refused(registry):
    candidate = make_candidate()
    with pytest.raises(ContractViolation, match="schema has 3 columns"):
        registry.register(replace(candidate, schema=InputSchema.of(["a", "b", "c"])))
    with pytest.raises(ContractViolation, match="schema says float64"):
        registry.register(replace(candidate, schema=InputSchema.of(["a", "b"], "float64")))


def test_references_mean_one_version(registry):
    registry.register(make_candidate())
    assert registry.resolve("fx_vol/1.0.0").version == "1.0.0"
    assert registry.resolve("fx_vol/v1.0.0").version == "1.0.0"
    with pytest.raises(NotFound, match="no version of fx_vol is in production"):
        registry.resolve("fx_vol")
    with pytest.raises(NotFound, match="no version of fx_vol is in production"):
        registry.resolve("fx_vol@champion")
    with pytest.raises(NotFound, match="did you mean 'fx_vol'"):
        registry.resolve("fx_vo")
    with pytest.raises(NotFound, match="no alias ''"):
        registry.resolve("fx_vol@")
    with pytest.raises(NotFound, match="no alias 'best'"):
        registry.resolve("fx_vol@best")
    with pytest.raises(NotFound, match=r"did you mean '1\.0\.0'"):
        registry.resolve("fx_vol/1.0.1")
    with pytest.raises(ContractViolation, match=r"expected major\.minor\.patch"):
        registry.resolve("fx_vol/../../x")


def test_an_empty_registry_answers(registry):
    assert registry.list() == ()
    assert registry.current("fx_vol") is None
    assert registry.live_at("fx_vol", T0).version is None
    assert registry.history("fx_vol") == ()
    assert registry.verify_log().ok
    with pytest.raises(NotFound, match="assay train RECIPE"):
        registry.get("fx_vol", "1.0.0")


def test_the_top_manifest_describes_every_version(registry):
    registry.register(make_candidate())
    registry.register(make_candidate("fx_direction"))
    document = json.loads((registry.root / "manifest.json").read_bytes())
    assert document["models"]["fx_vol"] == {
        "production": None,
        "versions": [
            {
                "version": "1.0.0",
                "kind": "risk_model",
                "stage": "staged",
                "digest": registry.get("fx_vol", "1.0.0").digest,
            }
        ],
    }
    assert set(document["models"]) == {"fx_vol", "fx_direction"}


def test_opening_again_changes_no_file(registry, tmp_path, clock):
    registry.register(make_candidate())
    before = {
        path: path.read_bytes()
        for path in registry.root.rglob("*")
        if path.is_file() and path.suffix not in {".db-shm", ".db-wal"}
    }
    again = ModelRegistry(registry.root, registry.keyring, clock, audit_path=registry._audit_path)
    assert again.get("fx_vol", "1.0.0") == registry.get("fx_vol", "1.0.0")
    assert all(path.read_bytes() == data for path, data in before.items())
