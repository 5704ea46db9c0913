"""Two inputs over one window."""

from __future__ import annotations

from typing import Self

from assay.errors import DefinitionError
from assay.features.definition.operations.tree import Tree, over_window
from assay.features.definition.windows import Window


class Pairs(Tree):
    """Covariance, correlation and slope over the rows of a window where both are valid.

    They are missing unless all rows of the window have both, or at least ``min_count`` of them
    where that is given.
    """

    __slots__ = ()

    def rolling_cov(self, other: Self, window: Window, *, min_count: int | None = None) -> Self:
        """Sample covariance (n - 1) with another expression."""
        return self._over("rolling_cov", other, window, min_count)

    def rolling_corr(self, other: Self, window: Window, *, min_count: int | None = None) -> Self:
        """Pearson's correlation with another expression; missing where either is constant."""
        return self._over("rolling_corr", other, window, min_count)

    def rolling_beta(self, other: Self, window: Window, *, min_count: int | None = None) -> Self:
        """The slope of the least squares line of this on ``other``: how much it moves with it."""
        return self._over("rolling_beta", other, window, min_count)

    def _over(self, operator: str, other: Self, window: Window, min_count: int | None) -> Self:
        if not isinstance(other, Tree):
            raise DefinitionError(
                f"{operator}: {other!r} is {type(other).__name__}, expected an expression",
                hint=f"a column is col({other!r})" if isinstance(other, str) else None,
            )
        return over_window(operator, (self, other), window, min_count=min_count, least=2)
