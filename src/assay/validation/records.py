"""How a measurement becomes a record, also when it could not be taken."""

from __future__ import annotations

from typing import Any

from assay.domain.evidence import Evidence
from assay.statistics.statistic import LEVEL, Statistic


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


def evidence_of(name: str, statistic: Statistic, *, judged: str = "value") -> Evidence:
    """A statistic as the evidence called ``name``.

    ``judged`` says which number a gate compares: ``value``, or ``p_value`` for a test (the test
    statistic is then in the details).
    """
    details = dict(statistic.details)
    if statistic.undefined is not None:
        return undefined(
            name,
            statistic.convention,
            statistic.undefined,
            sample_size=statistic.sample_size,
            **details,
        )
    if statistic.warnings:
        details["warnings"] = list(statistic.warnings)
    if statistic.interval is not None:
        details["level"] = LEVEL
    if judged == "p_value":
        details["statistic"] = statistic.value
    elif statistic.p_value is not None:
        details["p_value"] = statistic.p_value
    return Evidence(
        name=name,
        value=statistic.p_value if judged == "p_value" else statistic.value,
        sample_size=statistic.sample_size,
        convention=statistic.convention,
        interval=statistic.interval if judged == "value" else None,
        details=details,
    )
