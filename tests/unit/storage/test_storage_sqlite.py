import sqlite3

import pytest

from assay.errors import Tampered, Unavailable
from assay.storage.sqlite import SqliteFile


@pytest.fixture
def database(tmp_path):
    made = SqliteFile(tmp_path / "x.db")
    with made.write() as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    return made


def numbers(database):
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]


def insert_and_fail(database):
    with database.write() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
        raise ValueError("no")


def test_a_transaction_is_whole_or_not_at_all(database):
    with database.write() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(ValueError, match="no"):
        insert_and_fail(database)
    assert numbers(database) == [1]


def test_a_broken_constraint_is_the_callers_to_explain(database):
    with (
        pytest.raises(sqlite3.IntegrityError),
        database.write() as connection,
    ):
        connection.execute("INSERT INTO t VALUES (1), (1)")
    assert numbers(database) == []


def test_reading_cannot_write(database):
    with pytest.raises(Unavailable, match="readonly"), database.read() as connection:
        connection.execute("INSERT INTO t VALUES (1)")


def test_a_missing_table_is_damage_not_trouble(database):
    with pytest.raises(Tampered, match="no such table"), database.read() as connection:
        connection.execute("SELECT * FROM missing")


def test_a_missing_database_is_said_to_be_missing(tmp_path):
    with pytest.raises(Unavailable, match="does not exist"), SqliteFile(tmp_path / "no").read():
        pass


@pytest.mark.parametrize(
    "content", [b"not a database" * 500, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_damaged_database_is_reported_as_such(tmp_path, content):
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(Tampered, match=r"x\.db"), SqliteFile(tmp_path / "x.db").read() as c:
        c.execute("SELECT * FROM sqlite_master").fetchall()


def test_a_reader_sees_what_was_committed_before_and_waits_for_nobody(database):
    with database.write() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        assert numbers(database) == []
    assert numbers(database) == [1]


def test_a_writer_may_hold_the_lock_for_more_than_the_database(database):
    with database.lock():
        with database.write(locked=True) as connection:
            connection.execute("INSERT INTO t VALUES (1)")
        with database.write(locked=True) as connection:
            connection.execute("INSERT INTO t VALUES (2)")
    assert numbers(database) == [1, 2]


def test_the_log_of_writes_is_emptied_now_and_then(database):
    wal = database.path.with_name("x.db-wal")
    with database.read():  # keeps the writer from being the last connection
        for start in range(0, 300_000, 100_000):
            with database.write() as connection:
                connection.executemany(
                    "INSERT INTO t VALUES (?)", ((n,) for n in range(start, start + 100_000))
                )
        size = wal.stat().st_size if wal.exists() else 0
    assert size < 4_000_000
    assert len(numbers(database)) == 300_000


@pytest.mark.parametrize(
    ("changed", "into", "query"),
    [
        (b"plain words", b"pl\xe7in words", "SELECT * FROM texts"),
        (b"(alpha TEXT", b"(al\xe7ha TEXT", "SELECT * FROM texts"),
        (b"(alpha TEXT", b"(al\xe7ha TEXT", "SELECT sql FROM sqlite_master"),
    ],
    ids=["in a row", "in the name of a column", "in the schema"],
)
def test_text_that_was_damaged_is_damage_of_the_file(tmp_path, changed, into, query):
    database = SqliteFile(tmp_path / "x.db")
    with database.write() as connection:
        connection.execute("CREATE TABLE texts (alpha TEXT)")
        connection.execute("INSERT INTO texts VALUES ('plain words')")
    connection = sqlite3.connect(database.path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = database.path.read_bytes()
    assert changed in data
    database.path.write_bytes(data.replace(changed, into))
    with pytest.raises(Tampered), database.read() as connection:
        connection.execute(query).fetchall()
