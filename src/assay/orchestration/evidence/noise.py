"""What the gates say about models that know nothing.

A policy that lets noise pass is no policy. Here twenty forecasts are made up that resemble a
version's own and contain no skill, and go through the same statistical gates. For scores of
returns they are noise as persistent as the version's, so that they trade as much; for volatility
they are the champion's forecasts times a persistent error. Nothing is registered: a control is no
trial of the line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from assay.delivery.gates import evaluate
from assay.delivery.judging import gate_set, held_against
from assay.delivery.policy import Untraced
from assay.domain.canonical import canonical_bytes
from assay.domain.evidence import Evidence
from assay.domain.verdicts import Outcome, Severity, Verdict, decide
from assay.domain.versions import ALPHA_WEIGHTS, RISK_MODEL
from assay.errors import ConfigurationError
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.measuring import Measured
from assay.orchestration.evidence.tables import alpha_table, horizon_of, risk_table
from assay.orchestration.progress import Progress
from assay.portfolio.controls import persistent_noise
from assay.statistics.panel import FloatArray
from assay.storage.files import write_atomic
from assay.validation.backtest import Backtest, Costs, Market, simulate_many
from assay.validation.information import ic, rank_ic
from assay.validation.kinds import risk_evidence
from assay.validation.luck import Attempts, luck_of_all, luck_of_one
from assay.validation.sharpe import sharpe_after_costs, significance

MODELS = 20
SEED = 20_260_104
ERROR, PERSISTENCE = 0.25, 0.97
"""Standard deviation of the logarithm of a made-up forecast's error, and its autocorrelation."""


@dataclass(frozen=True, slots=True)
class NoiseControl:
    """What a policy says about models that know nothing.

    Attributes
    ----------
    name, version, digest: whose forecasts the noise resembles, and its SHA-256.
    policy_digest: SHA-256 of the policy. seed: of the noise. models: how many were made up.
    passed: how many pass every statistical gate that blocks; the fewer the better.
    by_gate: how many times each gate gave each verdict.
    refused_by: hard gates that fail, one tuple for each model, in the order of drawing.
    """

    name: str
    version: str
    digest: str
    policy_digest: str
    seed: int
    models: int
    passed: int
    by_gate: Mapping[str, Mapping[str, int]]
    refused_by: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NoiseControl:
        """Read what :meth:`to_json` wrote."""
        refused_by = tuple(tuple(one) for one in document["refused_by"])
        return cls(**{**document, "refused_by": refused_by})


def noise_control(
    desk: Desk,
    name: str,
    version: str,
    *,
    progress: Progress,
    models: int = MODELS,
    seed: int = SEED,
) -> NoiseControl:
    """Put forecasts without skill through the statistical gates of the desk's policy.

    Raises
    ------
    NotFound: the version or its run is unknown.
    ConfigurationError: its kind has no forecasts that could be made up.
    """
    registry, policy = desk.registry, desk.policy
    opened = registry.open_version(name, version)
    champion = held_against(registry, name, opened.version)
    theirs = None if champion is None else registry.open_version(name, champion.version)
    measured = Measured.of(desk, opened, theirs)
    if measured.run is None or opened.metadata.kind not in {ALPHA_WEIGHTS, RISK_MODEL}:
        raise ConfigurationError(f"{name} {version}: its kind has no forecasts that can be made up")
    progress.event(f"{name}: {models} models that know nothing, through the same gates")
    # What was made up here and now has no origin to name.
    lenient = replace(policy, untraced=Untraced.ALLOW)
    generator = np.random.default_rng(seed)
    make = _scores if opened.metadata.kind == ALPHA_WEIGHTS else _volatilities
    gates = gate_set(registry, policy, name, opened.version)
    by_gate: dict[str, dict[str, int]] = {}
    refused_by, passed = [], 0
    for evidence in make(desk, measured, models, generator):
        known = {piece.name for piece in evidence}
        asked = {gate.name for gate in policy.gates(gates) if gate.evidence in known}
        report = evaluate(lenient, gates, evidence, now=registry.now(), champion=champion)
        results = tuple(one for one in report.results if one.name in asked)
        passed += decide(results) is Outcome.PROMOTABLE
        for one in results:
            by_gate.setdefault(one.name, {str(v): 0 for v in Verdict})[str(one.verdict)] += 1
        refused_by.append(
            tuple(
                one.name
                for one in results
                if one.verdict is Verdict.FAIL and one.severity is Severity.HARD
            )
        )
    return NoiseControl(
        name=name,
        version=opened.version,
        digest=opened.digest,
        policy_digest=policy.digest,
        seed=seed,
        models=models,
        passed=passed,
        by_gate=by_gate,
        refused_by=tuple(refused_by),
    )


def keep_noise(desk: Desk, control: NoiseControl) -> Path:
    """Write a control beside the model's reports, so that pages can show it; return its path."""
    path = _path(desk, control.name, control.version)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, canonical_bytes({"format": 1, **control.to_json()}) + b"\n")
    return path


def kept_noise(desk: Desk, name: str, version: str) -> NoiseControl | None:
    """The kept control of a version under the desk's policy of now; None when there is none."""
    try:
        document = json.loads(_path(desk, name, version).read_bytes())
        if document.pop("format") != 1:
            return None
        found = NoiseControl.from_json(document)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None
    same = found.digest == desk.registry.get(name, version).digest
    return found if same and found.policy_digest == desk.policy.digest else None


def _path(desk: Desk, name: str, version: str) -> Path:
    return desk.layout.root / "reports" / "models" / name / f"noise-{version}.json"


def _scores(
    desk: Desk, measured: Measured, models: int, generator: np.random.Generator
) -> list[list[Evidence]]:
    assert measured.run is not None
    table = alpha_table(desk, measured.run).sort("as_of", "instrument")
    horizon = horizon_of(measured.run)
    instruments = table["instrument"].rank("dense").cast(pl.Int64).to_numpy() - 1
    dates = table["as_of"].to_numpy()
    distinct, when = np.unique(dates, return_inverse=True)
    shape = (models, len(distinct), int(instruments.max()) + 1)
    noise = persistent_noise(shape, _persistence(table), generator)
    market = Market.of(
        dates,
        instruments,
        score=_floats(table, "prediction"),
        next_return=_floats(table, "next_return"),
    )
    scored = np.where(np.isfinite(market.scores), noise[:, : len(market.dates)], np.nan)
    books = simulate_many(market, scored, Costs())
    together = np.stack([book.net() for book in books], axis=1)
    shared = luck_of_all(
        Attempts(together[:, 0], together, models), generator=generator, horizon=horizon
    )
    label, asked = _floats(table, "label"), np.isfinite(_floats(table, "prediction"))
    found = []
    for number, book in enumerate(books):
        score = np.where(asked, noise[number, when, instruments], np.nan)
        found.append(
            [
                *_skill(dates, label, score, horizon),
                *_money(market, book),
                *luck_of_one(Attempts(book.net(), together, models)),
                *shared,
            ]
        )
    return found


def _skill(dates: Any, label: FloatArray, score: FloatArray, horizon: int) -> list[Evidence]:
    return [
        measure(dates, label=label, prediction=score, horizon=horizon) for measure in (ic, rank_ic)
    ]


def _money(market: Market, book: Backtest) -> list[Evidence]:
    return [sharpe_after_costs(market, book, generator=None), significance(book)]


def _persistence(table: pl.DataFrame) -> float:
    """Autocorrelation at lag one of the scores about their mean over the instruments of a date."""
    moved = table.with_columns(
        x=pl.col("prediction") - pl.col("prediction").mean().over("as_of")
    ).with_columns(y=pl.col("x").shift(1).over("instrument"))
    found = moved.select(pl.corr("x", "y")).item()
    return float(np.clip(0.0 if found is None or not np.isfinite(found) else found, -0.99, 0.999))


def _volatilities(
    desk: Desk, measured: Measured, models: int, generator: np.random.Generator
) -> list[list[Evidence]]:
    assert measured.run is not None
    table = risk_table(desk, measured.run, measured.champion_run).sort("as_of", "instrument")
    base = "champion" if "champion" in table.columns else "prediction"
    instruments = table["instrument"].rank("dense").cast(pl.Int64).to_numpy() - 1
    distinct, when = np.unique(table["as_of"].to_numpy(), return_inverse=True)
    shape = (models, len(distinct), int(instruments.max()) + 1)
    noise = persistent_noise(shape, PERSISTENCE, generator)
    horizon = horizon_of(measured.run)
    return [
        risk_evidence(
            table.with_columns(
                # Its variance is right on average: only skill is taken away.
                prediction=pl.col(base) * np.exp(ERROR * one[when, instruments] - ERROR * ERROR)
            ),
            horizon=horizon,
        )
        for one in noise
    ]


def _floats(table: pl.DataFrame, name: str) -> FloatArray:
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
