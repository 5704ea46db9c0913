"""What the page shows, as frozen values. Whoever makes one of these can make the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.domain.evidence import Evidence
from assay.domain.instants import Instant
from assay.orchestration.evidence.noise import NoiseControl
from assay.orchestration.report.live import LiveSheet
from assay.registry import Entry, GateRecord, LiveAnswer, ModelMetadata
from assay.registry.catalogue import VersionRecord


@dataclass(frozen=True, slots=True)
class Curve:
    """A named series: ``x`` in nanoseconds UTC or plain numbers, ``y`` in the unit of its chart."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ForecastPicture:
    """One instrument: what was forecast and what followed, annualised volatility in per cent."""

    instrument: str
    outcome: Curve
    forecasts: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class VolatilityPicture:
    """A risk model's out-of-sample record beside that of the champion it was judged against.

    Attributes
    ----------
    forecasts: a few instruments, the calmest first.
    calibration: realised over forecast volatility by tenth of the forecast, one curve per version.
    exceedances: share of instruments beyond the forecast VaR, per cent, mean of 250 sessions.
    level: the share that the VaR allows, a fraction.
    loss_difference: running sum of candidate minus champion of the QLIKE loss by date; None
        without a champion.
    """

    candidate: str
    champion: str | None
    rows: int
    dates: int
    forecasts: tuple[ForecastPicture, ...]
    calibration: tuple[Curve, ...]
    exceedances: tuple[Curve, ...]
    level: float
    loss_difference: Curve | None


@dataclass(frozen=True, slots=True)
class DirectionPicture:
    """A model of returns: what trading it would have made, and how well it ordered returns.

    ``equity`` and ``drawdown`` have one curve per multiple of the assumed costs; equity starts
    with 100, drawdown is in per cent of the peak. ``ic`` has the mean of 250 dates and the lower
    and upper end of its interval; ``ic_required`` is the gate's threshold, if it is one number.
    """

    candidate: str
    basis_points: float
    equity: tuple[Curve, ...]
    drawdown: tuple[Curve, ...]
    ic: tuple[Curve, Curve, Curve] | None
    ic_required: float | None


@dataclass(frozen=True, slots=True)
class VersionSheet:
    """One version: its record, what was measured, what the gates said, who approved.

    ``against`` is the champion at the time of judgement; ``why_off`` says why a gate was not asked;
    ``problems`` are files that do not verify.
    """

    record: VersionRecord
    description: str
    gates: GateRecord | None
    evidence: Mapping[str, Evidence]
    approvers: tuple[str, ...]
    against: str | None
    why_off: Mapping[str, str]
    metadata: ModelMetadata | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelSheet:
    """One line of versions, the newest first. ``no_picture`` says why there is none; ``noise`` is
    what the policy says about models that know nothing, for the versions of which that was asked.
    """

    name: str
    live: LiveAnswer
    versions: tuple[VersionSheet, ...]
    events: tuple[Entry, ...]
    picture: VolatilityPicture | DirectionPicture | None
    no_picture: str = ""
    noise: tuple[NoiseControl, ...] = ()


@dataclass(frozen=True, slots=True)
class LogSheet:
    """The log and what verifying it found; ``head`` is the hash of its last entry."""

    entries: int
    head: str
    signed_up_to: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GoldSheet:
    """A view's gold table. ``proof`` is the parity proof of this very snapshot, or None."""

    view: str
    rows: int
    snapshot: str
    source: str
    manifest: str
    proof: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class DataSheet:
    """Facts: accepted rates by year, what was quarantined and why, and the tables' snapshots."""

    facts: int
    by_year: Mapping[str, int]
    quarantined: Mapping[str, Mapping[str, int]]
    extremes: int
    first: Instant | None
    last: Instant | None
    snapshots: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UniverseSheet:
    """Instruments in the universe at the first session of every month; who is out now, and why."""

    members: Curve
    known: Curve
    latest: tuple[str, ...]
    as_of: Instant
    out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DeskReport:
    """Everything on the page. ``as_of`` is the clock's moment; nothing else depends on now."""

    desk: str
    as_of: Instant
    models: tuple[ModelSheet, ...]
    log: LogSheet
    gold: tuple[GoldSheet, ...] = ()
    data: DataSheet | None = None
    universe: UniverseSheet | None = None
    live: LiveSheet | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that does not verify, in words."""
        files = (
            f"{sheet.record.name} {sheet.record.version}: {problem}"
            for model in self.models
            for sheet in model.versions
            for problem in sheet.problems
        )
        replay = self.live
        served = () if replay is None or replay.holds else (f"live replay: {replay.headline}",)
        return (*files, *self.log.problems, *served)
