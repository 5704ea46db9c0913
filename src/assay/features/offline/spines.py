"""Spines: the (entity, moment) pairs for which answers are wanted.

A spine comes from the universe's members, from past requests, or from any table: Polars, pandas, or
whatever speaks the Arrow PyCapsule interface (pyarrow, DuckDB, ...). None of these packages is
needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import polars as pl

from assay.domain.instants import Instant
from assay.errors import ContractViolation
from assay.features.offline.labels import PriceTable
from assay.features.offline.past_requests import PastRequests
from assay.features.offline.point_in_time import require_columns
from assay.lake.digest import frame_digest

AS_OF: Final = "as_of"
_NANOS_PER: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000}


class ArrowTable(Protocol):
    """Anything that hands over a table through the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@dataclass(frozen=True, slots=True)
class Spine:
    """The rows of a training set before anything is joined.

    Attributes
    ----------
    frame: the entity column and ``as_of``, the moment of each decision (int64 nanoseconds UTC);
        for past requests also what each brought.
    query: how the frame was made, as a JSON object from which it can be made again.
    """

    frame: pl.DataFrame
    query: Mapping[str, Any]

    @classmethod
    def of(cls, data: pl.DataFrame | ArrowTable) -> Self:
        """Any table. Its rows are kept beside the training set, since nothing else has them.

        Parameters
        ----------
        data: an entity column, ``as_of`` and whatever else is to stay beside the features. Moments
            are int64 nanoseconds UTC or timestamps with a time zone, of any unit.

        Raises
        ------
        ContractViolation: there is no ``as_of``, a moment is null, or it has no time zone.
        """
        frame = _with_instants(_polars(data))
        return cls(frame, {"kind": "explicit", "digest": frame_digest(frame)})

    @classmethod
    def of_members(
        cls,
        market: PriceTable,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> Self:
        """One row per member of the universe and session, decided when its fix became known.

        Parameters
        ----------
        market: prices with the Boolean column ``in_universe``.
        start, end: moments of decision, from start up to, not including, end; None is unbounded.
        """
        require_columns(market.name, market.frame, (market.entity, "in_universe"))
        # The first version only: a later correction of a fix is no second decision.
        members = (
            market.frame.filter("in_universe")
            .group_by(market.entity, "event_time")
            .agg(as_of=pl.col("known_time").min())
            .filter(pl.lit(start is None) | (pl.col("as_of") >= (start or 0)))
            .filter(pl.lit(end is None) | (pl.col("as_of") < (end or 0)))
            .select(market.entity, "as_of")
            .unique()
            .sort("as_of", market.entity)
        )
        query = {
            "kind": "members",
            "table": market.name,
            "snapshot": market.snapshot_id,
            "column": market.column,
            "entity": market.entity,
            "start": start,
            "end": end,
        }
        return cls(members, query)

    @classmethod
    def of_requests(cls, requests: PastRequests, *, end: Instant | None = None) -> Self:
        """One row per past request, with what it brought.

        Parameters
        ----------
        end: up to, not including, this moment; None is unbounded.
        """
        frame = (
            requests.frame.select(requests.entity, AS_OF, *requests.inputs)
            .filter(pl.lit(end is None) | (pl.col(AS_OF) < (end or 0)))
            .sort(AS_OF, requests.entity)
        )
        return cls(frame, {"kind": "requests", **requests.describe(), "end": end})


def _polars(data: Any) -> pl.DataFrame:
    if isinstance(data, pl.DataFrame):
        return data
    if hasattr(data, "__arrow_c_stream__"):
        # A named index of pandas is a column; an unnamed one is the position of a row, which is
        # kept anyway.
        if any(name is not None for name in getattr(getattr(data, "index", None), "names", ())):
            data = data.reset_index()
        try:
            frame = pl.DataFrame(data)
        except ImportError:
            # pandas offers the interface and needs pyarrow for it, which need not be there.
            frame = _by_column(data)
        return frame.select(pl.exclude(r"^__index_level_\d+__$"))
    raise ContractViolation(
        f"a spine of type {type(data).__module__}.{type(data).__qualname__}",
        hint="pass a DataFrame of Polars or pandas, or an Arrow table",
    )


def _by_column(data: Any) -> pl.DataFrame:
    """A pandas frame without the help of pyarrow."""
    columns = {}
    for name in data.columns:
        column = data[name]
        if getattr(column.dtype, "tz", None) is not None:
            moments = column.dt.tz_convert("UTC")
            times = pl.Series(name, moments.dt.tz_localize(None).to_numpy())
            columns[name] = times.dt.replace_time_zone("UTC")
        elif column.dtype.kind in "biufM":
            columns[name] = pl.Series(name, column.to_numpy())
        else:
            missing = column.isna().tolist()
            values = column.tolist()
            texts = [None if gone else v for gone, v in zip(missing, values, strict=True)]
            columns[name] = pl.Series(name, texts)
    return pl.DataFrame(columns)


def _with_instants(frame: pl.DataFrame) -> pl.DataFrame:
    """``as_of`` as int64 nanoseconds UTC."""
    if AS_OF not in frame.columns:
        raise ContractViolation(f"spine has no column {AS_OF!r}: found {frame.columns}")
    moments = frame[AS_OF]
    dtype = moments.dtype
    if moments.null_count():
        raise ContractViolation(f"spine column {AS_OF!r} holds {moments.null_count()} nulls")
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            raise ContractViolation(
                f"spine column {AS_OF!r} is {dtype}: a time without a zone is no moment",
                hint="attach a zone, for example .dt.replace_time_zone('UTC')",
            )
        factor = _NANOS_PER[dtype.time_unit]
        whole = moments.to_physical()
        nanos = whole * factor
        if not (nanos // factor).equals(whole):
            raise ContractViolation(f"spine column {AS_OF!r} holds times outside 1677 to 2262")
    elif dtype.is_integer():
        nanos = moments.cast(pl.Int64, strict=False)
        if nanos.null_count():
            raise ContractViolation(f"spine column {AS_OF!r} holds times outside 1677 to 2262")
    else:
        raise ContractViolation(
            f"spine column {AS_OF!r} is {dtype}: expected int64 nanoseconds UTC, "
            "or timestamps with a time zone"
        )
    return frame.with_columns(nanos.alias(AS_OF))
