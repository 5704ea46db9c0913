"""Rows that somebody gives in a file, ``.parquet`` or ``.csv``, with moments as people write."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from assay.domain.instants import parse
from assay.errors import ConfigurationError, ContractViolation, NotFound


def read_table(path: Path) -> pl.DataFrame:
    """All rows of a file.

    Raises
    ------
    NotFound: there is no such file. ConfigurationError: it is of another kind.
    ContractViolation: it cannot be read.
    """
    if path.suffix not in {".parquet", ".csv"}:
        raise ConfigurationError(f"{path}: expected a file .parquet or .csv")
    if not path.is_file():
        raise NotFound(f"no file {path}")
    try:
        if path.suffix == ".csv":
            # All of it decides what a column is: sizes may be whole for a thousand rows.
            return pl.read_csv(path, infer_schema_length=None)
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ContractViolation(f"{path} cannot be read: {error}") from error


def moments(path: Path, column: pl.Series) -> pl.Series:
    """A column of moments as nanoseconds since the epoch.

    Whole numbers are that already; text is ISO 8601 with a time zone; a date-time has a time zone.

    Raises
    ------
    ContractViolation: it is none of these, or a text is no moment.
    """
    kind = column.dtype
    if kind.is_integer():
        return column.cast(pl.Int64)
    if kind == pl.String:
        parsed = [None if text is None else parse(text) for text in column]
        return pl.Series(column.name, parsed, pl.Int64)
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        return column.dt.epoch("ns")
    raise ContractViolation(
        f"{path}: column {column.name} is {kind}, expected whole nanoseconds since the epoch, or "
        "text such as 2026-01-15T10:30:00Z, or date-times with a time zone"
    )
