"""What a store answers at the moments at which the answer changes, against what was known then.

A version that the store keeps whole can still be served too late or too early: what decides is the
place that the store has filed it under. So the store is asked as the service asks it: at every
moment at which a version of history became visible, and one nanosecond before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import polars as pl

from assay.domain.instants import MIN_INSTANT, Instant, render
from assay.domain.order import VersionKey
from assay.errors import IntegrityError
from assay.features.definition.views import FeatureView
from assay.features.online import OnlineStore, StoredRow
from assay.features.parity.horizon import Horizon


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """An entity whose answer at a moment is not the largest version that was visible.

    None where there was no answer, or should have been none from the horizon.
    """

    entity: str
    moment: Instant
    expected: VersionKey | None
    found: VersionKey | None

    def to_json(self) -> dict[str, Any]:
        return {
            "entity": self.entity,
            "moment": render(self.moment),
            "expected": None if self.expected is None else list(self.expected),
            "found": None if self.found is None else list(self.found),
        }


@dataclass(frozen=True, slots=True)
class Answers:
    """How many answers were compared, how many are wrong, and the first of those."""

    asked: int
    wrong: int
    first: tuple[WrongAnswer, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "wrong": self.wrong,
            "first": [one.to_json() for one in self.first],
        }


def check_answers(
    view: FeatureView,
    store: OnlineStore,
    history: pl.DataFrame,
    horizon: Horizon,
    *,
    shown: int = 10,
) -> Answers:
    """Ask a store for every entity at every moment of a horizon at which an answer changes.

    Parameters
    ----------
    history: the view's key columns: every version as it was known.
    horizon: of event times. What the store says of earlier rows is not compared: it may have been
        warmed up on them; but no answer may come from the horizon before it was known.
    shown: how many wrong answers are named.
    """
    versions = sorted(
        (max(event_time, known_time), str(entity), VersionKey(event_time, known_time, *others))
        for entity, event_time, known_time, *others in history.select(view.key_columns).rows()
    )
    entities = sorted({entity for _, entity, _ in versions})
    newest: dict[str, VersionKey] = {}
    asked = wrong = 0
    first: list[WrongAnswer] = []

    def compare(moment: Instant) -> None:
        nonlocal asked, wrong
        for entity, found in _ask(view, store, entities, moment):
            expected = newest.get(entity)
            if expected is not None and not horizon.holds(expected.event_time):
                expected = None
            if found is not None and not horizon.holds(found.event_time):
                found = None  # noqa: PLW2901 - what lies outside is not compared
            asked += 1
            if found != expected:
                wrong += 1
                if len(first) < shown:
                    first.append(WrongAnswer(entity, moment, expected, found))

    for moment, group in groupby(versions, key=lambda one: one[0]):
        became = list(group)
        changes = any(horizon.holds(key.event_time) for _, _, key in became)
        if changes and moment > MIN_INSTANT:
            compare(moment - 1)
        for _, entity, key in became:
            newest[entity] = max(newest.get(entity, key), key)
        if changes:
            compare(moment)
    return Answers(asked, wrong, tuple(first))


def _ask(
    view: FeatureView, store: OnlineStore, entities: Sequence[str], moment: Instant
) -> list[tuple[str, VersionKey | None]]:
    """The keys that a store answers with; without the entities whose answer it refuses."""
    try:
        rows = store.read(view.name, entities, moment)
    except IntegrityError:
        return [answer for entity in entities for answer in _ask_one(view, store, entity, moment)]
    return [(entity, _key(row)) for entity, row in zip(entities, rows, strict=True)]


def _ask_one(
    view: FeatureView, store: OnlineStore, entity: str, moment: Instant
) -> list[tuple[str, VersionKey | None]]:
    try:
        (row,) = store.read(view.name, [entity], moment)
    except IntegrityError:
        return []
    return [(entity, _key(row))]


def _key(row: StoredRow | None) -> VersionKey | None:
    return None if row is None else row.key
