"""One suite that every offline store passes.

A store of your own is held to the port by a few lines::

    class TestMyStore(OfflineStoreTests):
        opening = "my_package.stores:MyStore"  # called with a folder and a clock

The name is imported again in processes that are killed, so it stands in a module that they find.
"""

from __future__ import annotations

import math
import random
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assay.domain.order import ORDER_COLUMNS
from assay.errors import Conflict, ContractViolation, DataError, IntegrityError, NotFound, Tampered
from assay.features.offline.partitions import bounds
from assay.features.offline.store import OfflineStore, snapshot_at
from assay.testing.clocks import FixedClock
from assay.testing.offline_answers import OfflineAnswerTests
from assay.testing.offline_rows import (
    DAY,
    MANIFEST,
    SCHEMA,
    TABLE,
    batch,
    row,
    table_of,
)

KEYS = ["instrument", *ORDER_COLUMNS]


def bits(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """The rows with the bits of their values instead of the values: NaN equals itself."""
    return [
        (*one[:5], None if one[5] is None else struct.pack("<d", one[5])) for one in frame.rows()
    ]


class OfflineStoreTests(OfflineAnswerTests):
    """The promises of :class:`~assay.features.offline.store.OfflineStore`."""

    def test_an_empty_store_has_no_tables(self, store: OfflineStore) -> None:
        assert store.tables() == ()
        assert store.history(TABLE) == []
        for call in (store.snapshot, store.read, store.compact, store.verify):
            with pytest.raises(NotFound, match="nothing has been committed"):
                call(TABLE)
        with pytest.raises(NotFound, match="expected <layer>/<name>"):
            store.commit("prices", table_of())
        assert store.tables() == ()

    def test_a_table_without_rows_has_columns(self, store: OfflineStore) -> None:
        made = store.commit(TABLE, table_of())
        assert (made.rows, made.partitions) == (0, ())
        assert dict(store.read(TABLE).schema) == SCHEMA
        assert list(store.scan(TABLE)) == []
        assert (store.compact(TABLE), store.verify(TABLE).rows) == (0, 0)
        assert store.commit(TABLE, table_of(row())).rows == 1
        assert store.read(TABLE, made.id).rows() == []
        assert store.tables() == (TABLE,)

    def test_rows_come_back_in_order_whatever_the_order_of_writing(
        self, store: OfflineStore
    ) -> None:
        rows = [row(name, day * DAY, day * DAY + late, sequence=late)
                for name in "BA" for day in (40, 3, 200) for late in (1, 0)]  # fmt: skip
        store.commit(TABLE, table_of(*rows[:5]))
        store.commit(TABLE, table_of(*rows[5:]).select(reversed(list(SCHEMA))))
        assert store.read(TABLE).rows() == sorted(rows)
        assert store.snapshot(TABLE).rows == len(rows)

    def test_the_same_rows_have_the_same_id_however_they_came(
        self, open_store: Callable[..., OfflineStore]
    ) -> None:
        rows = [row("AB"[n % 2], n * 11 * DAY, value=float(n)) for n in range(12)]
        texts = {"manifest": MANIFEST}
        ways = [[rows], [rows[::-1]], [[one] for one in rows], [rows[6:], rows[:6], rows]]
        found = set()
        for number, batches in enumerate(ways):
            store = open_store(f"way{number}")
            for part in batches:
                made = store.commit(TABLE, table_of(*part), metadata=texts)
            store.compact(TABLE)
            found.add(made.id)
            assert store.snapshot(TABLE) == made
        assert len(found) == 1

    def test_any_difference_gives_another_id(self, open_store: Callable[..., OfflineStore]) -> None:
        one = table_of(row(), row("B", 2))
        others = [
            one.with_columns(value=pl.Series([1.0, math.nan])),
            one.with_columns(value=pl.Series([1.0, None], dtype=pl.Float64)),
            one.with_columns(pl.col("value").cast(pl.Float32)),
            one.rename({"value": "price"}),
            one[:1],
        ]
        ids = {open_store(f"n{n}").commit(TABLE, rows).id for n, rows in enumerate([one, *others])}
        ids.add(open_store("a").commit(TABLE, one, metadata={"manifest": "x"}).id)
        ids.add(open_store("b").commit("gold/other", one).id)
        assert len(ids) == len(others) + 3

    def test_the_same_row_again_changes_nothing(self, store: OfflineStore) -> None:
        rows = table_of(row(value=math.nan), row("B", value=None), row("C", value=-0.0))
        made = store.commit(TABLE, pl.concat([rows, rows]))
        assert store.commit(TABLE, rows.reverse()) == made
        assert store.commit(TABLE, rows.clear()) == made
        assert len(store.history(TABLE)) == 1
        assert bits(store.read(TABLE)) == bits(rows)

    @pytest.mark.parametrize(
        ("one", "other"),
        [(1.0, 2.0), (math.nan, None), (0.0, -0.0), (math.nan, -math.nan), (None, 0.0)],
    )
    def test_other_content_at_the_same_place_is_a_conflict_and_nothing_is_written(
        self, store: OfflineStore, one: float | None, other: float | None
    ) -> None:
        made = store.commit(TABLE, table_of(row(value=one)))
        with pytest.raises(Conflict, match="A at 1970"):
            store.commit(TABLE, table_of(row("B"), row("A", 40 * DAY), row(value=other)))
        with pytest.raises(Conflict):
            store.commit(TABLE, table_of(row("C", value=one), row("C", value=other)))
        assert store.snapshot(TABLE) == made
        assert bits(store.read(TABLE)) == bits(table_of(row(value=one)))

    def test_values_of_every_type_keep_every_bit(self, store: OfflineStore) -> None:
        words = [0x7FF8000000000000, 0x7FF8000000000001, 0xFFF0000000000000, 1 << 63, 1]
        doubles = [struct.unpack("<d", struct.pack("<Q", word))[0] for word in words]
        frame = table_of(*(row(event_time=n, value=v) for n, v in enumerate(doubles)))
        frame = frame.with_columns(
            text=pl.Series(["", "é\x00", None, "'", "x" * 5_000]),
            flag=pl.Series([True, False, None, True, False]),
            small=pl.Series([-128, 127, None, 0, 1], dtype=pl.Int8),
            short=pl.Series([-32_768, 32_767, None, 0, 1], dtype=pl.Int16),
            whole=pl.Series([-(2**31), 2**31 - 1, None, 0, 1], dtype=pl.Int32),
            long=pl.Series([-(2**63), 2**63 - 1, None, 0, 1], dtype=pl.Int64),
            single=pl.Series([math.nan, None, -0.0, 0.1, 1e-45], dtype=pl.Float32),
            day=pl.Series([0, 19_000, None, -1, 1], dtype=pl.Int32).cast(pl.Date),
        )
        store.commit(TABLE, frame[3:])
        store.commit(TABLE, frame[:3])
        found = store.read(TABLE)
        assert found.schema == frame.schema
        assert found.equals(frame)
        assert bits(found.select(list(SCHEMA))) == bits(frame.select(list(SCHEMA)))

    def test_names_and_times_at_their_limits_come_back(self, store: OfflineStore) -> None:
        ends = [-(2**63), 2**63 - 1]
        names = ["", "'; --", "a\x00b", "ключ", "x" * 1_000, " A", "a"]
        rows = [row(name, end, end, rank=end, sequence=end) for name in names for end in ends]
        store.commit(TABLE, table_of(*rows))
        assert store.read(TABLE).rows() == sorted(rows, key=lambda one: (one[0].encode(), one[1:]))
        assert [one.name[:4] for one in store.snapshot(TABLE).partitions] == ["1677", "2262"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda rows: rows.drop("known_time"),
            lambda rows: rows.drop("value"),
            lambda rows: rows.with_columns(other=pl.lit(1.0)),
            lambda rows: rows.with_columns(pl.col("value").cast(pl.Float32)),
            lambda rows: rows.with_columns(pl.lit(None, dtype=pl.String).alias("instrument")),
            lambda rows: rows.with_columns(pl.lit(7).alias("instrument")),
            lambda rows: rows.with_columns(pl.lit(None, dtype=pl.Int64).alias("known_time")),
            lambda rows: rows.with_columns(pl.lit(1.0).alias("sequence")),
            lambda rows: rows.with_columns(pl.lit(2**63, dtype=pl.UInt64).alias("sequence")),
        ],
        ids=["key", "column", "new", "type", "no name", "number", "null", "float", "range"],
    )
    def test_malformed_rows_are_refused_and_nothing_is_written(
        self, store: OfflineStore, change: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> None:
        made = store.commit(TABLE, table_of(row()))
        with pytest.raises(DataError):
            store.commit(TABLE, change(table_of(row("B"), row("C", 50 * DAY))))
        assert store.snapshot(TABLE) == made

    def test_columns_that_are_added_are_null_in_rows_before_and_leave_snapshots_before_alone(
        self, store: OfflineStore
    ) -> None:
        first = store.commit(TABLE, table_of(row(), row("B", 50 * DAY)), metadata={"manifest": "1"})
        store.commit(TABLE, table_of(row("B", 51 * DAY)))
        second = store.snapshot(TABLE)
        made = store.add_columns(
            TABLE, {"other": "Float64", "flag": "Boolean"}, metadata={"manifest": "2"}
        )
        assert list(made.schema) == [*SCHEMA, "other", "flag"]
        assert store.snapshot(TABLE) == made
        assert (made.rows, made.metadata["manifest"]) == (3, "2")
        assert store.add_columns(TABLE, {"flag": "Boolean"}) == made
        whole = store.read(TABLE)
        assert whole["other"].null_count() == whole["flag"].null_count() == 3
        # A reader of old columns reads new rows, one of new columns old rows.
        new = table_of(row("A", 52 * DAY)).with_columns(other=pl.lit(2.5), flag=pl.lit(value=True))
        store.commit(TABLE, new)
        assert store.read(TABLE)["other"].to_list() == [None, 2.5, None, None]
        assert dict(store.read(TABLE, columns=list(SCHEMA)).schema) == SCHEMA
        assert store.read(TABLE, columns=list(SCHEMA)).height == 4
        for before in (first, second):
            assert dict(store.read(TABLE, before.id).schema) == SCHEMA
            assert store.read(TABLE, before.id).height == before.rows
            assert store.snapshot(TABLE, before.id) == before
        store.compact(TABLE)
        assert store.verify(TABLE).snapshots == 4
        assert store.read(TABLE, second.id).height == 3
        assert store.read(TABLE)["flag"].to_list() == [None, True, None, None]

    def test_added_columns_give_the_id_of_a_table_that_always_had_them(
        self, open_store: Callable[..., OfflineStore]
    ) -> None:
        later, always = open_store("later"), open_store("always")
        rows = table_of(row(), row("B", 50 * DAY), row("A", 90 * DAY))
        later.commit(TABLE, rows[:2])
        later.add_columns(TABLE, {"other": "Float64"})
        whole = rows.with_columns(other=pl.Series([None, None, 1.5], dtype=pl.Float64))
        later.commit(TABLE, whole[2:])
        assert later.snapshot(TABLE) == always.commit(TABLE, whole)

    def test_only_columns_are_added_and_only_at_the_end(self, store: OfflineStore) -> None:
        with pytest.raises(NotFound, match="nothing has been committed"):
            store.add_columns(TABLE, {"other": "Float64"})
        made = store.commit(TABLE, table_of(row()))
        with pytest.raises(ContractViolation, match="value is Float64 and is to be Float32"):
            store.add_columns(TABLE, {"value": "Float32"})
        with pytest.raises(ContractViolation, match="expected one of Boolean"):
            store.add_columns(TABLE, {"other": "Object"})
        assert store.snapshot(TABLE) == made
        store.add_columns(TABLE, {"other": "Float64"})
        with pytest.raises(ContractViolation, match="has columns"):
            store.commit(TABLE, table_of(row("B")))  # a writer of old columns
        # What stands there is not rewritten with a value for the new column.
        with pytest.raises(Conflict):
            store.commit(TABLE, table_of(row()).with_columns(other=pl.lit(1.0)))
        store.commit(TABLE, table_of(row()).with_columns(other=pl.lit(None, dtype=pl.Float64)))
        assert store.snapshot(TABLE).rows == 1

    def test_columns_added_before_any_row_are_those_of_its_rows(self, store: OfflineStore) -> None:
        store.commit(TABLE, table_of())
        store.add_columns(TABLE, {"other": "String"})
        store.commit(TABLE, table_of(row()).with_columns(other=pl.lit("a")))
        assert store.read(TABLE)["other"].to_list() == ["a"]

    def test_a_type_without_a_form_in_every_store_is_refused(self, store: OfflineStore) -> None:
        for values in ([[1.0]], [b"x"], pl.Series([1], dtype=pl.UInt32)):
            with pytest.raises(ContractViolation, match="expected one of Boolean"):
                store.commit(TABLE, table_of(row()).with_columns(other=pl.Series(values)))
        assert store.tables() == ()

    def test_a_selection_is_what_a_filter_would_leave(self, store: OfflineStore) -> None:
        generator = random.Random(5)
        days = range(120)
        rows = [row(generator.choice("ABC"), day * DAY, (day + generator.randrange(9)) * DAY,
                    sequence=day, value=float(day)) for day in days]  # fmt: skip
        for start in range(0, 120, 50):
            store.commit(TABLE, table_of(*rows[start : start + 50]))
        edges = [None, 0, 31 * DAY, 31 * DAY + 1, 59 * DAY - 1, 119 * DAY, 200 * DAY]
        for _ in range(25):
            since, until, known = (generator.choice(edges) for _ in range(3))
            entities = generator.choice([None, ["A"], ["C", "X"], []])
            columns = generator.choice([None, ["value"], ["known_time", "instrument"]])
            found = store.read(TABLE, columns=columns, entities=entities, since=since,
                               until=until, known_by=known)  # fmt: skip
            kept = sorted(
                one for one in rows
                if (entities is None or one[0] in entities)
                and (since is None or one[1] >= since)
                and (until is None or one[1] < until)
                and (known is None or one[2] <= known)
            )  # fmt: skip
            names = [name for name in SCHEMA if columns is None or name in columns]
            assert found.columns == names
            assert found.rows() == table_of(*kept).select(names).rows()
            parts = list(store.scan(TABLE, columns=columns, entities=entities, since=since,
                                    until=until, known_by=known))  # fmt: skip
            assert sum(part.height for part in parts) == len(kept)
        with pytest.raises(NotFound, match="no column 'valeu'"):
            store.read(TABLE, columns=["valeu"])

    def test_a_scan_gives_one_stretch_of_time_after_the_other(self, store: OfflineStore) -> None:
        rows = [row("BA"[n % 2], n * 9 * DAY) for n in range(30)]
        store.commit(TABLE, table_of(*rows[::-1]))
        store.commit(TABLE, table_of(*(row("C", one[1] + 1) for one in rows)))
        parts = list(store.scan(TABLE))
        assert len(parts) == len(store.snapshot(TABLE).partitions) > 5
        for part, stated in zip(parts, store.snapshot(TABLE).partitions, strict=True):
            first, last = bounds(stated.name)
            assert part["event_time"].is_between(first, last).all()
            assert part.rows() == sorted(part.rows())
            assert part.height == stated.rows
        assert all(bounds(one.name)[1] + 1 <= bounds(other.name)[0]
                   for one, other in pairwise(store.snapshot(TABLE).partitions))  # fmt: skip
        assert sorted(one for part in parts for one in part.rows()) == store.read(TABLE).rows()

    def test_every_snapshot_stays_readable_and_compaction_changes_no_answer(
        self, store: OfflineStore, clock: FixedClock
    ) -> None:
        made, contents = [], []
        for number in range(6):
            made.append(store.commit(TABLE, batch(number)))
            contents.append(store.read(TABLE))
            clock.advance(100)
            if number == 3:
                before = store.history(TABLE)
                assert store.compact(TABLE) == 3  # four files of one month are one
                assert store.compact(TABLE) == 0
                assert store.history(TABLE) == before
        assert [entry.snapshot for entry in store.history(TABLE)] == [one.id for one in made]
        for one, content in zip(made, contents, strict=True):
            assert store.read(TABLE, one.id).equals(content)
            assert store.snapshot(TABLE, one.id) == one
        start = clock.now() - 600
        assert snapshot_at(store, TABLE, start + 250) == made[2]
        with pytest.raises(NotFound, match="had no snapshot"):
            snapshot_at(store, TABLE, start - 1)
        for identifier in ("0" * 64, "../../x", ""):
            with pytest.raises(NotFound, match="no snapshot"):
                store.snapshot(TABLE, identifier)
        checked = store.verify(TABLE)
        assert checked.snapshots == 6
        assert checked.files >= 7
        assert checked.bytes > 0

    def test_texts_belong_to_the_content(self, store: OfflineStore) -> None:
        one = store.commit(TABLE, table_of(row()), metadata={"manifest": "a"})
        kept = store.commit(TABLE, table_of(row("B")))
        other = store.commit(TABLE, table_of(), metadata={"manifest": "b"})
        assert [dict(s.metadata)["manifest"] for s in (one, kept, other)] == ["a", "a", "b"]
        assert len({one.id, kept.id, other.id}) == 3
        assert store.snapshot(TABLE, kept.id).metadata == {"manifest": "a"}
        with pytest.raises(ContractViolation, match="expected text"):
            store.commit(TABLE, table_of(), metadata={"manifest": 1})  # type: ignore[dict-item]

    def test_rows_are_there_when_the_store_is_opened_again(
        self, open_store: Callable[..., OfflineStore]
    ) -> None:
        made = open_store().commit(TABLE, batch(3))
        again = open_store()
        assert again.snapshot(TABLE) == made
        assert bits(again.read(TABLE)) == bits(batch(3).sort(KEYS))
        assert again.commit(TABLE, batch(3)) == made

    def test_rows_written_by_several_threads_are_all_there(
        self, open_store: Callable[..., OfflineStore]
    ) -> None:
        def write(number: int) -> None:
            store = open_store()
            for time_ in range(4):
                store.commit(TABLE, table_of(row("shared", time_ * 30 * DAY, sequence=number)))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert open_store().read(TABLE).height == 12
        assert len(open_store().history(TABLE)) == 12

    def test_a_scan_sees_one_state_while_others_write(self, store: OfflineStore) -> None:
        store.commit(TABLE, table_of(row("A", 0), row("A", 40 * DAY)))
        parts = store.scan(TABLE)
        first = next(parts)
        store.commit(TABLE, table_of(row("B", 0), row("B", 40 * DAY)))
        store.compact(TABLE)
        assert [one[0] for part in (first, *parts) for one in part.rows()] == ["A", "A"]

    def test_a_changed_byte_in_any_file_is_named_and_never_served(
        self, open_store: Callable[..., OfflineStore], tmp_path: Path
    ) -> None:
        store = open_store()
        for number in range(3):
            store.commit(TABLE, batch(number), metadata={"manifest": MANIFEST})
        store.compact(TABLE)
        made = store.commit(TABLE, batch(40))
        truth = store.read(TABLE)
        store.commit("gold/empty", table_of())

        def verify() -> int:
            opened_again = open_store()
            return sum(opened_again.verify(name).snapshots for name in opened_again.tables())

        generator = random.Random(11)
        files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]
        assert len(files) > 8
        for path in sorted(files):
            data = path.read_bytes()
            places = {0, len(data) - 1, *(generator.randrange(len(data)) for _ in range(2))}
            for place in sorted(places):
                changed = bytearray(data)
                changed[place] ^= 1 << generator.randrange(8)
                path.write_bytes(changed)
                with pytest.raises(Tampered) as raised:
                    verify()
                assert path.name in str(raised.value)
                for identifier in (None, made.id):
                    try:
                        assert open_store().read(TABLE, identifier).equals(truth)
                    except IntegrityError:
                        pass
                    except NotFound:
                        assert identifier is not None
            path.write_bytes(data)
        assert verify() == 5

    def test_a_missing_file_is_named(
        self, open_store: Callable[..., OfflineStore], tmp_path: Path
    ) -> None:
        open_store().commit(TABLE, batch(1))
        (file,) = tmp_path.rglob("*.parquet")
        file.unlink()
        with pytest.raises(Tampered, match=file.name):
            open_store().read(TABLE)
        with pytest.raises(Tampered, match=file.name):
            open_store().verify(TABLE)

    def test_a_writer_killed_at_five_instants_leaves_no_half_written_state(
        self, open_store: Callable[..., OfflineStore], tmp_path: Path
    ) -> None:
        self.kill(open_store, tmp_path, times=5, seed=2026)

    @pytest.mark.long
    def test_a_writer_killed_at_a_hundred_instants_leaves_no_half_written_state(
        self, open_store: Callable[..., OfflineStore], tmp_path: Path
    ) -> None:
        self.kill(open_store, tmp_path, times=100, seed=7)

    def kill(
        self, open_store: Callable[..., OfflineStore], folder: Path, *, times: int, seed: int
    ) -> None:
        """Kill writers, each going on where the last one died, and look at what they left."""
        generator = random.Random(seed)
        undisturbed = open_store("undisturbed")
        expected: list[str] = []
        done = commits = 0
        for number in range(times):
            name = f"store{number // 10}"  # ten lives each: every life is verified as a whole
            done = done if number % 10 else 0
            acknowledged = _killed_writer(self.opening, folder / name, done, generator)
            store = open_store(name)
            history = [entry.snapshot for entry in store.history(TABLE)]
            # What was acknowledged is there; at most one more commit was made and not yet said.
            assert acknowledged <= len(history) <= acknowledged + 1
            while len(expected) < len(history):
                made = undisturbed.commit(
                    TABLE, batch(len(expected)), metadata={"manifest": MANIFEST}
                )
                expected.append(made.id)
            assert history == expected[: len(history)]
            if history:
                assert store.snapshot(TABLE).id == history[-1]
                assert store.read(TABLE).equals(undisturbed.read(TABLE, history[-1]))
                if number % 10 == 9 or number == times - 1:
                    assert store.verify(TABLE).snapshots == len(history)
            commits += len(history) - done
            done = len(history)
        assert commits >= times // 2


def _killed_writer(opening: str, folder: Path, first: int, generator: random.Random) -> int:
    """How many batches were acknowledged in all before the writer was killed."""
    command = [sys.executable, "-m", "assay.testing.offline_rows", opening, str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(1 + generator.randrange(4))]
        time.sleep(generator.uniform(0.0, 0.03))  # anywhere inside the next commit or compaction
        process.kill()
        said += process.stdout.readlines()
    assert said[0] == "ready\n", said
    numbers = [int(line) for line in said[1:] if line.endswith("\n")]
    return numbers[-1] + 1 if numbers else first
