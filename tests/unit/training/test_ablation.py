"""What groups of features are worth: against training by hand, and on data whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr, t

from assay.errors import DefinitionError
from assay.training import (
    Baseline,
    Recipe,
    ablate,
    importance_consistency,
    permutation_importance,
    train,
)

FEATURES = ("ewm_vol", "driver", "noise_1", "noise_2")

GROUPS = {"driver": ("driver",), "noise": ("noise_1", "noise_2"), "scale": ("ewm_vol",)}


def losses_by_hand(made: pl.DataFrame) -> list[float]:
    return [
        float(np.log(row["prediction"] ** 2) + row["label"] / row["prediction"] ** 2)
        for row in made.iter_rows(named=True)
    ]


def by_session(made: pl.DataFrame, losses: list[float]) -> dict[int, float]:
    sums: dict[int, list[float]] = {}
    for start, loss in zip(made["label_start"], losses, strict=True):
        sums.setdefault(start, []).append(loss)
    return {start: sum(found) / len(found) for start, found in sums.items()}


def newey_west(series: list[float]) -> float:
    """The t statistic of a mean by loops, Bartlett kernel, floor(4 (T/100)^(2/9)) lags."""
    size, mean = len(series), sum(series) / len(series)
    lag = int(4 * (size / 100) ** (2 / 9))
    total = sum((one - mean) ** 2 for one in series)
    for j in range(1, lag + 1):
        products = ((series[i] - mean) * (series[i - j] - mean) for i in range(j, size))
        total += 2 * (1 - j / (lag + 1)) * sum(products)
    return mean / (total / size / size) ** 0.5


def test_each_group_is_the_difference_of_two_trainings_by_hand(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    found = ablate(vol_recipe, vol_frame, features=FEATURES, groups=GROUPS)
    whole = train(vol_recipe, vol_frame, features=FEATURES).predictions
    for name in ("driver", "noise"):
        recipe = replace(vol_recipe, exclude=GROUPS[name])
        without = train(recipe, vol_frame, features=FEATURES).predictions
        rise = {
            start: loss - by_session(whole, losses_by_hand(whole))[start]
            for start, loss in by_session(without, losses_by_hand(without)).items()
        }
        series = [rise[start] for start in sorted(rise)]
        assert found.groups[name]["loss_rise"] == pytest.approx(sum(series) / len(series))
        p = float(t.sf(newey_west([-one for one in series]), len(series) - 1))
        assert found.groups[name]["p_harmful"] == pytest.approx(p, rel=1e-9)
        assert found.sample_size == len(series)
    worst = min(float(str(one["p_harmful"])) for one in found.groups.values())
    assert found.value == found.p_value == pytest.approx(min(1.0, 2 * worst))
    assert found.kept == {"scale": "none of its features can be left out"}


def test_the_driver_is_of_use_and_the_model_is_the_same_every_time(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    first, second = (
        ablate(vol_recipe, vol_frame, features=FEATURES, groups=GROUPS, threads=threads)
        for threads in (1, 2)
    )
    assert first == second
    driver = first.groups["driver"]
    assert float(str(driver["loss_rise"])) > 0.05
    assert float(str(driver["p_harmful"])) > 0.99


def test_a_feature_that_no_tree_can_use_makes_no_difference_and_does_no_harm(
    direction_recipe: Recipe, direction_frame: pl.DataFrame
) -> None:
    frame = direction_frame.with_columns(still=pl.lit(1.0))
    everything = replace(
        direction_recipe.estimator,
        learner=replace(direction_recipe.estimator.learner, column_share=1.0),  # type: ignore[union-attr]
    )
    found = ablate(
        replace(direction_recipe, estimator=everything),
        frame,
        features=(*FEATURES, "still"),
        groups={"still": ("still",)},
    )
    assert (found.value, found.groups["still"]["loss_rise"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("groups", "kept"),
    [
        ({}, {}),
        ({"all": FEATURES}, {"all": "it is all that the model has"}),
        ({"none": ("elsewhere",)}, {"none": "none of its features can be left out"}),
    ],
)
def test_nothing_to_leave_out_is_undefined_with_a_reason(
    direction_recipe: Recipe, direction_frame: pl.DataFrame, groups: Any, kept: Any
) -> None:
    found = ablate(direction_recipe, direction_frame, features=FEATURES, groups=groups)
    assert found.value is None
    assert found.undefined is not None
    assert "declare groups" in found.undefined
    assert found.kept == kept


def test_too_few_sessions_are_undefined(vol_recipe: Recipe, vol_frame: pl.DataFrame) -> None:
    short = vol_frame.filter(pl.col("as_of") < 10 * 86_400 * 10**9)
    found = ablate(vol_recipe, short, features=FEATURES, groups=GROUPS)
    assert found.value is None
    assert "dates" in str(found.undefined)


def test_a_baseline_has_nothing_that_could_be_left_out(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    recipe = replace(vol_recipe, estimator=Baseline("ewm_vol"))
    with pytest.raises(DefinitionError, match="baseline"):
        ablate(recipe, vol_frame, features=FEATURES, groups=GROUPS)


def test_the_driver_matters_most_and_one_feature_more_changes_no_other_number(
    vol_recipe: Recipe, vol_frame: pl.DataFrame
) -> None:
    found = permutation_importance(vol_recipe, vol_frame, features=FEATURES, seed=3)
    assert found == permutation_importance(vol_recipe, vol_frame, features=FEATURES, seed=3)
    assert found != permutation_importance(vol_recipe, vol_frame, features=FEATURES, seed=4)
    assert max(("driver", "noise_1", "noise_2"), key=lambda name: found[name]) == "driver"
    assert found["driver"] > 5 * abs(found["noise_1"])


def test_consistency_is_the_rank_correlation_over_common_features() -> None:
    mine = {"a": 0.5, "b": 0.1, "c": 0.1, "d": -0.2, "e": 0.3, "only_mine": 9.0}
    theirs = {"e": 0.1, "d": 0.0, "c": 0.2, "b": 0.15, "a": 0.9, "only_theirs": 9.0}
    found = importance_consistency(mine, theirs)
    names = "abcde"
    expected = spearmanr([mine[n] for n in names], [theirs[n] for n in names]).statistic
    assert found.value == pytest.approx(expected)
    assert found.sample_size == 5
    assert importance_consistency(mine, mine).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("mine", "reason"),
    [
        ({}, "0 features in common"),
        (dict.fromkeys("abcd", 1.0), "4 features in common"),
        (dict.fromkeys("abcde", 1.0), "equally important"),
        ({**dict.fromkeys("abcd", 1.0), "e": float("nan")}, "4 features in common"),
        ({**dict.fromkeys("abcd", 1.0), "e": float("inf")}, "4 features in common"),
    ],
)
def test_importances_that_do_not_compare_are_undefined(mine: dict[str, float], reason: str) -> None:
    theirs = {name: float(number) for number, name in enumerate("abcdef")}
    found = importance_consistency(mine, theirs)
    assert found.value is None
    assert reason in str(found.undefined)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ("x",), "b": ("x",)}, "x in two groups"),
        ({"a": "x"}, "expected names with tuples"),
        ({"a": ()}, "expected names with tuples"),
        (("a",), "expected names with tuples"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(
    vol_recipe: Recipe, groups: Any, message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        replace(vol_recipe, groups=groups)


def test_a_group_names_features_that_there_are_and_changes_the_hash_only_where_declared(
    vol_recipe: Recipe,
) -> None:
    grouped = replace(vol_recipe, groups={"noise": ("noise_3",)})
    with pytest.raises(DefinitionError, match="noise_3"):
        grouped.select_features(FEATURES)
    assert "groups" not in vol_recipe.to_json()
    assert grouped.hash != vol_recipe.hash
