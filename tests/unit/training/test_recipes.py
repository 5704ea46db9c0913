"""Recipes: what they refuse, how they are identified, and how they are read from a desk's files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assay.domain.canonical import canonical_bytes
from assay.errors import AssayError, ContractViolation, DefinitionError, NotFound
from assay.training import (
    Baseline,
    Boosting,
    LabelDeclaration,
    Recipe,
    RiseProbability,
    VarianceCorrection,
    WalkForward,
    load_recipes,
)

EXAMPLES = Path(__file__).parents[3] / "examples" / "fx" / "models"
LABEL = LabelDeclaration("squared_log_return")
RECIPE = Recipe(
    name="vol",
    kind="risk_model",
    view="daily",
    label=LABEL,
    estimator=VarianceCorrection("ewm_vol"),
    description="A test.",
)
AVAILABLE = ("ret_1", "ewm_vol", "vol_20", "month_end")

HEADER = """
from assay.training import Baseline, LabelDeclaration, Recipe
def declare(name):
    return Recipe(name=name, kind="risk_model", view="daily", label=LabelDeclaration("r"),
                  estimator=Baseline("ewm_vol"), description="A test.")
"""


def test_all_features_are_the_views_in_its_order_less_the_excluded() -> None:
    assert RECIPE.select_features(AVAILABLE) == AVAILABLE
    chosen = replace(RECIPE, exclude=("vol_20",)).select_features(AVAILABLE)
    assert chosen == ("ret_1", "ewm_vol", "month_end")


def test_listed_features_keep_the_recipes_order() -> None:
    recipe = replace(RECIPE, features=("vol_20", "ewm_vol"))
    assert recipe.select_features(AVAILABLE) == ("vol_20", "ewm_vol")


def test_a_baseline_takes_only_its_own_feature() -> None:
    assert replace(RECIPE, estimator=Baseline("ewm_vol")).select_features(AVAILABLE) == ("ewm_vol",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ("ret_l", "ewm_vol")}, "did you mean 'ret_1'"),
        ({"exclude": ("ewm_vo",)}, "did you mean 'ewm_vol'"),
        ({"exclude": ("ewm_vol",)}, "needs feature 'ewm_vol'"),
        ({"features": ("ewm_vol", "ewm_vol")}, "expected distinct"),
        ({"exclude": AVAILABLE, "estimator": RiseProbability()}, "at least 1"),
    ],
)
def test_a_selection_that_cannot_work_names_the_feature(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        replace(RECIPE, **change).select_features(AVAILABLE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Vol 1"},
        {"model": "../up"},
        {"kind": "Risk"},
        {"features": "ewm_vol"},
        {"features": ()},
        {"exclude": "ewm_vol"},
        {"seeds": ()},
        {"seeds": (1, 1)},
        {"seeds": (-1,)},
        {"seeds": (1.5,)},
        {"label": "squared_log_return"},
        {"estimator": "baseline"},
        {"walk_forward": 4},
        {"request": ("order",)},
    ],
)
def test_a_recipe_that_cannot_mean_what_it_says_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((DefinitionError, ContractViolation)):
        replace(RECIPE, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"rounds": 0},
        {"depth": 0},
        {"bins": 1},
        {"learning_rate": 0.0},
        {"row_share": 1.5},
        {"column_share": float("nan")},
        {"min_child_weight": -1.0},
        {"l2": float("inf")},
    ],
)
def test_boosting_settings_outside_their_range_are_refused_by_name(
    settings: dict[str, float],
) -> None:
    with pytest.raises(DefinitionError, match=next(iter(settings))):
        Boosting(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("floor", [0.0, -1e-5, float("nan"), float("inf")])
def test_a_volatility_floor_that_is_not_positive_is_refused(floor: float) -> None:
    with pytest.raises(DefinitionError, match="floor"):
        Baseline("ewm_vol", floor)
    with pytest.raises(DefinitionError, match="floor"):
        VarianceCorrection("ewm_vol", floor=floor)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "vol_2", "model": "vol"},
        {"seeds": (1, 3)},
        {"exclude": ("vol_20",)},
        {"features": ("ewm_vol",)},
        {"label": LabelDeclaration("squared_log_return", horizon=2)},
        {"estimator": VarianceCorrection("ewm_vol", Boosting(rounds=81))},
        {"estimator": VarianceCorrection("ewm_vol", floor=2e-5)},
        {"estimator": Baseline("ewm_vol")},
        {"walk_forward": WalkForward(embargo_days=1)},
        {"request": "order"},
    ],
)
def test_any_change_of_a_recipe_changes_its_hash(change: dict[str, object]) -> None:
    assert replace(RECIPE, **change).hash != RECIPE.hash  # type: ignore[arg-type]


def test_a_recipe_without_a_request_view_does_not_mention_one() -> None:
    assert "request" not in RECIPE.to_json()  # else every recipe of a desk would be another one
    asked = replace(RECIPE, request="order")
    assert asked.to_json() == RECIPE.to_json() | {"request": "order"}
    with pytest.raises(DefinitionError, match="not in view daily or request view order"):
        replace(asked, exclude=("rsk",)).select_features((*AVAILABLE, "risk"))


def test_the_hash_is_that_of_the_canonical_json_and_equal_recipes_share_it() -> None:
    twin = replace(RECIPE, model="vol", seeds=(1, 2))
    assert twin == RECIPE
    assert twin.hash == RECIPE.hash
    assert canonical_bytes(twin.to_json()) == canonical_bytes(RECIPE.to_json())
    assert RECIPE.to_json()["estimator"]["name"] == "variance_correction"


def test_recipes_of_a_file_come_in_its_order_and_leave_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "vol.py"
    file.write_text(HEADER + "b = declare('b')\na = declare('a')\nalias = a\n")
    assert [recipe.name for recipe in load_recipes(file)] == ["b", "a"]
    assert [path.name for path in tmp_path.iterdir()] == ["vol.py"]


def test_recipes_of_a_folder_come_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "z.py").write_text(HEADER + "a = declare('a')\n")
    (tmp_path / "b.py").write_text(HEADER + "c = declare('c')\n")
    (tmp_path / "notes.txt").write_text("not Python")
    assert [recipe.name for recipe in load_recipes(tmp_path)] == ["c", "a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = declare('a')\nb = declare('a')\n", "expected one declaration"),
        ("", "declares no recipe"),
        ("a = 1 / 0\n", r"vol\.py, line 6: ZeroDivisionError: division by zero"),
        ("import not_a_module_of_anyone\n", r"line 6: ModuleNotFoundError"),
        ("def broken(:\n", r"vol\.py, line 6: SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("a = declare('Not A Name')\n", r"line 4: name 'Not A Name'"),
    ],
)
def test_a_file_that_does_not_work_is_refused_with_its_name_and_line(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "vol.py"
    file.write_text(HEADER + content)
    with pytest.raises(DefinitionError, match=message) as caught:
        load_recipes(file)
    assert str(file) in caught.value.message


def test_two_files_must_not_declare_one_name(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(HEADER + "a = declare('a')\n")
    with pytest.raises(DefinitionError, match=r"one\.py and in .*two\.py"):
        load_recipes(tmp_path)


def test_a_missing_path_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no recipes at"):
        load_recipes(tmp_path / "nowhere.py")


def test_a_hint_survives_from_the_file_to_the_person(tmp_path: Path) -> None:
    file = tmp_path / "vol.py"
    file.write_text(
        HEADER.replace('description="A test."', 'description="", exclude="x"') + "a=declare('a')"
    )
    with pytest.raises(AssayError) as caught:
        load_recipes(file)
    assert caught.value.hint == "exclude=('x',)"


def test_the_example_desk_declares_a_baseline_and_two_learned_models() -> None:
    recipes = {r.name: r for r in load_recipes(EXAMPLES)}
    assert set(recipes) == {"fx_direction", "fx_vol", "fx_vol_baseline"}
    assert recipes["fx_vol_baseline"].model == recipes["fx_vol"].model == "fx_vol"
    # The baseline and its challenger must be judged on the same folds and the same label.
    assert recipes["fx_vol_baseline"].walk_forward == recipes["fx_vol"].walk_forward
    assert recipes["fx_vol_baseline"].label == recipes["fx_vol"].label


@pytest.mark.parametrize("settings", [{"name": "A b"}, {"horizon": 0}, {"entry": -1}])
def test_a_label_that_cannot_be_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises((DefinitionError, ContractViolation)):
        replace(LABEL, **settings)  # type: ignore[arg-type]
