"""The cache and a plain dict, driven together through anything that can happen to them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import polars as pl
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assay.features import DiskFeatureCache, Duration
from assay.testing.clocks import FixedClock

TTL = 50
NAMES = st.sampled_from(["a", "b", "c", "d"])
DATES = st.sampled_from(["2026-01-01", "2026-01-02"])


class CacheMachine(RuleBasedStateMachine):
    """What the dict says: key -> [content, computed at, used at]; sizes come from the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FixedClock(1_700_000_000 * 10**9)
        self.model: dict[tuple[str, str], list[int]] = {}
        self.paths: dict[tuple[str, str], Path] = {}
        self.known: dict[tuple[str, str], int] = {}
        self.number = 0
        self.cap = 4_000
        self.caches = [self.open(), self.open()]

    def open(self) -> DiskFeatureCache:
        return DiskFeatureCache(
            self.folder, clock=self.clock, ttl=Duration(TTL), max_bytes=self.cap
        )

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(name=NAMES, day=DATES, which=st.integers(0, 1), rows=st.integers(1, 80))
    def ask(self, name: str, day: str, which: int, rows: int) -> None:
        self.clock.advance(1)
        now = self.clock.now()
        key = (name, day)
        self.number += 1
        fresh = self.number
        before = set(self.folder.glob("entries/*/*.ipc"))

        def compute() -> pl.DataFrame:
            return pl.DataFrame({"n": [fresh] * rows, "x": [fresh * 1.5] * rows})

        frame, was_cached = self.caches[which].get_or_compute(name, day, "s", ["v"], "c", compute)
        held = self.model.get(key)
        good = held is not None and held[0] > 0 and now - held[1] <= TTL
        assert was_cached == good
        if good:
            assert held is not None
            assert set(frame["n"]) == {held[0]}
            held[2] = now
            return
        assert set(frame["n"]) == {fresh}
        new = set(self.folder.glob("entries/*/*.ipc")) - before
        if key not in self.paths:
            (self.paths[key],) = new
        self.model[key] = [fresh, now, now]
        sizes = {one: self.paths[one].stat().st_size for one in [key]}
        sizes |= {one: self.known[one] for one in self.model if one != key}
        for old in sorted(self.model, key=lambda one: self.model[one][2]):
            if sum(sizes.values()) <= self.cap:
                break
            if old != key:
                del self.model[old], sizes[old]

    @invariant()
    def the_disk_holds_what_the_model_holds(self) -> None:
        found = set(self.folder.glob("entries/*/*.ipc"))
        assert found == {self.paths[key] for key in self.model}
        self.known = {key: self.paths[key].stat().st_size for key in self.model}
        assert sum(self.known.values()) <= self.cap
        assert self.caches[0].statistics().entries == len(self.model)

    @rule(nanos=st.integers(1, TTL))
    def time_passes(self, nanos: int) -> None:
        self.clock.advance(nanos)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def a_byte_flips(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        path = self.paths[key]
        state = path.stat()
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(bytes(content))
        os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
        self.model[key][0] = -1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def an_entry_is_removed(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        self.paths[key].unlink()
        del self.model[key]

    @rule()
    def another_process_opens_it(self) -> None:
        self.caches[1] = self.open()


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
