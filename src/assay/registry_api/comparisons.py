"""Answers that need more of a desk than its registry: comparisons and lineages.

What makes them is imported with the first that is asked for: it takes longer to load than the rest
of the server together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from fastapi import Query, Request
from fastapi.responses import Response

from assay.orchestration.desk import Desk
from assay.registry_api.documents import (
    ComparisonDocument,
    LineageCheckDocument,
    LineageDocument,
)
from assay.registry_api.reads import (
    VERSION,
    NamePart,
    Registry,
    Route,
    VersionPart,
    answer,
)
from assay.registry_api.reports import page_answer

if TYPE_CHECKING:
    from assay.orchestration.version_comparison import VersionComparison

One: TypeAlias = Annotated[str, Query(pattern=VERSION, description="One of the two versions.")]


class Comparisons:
    """Two versions side by side, and the lineage of one."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> tuple[Route, ...]:
        """The paths."""
        model, one = "/api/v1/models/{name}", "/api/v1/models/{name}/{version}"
        return (
            Route("GET", f"{model}/comparison", self.comparison, "Two versions side by side",
                  ComparisonDocument),
            Route("GET", f"{model}/comparison/page", self.page,
                  "Two versions side by side, as a page", None),
            Route("GET", f"{one}/lineage", self.lineage,
                  "What it was made from, and what became of it", LineageDocument),
            Route("GET", f"{one}/lineage/check", self.lineage_check,
                  "Whether everything that it names is there", LineageCheckDocument),
        )  # fmt: skip

    def comparison(
        self, request: Request, registry: Registry, name: NamePart, before: One, after: One
    ) -> Response:
        return answer(request, self._compared(registry, name, before, after).to_json())

    def page(
        self, request: Request, registry: Registry, name: NamePart, before: One, after: One
    ) -> Response:
        from assay.orchestration.version_comparison_page import comparison_page

        text = comparison_page(self._compared(registry, name, before, after))
        return page_answer(request, text.encode())

    def lineage(
        self, request: Request, registry: Registry, name: NamePart, version: VersionPart
    ) -> Response:
        from assay.orchestration.lineage import lineage_of

        bare = registry.get(name, version).version
        return answer(request, lineage_of(self._desk, name, bare).to_json())

    def lineage_check(
        self, request: Request, registry: Registry, name: NamePart, version: VersionPart
    ) -> Response:
        from assay.orchestration.lineage import check_lineage

        bare = registry.get(name, version).version
        return answer(request, check_lineage(self._desk, name, bare).to_json())

    def _compared(
        self, registry: Registry, name: str, before: str, after: str
    ) -> VersionComparison:
        from assay.orchestration.version_comparison import compare_versions

        old, new = (registry.get(name, one).version for one in (before, after))
        return compare_versions(self._desk, name, old, new)
