"""Out-of-sample predictions beside what happened, as evidence is measured on them."""

from __future__ import annotations

import polars as pl

from assay.features.offline.labels import Entry, ForwardReturn, forward_labels
from assay.orchestration.desk import Desk
from assay.orchestration.modelling import TrainingRun, recorded_prices


def risk_table(desk: Desk, run: TrainingRun, champion: TrainingRun | None) -> pl.DataFrame:
    """Volatility forecasts with ``realised_return``, and the champion's forecasts of these rows.

    Forecasts of another label do not compare; then there is no column ``champion``.
    """
    label = ForwardReturn(horizon_of(run), entry=Entry.LAST_FIX)
    table = run.predictions()
    table = table.with_columns(realised_return=_returns(desk, run, table, label))
    if champion is not None and champion.record["recipe"]["label"] == run.record["recipe"]["label"]:
        table = _beside(table, champion)
    return one_date_per_session(table)


def alpha_table(desk: Desk, run: TrainingRun, champion: TrainingRun | None = None) -> pl.DataFrame:
    """Scores with ``next_return``, from where they can be traded, and the champion's scores."""
    label = ForwardReturn(1, entry=Entry.NEXT_FIX)
    table = run.predictions()
    table = table.with_columns(next_return=_returns(desk, run, table, label))
    if champion is not None:
        table = _beside(table, champion)
    return one_date_per_session(table)


def path_table(desk: Desk, run: TrainingRun) -> pl.DataFrame | None:
    """The scores of every path of the recipe's robustness scheme; None where it has none."""
    table = run.paths()
    if table is None:
        return None
    label = ForwardReturn(1, entry=Entry.NEXT_FIX)
    table = table.with_columns(next_return=_returns(desk, run, table, label))
    return pl.concat(
        one_date_per_session(path) for path in table.partition_by("path", maintain_order=True)
    )


def horizon_of(run: TrainingRun) -> int:
    """Sessions that a run's label spans.

    As it was when the model was trained: the desk's recipe of this name may say otherwise by now.
    """
    return int(run.record["recipe"]["label"]["horizon"])


def one_date_per_session(table: pl.DataFrame) -> pl.DataFrame:
    """``table`` with one ``as_of`` for all rows whose labels start at one fix: the last of theirs;
    and with one row per instrument and fix: of several, the last.

    Evidence takes dates as its sample. A rate that arrives an hour after the others must not
    become a date of its own, on which the whole book is sold to hold one instrument. Nor may an
    instrument that was asked about ten times in a session count ten times.
    """
    last = pl.col("as_of").max().over("instrument", "label_start")
    return table.filter(pl.col("as_of") == last).with_columns(
        pl.col("as_of").max().over("label_start")
    )


def _returns(desk: Desk, run: TrainingRun, table: pl.DataFrame, label: ForwardReturn) -> pl.Series:
    # The prices behind the recorded labels: later ones may have been revised since.
    prices, known_at = recorded_prices(desk, run)
    return forward_labels(table, label, prices, known_at=known_at)["label"]


def _beside(table: pl.DataFrame, champion: TrainingRun) -> pl.DataFrame:
    return table.join(
        champion.predictions().select("instrument", "as_of", champion="prediction"),
        on=["instrument", "as_of"],
        how="left",
        maintain_order="left",
    )
