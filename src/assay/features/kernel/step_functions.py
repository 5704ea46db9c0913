"""A user's own steps: compiled once for both drivers, and called with windows of their inputs.

The function gets copies: what it does to them leaves no trace in the state of an entity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import types

from assay.errors import DefinitionError
from assay.features.kernel.elementwise import NAN, copy_words, finite, step
from assay.features.kernel.words import get_word, invoke, put

_SIGNATURE = types.double(types.CPointer(types.double), types.int64, types.int64)


@step
def call(
    state: int,
    out: int,
    a: int,
    b: int,
    c: int,
    inputs: int,
    k: int,
    windows: int,
    own: int,
    function: int,
    count: int,
) -> None:
    """Call ``function`` with each row's window of ``inputs`` nodes, copied to ``own``."""
    for i in range(count):
        length = k if windows < 0 else get_word(state, windows + i)
        value = NAN
        if length <= k:
            first = i - length + 1
            copy_words(state, own, state, a + first, length)
            if inputs > 1:
                copy_words(state, own + k, state, b + first, length)
            if inputs > 2:
                copy_words(state, own + 2 * k, state, c + first, length)
            value = finite(invoke(function, state + 8 * own, length, k))
        put(state, out + i, value)


@lru_cache(maxsize=256)
def compiled_step(source: str) -> Any:
    """A step function from its text; its ``address`` is what :func:`call` takes.

    Raises
    ------
    DefinitionError: numba cannot compile it.
    """
    names: dict[str, Any] = {"math": math, "np": np}
    exec(compile(source, "<step function>", "exec"), names)  # noqa: S102 - the user's own code
    name, function = next(
        (name, value) for name, value in names.items() if callable(value) and name not in _GIVEN
    )
    arguments = function.__code__.co_argcount
    own = numba.njit(error_model="numpy", boundscheck=True)(function)
    try:
        return numba.cfunc(_SIGNATURE)(_wrapped(own, arguments))
    except numba.core.errors.NumbaError as error:
        raise DefinitionError(
            f"step function {name} cannot be compiled: {_first_lines(str(error))}",
            hint="it may use numbers, loops, math and the NumPy functions that numba knows",
        ) from error


_GIVEN = ("math", "np", "__builtins__")


def _wrapped(function: Any, arguments: int) -> Callable[[Any, int, int], float]:
    """Arrays from addresses; an exception is a missing value."""
    if arguments == 1:

        def call_one(block: Any, count: int, stride: int) -> float:
            windows = numba.carray(block, (1, stride))
            try:
                return float(function(windows[0, :count]))
            except Exception:  # noqa: BLE001 - whatever the user's function raises
                return math.nan

        return call_one
    if arguments == 2:

        def call_two(block: Any, count: int, stride: int) -> float:
            windows = numba.carray(block, (2, stride))
            try:
                return float(function(windows[0, :count], windows[1, :count]))
            except Exception:  # noqa: BLE001
                return math.nan

        return call_two

    def call_three(block: Any, count: int, stride: int) -> float:
        windows = numba.carray(block, (3, stride))
        try:
            return float(function(windows[0, :count], windows[1, :count], windows[2, :count]))
        except Exception:  # noqa: BLE001
            return math.nan

    return call_three


def _first_lines(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return "; ".join(lines[:4])[:400]
