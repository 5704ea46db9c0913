"""A frame's digest depends on its schema and values, and on nothing else."""

from __future__ import annotations

import io
import math
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import ContractViolation
from assay.lake import frame_digest

DIGEST = "1562bf02290241dc73f0b82d8905e397e7cc531cfdb3e03657961d3ac3df0ded"
FRAME = pl.DataFrame(
    {
        "i": [1, None, -3],
        "f": [0.1, math.nan, None],
        "s": ["a", None, "ü\x00b"],
        "b": [True, None, False],
        "d": [date(2026, 1, 1), None, date(1999, 1, 4)],
        "t": [datetime(2026, 1, 1, tzinfo=UTC), None, datetime(1999, 1, 4, tzinfo=UTC)],
        "l": [["x"], [], None],
        "r": [{"p": 1, "q": "u"}, None, {"p": None, "q": "v"}],
    }
)


def test_chunks_and_files_do_not_matter():
    chunked = pl.concat([FRAME.slice(n, 1) for n in range(3)], rechunk=False)
    assert frame_digest(chunked) == frame_digest(FRAME)
    for options in ({"compression": "zstd"}, {"compression": "uncompressed", "row_group_size": 1}):
        buffer = io.BytesIO()
        FRAME.write_parquet(buffer, **options)
        buffer.seek(0)
        assert frame_digest(pl.read_parquet(buffer)) == frame_digest(FRAME)
    assert frame_digest(FRAME.slice(1)) == frame_digest(FRAME[1:].clone())


def test_categories_are_an_encoding_of_text():
    text = pl.DataFrame({"x": ["b", "a", None]})
    for dtype in (pl.Categorical(), pl.Enum(["a", "b"]), pl.Enum(["b", "a", "c"])):
        assert frame_digest(text.cast(dtype)) == frame_digest(text)


def test_every_bit_counts():
    base = pl.DataFrame({"x": [1.0, 0.0]})
    others = [
        pl.DataFrame({"x": [float(np.nextafter(1.0, 2.0)), 0.0]}),
        pl.DataFrame({"x": [1.0, -0.0]}),
        pl.DataFrame({"x": [1.0, None]}),
        pl.DataFrame({"x": [1.0, math.nan]}),
        pl.DataFrame({"x": [0.0, 1.0]}),
        pl.DataFrame({"y": [1.0, 0.0]}),
        pl.DataFrame({"x": [1, 0]}),
        pl.DataFrame({"x": [1.0, 0.0], "y": [1.0, 0.0]}),
        pl.DataFrame({"x": [1.0]}),
        pl.DataFrame({"x": [1.0, 0.0]}, schema={"x": pl.Float32}),
    ]
    digests = {frame_digest(other) for other in [base, *others]}
    assert len(digests) == len(others) + 1


def test_boundaries_between_texts_and_lists_count():
    def digest(values):
        return frame_digest(pl.DataFrame({"x": values}))

    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest([["a", "b"], []]) != digest([["a"], ["b"]])
    assert digest([None, "a"]) != digest(["", "a"])


def test_a_known_frame_has_a_known_digest():
    assert frame_digest(FRAME) == DIGEST


values = st.lists(
    st.one_of(st.none(), st.floats(allow_nan=False), st.sampled_from([0.0, -0.0])), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(values, values)
def test_two_columns_have_one_digest_exactly_when_their_bits_are_equal(one, other):
    def bits(column):
        return [None if value is None else value.hex() for value in column]

    frames = [pl.DataFrame({"x": column}, schema={"x": pl.Float64}) for column in (one, other)]
    digests = [frame_digest(frame) for frame in frames]
    assert (digests[0] == digests[1]) == (bits(one) == bits(other))


def test_a_type_without_a_form_is_refused():
    with pytest.raises(ContractViolation, match="'x' of type Decimal"):
        frame_digest(pl.DataFrame({"x": ["1.5"]}).cast(pl.Decimal(10, 2)))
