"""A desk as the steps see it: where things are, and the objects that do the work.

``bootstrap`` makes one from the settings. Views, recipes and the policy are read when a step first
asks for them, so that a command which only reads the registry starts quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from assay.domain.clock import Clock
from assay.errors import NotFound, did_you_mean

if TYPE_CHECKING:
    from assay.delivery.policy import Policy
    from assay.features import FeatureView, RequestView
    from assay.lake import Lake
    from assay.orchestration.sources import SourcesConfig
    from assay.registry import ModelRegistry
    from assay.registry.keyring import KeyRing
    from assay.training.recipe import Recipe


@dataclass(frozen=True)
class DeskLayout:
    """Where the parts of a desk lie; every path is absolute.

    ``threads`` bounds a training run, ``workers`` the offline driver; ``approval_nanos`` is how
    long an approval is good for.
    """

    root: Path
    name: str
    lake: Path
    sources: Path
    features: Path
    recipes: Path
    runs: Path
    registry: Path
    audit: Path
    policy: Path
    promotions: Path
    threads: int
    workers: int
    approval_nanos: int


class Desk:
    """One desk project, opened.

    Parameters
    ----------
    layout: where things are.
    keyring: who may sign, and the keys that this user holds.
    clock: where "now" comes from.
    """

    def __init__(self, layout: DeskLayout, keyring: KeyRing, clock: Clock) -> None:
        self.layout = layout
        self.keyring = keyring
        self.clock = clock

    @cached_property
    def lake(self) -> Lake:
        """Bronze, silver, gold and quarantine."""
        from assay.lake import Lake

        return Lake(self.layout.lake, self.clock)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The registry; opening it replays what a crash left undone."""
        from assay.registry import ModelRegistry

        return ModelRegistry(
            self.layout.registry, self.keyring, self.clock, audit_path=self.layout.audit
        )

    def rebuilt_registry(self) -> ModelRegistry:
        """The registry over a new catalogue, also where the old one is too damaged to be opened."""
        from assay.registry import ModelRegistry

        return ModelRegistry.rebuilt(
            self.layout.registry, self.keyring, self.clock, audit_path=self.layout.audit
        )

    @cached_property
    def sources(self) -> SourcesConfig:
        """What is ingested, and the rule that admits an instrument on a date."""
        from assay.orchestration.sources import load_sources

        return load_sources(self.layout.sources)

    @cached_property
    def policy(self) -> Policy:
        """The promotion policy."""
        from assay.delivery.policy import load_policy

        return load_policy(self.layout.policy)

    @cached_property
    def views(self) -> Mapping[str, FeatureView]:
        """The desk's feature views by name."""
        from assay.features.definition.declarations import load_views

        return {view.name: view for view in load_views(self.layout.features)}

    @cached_property
    def request_views(self) -> Mapping[str, RequestView]:
        """The desk's request views by name; there may be none."""
        from assay.features.definition.declarations import load_request_views

        return {view.name: view for view in load_request_views(self.layout.features)}

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        """The desk's training recipes by name."""
        from assay.training.recipe import load_recipes

        return {recipe.name: recipe for recipe in load_recipes(self.layout.recipes)}

    def view(self, name: str) -> FeatureView:
        """One view by name."""
        if name not in self.views and name in self.request_views:
            stored = ", ".join(view.name for view in self.request_views[name].stored)
            raise NotFound(
                f"{name!r} is a request view, expected a view",
                hint=f"the views that it reads: {stored or 'none'}",
            )
        if name not in self.views:
            raise NotFound(
                f"no view {name!r} in {self.layout.features}", hint=did_you_mean(name, self.views)
            )
        return self.views[name]

    def request_view(self, name: str) -> RequestView:
        """One request view by name."""
        if name not in self.request_views:
            raise NotFound(
                f"no request view {name!r} in {self.layout.features}",
                hint=did_you_mean(name, self.request_views) if self.request_views else None,
            )
        return self.request_views[name]

    def recipe(self, name: str) -> Recipe:
        """One recipe by name."""
        if name not in self.recipes:
            raise NotFound(
                f"no recipe {name!r} in {self.layout.recipes}",
                hint=did_you_mean(name, self.recipes),
            )
        return self.recipes[name]
