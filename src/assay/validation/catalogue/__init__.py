"""What every measurement means, in words.

1. :mod:`~assay.validation.catalogue.explanation` says what a reader has to know about one.
2. One file per family holds the words: ``risk``, ``returns``, ``files``, ``operation``.
3. Policies, commands and the reference pages are all written from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from assay.errors import NotFound, did_you_mean
from assay.validation.catalogue.explanation import Explanation
from assay.validation.catalogue.files import FILES
from assay.validation.catalogue.operation import OPERATION
from assay.validation.catalogue.returns import RETURNS
from assay.validation.catalogue.risk import RISK

CATALOGUE: Mapping[str, Explanation] = MappingProxyType(
    {one.name: one for one in (*RISK, *RETURNS, *FILES, *OPERATION)}
)
"""Every measurement by name, in the order in which pages list them."""


def explanation_of(name: str) -> Explanation:
    """The explanation of one measurement.

    Raises
    ------
    NotFound: there is none of this name; the hint names the nearest.
    """
    found = CATALOGUE.get(name)
    if found is None:
        raise NotFound(f"no gate or measurement {name!r}", hint=did_you_mean(name, CATALOGUE))
    return found


__all__ = ["CATALOGUE", "Explanation", "explanation_of"]
