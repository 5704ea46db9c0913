"""The instructions of the kernel: what a program may contain.

An instruction reads up to three nodes (``a``, ``b``, ``c``), up to two whole numbers (``k``, ``m``)
and one scalar, and writes one node or, for :attr:`Opcode.PREFIX`, six in a row. Numbers and
versions are part of every manifest: an instruction that changes any bit gets a new version, and a
number is never used again for something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final


class Opcode(IntEnum):
    """One instruction. ``x[i-k]`` means the value of node ``x`` at ``k`` rows before row ``i``."""

    LOAD = 1  # input column k, not finite -> NaN
    LOAD_BITS = 2  # input column k, bits unchanged (int64 times)
    STORE = 3  # the first m of out, a, b, c -> output columns k, k + 1, ..., bits unchanged

    ADD = 10
    SUB = 11
    MUL = 12
    DIV = 13  # division by zero -> NaN
    MAX = 14
    MIN = 15

    NEG = 20
    ABS = 21
    SIGN = 22
    SQRT = 23  # negative -> NaN
    LOG = 24  # zero or negative -> NaN
    NOT = 25
    EXP = 29
    VALID = 26  # 1 where a is a number, else 0
    FILL = 27  # a, or the scalar where a is NaN

    POWER = 36  # a to the power of the scalar

    LT = 30
    LE = 31
    EQ = 32
    AND = 33
    OR = 34
    WHERE = 35  # b where a is true, c where false

    LAG = 40  # a[i-k]
    ADD_SCALED_LAG = 41  # a[i] + scalar * b[i-k]
    MAX_LAG = 42  # max(a[i], b[i-k])
    MIN_LAG = 43
    MAX_LAG_BITS = 44  # the same over int64 times

    PREFIX = 50  # running integer limbs of a, of its square, and counts: six nodes from dst
    COUNT = 51  # a: prefix; valid values among the last k rows
    SUM = 52  # a: values, b: prefix; window k, at least m valid values
    MEAN = 53
    VAR = 54  # sample variance (n - 1)
    EWM_VAR = 55  # a: weighted sum of x, b: of x squared, c: of weights; x is node m, horizon k

    ROWS_WITHIN = 60  # rows with a[i-j] > a[i] - m (int64), at most k + 1; an int64
    COUNT_WITHIN = 61  # as COUNT ... VAR, over as many rows as c says; missing above k
    SUM_WITHIN = 62  # at least m valid values, or with a negative m all of them and at least -m
    MEAN_WITHIN = 63
    VAR_WITHIN = 64

    TILE = 65  # a // m (int64)
    DECAY = 66  # five nodes of sums of a that begin with each tile; b: times, c: tiles
    DECAYED_MEAN = 67  # a: those sums, b: times, c: rows in the window, at most k; scalar: halflife
    DECAYED_STD = 68

    CALL = 69  # a function of the last k rows of a, b, c, of which the scalar says how many
    CALL_WITHIN = 74  # the same over as many rows as node m says

    QUANTILE = 80  # of the last k rows of a, scalar says which; m: see pack_ordered
    QUANTILE_WITHIN = 81  # the same over as many rows as c says
    RANK_IN_WINDOW = 82  # of the newest row among the last k of a
    RANK_WITHIN = 83

    PAIR_PREFIX = 75  # running sums of a, b and a * b: fifteen nodes from dst
    COVARIANCE = 76  # a, c: inputs, b: those sums; window k, at least scalar valid pairs
    CORRELATION = 77
    SLOPE = 78  # of a on c
    COVARIANCE_WITHIN = 90  # the same over as many rows as node m says
    CORRELATION_WITHIN = 91
    SLOPE_WITHIN = 92

    TREND_PREFIX = 95  # running sums for lines through a: twelve nodes from dst
    TREND = 96  # a: values, b: those sums; window k, at least m valid values
    TREND_WITHIN = 97  # the same over as many rows as c says

    POWER_PREFIX = 100  # running sums of a and its second to fourth powers: twenty nodes from dst
    SKEWNESS = 101  # a: values, b: those sums; window k, at least m valid values
    KURTOSIS = 102
    SKEWNESS_WITHIN = 103  # the same over as many rows as c says
    KURTOSIS_WITHIN = 104

    EARLIER = 93  # 1 where a[i] < b[i] (int64), else 0
    SECONDS_BETWEEN = 94  # from b to a (int64 nanoseconds)

    ROWS_SINCE = 85  # rows since a was true, an int64; k for k or more
    ROW_AT = 86  # a[i - b[i]], NaN where b (int64) is k or more
    COUNTED = 87  # b (int64) as a float, NaN where it is k or more
    SECONDS_SINCE = 88  # from a[i - b[i]] to a[i] (int64 nanoseconds), NaN where b is k or more

    RANK = 70  # a: values, b: members; across the rows of one event time
    DEMEAN = 71
    ZSCORE = 72
    LATEST_BITS = 73  # latest int64 time among members, and the row's own

    PICKED = 110  # a of the k-th last row, where its b (int64) is at most m before this row's
    PICKED_OF_OTHERS = 111  # the same, missing in rows whose own c is k
    LATEST_PICKED = 112  # the later of a and of b of the k-th last row (int64)


VERSIONS: Final[Mapping[Opcode, int]] = MappingProxyType(dict.fromkeys(Opcode, 1))
"""The version of each instruction's arithmetic, part of every manifest that uses it."""

PREFIX_WIDTH: Final = 6
PAIR_WIDTH: Final = 15
TREND_WIDTH: Final = 12
POWER_WIDTH: Final = 20
MAX_POWER_WINDOW: Final = 65_536
"""The longest window of skewness and kurtosis: their limbs get several floats a row."""
MAX_WINDOW: Final = 131_072
"""The longest window in rows: the integer limbs of a longer one could overflow."""
EXACT_RANGE: Final = float(2**24)
"""Moments of windows whose values are all smaller in magnitude come from exact accumulators."""
ORDERED_METHODS: Final = ("linear", "lower", "higher", "midpoint", "nearest")
"""How a quantile between two values is found; for ranks, 1 divides by the number of values."""
READS_NODE_M: Final = frozenset(
    {
        Opcode.EWM_VAR,
        Opcode.CALL_WITHIN,
        Opcode.COVARIANCE_WITHIN,
        Opcode.CORRELATION_WITHIN,
        Opcode.SLOPE_WITHIN,
    }
)
"""Instructions whose m is a node."""
GROUPED: Final[Mapping[Opcode, str]] = MappingProxyType(
    {
        Opcode.PREFIX: "out",
        **dict.fromkeys((Opcode.COUNT, Opcode.SUM, Opcode.MEAN, Opcode.VAR), "b"),
        Opcode.COUNT_WITHIN: "b",
        Opcode.SUM_WITHIN: "b",
        Opcode.MEAN_WITHIN: "b",
        Opcode.VAR_WITHIN: "b",
        Opcode.PAIR_PREFIX: "out",
        Opcode.COVARIANCE: "b",
        Opcode.CORRELATION: "b",
        Opcode.SLOPE: "b",
        Opcode.COVARIANCE_WITHIN: "b",
        Opcode.CORRELATION_WITHIN: "b",
        Opcode.SLOPE_WITHIN: "b",
        Opcode.TREND_PREFIX: "out",
        Opcode.TREND: "b",
        Opcode.TREND_WITHIN: "b",
        Opcode.POWER_PREFIX: "out",
        Opcode.SKEWNESS: "b",
        Opcode.KURTOSIS: "b",
        Opcode.SKEWNESS_WITHIN: "b",
        Opcode.KURTOSIS_WITHIN: "b",
        Opcode.DECAY: "out",
        Opcode.DECAYED_MEAN: "a",
        Opcode.DECAYED_STD: "a",
    }
)
"""Instructions over several nodes in a row, and the operand that is the first of those.

The nodes of a group remember equally many rows, so they stand equally far apart."""
