"""PostgreSQL under a registry: what the server holds, and what happens when it goes away."""

import importlib.util
import os
import re
import shutil
import threading
from pathlib import Path

import pytest

from assay.delivery.promotion import break_glass
from assay.errors import (
    ConfigurationError,
    Conflict,
    ContractViolation,
    Tampered,
    Unavailable,
)
from assay.registry import EventType, FileLedger, ModelRegistry, adopt_log, log_file
from assay.registry.desk_mark import FolderMark, Mark, ObjectMark
from assay.registry.doubts import doubts_about
from assay.registry.index_layout import FORMAT
from assay.registry.log import EMPTY
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock
from assay.testing.ledger import Chain, contents, let_happen
from assay.testing.versions import AUTHOR, make_candidate, make_keys, pass_gates

psycopg = pytest.importorskip("psycopg", reason="pip install 'assay[postgres]'")

from assay.adapters.postgres import PostgresAddress, PostgresLedger  # noqa: E402
from assay.adapters.postgres import connection as connection_module  # noqa: E402
from assay.adapters.postgres import ledger as ledger_module  # noqa: E402
from assay.adapters.postgres.connection import connect  # noqa: E402

T0 = 10**18


@pytest.fixture
def ledger(postgres_url):
    made = PostgresLedger(postgres_url)
    yield made
    made.close()


def execute(url, statement, values=None):
    with connect(PostgresAddress.parse(url)) as connection:
        answer = connection.execute(statement, values)
        return answer.fetchall() if answer.description else None


def backends(url):
    """Server processes of registries, other than the one that asks."""
    return execute(
        url,
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'assay'"
        " AND pid <> pg_backend_pid()",
    )


@pytest.fixture
def registry(tmp_path, postgres_url):
    made = open_registry(tmp_path, postgres_url, make_keys(tmp_path))
    yield made
    made.close()


def open_registry(folder, url, keyring):
    return ModelRegistry(
        folder / "desk" / "data" / "models",
        keyring,
        FixedClock(T0),
        audit_path=folder / "desk" / "observability" / "audit" / "model_events.jsonl",
        ledger=PostgresLedger(url),
    )


def glass(registry, version):
    clock = registry.clock
    return break_glass(
        registry, "fx_vol", version, initiated_by=AUTHOR, reason="now", clock=clock,
        monotonic=lambda: 0.0,
    )  # fmt: skip


# -- what the server holds ----------------------------------------------------------------------


def test_a_whole_life_of_versions_leaves_files_beside_the_database(registry, tmp_path):
    for number in range(3):
        registry.register(make_candidate(version=f"1.{number}.0", weights=(number, 1)))
    pass_gates(registry, "fx_vol", "1.0.0")
    glass(registry, "1.0.0")
    glass(registry, "1.1.0")
    registry.fail("fx_vol", "1.1.0", initiated_by=AUTHOR, reason="drift")
    assert not (registry.root / "log" / "events.jsonl").exists()
    assert not [*registry.root.glob("registry.db*")]
    assert len([*(registry.root / "log" / "heads").glob("*.json")]) == 3
    report = registry.verify_log()
    assert (report.ok, report.entries, report.signed_up_to) == (True, 8, 8)
    export = tmp_path / "desk" / "observability" / "audit" / "model_events.jsonl"
    assert export.read_bytes() == b"".join(registry._journal.ledger.lines())
    assert registry.live_at("fx_vol", T0).version is None
    again = (
        open_registry(tmp_path, registry._journal.ledger.address, registry.keyring) if 0 else None
    )
    assert again is None


def test_the_log_is_only_ever_added_to(ledger, postgres_url):
    let_happen(ledger, *Chain().life())
    before = contents(ledger)
    for statement in ("DELETE FROM log", "UPDATE log SET line = ''", "TRUNCATE log"):
        with pytest.raises(psycopg.errors.RaiseException, match="only ever added to"):
            execute(postgres_url, statement)
    assert contents(ledger) == before


def test_times_are_whole_nanoseconds(ledger, postgres_url):
    let_happen(ledger, Chain().next(EventType.REGISTER, at=1_763_000_000_123_456_789))
    assert execute(postgres_url, "SELECT registered_at, stage_at FROM versions") == [
        (1_763_000_000_123_456_789,) * 2
    ]


def test_two_registries_in_one_database_do_not_meet(postgres):
    one, two = (PostgresLedger(postgres.url(name)) for name in ("desk_one", "desk_two"))
    let_happen(one, *Chain().life())
    with one.lock():  # another desk's writer is not kept waiting either
        let_happen(two, Chain().next(EventType.REGISTER))
    assert (one.head().seq, two.head().seq) == (13, 1)
    one.close()
    two.close()


def test_a_text_that_postgresql_cannot_hold_is_refused_in_words(ledger):
    let_happen(ledger)
    with pytest.raises(ContractViolation, match="NUL"):
        let_happen(ledger, Chain().next(EventType.GATE, reason="a\0b"))
    assert ledger.head() == EMPTY


def test_a_catalogue_of_a_newer_release_is_left_alone(ledger, postgres_url):
    let_happen(ledger, *Chain().life())
    execute(postgres_url, f"UPDATE applied SET format = {FORMAT + 1}")
    before = execute(postgres_url, "SELECT * FROM versions ORDER BY 1, 2")
    for act in (ledger.is_settled, lambda: let_happen(ledger)):
        with pytest.raises(Unavailable, match=f"layout {FORMAT + 1}"):
            act()
    assert execute(postgres_url, "SELECT * FROM versions ORDER BY 1, 2") == before
    with ledger.lock():
        ledger.rebuild()  # whoever asks for it by name may go back
    assert ledger.is_settled()


def test_machines_that_meet_an_older_layout_at_once_rebuild_it_once(ledger, postgres_url):
    let_happen(ledger, *Chain().life())
    before = contents(ledger)
    execute(postgres_url, "DROP TABLE stages")
    execute(postgres_url, "UPDATE applied SET format = 1")
    errors = []

    def open_it():
        other = PostgresLedger(postgres_url)
        try:
            if not other.is_settled():
                let_happen(other)
            assert contents(other) == before
        except BaseException as error:
            errors.append(error)
        finally:
            other.close()

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


# -- a connection that goes away ------------------------------------------------------------------


def test_a_dropped_connection_is_noticed_before_the_next_question(ledger, postgres_url):
    let_happen(ledger, *Chain().life())
    before = contents(ledger)
    for (process,) in backends(postgres_url):
        execute(postgres_url, "SELECT pg_terminate_backend(%s, 10000)", (process,))
    assert contents(ledger) == before


def test_a_forked_process_opens_its_own_connection(ledger):
    let_happen(ledger, *Chain().life())
    before = contents(ledger)
    child = os.fork()
    if child == 0:
        os._exit(0 if contents(ledger) == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert contents(ledger) == before


@pytest.fixture
def between(postgres, postgres_url):
    """A ledger whose connections can be cut, the proxy that cuts them, and a whole one."""
    spec = importlib.util.spec_from_file_location(
        "cutting_proxy", Path(__file__).with_name("cutting_proxy.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = PostgresAddress.parse(postgres_url).host
    proxy = module.CuttingProxy(folder)
    ledger = PostgresLedger(postgres_url.replace(folder, proxy.folder))
    yield ledger, proxy
    ledger.close()
    proxy.close()


def test_a_connection_lost_before_the_commit_changes_nothing(between, ledger):
    cut, proxy = between
    chain = Chain()
    let_happen(cut, chain.next(EventType.REGISTER))
    before = contents(ledger)
    entry = chain.next(EventType.PROMOTE)
    with cut.lock():
        proxy.cut = "before"
        with pytest.raises(Unavailable, match="nothing was changed"):
            cut.append(entry)
    assert proxy.cuts == 1
    assert contents(ledger) == before
    let_happen(cut, entry)
    assert ledger.catalogue.current("fx_vol").version == "1.0.0"


def test_a_commit_whose_answer_was_lost_is_found_in_the_log(between, ledger):
    cut, proxy = between
    chain = Chain()
    let_happen(cut, chain.next(EventType.REGISTER))
    entry = chain.next(EventType.PROMOTE)
    with cut.lock():
        proxy.cut = "after"
        assert cut.append(entry) == ledger.head()
        # The lock is held again: nobody else changes what is still to be published.
        with pytest.raises(Unavailable, match="another process"):
            impatient(ledger)
    assert proxy.cuts == 1
    assert ledger.head().hash == entry.hash
    assert ledger.catalogue.current("fx_vol").version == "1.0.0"


def impatient(ledger):
    """Ask for the lock, and wait for it for a twentieth of a second."""
    session = connection_module._SESSION
    connection_module._SESSION = session.replace("lock_timeout=30s", "lock_timeout=50")
    try:
        with ledger.lock():
            pass
    finally:
        connection_module._SESSION = session


def test_a_server_that_stays_away_leaves_the_question_in_words(start_postgres, monkeypatch):
    server = start_postgres()
    ledger = PostgresLedger(server.url())
    chain = Chain()
    let_happen(ledger, chain.next(EventType.REGISTER))
    monkeypatch.setattr(ledger_module, "_PATIENCE", 0.0)
    change = ledger._change

    def killed(work):
        def die(rows):
            work(rows)
            server.kill()

        change(die)

    entry = chain.next(EventType.PROMOTE)
    with ledger.lock():
        ledger.recover()
        monkeypatch.setattr(ledger, "_change", killed)
        with pytest.raises(Unavailable, match=r"whether entry 2 \(promote of fx_vol 1.0.0\)"):
            ledger.append(entry)
    monkeypatch.undo()
    server.start()
    assert ledger.head().seq == 1
    let_happen(ledger, entry)
    assert ledger.catalogue.current("fx_vol").version == "1.0.0"
    ledger.close()


# -- moving a log ----------------------------------------------------------------------------------


def test_a_registry_moves_into_the_database_and_back(tmp_path, postgres_url):
    keyring, clock = make_keys(tmp_path), FixedClock(T0)
    root, audit = tmp_path / "models", tmp_path / "audit.jsonl"

    def opened(ledger=None):
        return ModelRegistry(root, keyring, clock, audit_path=audit, ledger=ledger)

    registry = opened()
    registry.register(make_candidate())
    glass(registry, "1.0.0")
    before = contents(registry._journal.ledger)
    database = PostgresLedger(postgres_url, former=log_file(root))
    with pytest.raises(Conflict, match="assay models adopt"):
        opened(database)
    adopt_log(root, keyring, clock, log_file(root), audit_path=audit, ledger=database)
    moved = opened(database)
    assert contents(database) == before
    assert moved.verify_log().ok
    with pytest.raises(Tampered, match="cut or replaced"):
        opened()  # the file is not to be added to any more
    moved.fail("fx_vol", "1.0.0", initiated_by=AUTHOR, reason="drift")
    after = contents(database)

    adopt_log(root, keyring, clock, audit, audit_path=audit, ledger=FileLedger(root))
    back = opened()
    assert contents(back._journal.ledger) == after
    assert back.verify_log().ok
    database.close()


def test_a_schema_belongs_to_the_desk_that_used_it_first(postgres_url):
    first = PostgresLedger(postgres_url, desk="fx")
    let_happen(first, *Chain().life())
    again = PostgresLedger(postgres_url, desk="fx")
    assert again.is_settled()
    other = PostgresLedger(postgres_url, desk="rates")
    before = contents(first)
    with pytest.raises(ConfigurationError, match=r"of desk 'fx', this is desk 'rates'") as caught:
        other.is_settled()
    assert "?schema=" in caught.value.hint
    for act in (other.recover, other.rebuild):
        with other.lock(), pytest.raises(ConfigurationError):
            act()
    assert contents(first) == before
    for ledger in (first, again, other):
        ledger.close()


def test_a_schema_from_before_desks_were_named_takes_the_next_writers_name(postgres_url):
    unnamed = PostgresLedger(postgres_url)
    let_happen(unnamed, *Chain().life())
    mine = PostgresLedger(postgres_url, desk="fx")
    assert not mine.is_settled()
    let_happen(mine)
    assert mine.is_settled()
    with pytest.raises(ConfigurationError):
        PostgresLedger(postgres_url, desk="rates").is_settled()
    assert unnamed.is_settled()
    for ledger in (unnamed, mine):
        ledger.close()


def marked(url, folder, *, desk="fx", machine="one"):
    return PostgresLedger(url, desk=desk, mark=FolderMark(folder, machine))


def test_a_copied_desk_is_refused_the_schema_of_the_original(postgres_url, tmp_path):
    original, copy = tmp_path / "original", tmp_path / "copy"
    first = marked(postgres_url, original)
    let_happen(first, *Chain().life())
    before = contents(first)
    shutil.copytree(original, copy)
    cloned = marked(postgres_url, tmp_path / "clone")  # the settings without the files
    for other, words in (
        (marked(postgres_url, copy), f"{copy} is a copy of one:{original}"),
        (cloned, f"{tmp_path / 'clone'} is not where they are"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(words)) as caught:
            other.is_settled()
        assert "?schema=" in caught.value.hint
        assert "assay models claim" in caught.value.hint
        for act in (other.recover, other.rebuild):
            with other.lock(), pytest.raises(ConfigurationError):
                act()
        other.close()
    assert contents(first) == before
    # Another machine that mounts the folder elsewhere, one that was renamed, one that came back.
    assert marked(postgres_url, original, machine="two").is_settled()
    renamed = original.rename(tmp_path / "renamed")
    assert marked(postgres_url, renamed).is_settled()
    shutil.copytree(renamed, original)
    assert marked(postgres_url, original).is_settled()
    first.close()


def test_a_copy_with_a_schema_of_its_own_is_another_desk(postgres, postgres_url, tmp_path):
    original, copy = tmp_path / "original", tmp_path / "copy"
    first = marked(postgres_url, original)
    let_happen(first, *Chain().life())
    shutil.copytree(original, copy)
    own = postgres.url("of_the_copy")
    second = marked(own, copy)
    let_happen(second, *Chain().life())
    assert second.is_settled()
    with pytest.raises(ConfigurationError, match="is not where they are"):
        marked(postgres_url, copy).is_settled()
    first.close()
    second.close()


def test_a_claim_takes_a_schema_over_and_ends_the_former_owners_right(postgres_url, tmp_path):
    former, moved = tmp_path / "former", tmp_path / "moved"
    first = marked(postgres_url, former)
    let_happen(first, *Chain().life())
    shutil.copytree(former, moved)
    taken = marked(postgres_url, moved, desk="renamed")
    with pytest.raises(ConfigurationError, match="of desk 'fx'"):
        taken.is_settled()
    number = taken.claim()
    assert taken.is_settled()
    assert FolderMark(moved, "one").read() == Mark(number)
    assert marked(postgres_url, moved, desk="renamed").is_settled()
    # Whoever has had it open is refused at its next change.
    with first.lock(), pytest.raises(ConfigurationError, match="of desk 'renamed'"):
        first.recover()
    for ledger in (first, taken):
        ledger.close()


def test_a_schema_from_before_files_were_marked_takes_the_next_writers_mark(postgres_url, tmp_path):
    unmarked = PostgresLedger(postgres_url, desk="fx")
    let_happen(unmarked, *Chain().life())
    execute(postgres_url, "ALTER TABLE desk DROP COLUMN number")
    mine = marked(postgres_url, tmp_path / "mine")
    assert not mine.is_settled()
    let_happen(mine)
    assert mine.is_settled()
    with pytest.raises(ConfigurationError, match="is not where they are"):
        marked(postgres_url, tmp_path / "other").is_settled()
    assert unmarked.is_settled(), "an earlier release asks for the name alone"
    for ledger in (unmarked, mine):
        ledger.close()


def test_a_mark_whose_writer_died_before_the_schema_had_it_is_taken_by_the_next(
    postgres_url, tmp_path, monkeypatch
):
    dying = marked(postgres_url, tmp_path)
    with dying.lock():
        dying._make_log()
        monkeypatch.setattr(dying, "_change", lambda change: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dying._claim()
    left = FolderMark(tmp_path, "one").read()
    after = marked(postgres_url, tmp_path)
    let_happen(after)
    assert FolderMark(tmp_path, "one").read() == left
    assert execute(postgres_url, "SELECT name, number FROM desk") == [("fx", left.number)]
    for ledger in (dying, after):
        ledger.close()


def test_a_registry_on_a_server_is_doubted_where_others_have_seen_more(registry):
    registry.register(make_candidate())
    assert doubts_about(registry, "fx_vol") == ()
    (doubt,) = doubts_about(registry, "fx_vol", known=[(2, "f" * 64, "serving.jsonl")])
    assert str(doubt) == "serving.jsonl names entry 2, but the log ends at 1: cut off"


def test_machines_that_share_objects_share_their_mark(postgres_url, tmp_path):
    bucket = LocalObjects(tmp_path / "bucket")
    one = PostgresLedger(postgres_url, desk="fx", mark=ObjectMark(bucket))
    let_happen(one, *Chain().life())
    two = PostgresLedger(postgres_url, desk="fx", mark=ObjectMark(bucket))
    assert two.is_settled()
    other = ObjectMark(LocalObjects(tmp_path / "other"))
    with pytest.raises(ConfigurationError, match="is not where they are"):
        PostgresLedger(postgres_url, desk="fx", mark=other).is_settled()
    for ledger in (one, two):
        ledger.close()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"desk":"1"}', b'{"desk":"1","inode":"x"}'])
def test_a_mark_that_cannot_be_read_says_how_to_make_it_anew(content, tmp_path):
    (tmp_path / "desk.json").write_bytes(content)
    with pytest.raises(Tampered, match=r"desk\.json, which says whose files these are") as caught:
        FolderMark(tmp_path, "one").read()
    assert caught.value.hint == "assay models claim makes it anew"
    assert FolderMark(tmp_path, "one").make() == FolderMark(tmp_path, "two").read()


def test_a_pooler_that_drops_the_settings_of_a_session_is_refused(postgres_url, monkeypatch):
    from assay.adapters.postgres import connection

    real = connection.psycopg.connect

    def dropping(**arguments):
        # As a pooler does that is told to ignore the option: everything else is real.
        return real(**{name: value for name, value in arguments.items() if name != "options"})

    monkeypatch.setattr(connection.psycopg, "connect", dropping)
    with pytest.raises(ConfigurationError, match="drops the settings of a session"):
        let_happen(PostgresLedger(postgres_url), *Chain().life())
