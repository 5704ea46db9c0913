"""One suite that every ledger of a registry passes.

A ledger of your own is held to the port by a few lines::

    class TestMyLedger(LedgerTests):
        @pytest.fixture
        def place(self, tmp_path):
            return MyPlace(tmp_path)

A :class:`LedgerPlace` opens the ledger under test, and can do to it what no ledger does: change
the lines of its log, and run statements on its catalogue's database.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from assay.domain.versions import RISK_MODEL
from assay.errors import AssayError, Conflict, Refused, Tampered
from assay.registry import Entry, EventOutcome, EventType, FileLedger, Ledger
from assay.registry.index_layout import FORMAT
from assay.registry.log import EMPTY, GENESIS, LogProblem, walk

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND
WAIT = 30.0


class LedgerPlace(Protocol):
    """Where one ledger is; empty at first."""

    def open(self) -> Ledger:
        """Another object over the same log and catalogue, as another process would have."""
        ...

    def rewrite(self, lines: Sequence[bytes]) -> None:
        """Put other lines where the log is, past the ledger; given without line breaks."""
        ...

    def execute(self, statement: str) -> None:
        """Run one statement on the catalogue's database, past the ledger."""
        ...


class Chain:
    """Makes sealed entries that follow one another, a second apart."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        head = ledger.head() if ledger else EMPTY
        self._seq, self._previous = head.seq, head.hash

    def next(
        self,
        event: EventType,
        version: str = "1.0.0",
        *,
        model: str = "fx_vol",
        at: int | None = None,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
        outcome: EventOutcome = EventOutcome.DONE,
    ) -> Entry:
        """The entry after the last one."""
        seq = self._seq + 1
        if event is EventType.REGISTER and evidence is None:
            evidence = {
                "kind": RISK_MODEL,
                "digest": f"{seq:064x}",
                "identity": f"{seq:064x}",
                "author": "author",
                "baseline": False,
                "created_at": T0,
            }
        entry = Entry(
            seq, T0 + seq * SECOND if at is None else at, event, model, None, version, "somebody",
            outcome, reason, dict(evidence or {}), self._previous,
        ).sealed()  # fmt: skip
        self._seq, self._previous = entry.seq, entry.hash
        return entry

    def life(self) -> list[Entry]:
        """Two models; the first has been through every move that there is."""
        do = EventType
        return [
            self.next(do.REGISTER, "1.0.0"),
            self.next(do.REGISTER, "1.10.0"),
            self.next(do.REGISTER, "1.9.0"),
            self.next(do.REGISTER, "1.0.0", model="fx_direction"),
            self.next(do.EVIDENCE, evidence={"version_digest": "0", "evidence": []}),
            self.next(do.PROMOTE, "1.0.0"),
            self.next(do.PROMOTE, "1.9.0", outcome=EventOutcome.REFUSED, reason="too few"),
            self.next(do.PROMOTE, "1.9.0", reason="Größe λ → 漢字 \U0001f600 'quoted\" ; -- ?%s"),
            self.next(do.ROLLBACK, "1.0.0", evidence={"keep": True}),
            self.next(do.ROLLBACK, "1.9.0", evidence={"keep": False}),
            self.next(do.BREAK_GLASS, "1.10.0"),
            self.next(do.FAIL, "1.10.0"),
            self.next(do.MANIFEST_PUBLISH, "a" * 64, model="features/fx"),
        ]


def let_happen(ledger: Ledger, *entries: Entry) -> None:
    """Append entries as a writer does: under the lock, over a recovered ledger."""
    with ledger.lock():
        ledger.recover()
        for entry in entries:
            ledger.append(entry)


def contents(ledger: Ledger) -> tuple[list[bytes], list[str]]:
    """Everything that is there: the log's lines and the catalogue's rows."""
    return [*ledger.lines()], [*ledger.catalogue.dump()]


class LedgerTests:
    """The promises of :class:`~assay.registry.ledger.Ledger`."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> LedgerPlace:
        """Overridden by the subclass: where the ledger under test is."""
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, place: LedgerPlace) -> Iterator[Ledger]:
        """A ledger that is closed afterwards."""
        ledger = place.open()
        yield ledger
        ledger.close()

    def test_an_empty_ledger_is_settled_once_it_was_recovered(self, ledger: Ledger) -> None:
        assert (ledger.head(), [*ledger.lines()], ledger.catalogue.applied()) == (EMPTY, [], None)
        assert not ledger.is_settled()
        let_happen(ledger)
        assert ledger.is_settled()
        assert (ledger.head(), ledger.catalogue.names()) == (EMPTY, ())

    def test_what_happened_stands_in_the_log_and_in_the_catalogue(self, ledger: Ledger) -> None:
        life = Chain().life()
        let_happen(ledger, *life)
        assert ledger.is_settled()
        assert [*ledger.lines()] == [entry.to_line() + b"\n" for entry in life]
        assert ledger.catalogue.events(None) == tuple(life)
        head = ledger.head()
        assert (head.seq, head.hash, head.at) == (len(life), life[-1].hash, life[-1].at)
        assert head == ledger.catalogue.applied()

    def test_the_log_is_read_on_from_any_entry(self, ledger: Ledger) -> None:
        life = Chain().life()
        let_happen(ledger, *life)
        heads = [EMPTY, *(head for _, head in ledger.entries_after(EMPTY))]
        for number, head in enumerate(heads):
            assert [entry for entry, _ in ledger.entries_after(head)] == life[number:]
        assert heads[-1] == ledger.head()

    def test_the_catalogue_has_the_rows_of_a_file_and_sqlite(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        oracle = FileLedger(tmp_path / "oracle")
        for each in (ledger, oracle):
            let_happen(each, *Chain().life())
        assert contents(ledger) == contents(oracle)

    def test_answers_about_versions_follow_numbers_and_moments(self, ledger: Ledger) -> None:
        let_happen(ledger, *Chain().life())
        ask = ledger.catalogue
        assert [one.version for one in ask.select("fx_vol", None)] == ["1.0.0", "1.9.0", "1.10.0"]
        assert ask.names() == ("fx_direction", "fx_vol")
        assert (ask.current("fx_vol"), ask.champions()) == (None, {})
        assert ask.productions("fx_vol") == ("1.0.0", "1.9.0", "1.0.0", "1.9.0", "1.10.0", None)
        live = [ask.live_at("fx_vol", T0 + second * SECOND) for second in (5, 6, 8, 12)]
        assert [one and one[0] for one in live] == [None, "1.0.0", "1.9.0", None]
        then = {one.version: one.stage for one in ask.select_at(T0 + 9 * SECOND, "fx_vol", None)}
        assert then == {"1.0.0": "production", "1.9.0": "archived", "1.10.0": "staged"}
        first = ask.select_at(T0 + 2 * SECOND, None, None)
        assert [(one.version, one.stage) for one in first] == [
            ("1.0.0", "staged"),
            ("1.10.0", "staged"),
        ]
        assert ask.select_at(T0, None, None) == ()
        now = ask.select(None, None)
        assert ask.select_at(T0 + 99 * SECOND, None, None) == now

    def test_a_move_that_is_not_allowed_leaves_nothing(self, ledger: Ledger) -> None:
        chain = Chain()
        let_happen(ledger, chain.next(EventType.REGISTER))
        before = contents(ledger)
        with pytest.raises(Refused):
            let_happen(ledger, chain.next(EventType.ROLLBACK))
        assert contents(ledger) == before

    def test_a_second_version_of_one_number_leaves_nothing(self, ledger: Ledger) -> None:
        chain = Chain()
        let_happen(ledger, chain.next(EventType.REGISTER))
        before = contents(ledger)
        with pytest.raises(Conflict):
            let_happen(ledger, chain.next(EventType.REGISTER))
        assert contents(ledger) == before

    def test_a_large_entry_is_kept_as_it_is(self, ledger: Ledger) -> None:
        entry = Chain().next(EventType.GATE, evidence={"report": "x" * 2_000_000})
        let_happen(ledger, entry)
        assert ledger.catalogue.events("fx_vol") == (entry,)
        assert [found for found, _ in ledger.entries_after(EMPTY)] == [entry]

    def test_another_process_sees_at_once_what_happened(
        self, place: LedgerPlace, ledger: Ledger
    ) -> None:
        other = place.open()
        let_happen(other)
        let_happen(ledger, *Chain().life())
        assert other.is_settled()
        assert contents(other) == contents(ledger)
        let_happen(other, Chain(other).next(EventType.REGISTER, "2.0.0"))
        assert ledger.catalogue.find("fx_vol", "2.0.0") is not None
        other.close()

    def test_a_closed_ledger_answers_when_it_is_asked_again(self, ledger: Ledger) -> None:
        let_happen(ledger, *Chain().life())
        before = contents(ledger)
        ledger.close()
        assert contents(ledger) == before

    def test_threads_may_read_at_once(self, ledger: Ledger) -> None:
        let_happen(ledger, *Chain().life())
        expected = contents(ledger)
        found: list[object] = []

        def read() -> None:
            found.extend(contents(ledger) for _ in range(5))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert found == [expected] * 20

    # -- the lock ---------------------------------------------------------------------------------

    def test_only_one_writer_is_inside(self, place: LedgerPlace) -> None:
        inside, leave, entered = threading.Event(), threading.Event(), threading.Event()
        first, second = place.open(), place.open()

        def hold() -> None:
            with first.lock():
                inside.set()
                leave.wait(WAIT)

        def follow() -> None:
            with second.lock():
                entered.set()

        threads = [threading.Thread(target=hold), threading.Thread(target=follow)]
        threads[0].start()
        assert inside.wait(WAIT)
        threads[1].start()
        assert not entered.wait(0.2)
        leave.set()
        assert entered.wait(WAIT)
        for thread in threads:
            thread.join(WAIT)
        first.close()
        second.close()

    def test_a_writer_that_fails_lets_the_next_one_in(self, place: LedgerPlace) -> None:
        ledger, other = place.open(), place.open()
        with pytest.raises(ZeroDivisionError), ledger.lock():
            raise ZeroDivisionError
        let_happen(other, Chain().next(EventType.REGISTER))
        assert ledger.head().seq == 1
        ledger.close()
        other.close()

    # -- recovery ---------------------------------------------------------------------------------

    def test_a_catalogue_made_again_has_the_same_rows(self, ledger: Ledger) -> None:
        let_happen(ledger, *Chain().life())
        before = contents(ledger)
        with ledger.lock():
            assert ledger.rebuild() == ledger.head()
        assert contents(ledger) == before

    @pytest.mark.parametrize("layout", range(FORMAT))
    def test_a_catalogue_of_an_older_layout_is_made_again_from_the_log(
        self, place: LedgerPlace, ledger: Ledger, layout: int
    ) -> None:
        let_happen(ledger, *Chain().life())
        before = contents(ledger)
        for statement in (
            "DROP TABLE stages",
            "DROP INDEX one_version_per_content",
            f"UPDATE applied SET format = {layout}, seq = 3",
        ):
            place.execute(statement)
        again = place.open()
        assert not again.is_settled()
        let_happen(again)
        assert contents(again) == before
        again.close()

    def test_a_catalogue_without_its_tables_is_made_again_from_the_log(
        self, place: LedgerPlace, ledger: Ledger
    ) -> None:
        let_happen(ledger, *Chain().life())
        before = contents(ledger)
        for table in ("applied", "versions", "events", "production", "stages"):
            place.execute(f"DROP TABLE {table}")
        let_happen(ledger)
        assert contents(ledger) == before

    def test_a_damaged_catalogue_is_made_again_by_a_rebuild(
        self, place: LedgerPlace, ledger: Ledger
    ) -> None:
        let_happen(ledger, *Chain().life())
        before = contents(ledger)
        place.execute("DROP TABLE events")
        with pytest.raises(Tampered, match="rebuild"):
            ledger.catalogue.events(None)
        place.execute("ALTER TABLE applied RENAME COLUMN hash TO other")
        with ledger.lock():
            ledger.rebuild()
        assert contents(ledger) == before

    @pytest.mark.parametrize("kept", [0, 1, 12])
    def test_a_log_that_was_cut_is_refused(
        self, place: LedgerPlace, ledger: Ledger, kept: int
    ) -> None:
        life = Chain().life()
        let_happen(ledger, *life)
        place.rewrite([entry.to_line() for entry in life[:kept]])
        assert not ledger.is_settled()
        rows = [*ledger.catalogue.dump()]
        for act in (ledger.recover, ledger.rebuild):
            with ledger.lock(), pytest.raises(Tampered, match="cut or replaced"):
                act()
        assert [*ledger.catalogue.dump()] == rows

    def test_a_log_whose_last_entry_was_replaced_is_refused(
        self, place: LedgerPlace, ledger: Ledger
    ) -> None:
        life = Chain().life()
        let_happen(ledger, *life)
        forged = replace(life[-1], initiated_by="another").sealed()
        place.rewrite([entry.to_line() for entry in (*life[:-1], forged)])
        with ledger.lock(), pytest.raises(Tampered, match="cut or replaced"):
            ledger.recover()

    @pytest.mark.parametrize("number", [0, 6])
    def test_an_edited_entry_stops_a_rebuild_and_is_found_by_a_walk(
        self, place: LedgerPlace, ledger: Ledger, number: int
    ) -> None:
        life = Chain().life()
        let_happen(ledger, *life)
        rows = [*ledger.catalogue.dump()]
        lines = [entry.to_line() for entry in life]
        lines[number] = lines[number].replace(b"somebody", b"somebogy")
        place.rewrite(lines)
        with ledger.lock(), pytest.raises(Tampered, match="assay audit verify"):
            ledger.rebuild()
        assert [*ledger.catalogue.dump()] == rows
        problems: list[LogProblem] = []
        walk(ledger.lines(), {0: GENESIS}, problems)
        assert [problem.line for problem in problems] == [number + 1]

    def test_the_database_itself_refuses_a_second_version_in_production(
        self, place: LedgerPlace, ledger: Ledger
    ) -> None:
        chain = Chain()
        do = EventType
        let_happen(ledger, chain.next(do.REGISTER), chain.next(do.REGISTER, "1.1.0"))
        place.execute("UPDATE versions SET stage = 'production' WHERE version = '1.0.0'")
        with pytest.raises(Exception, match=r"(?i)unique"):
            place.execute("UPDATE versions SET stage = 'production' WHERE version = '1.1.0'")

    # -- another ledger's log ---------------------------------------------------------------------

    def test_the_log_of_another_ledger_is_taken_over_whole(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        other = FileLedger(tmp_path / "other")
        let_happen(other, *Chain().life())
        with ledger.lock():
            assert ledger.adopt(other.lines()) == other.head()
        assert ledger.is_settled()
        assert contents(ledger) == contents(other)

    def test_a_log_with_entries_takes_over_nothing(self, ledger: Ledger) -> None:
        let_happen(ledger, *Chain().life())
        before = contents(ledger)
        with ledger.lock(), pytest.raises(Conflict):
            ledger.adopt(ledger.lines())
        assert contents(ledger) == before

    def test_a_log_that_does_not_verify_is_not_taken_over(self, ledger: Ledger) -> None:
        lines = [entry.to_line() + b"\n" for entry in Chain().life()]
        del lines[3]
        with ledger.lock(), pytest.raises(AssayError, match="does not follow"):
            ledger.adopt(lines)
        let_happen(ledger)
        assert [*ledger.lines()] == []
