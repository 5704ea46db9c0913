"""One definition of which version wins: every join and every store answers as it says.

A store of your own is added by one line in ``IMPLEMENTATIONS``.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from assay.adapters.delta import DeltaStore
from assay.features.offline.parquet import ParquetStore
from assay.features.online import MemoryStore, SqliteStore
from assay.testing.clocks import FixedClock
from assay.testing.order import (
    answers_of_join,
    answers_of_offline,
    answers_of_online,
    expected,
    facts,
    questions,
)

IMPLEMENTATIONS = {
    "offline join": (answers_of_join, 200),
    "memory": (answers_of_online(lambda folder: MemoryStore()), 200),
    "sqlite": (answers_of_online(lambda folder: SqliteStore(folder / "online.db")), 25),
    "parquet": (answers_of_offline(lambda folder: ParquetStore(folder, FixedClock(0))), 15),
    "delta": (answers_of_offline(lambda folder: DeltaStore(folder, FixedClock(0))), 15),
}


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_largest_version_that_was_visible_is_the_answer(name):
    answers, examples = IMPLEMENTATIONS[name]

    @settings(max_examples=examples, deadline=None)
    @given(facts(), questions())
    def check(known, asked):
        assert answers(known, asked) == expected(known, asked)

    check()


@pytest.mark.long
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_largest_version_that_was_visible_is_the_answer_for_long(name):
    answers, examples = IMPLEMENTATIONS[name]

    @settings(max_examples=20 * examples, deadline=None)
    @given(facts(), questions())
    def check(known, asked):
        assert answers(known, asked) == expected(known, asked)

    check()
