"""A recorded measurement: the number, how it was taken, on what, and how much of it there was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.domain.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measurement about one candidate.

    Attributes
    ----------
    name: what was measured, in snake case, for example ``rank_ic``.
    value: the number, or None when it could not be computed. Never NaN or infinite: the reason
        stands in ``details["undefined"]`` instead.
    sample_size: independent units behind the number (dates, rows); 0 when nothing was measured, or
        when what was given is no whole number.
    convention: the exact definition, units and source, in one sentence.
    interval: lower and upper bound at ``details["level"]`` when one was computed.
    details: further numbers and words, JSON values only; a NaN or infinite number becomes None.
    provenance: what it was taken from and when; None in records that were made before that was
        kept. It is part of the record's digest.
    """

    name: str
    value: float | None
    sample_size: int
    convention: str
    interval: tuple[float, float] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not _is_number(self.value):
            # A number that is not a number must not reach a comparison: None is INDETERMINATE.
            undefined = f"computed value was {_in_words(self.value)}"
            object.__setattr__(self, "details", {**self.details, "undefined": undefined})
            object.__setattr__(self, "value", None)
        if type(self.sample_size) is not int or self.sample_size < 0:
            # None is compared with nothing, and a text would stop every later judgement.
            object.__setattr__(self, "sample_size", 0)
        if self.interval is not None and not all(_is_number(end) for end in self.interval):
            object.__setattr__(self, "interval", None)
        object.__setattr__(self, "details", _finite(dict(self.details)))

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; ``provenance`` only where there is one, so that records
        without keep the digest that they had before there was any.
        """
        traced = {} if self.provenance is None else {"provenance": self.provenance.to_json()}
        return {
            "name": self.name,
            "value": self.value,
            "sample_size": self.sample_size,
            "convention": self.convention,
            "interval": list(self.interval) if self.interval else None,
            "details": dict(self.details),
            **traced,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Evidence:
        """Read what :meth:`to_json` wrote."""
        low_high, traced = document["interval"], document.get("provenance")
        return cls(
            name=document["name"],
            value=document["value"],
            sample_size=document["sample_size"],
            convention=document["convention"],
            interval=(low_high[0], low_high[1]) if low_high else None,
            details=document["details"],
            provenance=None if traced is None else Provenance.from_json(traced),
        )


def _is_number(value: Any) -> bool:
    """Whether a value can be compared as a float: no NaN, no infinity, no integer beyond one.

    True and False are answers, not measurements.
    """
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (OverflowError, TypeError):
        return False


def _in_words(value: Any) -> str:
    # Not of whatever it is: an integer may have more digits than Python agrees to write.
    return str(value) if isinstance(value, float) else "no finite number"


def _finite(value: Any) -> Any:
    # JSON has no NaN: one in a side note must not make the whole record impossible to hash.
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
