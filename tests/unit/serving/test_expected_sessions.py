"""Age in sessions grows when facts stop coming."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from assay.domain.instants import from_datetime
from assay.features.offline.sessions import SessionCalendar
from assay.orchestration.service import ExpectedSessions

FRIDAY = datetime(2023, 12, 22, 13, 10, tzinfo=UTC)
KNOWN = [FRIDAY - timedelta(days=n) for n in (4, 3, 1, 0)]  # Wednesday was a holiday


def count(after: datetime, upto: datetime) -> int:
    calendar = ExpectedSessions(
        SessionCalendar(np.array([from_datetime(moment) for moment in KNOWN], dtype=np.int64))
    )
    times = [np.array([from_datetime(moment)], dtype=np.int64) for moment in (after, upto)]
    return int(calendar.count_between(*times)[0])


def expected(after: datetime, upto: datetime) -> int:
    """Known sessions, and every later weekday at the same time of day, counted one by one."""
    later = [FRIDAY + timedelta(days=n) for n in range(1, 80)]
    sessions = [*KNOWN, *(moment for moment in later if moment.weekday() < 5)]
    return sum(after < moment <= upto for moment in sessions)


@given(st.integers(0, 3), st.integers(-60, 60 * 24 * 60))
def test_sessions_are_the_known_ones_and_every_weekday_after_them(row: int, minutes: int) -> None:
    upto = FRIDAY + timedelta(minutes=minutes)
    if upto >= KNOWN[row]:
        assert count(KNOWN[row], upto) == expected(KNOWN[row], upto)


def test_a_weekend_ages_nothing_and_a_silent_week_does() -> None:
    assert count(FRIDAY, FRIDAY + timedelta(days=2)) == 0
    assert count(FRIDAY, FRIDAY + timedelta(days=3) - timedelta(minutes=1)) == 0
    assert count(FRIDAY, FRIDAY + timedelta(days=3)) == 1
    assert count(FRIDAY, FRIDAY + timedelta(days=7)) == 5


MOMENTS = st.one_of(
    st.sampled_from([from_datetime(moment) + step for moment in KNOWN for step in (-1, 0, 1)]),
    st.integers(-10 * 24 * 60, 40 * 24 * 60).map(
        lambda minutes: from_datetime(FRIDAY + timedelta(minutes=minutes))
    ),
    st.integers(0, 30).map(lambda days: from_datetime(FRIDAY + timedelta(days=days)) - 1),
)


@given(st.lists(st.tuples(MOMENTS, MOMENTS), min_size=1, max_size=20), st.booleans())
def test_one_interval_is_counted_as_many_are(pairs: list[tuple[int, int]], known: bool) -> None:
    times = sorted(from_datetime(moment) for moment in KNOWN) if known else []
    calendar = SessionCalendar(np.array(times, dtype=np.int64))
    for one in (calendar, ExpectedSessions(calendar)):
        after, upto = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
        assert [one.count(*pair) for pair in pairs] == one.count_between(after, upto).tolist()


def test_without_a_known_session_every_weekday_is_one() -> None:
    calendar = ExpectedSessions(SessionCalendar(np.array([], dtype=np.int64)))
    begin = from_datetime(FRIDAY)
    for days, sessions in ((1, 0), (3, 1), (14, 10), (28, 20)):
        assert calendar.count(begin, from_datetime(FRIDAY + timedelta(days=days))) == sessions
