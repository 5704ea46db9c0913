"""Random damage to a version's folder, the log and the catalogue: found, named, and said which."""

import random
import shutil
import sqlite3
from contextlib import closing, suppress

import pytest

from assay.registry import FileLedger, verify_registry
from assay.testing.clocks import FixedClock
from assay.testing.versions import break_glass, make_candidate, make_keys, make_registry, pass_gates

TABLES = ("applied", "versions", "events", "production", "stages")
KINDS = ("byte", "cut", "swap", "deletion")
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


def live_a_little(folder, ledger=None):
    made = make_registry(folder, FixedClock(10**18), ledger=ledger)
    for number, version in enumerate(VERSIONS):
        made.register(make_candidate(version=version, weights=(number, 1)))
        pass_gates(made, "fx_vol", version)
    break_glass(made, "fx_vol", "1.0.0")
    break_glass(made, "fx_vol", "1.2.0")
    made.rollback("fx_vol", "1.0.0", withdraw="1.2.0", initiated_by="author", reason="worse")
    made.close()
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trials")
    root = live_a_little(folder).root
    # What stands in the write-ahead log moves into the file, where damage is to be done.
    with closing(sqlite3.connect(root / "registry.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def found_in(root, keyring, ledger=None, *, audit=None):
    """What verification says: of every version, and of the log with everything beside it."""
    report = verify_registry(root, keyring, audit, ledger)
    return [str(problem) for problem in report.problems]


class Copies:
    """A fresh copy of what is damaged, for every trial; the rest is shared."""

    def __init__(self, template, folder):
        self.template, self.folder = template, folder
        shutil.copytree(template, folder, symlinks=True, dirs_exist_ok=True)
        self.keyring = make_keys(folder)
        self.root = folder / "desk/data/models"

    def restore(self, path):
        original = self.template / path.relative_to(self.folder)
        with suppress(FileNotFoundError):
            path.unlink()
        shutil.copy(original, path)


def damage_file(path, kind, generator, others=()):
    """One random change; what it did, or None where the file is as it was."""
    data = path.read_bytes()
    path.chmod(0o644)
    if kind == "deletion":
        path.unlink()
        return
    if kind == "cut":
        path.write_bytes(data[: generator.randrange(len(data))])
    elif kind == "byte":
        place = generator.randrange(len(data))
        value = generator.choice([b for b in range(256) if b != data[place]])
        path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
    elif others:
        path.write_bytes(generator.choice(others).read_bytes())
    else:
        # Two stretches of one length change places.
        length = generator.randrange(1, len(data) // 3)
        first = generator.randrange(len(data) - 2 * length)
        second = generator.randrange(first + length, len(data) - length + 1)
        one, two = data[first : first + length], data[second : second + length]
        path.write_bytes(
            data[:first] + two + data[first + length : second] + one + data[second + length :]
        )


def trial_of_a_version(copies, kind, generator):
    version = generator.choice(VERSIONS)
    folder = copies.root / "artifacts/fx_vol" / version
    path = generator.choice(sorted(folder.iterdir()))
    before = path.read_bytes()
    others = [one for one in sorted(folder.iterdir()) if one.read_bytes() != before]
    damage_file(path, kind, generator, others)
    if path.exists() and path.read_bytes() == before:
        return None
    registry = make_registry(copies.folder, FixedClock(10**18), audit=False)
    problems = registry.validate("fx_vol", version).problems
    copies.restore(path)
    # The file itself is named, with what is wrong with it.
    assert path.name in {one.file for one in problems}, (path, kind, problems)
    return next(one.reason for one in problems if one.file == path.name)


def trial_of_the_log(copies, kind, generator):
    path = copies.root / "log/events.jsonl"
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    broken = None
    if kind == "swap":
        first, second = sorted(generator.sample(range(len(lines)), 2))
        lines[first], lines[second] = lines[second], lines[first]
        path.write_bytes(b"".join(lines))
        broken = first + 1
    elif kind == "deletion":
        gone = generator.randrange(len(lines))
        path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
        broken = gone + 1 if gone + 1 < len(lines) else None
    else:
        damage_file(path, kind, generator)
        now = path.read_bytes()
        same = next((n for n, (a, b) in enumerate(zip(data, now, strict=False)) if a != b), None)
        if same is not None:
            broken = data[:same].count(b"\n") + 1
    problems = verify_registry(copies.root, copies.keyring, None).problems
    copies.restore(path)
    assert problems, (kind, broken)
    if broken is not None:
        # A line break that was changed makes one line of two: the first of them is named.
        assert broken in {problem.line for problem in problems}, (kind, broken, problems)
    else:
        assert any("cut off" in problem.detail or problem.line for problem in problems)
    return problems[0].detail


def holds_the_same(path, rows):
    """Whether SQLite finds nothing, and every row of every table and its whole schema is there."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return contents_of(connection) == rows
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def contents_of(connection):
    made = [connection.execute("SELECT name, sql FROM sqlite_master ORDER BY 1").fetchall()]
    return made + [
        connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4").fetchall()
        for table in TABLES
    ]


def trial_of_the_catalogues_file(copies, kind, generator):
    """A byte in which SQLite keeps nothing (free space, counters) changes no row and no answer."""
    path = copies.root / "registry.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = contents_of(connection)
    before = path.read_bytes()
    damage_file(path, kind, generator)
    if path.exists() and path.read_bytes() == before:
        return None
    kept = path.exists() and holds_the_same(path, rows)
    if not path.exists():
        # An index that is gone is no contradiction: it follows from the log when next opened.
        make_registry(copies.folder, FixedClock(10**18), audit=False)
        kept = holds_the_same(path, rows)
        assert kept
    problems = found_in(copies.root, copies.keyring)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    copies.restore(path)
    if kept and not problems:
        return None
    assert problems, kind
    assert all("the index" in problem for problem in problems), problems
    return problems[0]


def changed(value, generator):
    """Another value of the same type, one step away."""
    if value is None:
        return "1.0.0"
    if isinstance(value, int):
        return value + generator.choice([-1, 1, 1000])
    if isinstance(value, bytes):
        place = generator.randrange(len(value))
        return value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
    place = generator.randrange(len(value)) if value else 0
    other = chr(ord(value[place]) ^ 1) if value else "x"
    return generator.choice([value[:place] + other + value[place + 1 :], value[:place]])


def damage_rows(connection, tables, row_id, kind, generator, mark):
    """One random change of rows, by SQL; None where it changes nothing or the rules refuse it."""
    table = generator.choice(tables)
    rows = connection.execute(f"SELECT {row_id[table]}, t.* FROM {table} t").fetchall()
    width = len(row_id[table].split(","))
    columns = [part[0] for part in connection.execute(f"SELECT * FROM {table}").description]
    where = " AND ".join(f"{part} = {mark}" for part in row_id[table].split(", "))
    one, two = generator.choice(rows), generator.choice(rows)
    place = generator.randrange(len(columns))
    old, new = one[width + place], changed(one[width + place], generator)
    column = f'"{columns[place]}"'
    if kind == "deletion":
        connection.execute(f"DELETE FROM {table} WHERE {where}", one[:width])
    elif kind == "swap":
        if old == two[width + place]:
            return None
        values = [two[width + place], *one[:width]]
        connection.execute(f"UPDATE {table} SET {column} = {mark} WHERE {where}", values)
    else:
        if kind == "cut":
            new = old[: len(old) // 2] if isinstance(old, str | bytes) and old else new
        if new == old:
            return None
        values = [new, *one[:width]]
        connection.execute(f"UPDATE {table} SET {column} = {mark} WHERE {where}", values)
    return f"{table}.{columns[place]}"


SQLITE_ROWS = {
    "applied": "rowid", "versions": "name, version", "events": "rowid",
    "production": "name, seq", "stages": "name, version, seq",
}  # fmt: skip


def trial_of_rows(copies, kind, generator):
    path = copies.root / "registry.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            place = damage_rows(connection, TABLES, SQLITE_ROWS, kind, generator, "?")
        except sqlite3.IntegrityError:
            place = None  # the database itself says no
    if place is None:
        return None
    problems = found_in(copies.root, copies.keyring)
    # An empty table of progress is an index that was never made: it is made when next opened.
    if not problems and (place.startswith("applied") and kind == "deletion"):
        copies.restore(path)
        return None
    if not problems and place == "applied.format":
        copies.restore(path)
        return None
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    copies.restore(path)
    assert problems, (place, kind)
    assert any("the index" in problem for problem in problems), (place, problems)
    return problems[0]


TRIALS = (trial_of_a_version, trial_of_the_log, trial_of_the_catalogues_file, trial_of_rows)


def run_trials(template, folder, wanted, seed):
    generator = random.Random(seed)
    copies = Copies(template, folder)
    detected = dict.fromkeys([(one.__name__, kind) for one in TRIALS for kind in KINDS], 0)
    while sum(detected.values()) < wanted:
        trial, kind = generator.choice(TRIALS), generator.choice(KINDS)
        if trial(copies, kind, generator) is not None:
            detected[trial.__name__, kind] += 1
    return detected


def test_sixty_random_damages_are_all_found_and_named(template, tmp_path):
    run_trials(template, tmp_path, 60, seed=60)


@pytest.mark.long
def test_a_thousand_random_damages_are_all_found_and_named(template, tmp_path):
    detected = run_trials(template, tmp_path, 1_000, seed=1_000)
    # Each kind of damage in each place, but for a deleted catalogue, which is simply made again.
    none = {one for one, count in detected.items() if count == 0}
    assert none <= {("trial_of_the_catalogues_file", "deletion")}


# -- the catalogue and the log in PostgreSQL -----------------------------------------------------

POSTGRES_TABLES = (*TABLES, "log")


class Server:
    """A registry in one schema, whose rows can be damaged and put back."""

    def __init__(self, url, folder):
        from assay.adapters.postgres import PostgresAddress, PostgresLedger
        from assay.adapters.postgres.connection import connect

        self.ledger = PostgresLedger(url)
        self.root = live_a_little(folder, self.ledger).root
        self.keyring = make_keys(folder)
        self.connection = connect(PostgresAddress.parse(url))
        # The rules that keep accidents out are not what is tried here.
        self.connection.execute("SET session_replication_role = replica")
        for table in POSTGRES_TABLES:
            self.connection.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")

    def trial(self, kind, generator):
        import psycopg

        ids = dict.fromkeys(POSTGRES_TABLES, "ctid")
        try:
            place = damage_rows(self.connection, POSTGRES_TABLES, ids, kind, generator, "%s")
        except (psycopg.IntegrityError, psycopg.DataError):
            return None  # the database itself says no
        problems = found_in(self.root, self.keyring, self.ledger)
        self.put_back()
        if place is None:
            return None
        if not problems and (place == "applied.format" or (place.startswith("applied") and
                             kind == "deletion")):  # fmt: skip
            return None  # an index of another layout, or none: made again when next opened
        assert problems, (place, kind)
        return problems[0]

    def put_back(self):
        with self.connection.transaction():
            for table in POSTGRES_TABLES:
                self.connection.execute(f"DELETE FROM {table}")
                self.connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")

    def close(self):
        self.connection.close()
        self.ledger.close()


@pytest.fixture
def server(postgres_url, tmp_path):
    made = Server(postgres_url, tmp_path)
    yield made
    made.close()


def run_server_trials(server, wanted, seed):
    generator, detected = random.Random(seed), 0
    while detected < wanted:
        detected += server.trial(generator.choice(KINDS), generator) is not None


def test_thirty_damaged_rows_of_a_server_are_all_found(server):
    run_server_trials(server, 30, seed=30)


@pytest.mark.long
def test_a_thousand_damaged_rows_of_a_server_are_all_found(server):
    run_server_trials(server, 1_000, seed=31)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("ALTER TABLE log DISABLE TRIGGER only_added_to", "trigger"),
        ("DROP TRIGGER only_added_to ON log", "trigger"),
        ("DROP INDEX one_production_per_model", "one_production_per_model"),
    ],
)
def test_a_rule_of_the_database_that_is_gone_is_named(server, statement, named):
    assert found_in(server.root, server.keyring, server.ledger) == []
    server.connection.execute(statement)
    (problem,) = found_in(server.root, server.keyring, server.ledger)
    assert named in problem


def test_a_rule_of_sqlite_that_is_gone_is_named(template, tmp_path):
    copies = Copies(template, tmp_path)
    assert found_in(copies.root, copies.keyring) == []
    with closing(sqlite3.connect(copies.root / "registry.db")) as connection:
        connection.execute("DROP INDEX one_production_per_model")
    (problem,) = found_in(copies.root, copies.keyring)
    assert "one_production_per_model" in problem


def test_an_index_that_is_behind_the_log_is_no_damage(template, tmp_path):
    copies = Copies(template, tmp_path)
    ledger = FileLedger(copies.root)
    behind = (copies.root / "registry.db").read_bytes()
    make_registry(tmp_path, FixedClock(10**18)).fail(
        "fx_vol", "1.1.0", initiated_by="author", reason="x"
    )
    for suffix in ("-wal", "-shm"):
        (copies.root / f"registry.db{suffix}").unlink(missing_ok=True)
    (copies.root / "registry.db").write_bytes(behind)
    assert ledger.catalogue.applied().seq == ledger.head().seq - 1
    assert found_in(copies.root, copies.keyring) == []
