import json
import shutil
import sqlite3

import pytest

from assay.domain.versions import Stage
from assay.errors import Tampered
from assay.registry import ModelRegistry
from assay.storage.sqlite import SqliteFile
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, break_glass, make_candidate, make_registry, pass_gates

T0 = 1_700_000_000_000_000_000
SECOND = 10**9


@pytest.fixture
def clock():
    return FixedClock(T0)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """fx_vol: 1.0.0 live at second 10, 1.1.0 at 20, back to 1.0.0 at 30, nothing at 40."""
    folder, clock = tmp_path_factory.mktemp("registry"), FixedClock(T0)
    made = make_registry(folder, clock)
    for index, version in enumerate(["1.0.0", "1.1.0", "1.2.0"]):
        made.register(make_candidate(version=version, weights=(index, 1)))
    clock.advance(10 * SECOND)
    break_glass(made, "fx_vol", "1.0.0")
    clock.advance(10 * SECOND)
    break_glass(made, "fx_vol", "1.1.0")
    clock.advance(10 * SECOND)
    made.rollback("fx_vol", "1.0.0", withdraw="1.1.0", initiated_by=AUTHOR, reason="drift")
    clock.advance(10 * SECOND)
    made.fail("fx_vol", "1.0.0", initiated_by=AUTHOR, reason="feed broken")
    return folder, clock.now()


@pytest.fixture
def registry(template, tmp_path, clock):
    """A copy of the template: making it takes thirty times longer."""
    folder, now = template
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    clock.advance(now - clock.now())
    return make_registry(tmp_path, clock)


def again(registry):
    return ModelRegistry(
        registry.root, registry.keyring, registry.clock, audit_path=registry._audit_path
    )


def dump(registry):
    return list(registry._catalogue.dump())


@pytest.mark.parametrize(
    ("nanos", "version"),
    [
        (0, None),
        (10 * SECOND - 1, None),
        (10 * SECOND, "1.0.0"),
        (20 * SECOND - 1, "1.0.0"),
        (20 * SECOND, "1.1.0"),
        (30 * SECOND - 1, "1.1.0"),
        (30 * SECOND, "1.0.0"),
        (40 * SECOND - 1, "1.0.0"),
        (40 * SECOND, None),
        (10**6 * SECOND, None),
    ],
)
def test_what_was_live_is_known_to_the_nanosecond(registry, nanos, version):
    answer = registry.live_at("fx_vol", T0 + nanos)
    assert (answer.version.version if answer.version else None) == version
    if version:
        assert answer.since <= T0 + nanos
        assert registry.history("fx_vol")[answer.seq - 1].at == answer.since


def test_two_changes_at_one_instant_leave_the_later_one_live(registry):
    registry.register(make_candidate("two", "1.0.0"))
    registry.register(make_candidate("two", "1.1.0", weights=(9, 9)))
    break_glass(registry, "two", "1.0.0")
    break_glass(registry, "two", "1.1.0")
    assert registry.live_at("two", registry.clock.now()).version.version == "1.1.0"


def test_an_index_built_anew_has_the_same_rows(registry):
    pass_gates(registry, "fx_vol", "1.2.0")
    before = dump(registry)
    registry.rebuild()
    assert dump(registry) == before
    for path in registry.root.glob("registry.db*"):
        path.unlink()
    assert dump(again(registry)) == before


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000])
def test_a_damaged_index_is_built_anew(registry, damage):
    before = dump(registry)
    for path in registry.root.glob("registry.db-*"):
        if path.suffix != ".lock" and not path.name.endswith(".lock"):
            path.unlink()
    (registry.root / "registry.db").write_bytes(damage)
    registry.rebuild()
    assert dump(registry) == before


def test_an_index_damaged_in_the_middle_is_built_anew(registry):
    before = dump(registry)
    path = registry.root / "registry.db"
    with SqliteFile(path).write() as connection:
        connection.execute("PRAGMA user_version")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 64] = b"\xff" * 64
    path.write_bytes(data)
    registry.rebuild()
    assert dump(registry) == before


def test_an_index_of_another_layout_is_built_anew_when_opened(registry):
    before = dump(registry)
    connection = sqlite3.connect(registry.root / "registry.db")
    connection.execute("UPDATE applied SET format = 0")
    connection.commit()
    connection.close()
    assert dump(again(registry)) == before


def test_a_rebuild_does_not_forget_that_the_log_was_cut(registry):
    events = registry.root / "log" / "events.jsonl"
    events.write_bytes(b"".join(events.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(Tampered, match="cut or replaced"):
        registry.rebuild()
    with pytest.raises(Tampered, match="cut or replaced"):
        again(registry)


def test_verification_names_a_registered_version_whose_folder_is_gone(registry):
    shutil.rmtree(registry.root / "artifacts" / "fx_vol" / "1.1.0")
    (problem,) = registry.verify_log().problems
    assert "version fx_vol 1.1.0 is gone" in problem.detail


def test_a_rebuild_from_a_broken_log_is_refused_and_keeps_the_index(registry):
    before = dump(registry)
    events = registry.root / "log" / "events.jsonl"
    events.write_bytes(events.read_bytes().replace(b"1.1.0", b"1.1.9", 1))
    with pytest.raises(Tampered, match="assay audit verify"):
        registry.rebuild()
    assert dump(registry) == before


def test_the_database_itself_refuses_a_second_production_version(registry):
    connection = sqlite3.connect(registry.root / "registry.db")
    connection.execute("UPDATE versions SET stage = 'production' WHERE version = '1.0.0'")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE versions SET stage = 'production' WHERE version = '1.1.0'")
    connection.close()


def test_the_link_names_what_is_in_production(registry):
    link = registry.root / "latest" / "fx_vol"
    assert not link.is_symlink()  # 1.0.0 failed: nothing is
    break_glass(registry, "fx_vol", "1.2.0")
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert (link / "metadata.json").samefile(
        registry.root / "artifacts" / "fx_vol" / "1.2.0" / "metadata.json"
    )


@pytest.mark.parametrize("damage", ["gone", "elsewhere", "file"])
def test_a_wrong_link_is_mended_when_the_registry_is_opened(registry, damage):
    break_glass(registry, "fx_vol", "1.2.0")
    link = registry.root / "latest" / "fx_vol"
    link.unlink()
    if damage == "elsewhere":
        link.symlink_to("../artifacts/fx_vol/1.0.0")
    elif damage == "file":
        link.write_text("1.0.0")
    again(registry)
    assert (link / "metadata.json").samefile(
        registry.root / "artifacts" / "fx_vol" / "1.2.0" / "metadata.json"
    )


def test_a_link_of_a_model_without_production_is_removed_when_opened(registry):
    link = registry.root / "latest" / "fx_vol"
    link.symlink_to("../artifacts/fx_vol/1.1.0")
    again(registry)
    assert not link.is_symlink()


@pytest.mark.parametrize("damage", [None, b"", b"{}", b'{"format":1,"log_seq":1,"models":{}}'])
def test_a_stale_manifest_is_written_anew_when_opened(registry, damage):
    path = registry.root / "manifest.json"
    before = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    again(registry)
    assert path.read_bytes() == before
    assert json.loads(before)["models"]["fx_vol"]["versions"][1]["stage"] == "failed"


def test_a_lost_folder_does_not_keep_the_registry_from_opening(registry):
    folder = registry.root / "artifacts" / "fx_vol" / "1.2.0"
    folder.rename(registry.root / "elsewhere")
    opened = again(registry)
    assert opened.get("fx_vol", "1.2.0").stage is Stage.STAGED


def test_a_registration_killed_before_its_folder_had_a_name_is_completed(registry):
    folder = registry.root / "artifacts" / "fx_vol" / "1.2.0"
    digest = registry.get("fx_vol", "1.2.0").digest
    folder.rename(folder.with_name(f".1.2.0.{digest[:16]}.pending"))
    assert again(registry).validate("fx_vol", "1.2.0").ok


def test_a_folder_in_the_way_of_a_new_version_is_put_aside_not_deleted(registry):
    squatter = registry.root / "artifacts" / "fx_vol" / "1.3.0"
    squatter.mkdir()
    (squatter / "note").write_text("mine")
    registry.register(make_candidate(version="1.3.0", weights=(7, 7)))
    assert registry.validate("fx_vol", "1.3.0").ok
    (note,) = (registry.root / "unregistered").rglob("note")
    assert note.read_text() == "mine"
