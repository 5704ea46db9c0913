"""The training set as training sees it: checked columns of a frame, sorted, with nothing missing.

The frame comes from the point-in-time join and has one row per instrument and decision time:

=================================  ==========  ====================================================
column                             type        meaning
=================================  ==========  ====================================================
``instrument``                     String      what the row is about
``as_of``                          Int64       decision time, nanoseconds UTC
the features                       Float64     values known at ``as_of``
``label``                          Float64     what came; null or NaN while unknown
``label_start``, ``label_end``     Int64       closed interval of event time that the label covers
``label_known``                    Int64       when the label could first have been known
=================================  ==========  ====================================================

The rule for missing values: a row is used only when its label and **every** input are finite after
rounding to float32, the type that the served model takes. Other rows are left out and counted;
serving refuses such inputs too, so a model never meets a value it has not been trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import Instant, render
from assay.errors import ContractViolation, did_you_mean
from assay.training.splits import RowTimes

KEY_COLUMNS = ("as_of", "instrument")
LABEL_TIMES = ("label_start", "label_end", "label_known")

_TYPES: dict[str, pl.DataType] = {
    "instrument": pl.String(),
    "as_of": pl.Int64(),
    "label": pl.Float64(),
    **dict.fromkeys(LABEL_TIMES, pl.Int64()),
}


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """The usable rows, ordered by decision time and instrument.

    Attributes
    ----------
    features: names of the inputs, in order.
    instruments: one name per row.
    times: the four times of each row.
    inputs: float32, shape (rows, features), finite.
    labels: float64, shape (rows,), finite.
    dropped: rows left out, by reason.
    not_finite: per feature, how many rows it alone would have dropped; only features with some.
    """

    features: tuple[str, ...]
    instruments: pl.Series
    times: RowTimes
    inputs: NDArray[np.float32]
    labels: NDArray[np.float64]
    dropped: dict[str, int]
    not_finite: dict[str, int]

    def __len__(self) -> int:
        return len(self.labels)


def read_rows(
    frame: pl.DataFrame, features: Sequence[str], *, cut_off: Instant | None = None
) -> TrainingRows:
    """Check the frame's contract and take the usable rows out of it.

    Parameters
    ----------
    frame: the training set, in any row order.
    features: names of the input columns, in the model's order.
    cut_off: use only labels known by this moment; None uses all.

    Raises
    ------
    ContractViolation: a column is missing or mistyped, a key is null or appears twice, or no
        usable row is left.
    LookAhead: a label is not after its decision.
    """
    _check_columns(frame, features)
    frame = frame.sort(KEY_COLUMNS)
    _check_keys(frame)
    label = frame["label"]
    unknown = ~(label.is_finite().fill_null(value=False)).to_numpy()
    for name in LABEL_TIMES:
        unknown |= frame[name].is_null().to_numpy()
    late = np.zeros(len(frame), dtype=bool)
    if cut_off is not None:
        late = ~unknown & (frame["label_known"] > cut_off).fill_null(value=False).to_numpy()
    columns = [frame[name].fill_null(np.nan).to_numpy() for name in features]
    with np.errstate(over="ignore"):
        # A value beyond float32 becomes an infinity here and is dropped below, on purpose.
        inputs = np.stack(columns, axis=1).astype(np.float32)
    finite = np.isfinite(inputs)
    partial = ~unknown & ~late & ~finite.all(axis=1)
    keep = ~unknown & ~late & ~partial
    per_feature = (~finite[~unknown & ~late]).sum(axis=0)
    not_finite = {
        name: int(count) for name, count in zip(features, per_feature, strict=True) if count
    }
    dropped = {
        "label_unknown": int(unknown.sum()),
        "label_after_cut_off": int(late.sum()),
        "input_not_finite": int(partial.sum()),
    }
    if not keep.any():
        raise ContractViolation(
            f"none of {len(frame)} rows is usable: {dropped}", hint=_worst(not_finite)
        )
    kept = frame.filter(pl.Series(keep))
    return TrainingRows(
        features=tuple(features),
        instruments=kept["instrument"],
        times=RowTimes.of(*(kept[name].to_numpy() for name in ("as_of", *LABEL_TIMES))),
        inputs=np.ascontiguousarray(inputs[keep]),
        labels=np.ascontiguousarray(kept["label"].to_numpy()),
        dropped=dropped,
        not_finite=not_finite,
    )


def _check_columns(frame: pl.DataFrame, features: Sequence[str]) -> None:
    wanted = {**_TYPES, **dict.fromkeys(features, pl.Float64())}
    for name, dtype in wanted.items():
        if name not in frame.columns:
            raise ContractViolation(
                f"training set has no column '{name}'", hint=did_you_mean(name, frame.columns)
            )
        if frame.schema[name] != dtype:
            raise ContractViolation(
                f"training set column '{name}' is {frame.schema[name]}, expected {dtype}"
            )


def _check_keys(frame: pl.DataFrame) -> None:
    keys = frame.select(KEY_COLUMNS)
    if keys.null_count().sum_horizontal().item():
        raise ContractViolation("training set has a null instrument or as_of: expected neither")
    twice = keys.is_duplicated()
    if twice.any():
        as_of, instrument = keys.filter(twice).row(0)
        raise ContractViolation(
            f"training set has {instrument} at {render(as_of)} more than once: expected one row "
            "per instrument and decision time"
        )


def _worst(not_finite: dict[str, int]) -> str | None:
    if not not_finite:
        return None
    name = max(not_finite, key=lambda feature: not_finite[feature])
    return (
        f"'{name}' is not finite in {not_finite[name]} rows; exclude it in the recipe or give it "
        "history"
    )
