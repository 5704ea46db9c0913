"""Versions that are no models: files of known kinds; pickles only by policy, after a look."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import io
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assay.delivery.activation import activate
from assay.errors import ContractViolation, IncompatibleVersion, Tampered
from assay.registry import Candidate, ModelMetadata, ModelRegistry
from assay.registry.formats import check_files
from assay.registry.pickles import check_pickle, imports_of
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, linear_onnx, make_registry


def parquet() -> bytes:
    made = io.BytesIO()
    pl.DataFrame({"a": [1.0, 2.0]}).write_parquet(made)
    return made.getvalue()


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=pickled)
    return made.getvalue()


GOOD = {
    "factors.json": b'{"momentum": {"days": 20}}',
    "factors.yaml": b"momentum:\n  days: 20\n",
    "two.yml": b"a: 1\n---\nb: 2\n",
    "weights.csv": b"instrument,weight\nUSD,0.5\n",
    "weights.parquet": parquet(),
    "weights.npy": npy(np.arange(6.0).reshape(2, 3)),
    "notes.txt": "café\n".encode(),
    "README.md": b"# Factors\n",
    "scaler.onnx": linear_onnx([0.5, 1.5]),
}


@pytest.mark.parametrize("name", GOOD)
def test_files_of_known_kinds_are_taken_and_nothing_else_under_their_names(name: str) -> None:
    check_files({name: GOOD[name]})
    damaged = {
        "cut": GOOD[name][: len(GOOD[name]) // 2],
        "binary": b"\xff\xfe\x00\x01" * 20,
        "empty": b"",
    }
    readable = {"notes.txt", "README.md"}
    for how, data in damaged.items():
        if how != "binary" and (name in readable or name.endswith((".yaml", ".yml"))):
            continue  # half a text is a text, and so is none
        if how == "cut" and name == "weights.csv":
            continue
        with pytest.raises(ContractViolation, match=name.replace(".", r"\.")):
            check_files({name: data})


@pytest.mark.parametrize(
    "name",
    ["weights", "run.sh", "a.exe", "model.pt", "x.zip", "../a.json", ".json", "a b.json", ""],
)
def test_other_kinds_and_names_are_refused(name: str) -> None:
    with pytest.raises(ContractViolation):
        check_files({name: b"{}"})


def test_an_array_of_objects_is_a_pickle_in_disguise() -> None:
    data = npy(np.array([{"a": 1}], dtype=object), pickled=True)
    with pytest.raises(ContractViolation, match=r"weights\.npy"):
        check_files({"weights.npy": data}, pickles=True)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, ("echo evil",)


HARMLESS = {
    "numbers": {"a": [1, 2.5, None, True], "b": (1j, b"x", {3})},
    "array": np.arange(12.0).reshape(3, 4),
    "scalar": np.float64(2.5),
    "ordered": collections.OrderedDict(a=np.ones(2, dtype="float32")),
    "dates": [dt.date(2026, 1, 15), dt.datetime(2026, 1, 15), decimal.Decimal("1.5")],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("what", HARMLESS)
def test_pickles_of_numbers_and_arrays_pass_the_look(what: str, protocol: int) -> None:
    check_pickle("weights.pkl", pickle.dumps(HARMLESS[what], protocol=protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_something_is_refused_by_what_it_would_import(protocol: int) -> None:
    data = pickle.dumps({"weights": [1.0], "more": Evil()}, protocol=protocol)
    with pytest.raises(ContractViolation, match=r"posix\.system|nt\.system"):
        check_pickle("weights.pkl", data)
    with pytest.raises(ContractViolation, match="is a pickle"):
        check_files({"weights.pkl": data})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"cos\nsystem\n(S'x'\ntR.", r"os\.system"),
        (b"(S'x'\nios\nsystem\n.", r"os\.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.", r"os\.system"),
        # The name of what is imported comes from the memo, from a copy, or is computed.
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.", r"os\.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system2\x93.", "computes the name"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x01x0\x93.", "computes the name"),
        (b"\x80\x02\x82\x01.", "kept elsewhere"),
        (b"Pabc\n.", "kept elsewhere"),
        (b"\x80\x04N.extra", "stand behind its end"),
        (b"\x80\x04\x8c\x02os", "no whole pickle"),
        (b"", "no whole pickle"),
        (b"cbuiltins\neval\n.", r"builtins\.eval"),
        (b"cnumpy\nload\n.", r"numpy\.load"),
        (b"csklearn.externals.x\nThing\n.", r"sklearn\.externals"),
        (b"csklearn.utils\nshuffle\n.", r"sklearn\.utils\.shuffle"),
        (b"csklearn.base\nos.system\n.", r"sklearn\.base"),
    ],
)
def test_hand_made_pickles_are_followed_or_refused(data: bytes, said: str) -> None:
    with pytest.raises(ContractViolation, match=said):
        check_pickle("weights.pkl", data)


def test_estimators_of_scikit_learn_may_be_named() -> None:
    data = b"\x80\x04\x8c\x14sklearn.linear_model\x8c\x05Ridge\x93."
    assert imports_of(data) == {("sklearn.linear_model", "Ridge")}
    check_pickle("model.pkl", data)


def candidate(version: str = "1.0.0", *, pickles: bool = False, **files: bytes) -> Candidate:
    metadata = ModelMetadata(
        name="factors", version=version, kind="factor_definitions", created_at=0, author=AUTHOR
    )
    named = {name.replace("__", "."): data for name, data in files.items()}
    return Candidate(metadata, None, {"CHANGES.md": b"First.\n", **named}, pickles)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return make_registry(tmp_path, FixedClock(10**18))


def test_definitions_live_and_are_verified_like_models_and_predict_nothing(
    registry: ModelRegistry,
) -> None:
    made = registry.register(candidate(factors__json=GOOD["factors.json"]))
    assert made.created
    assert not registry.register(candidate("2.0.0", factors__json=GOOD["factors.json"])).created
    opened = registry.open_version("factors", "1.0.0")
    assert opened.contents == ("CHANGES.md", "factors.json")
    assert opened.files["factors.json"] == GOOD["factors.json"]
    assert not opened.is_model
    assert not registry.is_model(registry.get("factors", "1.0.0"))
    for ask in (lambda: opened.schema, lambda: opened.onnx):
        with pytest.raises(IncompatibleVersion, match="is no model and predicts nothing"):
            ask()
    ready = activate(registry, "factors", "1.0.0", monotonic=lambda: 0.0)
    with pytest.raises(IncompatibleVersion, match="predicts nothing"):
        _ = ready.loaded
    assert registry.show("factors", "1.0.0")["schema"] is None
    assert registry.verify_log().ok
    path = registry.root / "artifacts/factors/1.0.0/factors.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"20", b"21"))
    with pytest.raises(Tampered, match=r"factors\.json"):
        registry.open_version("factors", "1.0.0")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "at least one other"),
        ({"model__onnx": b"x"}, "needs the schema of its input"),
        ({"manifest__json": b"{}"}, "are written by the registry"),
        ({"sidecar__json": b"{}", "a__json": b"{}"}, "are written by the registry"),
        ({"a__json": b"{"}, r"a\.json cannot be read"),
        ({"a__pkl": pickle.dumps([1])}, "is a pickle"),
    ],
)
def test_what_is_no_definition_is_not_registered(
    registry: ModelRegistry, files: dict[str, bytes], said: str
) -> None:
    with pytest.raises(ContractViolation, match=said):
        registry.register(candidate(**files))
    assert registry.list() == ()


def test_a_pickle_is_registered_only_where_the_policy_takes_it(registry: ModelRegistry) -> None:
    weights = pickle.dumps(np.arange(3.0))
    with pytest.raises(ContractViolation, match="is a pickle") as refused:
        registry.register(candidate(weights__pkl=weights))
    assert "registry.pickles: scanned" in str(refused.value.hint)
    assert registry.register(candidate(weights__pkl=weights, pickles=True)).created
    with pytest.raises(ContractViolation, match="would import"):
        registry.register(candidate("2.0.0", a__pkl=pickle.dumps(Evil()), pickles=True))
