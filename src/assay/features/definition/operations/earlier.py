"""Earlier rows."""

from __future__ import annotations

from typing import Self

from assay.features.definition.operations.tree import Tree, node, rows_ago, window_rows


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

    def last_valid(self, max_rows: int) -> Self:
        """The newest value that is not missing among the last ``max_rows`` rows.

        ``max_rows=1`` is the row itself. The bound is declared because memory follows it.
        """
        return node(type(self), "last_valid", self, max_rows=window_rows("last_valid", max_rows))

    def rows_since(self, max_rows: int) -> Self:
        """Rows since this was true (a number other than 0); 0 where it is true now.

        Missing where it was not true in any of the last ``max_rows`` rows.
        """
        return node(type(self), "rows_since", self, max_rows=window_rows("rows_since", max_rows))

    def time_since(self, max_rows: int) -> Self:
        """Seconds of event time since this was true; see :meth:`rows_since`."""
        return node(type(self), "time_since", self, max_rows=window_rows("time_since", max_rows))
