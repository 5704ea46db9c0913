"""One generator and one oracle for "which version wins", for every store and join.

Another implementation is held to the order by one line: a function that takes facts and questions
and gives the value of each answer goes into the list of
``tests/conformance/test_one_order.py``, or into a test of your own::

    @given(facts(), questions())
    def test_my_store_follows_the_order(known, asked):
        assert my_answers(known, asked) == expected(known, asked)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import polars as pl
from hypothesis import strategies as st

from assay.domain.instants import Instant, parse
from assay.domain.order import ORDER_COLUMNS, VersionKey, as_of
from assay.features.offline.point_in_time import FeatureTable, as_of_join
from assay.features.offline.store import OfflineStore
from assay.features.offline.stored_table import StoredFeatures, StoredJoin
from assay.features.online.store import OnlineStore, StoredRow

MANIFEST = "0a" * 32
TABLE = "gold/order"


class Fact(NamedTuple):
    """One version of a fact about an entity; ``value`` tells it from all others."""

    entity: str
    key: VersionKey
    value: float


Question: TypeAlias = tuple[str, Instant]
Answers: TypeAlias = Callable[[Sequence[Fact], Sequence[Question]], list[float | None]]

# Where calendars and integers have their edges; neighbours are a nanosecond apart.
_EDGES = (
    0,
    parse("2024-02-29T23:59:59.999999999Z"),  # the end of a leap day and of a month
    parse("2025-12-31T23:59:59.999999999Z"),
    parse("2026-03-29T01:00Z"),  # clocks in Europe go forward
)
_moments = st.builds(int.__add__, st.sampled_from(_EDGES), st.integers(-2, 2))
_entities = st.sampled_from("ABC")
_ranks = st.integers(0, 1)


def facts() -> st.SearchStrategy[list[Fact]]:
    """Versions in any order: late, corrected, restated, tied up to the last part of the order."""
    keys = st.builds(VersionKey, _moments, _moments, _ranks, _ranks)
    places = st.lists(st.tuples(_entities, keys), max_size=20, unique=True)
    return places.map(
        lambda found: [Fact(*place, float(number)) for number, place in enumerate(found)]
    )


def questions() -> st.SearchStrategy[list[Question]]:
    """Entities and moments, one entity without any fact among them."""
    return st.lists(st.tuples(st.sampled_from("ABCX"), _moments), max_size=20)


def expected(known: Sequence[Fact], asked: Sequence[Question]) -> list[float | None]:
    """The answers by the definition in :mod:`assay.domain.order`."""
    values = {(fact.entity, fact.key): fact.value for fact in known}
    answers = []
    for entity, moment in asked:
        winner = as_of([fact.key for fact in known if fact.entity == entity], moment)
        answers.append(None if winner is None else values[entity, winner])
    return answers


def answers_of_join(known: Sequence[Fact], asked: Sequence[Question]) -> list[float | None]:
    """By the point-in-time join of a table in memory."""
    table = FeatureTable("gold/order", fact_rows(known), ("value",), "", "")
    answers: list[float | None] = as_of_join(_spine(asked), table)["value"].to_list()
    return answers


def answers_of_offline(open_store: Callable[[Path], OfflineStore]) -> Answers:
    """By a join with rows that lie in an offline store, committed in two halves."""

    def answers(known: Sequence[Fact], asked: Sequence[Question]) -> list[float | None]:
        with tempfile.TemporaryDirectory(prefix="order-") as folder:
            store = open_store(Path(folder))
            rows = fact_rows(known)
            store.commit(TABLE, rows.clear(), metadata={"manifest": MANIFEST})
            half = rows.height // 2
            for part in (rows[:half], rows[half:]):
                store.commit(TABLE, part)
            join = StoredJoin(StoredFeatures.of(store, TABLE), cache=0)
            found: list[float | None] = join.rows(_spine(asked))["value"].to_list()
            return found

    return answers


def answers_of_online(open_store: Callable[[Path], OnlineStore]) -> Answers:
    """By the reads of an online store, written row by row in the order given."""

    def answers(known: Sequence[Fact], asked: Sequence[Question]) -> list[float | None]:
        with tempfile.TemporaryDirectory(prefix="order-") as folder:
            store = open_store(Path(folder))
            for fact in known:
                row = StoredRow(fact.entity, *fact.key, MANIFEST, np.array([fact.value]))
                store.write("order", [row])
            found = [store.read("order", [entity], moment)[0] for entity, moment in asked]
            store.close()
        return [None if row is None else float(row.values[0]) for row in found]

    return answers


def fact_rows(known: Sequence[Fact]) -> pl.DataFrame:
    """The facts as a table: instrument, the four columns of the order, value."""
    names = ["instrument", *ORDER_COLUMNS, "value"]
    types = [pl.String, *[pl.Int64] * 4, pl.Float64]
    rows = [(fact.entity, *fact.key, fact.value) for fact in known]
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def _spine(asked: Sequence[Question]) -> pl.DataFrame:
    return pl.DataFrame(asked, schema={"instrument": pl.String, "as_of": pl.Int64}, orient="row")
