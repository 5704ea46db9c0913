"""Any trees, as ONNX, answer any row as the same trees in plain Python."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.training.conversion.graph import INPUT, OUTPUT, tree_nodes, write_model
from assay.training.conversion.tree_model import Link, TreeModel
from assay.training.onnx_checks import run_onnx_outputs, threshold_rows
from assay.training.trees import Tree, round_down, split_nodes

WIDTH = 3
NAMES = ("a", "b", "c")
# Few thresholds, so that trees meet each other's; some that no float32 is equal to.
THRESHOLDS = [0.1, -0.1, 0.0, -0.0, 1.0, 1 / 3, 1e-45, 1e-300, -1e-300, 3e38, 1e300, -1e300]
VALUES = [*THRESHOLDS[:6], float("nan"), float("inf"), float("-inf"), 1e-45, -1e-45, 3.4e38]


@st.composite
def trees(draw: st.DrawFn, number: Any, *, at_most: bool) -> Tree:
    feature: list[int] = []
    value: list[float] = []
    left: list[int] = []
    right: list[int] = []
    missing: list[bool] = []

    def grow(depth: int) -> int:
        here = len(feature)
        leaf = depth == 0 or draw(st.booleans())
        feature.append(0 if leaf else draw(st.integers(0, WIDTH - 1)))
        whole = st.integers(-8, 8).map(float)  # sums of these are exact in any order
        value.append(draw(whole if leaf else st.sampled_from(THRESHOLDS)))
        left.append(-1)
        right.append(-1)
        missing.append(not leaf and draw(st.booleans()))
        if not leaf:
            left[here] = grow(depth - 1)
            right[here] = grow(depth - 1)
        return here

    grow(4)
    with np.errstate(over="ignore"):
        thresholds = np.asarray(value).astype(number)
    return Tree(
        np.asarray(feature), thresholds, np.asarray(left), np.asarray(right),
        np.asarray(missing), at_most,
    )  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> TreeModel:
    number = draw(st.sampled_from([np.float32, np.float64]))
    at_most = draw(st.booleans())
    made = draw(st.lists(trees(number, at_most=at_most), min_size=1, max_size=5))
    outputs = draw(st.integers(1, 2))
    targets = tuple(draw(st.integers(0, outputs - 1)) for _ in made)
    base = np.asarray([draw(st.integers(-3, 3)) for _ in range(outputs)], dtype=number)
    return TreeModel(tuple(made), targets, base, Link(), number)


def answer(model: TreeModel, row: list[float]) -> list[float]:
    totals = [float(base) for base in model.base]
    for tree, target in zip(model.trees, model.targets, strict=True):
        node = 0
        while tree.left[node] >= 0:
            value, threshold = row[int(tree.feature[node])], float(tree.threshold[node])
            if math.isnan(value):
                goes_left = bool(tree.default_left[node])
            else:
                goes_left = value <= threshold if tree.at_most else value < threshold
            node = int(tree.left[node] if goes_left else tree.right[node])
        totals[target] += float(tree.threshold[node])
    return totals


def graph(model: TreeModel) -> bytes:
    nodes, constants = tree_nodes(model, INPUT, OUTPUT)
    return write_model(
        nodes, constants, NAMES, name="trees", outputs=model.outputs, number=model.number
    )


@settings(max_examples=40, deadline=None)
@given(model=models(), picks=st.lists(st.sampled_from(VALUES), min_size=WIDTH, max_size=60))
def test_a_graph_answers_as_its_trees_do(model: TreeModel, picks: list[float]) -> None:
    count = len(picks) // WIDTH
    rows = np.asarray(picks[: count * WIDTH]).astype(np.float32).reshape(count, WIDTH)
    expected = [answer(model, [float(value) for value in row]) for row in rows]
    assert run_onnx_outputs(graph(model), rows).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(model=models())
def test_probes_stand_on_both_sides_of_every_split_that_parts_numbers(model: TreeModel) -> None:
    splits = tuple(split_nodes(model.trees))
    rows = np.zeros((4, WIDTH), dtype=np.float32)
    probes = threshold_rows(splits, rows).reshape(-1, 3, WIDTH)
    for split, block in zip(splits, probes, strict=True):
        tree = model.trees[split.tree]
        threshold = float(tree.threshold[split.node])
        sides = [
            float(row[split.feature]) <= threshold
            if tree.at_most
            else float(row[split.feature]) < threshold
            for row in block
        ]
        if abs(threshold) < 3.4e38:
            assert set(sides) == {True, False}


@settings(max_examples=200)
@given(value=st.floats(allow_nan=False))
def test_rounding_down_keeps_every_comparison(value: float) -> None:
    rounded = round_down(value)
    limit = np.finfo(np.float32).max
    assert np.isfinite(rounded)
    if -float(limit) <= value <= float(limit):
        assert float(rounded) <= value
        assert float(np.nextafter(rounded, np.float32(np.inf))) > value


def test_the_two_signs_of_comparison_differ_on_the_threshold_itself() -> None:
    for at_most, expected in ((True, [1.0, 1.0, 2.0]), (False, [1.0, 2.0, 2.0])):
        tree = Tree(
            np.asarray([0, 0, 0]),
            np.asarray([0.5, 1.0, 2.0], dtype=np.float32),
            np.asarray([1, -1, -1]),
            np.asarray([2, -1, -1]),
            np.zeros(3, dtype=bool),
            at_most,
        )
        model = TreeModel((tree,), (0,), np.zeros(1, dtype=np.float32), Link(), np.float32)
        half = np.float32(0.5)
        rows = np.zeros((3, WIDTH), dtype=np.float32)
        rows[:, 0] = np.nextafter(half, -half), half, np.nextafter(half, half + half)
        assert run_onnx_outputs(graph(model), rows)[:, 0].tolist() == pytest.approx(expected)
