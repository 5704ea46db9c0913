"""Both offline stores and a plain dictionary, driven together."""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from assay.adapters.delta import DeltaStore
from assay.errors import Conflict, NotFound
from assay.features.offline.parquet import ParquetStore
from assay.testing.clocks import FixedClock
from assay.testing.offline_rows import DAY, SCHEMA, TABLE, table_of

entities = st.sampled_from(["A", "B"])
events = st.sampled_from([0, 1, 30 * DAY, 31 * DAY - 1, 31 * DAY, 400 * DAY])
knowns = st.sampled_from([0, 31 * DAY, 401 * DAY])
values = st.sampled_from([None, math.nan, 0.0, -0.0, 1.0])
rows = st.tuples(entities, events, knowns, st.integers(0, 1), st.just(0), values)
batches = st.lists(rows, max_size=5)
# Seldom another value at the same place: most batches must be accepted.
calm = batches.map(lambda found: [(*one[:5], float(one[1] // DAY + one[3])) for one in found])


def content(value):
    return None if value is None else struct.pack("<d", value)


class OfflineMachine(RuleBasedStateMachine):
    """Model: (entity, order) -> bits of the value, for each state that there was."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="offline-machine-"))
        self.clock = FixedClock(0)
        self.states = []  # (snapshot id, rows by key, metadata)
        self.open_again()

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule()
    def open_again(self):
        self.stores = [
            ParquetStore(self.folder / "parquet", self.clock),
            DeltaStore(self.folder / "delta", self.clock),
        ]

    @rule(batch=calm | batches, text=st.none() | st.sampled_from("xy"))
    def commit(self, batch, text):
        held = dict(self.states[-1][1]) if self.states else {}
        texts = self.states[-1][2] if self.states else {}
        texts = texts if text is None else {"manifest": text}
        conflict = False
        for one in batch:
            bits = content(one[5])
            conflict |= held.setdefault(one[:5], bits) != bits
        metadata = None if text is None else texts
        self.clock.advance(1)
        if conflict:
            for store in self.stores:
                with pytest.raises(Conflict):
                    store.commit(TABLE, table_of(*batch), metadata=metadata)
            return
        made = [store.commit(TABLE, table_of(*batch), metadata=metadata) for store in self.stores]
        ids = {one.id for one in made}
        assert len(ids) == 1
        (identifier,) = ids
        if not self.states or (held, texts) != self.states[-1][1:]:
            assert identifier not in {one[0] for one in self.states if one[1:] != (held, texts)}
            self.states.append((identifier, held, texts))
        assert identifier == self.states[-1][0]

    @rule(
        back=st.integers(0, 5),
        asked=st.none() | st.lists(entities, max_size=2),
        since=st.none() | events,
        until=st.none() | events,
        known_by=st.none() | knowns,
    )
    def read(self, back, asked, since, until, known_by):
        if not self.states:
            for store in self.stores:
                with pytest.raises(NotFound):
                    store.read(TABLE)
            return
        identifier, held, _ = self.states[-1 - back % len(self.states)]
        expected = sorted(
            (*key, bits) for key, bits in held.items()
            if (asked is None or key[0] in asked)
            and (since is None or key[1] >= since)
            and (until is None or key[1] < until)
            and (known_by is None or key[2] <= known_by)
        )  # fmt: skip
        for store in self.stores:
            found = store.read(
                TABLE, identifier, entities=asked, since=since, until=until, known_by=known_by
            )
            assert dict(found.schema) == SCHEMA
            assert [(*one[:5], content(one[5])) for one in found.rows()] == expected

    @rule()
    def compact(self):
        for store in self.stores:
            if self.states:
                store.compact(TABLE)

    @rule()
    def look_back(self):
        for store in self.stores:
            assert [entry.snapshot for entry in store.history(TABLE)] == [
                one[0] for one in self.states
            ]
            if self.states:
                snapshots = {one[0] for one in self.states}
                assert store.verify(TABLE).snapshots == len(snapshots)
                assert store.tables() == (TABLE,)


def run(examples, steps):
    run_state_machine_as_test(
        OfflineMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_stores_do_what_a_dictionary_does():
    run(20, 15)


@pytest.mark.long
def test_stores_do_what_a_dictionary_does_for_long():
    run(300, 30)
