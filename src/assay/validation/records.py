"""How a measurement becomes a record, also when it could not be taken."""

from __future__ import annotations

import math
from typing import Any

from assay.domain.evidence import Evidence

LEVEL = 0.95
"""Two-sided level of every interval that this package computes."""


def undefined(
    name: str, convention: str, reason: str, *, sample_size: int = 0, **details: Any
) -> Evidence:
    """A measurement without a value. ``details["undefined"]`` says why, in words for a reader."""
    return Evidence(
        name=name,
        value=None,
        sample_size=sample_size,
        convention=convention,
        details={**details, "undefined": reason},
    )


def number(value: Any) -> float | None:
    """``value`` as a plain float; None when missing, NaN or infinite (JSON has neither)."""
    if value is None:
        return None
    plain = float(value)
    return plain if math.isfinite(plain) else None
