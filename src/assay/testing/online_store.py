"""One suite that every online store passes.

A store of your own is held to the port by a few lines::

    class TestMyStore(OnlineStoreTests):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda **options: MyStore(tmp_path / "rows", **options)

``open_store`` gives a new, empty store on its first call; stores take ``max_versions``. Further
calls open the same content where :attr:`OnlineStoreTests.durable` is true. A store whose views lie
on several machines sets :attr:`OnlineStoreTests.one_state` to false.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.domain.order import as_of
from assay.errors import Conflict, ContractViolation
from assay.features.online.store import OnlineStore, StoredRow

MANIFEST = "5e" * 32


def stored_row(
    entity: str = "A",
    event_time: int = 1,
    known_time: int | None = None,
    *,
    source_rank: int = 0,
    sequence: int = 0,
    manifest: str = MANIFEST,
    values: tuple[float, ...] | NDArray[np.float64] = (1.0, 2.0),
) -> StoredRow:
    """A row with defaults; ``known_time`` is the event time when it is not given."""
    known = event_time if known_time is None else known_time
    array = np.array(values, dtype=np.float64)
    return StoredRow(entity, event_time, known, source_rank, sequence, manifest, array)


class OnlineStoreTests:
    """The promises of :class:`~assay.features.online.store.OnlineStore`."""

    durable = False
    one_state = True

    @pytest.fixture
    def open_store(self) -> Callable[..., OnlineStore]:
        """Overridden by the subclass: opens the store under test."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_store: Callable[..., OnlineStore]) -> Iterator[OnlineStore]:
        """A store that is closed afterwards."""
        store = open_store()
        yield store
        store.close()

    def test_an_empty_store_has_no_rows_and_no_views(self, store: OnlineStore) -> None:
        assert store.read("fx", ["A", "B"]) == [None, None]
        assert store.read("fx", []) == []
        assert store.history("fx", "A") == []
        assert store.views() == ()
        assert store.write("fx", []) == 0
        assert store.views() == ()

    def test_answers_come_in_the_order_asked(self, store: OnlineStore) -> None:
        rows = [stored_row(name, values=(n,)) for n, name in enumerate("ABC")]
        assert store.write("fx", rows) == 3
        assert store.read("fx", ["C", "?", "A", "C"]) == [rows[2], None, rows[0], rows[2]]

    def test_a_thousand_entities_are_read_at_once(self, store: OnlineStore) -> None:
        rows = [stored_row(f"E{number:04}", values=(number,)) for number in range(1_100)]
        store.write("fx", rows)
        for count in (2, 499, 500, 501, 1_000, 1_100):
            asked = [f"E{number:04}" for number in range(count)][::-1]
            assert store.read("fx", asked) == rows[:count][::-1]
            assert store.read("fx", asked, 0) == [None] * count

    def test_the_newest_wins_in_whatever_order_rows_are_written(self, store: OnlineStore) -> None:
        keys = [(1, 9, 9, 9), (2, 3, 9, 9), (2, 4, 0, 9), (2, 4, 1, 0), (2, 4, 1, 1)]
        for number, order in enumerate(permutations(keys, 5)):
            if number % 7:  # every seventh permutation shows it
                continue
            entity = f"E{number}"
            for event, known, rank, sequence in order:
                row = stored_row(
                    entity, event, known, source_rank=rank, sequence=sequence, values=(known,)
                )
                assert store.write("fx", [row]) == 1
            (found,) = store.read("fx", [entity])
            assert found is not None
            assert found.key == keys[-1]
            assert [tuple(row.key) for row in store.history("fx", entity)] == keys

    def test_a_correction_wins_and_an_older_event_never_overwrites(
        self, store: OnlineStore
    ) -> None:
        noon = 1_700_000_000_000_000_000
        first = stored_row("A", noon, noon + 5, values=(1.0,))
        correction = stored_row("A", noon, noon + 9, values=(2.0,))
        late = stored_row("A", noon - 1, noon + 20, values=(3.0,))
        for row in (first, correction, late):
            assert store.write("fx", [row]) == 1
            assert store.write("fx", [first]) == 0
        assert store.read("fx", ["A"]) == [correction]
        assert store.read("fx", ["A"], noon + 8) == [first]
        assert store.history("fx", "A") == [late, first, correction]

    def test_ticks_that_a_double_cannot_tell_apart_are_kept_apart(self, store: OnlineStore) -> None:
        noon = 1_700_000_000_000_000_000
        ticks = [stored_row("A", noon + step, values=(step,)) for step in (1, 0, 400, 399, 64, 63)]
        for tick in ticks:
            store.write("fx", [tick])
        ordered = sorted(ticks, key=lambda row: row.event_time)
        assert store.history("fx", "A") == ordered
        for number, tick in enumerate(ordered):
            assert store.read("fx", ["A"], tick.event_time) == [tick]
            before = [ordered[number - 1]] if number else [None]
            assert store.read("fx", ["A"], tick.event_time - 1) == before

    def test_four_hundred_versions_of_one_fact_in_one_batch(self, store: OnlineStore) -> None:
        rows = [stored_row("A", 7, 10 + n, sequence=n, values=(n,)) for n in range(400)]
        assert store.write("fx", rows[::-1]) == 400
        assert store.write("fx", rows) == 0
        assert store.history("fx", "A") == rows
        for n in (0, 1, *range(340, 400)):
            assert store.read("fx", ["A"], 10 + n) == [rows[n]]
        assert store.read("fx", ["A"], 9) == [None]

    @pytest.mark.parametrize("as_of", [None, *range(8), -(2**63), 2**63 - 1])
    def test_several_views_are_read_as_each_of_them_is(
        self, store: OnlineStore, as_of: int | None
    ) -> None:
        rows = {
            "fx": [stored_row("A", 1, 2), stored_row("A", 3, 4), stored_row("B", 2, 5)],
            "news": [stored_row("A", 6, values=()), stored_row("C", 1, values=(7.0,))],
            "still é": [stored_row("A", 1, 1)],
        }
        for view, written in rows.items():
            store.write(view, written)
        asked = {
            "news": ["C", "A", "\ud800", "C"],
            "empty": ["A"],
            "fx": ["B", "?", "A"],
            "\ud800": ["A", "B"],
            "still é": ["A"],
            "nobody": [],
        }
        found = store.read_views(asked, as_of)
        assert list(found) == list(asked)
        assert found == {view: store.read(view, names, as_of) for view, names in asked.items()}
        assert found["empty"] == [None]
        assert found["nobody"] == []
        if as_of is None:
            assert found["fx"] == [rows["fx"][2], None, rows["fx"][1]]
            assert found["news"] == [rows["news"][1], rows["news"][0], None, rows["news"][1]]
        assert store.read_views({}, as_of) == {}

    def test_several_views_of_a_thousand_entities_are_read_at_once(
        self, store: OnlineStore
    ) -> None:
        names = [f"E{number:04}" for number in range(1_001)]
        rows = {
            view: [stored_row(name, time, values=(time, n)) for n, name in enumerate(names)]
            for time, view in enumerate("ab", start=1)
        }
        for view, written in rows.items():
            store.write(view, written)
        asked = {"b": names[::-1], "a": names[:500]}
        assert store.read_views(asked) == {"b": rows["b"][::-1], "a": rows["a"][:500]}
        assert store.read_views(asked, 1) == {"b": [None] * 1_001, "a": rows["a"][:500]}

    def test_several_views_are_read_of_one_state(self, store: OnlineStore) -> None:
        seen: list[tuple[int, int]] = []
        done = threading.Event()

        def watch() -> None:
            last = False
            while not last:
                last = done.is_set()
                found = store.read_views({"second": ["A"], "first": ["A"]})
                times = [row.event_time if row else 0 for (row,) in found.values()]
                seen.append((times[1], times[0]))

        thread = threading.Thread(target=watch)
        thread.start()
        for time in range(1, 51):
            store.write("first", [stored_row("A", time)])
            store.write("second", [stored_row("A", time)])
        done.set()
        thread.join()
        assert seen[-1] == (50, 50)
        assert seen == sorted(seen)
        if self.one_state:
            assert all(first - second in {0, 1} for first, second in seen), seen

    def test_entities_are_listed_once_in_order_of_code_points(self, store: OnlineStore) -> None:
        names = [
            "b",
            "a",
            "B",
            "a\x00",
            "é",
            "ключ",
            "\uffff",
            "\U00010000",
            "a*",
            "[a]",
            " ",
            "x" * 99,
        ]
        assert list(store.entities("fx")) == []
        for time in (2, 1, 3):
            store.write("fx", [stored_row(name, time) for name in names])
        store.write("fx2", [stored_row("other")])
        store.write("f", [stored_row("another")])
        assert list(store.entities("fx")) == sorted(names)
        assert list(store.entities("f")) == ["another"]
        assert list(store.entities("f*")) == []
        assert list(store.entities("\ud800")) == []

    def test_thousands_of_entities_are_listed(self, store: OnlineStore) -> None:
        names = [f"E{number}" for number in range(2_345)]
        store.write("fx", [stored_row(name) for name in names])
        assert list(store.entities("fx")) == sorted(names)

    def test_a_dropped_view_is_gone_and_the_others_stay(self, store: OnlineStore) -> None:
        rows = [stored_row(name, time) for name in ("A", "é}{", "C") for time in (1, 2)]
        for view in ("fx", "fx@1", "f"):
            store.write(view, rows)
        assert store.drop("fx") == 3
        assert store.drop("fx") == 0
        assert store.drop("nothing") == 0
        assert store.drop("\ud800") == 0
        assert store.views() == ("f", "fx@1")
        assert list(store.entities("fx")) == []
        assert store.read("fx", ["A"]) == store.read("fx", ["A"], 1) == [None]
        assert store.history("fx", "A") == []
        for view in ("fx@1", "f"):
            assert store.history(view, "é}{") == rows[2:4]

    def test_a_dropped_view_takes_rows_as_a_new_one_does(self, store: OnlineStore) -> None:
        old = [stored_row("A", time, values=(1.0,)) for time in (1, 2, 9)]
        new = [stored_row("A", time, values=(2.0,)) for time in (1, 2, 3)]
        store.write("fx", old)
        store.drop("fx")
        assert store.write("fx", new) == 3
        assert store.history("fx", "A") == new
        assert store.views() == ("fx",)

    def test_a_large_view_is_kept_and_dropped_whole(self, store: OnlineStore) -> None:
        for time in (1, 2):
            store.write("fx", [stored_row(f"E{number}", time) for number in range(1_203)])
        for number in (0, 998, 999, 1_000, 1_001, 1_202):
            expected = [stored_row(f"E{number}", time) for time in (1, 2)]
            assert store.history("fx", f"E{number}") == expected
        assert store.drop("fx") == 1_203
        assert store.views() == ()
        assert list(store.entities("fx")) == []

    def test_as_of_a_moment_only_what_had_happened_and_was_known_is_visible(
        self, store: OnlineStore
    ) -> None:
        rows = [
            stored_row("A", event, known, sequence=sequence)
            for event, known, sequence in [(1, 2, 0), (1, 6, 1), (3, 4, 2), (5, 5, 3), (4, 9, 4)]
        ]
        store.write("fx", rows)
        for moment in range(11):
            expected = as_of([row.key for row in rows], moment)
            (found,) = store.read("fx", ["A"], moment)
            assert (found.key if found else None) == expected, moment
            assert store.read("fx", ["A", "B"], moment) == [found, None]

    def test_the_same_row_again_changes_nothing(self, store: OnlineStore) -> None:
        row = stored_row(values=(math.nan, -0.0))
        assert store.write("fx", [row, row]) == 1
        assert store.write("fx", [stored_row(values=(math.nan, -0.0))]) == 0
        assert store.history("fx", "A") == [row]

    @pytest.mark.parametrize(
        "other",
        [
            {"values": (1.0, 2.5)},
            {"values": (1.0,)},
            {"values": (1.0, 2.0, 3.0)},
            {"manifest": "00" * 32},
        ],
    )
    def test_other_content_at_the_same_place_is_a_conflict_and_nothing_is_written(
        self, store: OnlineStore, other: dict[str, Any]
    ) -> None:
        first = stored_row()
        store.write("fx", [first])
        with pytest.raises(Conflict, match="A at 1970"):
            store.write("fx", [stored_row("B"), stored_row("A", 2), stored_row(**other)])
        with pytest.raises(Conflict):
            store.write("fx", [stored_row("C"), stored_row("C", **other)])
        assert store.read("fx", ["A", "B", "C"]) == [first, None, None]

    def test_a_row_that_is_no_longer_the_newest_is_evidence_as_well(
        self, store: OnlineStore
    ) -> None:
        rows = [stored_row(event_time=time) for time in (1, 2, 3)]
        store.write("fx", rows)
        for row in rows:
            assert store.write("fx", [row]) == 0
            with pytest.raises(Conflict):
                store.write("fx", [stored_row("B"), row._replace(values=np.array([7.0]))])
        assert store.history("fx", "A") == rows
        assert store.read("fx", ["B"]) == [None]

    def test_numbers_of_both_signs_are_ordered_as_numbers(self, store: OnlineStore) -> None:
        numbers = (0, -1, 1, -256, 255, -(2**63), 2**63 - 1, 256, -257)
        for place in range(4):
            entity = f"E{place}"
            for number in numbers:
                event, known, rank, sequence = [5] * place + [number] + [0] * (3 - place)
                row = stored_row(entity, event, known, source_rank=rank, sequence=sequence)
                store.write("fx", [row])
            found = [tuple(row.key)[place] for row in store.history("fx", entity)]
            assert found == sorted(numbers)
        rows = {number: stored_row("both", number) for number in numbers}
        store.write("fx", rows.values())
        for moment, row in rows.items():
            assert store.read("fx", ["both"], moment) == [row]

    def test_zeros_of_different_sign_are_different_content(self, store: OnlineStore) -> None:
        store.write("fx", [stored_row(values=(0.0,))])
        with pytest.raises(Conflict):
            store.write("fx", [stored_row(values=(-0.0,))])

    def test_values_keep_every_bit(self, store: OnlineStore) -> None:
        words = [0x7FF8000000000000, 0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 1]
        values = np.array(words, dtype=np.uint64).view(np.float64)
        store.write("fx", [stored_row(values=values), stored_row("none", values=())])
        found, empty = store.read("fx", ["A", "none"])
        assert found is not None
        assert empty is not None
        assert found.values.view(np.uint64).tolist() == words
        assert found.values.dtype == np.float64
        assert empty.values.shape == (0,)

    def test_what_was_written_or_read_cannot_be_changed_from_outside(
        self, store: OnlineStore
    ) -> None:
        values = np.array([1.0, 2.0])
        row = StoredRow("A", 1, 1, 0, 0, MANIFEST, values)
        store.write("fx", [row])
        values[0] = 9.0
        (found,) = store.read("fx", ["A"])
        assert found is not None
        assert found.values.tolist() == [1.0, 2.0]
        with pytest.raises(ValueError, match="read-only"):
            found.values[0] = 5.0

    def test_views_do_not_see_each_other(self, store: OnlineStore) -> None:
        one, other = stored_row(values=(1.0,)), stored_row(values=(2.0,))
        store.write("fx", [one])
        store.write("Fx é", [other])
        assert store.read("fx", ["A"]) == [one]
        assert store.read("Fx é", ["A"]) == [other]
        assert store.views() == ("Fx é", "fx")

    def test_names_and_times_at_their_limits_come_back(self, store: OnlineStore) -> None:
        names = ["'; --", "a\x00b", "ключ", "x" * 1_000, " A", "a"]
        ends = [-(2**63), 2**63 - 1]
        for name in names:
            rows = [stored_row(name, end, end, source_rank=end, sequence=end) for end in ends]
            store.write("fx", rows)
            assert store.history("fx", name) == rows
        assert store.read("fx", ["A", "\ud800"]) == [None, None]
        assert store.read("fx", ["\ud800"], 5) == [None]
        assert store.read("\ud800", ["A"]) == [None]

    @pytest.mark.parametrize(
        "row",
        [
            stored_row(""),
            stored_row("\ud800"),
            stored_row(event_time=2**63),
            stored_row(manifest="main"),
            stored_row(manifest="5E" * 32),
            StoredRow("A", 1, 1, 0, 0, MANIFEST, np.ones((1, 2))),
            StoredRow("A", 1, 1, 0, 0, MANIFEST, np.ones(2, dtype=np.float32)),
        ],
        ids=["no name", "no text", "time", "manifest", "upper case", "shape", "type"],
    )
    def test_a_malformed_row_is_refused_and_nothing_is_written(
        self, store: OnlineStore, row: StoredRow
    ) -> None:
        with pytest.raises(ContractViolation):
            store.write("fx", [stored_row("B"), row])
        assert store.read("fx", ["B"]) == [None]

    def test_only_the_newest_versions_are_kept(
        self, open_store: Callable[..., OnlineStore]
    ) -> None:
        store = open_store(max_versions=3)
        times = [5, 1, 4, 2, 6, 3]
        for time in times:
            store.write("fx", [stored_row(event_time=time), stored_row("B", 7)])
        assert [row.event_time for row in store.history("fx", "A")] == [4, 5, 6]
        store.write("fx", [stored_row("C", time) for time in times])
        assert [row.event_time for row in store.history("fx", "C")] == [4, 5, 6]
        assert len(store.history("fx", "B")) == 1
        store.close()

    def test_a_batch_with_more_versions_than_are_kept_leaves_the_newest(
        self, open_store: Callable[..., OnlineStore]
    ) -> None:
        for kept in (1, 3):
            store = open_store(max_versions=kept)
            rows = [stored_row(f"A{kept}", time) for time in (4, 9, 2, 7, 5)]
            assert store.write("fx", rows[:3]) == 3
            assert store.write("fx", rows[3:]) == 2
            assert [row.event_time for row in store.history("fx", f"A{kept}")] == [5, 7, 9][-kept:]
            assert store.read("fx", [f"A{kept}"]) == [rows[1]]
            store.close()

    def test_a_store_keeps_at_least_one_version(
        self, open_store: Callable[..., OnlineStore]
    ) -> None:
        with pytest.raises(ContractViolation, match="max_versions 0"):
            open_store(max_versions=0)

    def test_a_reader_sees_a_batch_whole_or_not_at_all(self, store: OnlineStore) -> None:
        entities = [f"E{n}" for n in range(5)]
        seen: list[set[int]] = []
        done = threading.Event()

        def watch() -> None:
            last = False
            while not last:
                last = done.is_set()  # read once more after the last batch
                found = store.read("fx", entities)
                seen.append({row.event_time if row else 0 for row in found})

        thread = threading.Thread(target=watch)
        thread.start()
        for time in range(1, 26):
            store.write("fx", [stored_row(entity, time) for entity in entities])
        done.set()
        thread.join()
        assert all(len(times) == 1 for times in seen), seen
        assert seen[-1] == {25}
        moments = [min(times) for times in seen]
        assert moments == sorted(moments)

    def test_rows_written_by_several_threads_are_all_there(self, store: OnlineStore) -> None:
        def write(number: int) -> None:
            for time in range(10):
                store.write("fx", [stored_row("shared", time, sequence=number)])

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.history("fx", "shared")) == 40

    def test_rows_are_there_when_the_store_is_opened_again(
        self, open_store: Callable[..., OnlineStore]
    ) -> None:
        if not self.durable:
            pytest.skip("the store does not outlive its process")
        store = open_store()
        row = stored_row(values=(math.nan, 1.5))
        store.write("fx", [row])
        store.close()
        again = open_store()
        assert again.read("fx", ["A"]) == [row]
        assert again.write("fx", [row]) == 0
        again.close()
