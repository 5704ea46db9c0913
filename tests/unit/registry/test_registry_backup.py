"""A backup holds the whole registry, adds only what is new, and is believed in nothing."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from assay.errors import AssayError, Conflict, NotFound, Tampered
from assay.registry import ModelRegistry
from assay.registry.backup import BackupStore, drill
from assay.registry.collection import bring_back, collect
from assay.registry.retention import Retention
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    break_glass,
    make_candidate,
    make_keys,
    make_registry,
    pass_gates,
)

T0 = 1_700_000_000_000_000_000
SECOND = 10**9


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(T0)


@pytest.fixture
def registry(tmp_path: Path, clock: FixedClock) -> ModelRegistry:
    made = make_registry(tmp_path, clock)
    for minor in range(3):
        clock.advance(SECOND)
        made.register(make_candidate(version=f"1.{minor}.0", bias=float(minor)))
        break_glass(made, "fx_vol", f"1.{minor}.0")
    made.register(make_candidate("other", "1.0.0", padding=b"native" * 5_000))
    pass_gates(made, "other", "1.0.0")
    return made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def store(place: Path) -> BackupStore:
    return BackupStore(LocalObjects(place))


def rows(registry: ModelRegistry) -> list[str]:
    return list(registry.journal.catalogue.dump())


def restored(store: BackupStore, root: Path, registry: ModelRegistry) -> ModelRegistry:
    report = store.restore(store.get(), root, registry.keyring, registry.clock)
    assert report.ok, report.problems
    return ModelRegistry(root, registry.keyring, registry.clock)


def test_a_registry_restored_into_an_empty_place_is_the_same_registry(
    registry: ModelRegistry, store: BackupStore, tmp_path: Path
) -> None:
    made = store.take(registry)
    assert made.damaged == ()
    other = restored(store, tmp_path / "new", registry)
    assert rows(other) == rows(registry)
    assert other.journal.ledger.head() == registry.journal.ledger.head()
    for record in registry.list():
        ours = registry.open_version(record.name, record.version)
        theirs = other.open_version(record.name, record.version)
        assert ours.files == theirs.files
    assert other.open_production("fx_vol").version == "1.2.0"
    assert (tmp_path / "new/manifest.json").read_bytes() == (
        registry.root / "manifest.json"
    ).read_bytes()
    assert other.verify_log().signed_up_to == registry.verify_log().signed_up_to > 0
    # It goes on from there.
    other.register(make_candidate(version="2.0.0", bias=9.0))
    assert other.verify_log().ok


def test_the_next_backup_adds_only_what_is_new(
    registry: ModelRegistry, store: BackupStore, place: Path
) -> None:
    def objects() -> set[Path]:
        return {path for path in place.rglob("*") if path.is_file()}

    first = store.take(registry)
    before = objects()
    assert store.take(registry) == first
    assert objects() == before
    registry.register(make_candidate("another", "1.0.0", padding=b"native" * 5_000))
    second = store.take(registry)
    added = objects() - before
    assert second.segments[:-1] == first.segments
    names = sorted(path.relative_to(place).parts[0] for path in added)
    assert names.count("log") == names.count("backups") == names.count("versions") == 1
    assert not any(path.stat().st_size > 20_000 for path in added)  # the native model is there
    assert store.ids() == (first.id, second.id)
    assert store.get(first.id[:12]) == first


def test_an_earlier_backup_gives_the_registry_as_it_was(
    registry: ModelRegistry, store: BackupStore, tmp_path: Path, clock: FixedClock
) -> None:
    first, dump = store.take(registry), rows(registry)
    clock.advance(SECOND)
    registry.rollback("fx_vol", "1.1.0", withdraw="1.2.0", initiated_by=AUTHOR, reason="drift")
    store.take(registry)
    store.restore(first, tmp_path / "then", registry.keyring, clock)
    then = ModelRegistry(tmp_path / "then", registry.keyring, clock)
    assert rows(then) == dump
    assert then.open_production("fx_vol").version == "1.2.0"


def test_a_drill_asks_the_restored_registry_everything(
    registry: ModelRegistry, store: BackupStore, clock: FixedClock
) -> None:
    store.take(registry)
    clock.advance(SECOND)
    registry.rollback("fx_vol", "1.1.0", withdraw="1.2.0", initiated_by=AUTHOR, reason="drift")
    report = drill(registry, store)
    assert report.ok, report.to_json()
    assert report.questions > 20
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


@pytest.mark.parametrize(
    "ways",
    [1, pytest.param(3, marks=pytest.mark.long)],
    ids=["each in one of three ways", "each in three ways"],
)
def test_every_damaged_object_of_a_backup_is_named_and_nothing_of_it_is_restored(
    registry: ModelRegistry, store: BackupStore, place: Path, tmp_path: Path, ways: int
) -> None:
    backup = store.take(registry)
    assert store.verify(backup, registry.keyring) == ()
    chance = random.Random(5)
    objects = sorted(
        one for one in place.rglob("*") if one.is_file() and not one.name.startswith(".")
    )  # but for the lock
    assert len(objects) > 3
    for number, path in enumerate(objects):
        data = path.read_bytes()
        at = chance.randrange(len(data))
        changed = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        damages = (changed, data[:at], None)
        for wrong in [damages[(number + way) % 3] for way in range(ways)]:
            if wrong is None:
                path.unlink()
            else:
                path.write_bytes(wrong)
            root = tmp_path / f"new{number}"
            try:
                found = store.verify(store.get(), registry.keyring)
                assert found, path
                report = store.restore(store.get(), root, registry.keyring, registry.clock)
                assert not report.ok, path
            except AssayError:
                pass  # the document itself, the log or a signed head
            path.write_bytes(data)
            shutil.rmtree(root, ignore_errors=True)
    assert store.verify(backup, registry.keyring) == ()


def test_versions_signed_by_nobody_who_is_trusted_here_are_not_restored(
    registry: ModelRegistry, store: BackupStore, tmp_path: Path
) -> None:
    store.take(registry)
    strangers = make_keys(tmp_path / "strangers")
    report = store.restore(store.get(), tmp_path / "new", strangers, registry.clock)
    assert not report.ok
    assert any("fx_vol 1.0.0 is refused" in problem for problem in report.problems)
    assert list((tmp_path / "new").glob("artifacts/*/[0-9]*")) == []


def test_a_log_that_was_cut_since_the_last_backup_is_not_backed_up_over_it(
    registry: ModelRegistry, store: BackupStore
) -> None:
    store.take(registry)
    log = registry.root / "log" / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-2]))
    for one in registry.root.glob("registry.db*"):
        one.unlink()
    again = ModelRegistry(registry.root, registry.keyring, registry.clock)
    with pytest.raises(Tampered, match="cut or replaced since"):
        store.take(again)


def test_a_restoration_goes_on_where_it_was_killed_and_into_no_other_registry(
    registry: ModelRegistry, store: BackupStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.registry.file_ledger import FileLedger

    store.take(registry)
    root = tmp_path / "new"

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for method in ("recover", "adopt"):
        with monkeypatch.context() as patch:
            patch.setattr(FileLedger, method, die)
            with pytest.raises(KeyboardInterrupt):
                store.restore(store.get(), root, registry.keyring, registry.clock)
    assert rows(restored(store, root, registry)) == rows(registry)
    registry.register(make_candidate("later", "1.0.0"))
    store.take(registry)
    for _ in range(2):
        assert rows(restored(store, root, registry)) == rows(registry)
    different = make_registry(tmp_path / "different", registry.clock)
    different.register(make_candidate(version="5.0.0"))
    with pytest.raises(Conflict, match="there is a registry"):
        store.restore(store.get(), different.root, registry.keyring, registry.clock)


def test_a_damaged_version_is_named_and_comes_back_from_the_backup_before(
    registry: ModelRegistry, store: BackupStore
) -> None:
    store.take(registry)
    registry.register(make_candidate("third", "1.0.0"))
    for name in ("fx_vol/1.0.0", "third/1.0.0"):
        path = registry.root / "artifacts" / name / "model.onnx"
        path.chmod(0o644)
        path.write_bytes(b"x" + path.read_bytes()[1:])
    made = store.take(registry)
    ((name, version, wrong),) = made.damaged  # the first one is held by the earlier backup
    assert (name, version) == ("third", "1.0.0")
    assert "model.onnx" in wrong
    record = registry.get("fx_vol", "1.0.0")
    files = store.files("fx_vol", "1.0.0", record.digest)
    bring_back(registry, "fx_vol", "1.0.0", files, initiated_by=AUTHOR, reason="disk")
    assert registry.validate("fx_vol", "1.0.0").ok


def test_collected_versions_stay_in_the_backups_that_hold_them(
    registry: ModelRegistry, store: BackupStore, clock: FixedClock, tmp_path: Path
) -> None:
    first = store.take(registry)
    clock.advance(400 * 86_400 * SECOND)
    collect(registry, Retention(archived_days=1, staged_days=1, rollbacks=1), initiated_by=AUTHOR)
    second = store.take(registry)
    assert set(first.versions) - set(second.versions) == {
        one for one in first.versions if one[:2] == ("fx_vol", "1.0.0")
    }
    other = restored(store, tmp_path / "new", registry)
    with pytest.raises(NotFound, match="were collected"):
        other.open_version("fx_vol", "1.0.0")
    digest = registry.get("fx_vol", "1.0.0").digest
    files = store.files("fx_vol", "1.0.0", digest)
    bring_back(registry, "fx_vol", "1.0.0", files, initiated_by=AUTHOR, reason="an auditor asks")
    assert registry.open_version("fx_vol", "1.0.0").files == files


def test_where_nothing_was_backed_up_there_is_nothing_to_restore(store: BackupStore) -> None:
    assert store.ids() == ()
    with pytest.raises(NotFound, match="no backup in file://"):
        store.get()


def test_a_backup_holds_no_keys(
    registry: ModelRegistry, store: BackupStore, place: Path, tmp_path: Path
) -> None:
    store.take(registry)
    keys = [one.read_bytes() for one in (tmp_path / "private").rglob("*.pem")]
    assert keys
    for path in place.rglob("*"):
        if path.is_file():
            assert not any(key in path.read_bytes() for key in keys)
            assert b"PRIVATE KEY" not in path.read_bytes()
