from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.domain.canonical import canonical_bytes, content_hash
from assay.errors import ContractViolation

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


@given(DOCUMENTS)
def test_the_canonical_form_reads_back_as_the_value(document: object) -> None:
    assert json.loads(canonical_bytes(document)) == document


@given(st.dictionaries(st.text(), SCALARS))
def test_the_order_of_keys_does_not_change_the_hash(document: dict[str, object]) -> None:
    assert content_hash(dict(reversed(document.items()))) == content_hash(document)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1: "x"}, [{"a": {2: 3}}], {1, 2}, b"x"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ContractViolation):
        canonical_bytes(value)


def test_the_bytes_are_fixed() -> None:
    assert canonical_bytes({"b": [1, 0.1, None], "a": "é"}) == '{"a":"é","b":[1,0.1,null]}'.encode()
