"""The cache of computed features: a changed key misses, a damaged entry is never served."""

from __future__ import annotations

import struct
import threading
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assay.errors import Conflict, ContractViolation, Unavailable
from assay.features import DiskFeatureCache, Duration
from assay.storage.locks import FileLock
from assay.testing.clocks import FixedClock

START = 1_700_000_000 * 10**9
KEY = {
    "factor_name": "momentum",
    "as_of_date": date(2026, 1, 15),
    "snapshot_id": "s1",
    "version_ids": {"market": "m1", "news": "n1"},
    "config_hash": "c1",
}
FRAME = pl.DataFrame({"instrument": ["EUR_USD", "USD_SGD"], "value": [0.1, -0.0]})


class Counting:
    """Computes a frame and counts how often."""

    def __init__(self, frame: pl.DataFrame = FRAME) -> None:
        self.frame = frame
        self.times = 0

    def __call__(self) -> pl.DataFrame:
        self.times += 1
        return self.frame


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture
def cache(tmp_path: Path, clock: FixedClock) -> DiskFeatureCache:
    return DiskFeatureCache(tmp_path, clock=clock)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("entries/*/*.ipc"))


def bits(frame: pl.DataFrame) -> list[object]:
    """Everything about a frame that could differ, floats by their bits and nulls apart."""
    return [
        (name, str(series.dtype), [
            struct.pack("<d", item) if isinstance(item, float) else item for item in series
        ])
        for name, series in zip(frame.columns, frame, strict=True)
    ]  # fmt: skip


def test_the_second_question_is_answered_from_the_disk(cache: DiskFeatureCache) -> None:
    compute = Counting()
    first, was_cached = cache.get_or_compute(**KEY, compute_fn=compute)
    second, is_cached = cache.get_or_compute(**KEY, compute_fn=compute)
    assert (was_cached, is_cached, compute.times) == (False, True, 1)
    assert bits(first) == bits(second) == bits(FRAME)


@pytest.mark.parametrize(
    "changed",
    [
        {"factor_name": "Momentum"},
        {"as_of_date": date(2026, 1, 16)},
        {"snapshot_id": "s2"},
        {"version_ids": {"market": "m1", "news": "n2"}},
        {"version_ids": {"market": "n1", "news": "m1"}},
        {"version_ids": {"market": "m1"}},
        {"version_ids": ["m1", "n1"]},
        {"version_ids": []},
        {"config_hash": "c2"},
        {"snapshot_id": "c1", "config_hash": "s1"},
    ],
)
def test_a_change_in_any_of_the_five_parts_misses(
    cache: DiskFeatureCache, changed: dict[str, object]
) -> None:
    compute = Counting()
    cache.get_or_compute(**KEY, compute_fn=compute)
    other = Counting(FRAME.with_columns(value=pl.lit(2.0)))
    frame, was_cached = cache.get_or_compute(**(KEY | changed), compute_fn=other)
    assert not was_cached
    assert bits(frame) == bits(other.frame)
    again, was_cached = cache.get_or_compute(**KEY, compute_fn=compute)
    assert was_cached
    assert bits(again) == bits(FRAME)


def test_the_same_key_written_otherwise_is_the_same(cache: DiskFeatureCache) -> None:
    compute = Counting()
    cache.get_or_compute(**KEY, compute_fn=compute)
    same = {"as_of_date": "2026-01-15", "version_ids": {"news": "n1", "market": "m1"}}
    assert cache.get_or_compute(**(KEY | same), compute_fn=compute)[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"factor_name": ""},
        {"factor_name": 1},
        {"as_of_date": datetime(2026, 1, 15, tzinfo=UTC)},
        {"as_of_date": "15.1.2026"},
        {"as_of_date": 20260115},
        {"snapshot_id": None},
        {"version_ids": "m1"},
        {"version_ids": [1]},
        {"version_ids": {"market": None}},
        {"config_hash": b"c1"},
    ],
)
def test_a_key_that_does_not_say_what_it_means_is_refused(
    cache: DiskFeatureCache, wrong: dict[str, object]
) -> None:
    with pytest.raises(ContractViolation):
        cache.get_or_compute(**(KEY | wrong), compute_fn=Counting())


def test_every_bit_comes_back_nulls_and_nans_apart(cache: DiskFeatureCache) -> None:
    odd = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_0123))[0]
    frame = pl.DataFrame(
        {
            "value": [1.0, None, float("nan"), odd, -0.0, float("-inf"), 5e-324],
            "time": pl.Series(range(7), dtype=pl.Datetime("ns", "UTC")),
            "name": ["a", None, "", "é", "x", "y", "z"],
            "flag": [True, None, False, True, True, False, None],
            "many": [[1], [], None, [2, 3], [4], [5], [6]],
        },
        schema_overrides={"many": pl.List(pl.Int32)},
    )
    cache.get_or_compute(**KEY, compute_fn=Counting(frame))
    found, was_cached = cache.get_or_compute(**KEY, compute_fn=Counting(frame))
    assert was_cached
    assert found.schema == frame.schema
    assert found.equals(frame, null_equal=True)
    words = [one["value"].drop_nulls().to_numpy().view(np.int64) for one in (found, frame)]
    assert (words[0] == words[1]).all()


@pytest.mark.parametrize("frame", [pl.DataFrame(), FRAME.clear()], ids=["nothing", "no rows"])
def test_a_frame_without_rows_is_kept_as_well(cache: DiskFeatureCache, frame: pl.DataFrame) -> None:
    compute = Counting(frame)
    cache.get_or_compute(**KEY, compute_fn=compute)
    assert cache.get_or_compute(**KEY, compute_fn=compute)[0].schema == frame.schema
    assert compute.times == 1


def test_any_flipped_byte_is_computed_again_and_counted_and_never_served(
    cache: DiskFeatureCache, tmp_path: Path
) -> None:
    cache.get_or_compute(**KEY, compute_fn=Counting())
    (path,) = entries(tmp_path)
    good = path.read_bytes()
    compute = Counting()
    places = list(range(len(good)))
    for count, place in enumerate(places[::3], start=1):
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :])
        frame, was_cached = cache.get_or_compute(**KEY, compute_fn=compute)
        assert not was_cached
        assert bits(frame) == bits(FRAME)
        assert compute.times == count == cache.statistics().corrupted
    assert cache.get_or_compute(**KEY, compute_fn=compute)[1], "it was written anew"


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "moved", "folder"])
def test_an_entry_that_is_no_entry_of_its_key_is_computed_again(
    cache: DiskFeatureCache, tmp_path: Path, damage: str
) -> None:
    cache.get_or_compute(**KEY, compute_fn=Counting())
    (path,) = entries(tmp_path)
    good = path.read_bytes()
    if damage == "moved":
        other = KEY | {"snapshot_id": "s2"}
        cache.get_or_compute(**other, compute_fn=Counting(FRAME.with_columns(value=pl.lit(9.0))))
        (elsewhere,) = [one for one in entries(tmp_path) if one != path]
        path.write_bytes(elsewhere.read_bytes())
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "cut": good[:-1], "longer": good + b"x"}[damage])
    compute = Counting()
    frame, was_cached = cache.get_or_compute(**KEY, compute_fn=compute)
    assert not was_cached
    assert bits(frame) == bits(FRAME)
    assert cache.statistics().corrupted == 1


def test_an_entry_lives_exactly_its_time(tmp_path: Path, clock: FixedClock) -> None:
    cache = DiskFeatureCache(tmp_path, clock=clock, ttl=Duration.of(hours=1))
    compute = Counting()
    cache.get_or_compute(**KEY, compute_fn=compute)
    clock.advance(3_600 * 10**9)
    assert cache.get_or_compute(**KEY, compute_fn=compute)[1], "at the boundary it is still good"
    clock.advance(1)
    assert not cache.get_or_compute(**KEY, compute_fn=compute)[1]
    assert cache.statistics().expired == 1
    clock.advance(3_600 * 10**9)
    assert cache.get_or_compute(**KEY, compute_fn=compute)[1], "it lives from when it was computed"


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, clock: FixedClock) -> None:
    probe = DiskFeatureCache(tmp_path / "probe", clock=clock)
    probe.get_or_compute(**KEY, compute_fn=Counting())
    size = probe.statistics().bytes
    cache = DiskFeatureCache(tmp_path / "cache", clock=clock, max_bytes=3 * size + size // 2)

    def ask(name: str) -> bool:
        clock.advance(1)
        made = cache.get_or_compute(**(KEY | {"snapshot_id": name}), compute_fn=Counting())
        return made[1]

    assert [ask(name) for name in ("s1", "s2", "s3")] == [False] * 3
    assert ask("s1"), "used again: s2 is the oldest now"
    assert not ask("s4")
    assert [ask(name) for name in ("s1", "s3", "s4")] == [True] * 3
    assert not ask("s2")
    found = cache.statistics()
    assert (found.entries, found.evicted) == (3, 2)
    assert found.bytes <= 3 * size + size // 2


def test_a_frame_larger_than_the_cap_is_answered_and_not_kept(
    tmp_path: Path, clock: FixedClock
) -> None:
    cache = DiskFeatureCache(tmp_path, clock=clock, max_bytes=100)
    frame, was_cached = cache.get_or_compute(**KEY, compute_fn=Counting())
    assert bits(frame) == bits(FRAME)
    assert not was_cached
    found = cache.statistics()
    assert (found.entries, found.unwritten, found.evicted) == (0, 1, 0)
    with pytest.raises(ContractViolation, match="max_bytes"):
        DiskFeatureCache(tmp_path, clock=clock, max_bytes=0)


def test_what_the_computation_raises_is_raised_and_nothing_is_kept(
    cache: DiskFeatureCache, tmp_path: Path
) -> None:
    def broken() -> pl.DataFrame:
        raise ZeroDivisionError("no data")

    with pytest.raises(ZeroDivisionError, match="no data"):
        cache.get_or_compute(**KEY, compute_fn=broken)
    assert entries(tmp_path) == []
    assert not cache.get_or_compute(**KEY, compute_fn=Counting())[1]


@pytest.mark.parametrize("made", [None, [1], FRAME.lazy(), pl.DataFrame({"o": [object()]})])
def test_what_is_no_frame_that_can_be_written_is_refused(
    cache: DiskFeatureCache, made: object
) -> None:
    with pytest.raises(ContractViolation, match="momentum"):
        cache.get_or_compute(**KEY, compute_fn=lambda: made)  # type: ignore[arg-type,return-value]


def test_a_full_disk_costs_the_entry_and_not_the_answer(
    cache: DiskFeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("assay.features.offline.cache.write_atomic", full)
        frame, _ = cache.get_or_compute(**KEY, compute_fn=Counting())
    assert bits(frame) == bits(FRAME)
    assert cache.statistics().unwritten == 1
    assert not cache.get_or_compute(**KEY, compute_fn=Counting())[1]


def test_a_computation_may_ask_for_other_frames_and_not_for_itself(
    cache: DiskFeatureCache,
) -> None:
    earlier = KEY | {"as_of_date": date(2026, 1, 14)}

    def outer() -> pl.DataFrame:
        return cache.get_or_compute(**earlier, compute_fn=Counting())[0]

    assert bits(cache.get_or_compute(**KEY, compute_fn=outer)[0]) == bits(FRAME)
    own = KEY | {"config_hash": "c9"}

    def itself() -> pl.DataFrame:
        return cache.get_or_compute(**own, compute_fn=itself)[0]

    with pytest.raises(Conflict, match="asks for the same"):
        cache.get_or_compute(**own, compute_fn=itself)
    assert not cache.get_or_compute(**own, compute_fn=Counting())[1], "the lock was let go"


def test_threads_that_ask_at_once_compute_once(cache: DiskFeatureCache) -> None:
    begun, together = threading.Event(), threading.Barrier(5)
    compute = Counting()

    def slow() -> pl.DataFrame:
        begun.set()
        return compute()

    answers: list[bool] = []

    def ask() -> None:
        together.wait()
        answers.append(cache.get_or_compute(**KEY, compute_fn=slow)[1])

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, True, True, True, True]
    assert compute.times == 1
    found = cache.statistics()
    assert (found.hits, found.misses) == (4, 1)


def test_waiting_for_another_process_ends_when_it_was_told_to(
    tmp_path: Path, clock: FixedClock
) -> None:
    DiskFeatureCache(tmp_path, clock=clock).get_or_compute(**KEY, compute_fn=Counting())
    (entry,) = entries(tmp_path)
    entry.unlink()
    (lock,) = tmp_path.glob("locks/*/*.lock")
    with FileLock(lock):
        impatient = DiskFeatureCache(tmp_path, clock=clock, wait_seconds=0.0)
        with pytest.raises(Unavailable, match="held by another process"):
            impatient.get_or_compute(**KEY, compute_fn=Counting())


def test_statistics_tell_what_happened_and_clear_empties_the_disk(
    cache: DiskFeatureCache, tmp_path: Path
) -> None:
    cache.get_or_compute(**KEY, compute_fn=Counting())
    cache.get_or_compute(**KEY, compute_fn=Counting())
    found = cache.statistics()
    assert found.to_json() == {
        "hits": 1, "misses": 1, "expired": 0, "corrupted": 0, "evicted": 0, "unwritten": 0,
        "entries": 1, "bytes": entries(tmp_path)[0].stat().st_size,
    }  # fmt: skip
    cache.clear()
    assert cache.statistics().entries == 0
