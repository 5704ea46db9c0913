"""Evidence about one version, each number with what it came from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from assay.domain.canonical import content_hash
from assay.domain.evidence import Evidence
from assay.domain.instants import Instant
from assay.domain.provenance import Provenance
from assay.domain.versions import ALPHA_WEIGHTS, RISK_MODEL
from assay.errors import ConfigurationError, NotFound
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.code import measuring_code
from assay.orchestration.evidence.features import (
    ABLATION,
    CONSISTENCY,
    PERMUTATION_SEED,
    ablation,
    consistency,
)
from assay.orchestration.evidence.surroundings import around
from assay.orchestration.evidence.tables import alpha_table, horizon_of, path_table, risk_table
from assay.orchestration.evidence.trials import Trials, trials_of
from assay.orchestration.modelling import TrainingRun, sealed_run
from assay.orchestration.progress import Progress
from assay.orchestration.provenance import git_revision
from assay.registry import VerifiedVersion
from assay.validation import alpha_evidence, risk_evidence
from assay.validation.against_champion import (
    champion_evidence,
    drawdown_evidence,
    net_returns,
)
from assay.validation.artefacts import (
    onnx_parity,
    readable_files,
    schema,
    signature,
    training_set_rebuilt,
)
from assay.validation.catalogue import CATALOGUE
from assay.validation.luck import Attempts, luck_evidence
from assay.validation.probabilities import probability_evidence
from assay.validation.records import undefined
from assay.validation.robustness import path_evidence

SHUFFLE_SEED: Final = 20_260_101
"""Seed of the label-shuffle control: fixed, so that evidence can be measured again."""
BOOTSTRAP_SEED: Final = 20_260_102
"""Seed of the resampled dates of tests against the champion and of all trials together."""
NULL_SEED: Final = 20_260_103
"""Seed of the outcomes that a perfect forecaster would have seen."""
PROBABILITIES: Final = frozenset({"rise_probability"})
"""Estimators whose scores are probabilities of a rise."""
SLOW: Final = frozenset({ABLATION, CONSISTENCY})
"""What takes as long as training does."""
_SEEDS: Final = {
    "sharpe_after_costs": (SHUFFLE_SEED,),
    "sharpe_vs_champion": (BOOTSTRAP_SEED,),
    "spa": (BOOTSTRAP_SEED,),
    "ece": (NULL_SEED,),
    CONSISTENCY: (PERMUTATION_SEED,),
}
_OF_TRIALS: Final = frozenset({"deflated_sharpe", "pbo", "spa"})


@dataclass(frozen=True, slots=True)
class Measured:
    """What evidence is measured on: a verified version, its run, and whom it is held against."""

    opened: VerifiedVersion
    run: TrainingRun | None
    champion: VerifiedVersion | None = None
    champion_run: TrainingRun | None = None
    trials: Trials | None = None

    @classmethod
    def of(
        cls,
        desk: Desk,
        opened: VerifiedVersion,
        champion: VerifiedVersion | None = None,
        *,
        trials: Collection[str] | None = None,
    ) -> Measured:
        """The version with what it was made by.

        ``trials`` are the ids of those that count; None counts all that there are now.

        Raises
        ------
        NotFound: its training run is not recorded here. Tampered: a run is not what the version's
            signature vouches for.
        """
        if not opened.is_model:
            return cls(opened, None)
        run = sealed_run(desk, opened.metadata)
        tried = None
        if opened.metadata.kind == ALPHA_WEIGHTS:
            tried = trials_of(desk, opened.name)
            tried = tried if trials is None else tried.only(trials)
        if champion is None or not champion.is_model:
            return cls(opened, run, trials=tried)
        try:
            theirs = sealed_run(desk, champion.metadata)
        except NotFound:
            # One that was made elsewhere has no out-of-sample record here: gates stay undecided.
            theirs = None
        return cls(opened, run, champion, theirs, tried)


def measure(
    desk: Desk, measured: Measured, progress: Progress, *, wanted: Collection[str] = ()
) -> list[Evidence]:
    """Everything that can be measured about a version, each record with its provenance.

    Parameters
    ----------
    wanted: names that a policy asks for; what takes as long as training is measured only then.
    """
    found = _all(desk, measured, progress, wanted)
    now, commit = desk.clock.now(), git_revision(desk.layout.root)
    return [replace(one, provenance=_traced(measured, one.name, now, commit)) for one in found]


def _all(
    desk: Desk, measured: Measured, progress: Progress, wanted: Collection[str]
) -> list[Evidence]:
    opened, run = measured.opened, measured.run
    signed = signature(valid=opened.signed_by is not None, signer=opened.signed_by)
    if run is None:
        # Definitions, weights and transforms: reading them is what can be measured here. What else
        # their policy asks for is recorded by whoever measures it.
        return [readable_files(len(opened.contents)), signed]
    found = [
        *_statistics(desk, measured, run),
        onnx_parity(
            largest_difference=run.record["parity"]["largest_difference"],
            rows=run.record["parity"]["rows"] + run.record["parity"]["threshold_rows"],
        ),
        schema(trained=run.schema, exported=opened.schema),
        signed,
        training_set_rebuilt(
            recorded=run.record["training_set"]["digest"],
            rebuilt=run.record["rebuilt_digest"],
            rows=run.record["training_set"]["rows"],
        ),
        *around(desk, opened, run),
    ]
    if ABLATION in wanted:
        found.append(ablation(desk, run, progress))
    if CONSISTENCY in wanted:
        found.append(consistency(desk, run, measured.champion_run, progress))
    return found


def _statistics(desk: Desk, measured: Measured, run: TrainingRun) -> list[Evidence]:
    metadata, horizon = measured.opened.metadata, horizon_of(run)
    if metadata.kind == RISK_MODEL:
        return risk_evidence(risk_table(desk, run, measured.champion_run), horizon=horizon)
    if metadata.kind == ALPHA_WEIGHTS:
        table = alpha_table(desk, run, measured.champion_run)
        generator = np.random.default_rng(SHUFFLE_SEED)
        return [
            *alpha_evidence(table, generator=generator, horizon=horizon),
            drawdown_evidence(table),
            *champion_evidence(table, generator=np.random.default_rng(BOOTSTRAP_SEED)),
            *_of_luck(measured, table, horizon),
            *_of_probabilities(run, table),
            *_of_paths(desk, run, horizon),
        ]
    raise ConfigurationError(
        f"{metadata.name} is of kind {metadata.kind!r}: evidence is measured for "
        f"{RISK_MODEL} and {ALPHA_WEIGHTS}"
    )


def _of_luck(measured: Measured, table: pl.DataFrame, horizon: int) -> list[Evidence]:
    """What all trials of the line leave of the candidate's result."""
    assert measured.trials is not None
    matrix = measured.trials.matrix()
    rival = measured.champion_run
    theirs = None if rival is None else measured.trials.returns(rival.id, matrix.dates)
    attempts = Attempts(net_returns(table)[1], matrix.values, measured.trials.raw, theirs)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    found = luck_evidence(attempts, generator=generator, horizon=horizon)
    withheld = _withheld(measured, champion_has_returns=theirs is not None)
    return [
        undefined(one.name, one.convention, withheld[one.name], sample_size=one.sample_size)
        if one.name in withheld
        else one
        for one in found
    ]


def _withheld(measured: Measured, *, champion_has_returns: bool) -> dict[str, str]:
    """Which statistics of all trials would flatter, by name, and why."""
    assert measured.trials is not None
    for one in measured.trials.trials:
        if one.changed:
            # To go on without it would let anyone choose which trials are counted.
            return dict.fromkeys(_OF_TRIALS, f"trial {one.id} cannot be told: {one.without}")
    if measured.champion is not None and not champion_has_returns:
        # Cash alone would be the easier benchmark.
        version = measured.champion.version
        return {"spa": f"the champion {version} has no returns on the dates of the trials"}
    return {}


def _of_probabilities(run: TrainingRun, table: pl.DataFrame) -> list[Evidence]:
    """Whether the scores are the probabilities that they are called; none where they are not."""
    if run.record["recipe"]["estimator"]["name"] not in PROBABILITIES:
        return []
    return probability_evidence(table, generator=np.random.default_rng(NULL_SEED))


def _of_paths(desk: Desk, run: TrainingRun, horizon: int) -> list[Evidence]:
    """Evidence of the recipe's robustness scheme; none where it has none."""
    table = path_table(desk, run)
    return [] if table is None else path_evidence(table, horizon=horizon)


def _traced(measured: Measured, name: str, now: Instant, commit: str | None) -> Provenance:
    """What a record of this name came from."""
    opened, run = measured.opened, measured.run
    known = CATALOGUE[name]
    champion = measured.champion if known.against_champion else None
    read = {"version": opened.digest, "run": None if run is None else run.seal}
    if champion is not None and measured.champion_run is not None:
        read |= {"champion": champion.digest, "champion_run": measured.champion_run.seal}
    tried = measured.trials if name in _OF_TRIALS else None
    if tried is not None:
        read |= {"trials": content_hash({one.id: one.digest for one in tried.trials})}
    return Provenance(
        measured_at=now,
        convention_id=known.convention_id,
        model_digest=opened.digest,
        run=None if run is None else run.id,
        inputs_digest=content_hash(read),
        snapshots={} if run is None else run.record["training_set"]["snapshots"],
        manifest=opened.metadata.manifest_hash,
        seeds=_SEEDS.get(name, ()),
        code=measuring_code(),
        commit=commit,
        trials=() if tried is None else tuple(one.id for one in tried.trials),
        champion=None if champion is None else champion.version,
        champion_digest=None if champion is None else champion.digest,
    )
