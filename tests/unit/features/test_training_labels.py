"""Labels lie strictly ahead of the decision, and appear only when their exit is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import ConfigurationError, ContractViolation
from assay.features.offline.labels import (
    Entry,
    ForwardReturn,
    ForwardVariance,
    PriceTable,
    describe_label,
    forward_labels,
    label_from,
    portable_log,
)

SCHEMA = {
    "instrument": pl.String,
    "event_time": pl.Int64,
    "known_time": pl.Int64,
    "source_rank": pl.Int32,
    "sequence": pl.Int64,
    "mid": pl.Float64,
}


def prices(*rows):
    return PriceTable("silver/market", pl.DataFrame(rows, schema=SCHEMA, orient="row"), "s")


def spine(*rows):
    return pl.DataFrame(rows, schema={"instrument": pl.String, "as_of": pl.Int64}, orient="row")


# Fixes of A at 100, 200, ... 600, each known 20 later; B has no fix at 300.
LEVELS = [1.0, 1.1, 1.21, 1.0, 1.5, 1.2]
MARKET = prices(
    *(("A", 100 * (n + 1), 100 * (n + 1) + 20, 0, n, level) for n, level in enumerate(LEVELS)),
    *(("B", t, t + 20, 0, n, 2.0 + n) for n, t in enumerate([100, 200, 400, 500, 600])),
)


def labels(label, *rows, known_at=None):
    return forward_labels(spine(*rows), label, MARKET, known_at=known_at)


def test_a_return_starts_at_the_first_fix_after_the_decision():
    (row,) = labels(ForwardReturn(2), ("A", 220)).rows()
    assert row == (pytest.approx(math.log(1.5 / 1.21)), 300, 500, 520)


def test_a_decision_at_the_moment_of_a_fix_cannot_trade_it():
    assert labels(ForwardReturn(1), ("A", 200))["label_start"].to_list() == [300]
    assert labels(ForwardReturn(1), ("A", 199))["label_start"].to_list() == [200]


def test_delay_moves_the_entry_by_sessions():
    (row,) = labels(ForwardReturn(1, delay=1), ("A", 220)).rows()
    assert row == (pytest.approx(math.log(1.5 / 1.0)), 400, 500, 520)


def test_variance_starts_at_the_last_fix_and_sums_squares():
    (row,) = labels(ForwardVariance(2), ("A", 220)).rows()
    expected = math.log(1.21 / 1.1) ** 2 + math.log(1.0 / 1.21) ** 2
    assert row == (pytest.approx(expected), 200, 400, 420)
    assert labels(ForwardReturn(2, entry="last_fix"), ("A", 220))["label_start"].to_list() == [200]


def test_a_label_without_its_fixes_is_null():
    none = (None, None, None, None)
    assert labels(ForwardReturn(1), ("A", 520)).rows() == [none]  # no exit yet
    assert labels(ForwardReturn(1), ("B", 220)).rows() == [none]  # no entry: B missed 300
    assert labels(ForwardReturn(1), ("B", 120)).rows() == [none]  # no exit: B missed 300
    assert labels(ForwardReturn(2), ("B", 120))["label"].to_list() == [
        pytest.approx(math.log(4 / 3))
    ]
    assert labels(ForwardVariance(2), ("B", 220)).rows() == [none]  # a fix in between is missing
    assert labels(ForwardReturn(1), ("C", 120)).rows() == [none]
    assert labels(ForwardVariance(1), ("A", 99)).rows() == [none]  # no last fix yet


def test_a_label_appears_when_its_exit_becomes_known():
    for known_at, there in ((419, False), (420, True)):
        got = labels(ForwardReturn(1), ("A", 220), known_at=known_at)
        assert got["label"].is_not_null().to_list() == [there]
        assert got["label_known"].to_list() == [420 if there else None]


def test_a_corrected_exit_is_used_once_it_is_known():
    market = prices(
        ("A", 100, 120, 0, 0, 1.0),
        ("A", 200, 220, 0, 1, 2.0),
        ("A", 300, 320, 0, 2, 3.0),
        ("A", 300, 900, 0, 3, 4.0),
    )
    for known_at, exit_price, known in ((899, 3.0, 320), (900, 4.0, 900)):
        got = forward_labels(spine(("A", 120)), ForwardReturn(1), market, known_at=known_at)
        assert got["label"].to_list() == [pytest.approx(math.log(exit_price / 2.0))]
        assert got["label_known"].to_list() == [known]


fixes = st.dictionaries(
    st.tuples(st.sampled_from("AB"), st.integers(1, 8)), st.floats(0.5, 2.0), max_size=16
)
decisions = st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 100)), max_size=10)


@settings(max_examples=150, deadline=None)
@given(
    fixes, decisions, st.integers(1, 3), st.integers(0, 2), st.sampled_from(Entry), st.booleans()
)
def test_labels_follow_their_definition(book, asked, horizon, delay, entry, variance):
    market = prices(*((e, 10 * s, 10 * s + 3, 0, s, p) for (e, s), p in book.items()))
    kind = ForwardVariance if variance else ForwardReturn
    got = forward_labels(spine(*asked), kind(horizon, entry, delay), market)
    sessions = sorted({10 * s for _, s in book})
    for (entity, moment), row in zip(asked, got.rows(), strict=True):
        before = sum(s <= moment for s in sessions)
        first = before + delay if entry is Entry.NEXT_FIX else before - 1 + delay
        wanted = range(first, first + horizon + 1)
        inside = (entry is Entry.NEXT_FIX or before > 0) and wanted[-1] < len(sessions)
        path = [book.get((entity, sessions[n] // 10)) for n in wanted] if inside else [None]
        needed = path if variance else [path[0], path[-1]]
        if None in needed:
            assert row == (None, None, None, None)
            continue
        if variance:
            expected = sum(math.log(b / a) ** 2 for a, b in pairwise(path))
        else:
            expected = math.log(path[-1] / path[0])
        start, end = sessions[wanted[0]], sessions[wanted[-1]]
        assert row == (pytest.approx(expected, rel=1e-12, abs=1e-15), start, end, end + 3)
        assert entry is Entry.LAST_FIX or start > moment
        assert end > moment


def test_the_portable_logarithm_is_the_logarithm():
    rng = np.random.default_rng(0)
    scales = rng.choice([1e-9, 1e-4, 1.0, 100.0], 20_000)
    values = np.exp(rng.normal(size=20_000) * scales)
    for value, got in zip(values.tolist(), portable_log(values).tolist(), strict=True):
        assert got == pytest.approx(math.log(value), rel=5e-16, abs=0)
    assert portable_log(np.array([1.0])).tolist() == [0.0]


GOLDEN = [
    "0x1.0000000000000p-52",
    "-0x1.495453e6fd4bcp-7",
    "0x1.a368d0657fcd4p-14",
    "0x1.250d048e7a1bdp+0",
    "-0x1.5963447f87fb5p+9",
    "0x1.5963447f87fb5p+9",
]


def test_the_portable_logarithm_has_these_bits():
    values = np.array([1.0 + 2**-52, 0.99, 1.0001, math.pi, 1e-300, 1e300])
    assert [v.hex() for v in portable_log(values).tolist()] == GOLDEN


def test_labels_survive_their_description():
    for label in (ForwardReturn(3, Entry.LAST_FIX, 2), ForwardVariance(5)):
        assert label_from(describe_label(label)) == label
    assert label_from({"kind": "forward_variance", "horizon": 1}).entry is Entry.LAST_FIX


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"kind": "forward_retrun", "horizon": 1}, "did you mean 'forward_return'"),
        ({"kind": "forward_return", "horizon": 0}, "horizon 0"),
        ({"kind": "forward_return", "horizon": 1, "delay": -1}, "delay -1"),
        ({"kind": "forward_return", "horizon": 1.5}, "whole sessions"),
        ({"kind": "forward_return"}, "whole sessions"),
        ({"kind": "forward_return", "horizon": 1, "entry": "next"}, "did you mean 'next_fix'"),
        ({"kind": "forward_return", "horizon": 1, "dely": 1}, "did you mean 'delay'"),
    ],
)
def test_a_wrong_label_is_refused(description, message):
    with pytest.raises(ConfigurationError, match=message):
        label_from(description)


@pytest.mark.parametrize("price", [0.0, -1.0, None, math.nan, math.inf])
def test_an_impossible_price_is_refused(price):
    with pytest.raises(ContractViolation, match="no valid price"):
        forward_labels(spine(("A", 1)), ForwardReturn(1), prices(("A", 1, 1, 0, 0, price)))
