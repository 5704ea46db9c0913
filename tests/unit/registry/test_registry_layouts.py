"""A catalogue that an older release has made becomes one of today's when it is opened."""

import sqlite3

import pytest

from assay.registry import ModelRegistry
from assay.registry.index_layout import FORMAT
from assay.testing.clocks import FixedClock
from assay.testing.ledger import Chain, contents, let_happen
from assay.testing.versions import make_keys

LAYOUT_1 = """
CREATE TABLE applied (
    format INTEGER NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL,
    at INTEGER NOT NULL, offset INTEGER NOT NULL, described_seq INTEGER NOT NULL
);
CREATE TABLE versions (
    name TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, stage TEXT NOT NULL,
    digest TEXT NOT NULL, identity TEXT NOT NULL, author TEXT NOT NULL,
    baseline INTEGER NOT NULL, created_at INTEGER NOT NULL, registered_at INTEGER NOT NULL,
    registered_seq INTEGER NOT NULL, stage_at INTEGER NOT NULL,
    major INTEGER NOT NULL, minor INTEGER NOT NULL, patch INTEGER NOT NULL,
    PRIMARY KEY (name, major, minor, patch)
) WITHOUT ROWID;
CREATE UNIQUE INDEX one_production_per_model ON versions (name) WHERE stage = 'production';
CREATE UNIQUE INDEX versions_by_entry ON versions (registered_seq);
CREATE UNIQUE INDEX one_version_per_content ON versions (name, identity);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, type TEXT NOT NULL, model TEXT NOT NULL,
    from_version TEXT, to_version TEXT, initiated_by TEXT NOT NULL, outcome TEXT NOT NULL,
    reason TEXT NOT NULL, evidence TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE INDEX events_of_a_version ON events (model, to_version, type, seq);
CREATE TABLE production (
    name TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, version TEXT,
    PRIMARY KEY (name, at, seq)
) WITHOUT ROWID;
"""
# Tables, in order, as each layout had them; a copy of a row fills those it shares with today's.
LAYOUTS = {1: LAYOUT_1}


def make_older(path, layout):
    """Turn the catalogue of today in ``path`` into one of an older layout, with the same rows."""
    old = sqlite3.connect(path.with_suffix(".old"))
    old.executescript(LAYOUTS[layout])
    old.execute("ATTACH ? AS today", (str(path),))
    tables = [
        row[0] for row in old.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")
    ]
    for table in tables:
        old.execute(f"INSERT INTO main.{table} SELECT * FROM today.{table}")
    old.execute("UPDATE main.applied SET format = ?", (layout,))
    old.commit()
    old.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.with_suffix(".old").rename(path)


@pytest.fixture
def registry(tmp_path):
    made = ModelRegistry(tmp_path / "desk" / "models", make_keys(tmp_path), FixedClock(10**19 // 6))
    let_happen(made._journal.ledger, *Chain().life())
    return made


def test_every_older_layout_is_known_here():
    assert sorted(LAYOUTS) == list(range(1, FORMAT))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_an_older_catalogue_is_made_again_from_the_log_when_opened(registry, layout):
    before = contents(registry._journal.ledger)
    make_older(registry.root / "registry.db", layout)
    assert registry._catalogue.layout()[0] == layout
    again = ModelRegistry(registry.root, registry.keyring, registry.clock)
    assert contents(again._journal.ledger) == before
    assert again._catalogue.layout()[0] == FORMAT
    assert [one.version for one in again.list("fx_vol")] == ["1.0.0", "1.9.0", "1.10.0"]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_an_older_catalogue_that_is_behind_its_log_misses_nothing(registry, layout):
    before = contents(registry._journal.ledger)
    path = registry.root / "registry.db"
    make_older(path, layout)
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM events WHERE seq > 4")
    connection.execute("UPDATE applied SET seq = 4")
    connection.commit()
    connection.close()
    again = ModelRegistry(registry.root, registry.keyring, registry.clock)
    assert contents(again._journal.ledger) == before
