"""What an online store holds against what history says, version by version.

1. :func:`read_stored` takes every version that the store keeps, of entities that history does not
   know as well. A row that the store refuses to give is found by asking for the moments around it,
   and named.
2. :func:`complete_since` tells from when on a store that was warmed up, or keeps a bounded number
   of versions, can hold everything.
3. :func:`compare_store` compares both by key and bits, and day by day under Merkle roots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from assay.domain.instants import Instant, render
from assay.domain.order import ORDER_COLUMNS, VersionKey
from assay.domain.verdicts import Verdict
from assay.errors import IntegrityError
from assay.features.definition.manifest import Manifest
from assay.features.definition.views import FeatureView
from assay.features.online import OnlineStore, StoredRow
from assay.features.parity.answers import Answers
from assay.features.parity.comparison import SHOWN, ParityReport, compare
from assay.features.parity.days import (
    MANIFEST,
    NANOS_PER_DAY,
    DayRoots,
    RowKey,
    compare_days,
    day_trees,
)
from assay.features.parity.horizon import Horizon
from assay.features.parity.policy import Judgement, ParityPolicy, rows_are


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that the store keeps and cannot give back, and what the store said.

    ``key`` is None where only the entity could be found out. ``damaged`` is False for a row that
    may be whole, and cannot be asked for because another one of its entity is not.
    """

    entity: str
    key: RowKey | None
    reason: str
    damaged: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "entity": self.entity,
            "key": None if self.key is None else list(self.key),
            "reason": self.reason,
            "damaged": self.damaged,
        }


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store gave.

    Attributes
    ----------
    rows: the readable versions under the view's manifest: entity, the order columns, manifest,
        features.
    foreign: keys and manifests of versions under another manifest; they are not compared.
    refused: versions that the store could not give.
    counts: how many versions each entity has, readable or not.
    """

    rows: pl.DataFrame
    foreign: tuple[tuple[RowKey, str], ...]
    refused: tuple[RefusedRow, ...]
    counts: dict[str, int]

    @property
    def places(self) -> pl.DataFrame:
        """Entity, event time and known time of all versions, readable or not."""
        columns = [pl.col(name) for name in ORDER_COLUMNS[:2]]
        kept = self.rows.select(pl.col(self.rows.columns[0]).alias("entity"), *columns)
        others = [key for key, _ in self.foreign]
        others += [one.key for one in self.refused if one.key is not None]
        named = [key[:3] for key in others]
        return pl.concat([kept, pl.DataFrame(named, schema=kept.schema, orient="row")])


@dataclass(frozen=True, slots=True)
class StoreComparison:
    """A store against history over a horizon.

    Attributes
    ----------
    report: rows matched by entity and the four order columns; rows that the store refuses or has
        under another manifest are in neither side of it.
    days: row counts and Merkle roots by UTC day of event time, of all rows that can be read.
    refused: rows that the store could not give.
    foreign: rows under another manifest, counted by manifest.
    foreign_keys: the first of them.
    answers: what the store answered at the moments at which answers change; None where there is no
        store to ask.
    """

    horizon: Horizon
    report: ParityReport
    days: tuple[DayRoots, ...]
    refused: tuple[RefusedRow, ...]
    foreign: dict[str, int]
    foreign_keys: tuple[RowKey, ...]
    offline_rows: int
    online_rows: int
    answers: Answers | None = None

    def judge(self, policy: ParityPolicy) -> Judgement:
        """The policy's verdict; a refused row or one under another manifest is a breach."""
        damaged = [one for one in self.refused if one.damaged]
        found = [f"the store cannot give {_name(one)}: {one.reason}" for one in damaged]
        if len(damaged) < len(self.refused):
            found.append(f"{rows_are(len(self.refused) - len(damaged))} unreadable beside those")
        found += [
            f"{rows_are(count)} computed under another manifest, {manifest[:12]}"
            for manifest, count in self.foreign.items()
        ]
        if self.answers is not None and self.answers.wrong:
            found.append(_wrong(self.answers))
        judged = policy.judge(self.report)
        if not found:
            return judged
        reasons = judged.reasons if judged.verdict is Verdict.FAIL else ()
        return Judgement(Verdict.FAIL, (*found, *reasons))


def read_stored(view: FeatureView, store: OnlineStore, history: pl.DataFrame) -> Stored:
    """Every version that the store keeps, of the entities of history and of any others.

    Parameters
    ----------
    history: the view's entity and order columns at least.
    """
    manifest = Manifest.of(view).hash
    kept: list[StoredRow] = []
    foreign: list[tuple[RowKey, str]] = []
    refused: list[RefusedRow] = []
    counts: dict[str, int] = {}
    known = {
        str(entity): own.select(ORDER_COLUMNS).rows()
        for (entity,), own in history.group_by(view.entity, maintain_order=True)
    }
    strangers = [name for name in store.entities(view.name) if name not in known]
    for name in (*known, *strangers):
        try:
            rows = store.history(view.name, name)
            counts[name] = len(rows)
        except IntegrityError as error:
            rows, damaged = _probe(view, store, name, known.get(name, []))
            counts[name] = len(rows) + len(damaged)
            refused += damaged or [RefusedRow(name, None, error.message)]
        for row in rows:
            key = (row.entity, *row.key)
            if row.manifest != manifest:
                foreign.append((key, row.manifest))
            elif row.values.size != len(view.feature_names):
                said = f"{row.values.size} values, the view has {len(view.feature_names)} features"
                refused.append(RefusedRow(name, key, said))
            else:
                kept.append(row)
    return Stored(_frame(view, kept), tuple(foreign), tuple(refused), counts)


def complete_since(history: pl.DataFrame, stored: Stored, *, max_versions: int) -> Instant | None:
    """From which midnight on the store can hold every version; None where it holds nothing.

    Rows that were known before the first one the store got were part of its warm-up, and of an
    entity with ``max_versions`` rows older ones may have been dropped. Where no midnight lies among
    its rows, as with bars of a minute, it is the moment after what may have been dropped.
    Entities that history does not know tell nothing about it.

    Parameters
    ----------
    max_versions: how many rows of an entity the store keeps.
    """
    if history.is_empty():
        return None
    known = history[stored.rows.columns[0]].cast(pl.String).unique().to_list()
    rows = stored.places.filter(pl.col("entity").is_in(known))
    if rows.is_empty():
        return None
    floors: list[Instant] = []
    before = history.filter(pl.col("known_time") < int(rows["known_time"].to_numpy().min()))
    if before.height:
        floors.append(int(before["event_time"].to_numpy().max()) + 1)
    full = [name for name, count in stored.counts.items() if count >= max_versions]
    oldest = rows.filter(pl.col("entity").is_in(full)).group_by("entity")
    newest_of_oldest = oldest.agg(pl.col("event_time").min())["event_time"].to_numpy()
    if newest_of_oldest.size:
        floors.append(int(newest_of_oldest.max()) + 1)
    if not floors:
        return int(history["event_time"].to_numpy().min()) // NANOS_PER_DAY * NANOS_PER_DAY
    midnight = -(-max(floors) // NANOS_PER_DAY) * NANOS_PER_DAY
    newest = int(rows["event_time"].to_numpy().max())
    return midnight if midnight <= newest else max(floors)


def compare_store(
    view: FeatureView,
    stored: Stored,
    history: pl.DataFrame,
    horizon: Horizon,
    *,
    answers: Answers | None = None,
    shown: int = SHOWN,
) -> StoreComparison:
    """Compare what a store gave with what history says, over a horizon.

    Parameters
    ----------
    history: entity, the order columns and the features: every version as it was known.
    answers: from :func:`assay.features.parity.answers.check_answers`, where there is a store.
    """
    manifest = Manifest.of(view).hash
    columns = [*view.key_columns, *view.feature_names]
    offline = horizon.of(history).select(columns)
    online = horizon.of(stored.rows)
    foreign = [one for one in stored.foreign if horizon.holds(one[0][1])]
    refused = tuple(one for one in stored.refused if one.key is None or horizon.holds(one.key[1]))
    # Named already: they are not missing as well.
    named = [key for key, _ in foreign] + [one.key for one in refused if one.key is not None]
    keys = pl.DataFrame(named, schema=offline.select(view.key_columns).schema, orient="row")
    report = compare(
        offline.join(keys, on=list(view.key_columns), how="anti"),
        online,
        keys=view.key_columns,
        features=view.feature_names,
        shown=shown,
    )
    mine = day_trees(view, offline.with_columns(pl.lit(manifest).alias(MANIFEST)))
    counted: dict[str, int] = {}
    for _, other in foreign:
        counted[other] = counted.get(other, 0) + 1
    return StoreComparison(
        horizon=horizon,
        report=report,
        days=compare_days(mine, day_trees(view, online)),
        refused=refused,
        foreign=counted,
        foreign_keys=tuple(key for key, _ in foreign[:shown]),
        offline_rows=offline.height,
        online_rows=online.height,
        answers=answers,
    )


def _probe(
    view: FeatureView, store: OnlineStore, entity: str, keys: Sequence[tuple[int, ...]]
) -> tuple[list[StoredRow], list[RefusedRow]]:
    """The readable rows of an entity with a damaged one, and the damaged ones by their place.

    The store answers for moments: at each one at which history has a version that is the newest,
    it either gives a row or refuses to. A version that was never the newest cannot be asked for,
    and counts as one that the store cannot give.
    """
    found: dict[VersionKey, StoredRow] = {}
    damaged: dict[VersionKey, RefusedRow] = {}
    versions = [VersionKey(*key) for key in keys]
    asked = set()
    for moment in sorted({max(key.event_time, key.known_time) for key in versions}):
        newest = max(key for key in versions if key.visible_at(moment))
        asked.add(newest)
        try:
            (row,) = store.read(view.name, [entity], moment)
        except IntegrityError as error:
            damaged.setdefault(newest, RefusedRow(entity, (entity, *newest), error.message))
            continue
        if row is not None:
            found[row.key] = row
    for key in versions:
        if key not in asked and key not in found:
            said = "it was never the newest, so it cannot be read beside a damaged row"
            damaged.setdefault(key, RefusedRow(entity, (entity, *key), said, damaged=False))
    refused = sorted(damaged, key=lambda key: (not damaged[key].damaged, key))
    return [found[key] for key in sorted(found)], [damaged[key] for key in refused]


def _frame(view: FeatureView, rows: Sequence[StoredRow]) -> pl.DataFrame:
    values = np.array([row.values for row in rows]).reshape(len(rows), len(view.feature_names))
    return pl.DataFrame(
        {
            view.entity: pl.Series([row.entity for row in rows], dtype=pl.String),
            **{
                name: pl.Series([row[place] for row in rows], dtype=pl.Int64)
                for place, name in enumerate(ORDER_COLUMNS, start=1)
            },
            MANIFEST: pl.Series([row.manifest for row in rows], dtype=pl.String),
            **{
                name: pl.Series(np.ascontiguousarray(values[:, place], dtype=np.float64))
                for place, name in enumerate(view.feature_names)
            },
        }
    )


def _name(one: RefusedRow) -> str:
    if one.key is None:
        return f"a row of {one.entity}"
    return f"{one.entity} at {render(one.key[1])}, known {render(one.key[2])}"


def _wrong(answers: Answers) -> str:
    one = answers.first[0]
    wanted, given = (
        "nothing" if key is None else f"{render(key.event_time)}, known {render(key.known_time)}"
        for key in (one.expected, one.found)
    )
    return (
        f"{answers.wrong:,} of {answers.asked:,} answers are not what was known, the first for "
        f"{one.entity} at {render(one.moment)}: {given} instead of {wanted}"
    )
