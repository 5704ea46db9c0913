"""Both online stores against a plain dictionary."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from assay.errors import Conflict
from assay.features.online import MemoryStore, SqliteStore
from assay.testing.online_store import stored_row

KEPT = 4
entities = st.sampled_from(["A", "B", "C"])
views = st.sampled_from(["fx", "news"])
small = st.integers(0, 3)
rows = st.builds(
    lambda entity, event, known, rank, sequence, value: stored_row(
        entity, event, known, source_rank=rank, sequence=sequence, values=(value, math.nan)
    ),
    entities, small, small, st.integers(0, 1), st.integers(0, 1), st.sampled_from([1.0, 2.0]),
)  # fmt: skip


class StoreMachine(RuleBasedStateMachine):
    """Model: (view, entity) -> key -> row, cut to the largest keys."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.model = {}
        self.memory = MemoryStore(max_versions=KEPT)
        self.sqlite = SqliteStore(self.folder / "online.db", max_versions=KEPT)

    def teardown(self):
        self.sqlite.close()
        shutil.rmtree(self.folder)

    @rule(view=views, batch=st.lists(rows, max_size=5))
    def write(self, view, batch):
        changed = {key: dict(kept) for key, kept in self.model.items()}
        added, conflict = 0, False
        for row in batch:
            kept = changed.setdefault((view, row.entity), {})
            conflict |= row.key in kept and kept[row.key] != row
            added += row.key not in kept
            kept[row.key] = row
        for store in (self.memory, self.sqlite):
            if conflict:
                with pytest.raises(Conflict):
                    store.write(view, batch)
            else:
                assert store.write(view, batch) == added
        if not conflict:
            self.model = {
                name: {key: kept[key] for key in sorted(kept)[-KEPT:]}
                for name, kept in changed.items()
            }

    @rule(view=views, asked=st.lists(entities, max_size=4), moment=st.none() | small)
    def read(self, view, asked, moment):
        expected = []
        for entity in asked:
            kept = self.model.get((view, entity), {})
            visible = [
                key for key in kept if moment is None or (key[0] <= moment and key[1] <= moment)
            ]
            expected.append(kept[max(visible)] if visible else None)
        assert self.memory.read(view, asked, moment) == expected
        assert self.sqlite.read(view, asked, moment) == expected

    @rule(view=views, entity=entities)
    def history(self, view, entity):
        kept = self.model.get((view, entity), {})
        expected = [kept[key] for key in sorted(kept)]
        assert self.memory.history(view, entity) == expected
        assert self.sqlite.history(view, entity) == expected

    @rule()
    def look_at_views(self):
        expected = tuple(sorted({view for (view, _), kept in self.model.items() if kept}))
        assert self.memory.views() == expected
        assert self.sqlite.views() == expected

    @rule()
    def open_again(self):
        self.sqlite.close()
        self.sqlite = SqliteStore(self.folder / "online.db", max_versions=KEPT)


def test_stores_do_what_a_dictionary_does():
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.long
def test_stores_do_what_a_dictionary_does_for_long():
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=500,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
