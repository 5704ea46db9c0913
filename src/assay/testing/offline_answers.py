"""What an offline store's rows answer at a moment: half of the suite in ``offline_store``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from assay.domain.instants import Instant, from_datetime, parse
from assay.features.offline.point_in_time import Knowledge, TimeToLive, as_of_join
from assay.features.offline.store import OfflineStore
from assay.features.offline.stored_table import StoredFeatures, StoredJoin
from assay.features.offline.training_sets import Spine, get_training_set, write_training_set
from assay.lake.digest import frame_digest
from assay.testing.clocks import FixedClock
from assay.testing.offline_rows import DAY, MANIFEST, TABLE, Row, opened, row, table_of

NOW = parse("2026-03-31T12:00Z")


class OfflineAnswerTests:
    """The answers that rows in a store give, read at once and partition by partition.

    Attributes
    ----------
    opening: ``package.module:name`` of what makes the store of a folder and a clock.
    """

    opening = ""

    @pytest.fixture
    def clock(self) -> FixedClock:
        """The clock of the stores under test."""
        return FixedClock(1_000)

    @pytest.fixture
    def open_store(self, tmp_path: Path, clock: FixedClock) -> Callable[..., OfflineStore]:
        """Opens the store in a folder of that name; the same name opens the same content."""

        def open_store(name: str = "store") -> OfflineStore:
            return opened(self.opening, tmp_path / name, clock)

        return open_store

    @pytest.fixture
    def store(self, open_store: Callable[..., OfflineStore]) -> OfflineStore:
        """An empty store."""
        return open_store()

    def answers(
        self,
        store: OfflineStore,
        asked: Sequence[tuple[str, Instant]],
        *,
        ttl: TimeToLive | None = None,
        knowledge: Knowledge = Knowledge.AS_KNOWN,
        known_at: Instant | None = None,
    ) -> list[float | None]:
        """The value for each (entity, moment), the same by every way that there is to it."""
        spine = pl.DataFrame(
            asked, schema={"instrument": pl.String, "as_of": pl.Int64}, orient="row"
        )
        table = StoredFeatures.of(store, TABLE, ttl=ttl)
        whole = as_of_join(spine, table.load(), knowledge=knowledge, known_at=known_at)
        join = StoredJoin(table, knowledge=knowledge, known_at=known_at, cache=0)
        chunks = [join.rows(spine[start : start + 3]) for start in range(0, len(asked), 3)]
        digest = frame_digest(whole)
        assert frame_digest(pl.concat([whole.clear(), *chunks])) == digest
        assert frame_digest(join.rows(spine)) == digest
        assert whole.select("instrument", "as_of").rows() == list(asked)
        found: list[float | None] = whole["value"].to_list()
        return found

    def written(self, store: OfflineStore, *batches: Sequence[Row]) -> OfflineStore:
        """``store`` with these batches committed."""
        for rows in batches:
            store.commit(TABLE, table_of(*rows), metadata={"manifest": MANIFEST})
        return store

    def test_a_correction_with_the_same_event_time_wins_once_it_is_known(
        self, store: OfflineStore
    ) -> None:
        self.written(store, [row("A", 10)], [row("A", 10, 20, value=1.5)])
        asked = [("A", 9), ("A", 10), ("A", 19), ("A", 20)]
        assert self.answers(store, asked) == [None, 1.0, 1.0, 1.5]
        later = self.answers(store, asked, knowledge=Knowledge.AS_CORRECTED)
        assert later == [None, 1.5, 1.5, 1.5]
        before = self.answers(
            store, asked[:3], knowledge=Knowledge.AS_CORRECTED, known_at=19
        )  # fmt: skip
        assert before == [None, 1.0, 1.0]

    def test_an_older_event_that_arrives_later_never_overwrites(self, store: OfflineStore) -> None:
        late = row("A", 3 * DAY, 70 * DAY, value=0.5)
        self.written(store, [row("A", 60 * DAY, value=2.0)], [late])
        asked = [("A", 59 * DAY), ("A", 60 * DAY), ("A", 70 * DAY), ("A", 99 * DAY)]
        assert self.answers(store, asked) == [None, 2.0, 2.0, 2.0]

    def test_a_late_row_is_the_answer_where_nothing_newer_was_known(
        self, store: OfflineStore
    ) -> None:
        self.written(store, [row("A", 0, value=1.0)], [row("A", 31 * DAY, 50 * DAY, value=3.0)])
        asked = [("A", 40 * DAY), ("A", 50 * DAY - 1), ("A", 50 * DAY)]
        assert self.answers(store, asked) == [1.0, 1.0, 3.0]

    def test_a_batch_in_reverse_order_gives_the_same_answers(
        self, open_store: Callable[..., OfflineStore]
    ) -> None:
        rows = [row("A", n * DAY, (n + n % 4) * DAY, sequence=n, value=float(n)) for n in range(70)]
        asked = [("A", n * DAY) for n in range(75)]
        one = self.written(open_store("one"), rows)
        other = self.written(open_store("other"), rows[::-1][:35], rows[::-1][35:])
        assert self.answers(one, asked) == self.answers(other, asked)

    def test_two_ticks_400_nanoseconds_apart_are_two(self, store: OfflineStore) -> None:
        self.written(store, [row("A", NOW), row("A", NOW + 400, value=2.0)])
        asked = [("A", NOW - 1), ("A", NOW), ("A", NOW + 399), ("A", NOW + 400)]
        assert self.answers(store, asked) == [None, 1.0, 1.0, 2.0]

    def test_a_time_to_live_ends_after_its_last_nanosecond(self, store: OfflineStore) -> None:
        self.written(store, [row("A", 100, 150), row("B", 100)])
        ttl = TimeToLive(nanos=60)  # from the event time, as a store read online has it
        asked = [("A", 149), ("A", 160), ("A", 161), ("B", 160), ("B", 161)]
        assert self.answers(store, asked, ttl=ttl) == [None, 1.0, None, 1.0, None]
        table = StoredFeatures.of(store, TABLE, ttl=ttl)
        frame = pl.DataFrame({"instrument": ["B", "B", "X"], "as_of": [160, 161, 161]})
        assert StoredJoin(table).rows(frame)["stale.prices"].to_list() == [False, True, False]

    def test_duplicates_are_all_answered_in_their_place(self, store: OfflineStore) -> None:
        self.written(store, [row("A", 5), row("A", 5), row("B", 5, value=2.0)], [row("A", 5)])
        asked = [("A", 5), ("B", 9), ("A", 5), ("B", 4), ("A", 5), ("B", 9), ("X", 5)]
        assert self.answers(store, asked) == [1.0, 2.0, 1.0, None, 1.0, 2.0, None]

    def test_a_moment_with_only_future_values_has_no_answer(self, store: OfflineStore) -> None:
        self.written(store, [row("A", 90 * DAY), row("A", 0, 95 * DAY)])
        assert self.answers(store, [("A", 80 * DAY), ("A", 89 * DAY), ("B", 0)]) == [None] * 3

    def test_of_four_hundred_versions_each_has_its_time(self, store: OfflineStore) -> None:
        versions = [row("A", 7, 10 + n, sequence=n, value=float(n)) for n in range(400)]
        self.written(store, versions[::2], versions[1::2])
        asked = [("A", 9 + n) for n in range(401)]
        assert self.answers(store, asked) == [None, *(float(n) for n in range(400))]
        last = self.answers(store, asked[1:], knowledge=Knowledge.AS_CORRECTED)
        assert last == [399.0] * 400

    def test_a_restatement_is_invisible_before_its_publication(self, store: OfflineStore) -> None:
        quarter, first, second = (
            parse(day) for day in ("2025-12-31", "2026-01-29T13:30Z", "2026-02-26T13:30Z")
        )
        self.written(
            store,
            [row("GDP", quarter, first, value=2.3), row("GDP", quarter, second, value=1.4)],
        )
        asked = [("GDP", moment) for moment in (quarter, first - 1, first, second - 1, second)]
        assert self.answers(store, asked) == [None, None, 2.3, 2.3, 1.4]

    def test_ends_of_months_and_leap_days_are_in_their_partition(self, store: OfflineStore) -> None:
        starts = ["1900-03-01", "1970-01-01", "2000-03-01", "2024-02-29", "2024-03-01",
                  "2025-03-01", "2100-03-01"]  # fmt: skip
        midnights = [parse(day) for day in starts]
        rows = [row("A", moment + offset, value=float(number * 10 + offset))
                for number, moment in enumerate(midnights) for offset in (-1, 0, 1)]  # fmt: skip
        self.written(store, rows)
        asked = [("A", one[1]) for one in rows]
        assert self.answers(store, asked) == [one[5] for one in rows]
        names = [one.name for one in store.snapshot(TABLE).partitions]
        if len(names[0]) == len("1900-02"):
            assert {"1900-02", "1900-03", "1969-12", "2000-02", "2024-02", "2100-02"} <= {*names}

    def test_hours_that_clocks_repeat_or_leave_out_are_kept_apart(
        self, store: OfflineStore
    ) -> None:
        berlin = ZoneInfo("Europe/Berlin")
        rows = []
        for day in (datetime(2026, 3, 29, tzinfo=berlin), datetime(2025, 10, 26, tzinfo=berlin)):
            start = from_datetime(day)
            hours = 23 if day.month == 3 else 25
            rows += [row("A", start + n * 3_600 * 10**9, value=float(n)) for n in range(hours)]
            following = from_datetime(
                (day.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=berlin)
            )
            assert rows[-1][1] == following - 3_600 * 10**9
        self.written(store, rows)
        asked = [("A", one[1]) for one in rows]
        assert self.answers(store, asked) == [one[5] for one in rows]

    def test_no_questions_and_no_rows_give_no_answers(self, store: OfflineStore) -> None:
        self.written(store, [])
        assert self.answers(store, []) == []
        assert self.answers(store, [("A", 1)]) == [None]
        self.written(store, [row()])
        assert self.answers(store, []) == []

    def test_null_and_nan_are_two_answers(self, store: OfflineStore) -> None:
        self.written(store, [row("A", 1, value=float("nan")), row("B", 1, value=None)])
        table = StoredFeatures.of(store, TABLE)
        spine = pl.DataFrame({"instrument": ["A", "B", "C"], "as_of": [1, 1, 1]})
        joined = StoredJoin(table).rows(spine)["value"]
        assert joined.is_nan().to_list() == [True, None, None]
        self.answers(store, [("A", 1), ("B", 1), ("C", 1)])

    def test_a_written_training_set_is_the_one_in_memory(
        self, store: OfflineStore, tmp_path: Path
    ) -> None:
        rows = [row("ABC"[n % 3], n * DAY, (n + n % 5) * DAY, value=float(n)) for n in range(100)]
        self.written(store, rows)
        table = StoredFeatures.of(store, TABLE)
        spine = Spine.of(
            pl.DataFrame(
                {"instrument": ["A", "C", "X", "B"] * 25, "as_of": [n * DAY for n in range(100)]}
            ).reverse()
        )
        one = get_training_set(spine, [table.load()], known_at=NOW)
        for number, chunk in enumerate((1, 7, 1_000)):
            folder = tmp_path / f"set{number}"
            written = write_training_set(
                spine, [table], known_at=NOW, folder=folder, chunk_rows=chunk
            )
            assert written.description == one.description()
            assert frame_digest(written.scan().collect()) == one.digest
