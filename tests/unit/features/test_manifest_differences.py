"""What changed between two manifests is said in the terms in which it was written."""

from __future__ import annotations

import copy
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.features import (
    Aggregate,
    Bars,
    Duration,
    FeatureView,
    Lateness,
    Manifest,
    SessionRule,
    Sessions,
    SessionWindow,
    TimeWindow,
    col,
    sessions_of_rule,
)
from assay.features.definition.differences import Difference, differences, expression_changes

CLOSE = col("close")
RULE = SessionRule.of("Europe/London", "08:00", "16:30")


def desk(rule: SessionRule = RULE, year: int = 2024) -> Any:
    return sessions_of_rule("desk", rule, date(2024, 1, 1), date(year, 12, 31))


def bars(**changes: Any) -> Bars:
    arguments: dict[str, Any] = {
        "name": "minutes",
        "source": "ticks",
        "entity": "pair",
        "every": Duration.of(minutes=1),
        "columns": {"close": Aggregate.last("mid"), "ticks": Aggregate.count()},
        "lateness": Duration.of(seconds=2),
        **changes,
    }
    return Bars(**arguments)


def features() -> dict[str, Any]:
    hour = TimeWindow.of(hours=1, max_rows=60)
    return {
        "vol": CLOSE.simple_return(1).rolling_std(20),
        "mean": CLOSE.rolling_mean(hour, min_count=1),
        "today": CLOSE.rolling_max(SessionWindow("desk", 1, 600), min_count=1),
        "rank": CLOSE.cs_rank(),
    }


def view(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "name": "v",
        "source": "minutes",
        "entity": "pair",
        "features": features(),
        "ttl": Sessions(1),
        "calendars": (desk(),),
        "bars": bars(),
        "lateness": Lateness(32),
        **changes,
    }
    # As a published manifest is read again.
    return json.loads(json.dumps(dict(Manifest.of(FeatureView(**arguments)).document)))


def with_features(**changes: Any) -> dict[str, Any]:
    made = features() | changes
    return view(features={name: item for name, item in made.items() if item is not None})


def told(before: Any, after: Any) -> list[tuple[str, str, str]]:
    return [(one.kind, one.what, one.name) for one in differences(before, after)]


def test_equal_manifests_do_not_differ() -> None:
    assert differences(view(), view()) == ()


def test_features_that_come_go_and_change_are_named_with_what_they_are() -> None:
    after = with_features(
        vol=CLOSE.simple_return(1).rolling_std(21, min_count=5), rank=None, low=CLOSE.rolling_min(3)
    )
    vol, rank, low, *rest = differences(view(), after)
    assert vol == Difference(
        "feature",
        "vol",
        "rolling_std(simple_return(close, rows=1), window=20)",
        "rolling_std(simple_return(close, rows=1), min_count=5, window=21)",
        (("rolling_std min_count", None, "5"), ("rolling_std window", "20", "21")),
    )
    assert (rank.kind, rank.name, rank.before) == ("removed", "rank", "cs_rank(close)")
    assert (low.kind, low.name, low.after) == ("added", "low", "rolling_min(close, window=3)")
    assert told(view(), after)[3:] == [("changed", "look-back", "")][: len(rest)]


def test_a_window_of_time_is_told_as_a_length() -> None:
    longer = TimeWindow.of(hours=2, minutes=30, max_rows=200)
    (changed,) = [
        one
        for one in differences(view(), with_features(mean=CLOSE.rolling_mean(longer, min_count=1)))
        if one.what == "feature"
    ]
    assert changed.parts == (
        ("time_window max_rows", "60", "200"),
        ("time_window nanos", "1h", "2h30m"),
        ("rolling_mean window", "60", "200"),
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ttl": Sessions(2)}, [("changed", "ttl", "sessions", 1, 2)]),
        (
            {"ttl": Duration.of(hours=1)},
            [("removed", "ttl", "sessions", 1, None), ("added", "ttl", "", None, "1h")],
        ),
        ({"timezone": "Asia/Tokyo"}, [("changed", "timezone", "", "UTC", "Asia/Tokyo")]),
        ({"lateness": Lateness(8)}, [("changed", "lateness", "event_times", 32, 8)]),
        (
            {"bars": bars(lateness=Duration.of(seconds=5), timezone="Asia/Tokyo")},
            [
                ("changed", "bars", "timezone", "UTC", "Asia/Tokyo"),
                ("changed", "bars", "lateness", "2s", "5s"),
            ],
        ),
        (
            {"bars": bars(columns={"close": Aggregate.mean("mid"), "n": Aggregate.count()})},
            [
                ("changed", "bars", "columns.close", "last(mid)", "mean(mid)"),
                ("removed", "bars", "columns.ticks", "count()", None),
                ("added", "bars", "columns.n", None, "count()"),
            ],
        ),
    ],
)
def test_a_changed_part_is_told_by_its_smallest_entry(
    change: dict[str, Any], expected: list[Any]
) -> None:
    found = differences(view(), view(**change))
    assert [(one.kind, one.what, one.name, one.before, one.after) for one in found] == expected


def test_parts_that_come_or_go_are_told() -> None:
    bare = view(bars=None, lateness=None)
    assert {one[:2] for one in told(bare, view())} == {("added", "bars"), ("added", "lateness")}
    assert {one[:2] for one in told(view(), bare)} == {("removed", "bars"), ("removed", "lateness")}


def test_another_calendar_is_told_with_what_is_other_about_it() -> None:
    later = desk(SessionRule.of("Europe/London", "08:00", "17:00"), year=2025)
    (found,) = differences(view(), view(calendars=(later,)))
    assert (found.kind, found.what, found.name) == ("changed", "calendar", "desk")
    assert {place for place, _, _ in found.parts} == {"digest", "sessions", "source", "to"}


def test_another_order_of_features_is_told() -> None:
    turned = view(features=dict(reversed(features().items())))
    assert ("changed", "feature order", "") in told(view(), turned)


def test_versions_of_operators_and_instructions_are_told() -> None:
    after = view()
    after["plan"]["operators"]["rolling_std"] = 2
    for step in after["plan"]["first_stage"]["instructions"]:
        if step[0] == "VAR":
            step[1] = 7
    found = differences(view(), after)
    assert [(one.what, one.name, one.before, one.after) for one in found[:2]] == [
        ("operator", "rolling_std", 1, 2),
        ("instruction", "VAR", 1, 7),
    ]


def test_a_program_that_became_another_one_for_the_same_features_is_told() -> None:
    after = view()
    after["plan"]["first_stage"]["instructions"].pop()
    (found,) = differences(view(), after)
    assert (found.what, found.name) == ("program", "first_stage")
    assert found.before != found.after


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("f(x, rows=1)", "f(x, rows=1)", []),
        ("f(g(x, a=1), b=2)", "f(g(x, a=3), b=2)", [("g a", "1", "3")]),
        ("f(x)", "f(y)", [("f", "x", "y")]),
        ("f(x)", "g(x)", [("expression", "f(x)", "g(x)")]),
        ("f(g(x), y)", "f(h(x), y)", [("f", "g(x)", "h(x)")]),
        ("f(x, y)", "f(x)", [("expression", "f(x, y)", "f(x)")]),
        ("lag(a b, rows=1)", "lag(a b, rows=2)",
         [("expression", "lag(a b, rows=1)", "lag(a b, rows=2)")]),
        ("f(" * 500 + "x" + ")" * 500, "x",
         [("expression", "f(" * 500 + "x" + ")" * 500, "x")]),
    ],
)  # fmt: skip
def test_expressions_differ_where_they_differ(before: str, after: str, expected: list[Any]) -> None:
    assert list(expression_changes(before, after)) == expected


def places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    children = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield from places(child, (*path, key))


DOCUMENT = view()
# Names and identities of features, and names of instructions, are unique by construction.
PLACES = [path for path in places(DOCUMENT) if path]


@given(place=st.sampled_from(PLACES), data=st.data())
def test_whatever_is_other_is_told_and_nothing_else(place: tuple[Any, ...], data: Any) -> None:
    changed = copy.deepcopy(DOCUMENT)
    inside = changed
    for key in place[:-1]:
        inside = inside[key]
    old = inside[place[-1]]
    if isinstance(old, dict | list):
        if not old:
            return
        del old[data.draw(st.sampled_from(sorted(old) if isinstance(old, dict) else [0]))]
        if place in (("features",), ("plan", "first_stage", "nodes")) or "features" in place:
            return  # a pair that lost its half is no manifest
        if "instructions" in place and place[-1] != "instructions":
            return
    else:
        inside[place[-1]] = f"{old}x" if isinstance(old, str) else 77 if old != 77 else 78
    assert differences(DOCUMENT, changed)
    assert differences(changed, DOCUMENT)
    assert not differences(changed, copy.deepcopy(changed))
