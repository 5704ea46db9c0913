"""A server that is absent, unfit or unwilling is named in words, and no password with it."""

import logging
import traceback

import pytest

from assay.errors import AssayError, ConfigurationError, Unavailable
from assay.testing.ledger import Chain, contents, let_happen
from assay.testing.redis_server import free_port

psycopg = pytest.importorskip("psycopg", reason="pip install 'assay[postgres]'")

from assay.adapters.postgres import PostgresAddress, PostgresLedger  # noqa: E402

SECRET = "s3cret-pass"


def texts(error):
    """Everything that an error shows, to a person or to a log."""
    shown = "".join(traceback.format_exception(error))
    return f"{shown} {error!r} {error.hint}"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@host/db",
        f"postgresql://u:{SECRET}@host:port/db",
        f"postgresql://u:{SECRET}@host/",
        f"postgresql://u:12/{SECRET}@host/db",
        f"postgresql://u:12?{SECRET}@host/db",
        f"postgresql://u:12#{SECRET}@host/db",
        f"postgresql://u:p@host/db?{SECRET}",
        f"postgresql://u:p@host/db?{SECRET}=1",
        f"postgresql://u:{SECRET}@host/db?shcema=x",
        f"postgresql://u:{SECRET}@host/db?schema=a;drop",
        f"postgresql://u:{SECRET}@host/db?schema=Desk",
        f"postgresql://u:{SECRET}@host/db?schema=pg_desk",
        f"postgresql://u:{SECRET}@[::1/db",
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigurationError) as caught:
        PostgresLedger(url)
    assert SECRET not in texts(caught.value)


def test_an_address_shows_where_the_registry_is_and_no_more():
    address = PostgresAddress.parse(
        f"postgresql://desk:{SECRET}%40@db.internal:5433/assay?schema=a"
    )
    assert str(address) == "postgresql://db.internal:5433/assay?schema=a"
    assert address.password == f"{SECRET}@"
    for text in (repr(address), f"{address}"):
        assert SECRET not in text
        assert "desk" not in text
    local = PostgresAddress.parse("postgresql:///assay?host=/run/postgresql")
    assert str(local) == "postgresql:///assay?host=/run/postgresql&schema=assay"
    assert PostgresAddress.parse("postgresql://[::1]/a").arguments()["host"] == "::1"


def test_no_server_is_said_with_what_to_do():
    port = free_port()
    ledger = PostgresLedger(f"postgresql://u:{SECRET}@127.0.0.1:{port}/db")
    for act in (ledger.is_settled, ledger.head, ledger.lock().__enter__):
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}/db") as caught:
            act()
        assert "pg_isready" in caught.value.hint
        assert SECRET not in texts(caught.value)


@pytest.fixture(scope="module")
def guarded(postgres_programs):
    """A server that asks for a password."""
    from assay.testing.postgres_server import PostgresServer

    with PostgresServer(postgres_programs, port=free_port(), password=SECRET) as server:
        yield server


def test_a_wrong_password_is_refused_in_words(guarded, caplog):
    caplog.set_level(logging.DEBUG)
    right = guarded.url()
    wrong = right.replace(SECRET, "wr0ng-pass")
    without = right.replace(f":{SECRET}", "")
    for url in (wrong, without):
        with pytest.raises(ConfigurationError, match="refuses the user or the password") as caught:
            PostgresLedger(url).head()
        assert "ASSAY_REGISTRY__CATALOGUE" in caught.value.hint
        assert "wr0ng-pass" not in texts(caught.value)
    ledger = PostgresLedger(right)
    let_happen(ledger, *Chain().life())
    assert ledger.head().seq == 13
    assert SECRET not in repr(vars(ledger)) + repr(ledger) + caplog.text
    ledger.close()


def test_a_missing_database_is_named(guarded):
    url = guarded.url().replace("/postgres?", "/nowhere?")
    with pytest.raises(ConfigurationError, match="no such database") as caught:
        PostgresLedger(url).head()
    assert caught.value.hint == "createdb nowhere"


def run(server, *statements, database="postgres"):
    url = server.socket_url.replace("/postgres?", f"/{database}?")
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_user_without_rights_is_told_which_and_may_read_with_them(guarded):
    schema = "seen"
    ledger = PostgresLedger(guarded.url(schema))
    let_happen(ledger, *Chain().life())
    before = contents(ledger)
    run(guarded, f"CREATE USER reader PASSWORD '{SECRET}'")
    url = guarded.url(schema).replace("assay:", "reader:")
    reader = PostgresLedger(url)
    with pytest.raises(AssayError) as caught:
        contents(reader)
    assert SECRET not in texts(caught.value)
    run(
        guarded,
        f"GRANT USAGE ON SCHEMA {schema} TO reader",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader",
        f"ALTER DEFAULT PRIVILEGES FOR USER assay IN SCHEMA {schema}"
        " GRANT SELECT ON TABLES TO reader",
    )
    reader.close()
    with ledger.lock():
        ledger.rebuild()
    assert reader.is_settled()
    assert contents(reader) == before
    with pytest.raises(ConfigurationError, match="permission denied") as caught:
        let_happen(reader, Chain(ledger).next("gate"))
    assert "GRANT" in caught.value.hint
    assert contents(ledger) == before
    reader.close()
    ledger.close()


def test_a_database_that_does_not_store_unicode_is_refused(guarded):
    run(guarded, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C'"
        " LC_CTYPE 'C'")  # fmt: skip
    ledger = PostgresLedger(guarded.url().replace("/postgres?", "/latin?"))
    with pytest.raises(ConfigurationError, match="LATIN1"):
        let_happen(ledger)
    ledger.close()


def test_a_server_that_may_lose_what_it_says_it_has_is_refused(start_postgres):
    server = start_postgres("-c", "fsync=off")
    with pytest.raises(ConfigurationError, match="fsync=off"):
        let_happen(PostgresLedger(server.url()))


def test_a_server_that_takes_no_writes_is_said_to_take_none(start_postgres):
    server = start_postgres()
    ledger = PostgresLedger(server.url())
    let_happen(ledger, *Chain().life())
    run(server, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    ledger.close()
    with psycopg.connect(server.socket_url) as connection:
        while connection.execute("SHOW default_transaction_read_only").fetchone() != ("on",):
            connection.rollback()  # until the server has read its settings again
    before = contents(ledger)
    with pytest.raises(Unavailable, match="takes no writes"):
        let_happen(ledger, Chain(ledger).next("gate"))
    assert contents(ledger) == before
    ledger.close()


def test_a_writer_that_does_not_come_to_an_end_is_named_as_such(postgres_url, monkeypatch):
    from assay.adapters.postgres import connection

    monkeypatch.setattr(
        connection, "_SESSION", connection._SESSION.replace("lock_timeout=30s", "lock_timeout=50")
    )
    first, second = PostgresLedger(postgres_url), PostgresLedger(postgres_url)
    with first.lock():
        with pytest.raises(Unavailable, match="another process") as caught, second.lock():
            pass
        assert "pg_stat_activity" in caught.value.hint
    with second.lock():
        pass
