"""How a measurement becomes a record, also when it could not be taken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from assay.domain.evidence import Evidence

LEVEL = 0.95
"""Two-sided level of every interval that this package computes."""

overflow_becomes_undefined = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Marks a function whose results are checked for NaN and infinity before they become evidence.

Absurd numbers (a return of 1e300) then end as a value of None with its reason. Without the mark
the outcome would depend on how the caller configured numpy's warnings.
"""


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
