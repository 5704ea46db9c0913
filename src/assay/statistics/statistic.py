"""What every statistic answers: a number with what is needed to believe or doubt it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LEVEL = 0.95
"""Two-sided level of every interval that is computed."""

overflow_becomes_undefined = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Marks a function whose results are checked for NaN and infinity before anyone sees them.

Absurd numbers (a return of 1e300) then end as a value of None with its reason. Without the mark
the outcome would depend on how the caller configured numpy's warnings.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """The result of one statistic over one sample.

    Poor data (too short, constant, missing, infinite) gives ``value=None`` and says why in
    ``undefined``; it never gives NaN and never raises. Statistics that have more to say than
    numbers fit (a distribution, a curve) are subclasses with further fields.

    Attributes
    ----------
    value: the number, or None when it could not be computed. For a test whose answer is a
        p-value, ``value`` is the test statistic and the answer stands in ``p_value``.
    sample_size: independent units behind it (dates, label intervals); 0 when nothing was measured.
    convention: the exact definition, units and source, in one sentence.
    interval: lower and upper bound at :data:`LEVEL`, where the method gives one.
    p_value: in (0, 1], where the method is a test; the convention names the hypothesis.
    undefined: why there is no value; None exactly when there is one.
    warnings: what a careful reader should know before using the number, in whole sentences.
    details: further numbers by name; JSON values only.
    """

    value: float | None
    sample_size: int
    convention: str
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    undefined: str | None = None
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(self, "undefined", f"computed value was {self.value}")
            object.__setattr__(self, "value", None)
        if self.value is None:
            # A p-value or an interval of nothing would be read as one of something.
            object.__setattr__(self, "p_value", None)
            object.__setattr__(self, "interval", None)
            if self.undefined is None:
                object.__setattr__(self, "undefined", "it was not computed")
        if self.p_value is not None and not 0.0 <= self.p_value <= 1.0:
            object.__setattr__(self, "p_value", None)
        if self.interval is not None and not all(math.isfinite(end) for end in self.interval):
            object.__setattr__(self, "interval", None)


def number(value: Any) -> float | None:
    """``value`` as a plain float; None when missing, NaN or infinite (JSON has neither)."""
    if value is None:
        return None
    plain = float(value)
    return plain if math.isfinite(plain) else None
