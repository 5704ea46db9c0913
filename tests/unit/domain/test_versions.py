from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.domain.versions import InputSchema, SemanticVersion, check_name
from assay.errors import ContractViolation

PARTS = st.tuples(*[st.integers(0, 999_999_999)] * 3)


@given(PARTS, PARTS)
def test_versions_are_ordered_by_their_numbers(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    left, right = SemanticVersion(*one), SemanticVersion(*other)
    assert (left < right) == (one < other)
    assert (left == right) == (one == other)


@given(PARTS)
def test_a_version_reads_back_with_and_without_its_v(parts: tuple[int, int, int]) -> None:
    version = SemanticVersion(*parts)
    assert SemanticVersion.parse(str(version)) == SemanticVersion.parse(f"v{version}") == version


@pytest.mark.parametrize("text", ["1.2", "1.2.3.4", "01.2.3", "1.2.x", "", "-1.0.0", "1.0.0 "])
def test_what_is_not_a_version_is_refused(text: str) -> None:
    with pytest.raises(ContractViolation, match=r"major\.minor\.patch"):
        SemanticVersion.parse(text)


@pytest.mark.parametrize("name", ["", "Fx", "1fx", "../fx", "fx/vol", "fx vol", "a" * 65, "fx.vol"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ContractViolation):
        check_name(name)


def test_the_schema_checksum_sees_names_order_and_type() -> None:
    base = InputSchema.of(["a", "b"])
    assert InputSchema.of(["a", "b"]).crc32 == base.crc32
    others = [
        InputSchema.of(["b", "a"]),
        InputSchema.of(["a", "c"]),
        InputSchema.of(["a", "b"], "float64"),
        InputSchema.of(["ab"]),
    ]
    assert all(other.crc32 != base.crc32 for other in others)
    assert InputSchema.from_json(base.to_json()) == base


def test_a_sidecar_with_another_checksum_is_refused() -> None:
    document = InputSchema.of(["a", "b"]).to_json() | {"names": ["b", "a"]}
    with pytest.raises(ContractViolation, match="CRC"):
        InputSchema.from_json(document)


def test_duplicate_or_absent_input_names_are_refused() -> None:
    for names in ([], ["a", "a"]):
        with pytest.raises(ContractViolation):
            InputSchema.of(names)
