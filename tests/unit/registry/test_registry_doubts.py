"""A log that was cut together with its index is doubted by whoever has seen more of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.domain.canonical import canonical_bytes
from assay.registry import ModelRegistry, revoke_key, verify_registry
from assay.registry.acknowledging import acknowledge_losses
from assay.registry.collection import collect
from assay.registry.doubts import doubts_about
from assay.registry.keyring import LOG_HEAD
from assay.registry.objects import ObjectArtifacts
from assay.registry.retention import Retention
from assay.registry.signing import Envelope, Statement
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, break_glass, make_candidate, make_keys, make_registry

T0 = 1_700_000_000_000_000_000
DAY = 86_400 * 10**9


class World:
    """A registry whose log and index can be put back to what they were."""

    def __init__(self, folder: Path, start: int = T0) -> None:
        self.folder = folder
        self.clock = FixedClock(start)
        self.root = folder / "desk/data/models"
        self.export = folder / "desk/observability/audit/model_events.jsonl"
        for number in (1, 2):
            self.register(f"{number}.0.0")
        break_glass(self.opened(), "fx_vol", "1.0.0")

    def opened(self) -> ModelRegistry:
        return make_registry(self.folder, self.clock)

    def register(self, version: str) -> None:
        self.clock.advance(10**9)
        weights = (float(version.split(".", maxsplit=1)[0]), 1.0)
        self.opened().register(make_candidate(version=version, weights=weights))

    def keep(self) -> Callable[[], None]:
        """What puts log and index back to what they are now, and nothing else."""
        aside = self.folder / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        files = ("log/events.jsonl", "registry.db")
        for number, file in enumerate(files):
            shutil.copy(self.root / file, aside / str(number))

        def put_back() -> None:
            for suffix in ("-wal", "-shm"):
                (self.root / f"registry.db{suffix}").unlink(missing_ok=True)
            for number, file in enumerate(files):
                shutil.copy(aside / str(number), self.root / file)

        return put_back

    def doubts(self, name: str | None = "fx_vol") -> list[str]:
        return [str(doubt) for doubt in doubts_about(self.opened(), name)]

    def forget(self, *, heads: bool = False, export: bool = False, version: str = "") -> None:
        """Take away what others have kept."""
        if heads:
            for path in (self.root / "log/heads").iterdir():
                if int(path.name[:12]) > 3:
                    path.unlink()
        if export:
            self.export.unlink()
        if version:
            shutil.rmtree(self.root / "artifacts/fx_vol" / version)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_nothing_is_doubted_in_the_life_of_a_registry(world: World) -> None:
    assert world.doubts() == []
    for version in ("3.0.0", "4.0.0"):
        world.register(version)
        assert world.doubts() == []
    break_glass(world.opened(), "fx_vol", "4.0.0")
    assert world.doubts() == []
    world.opened().rollback("fx_vol", "1.0.0", withdraw="4.0.0", initiated_by=AUTHOR, reason="bad")
    assert world.doubts() == []
    world.clock.advance(3_000 * DAY)
    registry = world.opened()
    gone = collect(registry, Retention(1, 1, 1, 1), initiated_by=AUTHOR).collected
    assert "4.0.0" in {one.version.version for one in gone}, "the last one that was registered"
    assert world.doubts() == []


def test_each_who_has_seen_more_of_a_log_doubts_it_when_it_was_cut_with_its_index(
    world: World,
) -> None:
    put_back = world.keep()
    world.register("3.0.0")
    break_glass(world.opened(), "fx_vol", "3.0.0")
    put_back()
    assert world.opened().live_at("fx_vol", world.clock.now()).to_json()["version"] == "1.0.0"
    head, export, folder = world.doubts()
    assert head == "signed head 000000000005.json names entry 5, but the log ends at 3: cut off"
    assert export == "the audit export ends at entry 5, the log at 3: cut off"
    assert folder.startswith("version fx_vol 3.0.0 stands in ")
    assert "never registered: the log was cut" in folder
    assert world.doubts(None) == [head, export], "no model was asked about"
    assert not verify_registry(world.root, world.opened().keyring, world.export).ok
    world.forget(export=True)
    assert world.doubts() == [head, folder]
    world.forget(heads=True)
    assert world.doubts() == [folder]
    world.forget(version="3.0.0")
    assert world.doubts() == [], "nobody is left who could know"


def test_a_cut_log_that_went_on_is_contradicted_by_heads_of_what_it_was(world: World) -> None:
    put_back = world.keep()
    world.register("3.0.0")
    break_glass(world.opened(), "fx_vol", "3.0.0")
    put_back()
    world.forget(export=True, version="3.0.0")
    world.register("5.0.0")
    for version in ("5.0.0", "2.0.0"):
        break_glass(world.opened(), "fx_vol", version)
    (doubt,) = world.doubts()
    assert doubt == (
        "signed head 000000000005.json names another entry 5: it was replaced or removed"
    )


def test_the_last_version_says_which_log_it_was_registered_in(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other", T0 + 1)
    # The log and index of another registry, in which the same content was registered later.
    shutil.rmtree(world.root / "log/heads")
    world.export.unlink()
    for file in ("log/events.jsonl", "registry.db"):
        shutil.copy(other.root / file, world.root / file)
    keys = make_keys(tmp_path)
    registry = ModelRegistry(world.root, keys, world.clock)
    found = [str(one) for one in doubts_about(registry, "fx_vol")]
    assert found == ["version fx_vol 2.0.0 names another entry 1: it was replaced or removed"]


def test_a_head_that_nobody_trusted_signed_gives_rise_to_no_doubt(world: World) -> None:
    registry = world.opened()
    far = Statement(LOG_HEAD, {"events.jsonl": "f" * 64}, {"seq": 99, "hash": "f" * 64})
    good = registry.keyring.sign(AUTHOR, far)
    heads = world.root / "log/heads"
    forged = Envelope(good.body, good.key_id, b"x" * 64)
    (heads / "000000000099.json").write_bytes(forged.to_bytes())
    (heads / "000000000098.json").write_bytes(b"{}")
    (heads / "notes.txt").write_bytes(b"")
    assert world.doubts() == []
    (heads / "000000000099.json").write_bytes(good.to_bytes())
    (doubt,) = world.doubts()
    assert "names entry 99" in doubt
    # A key that was revoked since may have signed it when it was good.
    key = registry.keyring.key_of(AUTHOR)
    assert key is not None
    revoke_key(registry.keyring.public_dir, key.key_id, "stolen")
    assert "names entry 99" in str(doubts_about(registry)[0])


def test_what_others_have_seen_counts_until_its_loss_is_acknowledged(world: World) -> None:
    registry = world.opened()
    known = [(9, "a" * 64, "serving.jsonl, server one"), (9, "a" * 64, "serving.jsonl, server two")]
    (doubt,) = doubts_about(registry, "fx_vol", known=known)
    assert "names entry 9, but the log ends at 3: cut off" in str(doubt)
    good = registry.latest(1)[0]
    assert doubts_about(registry, known=[(good.seq, good.hash, "one")]) == ()
    report = verify_registry(registry.root, registry.keyring, world.export, known=known)
    acknowledge_losses(
        registry.journal, registry.keyring, report, signer=AUTHOR, reason="a disk was lost"
    )
    assert doubts_about(registry, "fx_vol", known=known) == ()
    later = [(10, "b" * 64, "serving.jsonl, server one")]
    assert len(doubts_about(registry, "fx_vol", known=later)) == 1


def test_the_files_of_the_last_version_are_missed_where_nobody_collected_them(world: World) -> None:
    world.forget(version="2.0.0")
    (doubt,) = world.doubts(None)
    assert doubt.startswith("version fx_vol 2.0.0 is not in ")
    assert "another copy of this desk registered it" in doubt


def test_an_answer_does_not_wait_for_a_store_of_objects(world: World) -> None:
    class Unreachable(LocalObjects):
        def get(self, name: str) -> bytes:
            raise AssertionError(name)

        def names(self, folder: str = "") -> list[str]:
            raise AssertionError(folder)

    there = LocalObjects(world.folder / "bucket")
    keys = world.opened().keyring
    root = world.folder / "elsewhere"
    made = ModelRegistry(root, keys, world.clock, artifacts=ObjectArtifacts(there))
    made.register(make_candidate(version="1.0.0"))
    made.journal.artifacts = ObjectArtifacts(Unreachable(world.folder / "bucket"))
    assert doubts_about(made, "fx_vol") == ()
    (doubt,) = doubts_about(made, "fx_vol", known=[(2, "f" * 64, "a server")])
    assert "names entry 2" in str(doubt)


def test_a_registry_without_a_word_is_not_doubted(tmp_path: Path) -> None:
    empty = make_registry(tmp_path, FixedClock(T0))
    assert doubts_about(empty, "fx_vol") == ()
    assert canonical_bytes(empty.journal.describe()["models"]) == b"{}"
