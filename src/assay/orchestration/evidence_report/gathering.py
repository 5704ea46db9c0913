"""From a version to the values on its page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.domain.evidence import Evidence
from assay.domain.versions import ALPHA_WEIGHTS
from assay.errors import AssayError, NotFound
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.measuring import NULL_SEED, PROBABILITIES
from assay.orchestration.evidence.noise import NoiseControl, kept_noise
from assay.orchestration.evidence.tables import alpha_table, horizon_of
from assay.orchestration.evidence.trials import Trials, trials_of
from assay.orchestration.modelling import load_run
from assay.orchestration.report.gathering import picture_of, version_sheets
from assay.orchestration.report.series import POINTS, WINDOW
from assay.orchestration.report.values import (
    Curve,
    DirectionPicture,
    VersionSheet,
    VolatilityPicture,
)
from assay.statistics.overfitting import Overfitting, probability_of_overfitting
from assay.statistics.panel import FloatArray, IntArray
from assay.statistics.reliability import Reliability
from assay.validation.against_champion import net_returns
from assay.validation.luck import BLOCKS
from assay.validation.probabilities import diagram
from assay.validation.sharpe import PERIODS_PER_YEAR


@dataclass(frozen=True, slots=True)
class EvidenceSheet:
    """Everything on a version's page.

    Attributes
    ----------
    desk: its name. version: record, gates, evidence.
    picture: the record out of sample; None with ``no_picture`` where it cannot be shown.
    rolling_sharpe: of the returns after costs, annualised, over 250 dates; None for a risk model.
    overfitting, trials: of the line, where it is traded; None where it is not.
    reliability: of probabilities; None where scores are not.
    noise: what the desk's policy says about models that know nothing; None where nobody asked.
    """

    desk: str
    version: VersionSheet
    picture: VolatilityPicture | DirectionPicture | None
    no_picture: str
    rolling_sharpe: Curve | None = None
    overfitting: Overfitting | None = None
    trials: Trials | None = None
    reliability: Reliability | None = None
    noise: NoiseControl | None = None

    def evidence(self, name: str) -> Evidence | None:
        """One recorded measurement."""
        return self.version.evidence.get(name)


def gather_evidence(desk: Desk, name: str, version: str) -> EvidenceSheet:
    """Read and measure what a version's page shows.

    Raises
    ------
    NotFound: no such version.
    """
    wanted = desk.registry.get(name, version).version
    noise = kept_noise(desk, name, wanted)
    sheets = version_sheets(desk, name)
    sheet = next(one for one in sheets if one.record.version == wanted)
    picture, no_picture = None, ""
    try:
        picture = picture_of(desk, sheet, sheets)
        if picture is None:
            no_picture = f"a version of kind {sheet.record.kind} has no record out of sample"
    except (AssayError, OSError, KeyError) as error:
        no_picture = error.message if isinstance(error, AssayError) else repr(error)
    if sheet.record.kind != ALPHA_WEIGHTS or picture is None:
        return EvidenceSheet(desk.layout.name, sheet, picture, no_picture, noise=noise)
    run = load_run(desk, _run_id(sheet))
    table = alpha_table(desk, run)
    trials = trials_of(desk, name)
    reliability = None
    if run.record["recipe"]["estimator"]["name"] in PROBABILITIES:
        reliability = diagram(table, generator=np.random.default_rng(NULL_SEED))
    return EvidenceSheet(
        desk=desk.layout.name,
        version=sheet,
        picture=picture,
        no_picture=no_picture,
        rolling_sharpe=rolling_sharpe(*net_returns(table)),
        overfitting=probability_of_overfitting(
            trials.matrix().values, blocks=BLOCKS, purge=horizon_of(run) - 1
        ),
        trials=trials,
        reliability=reliability,
        noise=noise,
    )


def rolling_sharpe(dates: IntArray, returns: FloatArray) -> Curve:
    """Annualised ratio of each 250 dates, at the last of them; nothing where they never vary."""
    name = "ratio of 250 dates"
    if len(returns) < WINDOW:
        return Curve(name, (), ())
    windows = np.lib.stride_tricks.sliding_window_view(returns, WINDOW)
    step = max(1, len(windows) // POINTS)
    chosen = np.unique(np.append(np.arange(0, len(windows), step), len(windows) - 1))
    mean, spread = windows[chosen].mean(axis=1), windows[chosen].std(axis=1, ddof=1)
    known = spread > 0
    ratio = mean[known] / spread[known] * np.sqrt(PERIODS_PER_YEAR)
    x = dates[WINDOW - 1 :][chosen][known]
    return Curve(name, tuple(float(one) for one in x), tuple(float(one) for one in ratio))


def _run_id(sheet: VersionSheet) -> str:
    if sheet.metadata is None or not sheet.metadata.parent_run:
        raise NotFound(f"{sheet.record.name} {sheet.record.version} names no training run")
    return sheet.metadata.parent_run
