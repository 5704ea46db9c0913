"""Evidence about one version, each number with what it came from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

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
from assay.orchestration.evidence.tables import alpha_table, horizon_of, risk_table
from assay.orchestration.modelling import TrainingRun, sealed_run
from assay.orchestration.progress import Progress
from assay.orchestration.provenance import git_revision
from assay.registry import VerifiedVersion
from assay.validation import alpha_evidence, risk_evidence
from assay.validation.against_champion import champion_evidence, drawdown_evidence
from assay.validation.artefacts import (
    onnx_parity,
    readable_files,
    schema,
    signature,
    training_set_rebuilt,
)
from assay.validation.catalogue import CATALOGUE

SHUFFLE_SEED: Final = 20_260_101
"""Seed of the label-shuffle control: fixed, so that evidence can be measured again."""
SLOW: Final = frozenset({ABLATION, CONSISTENCY})
"""What takes as long as training does."""
_SEEDS: Final = {"sharpe_after_costs": (SHUFFLE_SEED,), CONSISTENCY: (PERMUTATION_SEED,)}


@dataclass(frozen=True, slots=True)
class Measured:
    """What evidence is measured on: a verified version, its run, and whom it is held against."""

    opened: VerifiedVersion
    run: TrainingRun | None
    champion: VerifiedVersion | None = None
    champion_run: TrainingRun | None = None

    @classmethod
    def of(
        cls, desk: Desk, opened: VerifiedVersion, champion: VerifiedVersion | None = None
    ) -> Measured:
        """The version with what it was made by.

        Raises
        ------
        NotFound: its training run is not recorded here. Tampered: a run is not what the version's
            signature vouches for.
        """
        if not opened.is_model:
            return cls(opened, None)
        run = sealed_run(desk, opened.metadata)
        if champion is None or not champion.is_model:
            return cls(opened, run)
        try:
            theirs = sealed_run(desk, champion.metadata)
        except NotFound:
            # One that was made elsewhere has no out-of-sample record here: gates stay undecided.
            theirs = None
        return cls(opened, run, champion, theirs)


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
            *champion_evidence(table),
        ]
    raise ConfigurationError(
        f"{metadata.name} is of kind {metadata.kind!r}: evidence is measured for "
        f"{RISK_MODEL} and {ALPHA_WEIGHTS}"
    )


def _traced(measured: Measured, name: str, now: Instant, commit: str | None) -> Provenance:
    """What a record of this name came from."""
    opened, run = measured.opened, measured.run
    known = CATALOGUE[name]
    champion = measured.champion if known.against_champion else None
    read = {"version": opened.digest, "run": None if run is None else run.seal}
    if champion is not None and measured.champion_run is not None:
        read |= {"champion": champion.digest, "champion_run": measured.champion_run.seal}
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
        champion=None if champion is None else champion.version,
        champion_digest=None if champion is None else champion.digest,
    )
