"""A view as a graph: every value once, with what is promised about it, as text and as a drawing."""

from __future__ import annotations

import re
import runpy
from datetime import date
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from assay.features import (
    OPERATORS,
    Duration,
    FeatureView,
    Sessions,
    SessionWindow,
    TimeWindow,
    col,
    lit,
    sessions_of_rule,
    step_function,
)
from assay.features.definition.calendars import FX_SESSIONS
from assay.features.definition.drawing import dot_of, svg_of
from assay.features.definition.graph import Value, graph_of, windows_of
from assay.features.definition.windows import length_in_words
from assay.features.kernel.fingerprint import golden_view
from assay.features.kernel.layout import Machine, state_bytes

FX = Path(__file__).parents[3] / "examples" / "fx" / "features" / "fx.py"
MID, BID = col("mid"), col("bid")


@step_function
def spread(x):
    return x[len(x) - 1] - x[0]


def small() -> FeatureView:
    change = MID.simple_return(1)
    hour = TimeWindow.of(hours=1, minutes=30, max_rows=5_000)
    return FeatureView(
        "small",
        "ticks",
        "pair",
        {
            "mid": BID,  # named as a column that it is not
            "change": change,
            "again": change,
            "vol": change.rolling_std(20) * 2.0,
            "mean": MID.rolling_mean(hour, min_count=1),
            "today": MID.rolling_max(SessionWindow("fx_london", 1, 40_000), min_count=1),
            "decayed": MID.ewm_mean(halflife=Duration.of(minutes=10), horizon=hour),
            "rank": change.cs_rank(),
            "own": spread(MID, window=5),
        },
        Sessions(1),
        calendars=(
            sessions_of_rule(
                "fx_london", FX_SESSIONS["fx_london"], date(2024, 1, 1), date(2024, 2, 1)
            ),
        ),
    )


def views() -> list[FeatureView]:
    fx: FeatureView = runpy.run_path(str(FX))["fx_daily"]
    return [small(), fx, golden_view()]


def test_every_value_is_there_once_after_what_it_reads() -> None:
    for view in views():
        graph = graph_of(view)
        names = [value.name for value in graph]
        assert len(set(names)) == len(names)
        for place, value in enumerate(graph):
            assert set(value.reads) <= set(names[:place])
        told = [name for value in graph for name in value.features]
        assert sorted(told) == sorted(view.feature_names)
        assert max(value.look_back for value in graph) == view.look_back
        across = {name for value in graph if value.across for name in value.features}
        second = view.plan.second
        assert across == (set() if second is None else set(second.outputs[1:]))


def test_a_value_says_what_it_is_in_words() -> None:
    graph = {value.name: value for value in graph_of(small())}
    assert graph["bid"].formula == "column bid"
    assert graph["bid"].features == ("mid",)
    assert graph["mid"].features == ()
    assert graph["change"] == Value(
        name="change",
        formula="simple_return(mid, rows=1)",
        operator="simple_return",
        reads=("mid",),
        own_class=OPERATORS["simple_return"].numeric,
        numeric=OPERATORS["simple_return"].numeric,
        look_back=1,
        across=False,
        features=("change", "again"),
    )
    assert graph["#1"].formula == "rolling_std(change, window=20)"
    assert graph["vol"].formula == "mul(#1, 2.0)"
    assert graph["vol"].reads == ("#1",)
    assert (graph["vol"].own_class, graph["vol"].numeric) == ("bitwise", "tolerance")
    assert graph["mean"].formula == "rolling_mean(mid, 1h30m (at most 5,000 rows), min_count=1)"
    assert "1 session of fx_london (at most 40,000 rows)" in graph["today"].formula
    assert "halflife=10m, horizon=1h30m, window=5000" in graph["decayed"].formula
    assert "source=spread(x)" in graph["own"].formula


def test_members_are_read_by_cross_sections_and_a_constant_can_be_a_feature() -> None:
    view = FeatureView(
        "v",
        "s",
        "e",
        {"one": lit(1), "rank": MID.cs_rank(), "more": MID.cs_rank() + lit(1)},
        Sessions(1),
        members="member",
    )
    graph = {value.name: value for value in graph_of(view)}
    assert list(graph) == ["member", "one", "mid", "rank", "more"]
    assert graph["rank"].reads == ("mid", "member")
    assert graph["one"].formula == "lit(value=1.0)"
    assert graph["more"].reads == ("rank", "one")
    plain = FeatureView("v", "s", "e", {"lag": MID.lag(1)}, Sessions(1), members="member")
    assert [value.name for value in graph_of(plain)] == ["mid", "lag"]


def test_the_windows_of_a_view_are_listed_in_words() -> None:
    assert windows_of(small()) == (
        "5 rows",
        "20 rows",
        "1 session of fx_london (at most 40,000 rows)",
        "1h30m (at most 5,000 rows)",
    )


@pytest.mark.parametrize(
    ("nanos", "words"),
    [(0, "0s"), (1, "1ns"), (90 * 10**9, "1m30s"), (86_400 * 10**9, "1d"), (1_500_000, "1ms500us")],
)
def test_a_length_is_written_as_in_the_file_of_windows(nanos: int, words: str) -> None:
    assert length_in_words(nanos) == words


def test_the_size_of_a_state_is_that_of_the_machine_that_runs() -> None:
    for view in views():
        for chunk in (1, 64, 300):
            machine = Machine.build(view.plan.first, chunk)
            assert state_bytes(view.plan.first, chunk) == machine.template.nbytes


def test_the_text_for_graphviz_has_every_value_and_line() -> None:
    for view in views():
        text, graph = dot_of(view), graph_of(view)
        assert text.startswith(f'digraph "{view.name}" {{')
        assert text.endswith("}\n")
        quoted = r'"((?:[^"\\]|\\.)*)"'
        nodes = re.findall(rf"^  {quoted} \[label=", text, re.MULTILINE)
        assert nodes == [value.name for value in graph]
        lines = set(re.findall(rf"^  {quoted} -> {quoted};$", text, re.MULTILINE))
        assert lines == {(name, value.name) for value in graph for name in value.reads}


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    found = []
    for group in root.iter(f"{space}g"):
        if group.find(f"{space}title") is not None:
            rect = group.find(f"{space}rect")
            assert rect is not None
            found.append(tuple(float(rect.attrib[k]) for k in ("x", "y", "width", "height")))
    return found  # type: ignore[return-value]


def test_the_drawing_has_a_box_for_every_value_and_none_upon_another() -> None:
    for view in views():
        svg = svg_of(view)
        root = ET.fromstring(svg)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        found = boxes(svg)
        assert len(found) == len(graph_of(view))
        for x, y, wide, high in found:
            assert 0 <= x <= x + wide <= width
            assert 0 <= y <= y + high <= height
        for (x, y, wide, high), (a, b, wide_b, high_b) in combinations(found, 2):
            assert x + wide <= a or a + wide_b <= x or y + high <= b or b + high_b <= y
        # Every value stands to the right of what it reads, whether or not lines pass layers.
        left = {value.name: box[0] for value, box in zip(_drawn(svg, view), found, strict=True)}
        for value in graph_of(view):
            for name in value.reads:
                assert left[name] < left[value.name]


def _drawn(svg: str, view: FeatureView) -> list[Value]:
    """The values in the order of their boxes, by what a box says when one points at it."""
    titles = re.findall(r"<title>(.*?)</title>", svg)
    by_words = {
        f"{value.numeric}, {value.look_back:,} earlier "
        f"{'row' if value.look_back == 1 else 'rows'}: {value.formula}": value
        for value in graph_of(view)
    }
    return [by_words[title] for title in titles]


def test_a_drawing_is_the_same_every_time_and_its_text_is_escaped() -> None:
    view = FeatureView("odd", "s", "e", {"f": col("a<b & 'c\"").lag(1)}, Sessions(1))
    assert svg_of(view) == svg_of(view)
    ET.fromstring(svg_of(view))
    assert '"a<b & \'c\\""' in dot_of(view)
    assert svg_of(small()) == svg_of(small())
