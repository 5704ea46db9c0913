"""Order statistics of windows that end at the current row."""

from __future__ import annotations

from typing import Self

from assay.errors import DefinitionError, did_you_mean
from assay.features.definition.opcodes import ORDERED_METHODS
from assay.features.definition.operations.tree import Tree, number, over_window
from assay.features.definition.windows import Window


class Ordered(Tree):
    """Medians, quantiles and ranks.

    They are missing unless all rows of the window are valid, or at least ``min_count`` of them
    where that is given. An event costs about the logarithm and the square root of the window.
    """

    __slots__ = ()

    def rolling_median(self, window: Window, *, min_count: int | None = None) -> Self:
        """The middle value of the window; of an even number the mean of the two in the middle."""
        return over_window("rolling_median", (self,), window, min_count=min_count)

    def rolling_quantile(
        self,
        window: Window,
        q: float,
        *,
        interpolation: str = "linear",
        min_count: int | None = None,
    ) -> Self:
        """The value below which a share ``q`` of the window lies.

        Between two values it is interpolated: ``linear``, ``lower``, ``higher``, ``midpoint`` or
        ``nearest`` (half way: the lower one), as in pandas and Polars.
        """
        share = number("rolling_quantile", q)
        if not 0.0 <= share <= 1.0:
            raise DefinitionError(f"rolling_quantile: q {q}, expected 0 to 1")
        if interpolation not in ORDERED_METHODS:
            raise DefinitionError(
                f"rolling_quantile: interpolation {interpolation!r}",
                hint=did_you_mean(str(interpolation), ORDERED_METHODS),
            )
        return over_window(
            "rolling_quantile",
            (self,),
            window,
            min_count=min_count,
            q=share + 0.0,  # a zero without a sign: one meaning, one identity
            interpolation=interpolation,
        )

    def rolling_rank(
        self, window: Window, *, percent: bool = False, min_count: int | None = None
    ) -> Self:
        """The rank of the row's own value in its window, from 1; equal values share their mean.

        With ``percent`` it is divided by the number of values, so that the largest has rank 1.
        """
        if not isinstance(percent, bool):
            raise DefinitionError(f"rolling_rank: percent {percent!r}, expected True or False")
        return over_window(
            "rolling_rank", (self,), window, min_count=min_count, percent=int(percent)
        )
