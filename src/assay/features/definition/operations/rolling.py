"""Counts, moments and extremes of windows that end at the current row."""

from __future__ import annotations

from typing import Self

from assay.errors import DefinitionError
from assay.features.definition.opcodes import MAX_POWER_WINDOW
from assay.features.definition.operations.tree import Tree, over_window
from assay.features.definition.windows import Window


class Rolling(Tree):
    """Operators over a window: so many rows, or those of a stretch of time or sessions.

    They are missing unless all rows of the window are valid, or at least ``min_count`` of them
    where that is given.
    """

    __slots__ = ()

    def rolling_sum(self, window: Window, *, min_count: int | None = None) -> Self:
        """Sum over the window."""
        return over_window("rolling_sum", (self,), window, min_count=min_count)

    def rolling_mean(self, window: Window, *, min_count: int | None = None) -> Self:
        """Mean over the window."""
        return over_window("rolling_mean", (self,), window, min_count=min_count)

    def rolling_std(self, window: Window, *, min_count: int | None = None) -> Self:
        """Sample standard deviation (n - 1) over the window."""
        return over_window("rolling_std", (self,), window, min_count=min_count, least=2)

    def rolling_var(self, window: Window, *, min_count: int | None = None) -> Self:
        """Sample variance (n - 1) over the window."""
        return over_window("rolling_var", (self,), window, min_count=min_count, least=2)

    def rolling_min(self, window: Window, *, min_count: int | None = None) -> Self:
        """Smallest value of the window."""
        return over_window("rolling_min", (self,), window, min_count=min_count)

    def rolling_max(self, window: Window, *, min_count: int | None = None) -> Self:
        """Largest value of the window."""
        return over_window("rolling_max", (self,), window, min_count=min_count)

    def rolling_count(self, window: Window) -> Self:
        """How many rows of the window have a value; missing only where there are too many rows."""
        return over_window("rolling_count", (self,), window, min_count=None)

    def rolling_skew(self, window: Window, *, min_count: int | None = None) -> Self:
        """Sample skewness, corrected for its bias; missing where the window is constant."""
        return self._shape("rolling_skew", window, min_count, least=3)

    def rolling_kurt(self, window: Window, *, min_count: int | None = None) -> Self:
        """Sample excess kurtosis (0 for a normal distribution), corrected for its bias."""
        return self._shape("rolling_kurt", window, min_count, least=4)

    def _shape(self, operator: str, window: Window, min_count: int | None, *, least: int) -> Self:
        made = over_window(operator, (self,), window, min_count=min_count, least=least)
        rows = made.parameter("window")
        assert isinstance(rows, int)
        if rows > MAX_POWER_WINDOW:
            raise DefinitionError(
                f"{operator}: a window of {rows:,} rows, expected at most {MAX_POWER_WINDOW:,}"
            )
        return made

    def rolling_slope(self, window: Window, *, min_count: int | None = None) -> Self:
        """Change per row of the least squares line through the window.

        Rows without a value are left out, and counted: the line runs over row numbers. The slope
        on another expression is :meth:`rolling_beta`.
        """
        return over_window("rolling_slope", (self,), window, min_count=min_count, least=2)

    def zscore(self, window: Window, *, min_count: int | None = None) -> Self:
        """``(x - rolling_mean) / rolling_std``; missing where the window is constant."""
        return over_window("zscore", (self,), window, min_count=min_count, least=2)
