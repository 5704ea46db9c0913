"""What a model's features are worth: trained again without each group, and with each one permuted.

This takes as long as training does, once per group and once for the champion, so it is measured
only where a gate of the policy asks for it.
"""

from __future__ import annotations

from typing import Final

from assay.domain.evidence import Evidence
from assay.features.offline.training_sets import TrainingSet, rebuild
from assay.orchestration.desk import Desk
from assay.orchestration.modelling import TrainingRun
from assay.orchestration.past_requests import request_view_of
from assay.orchestration.progress import Progress
from assay.training import (
    Baseline,
    Recipe,
    ablate,
    importance_consistency,
    permutation_importance,
)
from assay.validation.records import evidence_of, undefined

ABLATION: Final = "ablation"
CONSISTENCY: Final = "feature_importance_consistency"
PERMUTATION_SEED: Final = 20_260_102
"""Seed of the permutations: fixed, so that evidence can be measured again."""


def ablation(desk: Desk, run: TrainingRun, progress: Progress) -> Evidence:
    """``ablation`` of a run's recipe over its own training set, made again."""
    convention = "smallest adjusted p-value that a group of features does harm"
    recipe = _recipe(desk, run)
    if isinstance(recipe, str):
        return undefined(ABLATION, convention, recipe)
    made = _training_set(desk, run, recipe)
    found = ablate(
        recipe,
        made.frame,
        features=made.features,
        groups=recipe.groups or _by_view(desk, recipe),
        threads=desk.layout.threads,
        step=progress.event,
    )
    return evidence_of(ABLATION, found, judged="p_value")


def consistency(
    desk: Desk, run: TrainingRun, champion: TrainingRun | None, progress: Progress
) -> Evidence:
    """``feature_importance_consistency`` with the champion, each over its own training set."""
    convention = "Spearman correlation of permutation importances with the champion's"
    if champion is None:
        return undefined(CONSISTENCY, convention, "there is no champion to compare with")
    recipes: list[tuple[TrainingRun, Recipe]] = []
    for whose, one in (("", run), ("the champion: ", champion)):
        recipe = _recipe(desk, one)
        if isinstance(recipe, str):
            return undefined(CONSISTENCY, convention, f"{whose}{recipe}")
        recipes.append((one, recipe))
    importances: list[dict[str, float]] = []
    for one, recipe in recipes:
        progress.event(f"{recipe.name}: permuting each feature")
        made = _training_set(desk, one, recipe)
        importances.append(
            permutation_importance(
                recipe,
                made.frame,
                features=made.features,
                seed=PERMUTATION_SEED,
                threads=desk.layout.threads,
            )
        )
    return evidence_of(CONSISTENCY, importance_consistency(*importances))


def _recipe(desk: Desk, run: TrainingRun) -> Recipe | str:
    """The recipe that a run was trained by, or why it cannot be asked."""
    name = run.record["recipe"]["name"]
    recipe = desk.recipes.get(name)
    if recipe is None or recipe.hash != run.record["recipe_hash"]:
        return f"the desk's recipe {name} is not the one that it was trained by"
    if isinstance(recipe.estimator, Baseline):
        return f"recipe {name} is a baseline, which learns nothing"
    return recipe


def _training_set(desk: Desk, run: TrainingRun, recipe: Recipe) -> TrainingSet:
    request = request_view_of(desk, recipe)
    return rebuild(run.record["training_set"], desk.lake, request=request)


def _by_view(desk: Desk, recipe: Recipe) -> dict[str, tuple[str, ...]]:
    request = request_view_of(desk, recipe)
    groups = {recipe.view: desk.view(recipe.view).feature_names}
    return groups if request is None else {**groups, request.name: request.feature_names}
