"""An online store and a plain dictionary driven together by Hypothesis, in any order of calls.

A store of your own is driven by a few lines::

    @contextmanager
    def new_place():
        with TemporaryDirectory() as folder:
            yield lambda **options: MyStore(Path(folder), **options)

    def test_my_store_does_what_a_dictionary_does():
        drive_online_store(new_place, durable=True, examples=25, steps=20)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from assay.domain.order import VersionKey
from assay.errors import Conflict
from assay.features.online.store import OnlineStore, StoredRow
from assay.testing.online_store import stored_row

OpenStore: TypeAlias = Callable[..., OnlineStore]
NewPlace: TypeAlias = Callable[[], AbstractContextManager[OpenStore]]

KEPT = 4

_ENTITIES = st.sampled_from(["A", "é}{"])
_VIEWS = st.sampled_from(["fx", "news"])
# Neighbours that a double cannot tell apart, and both signs.
_TIMES = st.sampled_from([-(2**63), -1, 0, 1, 2**60, 2**60 + 1, 2**63 - 1])
_SMALL = st.integers(-1, 1)


def _row(entity: str, event: int, known: int, rank: int, sequence: int, value: float) -> StoredRow:
    values = (value, math.nan)
    return stored_row(entity, event, known, source_rank=rank, sequence=sequence, values=values)


_ROWS = st.builds(
    _row, _ENTITIES, _TIMES, _TIMES, _SMALL, _SMALL, st.sampled_from([1.0, 2.0])
)  # fmt: skip


def drive_online_store(
    new_place: NewPlace, *, durable: bool, examples: int, steps: int, max_versions: int = KEPT
) -> None:
    """Compare a store with a dictionary over ``examples`` runs of up to ``steps`` calls.

    Parameters
    ----------
    new_place: gives, for the length of one run, what opens a store over a new, empty place; it is
        called with ``max_versions``.
    durable: whether rows are still there when the store is closed and opened again.
    """

    class Machine(RuleBasedStateMachine):
        """The model: (view, entity) -> key -> row, cut to the largest keys."""

        def __init__(self) -> None:
            super().__init__()
            self.model: dict[tuple[str, str], dict[VersionKey, StoredRow]] = {}
            self.stack = ExitStack()
            self.open = self.stack.enter_context(new_place())
            self.store = self.open(max_versions=max_versions)

        def teardown(self) -> None:
            self.store.close()
            self.stack.close()

        @rule(view=_VIEWS, batch=st.lists(_ROWS, max_size=6))
        def write(self, view: str, batch: list[StoredRow]) -> None:
            changed = {key: dict(kept) for key, kept in self.model.items()}
            added, conflict = 0, False
            for row in batch:
                kept = changed.setdefault((view, row.entity), {})
                conflict |= row.key in kept and kept[row.key] != row
                added += row.key not in kept
                kept[row.key] = row
            if conflict:
                with pytest.raises(Conflict):
                    self.store.write(view, batch)
                return
            assert self.store.write(view, batch) == added
            self.model = {
                name: {key: kept[key] for key in sorted(kept)[-max_versions:]}
                for name, kept in changed.items()
            }
            for entity in {row.entity for row in batch}:
                self.history(view, entity)

        @rule(view=_VIEWS, asked=st.lists(_ENTITIES, max_size=4), moment=st.none() | _TIMES)
        def read(self, view: str, asked: Sequence[str], moment: int | None) -> None:
            expected = [self.answer(view, entity, moment) for entity in asked]
            assert self.store.read(view, asked, moment) == expected

        @rule(
            asked=st.dictionaries(_VIEWS, st.lists(_ENTITIES, max_size=4)),
            moment=st.none() | _TIMES,
        )
        def read_views(self, asked: dict[str, list[str]], moment: int | None) -> None:
            expected = {
                view: [self.answer(view, entity, moment) for entity in entities]
                for view, entities in asked.items()
            }
            assert self.store.read_views(asked, moment) == expected

        def answer(self, view: str, entity: str, moment: int | None) -> StoredRow | None:
            kept = self.model.get((view, entity), {})
            visible = [key for key in kept if moment is None or key.visible_at(moment)]
            return kept[max(visible)] if visible else None

        @rule(view=_VIEWS)
        def entities(self, view: str) -> None:
            assert list(self.store.entities(view)) == self.listed(view)

        @rule(view=_VIEWS)
        def drop(self, view: str) -> None:
            assert self.store.drop(view) == len(self.listed(view))
            self.model = {key: kept for key, kept in self.model.items() if key[0] != view}

        def listed(self, view: str) -> list[str]:
            return sorted(
                entity for (one, entity), kept in self.model.items() if one == view and kept
            )

        @rule(view=_VIEWS, entity=_ENTITIES)
        def look_at_history(self, view: str, entity: str) -> None:
            self.history(view, entity)

        def history(self, view: str, entity: str) -> None:
            kept = self.model.get((view, entity), {})
            assert self.store.history(view, entity) == [kept[key] for key in sorted(kept)]

        @rule()
        def views(self) -> None:
            expected = {view for (view, _), kept in self.model.items() if kept}
            assert self.store.views() == tuple(sorted(expected))

        @precondition(lambda _: durable)
        @rule()
        def open_again(self) -> None:
            self.store.close()
            self.store = self.open(max_versions=max_versions)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
