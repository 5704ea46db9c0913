"""The tree that expressions are, and the checks of what is put into it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias, TypeVar

from assay.domain.canonical import canonical_bytes
from assay.errors import DefinitionError
from assay.features.definition.opcodes import MAX_WINDOW
from assay.features.definition.windows import SessionWindow, TimeWindow, Window

Parameter: TypeAlias = int | float | str | None
_Tree = TypeVar("_Tree", bound="Tree")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tree:
    """One node: an operator, what it reads and its parameters."""

    operator: str
    inputs: tuple[Tree, ...] = ()
    parameters: tuple[tuple[str, Parameter], ...] = ()
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        written = [
            self.operator,
            [item.identity for item in self.inputs],
            [[name, _written(value)] for name, value in self.parameters],
        ]
        object.__setattr__(self, "identity", hashlib.sha256(canonical_bytes(written)).hexdigest())

    def parameter(self, name: str) -> Parameter:
        """The value of one parameter, None when the operator was given none."""
        return dict(self.parameters).get(name)

    def __repr__(self) -> str:
        own = ", ".join(f"{name}={value!r}" for name, value in self.parameters if value is not None)
        if self.operator == "col":
            return str(self.parameter("name"))
        if self.operator == "lit":
            return repr(self.parameter("value"))
        return f"{self.operator}({', '.join([*map(repr, self.inputs), *([own] if own else [])])})"


def node(
    make: type[_Tree], operator: str, /, *inputs: Tree | float, **parameters: Parameter
) -> _Tree:
    """A node of class ``make``; plain numbers among its inputs become constants."""
    operands = tuple(
        item if isinstance(item, Tree) else constant(make, number(operator, item))
        for item in inputs
    )
    return make(operator, operands, tuple(sorted(parameters.items())))


def constant(make: type[_Tree], value: float) -> _Tree:
    """A constant."""
    return make("lit", (), (("value", value),))


def over_window(
    operator: str,
    inputs: tuple[_Tree, ...],
    window: Window,
    *,
    min_count: int | None,
    least: int = 1,
    **parameters: Parameter,
) -> _Tree:
    """An operator over a window that ends at the current row.

    ``least`` is the smallest number of valid rows that the operator can work with. Over a window of
    time or sessions the last input is the number of rows in it, and ``window`` the most there may
    be.
    """
    make = type(inputs[0])
    rows: tuple[_Tree, ...] = ()
    if isinstance(window, TimeWindow):
        most = window.max_rows
        rows = (node(make, "time_window", max_rows=most, nanos=window.nanos),)
    elif isinstance(window, SessionWindow):
        most = window.max_rows
        rows = (
            node(
                make,
                "session_window",
                calendar=window.calendar,
                max_rows=most,
                sessions=window.sessions,
            ),
        )
    else:
        most = window_rows(operator, window, least)
    if most < least:
        raise DefinitionError(
            f"{operator}: {window} may hold {most} rows, expected at least {least}",
            hint=f"max_rows={least} or more",
        )
    return node(
        make,
        operator,
        *inputs,
        *rows,
        window=most,
        min_count=least_rows(operator, min_count, most, least, fixed=not rows),
        **parameters,
    )


def number(operator: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DefinitionError(
            f"{operator}: {value!r} is {type(value).__name__}, expected an expression or a number",
            hint=f"a column is col({value!r})" if isinstance(value, str) else None,
        )
    if not math.isfinite(value):
        raise DefinitionError(f"{operator}: {value} is not finite")
    return float(value)


def whole(operator: str, what: str, value: object) -> int:
    """A whole number; True is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise DefinitionError(f"{operator}: {what} {value!r}, expected a whole number of rows")
    return value


def rows_ago(operator: str, rows: int, *, least: int) -> int:
    """A number of rows to look back."""
    count = whole(operator, "rows", rows)
    if count < 0:
        raise DefinitionError(
            f"{operator}({rows}): a negative number of rows looks into the future",
            hint=f"features use the past only; for a value {-count} rows ahead write a label",
        )
    if count < least or count > MAX_WINDOW:
        raise DefinitionError(f"{operator}({rows}): expected {least} to {MAX_WINDOW:,} rows")
    return count


def window_rows(operator: str, window: object, least: int = 1) -> int:
    """The length of a window in rows."""
    if isinstance(window, timedelta | str):
        raise DefinitionError(
            f"{operator}: window {window!r}, expected rows, a TimeWindow or a SessionWindow",
            hint="a stretch of time is TimeWindow.of(hours=1, max_rows=1_000)",
        )
    count = whole(operator, "window", window)
    if count < least or count > MAX_WINDOW:
        raise DefinitionError(
            f"{operator}: window {window}, expected {least} to {MAX_WINDOW:,} rows"
        )
    return count


def least_rows(
    operator: str, min_count: int | None, window: int, least: int, *, fixed: bool
) -> int | None:
    """How many valid rows are asked for; None for all of the window."""
    if min_count is None:
        return None
    count = whole(operator, "min_count", min_count)
    if not least <= count <= window:
        raise DefinitionError(f"{operator}: min_count {min_count}, expected {least} to {window}")
    # All rows is what None means: one meaning, one identity.
    return None if fixed and count == window else count


def _written(value: Parameter) -> Parameter:
    # Hexadecimal is exact and tells 1 from 1.0, which decimal JSON does not do reliably.
    return value.hex() if isinstance(value, float) else value
