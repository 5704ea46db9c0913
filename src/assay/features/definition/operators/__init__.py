"""The operators a definition may use, each with its promises and its instructions.

``OPERATORS`` is the single table from which programs, documentation and manifests are made. A new
operator is an entry in a module of this package, a method in
:mod:`~assay.features.definition.operations`, and (where no instruction does it yet) a step of the
kernel.

Numeric classes

* ``exact``: the result is what real arithmetic gives, or an integer.
* ``bitwise``: rounded, but the same bits on every machine, in every driver, chunk and process, from
  the window alone.
* ``tolerance``: bitwise as well, and an approximation of something else; the bound is in ``note``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from assay.features.definition.operators import (
    across,
    decay,
    earlier,
    elementwise,
    extremes,
    inputs,
    moments,
    ordered,
    own,
    pairs,
    sessions,
    shape,
    weighted,
    windows,
)
from assay.features.definition.operators.promise import NumericClass, Operator

_FAMILIES = (
    inputs,
    sessions,
    elementwise,
    earlier,
    windows,
    moments,
    shape,
    pairs,
    extremes,
    ordered,
    weighted,
    decay,
    own,
    across,
)

OPERATORS: Final[Mapping[str, Operator]] = MappingProxyType(
    {operator.name: operator for family in _FAMILIES for operator in family.OPERATORS}
)
"""Every operator by name, in the order of the documentation."""

__all__ = ["OPERATORS", "NumericClass", "Operator"]
