"""The names that evidence may have. A policy that asks for another is refused when it loads."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from assay.validation.catalogue import CATALOGUE

KNOWN_EVIDENCE: Mapping[str, str] = MappingProxyType(
    {name: one.meaning for name, one in CATALOGUE.items()}
)
"""Each name with its meaning in one line, for reports and for errors."""
