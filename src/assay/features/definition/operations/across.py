"""Other entities at the same event time."""

from __future__ import annotations

from typing import Self

from assay.features.definition.operations.tree import Tree, node


class Across(Tree):
    """Operators across the members of the view's universe at the same event time."""

    __slots__ = ()

    def cs_rank(self) -> Self:
        """Percent rank in (0, 1] among members at the same event time; ties share their mean."""
        return node(type(self), "cs_rank", self)

    def cs_demean(self) -> Self:
        """The value less the members' mean at the same event time."""
        return node(type(self), "cs_demean", self)

    def cs_zscore(self) -> Self:
        """Distance from the members' mean in their sample standard deviations."""
        return node(type(self), "cs_zscore", self)
