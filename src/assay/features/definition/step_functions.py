"""A user's own step: a Python function over a window, run by both drivers.

The function is its source text and nothing else. It may use ``math``, ``np`` (NumPy) and what it
defines itself; whatever it would take from the module around it is refused, so that the manifest,
which holds the text, says all that there is to say.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
import textwrap
from collections.abc import Callable

from assay.errors import DefinitionError
from assay.features.definition.expressions import Expression
from assay.features.definition.operations.tree import over_window
from assay.features.definition.windows import Window

MOST_INPUTS = 3
ALLOWED = ("math", "np")
IMPURE = ("random", "empty", "empty_like", "ndarray")
"""What gives other bits each time: random numbers, and memory as it was left."""


class StepFunction:
    """A function of one to three windows, as written.

    Parameters
    ----------
    source: the text of one ``def``, without decorators. It takes one float64 array for each input
        (oldest row first, missing values NaN) and returns a number; a result that is not finite, or
        an exception, is missing.

    Raises
    ------
    DefinitionError: the text is not one plain function, or it uses names from outside.
    """

    def __init__(self, source: str) -> None:
        self.source = textwrap.dedent(source).strip() + "\n"
        try:
            body = ast.parse(self.source).body
        except SyntaxError as error:
            raise DefinitionError(f"step function: its text is no Python: {error}") from error
        function = body[0] if len(body) == 1 else None
        if not isinstance(function, ast.FunctionDef) or function.decorator_list:
            raise DefinitionError("step function: expected the text of one def without decorators")
        self.name = function.name
        if self.name in ALLOWED:
            raise DefinitionError(f"step function {self.name}: math and np are taken names")
        given = function.args
        plain = not (given.vararg or given.kwarg or given.kwonlyargs or given.defaults)
        self.inputs = len(given.posonlyargs) + len(given.args)
        if not plain or not 1 <= self.inputs <= MOST_INPUTS:
            raise DefinitionError(
                f"step function {self.name}: expected 1 to {MOST_INPUTS} plain arguments, one for "
                "each window"
            )
        if any(isinstance(part, ast.Import | ast.ImportFrom) for part in ast.walk(function)):
            raise DefinitionError(
                f"step function {self.name} imports something",
                hint="math and np are there; write anything else out",
            )
        impure = sorted(
            part.attr
            for part in ast.walk(function)
            if isinstance(part, ast.Attribute) and part.attr in IMPURE
        )
        if impure:
            raise DefinitionError(
                f"step function {self.name} uses {', '.join(impure)}: the same window would not "
                "give the same value again",
                hint="np.zeros in place of np.empty; random numbers belong into the data",
            )
        outside = sorted(_names_from_outside(self.source) - set(ALLOWED))
        if outside:
            raise DefinitionError(
                f"step function {self.name} uses {', '.join(outside)} from outside of itself: its "
                "text would not say what it computes",
                hint="write constants and helper functions inside of it; math and np are there",
            )

    def __call__(
        self, *inputs: Expression, window: Window, min_count: int | None = None
    ) -> Expression:
        """The feature that the function computes over windows of these inputs.

        It is missing unless all rows of the window have all inputs, or at least ``min_count`` of
        them where that is given; the function then sees NaN for those that have not.

        Raises
        ------
        DefinitionError: another number of inputs than the function has arguments.
        """
        if len(inputs) != self.inputs:
            raise DefinitionError(
                f"step function {self.name}: {len(inputs)} inputs, expected {self.inputs}"
            )
        first: object = inputs[0]
        if isinstance(first, int | float):
            raise DefinitionError(
                f"step function {self.name}: {first!r}, expected an expression",
                hint=f"a constant is lit({first!r})",
            )
        return over_window("step_function", inputs, window, min_count=min_count, source=self.source)


def step_function(function: Callable[..., float]) -> StepFunction:
    """Make a step of a plain function; for use as a decorator.

    ::

        @step_function
        def half_range(window):
            return (window.max() - window.min()) / 2.0

        features = {"half_range_20": half_range(col("mid"), window=20)}

    Raises
    ------
    DefinitionError: as :class:`StepFunction`, or the source cannot be read.
    """
    try:
        lines = textwrap.dedent(inspect.getsource(function))
    except OSError as error:
        raise DefinitionError(
            f"step function {function.__name__}: its source cannot be read",
            hint="write it in a file, or give StepFunction its text",
        ) from error
    tree = ast.parse(lines)
    definition = tree.body[0]
    if isinstance(definition, ast.FunctionDef):
        first = definition.lineno - 1
        return StepFunction("\n".join(lines.splitlines()[first : definition.end_lineno]))
    raise DefinitionError(f"step function {function.__name__}: expected a def")


def _names_from_outside(source: str) -> set[str]:
    """Global names that the function or anything inside of it reads."""
    found: set[str] = set()
    pending = list(symtable.symtable(source, "step", "exec").get_children())
    while pending:
        table = pending.pop()
        pending += table.get_children()
        found |= {item.get_name() for item in table.get_symbols() if item.is_global()}
    return found - set(dir(builtins))
