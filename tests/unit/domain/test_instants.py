from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.domain import instants
from assay.errors import ContractViolation

IN_ISO = st.integers(-62_135_596_800 * 10**9 // 10, 4_000_000_000 * 10**9)


@given(IN_ISO)
def test_rendering_and_parsing_keep_every_nanosecond(instant: int) -> None:
    assert instants.parse(instants.render(instant)) == instant


@given(
    st.datetimes(datetime.min.replace(year=1700), datetime.max.replace(year=2250)),
    st.integers(-14 * 60, 14 * 60),
)
def test_a_datetime_in_any_zone_is_the_same_moment(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert instants.to_datetime(instants.from_datetime(moment)) == moment.astimezone(UTC)


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ContractViolation, match="naive datetime 2026-01-15T10:30:00"):
        instants.from_datetime(datetime(2026, 1, 15, 10, 30))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00Z", 0),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.5Z", 500_000_000),
        ("1969-12-31T23:59:59.999999999Z", -1),
    ],
)
def test_iso_moments_are_read_exactly(text: str, expected: int) -> None:
    assert instants.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-01-15T10:30", "2026-13-01", "2026-01-15T10:30:00.1234567890Z"]
)
def test_what_is_not_a_moment_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ContractViolation):
        instants.parse(text)


@pytest.mark.parametrize("text", ["1500-01-01", "2300-01-01T00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_outside_of_64_bits_is_refused(text: str) -> None:
    with pytest.raises(ContractViolation, match="expected one of the years"):
        instants.parse(text)
