"""Evidence for a staged version, recorded, and the gates' verdicts over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from assay.delivery.gates import GateReport
from assay.delivery.promotion import judge
from assay.domain.evidence import Evidence
from assay.domain.versions import ALPHA_WEIGHTS, RISK_MODEL
from assay.errors import ConfigurationError
from assay.features.offline.labels import Entry, ForwardReturn, forward_labels
from assay.orchestration.desk import Desk
from assay.orchestration.modelling import TrainingRun, recorded_prices, sealed_run
from assay.orchestration.progress import Progress
from assay.registry import ModelMetadata, VerifiedVersion
from assay.validation import alpha_evidence, risk_evidence
from assay.validation.artefacts import (
    onnx_parity,
    readable_files,
    schema,
    signature,
    training_set_rebuilt,
)
from assay.validation.robustness import path_evidence

SHUFFLE_SEED = 20_260_101
"""Seed of the label-shuffle control: fixed, so that evidence can be measured again."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was measured about a version and what the gates say."""

    name: str
    version: str
    evidence: tuple[Evidence, ...]
    gates: GateReport

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "evidence": [item.to_json() for item in self.evidence],
            "gates": self.gates.to_json(),
        }


def judge_version(
    desk: Desk, name: str, version: str, *, initiated_by: str, progress: Progress
) -> Judgement:
    """Measure a version's evidence on its own out-of-sample record, record it, apply the gates.

    A risk model is compared with the version in production now, on the rows that both predicted
    out of sample.

    Raises
    ------
    NotFound: the version or its training run is unknown.
    Tampered: the version or its run is not what was recorded.
    """
    progress.event(f"{name} {version}: measuring evidence")
    opened = desk.registry.open_version(name, version)
    evidence = _of_model(desk, opened) if opened.is_model else _of_files(opened)
    desk.registry.record_evidence(name, version, evidence, initiated_by=initiated_by)
    progress.event(f"{name} {version}: applying the gates")
    gates = judge(desk.registry, desk.policy, name, version, initiated_by=initiated_by)
    return Judgement(name, version, tuple(evidence), gates)


def _of_files(opened: VerifiedVersion) -> list[Evidence]:
    """Definitions, weights and transforms: reading them is what can be measured here.

    What else their policy asks for is recorded by whoever measures it.
    """
    return [
        readable_files(len(opened.contents)),
        signature(valid=opened.signed_by is not None, signer=opened.signed_by),
    ]


def _of_model(desk: Desk, opened: VerifiedVersion) -> list[Evidence]:
    metadata = opened.metadata
    run = sealed_run(desk, metadata)
    return [
        *_statistics(desk, metadata, run),
        onnx_parity(
            largest_difference=run.record["parity"]["largest_difference"],
            rows=run.record["parity"]["rows"] + run.record["parity"]["threshold_rows"],
        ),
        schema(trained=run.schema, exported=opened.schema),
        signature(valid=opened.signed_by is not None, signer=opened.signed_by),
        training_set_rebuilt(
            recorded=run.record["training_set"]["digest"],
            rebuilt=run.record["rebuilt_digest"],
            rows=run.record["training_set"]["rows"],
        ),
    ]


def _statistics(desk: Desk, metadata: ModelMetadata, run: TrainingRun) -> list[Evidence]:
    # As it was when the model was trained: the desk's recipe of this name may say otherwise by now.
    horizon = int(run.record["recipe"]["label"]["horizon"])
    table = run.predictions()
    if metadata.kind == RISK_MODEL:
        label = ForwardReturn(horizon, entry=Entry.LAST_FIX)
        table = table.with_columns(realised_return=_returns(desk, run, table, label))
        table = one_date_per_session(_with_champion(desk, metadata, run, table))
        return risk_evidence(table, horizon=horizon)
    if metadata.kind == ALPHA_WEIGHTS:
        label = ForwardReturn(1, entry=Entry.NEXT_FIX)
        table = table.with_columns(next_return=_returns(desk, run, table, label))
        return [
            *alpha_evidence(
                one_date_per_session(table),
                generator=np.random.default_rng(SHUFFLE_SEED),
                horizon=horizon,
            ),
            *_of_paths(desk, run, label, horizon),
        ]
    raise ConfigurationError(
        f"{metadata.name} is of kind {metadata.kind!r}: evidence is measured for "
        f"{RISK_MODEL} and {ALPHA_WEIGHTS}"
    )


def _of_paths(desk: Desk, run: TrainingRun, label: ForwardReturn, horizon: int) -> list[Evidence]:
    """Evidence of the recipe's robustness scheme; none where it has none."""
    table = run.paths()
    if table is None:
        return []
    table = table.with_columns(next_return=_returns(desk, run, table, label))
    by_path = [
        one_date_per_session(path) for path in table.partition_by("path", maintain_order=True)
    ]
    return path_evidence(pl.concat(by_path), horizon=horizon)


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


def _with_champion(
    desk: Desk, metadata: ModelMetadata, run: TrainingRun, table: pl.DataFrame
) -> pl.DataFrame:
    champion = desk.registry.current(metadata.name)
    if champion is None or champion.version == metadata.version:
        return table
    theirs = sealed_run(desk, desk.registry.metadata(champion.name, champion.version))
    if theirs.record["recipe"]["label"] != run.record["recipe"]["label"]:
        # Forecasts of another label do not compare; without a champion's the gate stays undecided.
        return table
    return table.join(
        theirs.predictions().select("instrument", "as_of", champion="prediction"),
        on=["instrument", "as_of"],
        how="left",
        maintain_order="left",
    )
