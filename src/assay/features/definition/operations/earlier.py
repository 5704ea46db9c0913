"""Earlier rows."""

from __future__ import annotations

from typing import Self

from assay.features.definition.operations.tree import Tree, node, rows_ago


class Earlier(Tree):
    """Operators that look at the current row and one earlier row."""

    __slots__ = ()

    def lag(self, rows: int) -> Self:
        """The value ``rows`` rows ago; a negative number would look into the future."""
        return node(type(self), "lag", self, rows=rows_ago("lag", rows, least=0))

    def diff(self, rows: int = 1) -> Self:
        """The value less the value ``rows`` rows ago, in the unit of the value."""
        return node(type(self), "diff", self, rows=rows_ago("diff", rows, least=1))

    def simple_return(self, rows: int = 1) -> Self:
        """``x[t] / x[t - rows] - 1``, computed as ``(x[t] - x[t - rows]) / x[t - rows]``."""
        count = rows_ago("simple_return", rows, least=1)
        return node(type(self), "simple_return", self, rows=count)

    def log_return(self, rows: int = 1) -> Self:
        """``log(x[t] / x[t - rows])``."""
        return node(type(self), "log_return", self, rows=rows_ago("log_return", rows, least=1))
