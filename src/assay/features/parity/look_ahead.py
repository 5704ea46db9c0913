"""The look-ahead detector: whether a value changes when the future is cut off or becomes another.

It judges feature values, not trades, and it judges any function from rows to features: a view's
driver, or somebody's own code over data frames. Three questions at moments of the history:

* truncation: are the values up to a moment the same when nothing after it is there?
* future: are they the same when everything after it has other values?
* warm-up: are the values after a moment the same when only ``look_back`` rows before it are there?

A function that passes may still read the future in a way that these moments do not show; one that
fails does read it, or needs more history than it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from assay.domain.instants import Instant
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ContractViolation
from assay.features.parity.comparison import ParityReport, compare

Compute: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]
"""From rows (entity, event_time and more) to features with the same two key columns."""


@dataclass(frozen=True, slots=True)
class LookAheadReport:
    """What the detector found.

    Attributes
    ----------
    checks: (question, moment) -> the values before it as they are against as they became; for
        warm-up the values after it.
    """

    checks: Mapping[tuple[str, Instant], ParityReport]

    @property
    def holds(self) -> bool:
        """Whether every value stayed, and something was compared."""
        return bool(self.checks) and all(report.holds for report in self.checks.values())

    @property
    def suspects(self) -> Mapping[str, tuple[str, ...]]:
        """Features that changed, by question."""
        found: dict[str, set[str]] = {}
        for (question, _), report in self.checks.items():
            for feature in report.features:
                if feature.equal < feature.compared:
                    found.setdefault(question, set()).add(feature.name)
        return {question: tuple(sorted(names)) for question, names in sorted(found.items())}

    @property
    def values_compared(self) -> int:
        return sum(report.values_compared for report in self.checks.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "holds": self.holds,
            "values_compared": self.values_compared,
            "suspects": {question: list(names) for question, names in self.suspects.items()},
            "checks": [
                {"question": question, "at": moment, **report.to_json()}
                for (question, moment), report in self.checks.items()
            ],
        }


def detect_look_ahead(
    compute: Compute,
    frame: pl.DataFrame,
    *,
    entity: str = "entity",
    look_back: int | None = None,
    cuts: int = 3,
    seed: int = 0,
) -> LookAheadReport:
    """Ask the three questions of a function.

    Parameters
    ----------
    frame: its input: the entity, event_time (int64 nanoseconds UTC), whatever else it reads.
    look_back: rows of an entity before the first one that it says it needs; None leaves the
        question about the warm-up out.
    cuts: moments at which the history is cut, spread by chance over its middle half.
    seed: of that chance, and of the values that the future is given instead.

    Raises
    ------
    ContractViolation: a key column is missing, there are fewer than four event times, or the
        function does not give every row.
    """
    for name in (entity, "event_time"):
        if name not in frame.columns:
            raise ContractViolation(f"look-ahead: the rows have no column {name!r}")
    moments = frame["event_time"].unique().sort()
    if moments.len() < 4:
        raise ContractViolation(
            f"look-ahead: {moments.len()} event times, expected at least 4 to cut between"
        )
    generator = np.random.default_rng(seed)
    whole = _features(compute(frame))
    checks: dict[tuple[str, Instant], ParityReport] = {}
    keys = (entity, "event_time")
    for place in _places(generator, moments.len(), cuts):
        moment = int(moments[place])
        past = pl.col("event_time") <= moment
        before = whole.filter(past)
        cut = _features(compute(frame.filter(past)))
        checks["truncation", moment] = compare(before, cut, keys=keys)
        other = _features(compute(_with_another_future(frame, moment, entity, generator)))
        checks["future", moment] = compare(before, other.filter(past), keys=keys)
        if look_back is not None:
            kept = frame.filter(past).group_by(entity, maintain_order=True).tail(look_back)
            # The function may want its rows in their order.
            rows = frame.join(
                pl.concat([kept, frame.filter(~past)]).select(keys), on=list(keys), how="semi",
                maintain_order="left",
            )  # fmt: skip
            warm = _features(compute(rows))
            checks["warm-up", moment] = compare(whole.filter(~past), warm.filter(~past), keys=keys)
    return LookAheadReport(checks)


def _places(generator: np.random.Generator, moments: int, cuts: int) -> list[int]:
    first, last = moments // 4, max(moments // 4 + 1, 3 * moments // 4)
    count = min(cuts, last - first)
    return sorted(generator.choice(np.arange(first, last), count, replace=False).tolist())


def _with_another_future(
    frame: pl.DataFrame, moment: Instant, entity: str, generator: np.random.Generator
) -> pl.DataFrame:
    """The same rows with other values after a moment: numbers scaled and moved, flags turned."""
    future = pl.col("event_time") > moment
    changed = []
    for name, kind in frame.schema.items():
        if name in {entity, *ORDER_COLUMNS}:
            continue
        if kind == pl.Boolean:
            changed.append(pl.when(future).then(~pl.col(name)).otherwise(pl.col(name)).alias(name))
        elif kind.is_numeric():
            noise = pl.Series(generator.uniform(1.5, 3.0, frame.height))
            moved = (pl.col(name) * noise).cast(kind)
            changed.append(pl.when(future).then(moved).otherwise(pl.col(name)).alias(name))
    return frame.with_columns(changed)


def _features(frame: pl.DataFrame) -> pl.DataFrame:
    """Numbers as Float64, with nulls and NaNs of any origin as the one NaN."""
    numbers = [
        name
        for name, kind in frame.schema.items()
        if name not in ORDER_COLUMNS and (kind.is_numeric() or kind == pl.Boolean)
    ]
    return frame.with_columns(
        pl.when(pl.col(name).cast(pl.Float64).is_nan())
        .then(float("nan"))
        .otherwise(pl.col(name).cast(pl.Float64).fill_null(float("nan")))
        .alias(name)
        for name in numbers
    )
