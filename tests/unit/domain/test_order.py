from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assay.domain.order import VersionKey, as_of

SMALL = st.integers(0, 6)
KEYS = st.builds(VersionKey, SMALL, SMALL, SMALL, SMALL)


@given(st.lists(KEYS), SMALL)
def test_as_of_never_shows_what_had_not_happened_or_was_not_known(
    keys: list[VersionKey], moment: int
) -> None:
    winner = as_of(keys, moment)
    visible = [key for key in keys if key.event_time <= moment and key.known_time <= moment]
    assert (winner is None) == (not visible)
    if winner is not None:
        assert winner in visible
        assert all(tuple(winner) >= tuple(key) for key in visible)


@given(st.lists(KEYS), KEYS, SMALL)
def test_a_version_not_yet_visible_changes_nothing(
    keys: list[VersionKey], late: VersionKey, moment: int
) -> None:
    if not late.visible_at(moment):
        assert as_of([*keys, late], moment) == as_of(keys, moment)


@given(st.permutations([VersionKey(1, 2, 0, 0), VersionKey(1, 3, 0, 1), VersionKey(2, 3, 0, 2)]))
def test_the_order_of_arrival_does_not_matter(keys: list[VersionKey]) -> None:
    assert as_of(keys, 3) == VersionKey(2, 3, 0, 2)
