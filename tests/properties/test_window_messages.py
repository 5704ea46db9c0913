"""Whatever can be declared survives its message; whatever a file says, only its own error comes."""

from __future__ import annotations

import copy
from datetime import date, timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import DefinitionError
from assay.features import (
    Aggregate,
    Bars,
    Duration,
    Lateness,
    SessionRule,
    SessionWindow,
    TimeWindow,
    sessions_of_rule,
)
from assay.features.definition.bars import DAY, HOUR, KINDS
from assay.features.definition.window_files import compile_windows
from assay.features.definition.window_messages import declared_in, message_of, messages
from assay.features.definition.window_text import Declared, declared_by
from assay.features.definition.windows import length_in_words

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True).filter(
    lambda name: name not in {"event_time", "known_time", "source_rank", "sequence", "entity"}
)
TABLE = sessions_of_rule(
    "desk", SessionRule.of("Asia/Tokyo", "09:00", "18:00"), date(2024, 1, 1), date(2024, 3, 1)
)
LENGTHS = [n for n in (1, 10**9, 60 * 10**9, HOUR, 4 * HOUR, DAY) if HOUR % n == 0 or DAY % n == 0]


@st.composite
def declared_bars(draw):
    every = draw(st.sampled_from(LENGTHS))
    waits = st.none() | st.integers(1, 400 * DAY).map(Duration)
    columns = {
        name: Aggregate(kind, None if kind == "count" and draw(st.booleans()) else draw(NAMES))
        for name, kind in draw(
            st.dictionaries(NAMES, st.sampled_from(KINDS), min_size=1, max_size=5)
        ).items()
    }
    name, source = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    return Bars(
        name,
        source,
        "entity",
        Duration(every),
        columns,
        timezone=draw(st.sampled_from(["UTC", "Europe/London", "America/New_York"])),
        offset=draw(st.none() | st.integers(1, every - 1).map(Duration)) if every > 1 else None,
        calendar=draw(st.sampled_from([None, TABLE])),
        lateness=draw(waits),
        keep=draw(waits),
    )


WINDOWS = (
    st.integers(1, 131_072)
    | st.builds(TimeWindow, st.integers(1, 2**61), st.integers(1, 131_071))
    | st.builds(SessionWindow, st.just("desk"), st.integers(1, 131_072), st.integers(1, 131_071))
)


@given(
    windows=st.dictionaries(st.text(min_size=1, max_size=8), WINDOWS, max_size=4),
    bars=st.lists(declared_bars(), max_size=3, unique_by=lambda item: item.name),
    lateness=st.dictionaries(
        NAMES, st.builds(Lateness, st.integers(1, 1_000_000), st.booleans()), max_size=3
    ),
)
def test_a_message_gives_back_what_it_was_made_of(windows, bars, lateness):
    declared = Declared({"desk": TABLE}, windows, {item.name: item for item in bars}, lateness)
    data = message_of(declared, "0" * 64).SerializeToString(deterministic=True)
    found = declared_in(messages().Windows.FromString(data))
    assert found == declared
    assert [item.digest for item in found.bars.values()] == [item.digest for item in bars]
    assert [list(item.columns) for item in found.bars.values()] == [
        list(item.columns) for item in bars
    ]


@given(hours=st.integers(0, 30), minutes=st.integers(0, 90), nanos=st.integers(0, 2_000_000_000))
def test_a_length_in_the_text_is_the_sum_of_its_parts(hours, minutes, nanos):
    text = f"{hours}h{minutes}m {nanos}ns"
    exact = timedelta(hours=hours, minutes=minutes) // timedelta(microseconds=1) * 1_000 + nanos
    file = f"windows: {{w: {{time: {text}, max_rows: 5}}}}".encode()
    if exact == 0:
        with pytest.raises(DefinitionError, match="Duration"):
            declared_by(file, "f")
    else:
        assert declared_by(file, "f").windows == {"w": TimeWindow(exact, 5)}


@given(st.integers(1, 2**61))
def test_a_length_in_words_is_read_back(nanos):
    file = f"windows: {{w: {{time: {length_in_words(nanos)}, max_rows: 5}}}}".encode()
    assert declared_by(file, "f").windows == {"w": TimeWindow(nanos, 5)}


GOOD = {
    "years": [2024, 2024],
    "calendars": {
        "fx_london": {"session": "fx_london"},
        "desk": {
            "timezone": "Asia/Singapore",
            "open": "08:30",
            "close": "18:00",
            "weekdays": ["mon", "tue"],
            "holidays": ["2024-02-12"],
            "half_days": {"2024-02-13": "12:00"},
        },
    },
    "windows": {
        "week": 5,
        "hour": {"time": "1h", "max_rows": 60},
        "day": {"sessions": 1, "calendar": "desk", "max_rows": 40},
    },
    "bars": {
        "minutes": {
            "source": "ticks",
            "entity": "pair",
            "every": "1m",
            "timezone": "UTC",
            "offset": "1s",
            "calendar": "desk",
            "lateness": "2s",
            "keep": "1m",
            "columns": {"close": {"last": "mid"}, "ticks": "count"},
        }
    },
    "lateness": {"slow": {"event_times": 4, "closes_with_batch": True}},
}


def places(value, path=()):
    yield path
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=6)
    | st.dates()
    | st.sampled_from(["count", "desk", "1h", "UTC", "2024-02-12", "12:00", "../x", "mon"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=3,
)


def refusal(text):
    """What a text is refused with, or None where it is taken; any other error is a failure."""
    try:
        compile_windows(text, "windows.yaml")
    except DefinitionError as error:
        return error.message
    return None


@given(place=st.sampled_from(list(places(GOOD))[1:]), junk=JUNK)
def test_a_value_of_any_kind_anywhere_is_taken_or_refused_by_name(place, junk):
    document = copy.deepcopy(GOOD)
    inside = document
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = junk
    text = yaml.safe_dump(document, allow_unicode=True).encode()
    assert (refusal(text) or "windows.yaml").startswith("windows.yaml")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_taken_or_refused(text):
    assert (refusal(text) or "windows.yaml").startswith("windows.yaml")
