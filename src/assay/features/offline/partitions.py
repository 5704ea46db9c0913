"""Rows in their canonical form, and in the calendar's partitions.

1. :func:`canonical_rows` - the entity as text, the total order as int64, values of allowed types.
2. :func:`by_partition` - cut at the months or years (UTC) of the event time.
3. :func:`merge` - add rows to those that are stored: repeats vanish, contradictions are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import polars as pl

from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant, from_datetime, render
from assay.domain.order import ORDER_COLUMNS
from assay.errors import Conflict, ContractViolation
from assay.features.offline.point_in_time import require_columns
from assay.features.offline.store import COLUMN_TYPES
from assay.lake.digest import frame_digest

_FIRST_YEAR, _LAST_YEAR = 1677, 2262  # what int64 nanoseconds can express
_TEXT: Final = (pl.String, pl.Categorical, pl.Enum)


class Period(StrEnum):
    """How long a partition is."""

    MONTH = "month"
    YEAR = "year"


def canonical_rows(
    table: str, rows: pl.DataFrame, entity: str, schema: Mapping[str, str] | None
) -> pl.DataFrame:
    """``rows`` with the columns in the table's order and types; the first commit decides it.

    Raises
    ------
    ContractViolation: a column is missing, foreign or of another type, or a key is null.
    """
    require_columns(table, rows, (entity, *ORDER_COLUMNS))
    if not isinstance(rows.schema[entity], _TEXT) or rows[entity].null_count():
        raise ContractViolation(
            f"table {table}: column {entity} is {rows.schema[entity]} with "
            f"{rows[entity].null_count()} nulls, expected text without nulls"
        )
    keys = (entity, *ORDER_COLUMNS)
    values = [name for name in rows.columns if name not in keys]
    try:
        made = rows.select(
            pl.col(entity).cast(pl.String),
            *(pl.col(name).cast(pl.Int64) for name in ORDER_COLUMNS),
            *(_plain(rows, name) for name in values),
        )
    except pl.exceptions.InvalidOperationError as error:
        raise ContractViolation(f"table {table}: a key is outside int64: {error}") from None
    found = {name: str(dtype) for name, dtype in made.schema.items()}
    for name, dtype in found.items():
        if dtype not in COLUMN_TYPES:
            raise ContractViolation(
                f"table {table}: column {name} is {dtype}, "
                f"expected one of {', '.join(COLUMN_TYPES)}",
                hint="moments are int64 nanoseconds UTC; cast what else there is",
            )
    if schema is None:
        return made
    if found.keys() != schema.keys() or any(found[name] != schema[name] for name in schema):
        raise ContractViolation(
            f"table {table} has columns {dict(schema)}, the rows have {found}",
            hint="add_columns adds columns at the end; any other change is another table",
        )
    return made.select(list(schema))


def added_columns(
    table: str, schema: Mapping[str, str], columns: Mapping[str, str]
) -> dict[str, str]:
    """Those of ``columns`` that a table does not have yet.

    Raises
    ------
    ContractViolation: one is there with another type, or of a type that not every store keeps.
    """
    added = {}
    for name, kind in columns.items():
        if kind not in COLUMN_TYPES:
            raise ContractViolation(
                f"table {table}: column {name} is to be {kind}, "
                f"expected one of {', '.join(COLUMN_TYPES)}"
            )
        if schema.get(name, kind) != kind:
            raise ContractViolation(
                f"table {table}: column {name} is {schema[name]} and is to be {kind}",
                hint="columns are only ever added; a changed one needs another name",
            )
        if name not in schema:
            added[name] = kind
    return added


def _plain(rows: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String) if isinstance(rows.schema[name], _TEXT) else pl.col(name)


def by_partition(rows: pl.DataFrame, period: Period) -> dict[str, pl.DataFrame]:
    """``rows`` by the name of their partition, in the order of time."""
    if rows.is_empty():
        return {}
    moment = pl.from_epoch(rows["event_time"], time_unit="ns")
    number = moment.dt.year().cast(pl.Int32) * 100
    if period is Period.MONTH:
        number = number + moment.dt.month().cast(pl.Int32)
    distinct = number.unique().sort().to_list()
    parts = [rows] if len(distinct) == 1 else [rows.filter(number == one) for one in distinct]
    return {_name(one, period): part for one, part in zip(distinct, parts, strict=True)}


def _name(number: int, period: Period) -> str:
    year, month = divmod(number, 100)
    return f"{year:04d}-{month:02d}" if period is Period.MONTH else f"{year:04d}"


def bounds(name: str) -> tuple[Instant, Instant]:
    """First and last event time that belong to a partition."""
    year, month = int(name[:4]), int(name[5:] or 1)
    after = (year + 1, 1) if len(name) == 4 or month == 12 else (year, month + 1)
    first = MIN_INSTANT if year <= _FIRST_YEAR else _start(year, month)
    last = MAX_INSTANT if after[0] > _LAST_YEAR else _start(*after) - 1
    return max(first, MIN_INSTANT), min(last, MAX_INSTANT)


def _start(year: int, month: int) -> Instant:
    return from_datetime(datetime(year, month, 1, tzinfo=UTC))


def merge(
    table: str, entity: str, stored: pl.DataFrame, rows: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What of ``rows`` is new, and all rows together; both sorted by entity and total order.

    Raises
    ------
    Conflict: two rows at one place of the order differ in a bit.
    """
    keys = [entity, *ORDER_COLUMNS]
    both = pl.concat([stored, rows]).rechunk()
    # Stable, so that of equal rows the stored one comes first.
    places = both.select(pl.arg_sort_by(keys, maintain_order=True)).to_series()
    ordered = both[places]
    repeats = ordered.select(
        pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in keys).fill_null(
            value=False
        )
    ).to_series()
    if repeats.any():
        _refuse_contradictions(table, entity, ordered, repeats.arg_true())
        kept = ~repeats
        ordered, places = ordered.filter(kept), places.filter(kept)
    return ordered.filter(places >= stored.height), ordered


def _refuse_contradictions(
    table: str, entity: str, ordered: pl.DataFrame, repeats: pl.Series
) -> None:
    ones, others = ordered[repeats - 1], ordered[repeats]
    if frame_digest(ones) == frame_digest(others):
        return
    row = next(
        number
        for number in range(ones.height)
        if frame_digest(ones[number : number + 1]) != frame_digest(others[number : number + 1])
    )
    name, event_time, known_time, rank, sequence = ones.select(entity, *ORDER_COLUMNS).row(row)
    raise Conflict(
        f"table {table}: {name} at {render(event_time)}, known {render(known_time)}, rank {rank}, "
        f"sequence {sequence} is stored with other content",
        hint="a row is never rewritten: give a correction a later known time, "
        "and a changed view another name",
    )
