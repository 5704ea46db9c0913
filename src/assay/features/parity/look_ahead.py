"""The look-ahead detector: whether a value changes when the future is cut off or becomes another.

It judges feature values, not trades, and it judges any function from rows to features: a view's
driver, or somebody's own code over data frames. Four questions at moments of the history:

* truncation: are the values up to a moment the same when nothing after it is there?
* future: are they the same when everything after it has other values?
* known: are the values of rows that say they were known at a moment the same when nothing is there
  that became known after it? A release that is joined when it happened, and not when it was
  published, is found by this one only.
* warm-up: are the values after a moment the same when only ``look_back`` rows before it are there?

:func:`measure_look_back` finds how many rows that takes.

A function that passes may still read the future in a way that these moments do not show; one that
fails does read it, or needs more history than it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from assay.domain.instants import Instant, render
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ContractViolation
from assay.features.kernel.frames import last_rows
from assay.features.parity.comparison import ParityReport, compare

KNOWN: Final = "known_time"

Compute: TypeAlias = Callable[..., pl.DataFrame]
"""From rows (entity, event_time and more) to features with the same two key columns.

Called with the rows, and with every table beside them by its name.
"""

_Cut: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class LookAheadReport:
    """What the detector found.

    Attributes
    ----------
    checks: (question, moment) -> the values before it as they are against as they became; for
        warm-up the values after it. For the question of knowledge the moment is a known time.
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

    def explain(self) -> tuple[str, ...]:
        """One line per question and moment that found something, with the worst value."""
        lines = []
        for (question, moment), report in self.checks.items():
            if report.holds:
                continue
            if report.differences:
                worst = report.differences[0]
                what = (
                    f"{worst.feature} of {worst.key[0]} at {render(int(worst.key[1]))} was "
                    f"{worst.offline} and became {worst.online}"
                )
            else:
                what = (
                    f"{report.missing} rows went, {report.extra} came, of "
                    f"{report.values_compared:,} values none changed"
                )
            lines.append(f"{question}, cut at {render(moment)}: {what}")
        return tuple(lines)

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
    beside: Mapping[str, pl.DataFrame] | None = None,
    entity: str = "entity",
    look_back: int | None = None,
    cuts: int = 3,
    seed: int = 0,
) -> LookAheadReport:
    """Ask the questions of a function.

    Parameters
    ----------
    frame: its input: the entity, event_time (int64 nanoseconds UTC), whatever else it reads. Where
        it has known_time, the question of knowledge is asked: a row that the function gives is
        known when its own known_time says so, or else that of the input's row, or else when it
        happened.
    beside: other tables that it joins, by the names of its arguments, each with event_time and,
        where it became known later than it happened, known_time. They are cut and changed at the
        same moments; a table that the function takes from elsewhere cannot be.
    look_back: rows of an entity before the first one that it says it needs; None leaves the
        question about the warm-up out.
    cuts: moments at which the history is cut, spread by chance over its middle half.
    seed: of that chance, and of the values that the future is given instead.

    Raises
    ------
    ContractViolation: a key column is missing, there are fewer than four event times, or the
        function does not give every row.
    """
    run = _Run(compute, frame, beside or {}, entity)
    moments = run.moments()
    generator = np.random.default_rng(seed)
    whole = run.whole()
    checks: dict[tuple[str, Instant], ParityReport] = {}
    keys = (entity, "event_time")
    for place in _places(generator, moments.len(), cuts):
        moment = int(moments[place])
        past = pl.col("event_time") <= moment
        before = whole.filter(past)
        cut = run.on(_until(moment))
        checks["truncation", moment] = compare(before, cut.filter(past), keys=keys)
        other = run.on(_another_future(moment, entity, generator))
        checks["future", moment] = compare(before, other.filter(past), keys=keys)
        if look_back is not None:
            warm = run.warm(moment, look_back)
            checks["warm-up", moment] = compare(whole.filter(~past), warm.filter(~past), keys=keys)
    checks.update(_known(run, whole, generator, cuts))
    return LookAheadReport(checks)


def measure_look_back(
    compute: Compute,
    frame: pl.DataFrame,
    *,
    beside: Mapping[str, pl.DataFrame] | None = None,
    entity: str = "entity",
    seed: int = 0,
) -> int | None:
    """The fewest rows of each entity before a moment with which all later values are the same.

    Found by halving, at one moment in the middle half of the history; what the values before that
    moment happen to be may hide that more rows are needed. The tables beside the rows are there in
    full. None where nothing less than all rows is enough: the function remembers for ever, or
    longer than the history is.

    Raises
    ------
    ContractViolation: as :func:`detect_look_ahead`.
    """
    run = _Run(compute, frame, beside or {}, entity)
    moments = run.moments()
    (place,) = _places(np.random.default_rng(seed), moments.len(), 1)
    moment, keys = int(moments[place]), (entity, "event_time")
    past = pl.col("event_time") <= moment
    later = run.whole().filter(~past)

    def enough(rows: int) -> bool:
        return compare(later, run.warm(moment, rows).filter(~past), keys=keys).holds

    most = int(frame.filter(past).group_by(entity).len()["len"].max())  # type: ignore[arg-type]
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return None if low == most else low


@dataclass(frozen=True, slots=True)
class _Run:
    """A function, and the tables that it is called with."""

    compute: Compute
    frame: pl.DataFrame
    beside: Mapping[str, pl.DataFrame]
    entity: str

    def moments(self) -> pl.Series:
        """Event times of the rows, ascending: where history can be cut."""
        for name in (self.entity, "event_time"):
            _require(name, self.frame, "the rows have")
        for table, rows in self.beside.items():
            _require("event_time", rows, f"table {table!r} has")
        moments = self.frame["event_time"].unique().sort()
        if moments.len() < 4:
            raise ContractViolation(
                f"look-ahead: {moments.len()} event times, expected at least 4 to cut between"
            )
        return moments

    def whole(self) -> pl.DataFrame:
        return self.on(lambda table: table)

    def on(self, cut: _Cut) -> pl.DataFrame:
        """What the function gives when every table was cut or changed like this."""
        others = {name: cut(table) for name, table in self.beside.items()}
        return _features(self.compute(cut(self.frame), **others))

    def warm(self, moment: Instant, look_back: int) -> pl.DataFrame:
        """What it gives for the rows after a moment, and so many of each entity before it."""
        past = pl.col("event_time") <= moment
        keys = [self.entity, "event_time"]
        kept = last_rows(self.frame.filter(past), self.entity, look_back)
        wanted = pl.concat([kept, self.frame.filter(~past)]).select(keys).unique()
        # The function may want its rows in their order.
        rows = self.frame.join(wanted, on=keys, how="semi", maintain_order="left")
        return _features(self.compute(rows, **self.beside))


def _require(name: str, frame: pl.DataFrame, who: str) -> None:
    if name not in frame.columns:
        raise ContractViolation(f"look-ahead: {who} no column {name!r}")


def _known(
    run: _Run, whole: pl.DataFrame, generator: np.random.Generator, cuts: int
) -> dict[tuple[str, Instant], ParityReport]:
    """Replay what was known: the question of knowledge at moments of known time."""
    checks: dict[tuple[str, Instant], ParityReport] = {}
    if KNOWN not in run.frame.columns:
        return checks
    keys = [run.entity, "event_time"]
    claimed = _when_known(whole, run.frame, run.entity)
    times = run.frame[KNOWN].unique().sort()
    for place in _places(generator, times.len(), cuts) if times.len() > 1 else ():
        moment = int(times[place])
        # Only rows that say they were known are judged.
        before = whole.filter(claimed <= moment)
        if before.is_empty():
            continue
        then = run.on(_known_at(moment))
        then = then.join(before.select(keys), on=keys, how="semi", maintain_order="left")
        checks["known", moment] = compare(before, then, keys=tuple(keys))
    return checks


def _until(moment: Instant) -> _Cut:
    return lambda table: table.filter(pl.col("event_time") <= moment)


def _known_at(moment: Instant) -> _Cut:
    def known(table: pl.DataFrame) -> pl.DataFrame:
        return table.filter(pl.col(KNOWN if KNOWN in table.columns else "event_time") <= moment)

    return known


def _when_known(made: pl.DataFrame, frame: pl.DataFrame, entity: str) -> pl.Series:
    """When each row that a function gave was known."""
    if KNOWN in made.columns:
        return made[KNOWN]
    keys = [entity, "event_time"]
    given = frame.group_by(keys).agg(pl.col(KNOWN).max())
    joined = made.select(keys).join(given, on=keys, how="left", maintain_order="left")
    return joined.select(pl.col(KNOWN).fill_null(pl.col("event_time"))).to_series()


def _places(generator: np.random.Generator, moments: int, cuts: int) -> list[int]:
    first, last = moments // 4, max(moments // 4 + 1, 3 * moments // 4)
    count = min(cuts, last - first)
    return sorted(generator.choice(np.arange(first, last), count, replace=False).tolist())


def _another_future(moment: Instant, entity: str, generator: np.random.Generator) -> _Cut:
    """The same rows with other values after a moment: numbers scaled, flags turned."""
    future = pl.col("event_time") > moment

    def changed(frame: pl.DataFrame) -> pl.DataFrame:
        columns = []
        for name, kind in frame.schema.items():
            if name in {entity, *ORDER_COLUMNS}:
                continue
            if kind == pl.Boolean:
                other = ~pl.col(name)
            elif kind.is_numeric():
                noise = pl.Series(generator.uniform(1.5, 3.0, frame.height))
                other = (pl.col(name) * noise).cast(kind)
            else:
                continue
            columns.append(pl.when(future).then(other).otherwise(pl.col(name)).alias(name))
        return frame.with_columns(columns)

    return changed


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
